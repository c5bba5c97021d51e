//! What is done with a window's records: an accumulator that grows record by record, and a result made of it.

use crate::collector::Collector;
use crate::windows::assigner::TimeWindow;
use crate::windows::evictor::{Evictor, EvictorContext};
use hurtig_dataflow::operator::AggregateFunction;
use hurtig_dataflow::state::StateValue;
use hurtig_dataflow::{OpResult, Record, Timestamp};
use std::marker::PhantomData;
use std::sync::Arc;

/// What a window's function sees beside key and records.
#[derive(Clone, Copy, Debug)]
pub struct WindowContext {
    /// The window that fires.
    pub window: TimeWindow,
    /// The watermark.
    pub watermark: Timestamp,
    /// Processing time.
    pub processing_time: Timestamp,
}

/// The records of a window, in the order they came.
pub struct WindowRecords<'a, T> {
    records: std::slice::Iter<'a, (T, Timestamp)>,
}

impl<'a, T> WindowRecords<'a, T> {
    /// The records with their event times.
    pub fn timed(self) -> impl ExactSizeIterator<Item = (&'a T, Timestamp)> {
        self.records.map(|(record, time)| (record, *time))
    }
}

impl<T> Clone for WindowRecords<'_, T> {
    fn clone(&self) -> Self {
        WindowRecords { records: self.records.clone() }
    }
}

impl<'a, T> Iterator for WindowRecords<'a, T> {
    type Item = &'a T;

    #[inline]
    fn next(&mut self) -> Option<&'a T> {
        self.records.next().map(|(record, _)| record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl<T> ExactSizeIterator for WindowRecords<'_, T> {}

/// A function over all records of a window.
///
/// ```
/// use hurtig_datastream::prelude::*;
/// use std::time::Duration;
///
/// struct Median;
/// impl ProcessWindowFunction<i64, u64> for Median {
///     type Out = (u64, i64, i64);
///     fn process(
///         &self, key: &u64, ctx: &WindowContext, records: WindowRecords<'_, i64>, out: &mut Collector<'_, Self::Out>,
///     ) -> OpResult {
///         let mut records: Vec<i64> = records.copied().collect();
///         records.sort_unstable();
///         out.emit((*key, ctx.window.start, records[records.len() / 2]));
///         Ok(())
///     }
/// }
/// let env = Environment::new();
/// env.from_range(0..100)
///     .map(|n| n as i64)
///     .key_by(|n| *n as u64 % 3)
///     .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
///     .process(Median)
///     .print();
/// ```
pub trait ProcessWindowFunction<T, K>: Send + Sync + 'static {
    /// Records put out.
    type Out: Record;

    /// The window has fired for a key.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process(
        &self,
        key: &K,
        ctx: &WindowContext,
        records: WindowRecords<'_, T>,
        out: &mut Collector<'_, Self::Out>,
    ) -> OpResult;
}

/// How windows gather records and what they put out, seen by the window operators.
pub(crate) trait WindowFold<T, K>: Send + Sync + 'static {
    /// What is kept per key and pane.
    type Acc: StateValue + Clone;
    /// Records put out.
    type Out: Record;

    fn create(&self) -> Self::Acc;
    fn add(&self, acc: &mut Self::Acc, record: T, time: Timestamp);
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc);
    fn emit(
        &self,
        key: &K,
        ctx: &WindowContext,
        acc: &mut Self::Acc,
        out: &mut Collector<'_, Self::Out>,
    ) -> OpResult;
}

/// Aggregates, then makes a record of key, window and result.
pub(crate) struct Aggregated<A, F, U> {
    pub(crate) function: A,
    pub(crate) finish: F,
    pub(crate) out: PhantomData<fn() -> U>,
}

impl<T, K, A, F, U> WindowFold<T, K> for Aggregated<A, F, U>
where
    T: Record,
    A: AggregateFunction<In = T>,
    F: Fn(&K, TimeWindow, A::Out) -> U + Send + Sync + 'static,
    U: Record,
{
    type Acc = A::Accumulator;
    type Out = U;

    #[inline]
    fn create(&self) -> A::Accumulator {
        self.function.create()
    }
    #[inline]
    fn add(&self, acc: &mut A::Accumulator, record: T, _: Timestamp) {
        self.function.add(acc, &record);
    }
    fn merge(&self, acc: &mut A::Accumulator, other: &A::Accumulator) {
        self.function.merge(acc, other);
    }
    fn emit(
        &self,
        key: &K,
        ctx: &WindowContext,
        acc: &mut A::Accumulator,
        out: &mut Collector<'_, U>,
    ) -> OpResult {
        out.emit((self.finish)(key, ctx.window, self.function.result(acc)));
        Ok(())
    }
}

/// Reduces records to one.
pub(crate) struct Reduced<F> {
    pub(crate) function: F,
}

impl<F> Reduced<F> {
    fn reduce<T>(&self, acc: &mut Option<T>, record: T)
    where
        F: Fn(T, T) -> T,
    {
        *acc = Some(match acc.take() {
            Some(former) => (self.function)(former, record),
            None => record,
        });
    }
}

impl<T: Record, K, F: Fn(T, T) -> T + Send + Sync + 'static> WindowFold<T, K> for Reduced<F> {
    type Acc = Option<T>;
    type Out = T;

    #[inline]
    fn create(&self) -> Option<T> {
        None
    }
    #[inline]
    fn add(&self, acc: &mut Option<T>, record: T, _: Timestamp) {
        self.reduce(acc, record);
    }
    fn merge(&self, acc: &mut Option<T>, other: &Option<T>) {
        if let Some(other) = other {
            self.reduce(acc, other.clone());
        }
    }
    fn emit(&self, _: &K, _: &WindowContext, acc: &mut Option<T>, out: &mut Collector<'_, T>) -> OpResult {
        out.extend(acc.clone());
        Ok(())
    }
}

/// Keeps all records for a function.
pub(crate) struct Listed<P> {
    pub(crate) function: P,
}

impl<T: Record, K: 'static, P: ProcessWindowFunction<T, K>> WindowFold<T, K> for Listed<P> {
    type Acc = Vec<(T, Timestamp)>;
    type Out = P::Out;

    fn create(&self) -> Self::Acc {
        Vec::new()
    }
    #[inline]
    fn add(&self, acc: &mut Self::Acc, record: T, time: Timestamp) {
        acc.push((record, time));
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        acc.extend_from_slice(other);
    }
    fn emit(
        &self,
        key: &K,
        ctx: &WindowContext,
        acc: &mut Self::Acc,
        out: &mut Collector<'_, P::Out>,
    ) -> OpResult {
        self.function.process(key, ctx, WindowRecords { records: acc.iter() }, out)
    }
}

/// A closure over all records of a window.
pub(crate) struct Apply<F, U> {
    pub(crate) function: F,
    pub(crate) out: PhantomData<fn() -> U>,
}

impl<T, K, U: Record, F> ProcessWindowFunction<T, K> for Apply<F, U>
where
    F: Fn(&K, &WindowContext, WindowRecords<'_, T>, &mut Collector<'_, U>) + Send + Sync + 'static,
{
    type Out = U;

    fn process(
        &self,
        key: &K,
        ctx: &WindowContext,
        records: WindowRecords<'_, T>,
        out: &mut Collector<'_, U>,
    ) -> OpResult {
        (self.function)(key, ctx, records, out);
        Ok(())
    }
}

/// Keeps all records, evicts, then does what another fold does with the rest.
pub(crate) struct Evicting<T, W> {
    pub(crate) fold: W,
    pub(crate) evictor: Arc<dyn Evictor<T>>,
}

impl<T: Record, K: 'static, W: WindowFold<T, K>> WindowFold<T, K> for Evicting<T, W> {
    type Acc = Vec<(T, Timestamp)>;
    type Out = W::Out;

    fn create(&self) -> Self::Acc {
        Vec::new()
    }
    fn add(&self, acc: &mut Self::Acc, record: T, time: Timestamp) {
        acc.push((record, time));
    }
    fn merge(&self, acc: &mut Self::Acc, other: &Self::Acc) {
        acc.extend_from_slice(other);
    }
    fn emit(
        &self,
        key: &K,
        ctx: &WindowContext,
        records: &mut Self::Acc,
        out: &mut Collector<'_, W::Out>,
    ) -> OpResult {
        let evicting = EvictorContext {
            window: ctx.window,
            watermark: ctx.watermark,
            processing_time: ctx.processing_time,
        };
        self.evictor.evict_before(records, &evicting);
        let mut acc = self.fold.create();
        for (record, time) in records.iter() {
            self.fold.add(&mut acc, record.clone(), *time);
        }
        self.fold.emit(key, ctx, &mut acc, out)?;
        self.evictor.evict_after(records, &evicting);
        Ok(())
    }
}
