//! Turns each record into another. Keeps no state.

use crate::stream::DataStream;
use hurtig_dataflow::operator::{Context, Operator, Progress};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;

impl<T: Record> DataStream<T> {
    /// Turns each record into another.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10).map(|n| format!("number {n}")).print();
    /// ```
    pub fn map<U: Record>(&self, function: impl Fn(T) -> U + Send + Sync + 'static) -> DataStream<U> {
        let function = Arc::new(function);
        self.transform("Map", move || Map { function: Arc::clone(&function), types: PhantomData })
    }

    /// Turns each record into another, or fails the attempt.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_collection(vec!["17".to_string()]).try_map(|text| Ok(text.parse::<u32>()?)).print();
    /// ```
    pub fn try_map<U: Record>(
        &self,
        function: impl Fn(T) -> OpResult<U> + Send + Sync + 'static,
    ) -> DataStream<U> {
        let function = Arc::new(function);
        self.transform("Map", move || TryMap { function: Arc::clone(&function), types: PhantomData })
    }
}

struct Map<T, U, F> {
    function: Arc<F>,
    types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U: Record, F: Fn(T) -> U + Send + Sync + 'static> Operator for Map<T, U, F> {
    type In = Rows<T>;
    type Out = Rows<U>;

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        // Collecting a mapped vector into a vector reuses its memory where the types' sizes allow.
        let records = batch.records.into_iter().map(&*self.function).collect();
        ctx.out().append(&mut Rows::new(records, batch.times));
        Ok(Progress::Done)
    }
}

struct TryMap<T, U, F> {
    function: Arc<F>,
    types: PhantomData<fn(T) -> U>,
}

impl<T: Record, U: Record, F: Fn(T) -> OpResult<U> + Send + Sync + 'static> Operator for TryMap<T, U, F> {
    type In = Rows<T>;
    type Out = Rows<U>;

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        // Collecting into a result would not know how many records there are.
        let mut records = Vec::with_capacity(batch.len());
        for record in batch.records {
            records.push((self.function)(record)?);
        }
        ctx.out().append(&mut Rows::new(records, batch.times));
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;

    #[test]
    fn each_record_is_mapped_and_keeps_its_time() {
        let function = Arc::new(|n: i64| n.to_string());
        let mut harness = Harness::new(move || Map { function: Arc::clone(&function), types: PhantomData });
        harness.push([(1i64, 10), (2, 20)]);
        harness.restart();
        harness.push([(3i64, 30)]);
        let expected = [("1", 10), ("2", 20), ("3", 30)].map(|(s, t)| (s.to_string(), Some(t)));
        assert_eq!(harness.timed_output(), expected);
    }

    #[test]
    #[should_panic(expected = "operator 'test': no")]
    fn a_failing_function_fails_the_attempt_by_name() {
        let function = Arc::new(|_: i64| -> OpResult<i64> { Err("no".into()) });
        let mut harness =
            Harness::new(move || TryMap { function: Arc::clone(&function), types: PhantomData });
        harness.push([(1i64, 10)]);
    }
}
