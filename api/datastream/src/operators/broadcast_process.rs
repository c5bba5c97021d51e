//! Runs a user's function over a stream and a broadcast one, which every subtask sees in full. Keeps what the function
//! declares; tables filled from the broadcast stream are the same in all subtasks.

use crate::connected::{BroadcastConnectedStreams, KeyedBroadcastConnectedStreams};
use crate::context::{
    BroadcastContext, KeyedContext, KeyedOpenContext, KeyedTimers, ProcessContext, TimeDomain, Timer,
};
use crate::keyed::{KeyedBatch, Keys};
use crate::operators::keyed_process::{fire_timers, timer_methods};
use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, OpenContext, Progress, TwoInputOperator};
use hurtig_dataflow::state::StateStore;
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use parking_lot::Mutex;

/// A function over a stream and a broadcast one. Each subtask works with its own clone.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// /// Lets words through that no rule forbids.
/// #[derive(Clone, Default)]
/// struct Censor {
///     forbidden: Handle<BroadcastTable<String, ()>>,
/// }
/// impl BroadcastProcessFunction<String, String> for Censor {
///     type Out = String;
///     fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
///         self.forbidden = ctx.states.broadcast("forbidden")?;
///         Ok(())
///     }
///     fn process(&mut self, word: String, ctx: &mut ProcessContext<'_, String>) -> OpResult {
///         if ctx.broadcast(self.forbidden).get(&word).is_none() {
///             ctx.emit(word);
///         }
///         Ok(())
///     }
///     fn process_broadcast(&mut self, word: String, ctx: &mut BroadcastContext<'_, String>) -> OpResult {
///         ctx.broadcast_mut(self.forbidden).insert(word, ());
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// let words = env.from_collection(vec!["to".to_string(), "be".to_string()]);
/// let rules = env.from_collection(vec!["not".to_string()]);
/// words.connect_broadcast(&rules).process(Censor::default()).print();
/// ```
pub trait BroadcastProcessFunction<T: Record, B: Record>: Send + 'static {
    /// Records put out.
    type Out: Record;

    /// Declares state. Called once per subtask before anything else.
    ///
    /// # Errors
    /// Fails the attempt.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Takes a record of the stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process(&mut self, record: T, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult;

    /// Takes a record of the broadcast stream. Must change tables by the record alone.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process_broadcast(&mut self, record: B, ctx: &mut BroadcastContext<'_, Self::Out>) -> OpResult;
}

/// A function over a keyed stream and a broadcast one, with state and timers per key. Each subtask works with its own
/// clone; see [`BroadcastProcessFunction`] for an example without keys.
pub trait KeyedBroadcastProcessFunction<K: Key, T: Record, B: Record>: Send + 'static {
    /// Records put out.
    type Out: Record;

    /// Declares state. Called once per subtask before anything else.
    ///
    /// # Errors
    /// Fails the attempt.
    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, K>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Takes a record of the keyed stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process(&mut self, record: T, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult;

    /// Takes a record of the broadcast stream. Must change tables by the record alone.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process_broadcast(&mut self, record: B, ctx: &mut BroadcastContext<'_, Self::Out>) -> OpResult;

    /// A timer has come due for the current key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<T: Record, B: Record> BroadcastConnectedStreams<T, B> {
    /// Runs a function over both streams; see [`BroadcastProcessFunction`].
    pub fn process<F: BroadcastProcessFunction<T, B> + Clone>(&self, function: F) -> DataStream<F::Out> {
        let prototype = Mutex::new(function);
        self.stream.transform_two(&self.broadcast, "BroadcastProcess", move || BroadcastProcess {
            function: prototype.lock().clone(),
            rest: (RowsIter::default(), RowsIter::default()),
        })
    }
}

impl<T: Record, K: Key, B: Record> KeyedBroadcastConnectedStreams<T, K, B> {
    /// Runs a function with state and timers per key over both streams; see [`KeyedBroadcastProcessFunction`].
    pub fn process<F: KeyedBroadcastProcessFunction<K, T, B> + Clone>(
        &self,
        function: F,
    ) -> DataStream<F::Out> {
        let (keys, prototype) = (self.keys.clone(), Mutex::new(function));
        self.stream.transform_two(&self.broadcast, "KeyedBroadcastProcess", move || {
            KeyedBroadcastProcess::new(keys.clone(), prototype.lock().clone())
        })
    }
}

struct BroadcastProcess<T, B, F> {
    function: F,
    rest: (RowsIter<T>, RowsIter<B>),
}

impl<T: Record, B: Record, F: BroadcastProcessFunction<T, B>> TwoInputOperator for BroadcastProcess<T, B, F> {
    type In1 = Rows<T>;
    type In2 = Rows<B>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.function.open(ctx)
    }

    fn process1(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.rest.0 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.rest.1 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        for (record, time) in self.rest.0.by_ref() {
            self.function.process(record, &mut ProcessContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        for (record, time) in self.rest.1.by_ref() {
            self.function.process_broadcast(record, &mut BroadcastContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }
}

struct KeyedBroadcastProcess<T, K, B, F> {
    input: KeyedBatch<T, K>,
    broadcast: RowsIter<B>,
    function: F,
    timers: KeyedTimers<K>,
}

impl<T: Record, K: Key, B, F> KeyedBroadcastProcess<T, K, B, F> {
    fn new(keys: Keys<T, K>, function: F) -> Self {
        KeyedBroadcastProcess {
            input: KeyedBatch::new(keys),
            broadcast: RowsIter::default(),
            function,
            timers: KeyedTimers::default(),
        }
    }
}

impl<T, K, B, F> TwoInputOperator for KeyedBroadcastProcess<T, K, B, F>
where
    T: Record,
    K: Key,
    B: Record,
    F: KeyedBroadcastProcessFunction<K, T, B>,
{
    type In1 = Rows<T>;
    type In2 = Rows<B>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.timers = KeyedTimers::declare(ctx.states)?;
        self.function.open(&mut KeyedOpenContext::new(ctx))
    }

    fn process1(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.input.load(batch);
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.broadcast = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        while let Some((record, time, key, hash)) = self.input.next() {
            let mut context = KeyedContext { parts: ctx.parts(), key, hash, time, timers: self.timers };
            self.function.process(record, &mut context)?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        for (record, time) in self.broadcast.by_ref() {
            self.function.process_broadcast(record, &mut BroadcastContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }

    timer_methods!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use hurtig_dataflow::state::{BroadcastTable, Handle, ValueState};
    use std::sync::Arc;

    /// Multiplies each key's running sum by the key's factor from the broadcast stream.
    #[derive(Clone, Default)]
    struct Scaled {
        factors: Handle<BroadcastTable<u8, i64>>,
        sum: ValueState<i64>,
    }

    impl KeyedBroadcastProcessFunction<u8, (u8, i64), (u8, i64)> for Scaled {
        type Out = (u8, i64);

        fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u8>) -> OpResult {
            self.factors = ctx.broadcast_state("factors")?;
            self.sum = ctx.value_state("sum")?;
            Ok(())
        }
        fn process(&mut self, record: (u8, i64), ctx: &mut KeyedContext<'_, u8, Self::Out>) -> OpResult {
            let sum = self.sum.get(ctx).copied().unwrap_or_default() + record.1;
            self.sum.set(ctx, sum);
            let factor = ctx.broadcast(self.factors).get(&record.0).copied().unwrap_or(1);
            ctx.emit((record.0, sum * factor));
            Ok(())
        }
        fn process_broadcast(
            &mut self,
            (key, factor): (u8, i64),
            ctx: &mut BroadcastContext<'_, Self::Out>,
        ) -> OpResult {
            ctx.broadcast_mut(self.factors).insert(key, factor);
            Ok(())
        }
    }

    #[test]
    fn broadcast_and_keyed_state_survive_a_restart() {
        let keys = Keys::new(Arc::new(|r: &(u8, i64)| r.0));
        let mut harness =
            Harness::two_inputs(move || KeyedBroadcastProcess::new(keys.clone(), Scaled::default()));
        harness.push_to(0, [((1u8, 5i64), 0)]);
        harness.push_to(1, [((1u8, 100i64), 0)]);
        harness.restart_through(3);
        harness.push_to(0, [((1u8, 2i64), 0), ((2, 3), 0)]);
        assert_eq!(harness.output(), [(1, 5), (1, 700), (2, 3)]);
    }

    /// As above without keys: one sum for all.
    #[derive(Clone, Default)]
    struct Known {
        known: Handle<BroadcastTable<u8, i64>>,
    }

    impl BroadcastProcessFunction<u8, (u8, i64)> for Known {
        type Out = i64;

        fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
            self.known = ctx.states.broadcast("known")?;
            Ok(())
        }
        fn process(&mut self, key: u8, ctx: &mut ProcessContext<'_, i64>) -> OpResult {
            let known = ctx.broadcast(self.known).get(&key).copied();
            ctx.emit(known.unwrap_or(-1));
            Ok(())
        }
        fn process_broadcast(&mut self, row: (u8, i64), ctx: &mut BroadcastContext<'_, i64>) -> OpResult {
            ctx.broadcast_mut(self.known).insert(row.0, row.1);
            Ok(())
        }
    }

    #[test]
    fn a_stream_without_keys_sees_the_broadcast_table_too() {
        let mut harness = Harness::two_inputs(|| BroadcastProcess {
            function: Known::default(),
            rest: (RowsIter::default(), RowsIter::default()),
        });
        harness.push_to(0, [(1u8, 0)]);
        harness.push_to(1, [((1u8, 10i64), 0)]);
        harness.restart_through(2);
        harness.push_to(0, [(1u8, 0), (2, 0)]);
        assert_eq!(harness.output(), [-1, 10, -1]);
    }
}
