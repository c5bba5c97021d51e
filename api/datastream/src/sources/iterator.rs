//! Reads iterators, one per subtask; a restored one skips what was read.

use super::strided::PerSubtask;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Record, Rows, Timestamp};
use serde::{Deserialize, Serialize};

/// Reads the iterators that `make` makes.
pub(crate) struct IteratorSource<F> {
    make: F,
}

impl<F> IteratorSource<F> {
    pub(crate) fn new(make: F) -> Self {
        IteratorSource { make }
    }
}

/// One of several iterators, and how many of its records are read.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct IteratorSplit {
    index: usize,
    of: usize,
    read: u64,
}

impl<T: Record, I, F> Source for IteratorSource<F>
where
    I: Iterator<Item = T> + Send + 'static,
    F: Fn(usize, usize) -> I + Send + Sync + 'static,
{
    type Out = T;
    type Split = IteratorSplit;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<IteratorSplit>>> {
        Ok(Box::new(PerSubtask::new(restored, |index, of| IteratorSplit { index, of, read: 0 })?))
    }

    fn open(
        &self,
        split: IteratorSplit,
        _: &Place,
    ) -> OpResult<Box<dyn SplitReader<Out = T, Split = IteratorSplit>>> {
        let mut records = (self.make)(split.index, split.of);
        if let Some(last) = usize::try_from(split.read)?.checked_sub(1) {
            records.nth(last);
        }
        Ok(Box::new(Reader { records, split }))
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

struct Reader<I> {
    records: I,
    split: IteratorSplit,
}

impl<T: Record, I: Iterator<Item = T> + Send> SplitReader for Reader<I> {
    type Out = T;
    type Split = IteratorSplit;

    fn poll(&mut self, max: usize, _: Timestamp) -> OpResult<Polled<T>> {
        let records: Vec<T> = self.records.by_ref().take(max).collect();
        self.split.read += records.len() as u64;
        Ok(if records.is_empty() { Polled::End } else { Polled::Rows(Rows::untimed(records)) })
    }

    fn position(&self) -> IteratorSplit {
        self.split.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::strided::tests::read_all;

    #[test]
    fn every_record_comes_once_whatever_the_parallelism() {
        for parallelism in 1..4 {
            let source = IteratorSource::new(|index, of| (0..50u64).skip(index).step_by(of));
            let mut records = read_all(&source, parallelism);
            records.sort_unstable();
            assert_eq!(records, (0..50).collect::<Vec<_>>());
        }
    }
}
