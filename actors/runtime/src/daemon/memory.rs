//! What daemons keep on disk. The runtime says what it needs; who assembles a daemon says how it is kept.

use crate::protocol::{Call, GraphSummary, ProgramHash, ProgramSummary};
use crate::report::JobStatus;
use hurtig_dataflow::ids::JobId;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A job as the JobManager must find it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RememberedJob {
    /// The job.
    pub id: JobId,
    /// How its program is called.
    pub call: Call,
    /// Its graph.
    pub graph: GraphSummary,
    /// What was known of it last.
    pub status: JobStatus,
    /// How many masters it has had.
    pub masters: u32,
    /// The port on which the JobManager listens for its master.
    pub port: u16,
    /// Where its completed checkpoints lie that are kept, oldest first.
    pub completed: Vec<String>,
}

/// Jobs, for a JobManager.
pub trait JobMemory: Send + Sync {
    /// All jobs, ended ones too.
    ///
    /// # Errors
    /// A sentence: what is kept cannot be read.
    fn jobs(&self) -> Result<Vec<RememberedJob>, String>;

    /// Keeps a job, or what has changed of it. Durable when it returns.
    ///
    /// # Errors
    /// A sentence: it cannot be written.
    fn keep(&self, job: &RememberedJob) -> Result<(), String>;
}

/// A program on its way in.
pub trait Upload: Send + Sync {
    /// The next bytes.
    ///
    /// # Errors
    /// A sentence: more than was announced, or they cannot be written.
    fn write(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// All bytes are there.
    ///
    /// # Errors
    /// A sentence: they are not those that were announced, or cannot be kept.
    fn finish(self: Box<Self>) -> Result<(), String>;
}

/// Programs, by their hash.
pub trait Programs: Send + Sync {
    /// The file of a program, if it is there.
    fn path(&self, program: &ProgramHash) -> Option<PathBuf>;

    /// The programs there are.
    ///
    /// # Errors
    /// A sentence: their folder cannot be read.
    fn list(&self) -> Result<Vec<ProgramSummary>, String>;

    /// A program will come.
    ///
    /// # Errors
    /// A sentence: it is too large, or there is no room.
    fn begin(&self, program: &ProgramHash, size_bytes: u64) -> Result<Box<dyn Upload>, String>;
}
