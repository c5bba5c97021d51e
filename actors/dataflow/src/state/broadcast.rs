//! Broadcast state: a table that every subtask holds alike, because all of them see the same broadcast records.

use super::changes::{Budget, Extent, Incremental};
use super::{KeyedTable, State, StateValue};
use crate::error::Error;
use crate::ids::CheckpointId;
use crate::key::{Key, KeyGroupRange, hash_key};
use crate::snapshot::{GroupRows, StateKind, StateSnapshot, UNKEYED};

/// A map that is the same in every subtask.
pub struct BroadcastTable<K, V> {
    /// Of one key group, whichever key it is.
    rows: KeyedTable<K, V>,
}

impl<K: Key, V: StateValue> BroadcastTable<K, V> {
    pub(super) fn new() -> Self {
        BroadcastTable { rows: KeyedTable::new(KeyGroupRange::all(1)) }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.peek(hash_key(key), key)
    }

    /// Sets the value of a key and returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.rows.insert(hash_key(&key), key, value)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.rows.remove(hash_key(key), key)
    }

    /// All keys and values, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.rows.iter()
    }
}

impl<K: Key, V: StateValue> State for BroadcastTable<K, V> {
    fn kind(&self) -> StateKind {
        StateKind::Broadcast
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        self.rows.restore(from)
    }

    fn incremental(&mut self) -> Option<&mut dyn Incremental> {
        Some(self)
    }
}

impl<K: Key, V: StateValue> Incremental for BroadcastTable<K, V> {
    fn track(&mut self, checkpoint: CheckpointId) {
        self.rows.track(checkpoint);
    }

    fn untrack(&mut self) {
        self.rows.untrack();
    }

    fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent) {
        self.rows.open_epoch(checkpoint, extent);
    }

    fn drain(&mut self, name: &str, budget: &mut Budget, out: &mut Vec<GroupRows>) -> Result<bool, Error> {
        let before = out.len();
        let is_done = self.rows.drain(name, budget, out);
        for rows in &mut out[before..] {
            (rows.first, rows.last) = (UNKEYED, UNKEYED);
        }
        is_done
    }

    fn abandon(&mut self) {
        self.rows.abandon();
    }
}
