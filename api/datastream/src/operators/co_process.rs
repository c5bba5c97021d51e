//! Runs a user's function over two streams, with or without keys. Keeps what the function declares.

use crate::connected::{ConnectedStreams, KeyedConnectedStreams};
use crate::context::{KeyedContext, KeyedOpenContext, KeyedTimers, ProcessContext, TimeDomain, Timer};
use crate::keyed::{KeyedBatch, Keys};
use crate::operators::keyed_process::{fire_timers, timer_methods};
use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, OpenContext, Progress, TwoInputOperator};
use hurtig_dataflow::state::StateStore;
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use parking_lot::Mutex;

/// A function over the records of two streams. Each subtask works with its own clone.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// #[derive(Clone)]
/// struct Both;
/// impl CoProcessFunction<u64, String> for Both {
///     type Out = String;
///     fn process1(&mut self, n: u64, ctx: &mut ProcessContext<'_, String>) -> OpResult {
///         ctx.emit(n.to_string());
///         Ok(())
///     }
///     fn process2(&mut self, word: String, ctx: &mut ProcessContext<'_, String>) -> OpResult {
///         ctx.emit(word);
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// env.from_range(0..10).connect(&env.from_collection(vec!["ten".to_string()])).process(Both).print();
/// ```
pub trait CoProcessFunction<A: Record, B: Record>: Send + 'static {
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

    /// Takes a record of the first stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process1(&mut self, record: A, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult;

    /// Takes a record of the second stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process2(&mut self, record: B, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult;
}

/// A function over the records of two streams parted by the same key, with state and timers per key. Each subtask works
/// with its own clone.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// /// Adds to each order the latest price of its article.
/// #[derive(Clone, Default)]
/// struct Price {
///     price: ValueState<u64>,
/// }
/// impl KeyedCoProcessFunction<String, (String, u64), (String, u64)> for Price {
///     type Out = (String, u64);
///     fn open(&mut self, ctx: &mut KeyedOpenContext<'_, String>) -> OpResult {
///         self.price = ctx.value_state("price")?;
///         Ok(())
///     }
///     fn process1(&mut self, order: (String, u64), ctx: &mut KeyedContext<'_, String, Self::Out>) -> OpResult {
///         let price = self.price.get(ctx).copied().unwrap_or_default();
///         ctx.emit((order.0, order.1 * price));
///         Ok(())
///     }
///     fn process2(&mut self, price: (String, u64), ctx: &mut KeyedContext<'_, String, Self::Out>) -> OpResult {
///         self.price.set(ctx, price.1);
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// let orders = env.from_collection(vec![("tea".to_string(), 3)]);
/// let prices = env.from_collection(vec![("tea".to_string(), 2)]);
/// orders.connect(&prices).key_by(|order| order.0.clone(), |price| price.0.clone()).process(Price::default()).print();
/// ```
pub trait KeyedCoProcessFunction<K: Key, A: Record, B: Record>: Send + 'static {
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

    /// Takes a record of the first stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process1(&mut self, record: A, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult;

    /// Takes a record of the second stream.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process2(&mut self, record: B, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult;

    /// A timer has come due for the current key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    /// Runs a function over both streams; see [`CoProcessFunction`].
    pub fn process<F: CoProcessFunction<A, B> + Clone>(&self, function: F) -> DataStream<F::Out> {
        let prototype = Mutex::new(function);
        self.first.transform_two(&self.second, "CoProcess", move || CoProcess {
            function: prototype.lock().clone(),
            rest: (RowsIter::default(), RowsIter::default()),
        })
    }
}

impl<A: Record, B: Record, K: Key> KeyedConnectedStreams<A, B, K> {
    /// Runs a function with state and timers per key over both streams; see [`KeyedCoProcessFunction`].
    pub fn process<F: KeyedCoProcessFunction<K, A, B> + Clone>(&self, function: F) -> DataStream<F::Out> {
        let (first, second) = (self.first.keys.clone(), self.second.keys.clone());
        let prototype = Mutex::new(function);
        self.first.stream.transform_two(&self.second.stream, "KeyedCoProcess", move || {
            KeyedCoProcess::new(first.clone(), second.clone(), prototype.lock().clone())
        })
    }
}

struct CoProcess<A, B, F> {
    function: F,
    rest: (RowsIter<A>, RowsIter<B>),
}

impl<A: Record, B: Record, F: CoProcessFunction<A, B>> TwoInputOperator for CoProcess<A, B, F> {
    type In1 = Rows<A>;
    type In2 = Rows<B>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.function.open(ctx)
    }

    fn process1(&mut self, batch: Rows<A>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.rest.0 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.rest.1 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        for (record, time) in self.rest.0.by_ref() {
            self.function.process1(record, &mut ProcessContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        for (record, time) in self.rest.1.by_ref() {
            self.function.process2(record, &mut ProcessContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }
}

struct KeyedCoProcess<A, B, K, F> {
    first: KeyedBatch<A, K>,
    second: KeyedBatch<B, K>,
    function: F,
    timers: KeyedTimers<K>,
}

impl<A: Record, B: Record, K: Key, F> KeyedCoProcess<A, B, K, F> {
    fn new(first: Keys<A, K>, second: Keys<B, K>, function: F) -> Self {
        KeyedCoProcess {
            first: KeyedBatch::new(first),
            second: KeyedBatch::new(second),
            function,
            timers: KeyedTimers::default(),
        }
    }
}

impl<A, B, K, F> TwoInputOperator for KeyedCoProcess<A, B, K, F>
where
    A: Record,
    B: Record,
    K: Key,
    F: KeyedCoProcessFunction<K, A, B>,
{
    type In1 = Rows<A>;
    type In2 = Rows<B>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.timers = KeyedTimers::declare(ctx.states)?;
        self.function.open(&mut KeyedOpenContext::new(ctx))
    }

    fn process1(&mut self, batch: Rows<A>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.first.load(batch);
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.second.load(batch);
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        while let Some((record, time, key, hash)) = self.first.next() {
            let mut context = KeyedContext { parts: ctx.parts(), key, hash, time, timers: self.timers };
            self.function.process1(record, &mut context)?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        while let Some((record, time, key, hash)) = self.second.next() {
            let mut context = KeyedContext { parts: ctx.parts(), key, hash, time, timers: self.timers };
            self.function.process2(record, &mut context)?;
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
    use hurtig_dataflow::state::ValueState;
    use std::sync::Arc;

    /// Adds up what the first stream brings and says so when the second asks, 10 ms later in event time.
    #[derive(Clone, Default)]
    struct Asked {
        sum: ValueState<i64>,
    }

    impl KeyedCoProcessFunction<u8, (u8, i64), u8> for Asked {
        type Out = (u8, i64);

        fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u8>) -> OpResult {
            self.sum = ctx.value_state("sum")?;
            Ok(())
        }
        fn process1(&mut self, record: (u8, i64), ctx: &mut KeyedContext<'_, u8, Self::Out>) -> OpResult {
            let sum = self.sum.get(ctx).copied().unwrap_or_default() + record.1;
            self.sum.set(ctx, sum);
            Ok(())
        }
        fn process2(&mut self, _: u8, ctx: &mut KeyedContext<'_, u8, Self::Out>) -> OpResult {
            let time = ctx.timestamp().ok_or("no time")?;
            ctx.register_event_time_timer(time + 10);
            Ok(())
        }
        fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u8, Self::Out>) -> OpResult {
            let sum = self.sum.take(ctx).unwrap_or_default();
            let key = *ctx.key();
            ctx.emit((key, sum));
            Ok(())
        }
    }

    #[test]
    fn both_streams_share_state_and_timers_across_a_restart() {
        let first = Keys::new(Arc::new(|r: &(u8, i64)| r.0));
        let second = Keys::new(Arc::new(|key: &u8| *key));
        let mut harness =
            Harness::two_inputs(move || KeyedCoProcess::new(first.clone(), second.clone(), Asked::default()));
        harness.push_to(0, [((1u8, 5i64), 0), ((2, 7), 0)]);
        harness.push_to(1, [(1u8, 3)]);
        harness.restart_through(3);
        harness.push_to(0, [((1u8, 6i64), 4)]);
        harness.watermark(12);
        assert_eq!(harness.output(), []);
        harness.watermark(13);
        assert_eq!(harness.timed_output(), [((1, 11), Some(13))]);
    }
}
