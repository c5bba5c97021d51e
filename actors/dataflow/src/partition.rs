//! Partitioners: which channel of an edge a record takes. They gather records into batches per channel.

use crate::batch::{AnyBatch, Record, Rows, downcast};
use crate::error::OpResult;
use crate::key::{Key, hash_key, key_group, owner_of_group};
use std::sync::Arc;

/// Distributes batches over the channels of an edge and gathers what goes to each.
pub trait Partitioner: Send {
    /// Puts a batch's records into the buffers of their channels.
    ///
    /// # Errors
    /// A batch of the wrong type, or a failing function of the user's.
    fn add(&mut self, batch: AnyBatch) -> OpResult;

    /// Number of records gathered for a channel.
    fn gathered(&self, channel: usize) -> usize;

    /// Takes what is gathered for a channel.
    fn take(&mut self, channel: usize) -> Option<AnyBatch>;
}

/// Where a partitioner stands.
#[derive(Clone, Copy, Debug)]
pub struct PartitionerPlace {
    /// Index of the sending subtask.
    pub subtask: usize,
    /// Number of channels of the edge at this subtask.
    pub channels: usize,
    /// Number of key groups of the job.
    pub max_parallelism: u32,
}

/// Makes a partitioner for one sending subtask.
pub type PartitionerFactory = Arc<dyn Fn(PartitionerPlace) -> Box<dyn Partitioner> + Send + Sync>;

/// Which receiving subtasks a sending one has channels to, and the name of the way records take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// One to one; both sides have the same parallelism.
    Forward,
    /// By hash of the key, all to all.
    Hash,
    /// Evenly, all to all.
    Rebalance,
    /// Evenly, each sender to its share of the receivers.
    Rescale,
    /// Everything to everybody.
    Broadcast,
    /// As a function of the user's says, all to all.
    Custom,
}

impl Pattern {
    /// Whether barriers may overtake records on the way. Not where a receiver's state depends on what its neighbours or its
    /// one sender have had: what everybody gets, everybody must have had; and a forwarded record may have a key that
    /// belongs to its subtask.
    pub fn may_be_overtaken(self) -> bool {
        match self {
            Pattern::Hash | Pattern::Rebalance | Pattern::Rescale | Pattern::Custom => true,
            Pattern::Forward | Pattern::Broadcast => false,
        }
    }
}

/// How records cross an edge.
#[derive(Clone)]
pub struct Partitioning {
    /// The wiring.
    pub pattern: Pattern,
    /// What distributes records over it.
    pub factory: PartitionerFactory,
}

impl Partitioning {
    fn new<T: Record, C: Chooser<T>>(
        pattern: Pattern,
        chooser: impl Fn(PartitionerPlace) -> C + Send + Sync + 'static,
    ) -> Self {
        let factory: PartitionerFactory = Arc::new(move |place| {
            Box::new(Gather { chooser: chooser(place), buffers: buffers::<T>(place.channels) })
        });
        Partitioning { pattern, factory }
    }

    /// One to one.
    pub fn forward<T: Record>() -> Self {
        Self::new::<T, _>(Pattern::Forward, |_| Even { next: 0 })
    }

    /// Evenly over all receivers, starting anywhere.
    pub fn rebalance<T: Record>() -> Self {
        Self::new::<T, _>(Pattern::Rebalance, |place| Even { next: place.subtask % place.channels.max(1) })
    }

    /// Evenly over the sender's share of the receivers.
    pub fn rescale<T: Record>() -> Self {
        Self::new::<T, _>(Pattern::Rescale, |_| Even { next: 0 })
    }

    /// Everything to everybody.
    pub fn broadcast<T: Record>() -> Self {
        let factory: PartitionerFactory =
            Arc::new(move |place| Box::new(Broadcast { buffers: buffers::<T>(place.channels) }));
        Partitioning { pattern: Pattern::Broadcast, factory }
    }

    /// By the key's hash.
    pub fn hash<T: Record, K: Key, F: Fn(&T) -> K + Send + Sync + 'static>(key: Arc<F>) -> Self {
        Self::by_hash(move |record: &T| hash_key(&key(record)), std::mem::needs_drop::<K>())
    }

    /// By the hash of a key that lies within the record.
    pub fn hash_ref<T: Record, K: Key, F: Fn(&T) -> &K + Send + Sync + 'static>(key: Arc<F>) -> Self {
        Self::by_hash(move |record: &T| hash_key(key(record)), std::mem::needs_drop::<K>())
    }

    /// By a hash. Those of keys on the heap, or that may be, go along, since the operator behind the edge needs them too;
    /// those of numbers are made again faster than they are carried.
    fn by_hash<T: Record>(hash: impl Fn(&T) -> u64 + Send + Sync + 'static, goes_along: bool) -> Self {
        let hash = Arc::new(hash);
        Self::new::<T, _>(Pattern::Hash, move |place| ByHash {
            hash: Arc::clone(&hash),
            goes_along,
            max_parallelism: place.max_parallelism,
            owners: (0..place.max_parallelism)
                .map(|group| owner_of_group(group as u16, place.max_parallelism, place.channels) as u16)
                .collect(),
            targets: Vec::new(),
            hashes: Vec::new(),
        })
    }

    /// As a function of the record and the number of channels says. A number past the last channel wraps round.
    pub fn custom<T: Record>(choose: impl Fn(&T, usize) -> usize + Send + Sync + 'static) -> Self {
        let choose = Arc::new(choose);
        Self::new::<T, _>(Pattern::Custom, move |place| Custom {
            choose: Arc::clone(&choose),
            channels: place.channels,
        })
    }
}

fn buffers<T>(channels: usize) -> Vec<Rows<T>> {
    (0..channels).map(|_| Rows::default()).collect()
}

/// Spreads the records of a batch over buffers.
trait Chooser<T>: Send + 'static {
    fn spread(&mut self, rows: Rows<T>, buffers: &mut [Rows<T>]);
}

struct Gather<T, C> {
    chooser: C,
    buffers: Vec<Rows<T>>,
}

impl<T: Record, C: Chooser<T>> Partitioner for Gather<T, C> {
    fn add(&mut self, batch: AnyBatch) -> OpResult {
        let mut rows = downcast::<Rows<T>>(batch)?;
        match &mut self.buffers[..] {
            [only] => only.append(&mut rows),
            buffers => self.chooser.spread(rows, buffers),
        }
        Ok(())
    }

    fn gathered(&self, channel: usize) -> usize {
        self.buffers[channel].len()
    }

    fn take(&mut self, channel: usize) -> Option<AnyBatch> {
        take(&mut self.buffers[channel])
    }
}

fn take<T: Record>(buffer: &mut Rows<T>) -> Option<AnyBatch> {
    if buffer.is_empty() {
        return None;
    }
    // The next batch for this channel is likely to be as large as this one or the one before, whose room it had.
    let (length, room) = (buffer.len(), buffer.records.capacity());
    let room = room.clamp(length, length + length / 2);
    let mut next = Rows::with_capacity(room);
    if !buffer.hashes.is_empty() {
        next.hashes.reserve(room);
    }
    Some(Box::new(std::mem::replace(buffer, next)))
}

struct Even {
    next: usize,
}

impl<T: Record> Chooser<T> for Even {
    fn spread(&mut self, rows: Rows<T>, buffers: &mut [Rows<T>]) {
        for (record, time) in rows.into_iter_timed() {
            buffers[self.next].push(record, time);
            self.next = (self.next + 1) % buffers.len();
        }
    }
}

struct ByHash<H> {
    hash: Arc<H>,
    goes_along: bool,
    max_parallelism: u32,
    owners: Vec<u16>,
    targets: Vec<u16>,
    hashes: Vec<u64>,
}

impl<T: Record, H: Fn(&T) -> u64 + Send + Sync + 'static> Chooser<T> for ByHash<H> {
    fn spread(&mut self, rows: Rows<T>, buffers: &mut [Rows<T>]) {
        let target = |hash: u64| self.owners[key_group(hash, self.max_parallelism) as usize];
        let hashes = rows.records.iter().map(&*self.hash);
        // Hashes first, in a loop that does nothing else.
        self.targets.clear();
        self.hashes.clear();
        if self.goes_along {
            self.hashes.extend(hashes);
            self.targets.extend(self.hashes.iter().map(|hash| target(*hash)));
        } else {
            self.targets.extend(hashes.map(target));
        }
        let targets = self.targets.iter().map(|target| *target as usize);
        let timed = rows.is_timed();
        if buffers.iter().all(|buffer| buffer.is_empty() || buffer.is_timed() == timed) {
            for (record, target) in rows.records.into_iter().zip(targets.clone()) {
                buffers[target].records.push(record);
            }
            for (time, target) in rows.times.into_iter().zip(targets.clone()) {
                buffers[target].times.push(time);
            }
        } else {
            for ((record, time), target) in rows.into_iter_timed().zip(targets.clone()) {
                buffers[target].push(record, time);
            }
        }
        for (hash, target) in self.hashes.iter().zip(targets) {
            buffers[target].hashes.push(*hash);
        }
    }
}

struct Custom<F> {
    choose: Arc<F>,
    channels: usize,
}

impl<T: Record, F: Fn(&T, usize) -> usize + Send + Sync + 'static> Chooser<T> for Custom<F> {
    fn spread(&mut self, rows: Rows<T>, buffers: &mut [Rows<T>]) {
        for (record, time) in rows.into_iter_timed() {
            buffers[(self.choose)(&record, self.channels) % self.channels].push(record, time);
        }
    }
}

struct Broadcast<T> {
    buffers: Vec<Rows<T>>,
}

impl<T: Record> Partitioner for Broadcast<T> {
    fn add(&mut self, batch: AnyBatch) -> OpResult {
        let rows = downcast::<Rows<T>>(batch)?;
        let Some((last, others)) = self.buffers.split_last_mut() else { return Ok(()) };
        for buffer in others {
            buffer.append(&mut rows.clone());
        }
        last.append(&mut { rows });
        Ok(())
    }

    fn gathered(&self, channel: usize) -> usize {
        self.buffers[channel].len()
    }

    fn take(&mut self, channel: usize) -> Option<AnyBatch> {
        take(&mut self.buffers[channel])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_of_keys_travel_with_their_records_but_not_past_an_operator() {
        let place = PartitionerPlace { subtask: 0, channels: 3, max_parallelism: 128 };
        let mut partitioner = (Partitioning::hash(Arc::new(|n: &u64| (n % 50).to_string())).factory)(place);
        // With and without event times, together in one buffer.
        partitioner.add(Box::new(Rows::timed((0..100u64).map(|n| (n, n as i64))))).unwrap();
        partitioner.add(Box::new(Rows::untimed((100..200u64).collect()))).unwrap();
        let mut records = Vec::new();
        for channel in 0..3 {
            let mut rows = downcast::<Rows<u64>>(partitioner.take(channel).unwrap()).unwrap();
            assert_eq!(rows.times.len(), rows.len());
            let expected: Vec<u64> = rows.records.iter().map(|n| hash_key(&(n % 50).to_string())).collect();
            let mut passed_on = Rows::default();
            passed_on.append(&mut rows.clone());
            assert_eq!((rows.take_hashes(), passed_on.take_hashes()), (Some(expected), None));
            records.extend(rows.records);
        }
        records.sort_unstable();
        assert_eq!(records, (0..200).collect::<Vec<_>>());
    }

    #[test]
    fn a_key_within_the_record_goes_where_a_copy_of_it_goes() {
        fn name(record: &(String, u8)) -> &String {
            &record.0
        }
        let place = PartitionerPlace { subtask: 0, channels: 3, max_parallelism: 128 };
        let of_copy = (Partitioning::hash(Arc::new(|record: &(String, u8)| record.0.clone())).factory)(place);
        let of_key = (Partitioning::hash_ref(Arc::new(name)).factory)(place);
        let [of_copy, of_key] = [of_copy, of_key].map(|mut partitioner| {
            let records = (0..100u8).map(|n| (n.to_string(), n)).collect();
            partitioner.add(Box::new(Rows::<(String, u8)>::untimed(records))).unwrap();
            [0, 1, 2].map(|channel| {
                let mut rows = downcast::<Rows<(String, u8)>>(partitioner.take(channel).unwrap()).unwrap();
                (rows.take_hashes().unwrap(), rows.records)
            })
        });
        assert_eq!(of_copy, of_key);
    }

    #[test]
    fn hashes_that_do_not_fit_their_records_are_not_given() {
        let place = PartitionerPlace { subtask: 0, channels: 2, max_parallelism: 128 };
        let mut partitioner = (Partitioning::hash(Arc::new(u64::to_string)).factory)(place);
        partitioner.add(Box::new(Rows::untimed((0..100u64).collect()))).unwrap();
        let mut rows = downcast::<Rows<u64>>(partitioner.take(0).unwrap()).unwrap();
        rows.records.pop();
        assert_eq!(rows.take_hashes(), None);
    }
}
