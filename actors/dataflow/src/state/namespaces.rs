//! Tables by namespace: a window's pane is one table that is taken or dropped whole.

use super::changes::{Budget, Extent, Incremental};
use super::codec::apply_rows;
use super::panes::{Drained, Marks, Pane, Panes};
use super::table::Changes;
use super::{KeyedTable, Spill, State, StateValue};
use crate::error::{BoxError, Error};
use crate::ids::CheckpointId;
use crate::key::{Key, KeyGroupRange, hash_key};
use crate::snapshot::{GroupRows, RowLayout, StateKind, StateSnapshot};
use crate::time::Timestamp;
use std::sync::Arc;

/// One value per namespace and key, namespace first.
pub struct NamespacedTable<K, V> {
    panes: Panes<KeyedTable<K, V>>,
    spill: Option<Arc<Spill>>,
}

impl<K: Key, V: StateValue> NamespacedTable<K, V> {
    /// An empty table over the given key groups.
    pub fn new(range: KeyGroupRange) -> Self {
        NamespacedTable { panes: Panes::new(range), spill: None }
    }

    /// The table of a namespace, to change; made if there is none.
    #[inline]
    pub fn namespace(&mut self, namespace: Timestamp) -> &mut KeyedTable<K, V> {
        let range = self.panes.range();
        let spill = self.spill.as_ref();
        self.panes.touch(namespace, || KeyedTable::of_namespace(range, namespace, spill))
    }

    /// The table of a namespace, to change, if there is one.
    pub fn existing(&mut self, namespace: Timestamp) -> Option<&mut KeyedTable<K, V>> {
        self.panes.touch_if_there(namespace)
    }

    /// An empty table that belongs to no namespace, for merging what was taken.
    pub fn apart(&self) -> KeyedTable<K, V> {
        KeyedTable::of_namespace(self.panes.range(), 0, self.spill.as_ref())
    }

    /// The table of a namespace, if there is one.
    pub fn find(&self, namespace: Timestamp) -> Option<&KeyedTable<K, V>> {
        self.panes.map().get(&namespace)
    }

    /// Has a snapshot under way write up to `rows` rows of a namespace that is about to be taken. Returns whether there
    /// are no more: a large namespace is then taken without a stall.
    pub fn settle(&mut self, namespace: Timestamp, rows: usize) -> bool {
        self.panes.settle(namespace, &mut Budget::new(rows, usize::MAX))
    }

    /// Takes a namespace away.
    pub fn take(&mut self, namespace: Timestamp) -> Option<KeyedTable<K, V>> {
        self.panes.take(namespace)
    }

    /// The smallest namespace.
    pub fn first(&self) -> Option<Timestamp> {
        self.panes.map().first_key_value().map(|(namespace, _)| *namespace)
    }

    /// Namespaces and their tables within `from..=to`, in order.
    pub fn between(
        &self,
        from: Timestamp,
        to: Timestamp,
    ) -> impl DoubleEndedIterator<Item = (Timestamp, &KeyedTable<K, V>)> {
        self.panes.map().range(from..=to).map(|(namespace, table)| (*namespace, table))
    }

    /// Number of rows over all namespaces.
    pub fn len(&self) -> usize {
        self.panes.map().values().map(KeyedTable::len).sum()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.panes.map().values().all(KeyedTable::is_empty)
    }
}

impl<K: Key, V: StateValue> State for NamespacedTable<K, V> {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn layout(&self) -> RowLayout {
        RowLayout::Namespaced
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        apply_rows(
            from,
            self,
            |state, (namespace, key, value): (Timestamp, K, V)| {
                state.namespace(namespace).insert(hash_key(&key), key, value);
            },
            |state, (namespace, key): (Timestamp, K)| {
                state.namespace(namespace).remove(hash_key(&key), &key);
            },
            |state, namespace: Timestamp, groups| {
                state.namespace(namespace).clear_groups(groups.0, groups.1);
            },
        )?;
        let empty =
            |(namespace, table): (&Timestamp, &KeyedTable<K, V>)| table.is_empty().then_some(*namespace);
        let empty: Vec<Timestamp> = self.panes.map().iter().filter_map(empty).collect();
        empty.into_iter().for_each(|namespace| self.panes.forget(namespace));
        Ok(())
    }

    fn incremental(&mut self) -> Option<&mut dyn Incremental> {
        Some(self)
    }

    fn spill(&mut self, spill: &Arc<Spill>) {
        spill.hold();
        self.spill = Some(Arc::clone(spill));
    }

    fn memory(&mut self) -> usize {
        self.panes.map_mut().values_mut().map(KeyedTable::account).sum()
    }

    fn move_out(&mut self, most: usize) -> usize {
        let sized = self.panes.map_mut().values_mut().map(|table| (table.account(), table));
        let largest = sized.max_by_key(|(bytes, _)| *bytes);
        largest.map_or(0, |(_, table)| table.move_out_of_memory(most))
    }
}

impl<K: Key, V: StateValue> Pane for KeyedTable<K, V> {
    fn note_changes(&mut self, time: Timestamp, marks: Option<Marks>) {
        self.note(marks.map(|marks| Changes::new(Some(time), marks)));
    }

    fn marks(&mut self) -> Option<&mut Marks> {
        self.changes().map(|changes| &mut changes.marks)
    }

    fn advance_to(&mut self, epoch: CheckpointId, extent: Option<Extent>) {
        self.advance(epoch, extent);
    }

    fn drain(&mut self, _: Timestamp, budget: &mut Budget, into: &mut Drained) -> Result<bool, BoxError> {
        let is_done = self.drain_sections(budget, |_, _| {})?;
        if is_done && let Some(drained) = self.changes().and_then(Changes::take_drained) {
            into.put.append(drained.put);
            into.deleted.append(drained.deleted);
        }
        Ok(is_done)
    }

    fn abandon(&mut self) {
        if let Some(changes) = self.changes() {
            changes.take_drained();
        }
    }
}

impl<K: Key, V: StateValue> Incremental for NamespacedTable<K, V> {
    fn track(&mut self, checkpoint: CheckpointId) {
        self.panes.track(checkpoint);
    }

    fn untrack(&mut self) {
        self.panes.untrack();
    }

    fn open_epoch(&mut self, checkpoint: CheckpointId, extent: Extent) {
        self.panes.open_epoch(checkpoint, extent);
    }

    fn drain(&mut self, name: &str, budget: &mut Budget, out: &mut Vec<GroupRows>) -> Result<bool, Error> {
        self.panes.drain(name, budget, out)
    }

    fn abandon(&mut self) {
        self.panes.abandon();
    }
}
