//! Keyed tables: one hash table per key group, so that growing one never stalls the others and a snapshot or a
//! rescale takes whole groups.

use super::codec::{decode_rows, encode};
use super::prefetch::prefetch;
use super::{State, StateValue};
use crate::error::Error;
use crate::key::{Key, KeyGroupRange, hash_key};
use crate::snapshot::{GroupRows, StateKind, StateSnapshot};
use crate::time::Timestamp;
use hashbrown::HashTable;
use std::collections::BTreeMap;

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

/// One value per key. Callers pass the key's [`hash_key`], which they have computed anyway.
pub struct KeyedTable<K, V> {
    range: KeyGroupRange,
    groups: Vec<HashTable<(K, V)>>,
}

impl<K: Key, V> KeyedTable<K, V> {
    /// An empty table over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        KeyedTable { range, groups: (0..range.count).map(|_| HashTable::new()).collect() }
    }

    #[inline]
    fn group(&self, hash: u64) -> usize {
        self.range.index_of(hash).expect("a record is sent to the subtask that owns its key group")
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
            let group = &self.groups[self.group(*hash)];
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
        if self.groups[group].get_bucket(bucket).is_none_or(|(found, _)| found != key) {
            return self.get_mut(hash, key);
        }
        self.groups[group].get_bucket_mut(bucket).map(|(_, value)| value)
    }

    /// Makes ready for looking up the keys of one batch.
    pub fn look_ahead(&self) -> LookAhead {
        let is_on = self.len() * size_of::<(K, V)>() >= PREFETCH_FROM_BYTES;
        LookAhead { is_on, buckets: [NOT_FOUND; PREFETCH_AHEAD] }
    }

    /// The value of a key.
    #[inline]
    pub fn get(&self, hash: u64, key: &K) -> Option<&V> {
        self.groups[self.group(hash)].find(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of a key, to change.
    #[inline]
    pub fn get_mut(&mut self, hash: u64, key: &K) -> Option<&mut V> {
        let group = self.group(hash);
        self.groups[group].find_mut(hash, |(k, _)| k == key).map(|(_, value)| value)
    }

    /// The value of a key, made by `init` if there is none.
    #[inline]
    pub fn get_or_insert_with(&mut self, hash: u64, key: K, init: impl FnOnce() -> V) -> &mut V {
        let group = self.group(hash);
        let entry = self.groups[group].entry(hash, |(k, _)| *k == key, |(k, _)| hash_key(k));
        match entry {
            hashbrown::hash_table::Entry::Occupied(entry) => &mut entry.into_mut().1,
            hashbrown::hash_table::Entry::Vacant(entry) => &mut entry.insert((key, init())).into_mut().1,
        }
    }

    /// Sets the value of a key and returns the former one.
    #[inline]
    pub fn insert(&mut self, hash: u64, key: K, value: V) -> Option<V> {
        if let Some(old) = self.get_mut(hash, &key) {
            return Some(std::mem::replace(old, value));
        }
        let group = self.group(hash);
        self.groups[group].insert_unique(hash, (key, value), |(k, _)| hash_key(k));
        None
    }

    /// Removes a key.
    #[inline]
    pub fn remove(&mut self, hash: u64, key: &K) -> Option<V> {
        let group = self.group(hash);
        let entry = self.groups[group].find_entry(hash, |(k, _)| k == key).ok()?;
        Some(entry.remove().0.1)
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.groups.iter().map(HashTable::len).sum()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.groups.iter().all(HashTable::is_empty)
    }

    /// All keys and values, group by group.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.groups.iter().flat_map(|group| group.iter().map(|(key, value)| (key, value)))
    }

    /// All keys and values by value, group by group; memory is given back as it goes.
    pub fn into_rows(self) -> impl Iterator<Item = (K, V)> + Send
    where
        V: Send,
    {
        self.groups.into_iter().flatten()
    }

    /// Keeps only the keys for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&K, &mut V) -> bool) {
        for group in &mut self.groups {
            group.retain(|(key, value)| keep(key, value));
        }
    }
}

impl<K: Key, V: StateValue> State for KeyedTable<K, V> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        for (index, table) in self.groups.iter().enumerate().filter(|(_, table)| !table.is_empty()) {
            let mut bytes = Vec::with_capacity(table.len() * 16);
            for row in table {
                encode(&out.name, row, &mut bytes)?;
            }
            let group = self.range.first + index as u16;
            out.groups.push(GroupRows { group, rows: table.len() as u32, bytes });
        }
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        let range = self.range;
        for group in from.groups.iter().filter(|group| range.contains(group.group)) {
            decode_rows(&from.name, group.rows, &group.bytes, |(key, value): (K, V)| {
                self.insert(hash_key(&key), key, value);
            })?;
        }
        Ok(())
    }
}

/// One value per namespace and key, namespace first: a window's pane is one table that is taken or dropped whole.
pub struct NamespacedTable<K, V> {
    range: KeyGroupRange,
    namespaces: BTreeMap<Timestamp, KeyedTable<K, V>>,
}

impl<K: Key, V> NamespacedTable<K, V> {
    /// An empty table over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        NamespacedTable { range, namespaces: BTreeMap::new() }
    }

    /// The table of a namespace, made if there is none.
    #[inline]
    pub fn namespace(&mut self, namespace: Timestamp) -> &mut KeyedTable<K, V> {
        let range = self.range;
        self.namespaces.entry(namespace).or_insert_with(|| KeyedTable::new(range))
    }

    /// The table of a namespace, if there is one.
    pub fn find(&self, namespace: Timestamp) -> Option<&KeyedTable<K, V>> {
        self.namespaces.get(&namespace)
    }

    /// Takes a namespace away.
    pub fn take(&mut self, namespace: Timestamp) -> Option<KeyedTable<K, V>> {
        self.namespaces.remove(&namespace)
    }

    /// Puts a table back under a namespace.
    pub fn put(&mut self, namespace: Timestamp, table: KeyedTable<K, V>) {
        self.namespaces.insert(namespace, table);
    }

    /// The smallest namespace.
    pub fn first(&self) -> Option<Timestamp> {
        self.namespaces.first_key_value().map(|(namespace, _)| *namespace)
    }

    /// Namespaces and their tables within `from..=to`, in order.
    pub fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl DoubleEndedIterator<Item = (Timestamp, &KeyedTable<K, V>)> {
        self.namespaces.range(from..=to).map(|(namespace, table)| (*namespace, table))
    }

    /// Number of rows over all namespaces.
    pub fn len(&self) -> usize {
        self.namespaces.values().map(KeyedTable::len).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.namespaces.values().all(KeyedTable::is_empty)
    }
}

impl<K: Key, V: StateValue> State for NamespacedTable<K, V> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        for index in 0..self.range.count {
            let mut rows = 0;
            let mut bytes = Vec::new();
            for (namespace, table) in &self.namespaces {
                for (key, value) in &table.groups[index as usize] {
                    encode(&out.name, &(namespace, key, value), &mut bytes)?;
                    rows += 1;
                }
            }
            if rows > 0 {
                out.groups.push(GroupRows { group: self.range.first + index, rows, bytes });
            }
        }
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        let range = self.range;
        for group in from.groups.iter().filter(|group| range.contains(group.group)) {
            decode_rows(
                &from.name,
                group.rows,
                &group.bytes,
                |(namespace, key, value): (Timestamp, K, V)| {
                    self.namespace(namespace).insert(hash_key(&key), key, value);
                },
            )?;
        }
        Ok(())
    }
}
