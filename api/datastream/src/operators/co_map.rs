//! Turns the records of two streams into those of one. Keeps no state.

use crate::collector::Collector;
use crate::connected::ConnectedStreams;
use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, Progress, TwoInputOperator};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    /// Turns each record of either stream into one of the same type.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let numbers = env.from_range(0..10);
    /// let words = env.from_collection(vec!["ten".to_string()]);
    /// numbers.connect(&words).co_map(|n| n.to_string(), |word| word).print();
    /// ```
    pub fn co_map<U: Record>(
        &self,
        first: impl Fn(A) -> U + Send + Sync + 'static,
        second: impl Fn(B) -> U + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.co_flat_map(
            move |record, out| out.emit(first(record)),
            move |record, out| out.emit(second(record)),
        )
        .name("CoMap")
    }

    /// Turns each record of either stream into any number of others.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let numbers = env.from_range(0..10);
    /// let lists = env.from_collection(vec![vec![11u64, 12]]);
    /// numbers.connect(&lists).co_flat_map(|n, out| out.emit(n), |list, out| out.extend(list)).print();
    /// ```
    pub fn co_flat_map<U: Record>(
        &self,
        first: impl Fn(A, &mut Collector<'_, U>) + Send + Sync + 'static,
        second: impl Fn(B, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        let (first, second) = (Arc::new(first), Arc::new(second));
        self.first.transform_two(&self.second, "CoFlatMap", move || CoFlatMap {
            first: Arc::clone(&first),
            second: Arc::clone(&second),
            rest: (RowsIter::default(), RowsIter::default()),
            out: PhantomData,
        })
    }
}

struct CoFlatMap<A, B, U, F, G> {
    first: Arc<F>,
    second: Arc<G>,
    /// What remains of the batch, on the side it came from.
    rest: (RowsIter<A>, RowsIter<B>),
    out: PhantomData<fn() -> U>,
}

impl<A, B, U, F, G> TwoInputOperator for CoFlatMap<A, B, U, F, G>
where
    A: Record,
    B: Record,
    U: Record,
    F: Fn(A, &mut Collector<'_, U>) + Send + Sync + 'static,
    G: Fn(B, &mut Collector<'_, U>) + Send + Sync + 'static,
{
    type In1 = Rows<A>;
    type In2 = Rows<B>;
    type Out = Rows<U>;

    fn process1(&mut self, batch: Rows<A>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.rest.0 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.rest.1 = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        let parts = ctx.parts();
        let mut out = Collector::new(parts.out, parts.sides, None);
        for (record, time) in self.rest.0.by_ref() {
            (self.first)(record, out.at(time));
            if out.len() >= parts.batch_size {
                return Ok(Progress::Yield);
            }
        }
        for (record, time) in self.rest.1.by_ref() {
            (self.second)(record, out.at(time));
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
    use hurtig_dataflow::harness::Harness;

    #[test]
    fn both_inputs_go_through_their_own_function() {
        let first = Arc::new(|n: u64, out: &mut Collector<'_, String>| {
            out.extend((0..n).map(|n| n.to_string()));
        });
        let second = Arc::new(|word: String, out: &mut Collector<'_, String>| out.emit(word));
        let mut harness = Harness::two_inputs(move || CoFlatMap {
            first: Arc::clone(&first),
            second: Arc::clone(&second),
            rest: (RowsIter::default(), RowsIter::default()),
            out: PhantomData,
        });
        harness.push_to(0, [(2u64, 1), (40, 2)]);
        harness.restart();
        harness.push_to(1, [("a".to_string(), 3)]);
        let output = harness.timed_output();
        assert_eq!(output.len(), 43);
        assert_eq!(output[2], ("0".to_string(), Some(2)));
        assert_eq!(output[42], ("a".to_string(), Some(3)));
    }
}
