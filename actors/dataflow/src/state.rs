//! State of operators: declared once, typed in memory, snapshotted by the runtime.
//!
//! A snapshot of tables and timers holds what has changed since a former one ([`Extent`]) and is written in slices
//! ([`StateStore::drain`]) while the state goes on changing; other state is small and written at once.
//!
//! Rows of tables leave memory for a [`ColdStore`] where there is too little of it ([`Spill`]).
//!
//! An operator declares its states in [`Operator::open`](crate::operator::Operator::open) and gets a [`Handle`] for
//! each. The [`StateStore`] owns them; during a call the operator borrows them by handle, once per batch.

mod bits;
mod broadcast;
mod changes;
mod codec;
mod cold;
mod handles;
mod inspect;
mod list;
mod migration;
mod namespaces;
mod panes;
mod prefetch;
mod rows;
mod spilled;
mod table;
#[cfg(test)]
mod tests;
mod timers;

pub use broadcast::BroadcastTable;
pub use changes::{Budget, Extent, Incremental};
pub use cold::{ColdCursor, ColdRow, ColdStore, ColdTable, Spill, SpillCounts, StateMemory};
pub use handles::{
    AggregatingState, KeyScope, ListState, MapState, ReducingState, Scope, StateTtl, TtlUpdate, ValueState,
};
pub use inspect::{StoredRow, stored_rows};
pub use list::ItemList;
pub use migration::Migration;
pub use namespaces::NamespacedTable;
pub use table::{KeyedTable, LookAhead};
pub use timers::Timers;

use crate::error::Error;
use crate::ids::CheckpointId;
use crate::key::KeyGroupRange;
use crate::snapshot::{GroupRows, RowLayout, StateKind, StateSnapshot};
use migration::{Content, ErasedMigration};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Rows that one call to keep within memory moves at most.
const MOST_MOVED: usize = 16 << 10;

/// What may be kept as a state's value. Implemented for all types that can be sent and (de)serialised.
pub trait StateValue: Send + Serialize + DeserializeOwned + 'static {}
impl<V: Send + Serialize + DeserializeOwned + 'static> StateValue for V {}

/// One state of one operator instance, as the runtime sees it.
pub trait State: Any + Send {
    /// How it is handed out on a restore.
    fn kind(&self) -> StateKind;

    /// What its rows are made of.
    fn layout(&self) -> RowLayout {
        RowLayout::Table
    }

    /// Adds what a snapshot holds to the state.
    ///
    /// # Errors
    /// Bytes that do not fit the state's type.
    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error>;

    /// The state as one that knows what has changed.
    fn incremental(&mut self) -> Option<&mut dyn Incremental> {
        None
    }

    /// Lets rows leave memory. Called before anything is put into the state.
    fn spill(&mut self, spill: &Arc<Spill>) {
        let _ = spill;
    }

    /// Bytes in memory, of a state whose rows may leave it.
    fn memory(&mut self) -> usize {
        0
    }

    /// Moves up to `most` rows out of memory. Returns how many; 0 if there is nothing to move.
    fn move_out(&mut self, most: usize) -> usize {
        let _ = most;
        0
    }

    /// Writes everything to `out`, for a state that does not know what has changed, and so has to be small.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        let _ = out;
        Ok(())
    }
}

/// Names a state of a [`StateStore`] together with its type. Small and freely copied.
pub struct Handle<S> {
    index: usize,
    state: PhantomData<fn() -> S>,
}

impl<S> Clone for Handle<S> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<S> Copy for Handle<S> {}

/// A handle that refers to no state yet, for fields that [`Operator::open`](crate::operator::Operator::open) fills
/// in. Using it before is a defect and panics.
impl<S> Default for Handle<S> {
    fn default() -> Self {
        Handle { index: usize::MAX, state: PhantomData }
    }
}

/// All states of one operator instance.
pub struct StateStore {
    range: KeyGroupRange,
    restored: Vec<StateSnapshot>,
    states: Vec<(String, Box<dyn State>)>,
    /// Of states that have them, until they are declared.
    migrations: BTreeMap<String, ErasedMigration>,
    /// Versions of those that are declared.
    versions: BTreeMap<String, u32>,
    has_migrated: bool,
    /// The checkpoint since which changes are noted, if they are.
    since: Option<CheckpointId>,
    /// The state that is next to be drained, while a snapshot is under way.
    draining: Option<usize>,
    spill: Option<Arc<Spill>>,
    /// Keyed states of the instance whose place this one takes, until they are declared.
    handed_over: Option<Vec<(String, Box<dyn State>)>>,
}

impl StateStore {
    /// A store for the given key groups that hands restored state to whoever declares it.
    pub fn new(range: KeyGroupRange, restored: Vec<StateSnapshot>) -> Self {
        StateStore {
            range,
            restored,
            states: Vec::new(),
            migrations: BTreeMap::new(),
            versions: BTreeMap::new(),
            has_migrated: false,
            since: None,
            draining: None,
            spill: None,
            handed_over: None,
        }
    }

    /// A store for the instance that takes the place of this store's, from a checkpoint on since which nothing has changed
    /// here. It hands the keyed states to whoever declares them, and restores the others. Of keyed states, what is
    /// restored has no rows.
    pub fn hand_over(self, restored: Vec<StateSnapshot>) -> Self {
        let keyed = self.states.into_iter().filter(|(_, state)| state.kind() == StateKind::Keyed);
        let handed_over = Some(keyed.collect());
        StateStore { spill: self.spill, handed_over, ..StateStore::new(self.range, restored) }
    }

    /// Has states take note of changes, for snapshots that hold no more than those. What is restored counts as held by
    /// the given checkpoint. Call before any state is declared.
    pub fn noting_changes(mut self, since: CheckpointId) -> Self {
        self.since = Some(since);
        self
    }

    /// Lets rows of tables leave memory that have no room in it. Call before any state is declared.
    pub fn spilling(mut self, spill: Arc<Spill>) -> Self {
        self.spill = Some(spill);
        self
    }

    /// Numbers of state that is kept partly outside memory, if it may be.
    pub fn spill_counts(&self) -> Option<SpillCounts> {
        self.spill.as_ref().map(|spill| spill.counts())
    }

    /// Moves rows out of memory while there is too little of it: called between calls of the operator. Also tells
    /// whether what the operator has read since the last time can be relied on.
    ///
    /// # Errors
    /// The store outside memory has failed.
    pub fn keep_within_memory(&mut self) -> Result<(), Error> {
        let Some(spill) = self.spill.clone() else { return Ok(()) };
        for (_, state) in &mut self.states {
            state.memory();
        }
        let mut left = MOST_MOVED;
        while left > 0 && !spill.has_room_for(0) {
            let sized = self.states.iter_mut().map(|(_, state)| (state.memory(), state));
            let largest = sized.max_by_key(|(bytes, _)| *bytes);
            let moved = largest.map_or(0, |(_, state)| state.move_out(left));
            if moved == 0 {
                break;
            }
            left = left.saturating_sub(moved);
        }
        self.check_store()
    }

    fn check_store(&self) -> Result<(), Error> {
        match self.spill.as_ref().and_then(|spill| spill.take_error()) {
            Some(source) => Err(Error::Spill { source }),
            None => Ok(()),
        }
    }

    /// The key groups this instance owns.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// Says which versions the type of a state of keyed values has had, before it is declared.
    pub fn migrate<V: StateValue>(&mut self, name: &str, migration: Migration<V>) {
        self.migrations.insert(name.to_string(), migration.erase());
    }

    /// Makes what the checkpoint holds for a state that is about to be declared of the present version.
    fn apply_migration<C: Content>(&mut self, name: &str) -> Result<(), Error> {
        let Some(migration) = self.migrations.remove(name) else { return Ok(()) };
        if let Some(snapshot) = self.restored.iter_mut().find(|snapshot| snapshot.name == name) {
            let former = snapshot.version;
            migration.apply::<C>(snapshot)?;
            self.has_migrated |= former < migration.version;
        }
        self.versions.insert(name.to_string(), migration.version);
        Ok(())
    }

    /// Whether state was restored that is of another version in the checkpoint: no snapshot can build on that.
    pub fn has_migrated(&self) -> bool {
        self.has_migrated
    }

    /// Adds a state under a name and fills it with what the checkpoint holds for it.
    ///
    /// # Errors
    /// The name is taken, or the checkpoint's state does not fit.
    pub fn declare<S: State>(&mut self, name: &str, mut state: S) -> Result<Handle<S>, Error> {
        if self.states.iter().any(|(taken, _)| taken == name) {
            return Err(Error::DuplicateState(name.to_string()));
        }
        let handed_over = self.take_handed_over(name);
        let is_handed_over = handed_over.is_some();
        match handed_over {
            Some(former) => state = former,
            None if self.handed_over.is_some() && state.kind() == StateKind::Keyed => {
                return Err(Error::NotHandedOver(name.to_string()));
            }
            None => self.spill.iter().for_each(|spill| state.spill(spill)),
        }
        if let Some(at) = self.restored.iter().position(|snapshot| snapshot.name == name) {
            let snapshot = &self.restored[at];
            if snapshot.kind != state.kind() {
                return Err(Error::StateKind {
                    state: name.to_string(),
                    found: snapshot.kind,
                    declared: state.kind(),
                });
            }
            let declared = self.versions.get(name).copied().unwrap_or_default();
            if snapshot.version != declared {
                let (state, found) = (name.to_string(), snapshot.version);
                return Err(Error::StateVersion { state, found, declared });
            }
            if !is_handed_over {
                state.restore(snapshot)?;
            }
            self.restored.swap_remove(at);
            self.check_store()?;
        }
        if let (Some(since), Some(state)) = (self.since, state.incremental()) {
            state.track(since);
        }
        self.states.push((name.to_string(), Box::new(state)));
        Ok(Handle { index: self.states.len() - 1, state: PhantomData })
    }

    fn take_handed_over<S: State>(&mut self, name: &str) -> Option<S> {
        let handed_over = self.handed_over.as_mut()?;
        let at = handed_over.iter().position(|(found, state)| {
            let state: &dyn Any = &**state;
            found == name && state.is::<S>()
        })?;
        let state: Box<dyn Any> = handed_over.swap_remove(at).1;
        state.downcast().ok().map(|state| *state)
    }

    /// Declares a table of one value per key.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn keyed<K: crate::Key, V: StateValue>(
        &mut self,
        name: &str,
    ) -> Result<Handle<KeyedTable<K, V>>, Error> {
        self.declare(name, KeyedTable::new(self.range))
    }

    /// Declares a table of one value per namespace and key.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn namespaced<K: crate::Key, V: StateValue>(
        &mut self,
        name: &str,
    ) -> Result<Handle<NamespacedTable<K, V>>, Error> {
        self.declare(name, NamespacedTable::new(self.range))
    }

    /// Declares timers.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn timers<K: crate::Key>(&mut self, name: &str) -> Result<Handle<Timers<K>>, Error> {
        self.declare(name, Timers::new(self.range))
    }

    /// Declares a list whose items are dealt out evenly on a restore at another parallelism.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn list<V: StateValue>(&mut self, name: &str) -> Result<Handle<ItemList<V>>, Error> {
        self.declare(name, ItemList::new(StateKind::List))
    }

    /// Declares a list of which every subtask gets all items on a restore.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn union_list<V: StateValue>(&mut self, name: &str) -> Result<Handle<ItemList<V>>, Error> {
        self.declare(name, ItemList::new(StateKind::Union))
    }

    /// Declares a table that every subtask holds alike.
    ///
    /// # Errors
    /// As [`StateStore::declare`].
    pub fn broadcast<K: crate::Key, V: StateValue>(
        &mut self,
        name: &str,
    ) -> Result<Handle<BroadcastTable<K, V>>, Error> {
        self.declare(name, BroadcastTable::new())
    }

    /// Fails if the checkpoint holds state that nobody declared.
    ///
    /// # Errors
    /// [`Error::UnclaimedState`] with the first such name.
    pub fn check_all_claimed(&self) -> Result<(), Error> {
        match self.restored.first() {
            Some(left) => Err(Error::UnclaimedState(left.name.clone())),
            None => Ok(()),
        }
    }

    /// Takes what the checkpoint holds and nobody has declared.
    pub fn take_unclaimed(&mut self) -> Vec<StateSnapshot> {
        std::mem::take(&mut self.restored)
    }

    /// A state to read.
    #[inline]
    pub fn get<S: State>(&self, handle: Handle<S>) -> &S {
        let state: &dyn Any = &*self.states[handle.index].1;
        state.downcast_ref().expect("a handle's type is that of its state")
    }

    /// A state to change.
    #[inline]
    pub fn get_mut<S: State>(&mut self, handle: Handle<S>) -> &mut S {
        let state: &mut dyn Any = &mut *self.states[handle.index].1;
        state.downcast_mut().expect("a handle's type is that of its state")
    }

    /// Two different states to change at once.
    #[inline]
    pub fn get_two_mut<A: State, B: State>(&mut self, a: Handle<A>, b: Handle<B>) -> (&mut A, &mut B) {
        let [a, b] = self
            .states
            .get_disjoint_mut([a.index, b.index])
            .expect("two handles of one store are of two states");
        let (a, b): (&mut dyn Any, &mut dyn Any) = (&mut *a.1, &mut *b.1);
        let expectation = "a handle's type is that of its state";
        (a.downcast_mut().expect(expectation), b.downcast_mut().expect(expectation))
    }

    /// Begins a snapshot at a checkpoint's barrier: writes small states whole, and for each of the others the head of
    /// what [`drain`](StateStore::drain) will write. The one before must be drained or abandoned.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    pub fn open_epoch(
        &mut self,
        checkpoint: CheckpointId,
        extent: Extent,
    ) -> Result<Vec<StateSnapshot>, Error> {
        debug_assert!(self.draining.is_none(), "the last snapshot is not done");
        self.draining = Some(0);
        let is_noted = self.since.is_some();
        let versions = &self.versions;
        let heads = self.states.iter_mut().map(|(name, state)| {
            let mut head = StateSnapshot::new(name, state.kind());
            head.layout = state.layout();
            head.version = versions.get(name).copied().unwrap_or_default();
            match state.incremental() {
                Some(state) => {
                    if !is_noted {
                        // Needed until the snapshot is done, to tell what has changed meanwhile.
                        state.track(0);
                    }
                    state.open_epoch(checkpoint, if is_noted { extent } else { Extent::Base });
                    head.is_whole = false;
                }
                None => state.snapshot(&mut head)?,
            }
            Ok(head)
        });
        heads.collect()
    }

    /// Writes the next slice of the snapshot under way: rows with the place of their state among the heads. Returns
    /// whether that was the last.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    pub fn drain(&mut self, budget: &mut Budget, out: &mut Vec<(usize, GroupRows)>) -> Result<bool, Error> {
        let Some(mut at) = self.draining else { return Ok(true) };
        let mut rows = Vec::new();
        while let Some((name, state)) = self.states.get_mut(at) {
            let drained = state.incremental().map_or(Ok(true), |state| state.drain(name, budget, &mut rows));
            out.extend(rows.drain(..).map(|rows| (at, rows)));
            let is_done = drained?;
            if let Some(source) = self.spill.as_ref().and_then(|spill| spill.take_error()) {
                return Err(Error::Spill { source });
            }
            if !is_done {
                self.draining = Some(at);
                return Ok(false);
            }
            at += 1;
        }
        self.end_snapshot();
        Ok(true)
    }

    /// A snapshot of everything, written at once, outside any checkpoint: for tests of sources and sinks.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    pub fn snapshot(&mut self) -> Result<Vec<StateSnapshot>, Error> {
        let mut snapshots = self.open_epoch(CheckpointId::MAX, Extent::Base)?;
        let mut out = Vec::new();
        while !self.drain(&mut Budget::unlimited(), &mut out)? {}
        for (state, rows) in out {
            snapshots[state].groups.push(rows);
        }
        Ok(snapshots)
    }

    /// Whether a snapshot is under way.
    pub fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Gives up the snapshot under way, if any. The next one holds what it would have held.
    pub fn abandon(&mut self) {
        if self.draining.is_some() {
            self.incremental().for_each(|state| state.abandon());
            self.end_snapshot();
        }
    }

    fn end_snapshot(&mut self) {
        self.draining = None;
        if self.since.is_none() {
            self.incremental().for_each(|state| state.untrack());
        }
    }

    fn incremental(&mut self) -> impl Iterator<Item = &mut dyn Incremental> {
        self.states.iter_mut().filter_map(|(_, state)| state.incremental())
    }
}
