//! What has changed since which barrier, and what of it a snapshot under way still has to write.
//!
//! The barriers of checkpoints cut a state's life into epochs; an epoch bears the number of the checkpoint whose barrier
//! opened it. What changed in an epoch stays known until a checkpoint is complete whose barrier came after it, so that
//! what a failed checkpoint would have held is in the next.

use crate::error::{BoxError, Error};
use crate::ids::CheckpointId;
use crate::snapshot::{GroupRows, RowOp};
use std::mem;

/// Sections of a snapshot are handed on when they have grown to this.
const SECTION_BYTES: usize = 128 << 10;

/// What a row that is written counts for in a [`Budget`], and 64 that are looked at.
const ROW: usize = 16;

/// What a snapshot holds of the states that know what has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// Everything.
    Base,
    /// What has changed since the barrier of a checkpoint that is complete.
    Since(CheckpointId),
}

/// How much one slice of a snapshot may be.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: usize,
    bytes: usize,
}

impl Budget {
    /// About so many rows, and so many bytes.
    pub fn new(rows: usize, bytes: usize) -> Self {
        Budget { left: rows.saturating_mul(ROW), bytes }
    }

    /// As much as there is.
    pub fn unlimited() -> Self {
        Budget { left: usize::MAX, bytes: usize::MAX }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0 || self.bytes == 0
    }

    pub(super) fn looked_at_64(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(ROW);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// A state that knows what has changed, so that a snapshot of it need not hold everything and is written bit by bit
/// while the state goes on changing.
pub trait Incremental {
    /// Begins to take note of changes: all there is now counts as held by the checkpoint with this number.
    fn track(&mut self, checkpoint: CheckpointId);

    /// Stops taking note.
    fn untrack(&mut self);

    /// Opens the epoch of a checkpoint's barrier. What the snapshot holds is written by [`drain`](Incremental::drain)
    /// as it is now, however it changes meanwhile. Takes time for each key group, none for rows.
    fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent);

    /// Writes the next slice of the snapshot. Returns whether that was the last.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    fn drain(&mut self, name: &str, budget: &mut Budget, out: &mut Vec<GroupRows>) -> Result<bool, Error>;

    /// Gives up the snapshot under way; what it would have held is held by the next.
    fn abandon(&mut self);
}

/// Rows as bytes.
#[derive(Default, Clone)]
pub(super) struct Section {
    pub(super) rows: u32,
    pub(super) bytes: Vec<u8>,
}

/// Rows as bytes by key group, by place in the range.
#[derive(Default)]
pub(super) struct Sections(Vec<Section>);

impl Sections {
    pub(super) fn of(&mut self, group: usize) -> &mut Section {
        if self.0.len() <= group {
            self.0.resize(group + 1, Section::default());
        }
        &mut self.0[group]
    }

    /// Adds a row that `write` writes.
    #[inline]
    pub(super) fn add(
        &mut self,
        group: usize,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), BoxError>,
    ) -> Result<usize, BoxError> {
        let section = self.of(group);
        let before = section.bytes.len();
        write(&mut section.bytes)?;
        section.rows += 1;
        Ok(section.bytes.len() - before)
    }

    /// Adds a row that is bytes already.
    pub(super) fn add_bytes(&mut self, group: usize, bytes: &[u8]) {
        let section = self.of(group);
        section.bytes.extend_from_slice(bytes);
        section.rows += 1;
    }

    fn take(&mut self, group: usize, first: u16, op: RowOp, least: usize, out: &mut Vec<GroupRows>) {
        let Some(section) = self.0.get_mut(group) else { return };
        if section.rows > 0 && section.bytes.len() >= least {
            let Section { rows, bytes } = mem::take(section);
            out.push(GroupRows::new(op, first + group as u16, rows, bytes));
        }
    }

    /// Hands a group's section on if it is large.
    pub(super) fn take_if_large(&mut self, group: usize, first: u16, op: RowOp, out: &mut Vec<GroupRows>) {
        self.take(group, first, op, SECTION_BYTES, out);
    }

    /// Hands on all that is large.
    pub(super) fn take_large(&mut self, first: u16, op: RowOp, out: &mut Vec<GroupRows>) {
        for group in 0..self.0.len() {
            self.take(group, first, op, SECTION_BYTES, out);
        }
    }

    /// Hands on all there is.
    pub(super) fn take_all(&mut self, first: u16, op: RowOp, out: &mut Vec<GroupRows>) {
        for group in 0..self.0.len() {
            self.take(group, first, op, 0, out);
        }
    }

    /// Adds all of another.
    pub(super) fn append(&mut self, other: Sections) {
        for (group, section) in other.0.into_iter().enumerate().filter(|(_, section)| section.rows > 0) {
            let own = self.of(group);
            own.rows += section.rows;
            if own.bytes.is_empty() {
                own.bytes = section.bytes;
            } else {
                own.bytes.extend_from_slice(&section.bytes);
            }
        }
    }

    /// Adds a copy of one group of another.
    pub(super) fn append_group(&mut self, group: usize, other: &Sections) -> usize {
        let Some(section) = other.0.get(group).filter(|section| section.rows > 0) else { return 0 };
        let own = self.of(group);
        own.rows += section.rows;
        own.bytes.extend_from_slice(&section.bytes);
        section.bytes.len()
    }

    pub(super) fn groups(&self) -> usize {
        self.0.len()
    }
}

/// What was noted in the open epoch, and in closed ones that are not held by a complete checkpoint.
pub(super) struct History<T> {
    pub(super) open: T,
    /// By the checkpoint whose barrier closed the epoch; oldest first.
    closed: Vec<(CheckpointId, T)>,
}

impl<T: Default> Default for History<T> {
    fn default() -> Self {
        History { open: T::default(), closed: Vec::new() }
    }
}

impl<T: Default> History<T> {
    /// Closes the open epoch and forgets what is held by the checkpoint `since`.
    pub(super) fn rotate(&mut self, checkpoint: CheckpointId, extent: Extent, is_empty: impl Fn(&T) -> bool) {
        if let Extent::Since(held) = extent {
            self.closed.retain(|(closed_by, _)| *closed_by > held);
        }
        let open = mem::take(&mut self.open);
        if !is_empty(&open) {
            self.closed.push((checkpoint, open));
        }
    }

    pub(super) fn closed(&self) -> impl Iterator<Item = &T> {
        self.closed.iter().map(|(_, noted)| noted)
    }

    /// The newest of the closed epochs that fits, by the checkpoint whose barrier closed it.
    pub(super) fn newest(&self, fits: impl Fn(&T) -> bool) -> Option<CheckpointId> {
        self.closed.iter().rev().find(|(_, noted)| fits(noted)).map(|(closed_by, _)| *closed_by)
    }

    pub(super) fn closed_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.closed.iter_mut().map(|(_, noted)| noted)
    }
}
