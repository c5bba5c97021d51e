//! A stream parted by key, and how the keys of a batch are found.

use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::{Key, Record, Rows, Timestamp};
use std::sync::Arc;

type Extract<T, K> = Arc<dyn Fn(&[T], &mut Vec<K>) + Send + Sync>;

/// Finds the keys of records, a batch at a time.
pub(crate) struct Keys<T, K> {
    extract: Extract<T, K>,
    /// Whether the batches come from a partitioner by the same key, so that the hashes they bring are those of the keys.
    partitioned: bool,
}

impl<T, K> Clone for Keys<T, K> {
    fn clone(&self) -> Self {
        Keys { extract: Arc::clone(&self.extract), partitioned: self.partitioned }
    }
}

/// The keys of a batch and their hashes. Its memory is used again for the next batch.
pub(crate) struct KeyColumns<K> {
    pub(crate) keys: Vec<K>,
    pub(crate) hashes: Vec<u64>,
}

impl<K> Default for KeyColumns<K> {
    fn default() -> Self {
        KeyColumns { keys: Vec::new(), hashes: Vec::new() }
    }
}

impl<T: Record, K: Key> Keys<T, K> {
    /// The keys of records that come from wherever they may.
    pub(crate) fn new<F: Fn(&T) -> K + Send + Sync + 'static>(key: Arc<F>) -> Self {
        let extract = move |records: &[T], keys: &mut Vec<K>| {
            keys.clear();
            keys.extend(records.iter().map(|record| key(record)));
        };
        Keys { extract: Arc::new(extract), partitioned: false }
    }

    /// The keys of records that come straight from a partitioner by the same key.
    pub(crate) fn partitioned<F: Fn(&T) -> K + Send + Sync + 'static>(key: Arc<F>) -> Self {
        Keys { partitioned: true, ..Self::new(key) }
    }

    /// Fills `columns` with the keys of a batch.
    #[inline]
    pub(crate) fn fill(&self, batch: &mut Rows<T>, columns: &mut KeyColumns<K>) {
        (self.extract)(&batch.records, &mut columns.keys);
        match batch.take_hashes() {
            Some(hashes) if self.partitioned => columns.hashes = hashes,
            _ => {
                columns.hashes.clear();
                columns.hashes.extend(columns.keys.iter().map(hash_key));
            }
        }
        debug_assert!(columns.hashes.iter().eq(columns.keys.iter().map(hash_key).collect::<Vec<_>>().iter()));
    }
}

/// A batch that is worked off record by record, with the keys of its records.
pub(crate) struct KeyedBatch<T, K> {
    keys: Keys<T, K>,
    columns: KeyColumns<K>,
    rest: RowsIter<T>,
    at: usize,
}

/// A record, its event time, its key and the key's hash.
pub(crate) type KeyedRecord<'a, T, K> = (T, Option<Timestamp>, &'a K, u64);

impl<T: Record, K: Key> KeyedBatch<T, K> {
    pub(crate) fn new(keys: Keys<T, K>) -> Self {
        KeyedBatch { keys, columns: KeyColumns::default(), rest: RowsIter::default(), at: 0 }
    }

    pub(crate) fn load(&mut self, mut batch: Rows<T>) {
        self.keys.fill(&mut batch, &mut self.columns);
        self.at = 0;
        self.rest = batch.into_iter_timed();
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Option<KeyedRecord<'_, T, K>> {
        let (record, time) = self.rest.next()?;
        let at = self.at;
        self.at += 1;
        Some((record, time, &self.columns.keys[at], self.columns.hashes[at]))
    }
}

/// A stream whose records of equal keys are seen by the same subtask of the next operation.
pub struct KeyedStream<T, K> {
    pub(crate) stream: DataStream<T>,
    pub(crate) keys: Keys<T, K>,
}

impl<T, K> Clone for KeyedStream<T, K> {
    fn clone(&self) -> Self {
        KeyedStream { stream: self.stream.clone(), keys: self.keys.clone() }
    }
}

impl<T: Record, K: Key> KeyedStream<T, K> {
    pub(crate) fn new(stream: DataStream<T>, keys: Keys<T, K>) -> Self {
        KeyedStream { stream, keys }
    }

    /// The records as a stream without keys; they still travel by key to the next operation.
    pub fn as_stream(&self) -> DataStream<T> {
        self.stream.clone()
    }
}
