//! Operator state: a list of items that belong to no key.

use super::codec::{decode_rows, encode};
use super::{State, StateValue};
use crate::error::Error;
use crate::snapshot::{StateKind, StateSnapshot};

/// Items of one subtask; on a restore dealt out evenly or given to all, as declared.
pub struct ItemList<V> {
    kind: StateKind,
    /// The items.
    pub items: Vec<V>,
}

impl<V> ItemList<V> {
    pub(super) fn new(kind: StateKind) -> Self {
        ItemList { kind, items: Vec::new() }
    }
}

impl<V: StateValue> State for ItemList<V> {
    fn kind(&self) -> StateKind {
        self.kind
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        for item in &self.items {
            let mut bytes = Vec::new();
            encode(&out.name, item, &mut bytes)?;
            out.items.push(bytes.into());
        }
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        for item in &from.items {
            decode_rows(&from.name, 1, item, |item| self.items.push(item))?;
        }
        Ok(())
    }
}
