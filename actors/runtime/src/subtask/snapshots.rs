//! A subtask's snapshots: begun at a barrier, drained in slices between batches, written by a task of its own.

use super::neighbours::LIMITS;
use super::{Running, SubtaskMessage, snapshot_dir};
use crate::clock::Clock;
use crate::master::{JobMasterMessage, SubtaskEvent};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::batch::AnyBatch;
use hurtig_dataflow::chain::{Chunk, OperatorError};
use hurtig_dataflow::element::{Barrier, Element};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::snapshot::{InFlight, OperatorSnapshot, SubtaskSnapshot};
use hurtig_dataflow::source::AnyAssignment;
use hurtig_dataflow::state::{Budget, Extent};
use hurtig_dataflow::wire::{BatchCodec, EncodeError};
use hurtig_state::{Error, Layer, Lineage, SnapshotHandle, SnapshotWriter, SubtaskMetadata};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Slices that wait to be written at most; the subtask drains no more meanwhile.
const MOST_WAITING: usize = 32;

/// While there is other work, one part in so many of the time goes to draining.
const SHARE: u64 = 9;

/// What a slice counts for at least, so that a clock that stands still does not keep a snapshot from getting done.
const LEAST_WORK_NS: u64 = 10_000;

/// A slice between two batches: rows and bytes. Also one while this subtask has nothing else to do: others may, of whose turns
/// on this thread it takes little then.
const SLICE: (usize, usize) = (256, 64 << 10);

/// A slice while all else waits for the snapshot.
const LARGE_SLICE: (usize, usize) = (4_096, 1 << 20);

/// How long to wait, in milliseconds, when the writer is behind.
const WRITER_BEHIND_MS: i64 = 2;

/// Elements that may wait at the outputs when an operator is to finish what it is doing, so that a barrier can overtake.
const MOST_OVERRUN: usize = 256;

/// From the enumerator and the coordinator: what keeps its order.
pub(super) enum FromMaster {
    Assigned(AnyAssignment),
    Trigger(Barrier),
}

/// What a subtask knows of its snapshots.
pub(super) struct Snapshots {
    pub(super) lineage: Lineage,
    /// What has to wait for the snapshot under way, and what came behind it.
    pub(super) waiting: VecDeque<FromMaster>,
    /// The same of an input.
    pub(super) held: Option<(usize, Barrier)>,
    /// What the snapshot under way holds, and when its barrier came.
    announced: (Extent, u64),
    writing: Option<Writing>,
    /// What the barrier of the snapshot under way has overtaken at the outputs.
    overtaken: Vec<(usize, AnyBatch)>,
    /// Checkpoints that have failed, and whose barrier may still come.
    aborted: Vec<CheckpointId>,
    /// When time was last looked at, and the time that draining may take.
    pub(super) worked_until: u64,
    credit_ns: u64,
}

/// A snapshot that is handed to its writer.
struct Writing {
    checkpoint: CheckpointId,
    /// When its barrier had passed the chain.
    since: Timestamp,
    /// Whether its barrier may overtake records, and wait for those that it has overtaken.
    may_overtake: bool,
    is_drained: bool,
    /// A channel that ends without [`Slice::Last`] is that of a snapshot given up.
    to: mpsc::Sender<Slice>,
}

/// What a snapshot's writer is given.
enum Slice {
    Rows(Vec<Chunk>),
    /// Nothing follows but what the barrier has overtaken.
    Last(Vec<Overtaken>),
}

/// A batch that a barrier has overtaken, and its way.
struct Overtaken {
    path: Arc<Path>,
    batch: AnyBatch,
}

/// The way of the batches of a channel, for checkpoints that hold some.
pub(super) struct Path {
    pub(super) uid: String,
    pub(super) port: usize,
    pub(super) subtask: usize,
    /// Whether it is an input channel of the subtask that takes the snapshot.
    pub(super) is_input: bool,
    pub(super) codec: Arc<dyn BatchCodec>,
}

impl Snapshots {
    pub(super) fn new(index: usize, base: Option<(CheckpointId, SnapshotHandle)>) -> Self {
        Snapshots {
            lineage: Lineage::new(index, base),
            waiting: VecDeque::new(),
            held: None,
            announced: (Extent::Base, 0),
            writing: None,
            overtaken: Vec::new(),
            aborted: Vec::new(),
            worked_until: 0,
            credit_ns: 0,
        }
    }

    /// Adds to the time that draining may take what the work since the last look has earned it.
    fn earn(&mut self, clock: &Clock) {
        let now = clock.nanos();
        self.credit_ns += (now - self.worked_until).max(LEAST_WORK_NS) / (SHARE - 1);
        self.worked_until = now;
    }

    fn spend(&mut self, clock: &Clock) {
        let now = clock.nanos();
        self.credit_ns = self.credit_ns.saturating_sub((now - self.worked_until).max(LEAST_WORK_NS / SHARE));
        self.worked_until = now;
    }
}

impl Running {
    /// Decides what the snapshot of a barrier that is about to enter the chain holds.
    pub(super) fn announce(&mut self, barrier: &Barrier) -> Extent {
        let extent = match barrier.savepoint.is_some() || !self.settings.checkpointing {
            true => Extent::Base,
            false => self.snapshots.lineage.extent(),
        };
        self.snapshots.announced = (extent, self.clock.nanos());
        self.chain.announce(barrier.checkpoint, extent);
        extent
    }

    /// Begins to write the snapshots whose barrier has passed the chain.
    pub(super) fn take_snapshots(&mut self) {
        while let Some((barrier, operators)) = self.chain.take_snapshot() {
            self.last_barrier = barrier.checkpoint;
            self.report.alignment_ms = self.inputs.alignment_ms;
            self.begin_snapshot(barrier, operators);
        }
    }

    /// Begins to write a snapshot, given without what is still to be drained, beside the subtask.
    pub(super) fn begin_snapshot(&mut self, barrier: Barrier, mut operators: Vec<OperatorSnapshot>) {
        let checkpoint = barrier.checkpoint;
        self.has_stopped = barrier.stop;
        self.hands_over = (barrier.stop && barrier.savepoint.is_none()).then_some(checkpoint);
        for operator in &mut operators {
            let committables = std::mem::take(&mut operator.committables);
            if !committables.is_empty() {
                self.prepared.push((checkpoint, (operator.uid.clone(), committables)));
            }
        }
        let is_aborted = self.snapshots.aborted.contains(&checkpoint);
        self.snapshots.aborted.retain(|aborted| *aborted > checkpoint);
        if is_aborted {
            self.give_up_snapshot();
            return;
        }
        let committables = self.prepared.iter().map(|(_, committables)| committables.clone()).collect();
        let (extent, since_ns) = self.snapshots.announced;
        let (mut snapshot, since) = (self.snapshots.lineage.below(extent), self.snapshots.lineage.since());
        let (store, master, myself) = (self.store.clone(), self.master.clone(), self.myself.clone());
        let (job, id, attempt) = (self.job, self.id, self.attempt);
        let alignment_ms = self.report.alignment_ms;
        let synchronous_us = (self.clock.nanos() - since_ns) / 1_000;
        let (to, from) = mpsc::channel(MOST_WAITING);
        let since_ms = self.clock.now();
        self.snapshots.writing = Some(Writing {
            checkpoint,
            since: since_ms,
            may_overtake: self.settings.alignment_timeout_ms.is_some() && barrier.may_overtake(),
            is_drained: false,
            to,
        });
        self.tasks.spawn(async move {
            let head = SubtaskSnapshot { checkpoint, operators, in_flight: Vec::new() };
            let written = match store.writer(job, &snapshot_dir(&barrier), id, attempt, head) {
                Ok(writer) => write(writer, from).await,
                Err(error) => Err(error),
            };
            let event = match written {
                Ok(Some((layer, in_flight_bytes))) => {
                    let written_bytes = layer.stored_bytes();
                    snapshot.layers.push(layer);
                    if barrier.savepoint.is_none() {
                        // Before the master can know of it.
                        let _ =
                            myself.cast(SubtaskMessage::Stored { checkpoint, snapshot: snapshot.clone() });
                    }
                    let metadata = SubtaskMetadata { snapshot, committables, written_bytes, since };
                    SubtaskEvent::Acknowledged {
                        checkpoint,
                        metadata,
                        alignment_ms,
                        synchronous_us,
                        in_flight_bytes,
                    }
                }
                Ok(None) => return,
                Err(error) => SubtaskEvent::Declined { checkpoint, reason: describe(&error) },
            };
            let _ = master.cast(JobMasterMessage::Subtask { attempt, id, event });
        });
    }

    /// A checkpoint has failed: its snapshot is of no use.
    pub(super) fn abort_snapshot(&mut self, checkpoint: CheckpointId) {
        self.inputs.forget(checkpoint);
        if self.snapshots.writing.as_ref().is_some_and(|writing| writing.checkpoint == checkpoint) {
            self.give_up_snapshot();
        } else if checkpoint > self.last_barrier {
            self.snapshots.aborted.push(checkpoint);
        }
    }

    fn give_up_snapshot(&mut self) {
        self.chain.abandon_snapshot();
        self.snapshots.writing = None;
        self.snapshots.overtaken.clear();
        self.inputs.take_recorded();
    }

    /// The snapshot under way, if its barrier may overtake records.
    fn overtaking(&self) -> Option<&Writing> {
        self.snapshots.writing.as_ref().filter(|writing| writing.may_overtake)
    }

    /// The same, if its barrier waits at an output.
    fn waiting_at_outputs(&self) -> Option<&Writing> {
        self.overtaking().filter(|writing| self.outputs.is_barrier_waiting(writing.checkpoint))
    }

    /// Whether the snapshot under way still waits for batches that its barrier has overtaken, or may.
    fn is_gathering(&self) -> bool {
        self.overtaking().is_some() && self.inputs.is_recording() || self.waiting_at_outputs().is_some()
    }

    /// Whether all is done for the snapshot under way but to wait for such batches.
    fn is_drained(&self) -> bool {
        self.snapshots.writing.as_ref().is_some_and(|writing| writing.is_drained) && self.is_gathering()
    }

    /// Whether a snapshot is under way, so that the next barrier has to wait.
    pub(super) fn is_snapshotting(&self) -> bool {
        let is_gathering = self.settings.alignment_timeout_ms.is_some() && self.snapshots.writing.is_some();
        self.chain.is_snapshotting() || is_gathering
    }

    fn take_overtaken(&mut self) -> Vec<Overtaken> {
        let recorded = self.inputs.take_recorded().into_iter();
        let received =
            recorded.map(|(at, batch)| Overtaken { path: Arc::clone(&self.input_paths[at]), batch });
        let waiting = self.snapshots.overtaken.drain(..);
        let sent = waiting.map(|(at, batch)| Overtaken { path: Arc::clone(&self.output_paths[at]), batch });
        received.chain(sent).collect()
    }

    /// When a barrier that waits is to overtake what is before it.
    pub(super) fn overtakes_at(&self) -> Option<Timestamp> {
        let timeout_ms = self.settings.alignment_timeout_ms?;
        let at_outputs = self.waiting_at_outputs().map(|writing| writing.since.saturating_add(timeout_ms));
        let is_free = !self.is_snapshotting() && self.snapshots.held.is_none();
        let at_inputs = self.inputs.overtakes_at(timeout_ms).filter(|_| is_free);
        at_outputs.into_iter().chain(at_inputs).min()
    }

    /// Lets a barrier that has waited too long overtake what is before it. Returns whether one has.
    pub(super) fn overtake_if_due(&mut self, now: Timestamp) -> Result<bool, OperatorError> {
        if self.overtakes_at().is_none_or(|at| at > now) {
            return Ok(false);
        }
        if self.overtake_at_outputs() {
            return Ok(true);
        }
        // What an operator is in the middle of cannot be part of a snapshot.
        while !self.chain.is_at_rest() {
            let has_room = self.outputs.waiting() < MOST_OVERRUN;
            if !has_room || !self.chain.step(now, &mut self.outputs)? {
                return Ok(false);
            }
        }
        self.take_snapshots();
        if self.is_snapshotting() {
            // A barrier was on its way through the chain.
            return Ok(true);
        }
        let Some(barrier) = self.inputs.overtake(now) else { return Ok(false) };
        self.announce(&barrier);
        self.chain.push(0, Element::Barrier(barrier));
        while !self.chain.is_at_rest() && self.chain.step(now, &mut self.outputs)? {}
        self.take_snapshots();
        self.overtake_at_outputs();
        Ok(true)
    }

    fn overtake_at_outputs(&mut self) -> bool {
        let Some(checkpoint) = self.waiting_at_outputs().map(|writing| writing.checkpoint) else {
            return false;
        };
        self.snapshots.overtaken = self.outputs.overtake(checkpoint);
        true
    }

    /// Hands the next slice to the writer. Returns whether there was room for it.
    fn drain(&mut self, (rows, bytes): (usize, usize)) -> Result<bool, OperatorError> {
        let Some(to) = self.snapshots.writing.as_ref().map(|writing| writing.to.clone()) else {
            return Ok(true);
        };
        // One place for the slice, one for the word that it was the last.
        let room = match to.try_reserve_many(2) {
            Ok(room) => room,
            Err(mpsc::error::TrySendError::Full(())) => return Ok(false),
            Err(mpsc::error::TrySendError::Closed(())) => {
                // The writer has failed, and said so to the master.
                self.give_up_snapshot();
                return Ok(true);
            }
        };
        let mut chunks = Vec::new();
        let began = self.clock.nanos();
        let is_done = self.chain.drain(&mut Budget::new(rows, bytes), &mut chunks)?;
        let slice_us = (self.clock.nanos() - began) / 1_000;
        self.report.slowest_slice_us = self.report.slowest_slice_us.max(slice_us);
        let mut room = room.into_iter();
        if let (false, Some(place)) = (chunks.is_empty(), room.next()) {
            place.send(Slice::Rows(chunks));
        }
        if !is_done {
            return Ok(true);
        }
        if self.inputs.is_void() {
            if let Some(Writing { checkpoint, .. }) = self.snapshots.writing {
                let reason =
                    "the barrier of a sender came too late, or that of a later checkpoint came instead"
                        .into();
                self.tell_master(SubtaskEvent::Declined { checkpoint, reason });
            }
            self.give_up_snapshot();
            return Ok(true);
        }
        if self.is_gathering() {
            if let Some(writing) = &mut self.snapshots.writing {
                writing.is_drained = true;
            }
            return Ok(true);
        }
        if let Some(place) = room.next() {
            place.send(Slice::Last(self.take_overtaken()));
        }
        self.snapshots.writing = None;
        Ok(true)
    }

    /// Drains between two batches, for as long as the work before has earned.
    pub(super) fn drain_at_work(&mut self) -> Result<(), OperatorError> {
        if self.snapshots.writing.is_none() || self.is_drained() {
            return Ok(());
        }
        self.snapshots.earn(&self.clock);
        while self.snapshots.writing.is_some() && !self.is_drained() && self.snapshots.credit_ns > 0 {
            let has_room = self.drain(SLICE)?;
            self.snapshots.spend(&self.clock);
            if !has_room {
                break;
            }
        }
        Ok(())
    }

    /// Drains while there is nothing else to do. Returns when to go on, if at all.
    pub(super) fn drain_at_rest(&mut self, now: Timestamp) -> Result<Option<Timestamp>, OperatorError> {
        if self.snapshots.writing.is_none() {
            return Ok(None);
        }
        let waits = self.snapshots.held.is_some() || !self.snapshots.waiting.is_empty() || self.has_stopped;
        let slice = if waits { LARGE_SLICE } else { SLICE };
        let has_room = self.is_drained() || self.drain(slice)?;
        self.snapshots.credit_ns = 0;
        if self.is_drained() {
            // A message or the time-out goes on with it.
            return Ok(None);
        }
        let goes_on = self.snapshots.writing.is_some() || !self.snapshots.waiting.is_empty();
        let goes_on = goes_on || self.snapshots.held.is_some();
        Ok(goes_on.then_some(if has_room { now } else { now + WRITER_BEHIND_MS }))
    }

    /// Whether the inputs have to wait because the next barrier has come while the snapshot of the last is under way.
    pub(super) fn is_held_back(&mut self) -> Result<bool, OperatorError> {
        if self.is_snapshotting() {
            return Ok(self.snapshots.held.is_some() || !self.snapshots.waiting.is_empty());
        }
        if let Some((port, barrier)) = self.snapshots.held.take() {
            self.announce(&barrier);
            self.chain.push(port, Element::Barrier(barrier));
        }
        Ok(false)
    }
}

/// Writes what comes. Returns the layer, and how many bytes of it the barrier has overtaken; `None` if the snapshot was
/// given up.
async fn write(
    mut writer: SnapshotWriter,
    mut from: mpsc::Receiver<Slice>,
) -> Result<Option<(Layer, u64)>, Error> {
    while let Some(slice) = from.recv().await {
        match slice {
            Slice::Rows(chunks) => writer.add(chunks).await?,
            Slice::Last(overtaken) => {
                let in_flight = encode(overtaken).map_err(|source| Error::Internal {
                    action: "serialise",
                    what: "records that a barrier has overtaken",
                    source: source.into(),
                })?;
                let bytes = in_flight.iter().flat_map(|to| &to.batches).map(|batch| batch.len() as u64).sum();
                return writer.finish(in_flight).await.map(|layer| Some((layer, bytes)));
            }
        }
    }
    writer.abort().await;
    Ok(None)
}

fn encode(overtaken: Vec<Overtaken>) -> Result<Vec<InFlight>, EncodeError> {
    let of_channel = overtaken.chunk_by(|a, b| Arc::ptr_eq(&a.path, &b.path));
    let in_flight = of_channel.map(|batches| {
        let Path { uid, port, subtask, is_input, codec } = &*batches[0].path;
        let mut encoder = codec.encoder(LIMITS);
        let encoded = batches.iter().map(|overtaken| {
            let mut bytes = Vec::new();
            encoder.encode(&*overtaken.batch, &mut bytes)?;
            Ok(bytes.into())
        });
        Ok(InFlight {
            uid: uid.clone(),
            port: *port,
            subtask: *subtask,
            received: *is_input,
            batches: encoded.collect::<Result<_, EncodeError>>()?,
        })
    });
    in_flight.collect()
}
