//! Runs a user's function with state and timers per key. Keeps what the function declares, as long as it wants.

use crate::context::{KeyedContext, KeyedOpenContext, KeyedTimers, TimeDomain, Timer};
use crate::keyed::{KeyedBatch, KeyedStream, Keys};
use crate::stream::DataStream;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Progress};
use hurtig_dataflow::state::StateStore;
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use parking_lot::Mutex;

/// A function over the records of a key, with state and timers. Each subtask works with its own clone.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// /// Says how long a user's visit was once 30 s have passed without a click.
/// #[derive(Clone, Default)]
/// struct Visits {
///     visit: ValueState<(i64, i64)>,
/// }
///
/// impl KeyedProcessFunction<String, i64> for Visits {
///     type Out = (String, i64);
///
///     fn open(&mut self, ctx: &mut KeyedOpenContext<'_, String>) -> OpResult {
///         self.visit = ctx.value_state("visit")?;
///         Ok(())
///     }
///
///     fn process(&mut self, click: i64, ctx: &mut KeyedContext<'_, String, Self::Out>) -> OpResult {
///         let start = self.visit.get(ctx).map_or(click, |(start, _)| *start);
///         self.visit.set(ctx, (start, click));
///         ctx.register_event_time_timer(click + 30_000);
///         Ok(())
///     }
///
///     fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, String, Self::Out>) -> OpResult {
///         if let Some(&(start, end)) = self.visit.get(ctx)
///             && end + 30_000 == timer.time
///         {
///             self.visit.clear(ctx);
///             let user = ctx.key().clone();
///             ctx.emit((user, end - start));
///         }
///         Ok(())
///     }
/// }
///
/// let env = Environment::new();
/// env.from_collection(vec![1_000i64, 4_000]).key_by(|_| "ada".to_string()).process(Visits::default()).print();
/// ```
pub trait KeyedProcessFunction<K: Key, T: Record>: Send + 'static {
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

    /// Takes a record.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process(&mut self, record: T, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult;

    /// A timer has come due for the current key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, K, Self::Out>) -> OpResult {
        let _ = (timer, ctx);
        Ok(())
    }
}

impl<T: Record, K: Key> KeyedStream<T, K> {
    /// Runs a function with state and timers per key; see [`KeyedProcessFunction`].
    pub fn process<F: KeyedProcessFunction<K, T> + Clone>(&self, function: F) -> DataStream<F::Out> {
        let (keys, prototype) = (self.keys.clone(), Mutex::new(function));
        self.stream
            .transform("KeyedProcess", move || KeyedProcess::new(keys.clone(), prototype.lock().clone()))
    }
}

struct KeyedProcess<T, K, F> {
    input: KeyedBatch<T, K>,
    function: F,
    timers: KeyedTimers<K>,
}

impl<T: Record, K: Key, F: KeyedProcessFunction<K, T>> KeyedProcess<T, K, F> {
    fn new(keys: Keys<T, K>, function: F) -> Self {
        KeyedProcess { input: KeyedBatch::new(keys), function, timers: KeyedTimers::default() }
    }
}

/// The methods by which an operator with a user's `function` and its `timers` learns that time has passed.
macro_rules! timer_methods {
    () => {
        fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
            let function = &mut self.function;
            fire_timers(ctx, self.timers, TimeDomain::EventTime, |timer, ctx| function.on_timer(timer, ctx))
        }

        fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
            states.get(self.timers.processing).next_time()
        }

        fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
            let function = &mut self.function;
            fire_timers(ctx, self.timers, TimeDomain::ProcessingTime, |timer, ctx| {
                function.on_timer(timer, ctx)
            })
        }
    };
}
pub(crate) use timer_methods;

/// Pops due timers and calls `each` until all are done or the output is full.
pub(crate) fn fire_timers<K: Key, Out: Record>(
    ctx: &mut Context<'_, '_, Rows<Out>>,
    timers: KeyedTimers<K>,
    domain: TimeDomain,
    mut each: impl FnMut(Timer, &mut KeyedContext<'_, K, Out>) -> OpResult,
) -> OpResult<Progress> {
    let until = match domain {
        TimeDomain::EventTime => ctx.watermark(),
        TimeDomain::ProcessingTime => ctx.processing_time(),
    };
    while let Some((time, key)) = ctx.states().get_mut(timers.of(domain)).pop_due(until) {
        let event_time = (domain == TimeDomain::EventTime).then_some(time);
        let mut context =
            KeyedContext { parts: ctx.parts(), key: &key, hash: hash_key(&key), time: event_time, timers };
        each(Timer { time, domain }, &mut context)?;
        if ctx.is_full() {
            return Ok(Progress::Yield);
        }
    }
    Ok(Progress::Done)
}

impl<T: Record, K: Key, F: KeyedProcessFunction<K, T>> Operator for KeyedProcess<T, K, F> {
    type In = Rows<T>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.timers = KeyedTimers::declare(ctx.states)?;
        self.function.open(&mut KeyedOpenContext::new(ctx))
    }

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.input.load(batch);
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
        Ok(Progress::Done)
    }

    timer_methods!();
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use hurtig_dataflow::operator::OutputTag;
    use hurtig_dataflow::state::{ListState, MapState, ReducingState, StateTtl, ValueState};
    use std::sync::Arc;
    use std::time::Duration;

    fn tag() -> OutputTag<String> {
        OutputTag::new("odd")
    }

    /// Uses every kind of state, both clocks and a side output.
    #[derive(Clone, Default)]
    struct Everything {
        count: ValueState<u64>,
        seen: ListState<i64>,
        by_value: MapState<i64, u64>,
        largest: Option<ReducingState<i64>>,
        recent: ValueState<i64>,
    }

    impl KeyedProcessFunction<i64, i64> for Everything {
        type Out = String;

        fn open(&mut self, ctx: &mut KeyedOpenContext<'_, i64>) -> OpResult {
            self.count = ctx.value_state("count")?;
            self.seen = ctx.list_state("seen")?;
            self.by_value = ctx.map_state("by-value")?;
            self.largest = Some(ctx.reducing_state("largest", i64::max)?);
            let ttl = StateTtl::new(Duration::from_millis(50));
            self.recent = ctx.with_ttl(ttl).value_state("recent")?;
            Ok(())
        }

        fn process(&mut self, n: i64, ctx: &mut KeyedContext<'_, i64, String>) -> OpResult {
            let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
            self.count.set(ctx, count);
            self.seen.add(ctx, n);
            let times = self.by_value.get(ctx, &n).copied().unwrap_or_default() + 1;
            self.by_value.insert(ctx, n, times);
            let largest = self.largest.clone().ok_or("not opened")?;
            largest.add(ctx, n);
            if self.recent.get(ctx).is_none() {
                let odd = format!("{n} is the first for a while");
                ctx.emit_side(&tag(), odd);
            }
            self.recent.set(ctx, n);
            ctx.register_event_time_timer(ctx.timestamp().unwrap_or(0) + 100);
            ctx.register_processing_time_timer(1_000);
            Ok(())
        }

        fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, i64, String>) -> OpResult {
            let key = *ctx.key();
            let count = self.count.get(ctx).copied().unwrap_or_default();
            let sum: i64 = self.seen.iter(ctx).sum();
            let distinct = self.by_value.iter(ctx).count();
            let largest = self.largest.clone().ok_or("not opened")?;
            let largest = largest.get(ctx).copied();
            let clock = if timer.domain == TimeDomain::EventTime { 'e' } else { 'p' };
            ctx.emit(format!("{clock}{} {key}: {count} {sum} {distinct} {largest:?}", timer.time));
            Ok(())
        }
    }

    fn harness() -> Harness<String> {
        let keys = Keys::new(Arc::new(|n: &i64| n % 2));
        Harness::new(move || KeyedProcess::new(keys.clone(), Everything::default())).with_side(&tag())
    }

    #[test]
    fn state_and_timers_of_all_kinds_survive_a_restart() {
        let mut harness = harness();
        harness.push([(1i64, 0), (3, 1), (3, 2), (2, 3)]);
        harness.restart_through(4);
        harness.push([(5i64, 2)]);
        harness.watermark(101);
        assert_eq!(harness.output(), ["e100 1: 4 12 3 Some(5)", "e101 1: 4 12 3 Some(5)"]);
        harness.restart_through(3);
        harness.watermark(102);
        assert_eq!(harness.output(), ["e102 1: 4 12 3 Some(5)"]);
        harness.set_processing_time(1_000);
        let mut output = harness.output();
        output.sort();
        assert_eq!(output, ["p1000 0: 1 2 1 Some(2)", "p1000 1: 4 12 3 Some(5)"]);
        assert_eq!(harness.side_output(&tag()).len(), 2);
        harness.push([(7i64, 200)]);
        assert_eq!(harness.side_output(&tag()), ["7 is the first for a while"]);
    }

    #[test]
    fn many_timers_fire_in_order_and_in_portions() {
        let mut harness = harness();
        for n in 0..40i64 {
            harness.push((0..50).map(|i| (n, i * 40 + n)));
        }
        harness.watermark(3_000);
        let sizes: Vec<_> = harness.timed_output();
        assert_eq!(sizes.len(), 2_000);
        assert!(sizes.is_sorted_by_key(|(_, time)| *time));
    }
}
