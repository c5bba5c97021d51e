//! Gathers records in the program that runs the job, each exactly once: they travel in the checkpoints and appear when
//! a checkpoint is complete. For results that fit in memory, where program and job are one process.

use crate::stream::DataStream;
use hurtig_dataflow::operator::{OpenContext, Place};
use hurtig_dataflow::sink::{Committer, Sink, SinkContext, SinkWriter};
use hurtig_dataflow::state::{Handle, ItemList};
use hurtig_dataflow::{OpResult, Record, Rows};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;

impl<T: Record> DataStream<T> {
    /// Gathers the records. They appear when a checkpoint is complete and at the end of the job; without checkpoints at
    /// once, and after a failure again.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let results = env.from_range(0..10).collect();
    /// // ... execute the job, then:
    /// let records = results.take();
    /// # assert!(records.is_empty());
    /// ```
    pub fn collect(&self) -> Collected<T> {
        let collected = Collected::new();
        self.sink_to(collected.sink()).name("Collect");
        collected
    }
}

/// The records a job has put out so far; see [`DataStream::collect`].
pub struct Collected<T> {
    shared: Arc<Mutex<Shared<T>>>,
}

struct Shared<T> {
    records: Vec<T>,
    /// Subtask and sequence number of what is in `records`.
    committed: HashSet<(usize, u64)>,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Shared { records: Vec::new(), committed: HashSet::new() }
    }
}

impl<T> Clone for Collected<T> {
    fn clone(&self) -> Self {
        Collected { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Collected<T> {
    /// No records yet.
    pub fn new() -> Self {
        Collected { shared: Arc::default() }
    }

    /// The sink that gathers them.
    pub fn sink(&self) -> impl Sink<In = T> + use<T>
    where
        T: Record,
    {
        Collect { collected: self.clone() }
    }

    /// Takes the records out; those of one subtask are in order.
    pub fn take(&self) -> Vec<T> {
        std::mem::take(&mut self.shared.lock().records)
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.shared.lock().records.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T: Clone> Collected<T> {
    /// A copy of the records.
    pub fn to_vec(&self) -> Vec<T> {
        self.shared.lock().records.clone()
    }
}

struct Collect<T> {
    collected: Collected<T>,
}

impl<T: Record> Sink for Collect<T> {
    type In = T;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<T>>> {
        Ok(Box::new(Writer {
            direct: (!place.checkpointing).then(|| self.collected.clone()),
            subtask: place.subtask,
            written: Vec::new(),
            sequence: 0,
            sequences: Handle::default(),
        }))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(CollectCommitter { collected: self.collected.clone() }))
    }
}

struct Writer<T> {
    /// Where records go at once if there are no checkpoints.
    direct: Option<Collected<T>>,
    subtask: usize,
    written: Vec<T>,
    /// Snapshots taken so far: with the subtask it names what each of them hands over.
    sequence: u64,
    /// A restored subtask goes on behind all others', so that a rescale gives no name twice.
    sequences: Handle<ItemList<u64>>,
}

impl<T: Record> SinkWriter<T> for Writer<T> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.sequences = ctx.states.union_list("sequences")?;
        self.sequence = ctx.states.get(self.sequences).items.iter().copied().max().unwrap_or(0);
        Ok(())
    }

    fn write(&mut self, mut batch: Rows<T>, _: &mut SinkContext<'_>) -> OpResult {
        match &self.direct {
            Some(collected) => collected.shared.lock().records.append(&mut batch.records),
            None => self.written.append(&mut batch.records),
        }
        Ok(())
    }

    fn prepare_commit(&mut self, ctx: &mut SinkContext<'_>) -> OpResult<Vec<Vec<u8>>> {
        self.sequence += 1;
        ctx.states.get_mut(self.sequences).items = vec![self.sequence];
        if self.written.is_empty() {
            return Ok(Vec::new());
        }
        let committable = rmp_serde::to_vec_named(&(self.subtask, self.sequence, &self.written))?;
        self.written.clear();
        Ok(vec![committable])
    }
}

struct CollectCommitter<T> {
    collected: Collected<T>,
}

impl<T: Record> Committer for CollectCommitter<T> {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> OpResult {
        let mut shared = self.collected.shared.lock();
        for committable in committables {
            let (subtask, sequence, mut records): (usize, u64, Vec<T>) = rmp_serde::from_slice(&committable)?;
            if shared.committed.insert((subtask, sequence)) {
                shared.records.append(&mut records);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use hurtig_dataflow::operator::erase;
    use hurtig_dataflow::sink::SinkOperator;

    fn harness(collected: &Collected<i64>) -> Harness<i64> {
        let sink = Arc::new(Collect { collected: collected.clone() });
        Harness::of(Arc::new(move || erase(SinkOperator::new(Arc::clone(&sink)))))
    }

    fn bytes(committables: Vec<impl AsRef<[u8]>>) -> Vec<Vec<u8>> {
        committables.iter().map(|committable| committable.as_ref().to_vec()).collect()
    }

    #[test]
    fn records_appear_with_their_checkpoint_and_only_once() {
        let collected = Collected::new();
        let mut harness = harness(&collected);
        let mut committer = CollectCommitter { collected: collected.clone() };
        harness.push([(1i64, 0), (2, 0)]);
        let first = harness.snapshot();
        assert!(collected.is_empty());
        let committables = bytes(first.committables.iter().map(|c| c.to_vec()).collect());
        committer.commit(committables.clone()).unwrap();
        committer.commit(committables).unwrap();
        harness.push([(3i64, 0)]);
        let lost = harness.snapshot();
        assert_eq!(lost.committables.len(), 1);
        harness.restore(first);
        harness.push([(3i64, 0), (4, 0)]);
        let second = harness.snapshot();
        committer.commit(bytes(second.committables.iter().map(|c| c.to_vec()).collect())).unwrap();
        assert_eq!(collected.take(), [1, 2, 3, 4]);
    }

    #[test]
    fn without_checkpoints_records_appear_at_once() {
        let collected = Collected::new();
        let mut harness = harness(&collected).with_place(|place| place.checkpointing = false);
        harness.push([(1i64, 0), (2, 0)]);
        assert_eq!(collected.to_vec(), [1, 2]);
        harness.end();
        assert!(harness.snapshot().committables.is_empty());
    }
}
