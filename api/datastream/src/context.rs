//! What process functions see: the current record's time and key, state, timers, outputs.

use hurtig_dataflow::error::Error;
use hurtig_dataflow::operator::{AggregateFunction, OpenContext, OutputTag, Parts, Place};
use hurtig_dataflow::state::{
    AggregatingState, BroadcastTable, Handle, KeyScope, ListState, MapState, Migration, ReducingState, Scope,
    StateStore, StateTtl, StateValue, Timers, ValueState,
};
use hurtig_dataflow::{Key, Record, Rows, Timestamp};
use std::marker::PhantomData;

/// Which clock a time belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeDomain {
    /// The time in the records, as the watermark tells it.
    EventTime,
    /// The time of the machine.
    ProcessingTime,
}

/// A timer that has come due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// What it was registered for.
    pub time: Timestamp,
    /// By which clock.
    pub domain: TimeDomain,
}

/// What a keyed function sees when it opens: declares its states here.
pub struct KeyedOpenContext<'p, K> {
    place: &'p Place,
    states: &'p mut StateStore,
    restored: bool,
    ttl: Option<StateTtl>,
    key: PhantomData<fn(K)>,
}

impl<'p, K: Key> KeyedOpenContext<'p, K> {
    pub(crate) fn new(ctx: &'p mut OpenContext<'_>) -> Self {
        KeyedOpenContext {
            place: ctx.place,
            states: ctx.states,
            restored: ctx.restored,
            ttl: None,
            key: PhantomData,
        }
    }

    /// The same, with a time-to-live for the states declared through it.
    pub fn with_ttl(&mut self, ttl: StateTtl) -> KeyedOpenContext<'_, K> {
        KeyedOpenContext {
            place: self.place,
            states: self.states,
            restored: self.restored,
            ttl: Some(ttl),
            key: PhantomData,
        }
    }

    /// Where the operator is.
    pub fn place(&self) -> &Place {
        self.place
    }

    /// Whether the operator starts from a checkpoint.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Says which versions the type of a state has had, and how each becomes the next, before it is declared: a savepoint
    /// with values of an earlier one can then be restored. For values, items of lists, values of maps, accumulators.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// # use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Clone, Default)]
    /// struct Longest {
    ///     stay: ValueState<Stay>,
    /// }
    ///
    /// #[derive(Clone, Serialize, Deserialize)]
    /// struct Stay {
    ///     ms: u64,
    ///     place: Option<String>,
    /// }
    ///
    /// impl KeyedProcessFunction<u64, u64> for Longest {
    ///     type Out = u64;
    ///
    ///     fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
    ///         // It was a number of seconds once.
    ///         let migration = Migration::<u32>::new().then(|s| Stay { ms: u64::from(s) * 1_000, place: None });
    ///         ctx.migrate("stay", migration);
    ///         self.stay = ctx.value_state("stay")?;
    ///         Ok(())
    ///     }
    ///
    ///     fn process(&mut self, ms: u64, ctx: &mut KeyedContext<'_, u64, u64>) -> OpResult {
    ///         let longest = self.stay.get(ctx).map_or(0, |stay| stay.ms);
    ///         if ms > longest {
    ///             self.stay.set(ctx, Stay { ms, place: None });
    ///             ctx.emit(ms);
    ///         }
    ///         Ok(())
    ///     }
    /// }
    /// ```
    pub fn migrate<V: StateValue>(&mut self, name: &str, migration: Migration<V>) {
        self.states.migrate(name, migration);
    }

    /// Declares one value per key.
    ///
    /// # Errors
    /// The name is taken, or the checkpoint's state does not fit.
    pub fn value_state<V: StateValue>(&mut self, name: &str) -> Result<ValueState<V>, Error> {
        ValueState::declare::<K>(self.states, name, self.ttl)
    }

    /// Declares a list per key.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn list_state<V: StateValue>(&mut self, name: &str) -> Result<ListState<V>, Error> {
        ListState::declare::<K>(self.states, name, self.ttl)
    }

    /// Declares a map per key.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn map_state<M: Key, V: StateValue>(&mut self, name: &str) -> Result<MapState<M, V>, Error> {
        MapState::declare::<K>(self.states, name, self.ttl)
    }

    /// Declares one value per key into which others are reduced.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn reducing_state<V: StateValue>(
        &mut self,
        name: &str,
        reduce: impl Fn(V, V) -> V + Send + Sync + 'static,
    ) -> Result<ReducingState<V>, Error> {
        ReducingState::declare::<K>(self.states, name, self.ttl, reduce)
    }

    /// Declares one accumulator per key.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn aggregating_state<A: AggregateFunction>(
        &mut self,
        name: &str,
        function: A,
    ) -> Result<AggregatingState<A>, Error> {
        AggregatingState::declare::<K>(self.states, name, self.ttl, function)
    }

    /// Declares a table that every subtask holds alike, for functions that read a broadcast stream.
    ///
    /// # Errors
    /// As [`KeyedOpenContext::value_state`].
    pub fn broadcast_state<B: Key, V: StateValue>(
        &mut self,
        name: &str,
    ) -> Result<Handle<BroadcastTable<B, V>>, Error> {
        self.states.broadcast(name)
    }
}

/// The timers of a keyed operator.
pub(crate) struct KeyedTimers<K> {
    pub(crate) event: Handle<Timers<K>>,
    pub(crate) processing: Handle<Timers<K>>,
}

impl<K> Clone for KeyedTimers<K> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K> Copy for KeyedTimers<K> {}
impl<K> Default for KeyedTimers<K> {
    fn default() -> Self {
        KeyedTimers { event: Handle::default(), processing: Handle::default() }
    }
}

impl<K: Key> KeyedTimers<K> {
    pub(crate) fn declare(states: &mut StateStore) -> Result<Self, Error> {
        Ok(KeyedTimers {
            event: states.timers("event-time-timers")?,
            processing: states.timers("processing-time-timers")?,
        })
    }

    pub(crate) fn of(self, domain: TimeDomain) -> Handle<Timers<K>> {
        match domain {
            TimeDomain::EventTime => self.event,
            TimeDomain::ProcessingTime => self.processing,
        }
    }
}

macro_rules! common_context {
    () => {
        /// Event time of the record or timer, if it has one.
        pub fn timestamp(&self) -> Option<Timestamp> {
            self.time
        }

        /// The watermark: no record at or below it is on time.
        pub fn watermark(&self) -> Timestamp {
            self.parts.watermark
        }

        /// Processing time.
        pub fn processing_time(&self) -> Timestamp {
            self.parts.now
        }

        /// Puts out a record with the event time of the record or timer.
        #[inline]
        pub fn emit(&mut self, record: Out) {
            self.parts.out.push(record, self.time);
        }

        /// Puts out a record with an event time of its own.
        #[inline]
        pub fn emit_at(&mut self, record: Out, time: Timestamp) {
            self.parts.out.push(record, Some(time));
        }

        /// Puts out a record to a side output.
        pub fn emit_side<S: Record>(&mut self, tag: &OutputTag<S>, record: S) {
            self.parts.sides.emit(tag, record, self.time);
        }
    };
}

/// What a function of a keyed stream sees: the current key's state and timers.
pub struct KeyedContext<'p, K, Out> {
    pub(crate) parts: Parts<'p, Rows<Out>>,
    pub(crate) key: &'p K,
    pub(crate) hash: u64,
    pub(crate) time: Option<Timestamp>,
    pub(crate) timers: KeyedTimers<K>,
}

impl<K: Key, Out: Record> KeyedContext<'_, K, Out> {
    common_context!();

    /// The current key.
    pub fn key(&self) -> &K {
        self.key
    }

    /// Wakes the function for this key once the watermark has reached `time`.
    pub fn register_event_time_timer(&mut self, time: Timestamp) {
        self.parts.states.get_mut(self.timers.event).register(time, self.key.clone());
    }

    /// Wakes the function for this key once processing time has reached `time`.
    pub fn register_processing_time_timer(&mut self, time: Timestamp) {
        self.parts.states.get_mut(self.timers.processing).register(time, self.key.clone());
    }

    /// Takes a timer back; none there is no error.
    pub fn delete_event_time_timer(&mut self, time: Timestamp) {
        self.parts.states.get_mut(self.timers.event).delete(time, self.key);
    }

    /// Takes a timer back; none there is no error.
    pub fn delete_processing_time_timer(&mut self, time: Timestamp) {
        self.parts.states.get_mut(self.timers.processing).delete(time, self.key);
    }

    /// A broadcast table to read.
    pub fn broadcast<B: Key, V: StateValue>(
        &self,
        table: Handle<BroadcastTable<B, V>>,
    ) -> &BroadcastTable<B, V> {
        self.parts.states.get(table)
    }
}

impl<K: Key, Out> KeyScope for KeyedContext<'_, K, Out> {
    type Key = K;

    #[inline]
    fn scope(&mut self) -> Scope<'_, K> {
        Scope::new(self.parts.states, self.key, self.hash, self.parts.now)
    }
}

/// What a function of a stream without keys sees.
pub struct ProcessContext<'p, Out> {
    pub(crate) parts: Parts<'p, Rows<Out>>,
    pub(crate) time: Option<Timestamp>,
}

impl<Out: Record> ProcessContext<'_, Out> {
    common_context!();

    /// The operator's states, as far as the function declared any.
    pub fn states(&mut self) -> &mut StateStore {
        self.parts.states
    }

    /// A broadcast table to read.
    pub fn broadcast<B: Key, V: StateValue>(
        &self,
        table: Handle<BroadcastTable<B, V>>,
    ) -> &BroadcastTable<B, V> {
        self.parts.states.get(table)
    }
}

/// What a function sees for a record of the broadcast stream: the only place where broadcast tables may be changed, so
/// that they stay the same in all subtasks.
pub struct BroadcastContext<'p, Out> {
    pub(crate) parts: Parts<'p, Rows<Out>>,
    pub(crate) time: Option<Timestamp>,
}

impl<Out: Record> BroadcastContext<'_, Out> {
    common_context!();

    /// A broadcast table to change. All subtasks must change it alike.
    pub fn broadcast_mut<B: Key, V: StateValue>(
        &mut self,
        table: Handle<BroadcastTable<B, V>>,
    ) -> &mut BroadcastTable<B, V> {
        self.parts.states.get_mut(table)
    }
}
