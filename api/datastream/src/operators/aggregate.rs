//! Aggregates the records of each key and puts out every new result. Keeps an accumulator per key for ever.

use crate::aggregates::{Count, Max, Min, Sum};
use crate::keyed::{KeyColumns, KeyedStream, Keys};
use crate::stream::DataStream;
use hurtig_dataflow::operator::{AggregateFunction, Context, OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable};
use hurtig_dataflow::{Key, OpResult, Record, Rows};
use std::marker::PhantomData;
use std::ops::AddAssign;
use std::sync::Arc;

impl<T: Record, K: Key> KeyedStream<T, K> {
    /// Aggregates each key's records and puts out the result after each of them.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100).key_by(|n| n % 3).aggregate(Average::of(|n: &u64| *n as f64)).print();
    /// ```
    pub fn aggregate<A>(&self, function: A) -> DataStream<A::Out>
    where
        A: AggregateFunction<In = T>,
        A::Out: Record,
    {
        self.aggregate_with(function, |_, result| result)
    }

    /// As [`aggregate`](KeyedStream::aggregate); `finish` makes a record of the key and the result.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100)
    ///     .key_by(|n| n % 3)
    ///     .aggregate_with(Count::new(), |key, n| format!("{n} of {key}"))
    ///     .print();
    /// ```
    pub fn aggregate_with<A, U: Record>(
        &self,
        function: A,
        finish: impl Fn(&K, A::Out) -> U + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        A: AggregateFunction<In = T>,
    {
        self.aggregate_into(function, move |key, result| finish(&key, result))
    }

    /// As [`aggregate_with`](KeyedStream::aggregate_with), but `finish` may keep the key.
    fn aggregate_into<A, U: Record>(
        &self,
        function: A,
        finish: impl Fn(K, A::Out) -> U + Send + Sync + 'static,
    ) -> DataStream<U>
    where
        A: AggregateFunction<In = T>,
    {
        let keys = self.keys.clone();
        let (function, finish) = (Arc::new(function), Arc::new(finish));
        self.stream.transform("Aggregate", move || Aggregate {
            keys: keys.clone(),
            function: Arc::clone(&function),
            finish: Arc::clone(&finish),
            columns: KeyColumns::default(),
            accumulators: Handle::default(),
            out: PhantomData,
        })
    }

    /// How many records each key has had, after each of them.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..100).key_by(|n| n % 3).count().print();
    /// ```
    pub fn count(&self) -> DataStream<(K, u64)> {
        self.aggregate_into(Count::new(), |key, n| (key, n)).name("Count")
    }

    /// The sum of `value` over each key's records, after each of them.
    pub fn sum<N>(&self, value: impl Fn(&T) -> N + Send + Sync + 'static) -> DataStream<(K, N)>
    where
        N: Record + Default + AddAssign,
    {
        self.aggregate_into(Sum::of(value), |key, sum| (key, sum)).name("Sum")
    }

    /// The smallest `value` of each key's records, after each of them.
    pub fn min<N: Record + PartialOrd>(
        &self,
        value: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        self.extreme(Min::of(value), "Min")
    }

    /// The largest `value` of each key's records, after each of them.
    pub fn max<N: Record + PartialOrd>(
        &self,
        value: impl Fn(&T) -> N + Send + Sync + 'static,
    ) -> DataStream<(K, N)> {
        self.extreme(Max::of(value), "Max")
    }

    fn extreme<A: AggregateFunction<In = T, Out = Option<N>>, N: Record>(
        &self,
        function: A,
        name: &str,
    ) -> DataStream<(K, N)> {
        let results = self.aggregate_into(function, |key, n| n.map(|n| (key, n))).name(name);
        // There is a result after every record.
        results.flat_map(|result, out| out.extend(result))
    }
}

struct Aggregate<T, K, A: AggregateFunction, F, U> {
    keys: Keys<T, K>,
    function: Arc<A>,
    finish: Arc<F>,
    columns: KeyColumns<K>,
    accumulators: Handle<KeyedTable<K, A::Accumulator>>,
    out: PhantomData<fn() -> U>,
}

impl<T, K, A, F, U> Operator for Aggregate<T, K, A, F, U>
where
    T: Record,
    K: Key,
    A: AggregateFunction<In = T>,
    F: Fn(K, A::Out) -> U + Send + Sync + 'static,
    U: Record,
{
    type In = Rows<T>;
    type Out = Rows<U>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.accumulators = ctx.states.keyed("accumulators")?;
        Ok(())
    }

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.keys.fill(&mut batch, &mut self.columns);
        let (out, states) = ctx.out_and_states();
        let table = states.get_mut(self.accumulators);
        let hashes = &self.columns.hashes[..];
        let mut ahead = table.look_ahead(hashes, &self.columns.keys);
        let mut results = Vec::with_capacity(batch.len());
        for (at, (record, key)) in batch.records.iter().zip(&self.columns.keys).enumerate() {
            let result = match table.get_mut_ahead(&mut ahead, hashes, at, key) {
                Some(accumulator) => {
                    self.function.add(accumulator, record);
                    self.function.result(accumulator)
                }
                None => {
                    let mut accumulator = self.function.create();
                    self.function.add(&mut accumulator, record);
                    let result = self.function.result(&accumulator);
                    table.insert(hashes[at], key.clone(), accumulator);
                    result
                }
            };
            results.push(result);
        }
        // In a loop of its own, and one that the vector makes: keys that are moved one by one pass through an option, in
        // pieces.
        let mut records = Vec::with_capacity(batch.len());
        let mut results = results.into_iter();
        std::mem::take(&mut self.columns.keys).into_iter().for_each(|key| {
            if let Some(result) = results.next() {
                records.push((self.finish)(key, result));
            }
        });
        out.append(&mut Rows::new(records, batch.times));
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;

    #[test]
    fn results_go_on_where_they_were_after_a_restart() {
        let keys = Keys::new(Arc::new(|n: &u64| n % 2));
        let function = Arc::new(Sum::of(|n: &u64| *n));
        let finish = Arc::new(|key: u64, sum: u64| (key, sum));
        let mut harness = Harness::new(move || Aggregate {
            keys: keys.clone(),
            function: Arc::clone(&function),
            finish: Arc::clone(&finish),
            columns: KeyColumns::default(),
            accumulators: Handle::default(),
            out: PhantomData,
        });
        harness.push([(1u64, 1), (2, 2), (3, 3)]);
        harness.restart_through(3);
        harness.push([(4u64, 4), (5, 5)]);
        assert_eq!(
            harness.timed_output(),
            [((1, 1), Some(1)), ((0, 2), Some(2)), ((1, 4), Some(3)), ((0, 6), Some(4)), ((1, 9), Some(5))]
        );
    }
}
