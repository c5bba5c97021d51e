//! How changes cross an edge: by key, or as they come.

use super::Changes;
use crate::rows::RowReader;
use arrow::array::UInt32Array;
use hurtig_dataflow::batch::downcast;
use hurtig_dataflow::key::{hash_key, key_group, owner_of_group};
use hurtig_dataflow::partition::{Partitioner, PartitionerFactory, Partitioning, Pattern};
use hurtig_dataflow::{AnyBatch, Batch, OpResult};
use std::sync::Arc;

/// By the values of some columns: rows of equal values go to one subtask. No column at all sends everything to one.
pub(crate) fn by_key(columns: Vec<usize>) -> Partitioning {
    let factory: PartitionerFactory = Arc::new(move |place| {
        let owner = |group| owner_of_group(group as u16, place.max_parallelism, place.channels);
        Box::new(ByKey {
            columns: columns.clone(),
            max_parallelism: place.max_parallelism,
            owners: (0..place.max_parallelism).map(owner).collect(),
            buffers: Buffers::new(place.channels),
            rows: vec![Vec::new(); place.channels],
        })
    });
    Partitioning { pattern: Pattern::Hash, factory }
}

/// One to one; where the parallelism differs, batch by batch in turn.
pub(crate) fn forward() -> Partitioning {
    let factory: PartitionerFactory =
        Arc::new(|place| Box::new(InTurn { next: 0, buffers: Buffers::new(place.channels) }));
    Partitioning { pattern: Pattern::Forward, factory }
}

/// What is gathered for each channel.
struct Buffers(Vec<(usize, Vec<Changes>)>);

impl Buffers {
    fn new(channels: usize) -> Self {
        Buffers((0..channels).map(|_| (0, Vec::new())).collect())
    }

    fn put(&mut self, channel: usize, changes: Changes) {
        let (rows, parts) = &mut self.0[channel];
        *rows += changes.len();
        parts.push(changes);
    }

    fn take(&mut self, channel: usize) -> Option<AnyBatch> {
        let (rows, parts) = &mut self.0[channel];
        if std::mem::take(rows) == 0 {
            return None;
        }
        let all = Changes::concat(std::mem::take(parts)).expect("batches of one edge have the same columns");
        Some(Box::new(all))
    }
}

struct ByKey {
    columns: Vec<usize>,
    max_parallelism: u32,
    owners: Vec<usize>,
    buffers: Buffers,
    rows: Vec<Vec<u32>>,
}

impl Partitioner for ByKey {
    fn add(&mut self, batch: AnyBatch) -> OpResult {
        let changes = downcast::<Changes>(batch)?;
        if self.rows.len() == 1 {
            self.buffers.put(0, changes);
            return Ok(());
        }
        let reader = RowReader::of_columns(&changes.batch, &self.columns)?;
        for row in 0..changes.len() {
            let group = key_group(hash_key(&reader.key(row)), self.max_parallelism);
            self.rows[self.owners[group as usize]].push(row as u32);
        }
        for (channel, rows) in self.rows.iter_mut().enumerate() {
            if !rows.is_empty() {
                let rows = UInt32Array::from(std::mem::take(rows));
                self.buffers.put(channel, changes.take(&rows)?);
            }
        }
        Ok(())
    }

    fn gathered(&self, channel: usize) -> usize {
        self.buffers.0[channel].0
    }

    fn take(&mut self, channel: usize) -> Option<AnyBatch> {
        self.buffers.take(channel)
    }
}

struct InTurn {
    next: usize,
    buffers: Buffers,
}

impl Partitioner for InTurn {
    fn add(&mut self, batch: AnyBatch) -> OpResult {
        let changes = downcast::<Changes>(batch)?;
        self.buffers.put(self.next, changes);
        self.next = (self.next + 1) % self.buffers.0.len();
        Ok(())
    }

    fn gathered(&self, channel: usize) -> usize {
        self.buffers.0[channel].0
    }

    fn take(&mut self, channel: usize) -> Option<AnyBatch> {
        self.buffers.take(channel)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::numbers;
    use super::*;
    use hurtig_dataflow::partition::PartitionerPlace;

    #[test]
    fn rows_go_where_their_keys_state_is_and_keep_their_weights() {
        let place = PartitionerPlace { subtask: 0, channels: 3, max_parallelism: 128 };
        let values: Vec<i64> = (0..200).map(|n| n % 50).collect();
        let weights: Vec<i64> = (0..200).map(|n| if n % 2 == 0 { 1 } else { -1 }).collect();
        let changes = Changes::weighted(numbers(&values), weights).unwrap();
        let mut partitioner = (by_key(vec![0]).factory)(place);
        partitioner.add(Box::new(changes.clone())).unwrap();
        partitioner.add(Box::new(changes)).unwrap();
        let mut rows = 0;
        for channel in 0..3 {
            let part = downcast::<Changes>(partitioner.take(channel).unwrap()).unwrap();
            rows += part.len();
            let reader = RowReader::of_columns(&part.batch, &[0]).unwrap();
            for row in 0..part.len() {
                let group = key_group(hash_key(&reader.key(row)), 128);
                assert_eq!(owner_of_group(group, 128, 3), channel);
            }
        }
        assert_eq!(rows, 400);
    }
}
