//! Reduces the records of each key and puts out every new result. Keeps the last result of each key for ever.

use crate::keyed::{KeyColumns, KeyedStream, Keys};
use crate::stream::DataStream;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable};
use hurtig_dataflow::{Key, OpResult, Record, Rows};
use std::sync::Arc;

impl<T: Record, K: Key> KeyedStream<T, K> {
    /// Reduces each key's records, former result first, and puts out every new result.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec![("a".to_string(), 1), ("a".to_string(), 2)])
    ///     .key_by(|(word, _)| word.clone())
    ///     .reduce(|a, b| (a.0, a.1 + b.1))
    ///     .print();
    /// ```
    pub fn reduce(&self, function: impl Fn(T, T) -> T + Send + Sync + 'static) -> DataStream<T> {
        let (keys, function) = (self.keys.clone(), Arc::new(function));
        self.stream.transform("Reduce", move || Reduce::new(keys.clone(), Arc::clone(&function)))
    }

    /// For each key the first record with the smallest `value` so far, after each record.
    pub fn min_by<V: PartialOrd>(&self, value: impl Fn(&T) -> V + Send + Sync + 'static) -> DataStream<T> {
        self.reduce(move |a, b| if value(&b) < value(&a) { b } else { a }).name("MinBy")
    }

    /// For each key the first record with the largest `value` so far, after each record.
    pub fn max_by<V: PartialOrd>(&self, value: impl Fn(&T) -> V + Send + Sync + 'static) -> DataStream<T> {
        self.reduce(move |a, b| if value(&b) > value(&a) { b } else { a }).name("MaxBy")
    }
}

struct Reduce<T, K, F> {
    keys: Keys<T, K>,
    function: Arc<F>,
    columns: KeyColumns<K>,
    /// Always `Some` between calls: the option lets the function take the former result by value.
    results: Handle<KeyedTable<K, Option<T>>>,
}

impl<T, K, F> Reduce<T, K, F> {
    fn new(keys: Keys<T, K>, function: Arc<F>) -> Self {
        Reduce { keys, function, columns: KeyColumns::default(), results: Handle::default() }
    }
}

impl<T: Record, K: Key, F: Fn(T, T) -> T + Send + Sync + 'static> Operator for Reduce<T, K, F> {
    type In = Rows<T>;
    type Out = Rows<T>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.results = ctx.states.keyed("results")?;
        Ok(())
    }

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        self.keys.fill(&mut batch, &mut self.columns);
        let table = ctx.states().get_mut(self.results);
        let hashes = &self.columns.hashes[..];
        let mut ahead = table.look_ahead(hashes, &self.columns.keys);
        let mut keyed = self.columns.keys.drain(..).enumerate();
        let mut reduce = |record: T| {
            let Some((at, key)) = keyed.next() else { return record };
            if let Some(slot) = table.get_mut_ahead(&mut ahead, hashes, at, &key) {
                let result = match slot.take() {
                    Some(former) => (self.function)(former, record),
                    None => record,
                };
                return slot.insert(result).clone();
            }
            table.insert(hashes[at], key, Some(record.clone()));
            record
        };
        // Of the same type, so the batch's memory becomes the output's.
        let records = batch.records.into_iter().map(&mut reduce).collect();
        ctx.out().append(&mut Rows::new(records, batch.times));
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn harness() -> Harness<(u8, i64)> {
        let keys = Keys::new(Arc::new(|r: &(u8, i64)| r.0));
        let function = Arc::new(|a: (u8, i64), b: (u8, i64)| (a.0, a.1 + b.1));
        Harness::new(move || Reduce::new(keys.clone(), Arc::clone(&function)))
    }

    proptest! {
        #[test]
        fn every_update_is_put_out_across_restarts(
            batches in prop::collection::vec((prop::collection::vec((0u8..5, -9i64..9), 0..20), 1usize..5), 0..10)
        ) {
            let mut harness = harness();
            let mut model: HashMap<u8, i64> = HashMap::new();
            for (records, parallelism) in batches {
                let expected: Vec<_> = records.iter().map(|(key, n)| {
                    let sum = model.entry(*key).or_default();
                    *sum += n;
                    (*key, *sum)
                }).collect();
                harness.push(records.iter().map(|r| (*r, 0)));
                harness.restart_through(parallelism);
                prop_assert_eq!(harness.output(), expected);
            }
        }
    }
}
