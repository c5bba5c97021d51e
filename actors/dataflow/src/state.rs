//! State of operators: declared once, typed in memory, snapshotted by the runtime.
//!
//! An operator declares its states in [`Operator::open`](crate::operator::Operator::open) and gets a [`Handle`] for
//! each. The [`StateStore`] owns them; during a call the operator borrows them by handle, once per batch.

mod broadcast;
mod codec;
mod handles;
mod list;
mod prefetch;
mod table;
mod timers;

pub use broadcast::BroadcastTable;
pub use handles::{
    AggregatingState, KeyScope, ListState, MapState, ReducingState, Scope, StateTtl, TtlUpdate, ValueState,
};
pub use list::ItemList;
pub use table::{KeyedTable, LookAhead, NamespacedTable};
pub use timers::Timers;

use crate::error::Error;
use crate::key::KeyGroupRange;
use crate::snapshot::{StateKind, StateSnapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;
use std::marker::PhantomData;

/// What may be kept as a state's value. Implemented for all types that can be sent and (de)serialised.
pub trait StateValue: Send + Serialize + DeserializeOwned + 'static {}
impl<V: Send + Serialize + DeserializeOwned + 'static> StateValue for V {}

/// One state of one operator instance, as the runtime sees it.
pub trait State: Any + Send {
    /// How it is handed out on a restore.
    fn kind(&self) -> StateKind;

    /// Writes everything to `out`.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error>;

    /// Adds what a snapshot holds to the state.
    ///
    /// # Errors
    /// Bytes that do not fit the state's type.
    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error>;
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
}

impl StateStore {
    /// A store for the given key groups that hands restored state to whoever declares it.
    pub fn new(range: KeyGroupRange, restored: Vec<StateSnapshot>) -> Self {
        StateStore { range, restored, states: Vec::new() }
    }

    /// The key groups this instance owns.
    pub fn range(&self) -> KeyGroupRange {
        self.range
    }

    /// Adds a state under a name and fills it with what the checkpoint holds for it.
    ///
    /// # Errors
    /// The name is taken, or the checkpoint's state does not fit.
    pub fn declare<S: State>(&mut self, name: &str, mut state: S) -> Result<Handle<S>, Error> {
        if self.states.iter().any(|(taken, _)| taken == name) {
            return Err(Error::DuplicateState(name.to_string()));
        }
        if let Some(at) = self.restored.iter().position(|snapshot| snapshot.name == name) {
            let snapshot = self.restored.swap_remove(at);
            if snapshot.kind != state.kind() {
                return Err(Error::StateKind {
                    state: name.to_string(),
                    found: snapshot.kind,
                    declared: state.kind(),
                });
            }
            state.restore(&snapshot)?;
        }
        self.states.push((name.to_string(), Box::new(state)));
        Ok(Handle { index: self.states.len() - 1, state: PhantomData })
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

    /// Writes all states.
    ///
    /// # Errors
    /// A key or value that cannot be serialised.
    pub fn snapshot(&self) -> Result<Vec<StateSnapshot>, Error> {
        self.states
            .iter()
            .map(|(name, state)| {
                let mut snapshot = StateSnapshot::new(name, state.kind());
                state.snapshot(&mut snapshot)?;
                Ok(snapshot)
            })
            .collect()
    }
}
