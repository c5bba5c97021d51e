//! What subtasks report about themselves, and what a job's status tells.

use crate::status::JobState;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::chain::OperatorCounts;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
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
}

/// A completed checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointReport {
    /// Its number.
    pub id: CheckpointId,
    /// Where it lies.
    pub location: String,
    /// Bytes of state.
    pub bytes: u64,
    /// From trigger to completion, in milliseconds.
    pub duration_ms: i64,
    /// Longest alignment of a subtask, in milliseconds.
    pub alignment_ms: i64,
    /// Whether it is a savepoint.
    pub savepoint: bool,
}

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
    /// Numbers of the subtasks of the present attempt.
    pub subtasks: BTreeMap<SubtaskId, SubtaskReport>,
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
            subtasks: BTreeMap::new(),
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

    /// Bytes read and in all over all sources, where all know.
    pub fn progress(&self) -> Option<(u64, u64)> {
        let known = self.subtasks.values().filter_map(|report| report.progress);
        known.reduce(|(read, size), (r, s)| (read + r, size + s))
    }

    /// Records that sources have put out in this attempt.
    pub fn records_read(&self) -> u64 {
        let read = |report: &SubtaskReport| {
            let first = report.operators.first()?;
            (first.records_in == 0).then_some(first.records_out)
        };
        self.subtasks.values().filter_map(read).sum()
    }

    /// Late records that operators have dropped in this attempt.
    pub fn late_dropped(&self) -> u64 {
        let operators = self.subtasks.values().flat_map(|report| &report.operators);
        operators.map(|counts| counts.late_dropped).sum()
    }
}
