//! Processes of a cluster that run a user's program: started by the daemons ([`child`]), they are a job's master
//! ([`master`]) or one of its workers ([`worker`]).
//!
//! # Decisions
//! * 2026-11: daemons do without large pages, which the allocator asks for: of 44 MB that an idle JobManager held, 14 were
//!   pages of 2 MiB of which little was used. Workers have them.

pub mod child;
pub mod master;
pub mod worker;

use crate::config::Config;
use crate::protocol::Rescaled;
use hurtig_dataflow::graph::JobGraph;
use std::sync::Arc;

/// Makes a program's graph anew with another parallelism, or says why it cannot be.
pub type Replan = Arc<dyn Fn(&Rescaled) -> Result<JobGraph, String> + Send + Sync>;

/// What a program has built, for its part in a cluster.
pub struct Built {
    /// The graph.
    pub graph: JobGraph,
    /// The job's configuration.
    pub config: Config,
    /// How the graph becomes another one while the process lives.
    pub replan: Replan,
}

/// Whether memory of this process, and of those that it starts, may be in large pages (2 MiB with most processors): they are
/// faster, and a process that needs little keeps more than it needs. From now on; elsewhere than on Linux it stays as it is.
pub fn allow_large_pages(allowed: bool) {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(!allowed) {
        tracing::debug!("large pages stay as they are: {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = allowed;
}

/// What this machine offers.
pub fn hardware() -> crate::protocol::Hardware {
    crate::protocol::Hardware {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory_bytes: memory_bytes().unwrap_or(0),
    }
}

/// As Linux tells it; elsewhere nobody does.
fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
