//! Names of things: jobs, vertices, subtasks, checkpoints.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A job, unique for ever: 16 random bytes, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct JobId(pub u128);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JobId({self})")
    }
}

impl JobId {
    /// The first eight hexadecimal digits, for file names and tables.
    pub fn short(&self) -> String {
        self.to_string()[..8].to_string()
    }
}

/// Index of a vertex in its job graph.
pub type VertexId = usize;

/// Number of a checkpoint or savepoint within its job, growing from 1.
pub type CheckpointId = u64;

/// One try at running a job, growing from 1. Messages of an older attempt are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Attempt(pub u32);

/// One reign of a leader among JobManagers, growing from 1. What a leader of an older one asks for is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct LeaderEpoch(pub u64);

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One operator instance: vertex and index within it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct SubtaskId {
    /// The vertex in the job graph.
    pub vertex: VertexId,
    /// Index of this instance, from 0 to the vertex's parallelism less one.
    pub index: usize,
}
