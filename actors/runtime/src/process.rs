//! Processes of a cluster that run a user's program: started by the daemons ([`child`]), they are a job's master
//! ([`master`]) or one of its workers ([`worker`]).

pub mod child;
pub mod master;
pub mod worker;

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
