//! What metrics are taken from.

use crate::observe::checkpoints::{CheckpointRecord, CheckpointState};
use crate::observe::rates::Rates;
use crate::observe::subtasks::SubtaskObservation;
use crate::protocol::{Observed, Overview};
use crate::report::JobStatus;
use crate::status::JobState;
use hurtig_dataflow::Timestamp;

/// What metrics of one list are taken from.
pub trait Sight {
    /// The same at a moment.
    type At<'a>;
}

/// A subtask.
pub enum Task {}
impl Sight for Task {
    type At<'a> = TaskSight<'a>;
}

/// A job.
pub enum Job {}
impl Sight for Job {
    type At<'a> = JobSight<'a>;
}

/// A cluster.
pub enum Cluster {}
impl Sight for Cluster {
    type At<'a> = ClusterSight<'a>;
}

/// A subtask at a moment.
pub struct TaskSight<'a> {
    /// What was observed of it.
    pub seen: &'a SubtaskObservation,
    /// Its rates.
    pub rates: Rates,
    /// The moment.
    pub now: Timestamp,
}

/// A job at a moment.
pub struct JobSight<'a> {
    /// What was observed of it.
    pub job: &'a Observed,
    /// The moment.
    pub now: Timestamp,
}

impl JobSight<'_> {
    /// The last checkpoint completed that is remembered.
    pub fn last_checkpoint(&self) -> Option<&CheckpointRecord> {
        self.job.seen.checkpoints.last(|record| record.state == CheckpointState::Completed)
    }

    /// How long the job has been in a state, in milliseconds; 0 if it is in another.
    pub fn time_in(&self, state: JobState) -> f64 {
        match self.job.seen.entered(state) {
            Some(since) if self.job.status.state == state => (self.now - since) as f64,
            _ => 0.0,
        }
    }
}

/// A cluster at a moment.
pub struct ClusterSight<'a> {
    /// What it consists of.
    pub overview: &'a Overview,
    /// Its jobs.
    pub jobs: &'a [JobStatus],
}
