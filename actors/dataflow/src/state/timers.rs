//! Timers: wake-ups per key, in event or processing time. They are rows of state like any other.

use super::State;
use super::changes::{Budget, Extent, Incremental};
use super::codec::{apply_rows, write};
use super::panes::{Drained, Marks, Pane, Panes};
use super::rows::{Cursor, Rows};
use crate::error::{BoxError, Error};
use crate::ids::CheckpointId;
use crate::key::{Key, KeyGroupRange, hash_key, key_group};
use crate::snapshot::{GroupRows, RowLayout, StateKind, StateSnapshot};
use crate::time::Timestamp;

/// A set of (time, key), taken in order of time. Registering a timer twice is registering it once.
pub struct Timers<K> {
    due: Panes<Slot<K>>,
    /// Keys of the time that is being fired. They leave the set all at once: taking keys out of a hash set one by one
    /// walks over the holes left by those before.
    firing: (Timestamp, Vec<K>),
}

/// The keys whose timers are due at one time, of all key groups.
struct Slot<K> {
    range: KeyGroupRange,
    keys: Rows<K, ()>,
    marks: Option<Marks>,
    /// How far the snapshot under way has come.
    draining: Option<Box<(Cursor, Extent)>>,
}

impl<K: Key> Slot<K> {
    fn new(range: KeyGroupRange) -> Self {
        Slot { range, keys: Rows::default(), marks: None, draining: None }
    }

    fn place(&self, hash: u64, key: &K) -> Option<usize> {
        self.keys.table.find_bucket_index(hash, |(found, ())| found == key)
    }

    fn add(&mut self, key: K) {
        let hash = hash_key(&key);
        if self.place(hash, &key).is_some() {
            return;
        }
        if self.marks.is_some() {
            let draining = self.draining.as_deref_mut();
            self.keys.add_noted(hash, (key, ()), draining.map(|(cursor, extent)| (cursor, *extent)));
        } else {
            self.keys.table.insert_unique(hash, (key, ()), |(key, ())| hash_key(key));
        }
    }

    fn section(&self, hash: u64) -> usize {
        self.range.index_of(hash).unwrap_or(0)
    }
}

impl<K: Key> Pane for Slot<K> {
    fn note_changes(&mut self, _: Timestamp, marks: Option<Marks>) {
        self.marks = marks;
        self.draining = None;
        self.keys.forget();
    }

    fn marks(&mut self) -> Option<&mut Marks> {
        self.marks.as_mut()
    }

    fn advance_to(&mut self, epoch: CheckpointId, extent: Option<Extent>) {
        let Some(marks) = self.marks.as_mut().filter(|marks| marks.epoch != epoch) else { return };
        marks.epoch = epoch;
        self.keys.rotate(epoch, extent.unwrap_or(Extent::Base));
        self.draining = extent.map(|extent| Box::new((Cursor::default(), extent)));
    }

    fn drain(&mut self, time: Timestamp, budget: &mut Budget, into: &mut Drained) -> Result<bool, BoxError> {
        let Some((cursor, extent)) = self.draining.as_deref_mut() else { return Ok(true) };
        let range = self.range;
        let is_done = self.keys.drain(cursor, *extent, budget, |(key, ())| {
            let section = range.index_of(hash_key(key)).unwrap_or(0);
            into.put.add(section, |out| write(&(time, key), out))
        })?;
        if is_done {
            self.draining = None;
        }
        Ok(is_done)
    }

    fn abandon(&mut self) {
        self.draining = None;
    }
}

impl<K: Key> Timers<K> {
    /// No timers, over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        Timers { due: Panes::new(range), firing: (Timestamp::MIN, Vec::new()) }
    }

    /// Registers a timer.
    pub fn register(&mut self, time: Timestamp, key: K) {
        let range = self.due.range();
        self.due.touch(time, || Slot::new(range)).add(key);
    }

    /// Deletes a timer; none there is no error.
    pub fn delete(&mut self, time: Timestamp, key: &K) {
        self.remove(time, key);
        if self.firing.0 == time
            && let Some(at) = self.firing.1.iter().position(|firing| firing == key)
        {
            self.firing.1.swap_remove(at);
        }
    }

    fn remove(&mut self, time: Timestamp, key: &K) {
        let hash = hash_key(key);
        let Some(slot) = self.due.touch_if_there(time) else { return };
        let Some(at) = slot.place(hash, key) else { return };
        let (section, is_fresh) = (slot.section(hash), slot.keys.is_fresh(at));
        let is_left =
            slot.draining.as_deref().is_some_and(|(cursor, extent)| slot.keys.is_left(at, cursor, *extent));
        if let Ok(entry) = slot.keys.table.find_entry(hash, |(found, ())| found == key) {
            entry.remove();
        }
        let is_last = slot.keys.table.is_empty();
        if let Some(changes) = &mut self.due.changes {
            let write = |out: &mut Vec<u8>| write(&(time, key), out);
            if is_left && let Some((put, error, _)) = changes.saved() {
                *error = error.take().or(put.add(section, write).err());
            }
            if !is_fresh && let Err(error) = changes.removed.open.add(section, write) {
                changes.fail(error);
            }
        }
        if is_last {
            self.due.take(time);
        }
    }

    /// Time of the earliest timer.
    pub fn next_time(&self) -> Option<Timestamp> {
        let firing = (!self.firing.1.is_empty()).then_some(self.firing.0);
        let due = self.due.map().first_key_value().map(|(time, _)| *time);
        firing.into_iter().chain(due).min()
    }

    /// Takes one timer that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        if self.firing.1.is_empty() {
            let (time, _) = self.due.map().first_key_value().filter(|(time, _)| **time <= now)?;
            let time = *time;
            let slot = self.due.take(time)?;
            self.firing = (time, slot.keys.table.into_iter().map(|(key, ())| key).collect());
        }
        self.firing.1.pop().map(|key| (self.firing.0, key))
    }

    /// Number of timers.
    pub fn len(&self) -> usize {
        self.firing.1.len() + self.due.map().values().map(|slot| slot.keys.table.len()).sum::<usize>()
    }

    /// Whether there is no timer.
    pub fn is_empty(&self) -> bool {
        self.firing.1.is_empty() && self.due.map().is_empty()
    }
}

impl<K: Key> State for Timers<K> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn layout(&self) -> RowLayout {
        RowLayout::Timers
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        let max_parallelism = self.due.range().max_parallelism;
        apply_rows(
            from,
            self,
            |timers, (time, key): (Timestamp, K)| timers.register(time, key),
            |timers, (time, key): (Timestamp, K)| timers.delete(time, &key),
            |timers, time: Timestamp, (first, last)| {
                let Some(slot) = timers.due.touch_if_there(time) else { return };
                slot.keys.table.retain(|(key, ())| {
                    let group = key_group(hash_key(key), max_parallelism);
                    group < first || group > last
                });
                if slot.keys.table.is_empty() {
                    timers.due.forget(time);
                }
            },
        )
    }

    fn incremental(&mut self) -> Option<&mut dyn Incremental> {
        Some(self)
    }
}

impl<K: Key> Incremental for Timers<K> {
    fn track(&mut self, checkpoint: CheckpointId) {
        self.due.track(checkpoint);
    }

    fn untrack(&mut self) {
        self.due.untrack();
    }

    fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent) {
        // No barrier comes while timers of one time are fired, except for those whose firing waits for something.
        let (time, keys) = std::mem::replace(&mut self.firing, (Timestamp::MIN, Vec::new()));
        keys.into_iter().for_each(|key| self.register(time, key));
        self.due.open_epoch(checkpoint, extent);
    }

    fn drain(&mut self, name: &str, budget: &mut Budget, out: &mut Vec<GroupRows>) -> Result<bool, Error> {
        self.due.drain(name, budget, out)
    }

    fn abandon(&mut self) {
        self.due.abandon();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_timers_of_one_time_fire_once_each_and_may_be_deleted_or_renewed_meanwhile() {
        let mut timers = Timers::new(KeyGroupRange::all(128));
        for key in 0..100_000u32 {
            timers.register(10, key);
            timers.register(10, key);
        }
        timers.register(20, 7);
        let mut fired = vec![0; 100_000];
        while let Some((time, key)) = timers.pop_due(10) {
            assert_eq!(time, 10);
            fired[key as usize] += 1;
            if key == 99 && fired[99] == 1 {
                timers.register(10, 99);
            }
        }
        assert!(fired.iter().enumerate().all(|(key, n)| *n == if key == 99 { 2 } else { 1 }));
        assert_eq!((timers.len(), timers.next_time()), (1, Some(20)));
        timers.register(20, 8);
        assert!(timers.pop_due(30).is_some());
        timers.delete(20, &7);
        timers.delete(20, &8);
        assert!(timers.is_empty() && timers.next_time().is_none());
    }
}
