//! Broadcast state: a table that every subtask holds alike, because all of them see the same broadcast records.

use super::codec::{decode_rows, encode};
use super::{State, StateValue};
use crate::error::Error;
use crate::key::Key;
use crate::snapshot::{StateKind, StateSnapshot};
use std::collections::HashMap;

/// A map that is the same in every subtask.
pub struct BroadcastTable<K, V> {
    rows: HashMap<K, V>,
}

impl<K: Key, V> BroadcastTable<K, V> {
    pub(super) fn new() -> Self {
        BroadcastTable { rows: HashMap::new() }
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// Sets the value of a key and returns the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.rows.insert(key, value)
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.rows.remove(key)
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

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        for row in &self.rows {
            let mut bytes = Vec::new();
            encode(&out.name, &row, &mut bytes)?;
            out.items.push(bytes.into());
        }
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        for item in &from.items {
            decode_rows(&from.name, 1, item, |(key, value)| {
                self.rows.insert(key, value);
            })?;
        }
        Ok(())
    }
}
