//! Parts of a state by time: windows' panes, timers that are due together. A part is taken or dropped whole, and that is
//! one entry of a snapshot.

use super::changes::{Budget, Extent, History, Sections};
use super::codec::{encode_error, write};
use crate::error::{BoxError, Error};
use crate::ids::CheckpointId;
use crate::key::KeyGroupRange;
use crate::snapshot::{GroupRows, RowOp};
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Epochs of one part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// The epoch its bits belong to.
    pub(super) epoch: CheckpointId,
    /// The one in which it came into being.
    pub(super) born: CheckpointId,
    /// The one in which it was last touched.
    pub(super) touched: CheckpointId,
}

impl Marks {
    pub(super) fn new(epoch: CheckpointId) -> Self {
        Marks { epoch, born: epoch, touched: CheckpointId::MAX }
    }
}

/// A part of a state.
pub(super) trait Pane {
    /// Begins to take note of changes, or stops.
    fn note_changes(&mut self, time: Timestamp, marks: Option<Marks>);

    /// Its epochs, if changes are noted.
    fn marks(&mut self) -> Option<&mut Marks>;

    /// Brings it into an epoch: what it noted belongs to a closed one, and to the snapshot under way, if any.
    fn advance_to(&mut self, epoch: CheckpointId, extent: Option<Extent>);

    /// Writes what the snapshot under way still has to hold of it.
    fn drain(&mut self, time: Timestamp, budget: &mut Budget, into: &mut Drained) -> Result<bool, BoxError>;

    /// Gives up the snapshot under way.
    fn abandon(&mut self);
}

/// What a slice of a snapshot has given.
#[derive(Default)]
pub(super) struct Drained {
    pub(super) put: Sections,
    pub(super) deleted: Sections,
}

/// A state's parts by time.
pub(super) struct Panes<T> {
    range: KeyGroupRange,
    map: BTreeMap<Timestamp, T>,
    pub(super) changes: Option<Box<Changes>>,
}

/// What has changed, beside the parts' own marks.
pub(super) struct Changes {
    epoch: CheckpointId,
    touched: History<Vec<Timestamp>>,
    dropped: History<Vec<Timestamp>>,
    /// Keys that were removed, for parts that do not note it themselves.
    pub(super) removed: History<Sections>,
    draining: Option<Draining>,
    error: Option<BoxError>,
}

/// A snapshot under way.
struct Draining {
    extent: Extent,
    /// Parts from this time on are left.
    next: Timestamp,
    /// Of them, the ones that have changed, last first; not known before the first slice, nor for a base.
    changed: Option<Vec<Timestamp>>,
    drained: Drained,
}

impl<T: Pane> Panes<T> {
    pub(super) fn new(range: KeyGroupRange) -> Self {
        Panes { range, map: BTreeMap::new(), changes: None }
    }

    pub(super) fn map(&self) -> &BTreeMap<Timestamp, T> {
        &self.map
    }

    /// The parts, to do what changes none of them.
    pub(super) fn map_mut(&mut self) -> &mut BTreeMap<Timestamp, T> {
        &mut self.map
    }

    /// A part, to change; made if there is none.
    pub(super) fn touch(&mut self, time: Timestamp, make: impl FnOnce() -> T) -> &mut T {
        let Some(changes) = &mut self.changes else { return self.map.entry(time).or_insert_with(make) };
        let part = self.map.entry(time).or_insert_with(|| {
            let mut part = make();
            part.note_changes(time, Some(Marks::new(changes.epoch)));
            part
        });
        changes.touch(time, part);
        part
    }

    /// A part, to change, if there is one.
    pub(super) fn touch_if_there(&mut self, time: Timestamp) -> Option<&mut T> {
        let part = self.map.get_mut(&time)?;
        if let Some(changes) = &mut self.changes {
            changes.touch(time, part);
        }
        Some(part)
    }

    /// Writes what the snapshot under way still needs of a part. Returns whether that was all.
    pub(super) fn settle(&mut self, time: Timestamp, budget: &mut Budget) -> bool {
        match (&mut self.changes, self.map.get_mut(&time)) {
            (Some(changes), Some(part)) => changes.settle(time, part, budget),
            _ => true,
        }
    }

    /// Takes a part away.
    pub(super) fn take(&mut self, time: Timestamp) -> Option<T> {
        let mut part = self.map.remove(&time)?;
        if let Some(changes) = &mut self.changes {
            changes.settle(time, &mut part, &mut Budget::unlimited());
            // What no snapshot holds need not be dropped from one.
            if part.marks().is_none_or(|marks| marks.born != changes.epoch) {
                changes.dropped.open.push(time);
            }
            part.note_changes(time, None);
        }
        Some(part)
    }

    /// Forgets a part.
    pub(super) fn forget(&mut self, time: Timestamp) {
        self.map.remove(&time);
    }

    pub(super) fn range(&self) -> KeyGroupRange {
        self.range
    }

    pub(super) fn track(&mut self, checkpoint: CheckpointId) {
        for (time, part) in &mut self.map {
            part.note_changes(*time, Some(Marks::new(checkpoint)));
            if let Some(marks) = part.marks() {
                // Not of this epoch: the checkpoint holds it.
                marks.born = 0;
            }
        }
        self.changes = Some(Box::new(Changes {
            epoch: checkpoint,
            touched: History::default(),
            dropped: History::default(),
            removed: History::default(),
            draining: None,
            error: None,
        }));
    }

    pub(super) fn untrack(&mut self) {
        self.changes = None;
        for (time, part) in &mut self.map {
            part.note_changes(*time, None);
        }
    }

    pub(super) fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent) {
        let Some(changes) = &mut self.changes else { return };
        changes.epoch = checkpoint;
        changes.touched.rotate(checkpoint, extent, Vec::is_empty);
        changes.dropped.rotate(checkpoint, extent, Vec::is_empty);
        changes.removed.rotate(checkpoint, extent, |sections| sections.groups() == 0);
        let (drained, next) = (Drained::default(), Timestamp::MIN);
        changes.draining = Some(Draining { extent, next, changed: None, drained });
    }

    pub(super) fn drain(
        &mut self,
        name: &str,
        budget: &mut Budget,
        out: &mut Vec<GroupRows>,
    ) -> Result<bool, Error> {
        let failed = |source| encode_error(name, source);
        let first = self.range.first;
        let Some(changes) = &mut self.changes else { return Ok(true) };
        if let Some(error) = changes.error.take() {
            return Err(failed(error));
        }
        changes.begin(self.range, out).map_err(failed)?;
        loop {
            let Some(draining) = &mut changes.draining else { return Ok(true) };
            let (next, left) = (draining.next, draining.changed.as_ref());
            let found = match (draining.extent, left) {
                (Extent::Since(_), Some(left)) => left.last().copied(),
                _ => self.map.range(next..).next().map(|(time, _)| *time),
            };
            let Some(time) = found else { break };
            if let Some(part) = self.map.get_mut(&time) {
                part.advance_to(changes.epoch, Some(draining.extent));
                let is_done = part.drain(time, budget, &mut draining.drained).map_err(failed)?;
                draining.drained.put.take_large(first, RowOp::Put, out);
                draining.drained.deleted.take_large(first, RowOp::Delete, out);
                if !is_done {
                    return Ok(false);
                }
            }
            if let Some(left) = &mut draining.changed {
                left.pop();
            }
            match time.checked_add(1) {
                Some(next) => draining.next = next,
                None => break,
            }
        }
        if let Some(mut draining) = changes.draining.take() {
            draining.drained.deleted.take_all(first, RowOp::Delete, out);
            draining.drained.put.take_all(first, RowOp::Put, out);
        }
        Ok(true)
    }

    pub(super) fn abandon(&mut self) {
        let Some(changes) = &mut self.changes else { return };
        if changes.draining.take().is_some() {
            self.map.values_mut().for_each(Pane::abandon);
        }
    }
}

impl Changes {
    pub(super) fn touch(&mut self, time: Timestamp, part: &mut impl Pane) {
        let is_touched = part.marks().is_none_or(|marks| marks.touched == self.epoch);
        if is_touched {
            return;
        }
        part.advance_to(self.epoch, self.draining.as_ref().map(|draining| draining.extent));
        if let Some(marks) = part.marks() {
            marks.touched = self.epoch;
        }
        self.touched.open.push(time);
    }

    fn settle(&mut self, time: Timestamp, part: &mut impl Pane, budget: &mut Budget) -> bool {
        let Some(draining) = &mut self.draining else { return true };
        part.advance_to(self.epoch, Some(draining.extent));
        part.drain(time, budget, &mut draining.drained).unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            true
        })
    }

    /// Where rows go that the snapshot under way must hold although they change, with its extent.
    pub(super) fn saved(&mut self) -> Option<(&mut Sections, &mut Option<BoxError>, Extent)> {
        let draining = self.draining.as_mut()?;
        Some((&mut draining.drained.put, &mut self.error, draining.extent))
    }

    pub(super) fn fail(&mut self, error: BoxError) {
        self.error.get_or_insert(error);
    }

    /// Before the first slice: what was dropped and removed, and a list of what has changed.
    fn begin(&mut self, range: KeyGroupRange, out: &mut Vec<GroupRows>) -> Result<(), BoxError> {
        let Some(draining) = &mut self.draining else { return Ok(()) };
        if draining.extent == Extent::Base || draining.changed.is_some() {
            return Ok(());
        }
        let mut changed: Vec<Timestamp> = self.touched.closed().flatten().copied().collect();
        changed.sort_unstable_by(|a, b| b.cmp(a));
        changed.dedup();
        draining.changed = Some(changed);
        let mut dropped: Vec<Timestamp> = self.dropped.closed().flatten().copied().collect();
        dropped.sort_unstable();
        dropped.dedup();
        let mut bytes = Vec::new();
        for time in &dropped {
            write(time, &mut bytes)?;
        }
        if !dropped.is_empty() && range.count > 0 {
            let last = range.first + (range.count - 1);
            let mut rows = GroupRows::new(RowOp::Drop, range.first, dropped.len() as u32, bytes);
            rows.last = last;
            out.push(rows);
        }
        for removed in self.removed.closed() {
            for group in 0..removed.groups() {
                draining.drained.deleted.append_group(group, removed);
            }
        }
        Ok(())
    }
}
