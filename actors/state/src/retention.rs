//! Which checkpoints of a job are kept, and which files: plain data, for whoever publishes and deletes.
//!
//! A snapshot names files of earlier checkpoints, so a file is needed as long as a checkpoint that names it is kept, and
//! as long as a subtask may still take a snapshot on top of such a one: a subtask hears late of a newer checkpoint.

use crate::metadata::CheckpointMetadata;
use crate::snapshot_file::SnapshotHandle;
use hurtig_dataflow::ids::{CheckpointId, SubtaskId};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// The checkpoints of a job that are kept, and those whose files are.
#[derive(Debug, Default)]
pub struct Retention {
    /// Oldest first.
    retained: VecDeque<Arc<CheckpointMetadata>>,
    /// No checkpoints any more, but subtasks may still build on them.
    subsumed: Vec<Arc<CheckpointMetadata>>,
    /// For each subtask the newest checkpoint it is known to build on: none of its snapshots builds on an older one.
    known: BTreeMap<SubtaskId, CheckpointId>,
    /// Files that may go once nothing names them.
    doomed: HashSet<String>,
}

impl Retention {
    /// An attempt begins from a checkpoint, or from nothing: its subtasks build on no older one. Newer ones could not be
    /// read.
    pub fn begin(&mut self, subtasks: impl IntoIterator<Item = SubtaskId>, from: Option<CheckpointId>) {
        self.known = subtasks.into_iter().map(|subtask| (subtask, from.unwrap_or(0))).collect();
    }

    /// Checkpoints that are complete but newer than the one restored: they cannot be read, and are forgotten.
    pub fn forget_after(&mut self, checkpoint: CheckpointId) {
        self.retained.retain(|retained| retained.checkpoint <= checkpoint);
    }

    /// A subtask has taken a snapshot when it knew of the checkpoint `since`.
    pub fn acknowledged(&mut self, subtask: SubtaskId, since: CheckpointId) {
        let known = self.known.entry(subtask).or_default();
        *known = (*known).max(since);
    }

    /// A checkpoint is complete and `most` are kept. Returns those that are no more: their metadata is to be deleted,
    /// and then [`garbage`](Retention::garbage) collected.
    pub fn complete(
        &mut self,
        metadata: Arc<CheckpointMetadata>,
        most: usize,
    ) -> Vec<Arc<CheckpointMetadata>> {
        self.retained.push_back(metadata);
        let excess = self.retained.len().saturating_sub(most.max(1));
        let old: Vec<_> = self.retained.drain(..excess).collect();
        self.subsumed.extend(old.iter().cloned());
        old
    }

    /// Files of a snapshot that belongs to no checkpoint that is or will be complete.
    pub fn give_up(&mut self, snapshot: &SnapshotHandle) {
        self.doomed.extend(snapshot.files().map(str::to_string));
    }

    /// Takes the files that nothing needs any more. `under_way` are the snapshots of checkpoints that are not complete.
    pub fn garbage<'a>(&mut self, under_way: impl Iterator<Item = &'a SnapshotHandle>) -> Vec<String> {
        let oldest = self.known.values().copied().min().unwrap_or(CheckpointId::MAX);
        let (needed, gone): (Vec<_>, Vec<_>) =
            self.subsumed.drain(..).partition(|subsumed| subsumed.checkpoint >= oldest);
        self.subsumed = needed;
        self.doomed.extend(gone.iter().flat_map(|gone| gone.files()).map(str::to_string));
        let mut kept: HashSet<&str> = under_way.flat_map(SnapshotHandle::files).collect();
        for checkpoint in self.retained.iter().chain(&self.subsumed) {
            kept.extend(checkpoint.files());
        }
        let is_garbage = |name: &String| !kept.contains(name.as_str());
        self.doomed.extract_if(is_garbage).collect()
    }

    /// The checkpoints that are kept, oldest first.
    pub fn retained(&self) -> impl Iterator<Item = &Arc<CheckpointMetadata>> {
        self.retained.iter()
    }
}
