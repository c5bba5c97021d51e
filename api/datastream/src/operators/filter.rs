//! Keeps the records a predicate holds for. Keeps no state.

use crate::stream::DataStream;
use hurtig_dataflow::operator::{Context, Operator, Progress};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;

impl<T: Record> DataStream<T> {
    /// Keeps the records `predicate` holds for.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10).filter(|n| n % 2 == 0).print();
    /// ```
    pub fn filter(&self, predicate: impl Fn(&T) -> bool + Send + Sync + 'static) -> DataStream<T> {
        let predicate = Arc::new(predicate);
        self.transform("Filter", move || Filter { predicate: Arc::clone(&predicate), record: PhantomData })
    }

    /// Keeps the records `predicate` holds for, or fails the attempt.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec!["17".to_string()]).try_filter(|text| Ok(text.parse::<u32>()? > 5)).print();
    /// ```
    pub fn try_filter(
        &self,
        predicate: impl Fn(&T) -> OpResult<bool> + Send + Sync + 'static,
    ) -> DataStream<T> {
        let predicate = Arc::new(predicate);
        self.transform("Filter", move || TryFilter { predicate: Arc::clone(&predicate), record: PhantomData })
    }
}

struct Filter<T, F> {
    predicate: Arc<F>,
    record: PhantomData<fn(T)>,
}

/// Keeps records in place; their times move with them.
fn retain<T>(batch: &mut Rows<T>, mut keep: impl FnMut(&T) -> bool) {
    if !batch.is_timed() {
        batch.records.retain(keep);
        return;
    }
    let times = &mut batch.times;
    let (mut read, mut kept) = (0, 0);
    batch.records.retain(|record| {
        let keeps = keep(record);
        times[kept] = times[read];
        read += 1;
        kept += usize::from(keeps);
        keeps
    });
    times.truncate(kept);
}

impl<T: Record, F: Fn(&T) -> bool + Send + Sync + 'static> Operator for Filter<T, F> {
    type In = Rows<T>;
    type Out = Rows<T>;

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        retain(&mut batch, &*self.predicate);
        ctx.out().append(&mut batch);
        Ok(Progress::Done)
    }
}

struct TryFilter<T, F> {
    predicate: Arc<F>,
    record: PhantomData<fn(T)>,
}

impl<T: Record, F: Fn(&T) -> OpResult<bool> + Send + Sync + 'static> Operator for TryFilter<T, F> {
    type In = Rows<T>;
    type Out = Rows<T>;

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        let mut failed = None;
        retain(&mut batch, |record| {
            failed.is_none()
                && (self.predicate)(record).unwrap_or_else(|error| {
                    failed = Some(error);
                    false
                })
        });
        match failed {
            Some(error) => Err(error),
            None => {
                ctx.out().append(&mut batch);
                Ok(Progress::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;

    #[test]
    fn kept_records_keep_their_times() {
        let predicate = Arc::new(|n: &i64| n % 3 != 0);
        let mut harness =
            Harness::new(move || Filter { predicate: Arc::clone(&predicate), record: PhantomData });
        harness.push((0..10i64).map(|n| (n, n * 10)));
        let expected: Vec<_> = (0..10).filter(|n| n % 3 != 0).map(|n| (n, Some(n * 10))).collect();
        assert_eq!(harness.timed_output(), expected);
        harness.push_batch(0, Rows::untimed(vec![3i64, 4, 6]));
        assert_eq!(harness.timed_output(), [(4, None)]);
    }
}
