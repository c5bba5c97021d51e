//! A stream parted by key, and how the keys of a batch are found.

use crate::stream::DataStream;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::{Key, Record};
use std::sync::Arc;

type Extract<T, K> = Arc<dyn Fn(&[T], &mut KeyColumns<K>) + Send + Sync>;

/// Finds the keys of records, a batch at a time.
pub(crate) struct Keys<T, K> {
    extract: Extract<T, K>,
}

impl<T, K> Clone for Keys<T, K> {
    fn clone(&self) -> Self {
        Keys { extract: Arc::clone(&self.extract) }
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
    pub(crate) fn new<F: Fn(&T) -> K + Send + Sync + 'static>(key: Arc<F>) -> Self {
        let extract = move |records: &[T], columns: &mut KeyColumns<K>| {
            columns.keys.clear();
            columns.keys.extend(records.iter().map(|record| key(record)));
            columns.hashes.clear();
            columns.hashes.extend(columns.keys.iter().map(hash_key));
        };
        Keys { extract: Arc::new(extract) }
    }

    /// Fills `columns` with the keys of `records`.
    #[inline]
    pub(crate) fn fill(&self, records: &[T], columns: &mut KeyColumns<K>) {
        (self.extract)(records, columns);
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
