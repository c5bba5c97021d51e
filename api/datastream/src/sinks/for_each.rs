//! Calls a function for each record. After a failure it may see records again.

use crate::stream::{DataStream, StreamSink};
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;
use std::sync::Arc;

impl<T: Record> DataStream<T> {
    /// Calls `function` for each record, at least once.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10).for_each(|n| println!("{n}"));
    /// ```
    pub fn for_each(&self, function: impl Fn(T) + Send + Sync + 'static) -> StreamSink {
        self.try_for_each(move |record| {
            function(record);
            Ok(())
        })
    }

    /// Calls `function` for each record, at least once; an error fails the attempt.
    pub fn try_for_each(&self, function: impl Fn(T) -> OpResult + Send + Sync + 'static) -> StreamSink {
        self.sink_to(ForEach { function: Arc::new(function), record: PhantomData }).name("ForEach")
    }
}

struct ForEach<T, F> {
    function: Arc<F>,
    record: PhantomData<fn(T)>,
}

impl<T: Record, F: Fn(T) -> OpResult + Send + Sync + 'static> Sink for ForEach<T, F> {
    type In = T;

    fn writer(&self, _: &Place) -> OpResult<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(ForEach { function: Arc::clone(&self.function), record: PhantomData }))
    }
}

impl<T: Record, F: Fn(T) -> OpResult + Send + Sync + 'static> SinkWriter<T> for ForEach<T, F> {
    fn write(&mut self, batch: Rows<T>, _: &mut SinkContext<'_>) -> OpResult {
        batch.records.into_iter().try_for_each(&*self.function)
    }
}
