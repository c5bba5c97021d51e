//! Batches: records that travel together.

use crate::error::{BoxError, Error};
use crate::time::{MIN_TIMESTAMP, Timestamp};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::any::Any;

/// What may flow in a stream: any owned type that can be cloned, sent and (de)serialised. Implemented for all
/// such types.
pub trait Record: Clone + Send + Serialize + DeserializeOwned + 'static {}
impl<T: Clone + Send + Serialize + DeserializeOwned + 'static> Record for T {}

/// Records that travel together, seen without their type.
pub trait Batch: Any + Send {
    /// Number of records.
    fn len(&self) -> usize;

    /// Whether there is no record.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of this batch.
    fn duplicate(&self) -> AnyBatch;

    /// Keeps the first `at` records and returns the rest.
    fn split_off(&mut self, at: usize) -> AnyBatch;

    /// Name of the batch's type, for messages.
    fn type_name(&self) -> &'static str;
}

/// A batch whose type is known to its operators only. Costs one allocation per batch, none per record.
pub type AnyBatch = Box<dyn Batch>;

/// Recovers the type of a batch.
///
/// # Errors
/// The batch is of another type, which is a defect of the code that built the job graph.
pub fn downcast<B: Batch>(batch: AnyBatch) -> Result<B, BoxError> {
    let found = batch.type_name();
    let any: Box<dyn Any> = batch;
    match any.downcast::<B>() {
        Ok(batch) => Ok(*batch),
        Err(_) => Err(Error::BatchType { expected: std::any::type_name::<B>(), found }.into()),
    }
}

/// A batch of rows of one Rust type, with their event times if the stream has any.
#[derive(Clone, Debug)]
pub struct Rows<T> {
    /// The records.
    pub records: Vec<T>,
    /// Their event times: as many as records, or none at all where the stream has no event time.
    pub times: Vec<Timestamp>,
    /// The hashes of their keys, on the way from a hash partitioner to the operator behind it; valid only if there are
    /// as many as records.
    pub(crate) hashes: Vec<u64>,
}

impl<T> Default for Rows<T> {
    fn default() -> Self {
        Rows::untimed(Vec::new())
    }
}

/// The hashes of keys are not part of what a batch says.
impl<T: PartialEq> PartialEq for Rows<T> {
    fn eq(&self, other: &Self) -> bool {
        self.records == other.records && self.times == other.times
    }
}

impl<T> Rows<T> {
    /// Records, and as many event times or none.
    pub fn new(records: Vec<T>, times: Vec<Timestamp>) -> Self {
        Rows { records, times, hashes: Vec::new() }
    }

    /// An empty batch with room for `capacity` records.
    pub fn with_capacity(capacity: usize) -> Self {
        Rows::untimed(Vec::with_capacity(capacity))
    }

    /// Records without event time.
    pub fn untimed(records: Vec<T>) -> Self {
        Rows::new(records, Vec::new())
    }

    /// Records with their event times.
    pub fn timed(rows: impl IntoIterator<Item = (T, Timestamp)>) -> Self {
        let (records, times) = rows.into_iter().unzip();
        Rows::new(records, times)
    }

    /// The hashes of the records' keys, if the batch comes straight from a hash partitioner of this process: what
    /// [`hash_key`](crate::key::hash_key) says of the key that it partitions by.
    pub fn take_hashes(&mut self) -> Option<Vec<u64>> {
        let hashes = std::mem::take(&mut self.hashes);
        (hashes.len() == self.records.len()).then_some(hashes)
    }

    /// Whether records carry event times.
    #[inline]
    pub fn is_timed(&self) -> bool {
        !self.times.is_empty()
    }

    /// Number of records.
    #[inline]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Event time of a record, if it has one.
    #[inline]
    pub fn time(&self, index: usize) -> Option<Timestamp> {
        self.times.get(index).copied()
    }

    /// Adds a record. A batch's records either all carry a time or none does; where they are mixed, those
    /// without one get [`MIN_TIMESTAMP`].
    #[inline]
    pub fn push(&mut self, record: T, time: Option<Timestamp>) {
        match time {
            Some(time) if self.times.len() == self.records.len() => self.times.push(time),
            None if self.times.is_empty() => {}
            mixed => self.push_mixed_time(mixed),
        }
        self.records.push(record);
    }

    #[cold]
    fn push_mixed_time(&mut self, time: Option<Timestamp>) {
        self.times.resize(self.records.len(), MIN_TIMESTAMP);
        self.times.push(time.unwrap_or(MIN_TIMESTAMP));
    }

    /// Moves all records of `other` to the end of this batch. Hashes of keys do not go with them.
    pub fn append(&mut self, other: &mut Rows<T>) {
        self.hashes.clear();
        if self.is_empty() {
            std::mem::swap(&mut self.records, &mut other.records);
            std::mem::swap(&mut self.times, &mut other.times);
            return;
        }
        if other.is_timed() && !self.is_timed() {
            self.times.resize(self.records.len(), MIN_TIMESTAMP);
        }
        if self.is_timed() {
            if other.is_timed() {
                self.times.append(&mut other.times);
            } else {
                self.times.resize(self.records.len() + other.records.len(), MIN_TIMESTAMP);
            }
        }
        self.records.append(&mut other.records);
    }

    /// Records with their event times, by value.
    pub fn into_iter_timed(self) -> RowsIter<T> {
        RowsIter { records: self.records.into_iter(), times: self.times.into_iter() }
    }
}

/// Records of a batch with their event times; see [`Rows::into_iter_timed`].
pub struct RowsIter<T> {
    records: std::vec::IntoIter<T>,
    times: std::vec::IntoIter<Timestamp>,
}

impl<T> Default for RowsIter<T> {
    fn default() -> Self {
        Rows::default().into_iter_timed()
    }
}

impl<T> Iterator for RowsIter<T> {
    type Item = (T, Option<Timestamp>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.records.next().map(|record| (record, self.times.next()))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl<T: Clone + Send + 'static> Batch for Rows<T> {
    fn len(&self) -> usize {
        self.records.len()
    }

    fn duplicate(&self) -> AnyBatch {
        Box::new(self.clone())
    }

    fn split_off(&mut self, at: usize) -> AnyBatch {
        let records = self.records.split_off(at);
        let times = if self.is_timed() { self.times.split_off(at) } else { Vec::new() };
        self.hashes.clear();
        Box::new(Rows::new(records, times))
    }

    fn type_name(&self) -> &'static str {
        std::any::type_name::<Self>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timed_and_untimed_records_mix_without_losing_alignment() {
        let mut rows = Rows::untimed(vec![1, 2]);
        rows.push(3, Some(30));
        rows.append(&mut Rows::untimed(vec![4]));
        rows.append(&mut Rows::timed([(5, 50)]));
        assert_eq!(rows.records, [1, 2, 3, 4, 5]);
        assert_eq!(rows.times, [MIN_TIMESTAMP, MIN_TIMESTAMP, 30, MIN_TIMESTAMP, 50]);
    }

    #[test]
    fn a_batch_of_another_type_is_refused_by_name() {
        let batch: AnyBatch = Box::new(Rows::untimed(vec![1u8]));
        let error = downcast::<Rows<String>>(batch).unwrap_err().to_string();
        assert!(error.contains("Rows<alloc::string::String>") && error.contains("Rows<u8>"), "{error}");
    }
}
