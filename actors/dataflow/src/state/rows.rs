//! A hash table that knows which of its rows have changed since which barrier.
//!
//! A bit for each place of the table says whether its row was written in the open epoch, another whether it came into
//! being in it. A barrier puts the bits aside and begins with none. So a row takes a quarter of a byte more while
//! changes are noted, and none while they are not.

use super::bits::Bits;
use super::changes::{Budget, Extent, History};
use crate::ids::CheckpointId;
use crate::key::{Key, hash_key};
use hashbrown::HashTable;

/// Rows, and which of them have changed.
pub(super) struct Rows<K, V> {
    pub(super) table: HashTable<(K, V)>,
    /// Places written in the open epoch.
    dirty: Bits,
    /// Places looked up since they were last passed over in the search for rows that may leave memory.
    used: Bits,
    past: Option<Box<Past>>,
}

#[derive(Default)]
struct Past {
    /// Places whose row came into being in the open epoch.
    fresh: Bits,
    /// Places written in closed epochs that no complete checkpoint holds.
    written: History<Bits>,
}

/// How far the snapshot under way has come with one table of rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Cursor {
    /// Places before this one are done.
    next: usize,
    /// The places that are left, if the table has grown meanwhile.
    left: Option<Bits>,
}

impl<K, V> Default for Rows<K, V> {
    fn default() -> Self {
        Rows { table: HashTable::new(), dirty: Bits::default(), used: Bits::default(), past: None }
    }
}

impl<K: Key, V> Rows<K, V> {
    /// Whether a row is not yet known to have changed.
    #[inline(always)]
    pub(super) fn is_clean(&self, at: usize) -> bool {
        !self.dirty.has(at)
    }

    pub(super) fn soil(&mut self, at: usize) {
        self.dirty.add(at, self.table.num_buckets());
    }

    /// Whether a row came into being in the open epoch.
    pub(super) fn is_fresh(&self, at: usize) -> bool {
        self.past.as_ref().is_some_and(|past| past.fresh.has(at))
    }

    /// Adds a row that is not there, and notes that it came into being in the open epoch.
    pub(super) fn add_noted(
        &mut self,
        hash: u64,
        row: (K, V),
        cursor: Option<(&mut Cursor, Extent)>,
    ) -> usize {
        if self.is_full() {
            self.rebuild(self.table.len() * 2, cursor);
        }
        let at = self.table.insert_unique(hash, row, |(key, _)| hash_key(key)).bucket_index();
        let places = self.table.num_buckets();
        self.dirty.add(at, places);
        self.past.get_or_insert_default().fresh.add(at, places);
        at
    }

    /// Whether a row can be added only once the table is rebuilt.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.table.len() == self.table.capacity()
    }

    /// Moves the rows to a table for so many, and what is known of them with them: a larger one, or a smaller, or one
    /// without holes.
    pub(super) fn rebuild(&mut self, capacity: usize, cursor: Option<(&mut Cursor, Extent)>) {
        let capacity = capacity.max(self.table.len());
        let mut larger = HashTable::with_capacity(if capacity == 0 { 0 } else { capacity.max(3) });
        let places = larger.num_buckets();
        let (mut dirty, mut used, mut past) = (Bits::default(), Bits::default(), Past::default());
        let closed = self.past.as_ref().map_or(0, |past| past.written.closed().count());
        let mut written = vec![Bits::default(); closed];
        let mut left = Bits::default();
        for at in 0..self.table.num_buckets() {
            let is_left = cursor.as_ref().is_some_and(|(cursor, extent)| self.is_left(at, cursor, *extent));
            let Ok(entry) = self.table.get_bucket_entry(at) else { continue };
            let row = entry.remove().0;
            let to = larger.insert_unique(hash_key(&row.0), row, |(key, _)| hash_key(key)).bucket_index();
            if self.dirty.has(at) {
                dirty.add(to, places);
            }
            if self.used.has(at) {
                used.add(to, places);
            }
            if is_left {
                left.add(to, places);
            }
            let Some(old) = &self.past else { continue };
            if old.fresh.has(at) {
                past.fresh.add(to, places);
            }
            for (old, new) in old.written.closed().zip(&mut written) {
                if old.has(at) {
                    new.add(to, places);
                }
            }
        }
        if let Some(old) = &mut self.past {
            old.fresh = past.fresh;
            for (old, new) in old.written.closed_mut().zip(written) {
                *old = new;
            }
        }
        (self.table, self.dirty, self.used) = (larger, dirty, used);
        if let Some((cursor, _)) = cursor {
            *cursor = Cursor { next: 0, left: Some(left) };
        }
    }

    /// Notes that a row was looked up.
    #[inline]
    pub(super) fn use_place(&mut self, at: usize) {
        self.used.add(at, self.table.num_buckets());
    }

    /// Takes up to `most` rows out that were not looked up lately, from `hand` on round the table; where there are not
    /// enough, others. With each comes when it was changed last.
    pub(super) fn take_idle(
        &mut self,
        hand: &mut usize,
        most: usize,
        epoch: Option<CheckpointId>,
    ) -> Vec<((K, V), u64)> {
        let places = self.table.num_buckets();
        let mut idle = Vec::with_capacity(most.min(self.table.len()));
        // Once round to pass over what was looked up, once more to take it.
        for _ in 0..2 * places {
            if idle.len() >= most || self.table.is_empty() {
                break;
            }
            let at = *hand % places;
            *hand = at + 1;
            if self.used.has(at) {
                self.used.remove(at);
                continue;
            }
            let changed = epoch.map_or(0, |epoch| self.changed_in(at, epoch));
            if let Ok(entry) = self.table.get_bucket_entry(at) {
                idle.push((entry.remove().0, changed));
            }
        }
        idle
    }

    /// When a row was changed last: a number that is greater than that of each checkpoint that holds it as it is, and not
    /// greater than that of the next whose barrier comes; 0 if it is in all that are complete.
    fn changed_in(&self, at: usize, epoch: CheckpointId) -> u64 {
        if self.dirty.has(at) {
            return epoch.saturating_add(1);
        }
        let newest = self.past.as_ref().and_then(|past| past.written.newest(|bits| bits.has(at)));
        newest.unwrap_or(0)
    }

    /// Adds a row that is not there, but is not new either. The table must have room.
    pub(super) fn admit(&mut self, hash: u64, row: (K, V), is_dirty: bool) -> usize {
        let at = self.table.insert_unique(hash, row, |(key, _)| hash_key(key)).bucket_index();
        // What is known of the place is of a row that was there before.
        self.dirty.remove(at);
        if is_dirty {
            self.soil(at);
        }
        if let Some(past) = &mut self.past {
            past.fresh.remove(at);
        }
        at
    }

    /// Closes the open epoch.
    pub(super) fn rotate(&mut self, checkpoint: CheckpointId, extent: Extent) {
        if self.past.is_none() && self.dirty.is_empty() {
            return;
        }
        let past = self.past.get_or_insert_default();
        past.fresh = Bits::default();
        past.written.open = std::mem::take(&mut self.dirty);
        past.written.rotate(checkpoint, extent, Bits::is_empty);
    }

    /// Forgets what has changed.
    pub(super) fn forget(&mut self) {
        self.dirty = Bits::default();
        self.past = None;
    }

    /// Whether the snapshot under way still has to write a row.
    pub(super) fn is_left(&self, at: usize, cursor: &Cursor, extent: Extent) -> bool {
        at >= cursor.next && self.left_word(at / 64, cursor, extent) >> (at % 64) & 1 != 0
    }

    /// The same for 64 rows, of which some may be before the cursor.
    fn left_word(&self, index: usize, cursor: &Cursor, extent: Extent) -> u64 {
        let word = match (&cursor.left, extent) {
            (Some(left), _) => left.word(index),
            (None, Extent::Base) => u64::MAX,
            (None, Extent::Since(_)) => {
                let closed = self.past.iter().flat_map(|past| past.written.closed());
                closed.fold(0, |word, bits| word | bits.word(index))
            }
        };
        // What was written since the barrier was handed out before, or came into being after it.
        word & !self.dirty.word(index)
    }

    /// Hands rows of the snapshot under way to `write`, which returns their bytes. Returns whether that was all.
    pub(super) fn drain<E>(
        &self,
        cursor: &mut Cursor,
        extent: Extent,
        budget: &mut Budget,
        mut write: impl FnMut(&(K, V)) -> Result<usize, E>,
    ) -> Result<bool, E> {
        let is_unchanged = matches!(extent, Extent::Since(_))
            && cursor.left.is_none()
            && self.past.as_ref().is_none_or(|past| past.written.closed().next().is_none());
        if is_unchanged || self.table.is_empty() {
            return Ok(true);
        }
        while cursor.next < self.table.num_buckets() {
            if budget.is_spent() {
                return Ok(false);
            }
            let index = cursor.next / 64;
            let mut word = self.left_word(index, cursor, extent) & u64::MAX << (cursor.next % 64);
            budget.looked_at_64();
            while word != 0 {
                let at = index * 64 + word.trailing_zeros() as usize;
                if let Some(row) = self.table.get_bucket(at) {
                    if budget.is_spent() {
                        cursor.next = at;
                        return Ok(false);
                    }
                    budget.wrote(write(row)?);
                }
                word &= word - 1;
            }
            cursor.next = (index + 1) * 64;
        }
        Ok(true)
    }
}
