//! Faults put into a running job on purpose, for tests that compare a disturbed run with a quiet one.

use hurtig_dataflow::ids::{Attempt, SubtaskId};

/// Decides which subtasks fail, and when.
pub trait FaultInjector: Send + Sync {
    /// After how many records, counted from its start in this attempt, a subtask panics; `None` lets it live.
    fn crash_after(&self, subtask: SubtaskId, vertex: &str, attempt: Attempt) -> Option<u64>;
}
