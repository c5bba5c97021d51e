//! Which checkpoints are under way and what they still need. Plain data; the coordinator beside it acts.

use crate::config::Config;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::element::Barrier;
use hurtig_dataflow::ids::{CheckpointId, SubtaskId};
use hurtig_dataflow::time::millis;
use hurtig_state::{SnapshotHandle, SubtaskMetadata};
use std::collections::{BTreeMap, BTreeSet};

/// Why a checkpoint is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// It was time.
    Periodic,
    /// The user asked for it, with a place to put it, and perhaps for the job to stop with it.
    Savepoint {
        /// Where it goes.
        target: String,
        /// Whether the job stops.
        stop: bool,
    },
    /// All subtasks stop with it, and the job goes on from it with another graph.
    Rescale,
    /// All subtasks have ended: what they left is published.
    Final,
}

/// A checkpoint under way.
#[derive(Debug)]
pub struct Pending {
    /// The barrier.
    pub barrier: Barrier,
    /// Why it is taken.
    pub purpose: Purpose,
    /// When it began.
    pub triggered_at: Timestamp,
    /// Subtasks that have not acknowledged.
    pub missing: BTreeSet<SubtaskId>,
    /// Sources whose enumerator has not given its state.
    pub missing_sources: BTreeSet<String>,
    /// What subtasks have acknowledged.
    pub subtasks: BTreeMap<SubtaskId, SubtaskMetadata>,
    /// State of the enumerators.
    pub sources: BTreeMap<String, Vec<u8>>,
    /// Longest alignment so far, in milliseconds.
    pub alignment_ms: i64,
    /// Longest time so far for which the barrier stopped a subtask's work, in microseconds.
    pub synchronous_us: u64,
}

impl Pending {
    /// What has been stored for it.
    pub fn snapshots(&self) -> impl Iterator<Item = &SnapshotHandle> {
        self.subtasks.values().map(|subtask| &subtask.snapshot)
    }
}

/// Checkpoints of a job: when the next is due, what those under way need, when they have failed.
#[derive(Debug)]
pub struct Progress {
    interval_ms: Option<i64>,
    timeout_ms: i64,
    min_pause_ms: i64,
    max_concurrent: usize,
    tolerable_failures: u32,
    next_id: CheckpointId,
    last_triggered: Timestamp,
    last_ended: Timestamp,
    failures_in_a_row: u32,
    newest_published: CheckpointId,
    pending: BTreeMap<CheckpointId, Pending>,
}

impl Progress {
    /// Checkpoints as configured; the first has such a number and is due an interval after `now`.
    pub fn new(config: &Config, first: CheckpointId, now: Timestamp) -> Self {
        let checkpoint = &config.checkpoint;
        Progress {
            interval_ms: checkpoint.interval.map(|interval| millis(interval).max(1)),
            timeout_ms: millis(checkpoint.timeout),
            min_pause_ms: millis(checkpoint.min_pause),
            max_concurrent: checkpoint.max_concurrent,
            tolerable_failures: checkpoint.tolerable_failures,
            next_id: first,
            last_triggered: now,
            last_ended: Timestamp::MIN,
            failures_in_a_row: 0,
            newest_published: 0,
            pending: BTreeMap::new(),
        }
    }

    /// Numbers go on after a restored checkpoint's.
    pub fn continue_after(&mut self, checkpoint: CheckpointId) {
        self.next_id = self.next_id.max(checkpoint + 1);
    }

    /// A new attempt begins: nothing is under way, and the interval starts anew.
    pub fn reset(&mut self, now: Timestamp) {
        self.pending.clear();
        self.last_triggered = now;
    }

    /// When the next periodic checkpoint is due; `None` while none may start.
    pub fn next_due(&self) -> Option<Timestamp> {
        let due = self.last_triggered.saturating_add(self.interval_ms?);
        let after_pause = self.last_ended.saturating_add(self.min_pause_ms);
        let periodic = self.pending.values().filter(|pending| pending.purpose == Purpose::Periodic).count();
        (periodic < self.max_concurrent && !self.is_stopping()).then_some(due.max(after_pause))
    }

    /// When the oldest checkpoint under way times out.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        self.pending.values().map(|pending| pending.triggered_at.saturating_add(self.timeout_ms)).min()
    }

    /// Begins a checkpoint that needs the given subtasks and sources.
    pub fn begin(
        &mut self,
        purpose: Purpose,
        now: Timestamp,
        subtasks: BTreeSet<SubtaskId>,
        sources: BTreeSet<String>,
    ) -> Barrier {
        let (savepoint, stop) = match &purpose {
            Purpose::Savepoint { target, stop } => (Some(target.clone()), *stop),
            Purpose::Rescale => (None, true),
            Purpose::Periodic | Purpose::Final => (None, false),
        };
        let barrier = Barrier { checkpoint: self.next_id, savepoint, stop, overtakes: false };
        self.next_id += 1;
        if purpose == Purpose::Periodic {
            self.last_triggered = now;
        }
        let pending = Pending {
            barrier: barrier.clone(),
            purpose,
            triggered_at: now,
            missing: subtasks,
            missing_sources: sources,
            subtasks: BTreeMap::new(),
            sources: BTreeMap::new(),
            alignment_ms: 0,
            synchronous_us: 0,
        };
        self.pending.insert(barrier.checkpoint, pending);
        barrier
    }

    /// A subtask has stored its part. Returns the checkpoint if that was the last.
    pub fn acknowledge(
        &mut self,
        checkpoint: CheckpointId,
        subtask: SubtaskId,
        metadata: SubtaskMetadata,
        (alignment_ms, synchronous_us): (i64, u64),
    ) -> Option<Pending> {
        let pending = self.pending.get_mut(&checkpoint)?;
        if pending.missing.remove(&subtask) {
            pending.subtasks.insert(subtask, metadata);
            pending.alignment_ms = pending.alignment_ms.max(alignment_ms);
            pending.synchronous_us = pending.synchronous_us.max(synchronous_us);
        }
        self.take_if_complete(checkpoint)
    }

    /// An enumerator has given its state. Returns the checkpoint if that was the last.
    pub fn add_source(&mut self, checkpoint: CheckpointId, uid: &str, bytes: Vec<u8>) -> Option<Pending> {
        let pending = self.pending.get_mut(&checkpoint)?;
        if pending.missing_sources.remove(uid) {
            pending.sources.insert(uid.to_string(), bytes);
        }
        self.take_if_complete(checkpoint)
    }

    fn take_if_complete(&mut self, checkpoint: CheckpointId) -> Option<Pending> {
        let pending = self.pending.get(&checkpoint)?;
        let complete = pending.missing.is_empty() && pending.missing_sources.is_empty();
        complete.then(|| self.pending.remove(&checkpoint)).flatten()
    }

    /// Whether one is under way with which subtasks stop.
    pub fn is_stopping(&self) -> bool {
        self.pending.values().any(|pending| pending.barrier.stop)
    }

    /// Whether a checkpoint is under way.
    pub fn is_pending(&self, checkpoint: CheckpointId) -> bool {
        self.pending.contains_key(&checkpoint)
    }

    /// The checkpoints that are under way.
    pub fn pending(&self) -> impl Iterator<Item = CheckpointId> {
        self.pending.keys().copied()
    }

    /// What has been stored for checkpoints that are under way.
    pub fn stored(&self) -> impl Iterator<Item = &SnapshotHandle> {
        self.pending.values().flat_map(Pending::snapshots)
    }

    /// Barriers of checkpoints that wait for a subtask, which has ended and must be asked directly.
    pub fn waiting_for(&self, subtask: SubtaskId) -> Vec<Barrier> {
        let waits = |pending: &&Pending| pending.missing.contains(&subtask);
        self.pending.values().filter(waits).map(|pending| pending.barrier.clone()).collect()
    }

    /// Whether a newer checkpoint was published already: storing the metadata of the older one took longer. What its
    /// sinks prepared is in the newer one too.
    pub fn is_overtaken(&self, checkpoint: CheckpointId) -> bool {
        checkpoint < self.newest_published
    }

    /// A complete checkpoint was published. Older ones under way are of no use any more and are returned.
    pub fn on_published(&mut self, checkpoint: CheckpointId, now: Timestamp) -> Vec<Pending> {
        self.failures_in_a_row = 0;
        self.last_ended = now;
        self.newest_published = self.newest_published.max(checkpoint);
        let useless = |(id, pending): &(&CheckpointId, &Pending)| {
            **id < checkpoint && pending.purpose == Purpose::Periodic
        };
        let ids: Vec<_> = self.pending.iter().filter(useless).map(|(id, _)| *id).collect();
        ids.into_iter().filter_map(|id| self.pending.remove(&id)).collect()
    }

    /// A checkpoint that is under way has failed. Returns it, unless it has ended before: its other parts may
    /// fail too.
    pub fn fail(&mut self, checkpoint: CheckpointId) -> Option<Pending> {
        self.pending.remove(&checkpoint)
    }

    /// Counts a failure; whether the job fails by it. A savepoint that cannot be stored is the affair of whoever wants
    /// it, but one that the job was to stop with has stopped the sources, and at the end nothing comes that could be
    /// tried again.
    pub fn on_failed(&mut self, purpose: &Purpose, now: Timestamp) -> bool {
        self.last_ended = now;
        match purpose {
            Purpose::Periodic => {
                self.failures_in_a_row += 1;
                self.failures_in_a_row > self.tolerable_failures
            }
            Purpose::Savepoint { stop, .. } => *stop,
            // The job goes on from an older one.
            Purpose::Rescale => false,
            Purpose::Final => true,
        }
    }

    /// Checkpoints that have taken too long.
    pub fn expired(&self, now: Timestamp) -> Vec<CheckpointId> {
        let late = |(_, pending): &(&CheckpointId, &Pending)| now - pending.triggered_at >= self.timeout_ms;
        self.pending.iter().filter(late).map(|(id, _)| *id).collect()
    }

    /// What is under way, to tell whoever waits that it is not coming.
    pub fn drain(&mut self) -> Vec<Pending> {
        std::mem::take(&mut self.pending).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(set: &[&str]) -> Progress {
        let mut builder = Config::builder();
        for assignment in set {
            builder = builder.flag(*assignment);
        }
        Progress::new(&builder.build().unwrap(), 1, 0)
    }

    fn subtask(index: usize) -> SubtaskId {
        SubtaskId { vertex: 0, index }
    }

    fn metadata() -> SubtaskMetadata {
        SubtaskMetadata {
            snapshot: SnapshotHandle::default(),
            committables: Vec::new(),
            written_bytes: 0,
            since: 0,
        }
    }

    #[test]
    fn a_checkpoint_is_complete_when_all_subtasks_and_sources_have_answered() {
        let mut progress = progress(&["checkpoint.interval=1 s"]);
        let needs = (BTreeSet::from([subtask(0), subtask(1)]), BTreeSet::from(["source".to_string()]));
        let barrier = progress.begin(Purpose::Periodic, 1_000, needs.0, needs.1);
        assert!(progress.acknowledge(barrier.checkpoint, subtask(0), metadata(), (3, 1)).is_none());
        assert!(progress.acknowledge(barrier.checkpoint, subtask(0), metadata(), (3, 1)).is_none());
        assert!(progress.add_source(barrier.checkpoint, "source", vec![]).is_none());
        let complete = progress.acknowledge(barrier.checkpoint, subtask(1), metadata(), (9, 2)).unwrap();
        assert_eq!((complete.subtasks.len(), complete.alignment_ms), (2, 9));
        assert!(progress.acknowledge(barrier.checkpoint, subtask(1), metadata(), (9, 2)).is_none());
    }

    #[test]
    fn the_next_waits_for_interval_pause_and_room() {
        let mut progress = progress(&["checkpoint.interval=1 s", "checkpoint.min-pause=400 ms"]);
        assert_eq!(progress.next_due(), Some(1_000));
        let barrier = progress.begin(Purpose::Periodic, 1_000, BTreeSet::from([subtask(0)]), BTreeSet::new());
        assert_eq!(progress.next_due(), None);
        progress.acknowledge(barrier.checkpoint, subtask(0), metadata(), (0, 0));
        progress.on_published(barrier.checkpoint, 1_900);
        assert_eq!(progress.next_due(), Some(2_300));
    }

    #[test]
    fn as_many_are_under_way_as_may_be_and_a_newer_one_makes_older_ones_useless() {
        let mut progress = progress(&["checkpoint.interval=1 s", "checkpoint.max-concurrent=2"]);
        let begin = |progress: &mut Progress, purpose, now| {
            progress.begin(purpose, now, BTreeSet::from([subtask(0)]), BTreeSet::new()).checkpoint
        };
        let savepoint = || Purpose::Savepoint { target: "there".into(), stop: false };
        let first = begin(&mut progress, Purpose::Periodic, 1_000);
        assert_eq!(progress.next_due(), Some(2_000), "there is room for another");
        let saved = begin(&mut progress, savepoint(), 1_500);
        assert_eq!(progress.next_due(), Some(2_000), "savepoints take no room");
        let second = begin(&mut progress, Purpose::Periodic, 2_000);
        assert_eq!(progress.next_due(), None);
        // The second is complete before the first, which can no longer be what a restart begins with.
        assert!(progress.acknowledge(second, subtask(0), metadata(), (0, 0)).is_some());
        let useless = progress.on_published(second, 2_500);
        let useless: Vec<_> = useless.iter().map(|pending| pending.barrier.checkpoint).collect();
        assert_eq!(useless, [first]);
        assert!(progress.acknowledge(first, subtask(0), metadata(), (0, 0)).is_none());
        assert!(progress.is_overtaken(first) && !progress.is_overtaken(second));
        // Whoever wants the savepoint still gets it.
        assert!(progress.acknowledge(saved, subtask(0), metadata(), (0, 0)).is_some());
        assert_eq!(progress.next_due(), Some(3_000));
        // One that has failed makes room too.
        let third = begin(&mut progress, Purpose::Periodic, 3_000);
        begin(&mut progress, Purpose::Periodic, 4_000);
        assert_eq!(progress.next_due(), None);
        assert!(progress.fail(third).is_some());
        assert_eq!(progress.next_due(), Some(5_000));
    }

    #[test]
    fn failures_beyond_the_tolerable_ones_fail_the_job_and_a_success_forgives_them() {
        let mut progress = progress(&["checkpoint.interval=1 s", "checkpoint.tolerable-failures=1"]);
        let fail = |progress: &mut Progress| {
            let barrier = progress.begin(Purpose::Periodic, 0, BTreeSet::from([subtask(0)]), BTreeSet::new());
            let pending = progress.fail(barrier.checkpoint).unwrap();
            assert!(progress.fail(barrier.checkpoint).is_none(), "it fails once");
            progress.on_failed(&pending.purpose, 0)
        };
        assert!(!fail(&mut progress));
        progress.on_published(1, 0);
        assert!(!fail(&mut progress));
        assert!(fail(&mut progress));
    }

    #[test]
    fn a_checkpoint_that_takes_too_long_expires() {
        let mut progress = progress(&["checkpoint.interval=1 s", "checkpoint.timeout=5 s"]);
        progress.begin(Purpose::Periodic, 1_000, BTreeSet::from([subtask(0)]), BTreeSet::new());
        assert_eq!((progress.expired(5_999), progress.expired(6_000)), (vec![], vec![1]));
        assert_eq!(progress.next_timeout(), Some(6_000));
    }
}
