//! Reads records that the program holds: one split, in order.

use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Record, Rows, Timestamp};
use parking_lot::Mutex;
use std::sync::Arc;

/// Reads a vector. Its records need not be shareable between threads, hence the lock.
pub(crate) struct CollectionSource<T> {
    records: Arc<Mutex<Vec<T>>>,
}

impl<T> CollectionSource<T> {
    pub(crate) fn new(records: Vec<T>) -> Self {
        CollectionSource { records: Arc::new(Mutex::new(records)) }
    }
}

impl<T: Record> Source for CollectionSource<T> {
    type Out = T;
    /// Number of records read.
    type Split = u64;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<u64>>> {
        Ok(Box::new(FixedSplits::new([0], restored)?))
    }

    fn open(&self, at: u64, _: &Place) -> OpResult<Box<dyn SplitReader<Out = T, Split = u64>>> {
        Ok(Box::new(Reader { records: Arc::clone(&self.records), at: at as usize }))
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

struct Reader<T> {
    records: Arc<Mutex<Vec<T>>>,
    at: usize,
}

impl<T: Record> SplitReader for Reader<T> {
    type Out = T;
    type Split = u64;

    fn poll(&mut self, max: usize, _: Timestamp) -> OpResult<Polled<T>> {
        let records = self.records.lock();
        let end = records.len().min(self.at + max);
        if self.at >= end {
            return Ok(Polled::End);
        }
        let rows = Rows::untimed(records[self.at..end].to_vec());
        self.at = end;
        Ok(Polled::Rows(rows))
    }

    fn position(&self) -> u64 {
        self.at as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::strided::tests::read_all;

    #[test]
    fn all_records_come_once_and_in_order() {
        let source = CollectionSource::new((0..33).collect::<Vec<i32>>());
        assert_eq!(read_all(&source, 1), (0..33).collect::<Vec<_>>());
        assert!(read_all(&CollectionSource::new(Vec::<i32>::new()), 1).is_empty());
    }
}
