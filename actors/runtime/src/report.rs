//! What subtasks report about themselves, and what a job's status tells.

use crate::metrics::registry::Reading;
use crate::status::JobState;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::chain::OperatorCounts;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::state::SpillCounts;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Numbers of one subtask, counted from the start of its attempt.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SubtaskReport {
    /// Records that have passed each operator of the chain.
    pub operators: Vec<OperatorCounts>,
    /// Nanoseconds at work.
    pub busy_ns: u64,
    /// Nanoseconds spent waiting for credit.
    pub backpressured_ns: u64,
    /// The watermark.
    pub watermark: Timestamp,
    /// Bytes read and in all, for sources that know.
    pub progress: Option<(u64, u64)>,
    /// Batches that wait in the input channels.
    pub queued_batches: u64,
    /// Largest number of batches seen waiting.
    pub most_queued_batches: u64,
    /// Elements that wait for credit in the output channels.
    pub waiting_elements: u64,
    /// How long the last alignment took, in milliseconds.
    pub alignment_ms: i64,
    /// The longest that a slice of a snapshot has stopped the work, in microseconds.
    pub slowest_slice_us: u64,
    /// Where keyed state lies, if it need not all be in memory.
    pub spill: Option<SpillCounts>,
    /// Nanoseconds since the subtask began to run.
    pub elapsed_ns: u64,
    /// Records written to other subtasks, over all edges.
    pub records_out: u64,
    /// Records written over each outgoing edge, in the order of the vertex's outputs.
    pub edges: Vec<u64>,
    /// Batches taken from the input channels.
    pub batches_in: u64,
    /// Batches given to the output channels.
    pub batches_out: u64,
    /// Bytes that came over links. What subtasks of one process exchange is never bytes.
    pub bytes_in: u64,
    /// Bytes that went over links.
    pub bytes_out: u64,
    /// How often it had to wait for credit.
    pub credit_waits: u64,
    /// The watermark of its input.
    pub input_watermark: Timestamp,
    /// What its users' functions have recorded.
    pub users: Vec<Reading>,
}

impl SubtaskReport {
    /// Records read.
    pub fn records_in(&self) -> u64 {
        self.operators.first().map_or(0, |counts| counts.records_in)
    }

    /// Records that a source has read from outside; 0 for any other subtask.
    pub fn records_read(&self) -> u64 {
        let first = self.operators.first().filter(|counts| counts.records_in == 0);
        first.map_or(0, |counts| counts.records_out)
    }

    /// Nanoseconds spent without input.
    pub fn idle_ns(&self) -> u64 {
        self.elapsed_ns.saturating_sub(self.busy_ns + self.backpressured_ns)
    }

    /// Late records that operators have dropped.
    pub fn late_dropped(&self) -> u64 {
        self.operators.iter().map(|counts| counts.late_dropped).sum()
    }
}

/// A completed checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Its number.
    pub id: CheckpointId,
    /// Where it lies.
    pub location: String,
    /// Bytes that are read to restore it.
    pub bytes: u64,
    /// Bytes that were written for it.
    pub written_bytes: u64,
    /// When it was begun.
    pub triggered_at: Timestamp,
    /// From trigger to completion, in milliseconds.
    pub duration_ms: i64,
    /// Longest alignment of a subtask, in milliseconds.
    pub alignment_ms: i64,
    /// Longest time for which its barrier stopped a subtask's work, in microseconds.
    pub synchronous_us: u64,
    /// Whether it is a savepoint.
    pub savepoint: bool,
}

/// A change of a job's parallelism.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RescaleReport {
    /// The how many-th change of the job's parallelism it is.
    pub number: u32,
    /// When it was done.
    pub at: Timestamp,
    /// How long it was from when sources stopped until all subtasks ran again, in milliseconds.
    pub pause_ms: i64,
    /// Workers that went on, and all there are now.
    pub workers: (usize, usize),
    /// Subtasks whose state stayed in memory where it was, and all there are now.
    pub subtasks: (usize, usize),
    /// Names of the vertices that have another parallelism now, with the former and the present.
    pub vertices: Vec<(String, usize, usize)>,
}

/// Changes of its parallelism that are remembered of a job.
pub const REMEMBERED_RESCALES: usize = 50;

/// What is known of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobStatus {
    /// The job.
    pub id: JobId,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// The present attempt.
    pub attempt: Attempt,
    /// The last failure.
    pub failure: Option<String>,
    /// When the job was accepted.
    pub started_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Number of restarts.
    pub restarts: u32,
    /// Checkpoints completed.
    pub checkpoints_completed: u64,
    /// Checkpoints that failed or timed out.
    pub checkpoints_failed: u64,
    /// The last checkpoint completed.
    pub last_checkpoint: Option<CheckpointReport>,
    /// The last savepoint completed.
    pub last_savepoint: Option<CheckpointReport>,
    /// The changes of its parallelism that its masters have made without ending, the newest last.
    #[serde(default)]
    pub rescales: Vec<RescaleReport>,
    /// Numbers of the subtasks of the present attempt.
    pub subtasks: BTreeMap<SubtaskId, SubtaskReport>,
    /// For each source of the present attempt, by its vertex: the bytes that none of its subtasks has been given yet,
    /// where it knows.
    #[serde(default)]
    pub unread: BTreeMap<usize, Option<u64>>,
}

impl JobStatus {
    /// A job that has just been accepted.
    pub fn new(id: JobId, name: &str, started_at: Timestamp) -> Self {
        JobStatus {
            id,
            name: name.to_string(),
            state: JobState::Created,
            attempt: Attempt(1),
            failure: None,
            started_at,
            ended_at: None,
            restarts: 0,
            checkpoints_completed: 0,
            checkpoints_failed: 0,
            last_checkpoint: None,
            last_savepoint: None,
            rescales: Vec::new(),
            subtasks: BTreeMap::new(),
            unread: BTreeMap::new(),
        }
    }

    /// The job's master is gone: a job that had not ended has failed. Returns whether it had not.
    pub fn on_master_gone(&mut self, reason: &str, now: Timestamp) -> bool {
        let lost = !self.state.is_terminal();
        if lost {
            self.state = JobState::Failed;
            self.failure = Some(format!("the job's master ended before the job: {reason}"));
            self.ended_at = Some(now);
        }
        lost
    }

    /// Bytes read and in all over all sources, where all know. After a restart: of those that were left.
    pub fn progress(&self) -> Option<(u64, u64)> {
        // There may be more than can be counted, as in a source that is meant never to end.
        let add = |a: u64, b: u64| a.saturating_add(b);
        let unread =
            self.unread.values().copied().try_fold(0, |sum, bytes| bytes.map(|bytes| add(sum, bytes)))?;
        let given = self.subtasks.values().filter_map(|report| report.progress);
        let (read, size) = given.fold((0, unread), |(read, size), (r, s)| (add(read, r), add(size, s)));
        (size > 0).then_some((read, size))
    }

    /// Records that sources have put out in this attempt.
    pub fn records_read(&self) -> u64 {
        self.subtasks.values().map(SubtaskReport::records_read).sum()
    }

    /// Late records that operators have dropped in this attempt.
    pub fn late_dropped(&self) -> u64 {
        self.subtasks.values().map(SubtaskReport::late_dropped).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_can_be_counted_is_as_much_as_can_be() {
        let mut status = JobStatus::new(JobId(1), "job", 0);
        status.unread.insert(0, Some(u64::MAX / 2));
        for index in 0..3 {
            let progress = Some((7, u64::MAX / 2));
            let report = SubtaskReport { progress, ..SubtaskReport::default() };
            status.subtasks.insert(SubtaskId { vertex: 0, index }, report);
        }
        assert_eq!(status.progress(), Some((21, u64::MAX)));
        status.unread.insert(1, None);
        assert_eq!(status.progress(), None, "how much there is in one of them is not known");
    }
}
