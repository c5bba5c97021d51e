//! Turns each record into any number of others. Keeps no state; a batch whose output is large is worked off in parts.

use crate::collector::Collector;
use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, Operator, Progress};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;

impl<T: Record> DataStream<T> {
    /// Turns each record into any number of others.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec!["to be or not to be".to_string()])
    ///     .flat_map(|line: String, out| out.extend(line.split(' ').map(str::to_string)))
    ///     .print();
    /// ```
    pub fn flat_map<U: Record>(
        &self,
        function: impl Fn(T, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.try_flat_map(move |record, out| {
            function(record, out);
            Ok(())
        })
    }

    /// Turns each record into any number of others, or fails the attempt.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec!["1,2,3".to_string()])
    ///     .try_flat_map(|line: String, out| {
    ///         for number in line.split(',') {
    ///             out.emit(number.parse::<u32>()?);
    ///         }
    ///         Ok(())
    ///     })
    ///     .print();
    /// ```
    pub fn try_flat_map<U: Record>(
        &self,
        function: impl Fn(T, &mut Collector<'_, U>) -> OpResult + Send + Sync + 'static,
    ) -> DataStream<U> {
        let function = Arc::new(function);
        self.transform("FlatMap", move || FlatMap {
            function: Arc::clone(&function),
            rest: RowsIter::default(),
            out: PhantomData,
        })
    }
}

struct FlatMap<T, U, F> {
    function: Arc<F>,
    /// What remains of the batch.
    rest: RowsIter<T>,
    out: PhantomData<fn() -> U>,
}

impl<T, U, F> Operator for FlatMap<T, U, F>
where
    T: Record,
    U: Record,
    F: Fn(T, &mut Collector<'_, U>) -> OpResult + Send + Sync + 'static,
{
    type In = Rows<T>;
    type Out = Rows<U>;

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.rest = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        let parts = ctx.parts();
        // The last record of a batch may bring it a little above its size: that must not move all the others.
        let room = parts.batch_size + parts.batch_size / 16;
        parts.out.records.reserve(self.rest.size_hint().0.min(room));
        let mut out = Collector::new(parts.out, parts.sides, None);
        for (record, time) in self.rest.by_ref() {
            (self.function)(record, out.at(time))?;
            if out.len() >= parts.batch_size {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::Element;
    use hurtig_dataflow::harness::Harness;

    fn harness() -> Harness<u64> {
        let function = Arc::new(|n: u64, out: &mut Collector<'_, u64>| -> OpResult {
            out.extend(0..n);
            Ok(())
        });
        Harness::new(move || FlatMap {
            function: Arc::clone(&function),
            rest: RowsIter::default(),
            out: PhantomData,
        })
    }

    #[test]
    fn many_records_come_out_of_one_in_order() {
        let mut harness = harness();
        harness.push([(3u64, 1), (0, 2)]);
        harness.restart();
        harness.push([(2u64, 3)]);
        let expected = [(0, 1), (1, 1), (2, 1), (0, 3), (1, 3)].map(|(n, t)| (n, Some(t)));
        assert_eq!(harness.timed_output(), expected);
    }

    #[test]
    fn a_large_output_goes_out_in_batches() {
        let mut harness = harness();
        harness.push((0..100).map(|time| (10u64, time)));
        let sizes: Vec<usize> = harness
            .elements()
            .iter()
            .map(|element| match element {
                Element::Batch(batch) => batch.len(),
                _ => 0,
            })
            .collect();
        assert_eq!(sizes.iter().sum::<usize>(), 1_000);
        assert!(sizes.iter().all(|size| *size <= 25), "{sizes:?}");
    }
}
