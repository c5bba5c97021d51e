//! Rows of a table that memory has no room for: which leave it, how they come back, and what a snapshot takes of them.
//!
//! Rows leave in portions, those first that were not looked up lately. A key that is not in memory is looked for in the
//! store. What a snapshot under way needs of a row that comes back is written at once, as it lay in the store; what it
//! needs of the others is copied from there.

use super::codec::write;
use super::table::{Changes, Draining, write_row};
use super::{Budget, ColdCursor, ColdRow, ColdTable, Extent, KeyedTable, Spill, StateValue};
use crate::error::BoxError;
use crate::ids::CheckpointId;
use crate::key::{Key, hash_key};
use crate::time::Timestamp;
use hashbrown::HashTable;
use std::cmp::Ordering;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Rows that are looked at together in the store.
const CHUNK: usize = if cfg!(test) { 3 } else { 256 };

/// A key group's table of fewer rows grows even where memory has no room: others then have to shrink.
const LEAST_ROWS: usize = if cfg!(test) { 4 } else { 256 };

/// Keys of a table that are known to be nowhere, at most.
const MOST_ABSENT: usize = if cfg!(test) { 5 } else { 4_096 };

/// Bytes of memory for each byte of a row with memory of its own, as the row is serialised: a guess.
const HEAP_PER_BYTE: f64 = 1.5;

/// What a table knows of its rows outside memory.
pub(super) struct Spilled<K> {
    spill: Arc<Spill>,
    namespace: Option<Timestamp>,
    cold: Option<Box<dyn ColdTable>>,
    /// Rows outside memory, by key group; empty while there was none.
    in_group: Vec<u32>,
    rows: u64,
    bytes: u64,
    /// Rows outside memory that have changed at a known time.
    changed: u64,
    /// Keys that were looked for in vain since rows last left memory.
    absent: HashTable<K>,
    /// By key group, where the search for idle rows goes on.
    hands: Vec<usize>,
    next_group: usize,
    /// Bytes of memory that the spill has been told of.
    accounted: usize,
    /// Bytes of memory that a row has beside its place in the table, on average.
    heap: f64,
    sampled: usize,
    pub(super) lookups: u64,
    misses: u64,
}

impl<K: Key> Spilled<K> {
    pub(super) fn new(spill: Arc<Spill>, namespace: Option<Timestamp>) -> Box<Self> {
        Box::new(Spilled {
            spill,
            namespace,
            cold: None,
            in_group: Vec::new(),
            rows: 0,
            bytes: 0,
            changed: 0,
            absent: HashTable::new(),
            hands: Vec::new(),
            next_group: 0,
            accounted: 0,
            heap: 0.0,
            sampled: 0,
            lookups: 0,
            misses: 0,
        })
    }

    /// Rows outside memory.
    pub(super) fn rows(&self) -> usize {
        self.rows as usize
    }

    fn is_in_memory(&self, group: usize) -> bool {
        self.in_group.get(group).is_none_or(|rows| *rows == 0)
    }

    fn count(&mut self, row: &ColdRow, groups: usize, comes: bool) {
        if self.in_group.is_empty() {
            self.in_group.resize(groups, 0);
        }
        let (bytes, is_changed) = ((row.key.len() + row.row.len()) as u64, u64::from(row.changed > 0));
        let in_group = &mut self.in_group[usize::from(row.group)];
        if comes {
            *in_group += 1;
            self.rows += 1;
            self.bytes += bytes;
            self.changed += is_changed;
            self.spill.cold_rows.fetch_add(1, Relaxed);
            self.spill.cold_bytes.fetch_add(bytes, Relaxed);
            self.spill.written_bytes.fetch_add(bytes, Relaxed);
        } else {
            *in_group -= 1;
            self.rows -= 1;
            self.bytes -= bytes;
            self.changed -= is_changed;
            self.spill.cold_rows.fetch_sub(1, Relaxed);
            self.spill.cold_bytes.fetch_sub(bytes, Relaxed);
            self.spill.read_bytes.fetch_add(bytes, Relaxed);
        }
    }

    fn put(&mut self, rows: &[ColdRow], groups: usize) -> Result<(), BoxError> {
        let cold = match &mut self.cold {
            Some(cold) => cold,
            None => self.cold.insert(self.spill.table()?),
        };
        cold.put(rows)?;
        rows.iter().for_each(|row| self.count(row, groups, true));
        self.absent.clear();
        Ok(())
    }

    /// Takes rows out of the store; fewer if it fails.
    fn take(&mut self, keys: &[(u16, Vec<u8>)]) -> Vec<ColdRow> {
        let mut rows = Vec::new();
        self.misses += keys.len() as u64;
        if let Some(cold) = &mut self.cold {
            if let Err(error) = cold.take(keys, &mut rows) {
                self.spill.fail(error);
            }
            rows.iter().for_each(|row| self.count(row, 0, false));
        }
        rows
    }

    fn is_absent(&self, hash: u64, key: &K) -> bool {
        self.absent.find(hash, |absent| absent == key).is_some()
    }

    fn note_absent(&mut self, hash: u64, key: &K) {
        if self.absent.len() >= MOST_ABSENT {
            self.absent.clear();
        }
        self.absent.insert_unique(hash, key.clone(), hash_key);
    }

    /// Writes the next slice of a group's rows for the snapshot under way. Returns whether that was the last.
    pub(super) fn drain(&self, draining: &mut Draining, epoch: CheckpointId, budget: &mut Budget) -> bool {
        let group = draining.group;
        let since = match draining.extent {
            Extent::Base => 0,
            Extent::Since(held) => held.saturating_add(1),
        };
        let Some(cold) = self.cold.as_ref().filter(|_| !self.is_in_memory(group)) else { return true };
        if since > 0 && self.changed == 0 {
            return true;
        }
        let mut rows = Vec::new();
        loop {
            if budget.is_spent() {
                return false;
            }
            rows.clear();
            let after = draining.cold.get_or_insert_default();
            let is_base = since == 0;
            if let Err(error) = cold.scan(group as u16, Some(after), since..=epoch, is_base, CHUNK, &mut rows)
            {
                self.spill.fail(error);
                return true;
            }
            for row in &rows {
                draining.put.add_bytes(group, &row.row);
                budget.wrote(row.row.len());
            }
            if let Some(last) = rows.pop() {
                draining.cold =
                    Some(ColdCursor { changed: if is_base { 0 } else { last.changed }, key: last.key });
            }
            if rows.len() + 1 < CHUNK {
                return true;
            }
        }
    }

    fn decode<V: StateValue>(&self, row: &[u8]) -> Result<(K, V), BoxError> {
        Ok(match self.namespace {
            Some(_) => {
                let (_, key, value): (Timestamp, K, V) = rmp_serde::from_slice(row)?;
                (key, value)
            }
            None => rmp_serde::from_slice(row)?,
        })
    }

    /// Up to [`CHUNK`] rows of a group after a cursor.
    fn chunk(&self, group: usize, after: &mut ColdCursor) -> Vec<ColdRow> {
        let mut rows = Vec::new();
        let Some(cold) = self.cold.as_ref().filter(|_| !self.is_in_memory(group)) else { return rows };
        if let Err(error) = cold.scan(group as u16, Some(after), 0..=u64::MAX, true, CHUNK, &mut rows) {
            self.spill.fail(error);
        }
        if let Some(last) = rows.last() {
            after.key.clone_from(&last.key);
        }
        rows
    }

    pub(super) fn for_each<V: StateValue>(&self, group: usize, mut each: impl FnMut(K, V)) {
        let mut after = ColdCursor::default();
        loop {
            let rows = self.chunk(group, &mut after);
            for row in &rows {
                match self.decode(&row.row) {
                    Ok((key, value)) => each(key, value),
                    Err(error) => self.spill.fail(error),
                }
            }
            if rows.len() < CHUNK {
                return;
            }
        }
    }

    /// All rows outside memory; they are given up with the iterator.
    pub(super) fn into_rows<V: StateValue>(
        self: Box<Self>,
        groups: usize,
    ) -> impl Iterator<Item = (K, V)> + Send {
        let (mut group, mut after) = (0, ColdCursor::default());
        let mut rows = Vec::new().into_iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(ColdRow { row, .. }) = rows.next() {
                    match self.decode(&row) {
                        Ok(row) => return Some(row),
                        Err(error) => self.spill.fail(error),
                    }
                }
                if group >= groups {
                    return None;
                }
                let chunk = self.chunk(group, &mut after);
                if chunk.len() < CHUNK {
                    (group, after) = (group + 1, ColdCursor::default());
                }
                rows = chunk.into_iter();
            }
        })
    }

    /// Nothing that is outside memory now counts as changed.
    pub(super) fn forget_changes(&mut self) {
        if self.changed > 0
            && let Some(cold) = &mut self.cold
            && let Err(error) = cold.forget_changes()
        {
            self.spill.fail(error);
        }
        self.changed = 0;
    }

    /// Deletes the rows of groups, given by their places.
    pub(super) fn clear(&mut self, groups: RangeInclusive<u16>) {
        // Their bytes are not known: what is counted is a little too much from here on.
        for group in groups.clone() {
            let Some(rows) = self.in_group.get_mut(usize::from(group)) else { break };
            self.rows -= u64::from(*rows);
            self.spill.cold_rows.fetch_sub(u64::from(std::mem::take(rows)), Relaxed);
        }
        if let Some(cold) = &mut self.cold
            && let Err(error) = cold.clear(groups)
        {
            self.spill.fail(error);
        }
    }

    fn account(&mut self, now: usize) -> usize {
        self.spill.adjust(self.accounted, now);
        self.accounted = now;
        self.spill.lookups.fetch_add(std::mem::take(&mut self.lookups), Relaxed);
        self.spill.misses.fetch_add(std::mem::take(&mut self.misses), Relaxed);
        now
    }
}

impl<K> Drop for Spilled<K> {
    fn drop(&mut self) {
        self.spill.adjust(self.accounted, 0);
        self.spill.lookups.fetch_add(self.lookups, Relaxed);
        self.spill.misses.fetch_add(self.misses, Relaxed);
        self.spill.cold_rows.fetch_sub(self.rows, Relaxed);
        self.spill.cold_bytes.fetch_sub(self.bytes, Relaxed);
    }
}

impl Changes {
    /// Whether the snapshot under way still needs a row that comes back into memory.
    fn needs(&self, row: &ColdRow) -> bool {
        let Some(draining) = &self.draining else { return false };
        let is_ahead = match usize::from(row.group).cmp(&draining.group) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => draining.cold.as_ref().is_none_or(|at| match draining.extent {
                Extent::Base => row.key > at.key,
                Extent::Since(_) => (row.changed, &row.key) > (at.changed, &at.key),
            }),
        };
        let is_held = matches!(draining.extent, Extent::Since(held) if row.changed <= held);
        is_ahead && !is_held && row.changed <= self.marks.epoch
    }
}

impl<K: Key, V: StateValue> KeyedTable<K, V> {
    /// The place of a row that was found in memory, or is brought there.
    pub(super) fn place_or_warm(
        &mut self,
        group: usize,
        hash: u64,
        key: &K,
        found: Option<usize>,
    ) -> Option<usize> {
        let spilled = self.spilled.as_mut()?;
        spilled.lookups += 1;
        if let Some(at) = found {
            self.groups[group].use_place(at);
            return found;
        }
        if spilled.is_in_memory(group) || spilled.is_absent(hash, key) {
            return None;
        }
        let mut bytes = Vec::new();
        if let Err(error) = write(key, &mut bytes) {
            spilled.spill.fail(error);
            return None;
        }
        match spilled.take(&[(group as u16, bytes)]).pop() {
            Some(row) => self.admit(row),
            None => {
                spilled.note_absent(hash, key);
                None
            }
        }
    }

    /// Brings the rows of keys into memory that are not there, in one go.
    pub(super) fn bring_in(&mut self, hashes: &[u64], keys: &[K]) {
        let Some(spilled) = &mut self.spilled else { return };
        if spilled.rows == 0 {
            return;
        }
        let mut wanted = Vec::new();
        for (hash, key) in hashes.iter().zip(keys) {
            let Some(group) = self.range.index_of(*hash) else { continue };
            let rows = &self.groups[group].table;
            if spilled.is_in_memory(group)
                || rows.find(*hash, |(found, _)| found == key).is_some()
                || spilled.is_absent(*hash, key)
            {
                continue;
            }
            let mut bytes = Vec::new();
            if let Err(error) = write(key, &mut bytes) {
                spilled.spill.fail(error);
                return;
            }
            wanted.push((group as u16, bytes));
            // Until it is found.
            spilled.note_absent(*hash, key);
        }
        wanted.sort_unstable();
        let rows = spilled.take(&wanted);
        for row in rows {
            self.admit(row);
        }
    }

    /// Puts a row that was outside memory into the table.
    fn admit(&mut self, row: ColdRow) -> Option<usize> {
        let group = usize::from(row.group);
        let spilled = self.spilled.as_mut()?;
        let decoded = match spilled.decode::<V>(&row.row) {
            Ok(decoded) => decoded,
            Err(error) => {
                spilled.spill.fail(error);
                return None;
            }
        };
        let hash = hash_key(&decoded.0);
        if let Ok(entry) = spilled.absent.find_entry(hash, |absent| *absent == decoded.0) {
            entry.remove();
        }
        let mut is_dirty = false;
        if let Some(changes) = &mut self.changes {
            let is_needed = changes.needs(&row);
            if is_needed && let Some(draining) = &mut changes.draining {
                draining.put.add_bytes(group, &row.row);
            }
            // What was written for a snapshot counts as changed since its barrier, so that it is not written twice.
            is_dirty = is_needed || row.changed > changes.held;
        }
        if self.groups[group].is_full() {
            self.make_room(group);
        }
        Some(self.groups[group].admit(hash, decoded, is_dirty))
    }

    /// Makes room for another row of a group: in a larger table, or by moving rows out of memory.
    #[cold]
    pub(super) fn make_room(&mut self, group: usize) {
        let rows = &self.groups[group].table;
        let (len, places) = (rows.len(), rows.num_buckets());
        let larger = places.max(2) * Self::place_bytes();
        self.account();
        let has_room = self.spilled.as_ref().is_none_or(|spilled| spilled.spill.has_room_for(larger));
        if len < LEAST_ROWS || has_room {
            return self.rebuild(group, len * 2);
        }
        self.evict(group, len.div_ceil(8));
        self.rebuild(group, len);
    }

    fn place_bytes() -> usize {
        size_of::<(K, V)>() + 1
    }

    fn rebuild(&mut self, group: usize, capacity: usize) {
        let draining = self.changes.as_mut().and_then(|changes| changes.draining.as_mut());
        let draining = draining.filter(|draining| draining.group == group);
        let cursor = draining.map(|draining| (&mut draining.cursor, draining.extent));
        self.groups[group].rebuild(capacity, cursor);
    }

    /// Moves rows of a group out of memory. A snapshot under way finds them there.
    fn evict(&mut self, group: usize, most: usize) {
        let Some(spilled) = &mut self.spilled else { return };
        if spilled.hands.is_empty() {
            spilled.hands.resize(self.groups.len(), 0);
        }
        let epoch = self.changes.as_ref().map(|changes| changes.marks.epoch);
        let idle = self.groups[group].take_idle(&mut spilled.hands[group], most, epoch);
        let mut rows = Vec::with_capacity(idle.len());
        for (row, changed) in idle {
            let (mut key, mut bytes) = (Vec::new(), Vec::new());
            let written =
                write(&row.0, &mut key).and_then(|()| write_row(spilled.namespace, &row, &mut bytes));
            if let Err(error) = written {
                return spilled.spill.fail(error);
            }
            rows.push(ColdRow { group: group as u16, key, changed, row: bytes });
        }
        if rows.is_empty() {
            return;
        }
        rows.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        if let Err(error) = spilled.put(&rows, self.groups.len()) {
            spilled.spill.fail(error);
        }
    }

    /// Finds out how much memory the table takes, and tells.
    pub(super) fn account(&mut self) -> usize {
        self.sample();
        let places: usize = self.groups.iter().map(|rows| rows.table.num_buckets()).sum();
        let rows = self.rows_in_memory();
        let Some(spilled) = &mut self.spilled else { return 0 };
        spilled.account(places * Self::place_bytes() + (rows as f64 * spilled.heap) as usize)
    }

    /// Looks at a row to learn how much memory rows have of their own.
    fn sample(&mut self) {
        let Some(spilled) = self.spilled.as_mut().filter(|_| std::mem::needs_drop::<(K, V)>()) else {
            return;
        };
        let groups = self.groups.len().max(1);
        spilled.sampled = spilled.sampled.wrapping_add(1);
        let rows = &self.groups[spilled.sampled % groups].table;
        // Some row: the first from a place on that goes round with the groups.
        let places = rows.num_buckets().max(1);
        let from = (spilled.sampled / groups).wrapping_mul(0x9e37_79b9) % places;
        let Some(row) = (from..places).find_map(|at| rows.get_bucket(at)) else { return };
        let mut bytes = Vec::new();
        if write(row, &mut bytes).is_ok() {
            let heap = bytes.len() as f64 * HEAP_PER_BYTE;
            spilled.heap += if spilled.heap == 0.0 { heap } else { (heap - spilled.heap) / 64.0 };
        }
    }

    /// Moves up to `most` rows out of memory and makes tables smaller. Returns how many.
    pub(super) fn move_out_of_memory(&mut self, most: usize) -> usize {
        for _ in 0..self.groups.len() {
            let Some(spilled) = &mut self.spilled else { return 0 };
            let group = spilled.next_group % self.groups.len();
            let rows = &self.groups[group].table;
            let (len, places) = (rows.len(), rows.num_buckets());
            if len == 0 && places <= 1 {
                spilled.next_group = group + 1;
                continue;
            }
            // Less memory is a table of half the size, unless most of it is the rows' own.
            let is_heap = spilled.heap * len as f64 > (places * Self::place_bytes()) as f64;
            let wanted = match is_heap {
                true => len.div_ceil(8),
                false => len.saturating_sub(places * 3 / 8),
            };
            let wanted = if places <= 16 { len } else { wanted };
            let moved = wanted.min(most);
            self.evict(group, moved);
            if moved == wanted {
                let left = self.groups[group].table.len();
                if !is_heap || left * 3 < places {
                    self.rebuild(group, left + left / 8);
                }
                if let Some(spilled) = &mut self.spilled {
                    spilled.next_group = group + 1;
                }
            }
            self.account();
            return moved.max(1);
        }
        0
    }
}
