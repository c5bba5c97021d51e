//! Keyed tables: one hash table per key group, so that growing one never stalls the others and a snapshot or a
//! rescale takes whole groups.

use super::changes::{Budget, Extent, History, Incremental, Sections};
use super::codec::{apply_rows, encode_error, write};
use super::panes::Marks;
use super::prefetch::prefetch;
use super::rows::{Cursor, Rows};
use super::spilled::Spilled;
use super::{ColdCursor, Spill, State, StateValue};
use crate::error::{BoxError, Error};
use crate::ids::CheckpointId;
use crate::key::{Key, KeyGroupRange, hash_key};
use crate::snapshot::{GroupRows, RowOp, StateKind, StateSnapshot};
use crate::time::Timestamp;
use std::sync::Arc;

/// How many keys ahead rows are brought into the cache.
const PREFETCH_AHEAD: usize = 16;

/// No table has that many buckets.
const NOT_FOUND: usize = usize::MAX;

/// Smaller tables are in the cache anyway.
const PREFETCH_FROM_BYTES: usize = 256 << 10;

/// Where the rows of the next keys of a batch lie; see [`KeyedTable::get_mut_ahead`].
pub struct LookAhead {
    is_on: bool,
    buckets: [usize; PREFETCH_AHEAD],
}

#[cfg(test)]
impl LookAhead {
    pub(super) fn switched_on() -> Self {
        LookAhead { is_on: true, buckets: [NOT_FOUND; PREFETCH_AHEAD] }
    }
}

/// One value per key. Callers pass the key's [`hash_key`], which they have computed anyway.
pub struct KeyedTable<K, V> {
    pub(super) range: KeyGroupRange,
    pub(super) groups: Vec<Rows<K, V>>,
    /// What has changed, if that is to be known.
    pub(super) changes: Option<Box<Changes>>,
    /// The rows that are outside memory, if they may be.
    pub(super) spilled: Option<Box<Spilled<K>>>,
}

/// What is known of a table's changes beside the bits of its rows.
pub(super) struct Changes {
    /// What rows are written with, in a table that is one of many.
    namespace: Option<Timestamp>,
    pub(super) marks: Marks,
    /// A complete checkpoint: what changed before its barrier is held.
    pub(super) held: CheckpointId,
    /// Keys that were removed, by key group.
    removed: History<Sections>,
    pub(super) draining: Option<Box<Draining>>,
    error: Option<BoxError>,
}

/// A snapshot under way.
pub(super) struct Draining {
    pub(super) extent: Extent,
    /// Groups before this one are done.
    pub(super) group: usize,
    pub(super) cursor: Cursor,
    /// How far it has come with the group's rows that are outside memory, once those in memory are done.
    pub(super) cold: Option<ColdCursor>,
    pub(super) put: Sections,
    pub(super) deleted: Sections,
}

impl Changes {
    pub(super) fn new(namespace: Option<Timestamp>, marks: Marks) -> Box<Self> {
        let removed = History::default();
        Box::new(Changes { namespace, marks, held: 0, removed, draining: None, error: None })
    }

    /// Writes a row that is about to change, if the snapshot under way is still to hold it as it is.
    fn save<K: Key, V: StateValue>(&mut self, rows: &Rows<K, V>, group: usize, at: usize) {
        let Some(draining) = &mut self.draining else { return };
        let is_left = match group.cmp(&draining.group) {
            std::cmp::Ordering::Less => false,
            std::cmp::Ordering::Equal => rows.is_left(at, &draining.cursor, draining.extent),
            std::cmp::Ordering::Greater => rows.is_left(at, &Cursor::default(), draining.extent),
        };
        if is_left && let Some(row) = rows.table.get_bucket(at) {
            let written = draining.put.add(group, |out| write_row(self.namespace, row, out));
            self.error = self.error.take().or(written.err());
        }
    }

    /// A row changes for the first time in the open epoch.
    #[inline(never)]
    fn first_write<K: Key, V: StateValue>(&mut self, rows: &mut Rows<K, V>, group: usize, at: usize) {
        self.save(rows, group, at);
        rows.soil(at);
    }

    fn note_removed<K: Key>(&mut self, group: usize, key: &K) {
        let namespace = self.namespace;
        let noted = self.removed.open.add(group, |out| match namespace {
            Some(namespace) => write(&(namespace, key), out),
            None => write(key, out),
        });
        self.error = self.error.take().or(noted.err());
    }

    pub(super) fn take_drained(&mut self) -> Option<Box<Draining>> {
        self.draining.take()
    }
}

pub(super) fn write_row<K: Key, V: StateValue>(
    namespace: Option<Timestamp>,
    row: &(K, V),
    out: &mut Vec<u8>,
) -> Result<(), BoxError> {
    match namespace {
        Some(namespace) => write(&(namespace, &row.0, &row.1), out),
        None => write(row, out),
    }
}

impl<K: Key, V: StateValue> KeyedTable<K, V> {
    /// An empty table over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        let groups = (0..range.count).map(|_| Rows::default()).collect();
        KeyedTable { range, groups, changes: None, spilled: None }
    }

    /// The same, as one of many, and with rows outside memory if `spill` is given.
    pub(super) fn of_namespace(
        range: KeyGroupRange,
        namespace: Timestamp,
        spill: Option<&Arc<Spill>>,
    ) -> Self {
        let mut table = Self::new(range);
        table.spilled = spill.map(|spill| Spilled::new(Arc::clone(spill), Some(namespace)));
        table
    }

    #[inline]
    pub(super) fn group(&self, hash: u64) -> usize {
        self.range.index_of(hash).expect("a record is sent to the subtask that owns its key group")
    }

    /// The place of a key's row, which is brought into memory if need be.
    #[inline(always)]
    fn place(&mut self, group: usize, hash: u64, key: &K) -> Option<usize> {
        let found = self.groups[group].table.find_bucket_index(hash, |(k, _)| k == key);
        match &self.spilled {
            None => found,
            Some(_) => self.place_or_warm(group, hash, key, found),
        }
    }

    /// Whether rows are all in memory and changes are not noted: what is done then is all that is inlined, since a small
    /// loop lets more trips to memory be under way at once.
    #[inline(always)]
    fn is_plain(&self) -> bool {
        self.changes.is_none() && self.spilled.is_none()
    }

    #[inline(never)]
    fn find_noted(&mut self, group: usize, hash: u64, key: &K) -> Option<&mut V> {
        let at = self.place(group, hash, key)?;
        self.change(group, at)
    }

    #[inline(never)]
    fn find_or_insert_noted(&mut self, group: usize, hash: u64, key: K, init: impl FnOnce() -> V) -> &mut V {
        match self.place(group, hash, &key) {
            Some(at) => self.change(group, at).expect("it was just found"),
            None => self.add(group, hash, (key, init())),
        }
    }

    /// The value at a place that was looked up, to change.
    #[inline(never)]
    fn change_noted(&mut self, group: usize, at: usize) -> Option<&mut V> {
        if let Some(spilled) = &mut self.spilled {
            spilled.lookups += 1;
            self.groups[group].use_place(at);
        }
        self.change(group, at)
    }

    /// The value at a place, to change.
    #[inline(always)]
    fn change(&mut self, group: usize, at: usize) -> Option<&mut V> {
        let rows = &mut self.groups[group];
        if let Some(changes) = &mut self.changes
            && rows.is_clean(at)
        {
            changes.first_write(rows, group, at);
        }
        rows.table.get_bucket_mut(at).map(|(_, value)| value)
    }

    /// Adds a row that is not there.
    #[inline]
    fn add(&mut self, group: usize, hash: u64, row: (K, V)) -> &mut V {
        if self.spilled.is_some() && self.groups[group].is_full() {
            self.make_room(group);
        }
        let rows = &mut self.groups[group];
        let Some(changes) = &mut self.changes else {
            return &mut rows.table.insert_unique(hash, row, |(key, _)| hash_key(key)).into_mut().1;
        };
        let draining = changes.draining.as_mut().filter(|draining| draining.group == group);
        let cursor = draining.map(|draining| (&mut draining.cursor, draining.extent));
        let at = rows.add_noted(hash, row, cursor);
        &mut rows.table.get_bucket_mut(at).expect("it was just added").1
    }

    /// The value of the key at place `at` of a batch whose hashes are `hashes`, to change. In a large table the row of a
    /// key some places further on is found too and brought into the cache: trips to memory made at once cost little
    /// more than one.
    #[inline]
    pub fn get_mut_ahead(
        &mut self,
        ahead: &mut LookAhead,
        hashes: &[u64],
        at: usize,
        key: &K,
    ) -> Option<&mut V> {
        let hash = hashes[at];
        if !ahead.is_on {
            return self.get_mut(hash, key);
        }
        let bucket = std::mem::replace(&mut ahead.buckets[at % PREFETCH_AHEAD], NOT_FOUND);
        if let Some(hash) = hashes.get(at + PREFETCH_AHEAD) {
            let group = &self.groups[self.group(*hash)].table;
            // The first row with the hash's tag: nearly always that of the key, which is compared when it is due.
            if let Some(bucket) = group.find_bucket_index(*hash, |_| true)
                && let Some(row) = group.get_bucket(bucket)
            {
                prefetch(row);
                ahead.buckets[at % PREFETCH_AHEAD] = bucket;
            }
        }
        let group = self.group(hash);
        // Rows may have moved since; then the key found is another.
        if self.groups[group].table.get_bucket(bucket).is_none_or(|(found, _)| found != key) {
            return self.get_mut(hash, key);
        }
        if self.is_plain() {
            return self.groups[group].table.get_bucket_mut(bucket).map(|(_, value)| value);
        }
        self.change_noted(group, bucket)
    }

    /// Makes ready for looking up the keys of one batch: those whose rows are outside memory are brought in together.
    pub fn look_ahead(&mut self, hashes: &[u64], keys: &[K]) -> LookAhead {
        if self.spilled.is_some() {
            self.bring_in(hashes, keys);
        }
        let is_on = self.rows_in_memory() * size_of::<(K, V)>() >= PREFETCH_FROM_BYTES;
        LookAhead { is_on, buckets: [NOT_FOUND; PREFETCH_AHEAD] }
    }

    /// The value of a key, which is brought into memory if need be.
    #[inline]
    pub fn get(&mut self, hash: u64, key: &K) -> Option<&V> {
        if self.spilled.is_none() {
            return self.peek(hash, key);
        }
        let group = self.group(hash);
        let at = self.place(group, hash, key)?;
        self.groups[group].table.get_bucket(at).map(|(_, value)| value)
    }

    /// The value of a key in a table that is in memory.
    #[inline]
    pub(super) fn peek(&self, hash: u64, key: &K) -> Option<&V> {
        self.groups[self.group(hash)].table.find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of a key, to change. It counts as changed, whatever the caller does with it.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let group = self.group(hash);
        if self.is_plain() {
            return self.groups[group].table.find_mut(hash, |(k, _)| k == key).map(|(_, value)| value);
        }
        self.find_noted(group, hash, key)
    }

    /// The value of a key, made by `init` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: K, init: impl FnOnce() -> V) -> &mut V {
        let group = self.group(hash);
        if self.is_plain() {
            let table = &mut self.groups[group].table;
            let entry = table.entry(hash, |(k, _)| *k == key, |(k, _)| hash_key(k));
            return match entry {
                hashbrown::hash_table::Entry::Occupied(entry) => &mut entry.into_mut().1,
                hashbrown::hash_table::Entry::Vacant(entry) => &mut entry.insert((key, init())).into_mut().1,
            };
        }
        self.find_or_insert_noted(group, hash, key, init)
    }

    /// Sets the value of a key and returns the former one.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(hash, &key) {
            return Some(std::mem::replace(old, value));
        }
        let group = self.group(hash);
        self.add(group, hash, (key, value));
        None
    }

    /// Removes a key.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let group = self.group(hash);
        if self.spilled.is_some() {
            self.place(group, hash, key)?;
        }
        let rows = &mut self.groups[group];
        if let Some(changes) = &mut self.changes {
            let at = rows.table.find_bucket_index(hash, |(k, _)| k == key)?;
            changes.save(rows, group, at);
            if !rows.is_fresh(at) {
                changes.note_removed(group, key);
            }
        }
        let entry = rows.table.find_entry(hash, |(k, _)| k == key).ok()?;
        Some(entry.remove().0.1)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.rows_in_memory() + self.spilled.as_ref().map_or(0, |spilled| spilled.rows())
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(|rows| rows.table.is_empty())
            && self.spilled.as_ref().is_none_or(|spilled| spilled.rows() == 0)
    }

    pub(super) fn rows_in_memory(&self) -> usize {
        self.groups.iter().map(|rows| rows.table.len()).sum()
    }

    /// Keys and values in memory, group by group.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.groups.iter().flat_map(|rows| rows.table.iter().map(|(key, value)| (key, value)))
    }

    /// Calls `each` with all keys and values.
    pub fn for_each(&self, mut each: impl FnMut(&K, &V)) {
        self.iter().for_each(|(key, value)| each(key, value));
        if let Some(spilled) = &self.spilled {
            (0..self.groups.len()).for_each(|group| spilled.for_each(group, |key, value| each(&key, &value)));
        }
    }

    /// All keys and values by value, group by group; memory is given back as it goes.
    pub fn into_rows(self) -> impl Iterator<Item = (K, V)> + Send {
        let groups = self.groups.len();
        let cold = self.spilled.into_iter().flat_map(move |spilled| spilled.into_rows(groups));
        self.groups.into_iter().flat_map(|rows| rows.table).chain(cold)
    }

    pub(super) fn changes(&mut self) -> Option<&mut Changes> {
        self.changes.as_deref_mut()
    }

    pub(super) fn note(&mut self, changes: Option<Box<Changes>>) {
        self.changes = changes;
        self.groups.iter_mut().for_each(Rows::forget);
        if let Some(spilled) = &mut self.spilled {
            spilled.forget_changes();
        }
    }

    /// Brings the table into an epoch: what it noted belongs to a closed one, and to the snapshot under way, if any.
    pub(super) fn advance(&mut self, epoch: CheckpointId, extent: Option<Extent>) {
        let Some(changes) = &mut self.changes else { return };
        if changes.marks.epoch == epoch {
            return;
        }
        changes.marks.epoch = epoch;
        if let Some(Extent::Since(held)) = extent {
            changes.held = held;
        }
        let forget = extent.unwrap_or(Extent::Base);
        changes.removed.rotate(epoch, forget, |sections| sections.groups() == 0);
        changes.draining = extent.map(|extent| {
            let (put, deleted) = (Sections::default(), Sections::default());
            Box::new(Draining { extent, group: 0, cursor: Cursor::default(), cold: None, put, deleted })
        });
        for rows in &mut self.groups {
            rows.rotate(epoch, forget);
        }
    }

    /// Writes the next slice of the snapshot under way into its sections. Returns whether that was the last.
    pub(super) fn drain_sections(
        &mut self,
        budget: &mut Budget,
        mut each: impl FnMut(usize, &mut Draining),
    ) -> Result<bool, BoxError> {
        let Some(changes) = &mut self.changes else { return Ok(true) };
        if let Some(error) = changes.error.take() {
            return Err(error);
        }
        let (namespace, epoch) = (changes.namespace, changes.marks.epoch);
        let Some(draining) = &mut changes.draining else { return Ok(true) };
        while let Some(rows) = self.groups.get(draining.group) {
            let group = draining.group;
            if draining.cold.is_none() {
                let Draining { cursor, put, extent, .. } = &mut **draining;
                let is_done = rows.drain(cursor, *extent, budget, |row| {
                    put.add(group, |out| write_row(namespace, row, out))
                });
                if !is_done? {
                    each(group, draining);
                    return Ok(false);
                }
            }
            if let Some(spilled) = &self.spilled
                && !spilled.drain(draining, epoch, budget)
            {
                each(group, draining);
                return Ok(false);
            }
            if draining.extent != Extent::Base {
                for removed in changes.removed.closed() {
                    budget.wrote(draining.deleted.append_group(group, removed));
                }
            }
            each(group, draining);
            draining.group += 1;
            (draining.cursor, draining.cold) = (Cursor::default(), None);
        }
        Ok(true)
    }

    /// Makes room for the rows of a snapshot: tables that grow are copied again and again.
    fn make_room_for(&mut self, snapshot: &StateSnapshot) {
        if self.spilled.is_some() {
            // Not all of them may stay.
            return;
        }
        let mut rows = vec![0usize; self.groups.len()];
        for part in snapshot.groups.iter().filter(|part| part.op == RowOp::Put && part.first == part.last) {
            let place = usize::from(part.first.wrapping_sub(self.range.first));
            if let Some(rows) = rows.get_mut(place) {
                // Each takes a byte at least, whatever is said of their number.
                *rows += (part.rows as usize).min(part.bytes.len());
            }
        }
        for (group, rows) in self.groups.iter_mut().zip(rows) {
            group.table.reserve(rows, |(key, _)| hash_key(key));
        }
    }

    /// Forgets the rows of key groups.
    pub(super) fn clear_groups(&mut self, first: u16, last: u16) {
        for group in first.max(self.range.first)..=last {
            let Some(rows) = self.groups.get_mut(usize::from(group - self.range.first)) else { break };
            rows.table.clear();
        }
        if let Some(spilled) = &mut self.spilled {
            let at = |group: u16| group.saturating_sub(self.range.first);
            spilled.clear(at(first)..=at(last));
        }
    }
}

impl<K: Key, V: StateValue> State for KeyedTable<K, V> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        self.make_room_for(from);
        apply_rows(
            from,
            self,
            |table, (key, value): (K, V)| drop(table.insert(hash_key(&key), key, value)),
            |table, key: K| drop(table.remove(hash_key(&key), &key)),
            |table, (), groups| table.clear_groups(groups.0, groups.1),
        )
    }

    fn incremental(&mut self) -> Option<&mut dyn Incremental> {
        Some(self)
    }

    fn spill(&mut self, spill: &Arc<Spill>) {
        spill.hold();
        self.spilled = Some(Spilled::new(Arc::clone(spill), None));
    }

    fn memory(&mut self) -> usize {
        self.account()
    }

    fn move_out(&mut self, most: usize) -> usize {
        self.move_out_of_memory(most)
    }
}

impl<K: Key, V: StateValue> Incremental for KeyedTable<K, V> {
    fn track(&mut self, checkpoint: CheckpointId) {
        self.note(Some(Changes::new(None, Marks::new(checkpoint))));
    }

    fn untrack(&mut self) {
        self.note(None);
    }

    fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent) {
        self.advance(checkpoint, Some(extent));
    }

    fn drain(&mut self, name: &str, budget: &mut Budget, out: &mut Vec<GroupRows>) -> Result<bool, Error> {
        let first = self.range.first;
        let mut is_done = false;
        let drained = self.drain_sections(budget, |group, draining| {
            draining.put.take_if_large(group, first, RowOp::Put, out);
            draining.deleted.take_if_large(group, first, RowOp::Delete, out);
        });
        if drained.map_err(|source| encode_error(name, source))? {
            is_done = true;
            if let Some(mut draining) = self.changes().and_then(Changes::take_drained) {
                draining.deleted.take_all(first, RowOp::Delete, out);
                draining.put.take_all(first, RowOp::Put, out);
            }
        } else if let Some(draining) = self.changes().and_then(|changes| changes.draining.as_mut()) {
            draining.put.take_large(first, RowOp::Put, out);
        }
        Ok(is_done)
    }

    fn abandon(&mut self) {
        if let Some(changes) = self.changes() {
            changes.take_drained();
        }
    }
}
