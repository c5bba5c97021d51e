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
}

impl<K: Key> Timers<K> {
    /// No timers, over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        Timers { range, due: BTreeMap::new() }
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
    }

    /// Time of the earliest timer.
    pub fn next_time(&self) -> Option<Timestamp> {
        self.due.first_key_value().map(|(time, _)| *time)
    }

    /// Takes one timer that is due at `now`, earliest first.
    pub fn pop_due(&mut self, now: Timestamp) -> Option<(Timestamp, K)> {
        let mut first = self.due.first_entry().filter(|entry| *entry.key() <= now)?;
        let time = *first.key();
        let key = first.get().iter().next().cloned().expect("an empty set of keys is removed");
        first.get_mut().remove(&key);
        if first.get().is_empty() {
            first.remove();
        }
        Some((time, key))
    }

    /// Number of timers.
    pub fn len(&self) -> usize {
        self.due.values().map(HashSet::len).sum()
    }

    /// Whether there is no timer.
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }
}

impl<K: Key> State for Timers<K> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        let mut groups: BTreeMap<u16, GroupRows> = BTreeMap::new();
        for (time, keys) in &self.due {
            for key in keys {
                let group = key_group(hash_key(key), self.range.max_parallelism);
                let rows =
                    groups.entry(group).or_insert_with(|| GroupRows { group, rows: 0, bytes: Vec::new() });
                encode(&out.name, &(time, key), &mut rows.bytes)?;
                rows.rows += 1;
            }
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
