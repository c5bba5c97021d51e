//! Keyed state as process functions use it: a handle per state, read and written for the current key.
//!
//! Values live typed in memory; nothing is serialised on access.

use super::migration::Content;
use super::{Handle, KeyedTable, StateStore, StateValue};
use crate::error::{BoxError, Error};
use crate::key::Key;
use crate::operator::AggregateFunction;
use crate::time::{Timestamp, millis};
use rmpv::Value;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::hash::Hash;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// What refreshes a value's time-to-live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TtlUpdate {
    /// Writing only.
    OnWrite,
    /// Reading and writing.
    OnReadAndWrite,
}

/// How long a value lives after it was last refreshed, in processing time. An expired value is never seen again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateTtl {
    /// Life after the last refresh.
    pub life: Duration,
    /// What counts as a refresh.
    pub update: TtlUpdate,
}

impl StateTtl {
    /// A time-to-live that writing refreshes.
    pub fn new(life: Duration) -> Self {
        StateTtl { life, update: TtlUpdate::OnWrite }
    }

    /// Lets reading refresh it too.
    pub fn refreshed_on_read(mut self) -> Self {
        self.update = TtlUpdate::OnReadAndWrite;
        self
    }
}

/// The key that is being processed, with the operator's states.
pub struct Scope<'a, K> {
    pub(crate) states: &'a mut StateStore,
    pub(crate) key: &'a K,
    pub(crate) hash: u64,
    pub(crate) now: Timestamp,
}

impl<'a, K> Scope<'a, K> {
    /// The scope of one key at a processing time; `hash` is the key's [`hash_key`](crate::key::hash_key).
    pub fn new(states: &'a mut StateStore, key: &'a K, hash: u64, now: Timestamp) -> Self {
        Scope { states, key, hash, now }
    }
}

/// A context that has a current key: what state handles are used with.
pub trait KeyScope {
    /// Type of the key.
    type Key: Key;

    /// The current key and the operator's states.
    fn scope(&mut self) -> Scope<'_, Self::Key>;
}

/// A value and the processing time of its last refresh; the time is kept for states with a time-to-live only.
#[derive(Serialize, Deserialize)]
pub(crate) struct Timed<V> {
    touched: Timestamp,
    value: V,
}

impl<V> Timed<V> {
    fn is_live(&self, ttl: Option<StateTtl>, now: Timestamp) -> bool {
        ttl.is_none_or(|ttl| self.touched.saturating_add(millis(ttl.life)) > now)
    }

    fn refresh(&mut self, ttl: Option<StateTtl>, now: Timestamp) {
        if self.is_live(ttl, now) {
            self.touched = now;
        }
    }
}

type Cells<K, C> = KeyedTable<K, C>;

/// What all handles share: where the state is and how long it lives.
struct Cell<C> {
    index: usize,
    ttl: Option<StateTtl>,
    content: PhantomData<fn() -> C>,
}

impl<C> Clone for Cell<C> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<C> Copy for Cell<C> {}
impl<C> Default for Cell<C> {
    fn default() -> Self {
        Cell { index: usize::MAX, ttl: None, content: PhantomData }
    }
}

impl<V> Content for Timed<V> {
    fn replace(
        content: &mut Value,
        each: &mut dyn FnMut(&mut Value) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        let fields = match content {
            Value::Map(fields) => fields,
            _ => return Err("a value is not of a keyed state".into()),
        };
        let value = fields.iter_mut().find(|(name, _)| name.as_str() == Some("value"));
        each(&mut value.ok_or("a keyed state has no value")?.1)
    }
}

impl<V> Content for Vec<Timed<V>> {
    fn replace(
        content: &mut Value,
        each: &mut dyn FnMut(&mut Value) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        match content {
            Value::Array(items) => items.iter_mut().try_for_each(|item| Timed::<V>::replace(item, each)),
            _ => Err("a value is not a list".into()),
        }
    }
}

impl<M, V> Content for HashMap<M, Timed<V>> {
    fn replace(
        content: &mut Value,
        each: &mut dyn FnMut(&mut Value) -> Result<(), BoxError>,
    ) -> Result<(), BoxError> {
        match content {
            Value::Map(entries) => {
                entries.iter_mut().try_for_each(|(_, entry)| Timed::<V>::replace(entry, each))
            }
            _ => Err("a value is not a map".into()),
        }
    }
}

impl<C: StateValue + Content> Cell<C> {
    fn declare<K: Key>(states: &mut StateStore, name: &str, ttl: Option<StateTtl>) -> Result<Self, Error> {
        states.apply_migration::<C>(name)?;
        let handle: Handle<Cells<K, C>> = states.keyed(name)?;
        Ok(Cell { index: handle.index, ttl, content: PhantomData })
    }

    #[inline]
    fn handle<K>(self) -> Handle<Cells<K, C>> {
        Handle { index: self.index, state: PhantomData }
    }

    /// What the current key holds, to read.
    #[inline]
    fn read<'a, K: Key>(self, scope: Scope<'a, K>) -> Option<&'a C> {
        scope.states.get_mut(self.handle::<K>()).get(scope.hash, scope.key)
    }

    #[inline]
    fn find<'a, K: Key>(self, scope: Scope<'a, K>) -> Option<&'a mut C> {
        scope.states.get_mut(self.handle::<K>()).get_mut(scope.hash, scope.key)
    }

    #[inline]
    fn find_or_insert<'a, K: Key>(self, scope: Scope<'a, K>, init: impl FnOnce() -> C) -> &'a mut C {
        scope.states.get_mut(self.handle::<K>()).get_or_insert_with(scope.hash, scope.key.clone(), init)
    }

    fn remove<K: Key>(self, scope: Scope<'_, K>) -> Option<C> {
        scope.states.get_mut(self.handle::<K>()).remove(scope.hash, scope.key)
    }

    fn refreshes_on_read(self) -> bool {
        self.ttl.is_some_and(|ttl| ttl.update == TtlUpdate::OnReadAndWrite)
    }
}

macro_rules! handle_type {
    ($(#[$doc:meta])* $name:ident<$($param:ident),+>, $content:ty, [$($bound:tt)*]) => {
        $(#[$doc])*
        pub struct $name<$($param),+> {
            cell: Cell<$content>,
        }
        impl<$($param),+> Clone for $name<$($param),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($param),+> Copy for $name<$($param),+> {}
        impl<$($param),+> Default for $name<$($param),+> {
            fn default() -> Self {
                $name { cell: Cell::default() }
            }
        }
        impl<$($bound)*> $name<$($param),+> {
            /// Declares the state under a name; called from `open`.
            ///
            /// # Errors
            /// The name is taken, or the checkpoint's state does not fit.
            pub fn declare<KEY: Key>(
                states: &mut StateStore,
                name: &str,
                ttl: Option<StateTtl>,
            ) -> Result<Self, Error> {
                Ok($name { cell: Cell::declare::<KEY>(states, name, ttl)? })
            }

            /// What each key holds, whatever its time-to-live, in no order.
            pub(crate) fn for_each_cell<KEY: Key>(
                &self,
                states: &StateStore,
                each: impl FnMut(&KEY, &$content),
            ) {
                states.get(self.cell.handle::<KEY>()).for_each(each);
            }

            /// Forgets everything the current key holds in this state.
            pub fn clear(&self, ctx: &mut impl KeyScope) {
                self.cell.remove(ctx.scope());
            }
        }
    };
}

handle_type!(
    /// One value per key.
    ValueState<V>, Timed<V>, [V: StateValue]
);

impl<V: StateValue> ValueState<V> {
    /// All keys' values, whatever their time-to-live, in no order. For those who look at a checkpoint from outside.
    pub fn for_each<K: Key>(&self, states: &StateStore, mut each: impl FnMut(&K, &V)) {
        self.for_each_cell(states, |key, timed| each(key, &timed.value));
    }

    /// The current key's value.
    #[inline]
    pub fn get<'a>(&self, ctx: &'a mut impl KeyScope) -> Option<&'a V> {
        if self.cell.refreshes_on_read() {
            return self.get_mut(ctx).map(|value| &*value);
        }
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        self.cell.read(scope).filter(|timed| timed.is_live(ttl, now)).map(|timed| &timed.value)
    }

    /// The current key's value, to change in place. Counts as a read, and as a write only for a time-to-live that
    /// reading refreshes.
    #[inline]
    pub fn get_mut<'a>(&self, ctx: &'a mut impl KeyScope) -> Option<&'a mut V> {
        let scope = ctx.scope();
        let now = scope.now;
        let timed = self.cell.find(scope)?;
        if self.cell.ttl.is_some() {
            if !timed.is_live(self.cell.ttl, now) {
                return None;
            }
            if self.cell.refreshes_on_read() {
                timed.touched = now;
            }
        }
        Some(&mut timed.value)
    }

    /// Sets the current key's value.
    #[inline]
    pub fn set(&self, ctx: &mut impl KeyScope, value: V) {
        let scope = ctx.scope();
        let touched = scope.now;
        let timed = Timed { touched, value };
        scope.states.get_mut(self.cell.handle()).insert(scope.hash, scope.key.clone(), timed);
    }

    /// Takes the current key's value away.
    pub fn take(&self, ctx: &mut impl KeyScope) -> Option<V> {
        let scope = ctx.scope();
        let now = scope.now;
        self.cell.remove(scope).filter(|timed| timed.is_live(self.cell.ttl, now)).map(|timed| timed.value)
    }
}

handle_type!(
    /// A list of values per key; with a time-to-live each value expires by itself.
    ListState<V>, Vec<Timed<V>>, [V: StateValue]
);

impl<V: StateValue> ListState<V> {
    /// All keys' values, whatever their time-to-live, those of a key in their order. For those who look at a checkpoint
    /// from outside.
    pub fn for_each<K: Key>(&self, states: &StateStore, mut each: impl FnMut(&K, &V)) {
        self.for_each_cell(states, |key, list| list.iter().for_each(|timed| each(key, &timed.value)));
    }

    /// Adds a value at the end of the current key's list.
    #[inline]
    pub fn add(&self, ctx: &mut impl KeyScope, value: V) {
        let scope = ctx.scope();
        let touched = scope.now;
        self.cell.find_or_insert(scope, Vec::new).push(Timed { touched, value });
    }

    /// The current key's values in the order they were added.
    pub fn iter<'a, KS: KeyScope>(
        &self,
        ctx: &'a mut KS,
    ) -> impl DoubleEndedIterator<Item = &'a V> + use<'a, V, KS> {
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        let values: &[Timed<V>] = match self.cell.refreshes_on_read() {
            false => self.cell.read(scope).map(Vec::as_slice).unwrap_or_default(),
            true => {
                let values = self.cell.find(scope).map(Vec::as_mut_slice).unwrap_or_default();
                values.iter_mut().for_each(|timed| timed.refresh(ttl, now));
                values
            }
        };
        values.iter().filter(move |timed| timed.is_live(ttl, now)).map(|timed| &timed.value)
    }

    /// Replaces the current key's list.
    pub fn set(&self, ctx: &mut impl KeyScope, values: impl IntoIterator<Item = V>) {
        let scope = ctx.scope();
        let touched = scope.now;
        let values: Vec<_> = values.into_iter().map(|value| Timed { touched, value }).collect();
        scope.states.get_mut(self.cell.handle()).insert(scope.hash, scope.key.clone(), values);
    }

    /// Takes the current key's list away.
    pub fn take(&self, ctx: &mut impl KeyScope) -> Vec<V> {
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        let values = self.cell.remove(scope).unwrap_or_default();
        values.into_iter().filter(|timed| timed.is_live(ttl, now)).map(|timed| timed.value).collect()
    }
}

handle_type!(
    /// A map per key; with a time-to-live each entry expires by itself.
    MapState<M, V>, HashMap<M, Timed<V>>, [M: Key, V: StateValue]
);

impl<M: Key + Hash + Eq, V: StateValue> MapState<M, V> {
    /// All keys' entries, whatever their time-to-live, in no order. For those who look at a checkpoint from outside.
    pub fn for_each<K: Key>(&self, states: &StateStore, mut each: impl FnMut(&K, &M, &V)) {
        self.for_each_cell(states, |key: &K, map| {
            map.iter().for_each(|(map_key, timed)| each(key, map_key, &timed.value));
        });
    }

    /// The value under `map_key` in the current key's map.
    #[inline]
    pub fn get<'a>(&self, ctx: &'a mut impl KeyScope, map_key: &M) -> Option<&'a V> {
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        let timed = match self.cell.refreshes_on_read() {
            false => self.cell.read(scope)?.get(map_key)?,
            true => {
                let timed = self.cell.find(scope)?.get_mut(map_key)?;
                timed.refresh(ttl, now);
                timed
            }
        };
        timed.is_live(ttl, now).then_some(&timed.value)
    }

    /// Sets an entry of the current key's map.
    #[inline]
    pub fn insert(&self, ctx: &mut impl KeyScope, map_key: M, value: V) {
        let scope = ctx.scope();
        let touched = scope.now;
        self.cell.find_or_insert(scope, HashMap::new).insert(map_key, Timed { touched, value });
    }

    /// Removes an entry of the current key's map.
    pub fn remove(&self, ctx: &mut impl KeyScope, map_key: &M) -> Option<V> {
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        let removed = self.cell.find(scope)?.remove(map_key)?;
        removed.is_live(ttl, now).then_some(removed.value)
    }

    /// Entries of the current key's map, in no order.
    pub fn iter<'a, KS: KeyScope>(
        &self,
        ctx: &'a mut KS,
    ) -> impl Iterator<Item = (&'a M, &'a V)> + use<'a, M, V, KS> {
        let scope = ctx.scope();
        let (now, ttl) = (scope.now, self.cell.ttl);
        let entries: Option<&HashMap<M, Timed<V>>> = match self.cell.refreshes_on_read() {
            false => self.cell.read(scope),
            true => self.cell.find(scope).map(|entries| {
                entries.values_mut().for_each(|timed| timed.refresh(ttl, now));
                &*entries
            }),
        };
        let live = entries.into_iter().flatten().filter(move |(_, timed)| timed.is_live(ttl, now));
        live.map(|(key, timed)| (key, &timed.value))
    }
}

/// One value per key into which others are reduced.
pub struct ReducingState<V> {
    value: ValueState<V>,
    reduce: Arc<dyn Fn(V, V) -> V + Send + Sync>,
}

impl<V> Clone for ReducingState<V> {
    fn clone(&self) -> Self {
        ReducingState { value: self.value, reduce: Arc::clone(&self.reduce) }
    }
}

impl<V: StateValue> ReducingState<V> {
    /// Declares the state under a name; called from `open`.
    ///
    /// # Errors
    /// The name is taken, or the checkpoint's state does not fit.
    pub fn declare<K: Key>(
        states: &mut StateStore,
        name: &str,
        ttl: Option<StateTtl>,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        Ok(ReducingState { value: ValueState::declare::<K>(states, name, ttl)?, reduce: Arc::new(reduce) })
    }

    /// Reduces a value into the current key's.
    pub fn add(&self, ctx: &mut impl KeyScope, value: V) {
        let value = match self.value.take(ctx) {
            Some(old) => (self.reduce)(old, value),
            None => value,
        };
        self.value.set(ctx, value);
    }

    /// The current key's value.
    pub fn get<'a>(&self, ctx: &'a mut impl KeyScope) -> Option<&'a V> {
        self.value.get(ctx)
    }

    /// Forgets the current key's value.
    pub fn clear(&self, ctx: &mut impl KeyScope) {
        self.value.clear(ctx);
    }
}

/// One accumulator per key into which inputs are aggregated.
pub struct AggregatingState<A: AggregateFunction> {
    accumulator: ValueState<A::Accumulator>,
    function: Arc<A>,
}

impl<A: AggregateFunction> Clone for AggregatingState<A> {
    fn clone(&self) -> Self {
        AggregatingState { accumulator: self.accumulator, function: Arc::clone(&self.function) }
    }
}

impl<A: AggregateFunction> AggregatingState<A> {
    /// Declares the state under a name; called from `open`.
    ///
    /// # Errors
    /// The name is taken, or the checkpoint's state does not fit.
    pub fn declare<K: Key>(
        states: &mut StateStore,
        name: &str,
        ttl: Option<StateTtl>,
        function: A,
    ) -> Result<Self, Error> {
        let accumulator = ValueState::declare::<K>(states, name, ttl)?;
        Ok(AggregatingState { accumulator, function: Arc::new(function) })
    }

    /// Aggregates an input into the current key's accumulator.
    pub fn add(&self, ctx: &mut impl KeyScope, input: &A::In) {
        let mut accumulator = self.accumulator.take(ctx).unwrap_or_else(|| self.function.create());
        self.function.add(&mut accumulator, input);
        self.accumulator.set(ctx, accumulator);
    }

    /// The current key's result, if anything was added.
    pub fn get(&self, ctx: &mut impl KeyScope) -> Option<A::Out> {
        self.accumulator.get(ctx).map(|accumulator| self.function.result(accumulator))
    }

    /// Forgets the current key's accumulator.
    pub fn clear(&self, ctx: &mut impl KeyScope) {
        self.accumulator.clear(ctx);
    }
}
