//! Reads a range of numbers; each split takes every n-th.

use super::strided::PerSubtask;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Rows, Timestamp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

pub(crate) struct RangeSource {
    range: Range<u64>,
}

impl RangeSource {
    pub(crate) fn new(range: Range<u64>) -> Self {
        RangeSource { range }
    }
}

/// A split of numbers: every `step`-th from `next` on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Strided {
    pub(crate) next: u64,
    pub(crate) step: u64,
}

impl Strided {
    /// Takes the next numbers below `end`: at most `max`.
    pub(crate) fn take(&mut self, max: usize, end: u64) -> impl Iterator<Item = u64> + use<> {
        let (first, step) = (self.next, self.step);
        let left = end.saturating_sub(first).div_ceil(step);
        let count = left.min(max as u64);
        self.next = first + count * step;
        (0..count).map(move |n| first + n * step)
    }

    /// Bytes taken and in all, if each number of a range stands for a `T`.
    pub(crate) fn progress<T>(&self, range: &Range<u64>) -> (u64, u64) {
        let bytes = size_of::<T>().max(1) as u64;
        let read = self.next.saturating_sub(range.start) / self.step;
        let size = range.end.saturating_sub(range.start) / self.step;
        (read.min(size).saturating_mul(bytes), size.saturating_mul(bytes))
    }
}

impl Source for RangeSource {
    type Out = u64;
    type Split = Strided;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<Strided>>> {
        let start = self.range.start;
        let split = move |index, of| Strided { next: start + index as u64, step: of as u64 };
        Ok(Box::new(PerSubtask::new(restored, split)?.sized(true)))
    }

    fn open(&self, split: Strided, _: &Place) -> OpResult<Box<dyn SplitReader<Out = u64, Split = Strided>>> {
        Ok(Box::new(Reader { split, range: self.range.clone() }))
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

struct Reader {
    split: Strided,
    range: Range<u64>,
}

impl SplitReader for Reader {
    type Out = u64;
    type Split = Strided;

    fn poll(&mut self, max: usize, _: Timestamp) -> OpResult<Polled<u64>> {
        let records: Vec<u64> = self.split.take(max, self.range.end).collect();
        Ok(if records.is_empty() { Polled::End } else { Polled::Rows(Rows::untimed(records)) })
    }

    fn position(&self) -> Strided {
        self.split.clone()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        Some(self.split.progress::<u64>(&self.range))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::strided::tests::read_all;

    #[test]
    fn every_number_comes_once_whatever_the_parallelism() {
        for parallelism in 1..5 {
            let mut records = read_all(&RangeSource::new(3..61), parallelism);
            records.sort_unstable();
            assert_eq!(records, (3..61).collect::<Vec<_>>());
        }
    }
}
