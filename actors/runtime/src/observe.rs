//! What a job does, for people and for other systems: when its subtasks began, how fast they are and what holds them
//! back, its checkpoints, its failures.
//!
//! The JobMaster and its coordinator write into an [`Observer`]; whoever asks gets a [`JobObservation`], a copy. Only
//! control messages come through here: a report of each subtask, some times a second, and the events of checkpoints.

pub mod checkpoints;
pub mod rates;
pub mod subtasks;

use crate::failure::Failure;
use crate::report::{CheckpointReport, SubtaskReport};
use crate::status::JobState;
use crate::worker::links::{Placement, WorkerId};
use checkpoints::{CheckpointBook, CheckpointKind};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::{Attempt, CheckpointId, SubtaskId};
use parking_lot::Mutex;
use rates::{Sample, Samples};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use subtasks::{SubtaskObservation, SubtaskState};

/// Failures that are remembered.
const REMEMBERED_FAILURES: usize = 32;

/// What went wrong, and when.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FailureRecord {
    /// When the job's master heard of it.
    pub at: Timestamp,
    /// The attempt that failed.
    pub attempt: Attempt,
    /// The failure.
    pub failure: Failure,
    /// The worker of the subtask that failed.
    pub worker: Option<WorkerId>,
}

/// All that is observed of a job.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct JobObservation {
    /// When each state was last entered.
    pub entered: Vec<(JobState, Timestamp)>,
    /// The subtasks of the last attempt.
    pub subtasks: BTreeMap<SubtaskId, SubtaskObservation>,
    /// Where each worker of the last attempt accepts connections, if it does.
    pub workers: BTreeMap<WorkerId, String>,
    /// Checkpoints and savepoints.
    pub checkpoints: CheckpointBook,
    /// Failures, the newest first.
    pub failures: VecDeque<FailureRecord>,
    /// Failures that are no longer remembered.
    pub forgotten_failures: u64,
    /// Rates of each vertex in the last minutes.
    pub samples: VecDeque<Sample>,
    /// The job's configuration: what is not as by default.
    pub settings: Vec<(String, String)>,
}

impl JobObservation {
    /// When the job was in a state last, if ever.
    pub fn entered(&self, state: JobState) -> Option<Timestamp> {
        self.entered.iter().find(|(entered, _)| *entered == state).map(|(_, at)| *at)
    }
}

#[derive(Default)]
struct Book {
    seen: JobObservation,
    samples: Samples,
}

/// Where a job's master writes down what it sees. Clones are the same book.
#[derive(Clone, Default)]
pub struct Observer(Arc<Mutex<Book>>);

impl Observer {
    /// An empty book of a job with the given settings.
    pub fn new(settings: Vec<(String, String)>, retained_checkpoints: usize) -> Self {
        let observer = Observer::default();
        {
            let mut book = observer.0.lock();
            book.seen.settings = settings;
            book.seen.checkpoints.retained = retained_checkpoints;
        }
        observer
    }

    /// A copy of all that was seen. What each subtask has added to a checkpoint is in it for the one that is named.
    pub fn observation(&self, checkpoint: Option<CheckpointId>) -> JobObservation {
        let book = self.0.lock();
        let seen = &book.seen;
        JobObservation {
            entered: seen.entered.clone(),
            subtasks: seen.subtasks.clone(),
            workers: seen.workers.clone(),
            checkpoints: seen.checkpoints.with_parts_of(checkpoint),
            failures: seen.failures.clone(),
            forgotten_failures: seen.forgotten_failures,
            samples: book.samples.all().clone(),
            settings: seen.settings.clone(),
        }
    }

    /// The job is in a state.
    pub(crate) fn on_state(&self, state: JobState, now: Timestamp) {
        let entered = &mut self.0.lock().seen.entered;
        if entered.last().is_none_or(|(last, _)| *last != state) {
            entered.retain(|(other, _)| *other != state);
            entered.push((state, now));
        }
    }

    /// An attempt is being deployed.
    pub(crate) fn on_deploying(&self, attempt: Attempt, placement: &Placement, now: Timestamp) {
        let book = &mut *self.0.lock();
        let created = book.seen.entered(JobState::Created).unwrap_or(now);
        book.seen.workers = placement.workers.clone();
        book.seen.subtasks = placement
            .subtasks
            .iter()
            .map(|(id, worker)| (*id, SubtaskObservation::new(attempt, *worker, created, now)))
            .collect();
        book.samples.begin_attempt();
    }

    /// A subtask is in another state.
    pub(crate) fn on_subtask(&self, id: SubtaskId, state: SubtaskState, now: Timestamp) {
        if let Some(subtask) = self.0.lock().seen.subtasks.get_mut(&id) {
            subtask.enter(state, now);
        }
    }

    /// A subtask has told its numbers.
    pub(crate) fn on_report(&self, id: SubtaskId, report: &SubtaskReport, now: Timestamp) {
        let book = &mut *self.0.lock();
        if let Some(subtask) = book.seen.subtasks.get_mut(&id) {
            subtask.on_report(report, now);
        }
        book.samples.take_if_due(&book.seen.subtasks, now);
    }

    /// Something has failed.
    pub(crate) fn on_failure(&self, failure: &Failure, attempt: Attempt, now: Timestamp) {
        let seen = &mut self.0.lock().seen;
        let subtask = failure.subtask.and_then(|id| seen.subtasks.get_mut(&id));
        let worker = subtask.map(|subtask| {
            subtask.enter(SubtaskState::Failed, now);
            subtask.worker
        });
        seen.failures.push_front(FailureRecord { at: now, attempt, failure: failure.clone(), worker });
        if seen.failures.len() > REMEMBERED_FAILURES {
            seen.failures.truncate(REMEMBERED_FAILURES);
            seen.forgotten_failures += 1;
        }
    }

    /// The subtasks that still run are being stopped.
    pub(crate) fn on_stopping(&self, now: Timestamp) {
        for subtask in self.0.lock().seen.subtasks.values_mut().filter(|subtask| !subtask.state().is_end()) {
            subtask.enter(SubtaskState::Cancelling, now);
        }
    }

    /// All subtasks are gone.
    pub(crate) fn on_stopped(&self, now: Timestamp) {
        let seen = &mut self.0.lock().seen;
        for subtask in seen.subtasks.values_mut().filter(|subtask| !subtask.state().is_end()) {
            subtask.enter(SubtaskState::Cancelled, now);
        }
        seen.checkpoints.fail_all("the attempt was over before it was complete", now);
    }

    /// A checkpoint has begun.
    pub(crate) fn on_triggered(
        &self,
        id: CheckpointId,
        kind: CheckpointKind,
        subtasks: BTreeSet<SubtaskId>,
        now: Timestamp,
    ) {
        self.0.lock().seen.checkpoints.begin(id, kind, subtasks, now);
    }

    /// A subtask has stored its part of a checkpoint.
    pub(crate) fn on_acknowledged(&self, id: CheckpointId, subtask: SubtaskId, part: checkpoints::Part) {
        self.0.lock().seen.checkpoints.acknowledge(id, subtask, part);
    }

    /// A checkpoint is complete.
    pub(crate) fn on_completed(&self, report: &CheckpointReport, now: Timestamp) {
        self.0.lock().seen.checkpoints.complete(report, now);
    }

    /// A checkpoint has failed, or is of no use any more.
    pub(crate) fn on_checkpoint_failed(&self, id: CheckpointId, reason: &str, now: Timestamp) {
        self.0.lock().seen.checkpoints.fail(id, reason, now);
    }

    /// The attempt starts from a checkpoint.
    pub(crate) fn on_restored(&self, id: CheckpointId, is_savepoint: bool, location: &str, now: Timestamp) {
        self.0.lock().seen.checkpoints.restore(id, is_savepoint, location, now);
    }
}
