//! Prints records to standard output, a line each.

use crate::stream::{DataStream, StreamSink};
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Record, Rows};
use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::marker::PhantomData;

impl<T: Record + Debug> DataStream<T> {
    /// Prints the records to standard output, each with the number of its subtask if there are several.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// env.from_range(0..10).print();
    /// ```
    pub fn print(&self) -> StreamSink {
        self.sink_to(Print(PhantomData)).name("Print")
    }
}

struct Print<T>(PhantomData<fn(T)>);

impl<T: Record + Debug> Sink for Print<T> {
    type In = T;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<T>>> {
        let prefix = match place.parallelism {
            1 => String::new(),
            _ => format!("{}> ", place.subtask + 1),
        };
        Ok(Box::new(Writer { prefix, lines: String::new() }))
    }
}

struct Writer {
    prefix: String,
    lines: String,
}

impl<T: Record + Debug> SinkWriter<T> for Writer {
    fn write(&mut self, batch: Rows<T>, _: &mut SinkContext<'_>) -> OpResult {
        self.lines.clear();
        for record in &batch.records {
            writeln!(self.lines, "{}{record:?}", self.prefix)?;
        }
        std::io::stdout().write_all(self.lines.as_bytes())?;
        Ok(())
    }
}
