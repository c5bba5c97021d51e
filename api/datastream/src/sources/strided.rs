//! An enumerator of as many splits as the source has subtasks when the first of them asks.

use hurtig_dataflow::OpResult;
use hurtig_dataflow::source::{Assignment, Split, SplitEnumerator};
use std::collections::VecDeque;

/// Makes split `index` of `of`.
type Make<S> = Box<dyn Fn(usize, usize) -> S + Send>;

/// Hands out one split per subtask; which subtask gets which does not matter.
pub(super) struct PerSubtask<S> {
    make: Make<S>,
    /// `None` before the first subtask has asked: their number is not known yet.
    left: Option<VecDeque<S>>,
    /// Whether readers know how much there is in their splits.
    is_sized: bool,
}

impl<S: Split> PerSubtask<S> {
    pub(super) fn new(
        restored: Option<&[u8]>,
        make: impl Fn(usize, usize) -> S + Send + 'static,
    ) -> OpResult<Self> {
        let left = restored.map(rmp_serde::from_slice).transpose()?.flatten();
        Ok(PerSubtask { make: Box::new(make), left, is_sized: false })
    }

    /// Says whether readers know how much there is in their splits.
    pub(super) fn sized(mut self, is_sized: bool) -> Self {
        self.is_sized = is_sized;
        self
    }
}

impl<S: Split> SplitEnumerator<S> for PerSubtask<S> {
    fn next(&mut self, _subtask: usize, parallelism: usize) -> OpResult<Assignment<S>> {
        let make = &self.make;
        let left =
            self.left.get_or_insert_with(|| (0..parallelism).map(|index| make(index, parallelism)).collect());
        Ok(left.pop_front().map_or(Assignment::Finished, |split| Assignment::Splits(vec![split])))
    }

    fn snapshot(&self) -> OpResult<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(&self.left)?)
    }

    fn unread(&self) -> Option<u64> {
        // All splits begin at once: what is not handed out yet soon will be.
        (self.is_sized && self.left.as_ref().is_some_and(VecDeque::is_empty)).then_some(0)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    pub(crate) use hurtig_dataflow::harness::place;
    use hurtig_dataflow::source::{Polled, Source, SplitReader};

    /// Reads one batch of each split of `parallelism`, restarts everything from the positions, and reads to the end.
    pub(crate) fn read_all<S: Source>(source: &S, parallelism: usize) -> Vec<S::Out> {
        let mut enumerator = source.enumerator(None).unwrap();
        let mut records = Vec::new();
        let mut positions = Vec::new();
        if let Assignment::Splits(splits) = enumerator.next(0, parallelism).unwrap() {
            for split in splits {
                let mut reader = source.open(split, &place()).unwrap();
                if let Polled::Rows(rows) = reader.poll(5, 0).unwrap() {
                    records.extend(rows.records);
                }
                positions.push(reader.position());
            }
        }
        let bytes = enumerator.snapshot().unwrap();
        let mut enumerator = source.enumerator(Some(&bytes)).unwrap();
        // The parallelism has changed meanwhile.
        while let Assignment::Splits(splits) = enumerator.next(0, parallelism + 1).unwrap() {
            positions.extend(splits);
        }
        for split in positions {
            let mut reader: Box<dyn SplitReader<Out = S::Out, Split = S::Split>> =
                source.open(split, &place()).unwrap();
            while let Polled::Rows(rows) = reader.poll(7, 0).unwrap() {
                assert!(!rows.is_empty() && rows.len() <= 7);
                records.extend(rows.records);
            }
        }
        records
    }
}
