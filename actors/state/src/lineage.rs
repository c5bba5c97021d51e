//! What a subtask's next snapshot builds on: plain data, for whoever takes it.

use crate::snapshot_file::{Layer, SnapshotHandle};
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::state::Extent;

/// A snapshot of more layers is followed by a base.
const MOST_LAYERS: usize = 8;

/// Layers of one subtask's snapshots, and whether it is time for a base: a restore reads all layers, so that what they
/// hold must not be much more than the state.
#[derive(Debug, Default)]
pub struct Lineage {
    /// The newest complete checkpoint the subtask knows of.
    complete: Option<(CheckpointId, SnapshotHandle)>,
    /// Checkpoints of which the subtask's part is stored.
    stored: Vec<(CheckpointId, SnapshotHandle)>,
    /// Subtasks of one vertex take their bases at different times.
    jitter: usize,
}

impl Lineage {
    /// The lineage of a subtask by its index, restored from a checkpoint of its own job and of the same parallelism, or
    /// from elsewhere or nothing.
    pub fn new(index: usize, restored: Option<(CheckpointId, SnapshotHandle)>) -> Self {
        Lineage { complete: restored, stored: Vec::new(), jitter: index % 4 }
    }

    /// The newest complete checkpoint known, or 0.
    pub fn since(&self) -> CheckpointId {
        self.complete.as_ref().map_or(0, |(checkpoint, _)| *checkpoint)
    }

    /// Files of the snapshots that this one may build on.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let handles = self.complete.iter().chain(&self.stored);
        handles.flat_map(|(_, handle)| handle.files())
    }

    /// What the next snapshot is to hold: everything if there is none to build on, if there are many layers, or if what
    /// was changed has more than half as many bytes as everything had.
    pub fn extent(&self) -> Extent {
        let Some((checkpoint, handle)) = &self.complete else { return Extent::Base };
        let base = handle.layers.first().map_or(0, Layer::stored_bytes);
        let changed = handle.stored_bytes() - base;
        // Up to a quarter earlier.
        let is_much = changed * 8 > base * (4 - self.jitter as u64 / 2);
        let are_many = handle.layers.len() > MOST_LAYERS - self.jitter;
        if handle.layers.is_empty() || is_much || are_many {
            Extent::Base
        } else {
            Extent::Since(*checkpoint)
        }
    }

    /// The snapshots that a snapshot of an extent builds on.
    pub fn below(&self, extent: Extent) -> SnapshotHandle {
        match (extent, &self.complete) {
            (Extent::Since(_), Some((_, handle))) => handle.clone(),
            _ => SnapshotHandle::default(),
        }
    }

    /// The subtask's part of a checkpoint is stored. Savepoints do not count: they belong to the user.
    pub fn stored(&mut self, checkpoint: CheckpointId, snapshot: SnapshotHandle) {
        self.stored.push((checkpoint, snapshot));
    }

    /// A checkpoint is complete.
    pub fn complete(&mut self, checkpoint: CheckpointId) {
        if let Some(at) = self.stored.iter().position(|(stored, _)| *stored == checkpoint)
            && checkpoint > self.since()
        {
            self.complete = Some(self.stored.swap_remove(at));
        }
        let since = self.since();
        self.stored.retain(|(stored, _)| *stored > since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(bytes: u64) -> Layer {
        Layer::File { name: "x".into(), bytes }
    }

    fn take(lineage: &mut Lineage, checkpoint: CheckpointId, bytes: u64) -> Extent {
        let extent = lineage.extent();
        let mut handle = lineage.below(extent);
        handle.layers.push(layer(bytes));
        lineage.stored(checkpoint, handle);
        lineage.complete(checkpoint);
        extent
    }

    #[test]
    fn a_base_follows_many_layers_or_much_that_has_changed() {
        for index in 0..4 {
            let mut lineage = Lineage::new(index, None);
            let extents: Vec<_> =
                (1..=30).map(|id| take(&mut lineage, id, if id == 1 { 1_000 } else { 10 })).collect();
            assert_eq!((extents[0], extents[1]), (Extent::Base, Extent::Since(1)));
            let next = extents[1..].iter().position(|extent| *extent == Extent::Base).unwrap();
            assert_eq!(next, MOST_LAYERS - index);
            let mut lineage = Lineage::new(index, None);
            take(&mut lineage, 1, 1_000);
            assert_eq!(take(&mut lineage, 2, 600), Extent::Since(1));
            assert_eq!(take(&mut lineage, 3, 600), Extent::Base);
        }
    }

    #[test]
    fn snapshots_build_on_complete_checkpoints_only() {
        let mut lineage = Lineage::new(0, None);
        take(&mut lineage, 1, 1_000);
        lineage.stored(2, lineage.below(lineage.extent()));
        assert_eq!(lineage.extent(), Extent::Since(1));
        lineage.stored(3, lineage.below(lineage.extent()));
        lineage.complete(3);
        lineage.complete(2);
        lineage.complete(9);
        assert_eq!((lineage.since(), lineage.extent()), (3, Extent::Since(3)));
    }
}
