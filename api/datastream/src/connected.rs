//! Two streams that one operator reads.

use crate::keyed::{KeyedStream, Keys};
use crate::stream::DataStream;
use hurtig_dataflow::{Key, Record};

/// Two streams of different records for one operator.
pub struct ConnectedStreams<A, B> {
    pub(crate) first: DataStream<A>,
    pub(crate) second: DataStream<B>,
}

/// Two streams parted by the same key for one operator, whose state both see.
pub struct KeyedConnectedStreams<A, B, K> {
    pub(crate) first: KeyedStream<A, K>,
    pub(crate) second: KeyedStream<B, K>,
}

/// A stream and another that every subtask sees in full.
pub struct BroadcastConnectedStreams<T, B> {
    pub(crate) stream: DataStream<T>,
    pub(crate) broadcast: DataStream<B>,
}

/// A keyed stream and another that every subtask sees in full.
pub struct KeyedBroadcastConnectedStreams<T, K, B> {
    pub(crate) stream: DataStream<T>,
    pub(crate) keys: Keys<T, K>,
    pub(crate) broadcast: DataStream<B>,
}

impl<T: Record> DataStream<T> {
    /// Lets one operator read this stream and another.
    pub fn connect<B: Record>(&self, other: &DataStream<B>) -> ConnectedStreams<T, B> {
        ConnectedStreams { first: self.clone(), second: other.clone() }
    }

    /// Lets one operator read this stream and, in each of its subtasks, all of another: rules, settings, small tables.
    pub fn connect_broadcast<B: Record>(&self, broadcast: &DataStream<B>) -> BroadcastConnectedStreams<T, B> {
        BroadcastConnectedStreams { stream: self.clone(), broadcast: broadcast.broadcast() }
    }
}

impl<A: Record, B: Record> ConnectedStreams<A, B> {
    /// Parts both streams by key.
    pub fn key_by<K: Key>(
        &self,
        first: impl Fn(&A) -> K + Send + Sync + 'static,
        second: impl Fn(&B) -> K + Send + Sync + 'static,
    ) -> KeyedConnectedStreams<A, B, K> {
        self.first.key_by(first).connect(&self.second.key_by(second))
    }
}

impl<T: Record, K: Key> KeyedStream<T, K> {
    /// Lets one operator read this stream and another parted by the same key.
    pub fn connect<B: Record>(&self, other: &KeyedStream<B, K>) -> KeyedConnectedStreams<T, B, K> {
        KeyedConnectedStreams { first: self.clone(), second: other.clone() }
    }

    /// Lets one operator read this stream and, in each of its subtasks, all of another.
    pub fn connect_broadcast<B: Record>(
        &self,
        broadcast: &DataStream<B>,
    ) -> KeyedBroadcastConnectedStreams<T, K, B> {
        KeyedBroadcastConnectedStreams {
            stream: self.stream.clone(),
            keys: self.keys.clone(),
            broadcast: broadcast.broadcast(),
        }
    }
}
