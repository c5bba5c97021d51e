//! Throws records away, for measurements.

use crate::stream::{DataStream, StreamSink};
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::marker::PhantomData;

impl<T: Record> DataStream<T> {
    /// Throws the records away.
    pub fn discard(&self) -> StreamSink {
        self.sink_to(Discard(PhantomData)).name("Discard")
    }
}

struct Discard<T>(PhantomData<fn(T)>);

impl<T: Record> Sink for Discard<T> {
    type In = T;

    fn writer(&self, _: &Place) -> OpResult<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Discard(PhantomData)))
    }
}

impl<T: Record> SinkWriter<T> for Discard<T> {
    fn write(&mut self, _: Rows<T>, _: &mut SinkContext<'_>) -> OpResult {
        Ok(())
    }
}
