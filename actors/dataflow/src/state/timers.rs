//! Timers: wake-ups per key, in event or processing time. They are rows of state like any other.

use super::State;
use super::codec::{decode_rows, encode};
use crate::error::Error;
use crate::key::{Key, KeyGroupRange, hash_key, key_group};
use crate::snapshot::{GroupRows, StateKind, StateSnapshot};
use crate::time::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasherDefault, DefaultHasher};

type Keys<K> = HashSet<K, BuildHasherDefault<DefaultHasher>>;

/// A set of (time, key), taken in order of time. Registering a timer twice is registering it once.
pub struct Timers<K> {
    range: KeyGroupRange,
    due: BTreeMap<Timestamp, Keys<K>>,
    /// Keys of the time that is being fired. They leave the set all at once: taking keys out of a hash set one by one
    /// walks over the holes left by those before.
    firing: (Timestamp, Vec<K>),
}

impl<K: Key> Timers<K> {
    /// No timers, over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        Timers { range, due: BTreeMap::new(), firing: (Timestamp::MIN, Vec::new()) }
    }

    /// Registers a timer.
    pub fn register(&mut self, time: Timestamp, key: K) {
        self.due.entry(time).or_default().insert(key);
    }

    /// Deletes a timer; none there is no error.
    pub fn delete(&mut self, time: Timestamp, key: &K) {
        if let Some(keys) = self.due.get_mut(&time) {
            keys.remove(key);
            if keys.is_empty() {
                self.due.remove(&time);
            }
        }
        if self.firing.0 == time
            && let Some(at) = self.firing.1.iter().position(|firing| firing == key)
        {
            self.firing.1.swap_remove(at);
        }
    }

    /// Time of the earliest timer.
    pub fn next_time(&self) -> Option<Timestamp> {
        let firing = (!self.firing.1.is_empty()).then_some(self.firing.0);
        let due = self.due.first_key_value().map(|(time, _)| *time);
        firing.into_iter().chain(due).min()
    }

    /// Takes one timer that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        if self.firing.1.is_empty() {
            let first = self.due.first_entry().filter(|entry| *entry.key() <= now)?;
            let (time, keys) = first.remove_entry();
            self.firing = (time, keys.into_iter().collect());
        }
        self.firing.1.pop().map(|key| (self.firing.0, key))
    }

    fn iter(&self) -> impl Iterator<Item = (&Timestamp, &K)> {
        let firing = self.firing.1.iter().map(|key| (&self.firing.0, key));
        firing.chain(self.due.iter().flat_map(|(time, keys)| keys.iter().map(move |key| (time, key))))
    }

    /// Number of timers.
    pub fn len(&self) -> usize {
        self.firing.1.len() + self.due.values().map(HashSet::len).sum::<usize>()
    }

    /// Whether there is no timer.
    pub fn is_empty(&self) -> bool {
        self.firing.1.is_empty() && self.due.is_empty()
    }
}

impl<K: Key> State for Timers<K> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        let mut groups: BTreeMap<u16, GroupRows> = BTreeMap::new();
        for row in self.iter() {
            let group = key_group(hash_key(row.1), self.range.max_parallelism);
            let rows = groups.entry(group).or_insert_with(|| GroupRows { group, rows: 0, bytes: Vec::new() });
            encode(&out.name, &row, &mut rows.bytes)?;
            rows.rows += 1;
        }
        out.groups.extend(groups.into_values());
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        let range = self.range;
        for group in from.groups.iter().filter(|group| range.contains(group.group)) {
            decode_rows(&from.name, group.rows, &group.bytes, |(time, key)| self.register(time, key))?;
        }
        Ok(())
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
