//! Statistics of checkpoints: the last of them one by one, all of them in sum.

use crate::report::CheckpointReport;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::{CheckpointId, SubtaskId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Checkpoints that are remembered one by one.
const REMEMBERED: usize = 20;

/// Completed checkpoints that a summary is made of.
const SUMMARISED: usize = 1_000;

/// Why a checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointKind {
    /// By the clock, or at the job's end.
    Checkpoint,
    /// Asked for.
    Savepoint,
    /// Asked for, to end the job with.
    StoppingSavepoint,
}

impl CheckpointKind {
    /// Whether it is a savepoint.
    pub fn is_savepoint(self) -> bool {
        self != CheckpointKind::Checkpoint
    }
}

/// How far a checkpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CheckpointState {
    /// Not all parts are stored.
    InProgress,
    /// Complete.
    Completed,
    /// Has failed, or was of no use any more.
    Failed,
}

/// What one subtask adds to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// When its master heard that it is stored.
    pub at: Timestamp,
    /// Bytes of state.
    pub bytes: u64,
    /// Bytes that were written for it.
    pub written_bytes: u64,
    /// How long alignment took, in milliseconds.
    pub alignment_ms: i64,
    /// For how long the subtask's work was stopped, in microseconds.
    pub synchronous_us: u64,
    /// Bytes of the batches that its barrier has overtaken.
    pub in_flight_bytes: u64,
}

/// What the subtasks of one vertex add to a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexPart {
    /// Subtasks that have stored their parts.
    pub acknowledged: usize,
    /// Subtasks that have parts.
    pub subtasks: usize,
    /// When the last of them had.
    pub last_at: Timestamp,
    /// Bytes of state.
    pub bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Longest alignment, in milliseconds.
    pub alignment_ms: i64,
    /// Bytes of the batches that barriers have overtaken.
    pub in_flight_bytes: u64,
}

/// One checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CheckpointRecord {
    /// Its number.
    pub id: CheckpointId,
    /// Why it was taken.
    pub kind: CheckpointKind,
    /// How far it has come.
    pub state: CheckpointState,
    /// When it was triggered.
    pub triggered_at: Timestamp,
    /// When the last part was stored; when it was triggered if none is.
    pub last_at: Timestamp,
    /// When it was complete, or had failed.
    pub ended_at: Option<Timestamp>,
    /// Bytes of state.
    pub bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Longest alignment, in milliseconds.
    pub alignment_ms: i64,
    /// Bytes of the batches that barriers have overtaken.
    pub in_flight_bytes: u64,
    /// Where it lies, once complete.
    pub location: Option<String>,
    /// Whether it was deleted, as newer ones took its place.
    pub is_discarded: bool,
    /// Why it failed.
    pub failure: Option<String>,
    /// What each vertex adds.
    pub vertices: BTreeMap<usize, VertexPart>,
    /// What each subtask adds, where that was asked for.
    pub parts: BTreeMap<SubtaskId, Part>,
}

impl CheckpointRecord {
    /// From trigger to the end, or so far, in milliseconds.
    pub fn duration_ms(&self) -> i64 {
        self.ended_at.unwrap_or(self.last_at) - self.triggered_at
    }

    /// Subtasks that have stored their parts.
    pub fn acknowledged(&self) -> usize {
        self.vertices.values().map(|vertex| vertex.acknowledged).sum()
    }

    /// Subtasks that have parts.
    pub fn subtasks(&self) -> usize {
        self.vertices.values().map(|vertex| vertex.subtasks).sum()
    }
}

/// The checkpoint that an attempt has started from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RestoredCheckpoint {
    /// Its number.
    pub id: CheckpointId,
    /// When it was restored.
    pub at: Timestamp,
    /// Whether it is a savepoint.
    pub is_savepoint: bool,
    /// Where it lies.
    pub location: String,
}

/// Measures of a completed checkpoint that a summary is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measures {
    /// Bytes of state.
    pub bytes: u64,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// From trigger to completion, in milliseconds.
    pub duration_ms: i64,
    /// Longest alignment, in milliseconds.
    pub alignment_ms: i64,
}

/// What is known of a job's checkpoints.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CheckpointBook {
    /// How many completed checkpoints are kept.
    pub retained: usize,
    /// How many were triggered.
    pub triggered: u64,
    /// How many were completed.
    pub completed: u64,
    /// How many have failed.
    pub failed: u64,
    /// How often an attempt has started from one.
    pub restored: u64,
    /// The last one that an attempt has started from.
    pub last_restored: Option<RestoredCheckpoint>,
    /// The last ones, the newest first.
    pub records: VecDeque<CheckpointRecord>,
    /// The last savepoint, if it is not among those any more.
    pub last_savepoint: Option<CheckpointRecord>,
    /// Of completed ones, the newest last.
    pub measures: VecDeque<Measures>,
}

impl CheckpointBook {
    /// How many are under way.
    pub fn in_progress(&self) -> usize {
        self.records.iter().filter(|record| record.state == CheckpointState::InProgress).count()
    }

    /// The newest of which something holds.
    pub fn last(&self, holds: impl Fn(&CheckpointRecord) -> bool) -> Option<&CheckpointRecord> {
        self.records.iter().find(|record| holds(record))
    }

    /// A copy in which only one checkpoint, if any, has its parts.
    pub(super) fn with_parts_of(&self, id: Option<CheckpointId>) -> Self {
        let record = |record: &CheckpointRecord| {
            let parts = if Some(record.id) == id { record.parts.clone() } else { BTreeMap::new() };
            CheckpointRecord {
                parts,
                vertices: record.vertices.clone(),
                location: record.location.clone(),
                failure: record.failure.clone(),
                ..*record
            }
        };
        CheckpointBook {
            last_restored: self.last_restored.clone(),
            records: self.records.iter().map(record).collect(),
            last_savepoint: self.last_savepoint.as_ref().map(record),
            measures: self.measures.clone(),
            ..*self
        }
    }

    pub(super) fn begin(
        &mut self,
        id: CheckpointId,
        kind: CheckpointKind,
        subtasks: BTreeSet<SubtaskId>,
        now: Timestamp,
    ) {
        let mut vertices: BTreeMap<usize, VertexPart> = BTreeMap::new();
        for subtask in &subtasks {
            vertices.entry(subtask.vertex).or_default().subtasks += 1;
        }
        self.triggered += 1;
        self.records.push_front(CheckpointRecord {
            id,
            kind,
            state: CheckpointState::InProgress,
            triggered_at: now,
            last_at: now,
            ended_at: None,
            bytes: 0,
            written_bytes: 0,
            alignment_ms: 0,
            in_flight_bytes: 0,
            location: None,
            is_discarded: false,
            failure: None,
            vertices,
            parts: BTreeMap::new(),
        });
        // The oldest goes that is not under way.
        if self.records.len() > REMEMBERED
            && let Some(at) = self.records.iter().rposition(|record| record.ended_at.is_some())
        {
            self.records.remove(at);
        }
    }

    fn under_way(&mut self, id: CheckpointId) -> Option<&mut CheckpointRecord> {
        self.records.iter_mut().find(|record| record.id == id && record.ended_at.is_none())
    }

    pub(super) fn acknowledge(&mut self, id: CheckpointId, subtask: SubtaskId, part: Part) {
        let Some(record) = self.under_way(id) else { return };
        if record.parts.insert(subtask, part).is_some() {
            return;
        }
        record.last_at = part.at;
        record.bytes += part.bytes;
        record.written_bytes += part.written_bytes;
        record.alignment_ms = record.alignment_ms.max(part.alignment_ms);
        record.in_flight_bytes += part.in_flight_bytes;
        let vertex = record.vertices.entry(subtask.vertex).or_default();
        vertex.acknowledged += 1;
        vertex.last_at = part.at;
        vertex.bytes += part.bytes;
        vertex.written_bytes += part.written_bytes;
        vertex.alignment_ms = vertex.alignment_ms.max(part.alignment_ms);
        vertex.in_flight_bytes += part.in_flight_bytes;
    }

    pub(super) fn complete(&mut self, report: &CheckpointReport, now: Timestamp) {
        self.completed += 1;
        self.measures.push_back(Measures {
            bytes: report.bytes,
            written_bytes: report.bytes,
            duration_ms: report.duration_ms,
            alignment_ms: report.alignment_ms,
        });
        if self.measures.len() > SUMMARISED {
            self.measures.pop_front();
        }
        let Some(record) = self.under_way(report.id) else { return };
        record.state = CheckpointState::Completed;
        record.ended_at = Some(now);
        record.bytes = report.bytes;
        record.location = Some(report.location.clone()).filter(|location| !location.is_empty());
        if record.kind.is_savepoint() {
            self.last_savepoint = Some(record.clone());
            return;
        }
        let is_kept = |record: &&mut CheckpointRecord| {
            record.state == CheckpointState::Completed && !record.kind.is_savepoint()
        };
        for old in self.records.iter_mut().filter(is_kept).skip(self.retained.max(1)) {
            old.is_discarded = true;
        }
    }

    pub(super) fn fail(&mut self, id: CheckpointId, reason: &str, now: Timestamp) {
        let Some(record) = self.under_way(id) else { return };
        record.state = CheckpointState::Failed;
        record.ended_at = Some(now);
        record.failure = Some(reason.to_string());
        self.failed += 1;
    }

    pub(super) fn fail_all(&mut self, reason: &str, now: Timestamp) {
        let open: Vec<_> =
            self.records.iter().filter(|record| record.ended_at.is_none()).map(|record| record.id).collect();
        for id in open {
            self.fail(id, reason, now);
        }
    }

    pub(super) fn restore(&mut self, id: CheckpointId, is_savepoint: bool, location: &str, now: Timestamp) {
        self.restored += 1;
        self.last_restored =
            Some(RestoredCheckpoint { id, at: now, is_savepoint, location: location.to_string() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtasks(count: usize) -> BTreeSet<SubtaskId> {
        (0..count).map(|index| SubtaskId { vertex: index % 2, index }).collect()
    }

    fn part(at: Timestamp) -> Part {
        Part { at, bytes: 10, written_bytes: 5, alignment_ms: at % 7, synchronous_us: 1, in_flight_bytes: 3 }
    }

    fn report(id: CheckpointId, bytes: u64) -> CheckpointReport {
        CheckpointReport {
            id,
            location: format!("chk-{id}"),
            bytes,
            written_bytes: bytes,
            triggered_at: 100,
            duration_ms: 5,
            alignment_ms: 1,
            synchronous_us: 1,
            savepoint: false,
        }
    }

    #[test]
    fn parts_add_up_and_are_told_only_of_the_checkpoint_that_is_asked_for() {
        let mut book = CheckpointBook { retained: 1, ..CheckpointBook::default() };
        book.begin(1, CheckpointKind::Checkpoint, subtasks(4), 100);
        for subtask in subtasks(4) {
            book.acknowledge(1, subtask, part(110));
            book.acknowledge(1, subtask, part(120));
        }
        let record = &book.records[0];
        assert_eq!((record.acknowledged(), record.subtasks(), record.bytes), (4, 4, 40));
        assert_eq!(record.vertices[&1].bytes, 20);
        assert!(book.with_parts_of(None).records[0].parts.is_empty());
        assert_eq!(book.with_parts_of(Some(1)).records[0].parts.len(), 4);
    }

    #[test]
    fn completed_ones_are_discarded_as_newer_ones_come_and_the_history_is_bounded() {
        let mut book = CheckpointBook { retained: 2, ..CheckpointBook::default() };
        for id in 1..=30 {
            book.begin(id, CheckpointKind::Checkpoint, subtasks(1), id as i64);
            match id % 10 {
                0 => book.fail(id, "no room", id as i64),
                _ => book.complete(&report(id, 10), id as i64),
            }
        }
        assert_eq!((book.triggered, book.completed, book.failed), (30, 27, 3));
        assert_eq!(book.records.len(), REMEMBERED);
        let kept: Vec<_> = book
            .records
            .iter()
            .filter(|record| record.state == CheckpointState::Completed && !record.is_discarded)
            .map(|record| record.id)
            .collect();
        assert_eq!(kept, [29, 28]);
        assert_eq!(book.in_progress(), 0);
    }
}
