//! A keyed stream with windows: settings first, then what is done with each window.

use crate::aggregates::{Count, Max, Min, Sum};
use crate::collector::Collector;
use crate::context::TimeDomain;
use crate::keyed::KeyedStream;
use crate::operators::pane_windows::PaneWindows;
use crate::operators::slice_windows::SliceWindows;
use crate::stream::DataStream;
use crate::windows::assigner::{GlobalWindows, Kind, TimeWindow, WindowAssigner, Windows};
use crate::windows::evictor::{CountEvictor, Evictor};
use crate::windows::function::{
    Aggregated, Apply, Evicting, Listed, ProcessWindowFunction, Reduced, WindowContext, WindowFold,
    WindowRecords,
};
use crate::windows::trigger::{CountTrigger, DefaultTrigger, PurgingTrigger, Trigger};
use hurtig_dataflow::operator::{AggregateFunction, OutputTag};
use hurtig_dataflow::time::millis;
use hurtig_dataflow::{Key, Record};
use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

/// A keyed stream whose records are gathered in windows; see [`KeyedStream::window`].
pub struct WindowedStream<T, K, G = DefaultTrigger> {
    keyed: KeyedStream<T, K>,
    windows: Windows<T>,
    trigger: G,
    has_own_trigger: bool,
    evictor: Option<Arc<dyn Evictor<T>>>,
    lateness: i64,
    late: Option<OutputTag<T>>,
    is_global: bool,
}

impl<T: Record, K: Key> KeyedStream<T, K> {
    /// Gathers each key's records in windows.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// let readings = env.from_collection(vec![("hall".to_string(), 21.5), ("hall".to_string(), 22.0)]);
    /// readings
    ///     .key_by(|(room, _)| room.clone())
    ///     .window(SlidingEventTimeWindows::of(Duration::from_secs(60), Duration::from_secs(10)))
    ///     .aggregate_with(Average::of(|r: &(String, f64)| r.1), |room, window, mean| (room.clone(), window.end, mean))
    ///     .print();
    /// ```
    pub fn window(&self, assigner: impl WindowAssigner<T>) -> WindowedStream<T, K> {
        let windows = assigner.into_windows();
        WindowedStream {
            keyed: self.clone(),
            trigger: windows.default_trigger(),
            windows,
            has_own_trigger: false,
            evictor: None,
            lateness: 0,
            late: None,
            is_global: false,
        }
    }

    /// Windows of `count` records each, per key. Records that do not fill a window are never put out.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100).key_by(|n| n % 3).count_window(10).reduce(|a, b| a + b).print();
    /// ```
    pub fn count_window(&self, count: u64) -> WindowedStream<T, K, PurgingTrigger<CountTrigger>> {
        self.window(GlobalWindows).trigger(PurgingTrigger::of(CountTrigger::of(count)))
    }

    /// Every `slide` records a window of the last `size`, per key.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100).key_by(|n| n % 3).count_window_sliding(10, 2).reduce(|a, b| a + b).print();
    /// ```
    pub fn count_window_sliding(&self, size: usize, slide: u64) -> WindowedStream<T, K, CountTrigger> {
        self.window(GlobalWindows).evictor(CountEvictor::of(size)).trigger(CountTrigger::of(slide))
    }
}

/// Windows over the whole stream, in one subtask.
impl<T: Record> DataStream<T> {
    /// Gathers all records in windows; one subtask does it.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// env.from_range(0..100)
    ///     .window_all(TumblingEventTimeWindows::of(Duration::from_secs(1)))
    ///     .reduce(|a, b| a + b)
    ///     .print();
    /// ```
    pub fn window_all(&self, assigner: impl WindowAssigner<T>) -> WindowedStream<T, ()> {
        let mut windowed = self.key_by(|_| ()).window(assigner);
        windowed.is_global = true;
        windowed
    }

    /// Windows of `count` records each; one subtask does it.
    pub fn count_window_all(&self, count: u64) -> WindowedStream<T, (), PurgingTrigger<CountTrigger>> {
        self.window_all(GlobalWindows).trigger(PurgingTrigger::of(CountTrigger::of(count)))
    }

    /// Every `slide` records a window of the last `size`; one subtask does it.
    pub fn count_window_all_sliding(&self, size: usize, slide: u64) -> WindowedStream<T, (), CountTrigger> {
        self.window_all(GlobalWindows).evictor(CountEvictor::of(size)).trigger(CountTrigger::of(slide))
    }
}

/// Settings.
impl<T: Record, K: Key, G: Trigger<T>> WindowedStream<T, K, G> {
    /// Says when windows fire.
    pub fn trigger<H: Trigger<T>>(self, trigger: H) -> WindowedStream<T, K, H> {
        WindowedStream {
            keyed: self.keyed,
            windows: self.windows,
            trigger,
            has_own_trigger: true,
            evictor: self.evictor,
            lateness: self.lateness,
            late: self.late,
            is_global: self.is_global,
        }
    }

    /// Says which records are left out when a window fires. All of a window's records are kept then.
    pub fn evictor(mut self, evictor: impl Evictor<T>) -> Self {
        self.evictor = Some(Arc::new(evictor));
        self
    }

    /// Keeps event-time windows for `lateness` after the watermark has passed their end; each late record fires its
    /// window again.
    pub fn allowed_lateness(mut self, lateness: Duration) -> Self {
        self.lateness = millis(lateness);
        self
    }

    /// Sends records that come too late for all their windows to a side output. Without it they are dropped, and
    /// the job's status counts them.
    pub fn side_output_late_data(mut self, tag: &OutputTag<T>) -> Self {
        self.late = Some(tag.clone());
        self
    }

    fn run<W: WindowFold<T, K>>(self, fold: W) -> DataStream<W::Out> {
        match self.evictor.clone() {
            Some(evictor) => self.run_fold(Evicting { fold, evictor }),
            None => self.run_fold(fold),
        }
    }

    fn run_fold<W: WindowFold<T, K>>(self, fold: W) -> DataStream<W::Out> {
        let KeyedStream { stream, keys } = self.keyed;
        let (fold, late, domain) = (Arc::new(fold), self.late, self.windows.domain);
        let shares_slices = !self.has_own_trigger && self.evictor.is_none() && self.lateness == 0;
        let results = match self.windows.kind {
            Kind::Aligned(aligned) if shares_slices => stream.transform("Window", move || {
                SliceWindows::new(keys.clone(), Arc::clone(&fold), aligned, domain, late.clone())
            }),
            _ => {
                let (windows, trigger) = (self.windows, Arc::new(self.trigger));
                // Processing time is never late.
                let lateness = if domain == TimeDomain::EventTime { self.lateness } else { 0 };
                stream.transform("Window", move || {
                    let (fold, trigger) = (Arc::clone(&fold), Arc::clone(&trigger));
                    PaneWindows::new(keys.clone(), fold, windows.clone(), trigger, lateness, late.clone())
                })
            }
        };
        if self.is_global { results.set_max_parallelism(1) } else { results }
    }
}

/// What is done with each window. Results carry the last millisecond of their window as event time.
impl<T: Record, K: Key, G: Trigger<T>> WindowedStream<T, K, G> {
    /// Reduces a window's records to one.
    pub fn reduce(self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T> {
        self.run(Reduced { function })
    }

    /// Aggregates a window's records.
    pub fn aggregate<A>(self, function: A) -> DataStream<A::Out>
    where
        A: AggregateFunction<In = T>,
        A::Out: Record,
    {
        self.aggregate_with(function, |_, _, result| result)
    }

    /// Aggregates a window's records; `finish` makes a record of key, window and result.
    pub fn aggregate_with<A, U: Record>(
        self,
        function: A,
        finish: impl Fn(&K, TimeWindow, A::Out) -> U + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        A: AggregateFunction<In = T>,
    {
        self.run(Aggregated { function, finish, out: PhantomData })
    }

    /// Runs a function over all records of a window, which are kept until then.
    pub fn process<P: ProcessWindowFunction<T, K>>(self, function: P) -> DataStream<P::Out> {
        self.run(Listed { function })
    }

    /// As [`process`](WindowedStream::process), with a closure.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// env.from_range(0..100)
    ///     .key_by(|n| n % 3)
    ///     .window(EventTimeSessionWindows::with_gap(Duration::from_secs(30)))
    ///     .apply(|key, ctx, records, out| out.emit((*key, ctx.window, records.count() as u64)))
    ///     .print();
    /// ```
    pub fn apply<U: Record>(
        self,
        function: impl Fn(&K, &WindowContext, WindowRecords<'_, T>, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.process(Apply { function, out: PhantomData })
    }

    /// Counts a window's records.
    pub fn count(self) -> DataStream<(K, u64)> {
        self.aggregate_with(Count::new(), |key, _, count| (key.clone(), count))
    }

    /// Adds up a value of a window's records.
    pub fn sum<N>(self, value: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<(K, N)>
    where
        N: Record + Default + AddAssign,
    {
        self.aggregate_with(Sum::of(value), |key, _, sum| (key.clone(), sum))
    }

    /// The smallest value of a window's records.
    pub fn min<N: Record + PartialOrd>(
        self,
        value: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        let results = self.aggregate_with(Min::of(value), |key, _, min| min.map(|min| (key.clone(), min)));
        // There is no window without records.
        results.flat_map(|result, out| out.extend(result))
    }

    /// The largest value of a window's records.
    pub fn max<N: Record + PartialOrd>(
        self,
        value: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        let results = self.aggregate_with(Max::of(value), |key, _, max| max.map(|max| (key.clone(), max)));
        // There is no window without records.
        results.flat_map(|result, out| out.extend(result))
    }
}
