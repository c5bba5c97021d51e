//! What functions write their records to.

use hurtig_dataflow::operator::{OutputTag, Sides};
use hurtig_dataflow::{Record, Rows, Timestamp};

/// Takes the records a function puts out for one input.
pub struct Collector<'a, U> {
    out: &'a mut Rows<U>,
    sides: Sides<'a>,
    time: Option<Timestamp>,
}

impl<'a, U: Record> Collector<'a, U> {
    pub(crate) fn new(out: &'a mut Rows<U>, sides: Sides<'a>, time: Option<Timestamp>) -> Self {
        Collector { out, sides, time }
    }

    pub(crate) fn at(&mut self, time: Option<Timestamp>) -> &mut Self {
        self.time = time;
        self
    }

    pub(crate) fn len(&self) -> usize {
        self.out.len()
    }

    /// Puts out a record with the event time of the input.
    #[inline]
    pub fn emit(&mut self, record: U) {
        self.out.push(record, self.time);
    }

    /// Puts out a record with an event time of its own.
    #[inline]
    pub fn emit_at(&mut self, record: U, time: Timestamp) {
        self.out.push(record, Some(time));
    }

    /// Puts out a record to a side output.
    pub fn emit_side<S: Record>(&mut self, tag: &OutputTag<S>, record: S) {
        self.sides.emit(tag, record, self.time);
    }

    /// The event time of the input.
    pub fn timestamp(&self) -> Option<Timestamp> {
        self.time
    }
}

impl<U: Record> Extend<U> for Collector<'_, U> {
    fn extend<I: IntoIterator<Item = U>>(&mut self, records: I) {
        for record in records {
            self.emit(record);
        }
    }
}
