//! A subtask: one operator instance, or a chain of them, as an actor. Child of its Worker.
//!
//! Its handler never waits. What arrives is put into the queue of its channel, then [`Running::pump`] works while
//! there is input and credit. It keeps nothing durable: when it fails, the Worker reports to the JobMaster and the
//! next attempt starts from the last completed checkpoint.

pub mod inputs;
pub mod neighbours;
pub mod outputs;
pub mod snapshots;

use crate::clock::Clock;
use crate::execution::InputChannel;
use crate::failure::Failure;
use crate::fault::FaultInjector;
use crate::master::{JobMasterMessage, SubtaskEvent};
use crate::metrics::registry::Registry;
use crate::report::SubtaskReport;
use crate::tasks::Tasks;
use crate::worker::credit::InputCredit;
use crate::worker::handover::Handover;
use bytes::Bytes;
use hurtig_dataflow::batch::AnyBatch;
use hurtig_dataflow::chain::{Chain, OperatorError};
use hurtig_dataflow::element::{Barrier, Element};
use hurtig_dataflow::error::{BoxError, describe, is_fatal};
use hurtig_dataflow::graph::{JobEdge, JobGraph};
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::panics::catch_panic;
use hurtig_dataflow::partition::PartitionerPlace;
use hurtig_dataflow::snapshot::OperatorSnapshot;
use hurtig_dataflow::source::{AnyAssignment, Assignment, SourceStatus};
use hurtig_dataflow::state::{Spill, StateMemory, StateStore};
use hurtig_dataflow::time::Timestamp;
use hurtig_dataflow::wire::{BatchCodec, element};
use hurtig_state::{CheckpointStore, ColdFile, Lineage, SnapshotDir, SnapshotHandle};
use inputs::Inputs;
use neighbours::{LIMITS, Receiver, Sender};
use outputs::Outputs;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use serde::{Deserialize, Serialize};
use snapshots::{FromMaster, Path, Snapshots};
use std::path::PathBuf;
use std::sync::Arc;

/// Pieces of work a handler does at most before it lets other messages in.
const BUDGET: usize = 32;

/// How often a subtask reports, in milliseconds.
const REPORT_EVERY_MS: i64 = 200;

/// Elements of a link that may wait on a channel. Most are watermarks, of which those behind one another become one.
const MOST_WAITING: usize = 1 << 16;

/// Of the memory for keyed state, the part that is the cache of one operator's file, and its bounds in bytes.
const SPILL_CACHE_PART: usize = 32;
const SPILL_CACHE: (usize, usize) = (256 << 10, 64 << 20);

/// What one sink, named by its uid, asks to have published.
type Committables = (String, Vec<serde_bytes::ByteBuf>);

/// What a subtask is told.
pub enum SubtaskMessage {
    /// From the Worker, once all subtasks of the attempt exist: who sends on each input channel, who receives on each
    /// output channel.
    Start {
        /// Senders, by input channel.
        senders: Vec<Sender>,
        /// Receivers, by output channel.
        receivers: Vec<Receiver>,
    },
    /// From a sender: an element on an input channel.
    In {
        /// The input channel.
        channel: usize,
        /// What it carries.
        element: Element,
    },
    /// From a link: an element on an input channel, as it came.
    Encoded {
        /// The input channel.
        channel: usize,
        /// The element.
        bytes: Bytes,
        /// What may come on the channel, of which it has taken its part.
        credit: Arc<InputCredit>,
    },
    /// From a receiver: it allows more batches on an output channel.
    Credit {
        /// The output channel.
        output: usize,
        /// Number of batches.
        count: u32,
    },
    /// From the split enumerator: the answer to a request for work.
    Assigned(AnyAssignment),
    /// From the split enumerator to sources, from the coordinator to subtasks that have ended: take a snapshot.
    Trigger(Barrier),
    /// From the coordinator: a checkpoint is complete and what it holds is being published.
    Completed(CheckpointId),
    /// From the coordinator: a checkpoint has failed, or is of no use any more.
    Aborted(CheckpointId),
    /// From its own task: the subtask's part of a checkpoint is stored.
    Stored {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Where its layers lie.
        snapshot: SnapshotHandle,
    },
    /// From the Worker: tell how things are, even if nothing has happened.
    Observe,
    /// From itself: go on.
    Tick,
    /// From an operator's waker.
    Wake,
}

impl ractor::Message for SubtaskMessage {}

/// Settings all subtasks of a job share.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubtaskSettings {
    /// Records a batch should hold under load.
    pub batch_size: usize,
    /// How long a record may wait for its batch to fill.
    pub flush_timeout_ms: i64,
    /// Batches a receiver allows on each channel.
    pub credits: u32,
    /// Whether barriers are aligned.
    pub exactly_once: bool,
    /// How long a barrier waits before it overtakes the records before it; unset: for ever.
    pub alignment_timeout_ms: Option<i64>,
    /// Whether checkpoints are taken.
    pub checkpointing: bool,
    /// Whether restored state that no operator declares is an error.
    pub strict: bool,
    /// Bytes of memory for the keyed state of all subtasks of a worker, if there is a limit.
    pub state_memory: Option<u64>,
    /// Where state lies that has no room in it; unset: in the system's folder for temporary files.
    pub spill_dir: Option<PathBuf>,
}

/// What a subtask is made of.
pub struct Deployment {
    /// Which one.
    pub id: SubtaskId,
    /// The job.
    pub job: JobId,
    /// Its graph.
    pub graph: Arc<JobGraph>,
    /// The attempt.
    pub attempt: Attempt,
    /// Its channels.
    pub wiring: crate::execution::Wiring,
    /// What it gets back from a checkpoint.
    pub restored: RestoredSubtask,
    /// Settings.
    pub settings: SubtaskSettings,
    /// Memory for keyed state, which the Worker lets its subtasks share.
    pub memory: Option<Arc<StateMemory>>,
    /// Where it leaves its state for the next attempt when it has stopped, if that may be on the same Worker.
    pub handover: Option<Handover>,
    /// Where snapshots go.
    pub store: CheckpointStore,
    /// Whom to report to.
    pub master: ActorRef<JobMasterMessage>,
    /// The clock.
    pub clock: Clock,
    /// Faults to put in.
    pub faults: Option<Arc<dyn FaultInjector>>,
}

/// What a subtask gets back from a checkpoint.
#[derive(Default)]
pub struct RestoredSubtask {
    /// For each operator of the chain; empty without a checkpoint.
    pub operators: Vec<Option<OperatorSnapshot>>,
    /// Batches that were on their way to an operator of the chain, by its place and input, in order.
    pub in_flight: Vec<(usize, usize, AnyBatch)>,
    /// The checkpoint and the snapshot in it, if the subtask's snapshots may build on it.
    pub base: Option<(CheckpointId, SnapshotHandle)>,
    /// For each operator what the last attempt's instance has left on this Worker, with its keyed state; else empty.
    pub left: Vec<StateStore>,
}

fn exchange_error(source: impl Into<BoxError>) -> OperatorError {
    OperatorError { operator: "exchange".into(), source: source.into() }
}

/// Where an operator's state goes for which memory has no room.
fn spill(memory: &Arc<StateMemory>, settings: &SubtaskSettings) -> Arc<Spill> {
    let dir = settings.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let cache_bytes = (memory.limit() / SPILL_CACHE_PART).clamp(SPILL_CACHE.0, SPILL_CACHE.1);
    Spill::new(Arc::clone(memory), Box::new(ColdFile::new(&dir, cache_bytes)))
}

/// The way of the batches of an edge to one of its receivers.
fn path(graph: &JobGraph, edge: usize, subtask: usize, is_input: bool) -> Arc<Path> {
    let JobEdge { to, port, codec, .. } = &graph.edges[edge];
    let uid = graph.vertices[*to].chain.first().map_or(String::new(), |operator| operator.uid.clone());
    Arc::new(Path { uid, port: *port, subtask, is_input, codec: Arc::clone(codec) })
}

/// Where a checkpoint's parts go.
pub fn snapshot_dir(barrier: &Barrier) -> SnapshotDir {
    match &barrier.savepoint {
        Some(target) => SnapshotDir::of_savepoint(barrier.checkpoint, target),
        None => SnapshotDir::of_checkpoint(barrier.checkpoint),
    }
}

/// The actor. Its state is a [`Running`].
pub struct Subtask;

/// State of a subtask.
pub struct Running {
    myself: ActorRef<SubtaskMessage>,
    id: SubtaskId,
    job: JobId,
    attempt: Attempt,
    place: String,
    settings: SubtaskSettings,
    store: CheckpointStore,
    master: ActorRef<JobMasterMessage>,
    clock: Clock,
    tasks: Tasks,
    chain: Chain,
    inputs: Inputs,
    outputs: Outputs,
    input_channels: Vec<InputChannel>,
    /// How batches come in from links, by input channel.
    codecs: Vec<Arc<dyn BatchCodec>>,
    /// The ways of what goes over the channels.
    input_paths: Vec<Arc<Path>>,
    output_paths: Vec<Arc<Path>>,
    senders: Vec<Sender>,
    receivers: Vec<Receiver>,
    is_restored: bool,
    /// Whether its keyed state is what its predecessor has left on this Worker.
    took_over: bool,
    phase: Phase,
    asked_for_splits: bool,
    ended_with: Option<Vec<OperatorSnapshot>>,
    /// The last checkpoint whose barrier has passed.
    last_barrier: CheckpointId,
    /// Whether it has stopped with a checkpoint: since then nothing has changed.
    has_stopped: bool,
    /// That checkpoint, if the next attempt may go on with what is here.
    hands_over: Option<CheckpointId>,
    handover: Option<Handover>,
    snapshots: Snapshots,
    /// What sinks have prepared for each checkpoint that is not known to be complete. Each acknowledgement names all
    /// of it, so that what a failed checkpoint prepared is published with the next.
    prepared: Vec<(CheckpointId, Committables)>,
    tick_at: Option<Timestamp>,
    ticking: bool,
    report: SubtaskReport,
    reported_at: Timestamp,
    started_ns: u64,
    /// Since when it has had work left over and waited for its turn, which is time at work too.
    ready_since: Option<u64>,
    blocked_since: Option<u64>,
    crash_after: Option<u64>,
    /// What users' functions record.
    users: Arc<Registry>,
    /// Where log lines are from.
    span: tracing::Span,
}

/// The life of a subtask.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Phase {
    /// Waiting to learn its neighbours.
    Deployed,
    /// At work.
    Running,
    /// A source of which the barrier is out with which subtasks stop.
    Stopping,
    /// Has seen the end of its input.
    Ended,
}

impl Actor for Subtask {
    type Msg = SubtaskMessage;
    type State = Running;
    type Arguments = Deployment;

    async fn pre_start(
        &self,
        myself: ActorRef<SubtaskMessage>,
        deployment: Deployment,
    ) -> Result<Running, ActorProcessingErr> {
        Ok(Running::new(myself, deployment))
    }

    async fn handle(
        &self,
        myself: ActorRef<SubtaskMessage>,
        message: SubtaskMessage,
        state: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        let span = state.span.clone();
        let recorder = Arc::clone(&state.users);
        let done = span.in_scope(|| {
            metrics::with_local_recorder(&*recorder, || catch_panic(|| state.on_message(&myself, message)))
        });
        match done {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(state.failure(describe(&error), is_fatal(&error)).into()),
            Err(panic) => Err(state.failure(panic, false).into()),
        }
    }

    async fn post_stop(
        &self,
        _: ActorRef<SubtaskMessage>,
        state: &mut Running,
    ) -> Result<(), ActorProcessingErr> {
        if let (Some(checkpoint), Some(handover)) = (state.hands_over, &state.handover)
            && !state.is_snapshotting()
        {
            handover.leave(checkpoint, state.chain.take_states());
        }
        Ok(())
    }
}

impl Running {
    fn new(myself: ActorRef<SubtaskMessage>, deployment: Deployment) -> Self {
        let Deployment { id, job, graph, attempt, wiring, restored, settings, memory, .. } = deployment;
        let Deployment { store, master, clock, faults, handover, .. } = deployment;
        let RestoredSubtask { operators: restored, in_flight, base, left } = restored;
        let snapshots = Snapshots::new(id.index, base);
        let since = settings.checkpointing.then(|| snapshots.lineage.since());
        let vertex = &graph.vertices[id.vertex];
        let parallelism = vertex.parallelism;
        let place = format!("vertex '{}' subtask {}/{}", vertex.name, id.index + 1, parallelism);
        let span = tracing::error_span!(
            "subtask", %job, vertex = vertex.name, index = id.index + 1, of = parallelism, attempt = attempt.0
        );
        let range = KeyGroupRange::of_subtask(id.index, parallelism, graph.max_parallelism);
        let tasks = Tasks::default();
        let job_name: Arc<str> = graph.name.as_str().into();
        let (is_restored, took_over) = (!restored.is_empty(), !left.is_empty());
        let (mut restored, mut left) = (restored.into_iter(), left.into_iter());
        let mut chain = Chain::new(
            &vertex.chain,
            |operator| Place {
                job,
                job_name: Arc::clone(&job_name),
                operator: operator.name.as_str().into(),
                uid: operator.uid.as_str().into(),
                subtask: id.index,
                parallelism,
                attempt,
                checkpointing: settings.checkpointing,
                batch_size: settings.batch_size,
                waker: Arc::new({
                    let myself = myself.clone();
                    move || drop(myself.cast(SubtaskMessage::Wake))
                }),
                spawner: Arc::new({
                    let tasks = tasks.clone();
                    move |future| tasks.spawn(future)
                }),
            },
            |_| {
                let mut snapshot = restored.next().flatten();
                let states = snapshot.as_mut().map(|snapshot| std::mem::take(&mut snapshot.states));
                let states = states.unwrap_or_default();
                let states = match left.next() {
                    Some(former) => former.hand_over(states),
                    None => {
                        let spill = memory.iter().map(|memory| spill(memory, &settings));
                        spill.fold(StateStore::new(range, states), StateStore::spilling)
                    }
                };
                (since.into_iter().fold(states, StateStore::noting_changes), snapshot)
            },
        );
        for (operator, port, batch) in in_flight {
            chain.push_in_flight(operator, port, batch);
        }
        let channels = wiring
            .inputs
            .iter()
            .map(|channel| (channel.port, graph.edges[channel.edge].partitioning.pattern));
        let inputs =
            Inputs::new(channels, settings.credits, settings.exactly_once, chain.restored_watermark());
        let edges = vertex.outputs.iter().zip(&wiring.edges).map(|(edge, channels)| {
            let place = PartitionerPlace {
                subtask: id.index,
                channels: *channels,
                max_parallelism: graph.max_parallelism,
            };
            let partitioning = &graph.edges[*edge].partitioning;
            (partitioning.pattern, (partitioning.factory)(place), *channels)
        });
        let outputs = Outputs::new(edges.collect(), settings.credits, settings.batch_size);
        let crash_after = faults.and_then(|faults| faults.crash_after(id, &vertex.name, attempt));
        Running {
            myself,
            id,
            job,
            attempt,
            place,
            settings,
            store,
            master,
            clock,
            tasks,
            chain,
            inputs,
            outputs,
            input_paths: wiring.inputs.iter().map(|input| path(&graph, input.edge, id.index, true)).collect(),
            output_paths: wiring
                .outputs
                .iter()
                .map(|output| path(&graph, output.edge, output.to.index, false))
                .collect(),
            codecs: wiring.inputs.iter().map(|input| Arc::clone(&graph.edges[input.edge].codec)).collect(),
            input_channels: wiring.inputs,
            senders: Vec::new(),
            receivers: Vec::new(),
            is_restored,
            took_over,
            phase: Phase::Deployed,
            asked_for_splits: false,
            ended_with: None,
            prepared: Vec::new(),
            last_barrier: 0,
            has_stopped: false,
            hands_over: None,
            handover,
            snapshots,
            tick_at: None,
            ticking: false,
            report: SubtaskReport::default(),
            reported_at: 0,
            started_ns: 0,
            ready_since: None,
            blocked_since: None,
            crash_after,
            users: Arc::new(Registry::of_functions()),
            span,
        }
    }

    fn failure(&self, message: String, fatal: bool) -> Failure {
        Failure { subtask: Some(self.id), place: self.place.clone(), message, fatal }
    }

    fn tell_master(&self, event: SubtaskEvent) {
        let message = JobMasterMessage::Subtask { attempt: self.attempt, id: self.id, event };
        // A master that is gone stops this subtask through its Worker.
        let _ = self.master.cast(message);
    }

    fn on_message(
        &mut self,
        myself: &ActorRef<SubtaskMessage>,
        message: SubtaskMessage,
    ) -> Result<(), OperatorError> {
        match message {
            SubtaskMessage::In { channel, element } => {
                self.inputs.push(channel, element, || self.clock.now());
            }
            SubtaskMessage::Encoded { channel, bytes, credit } => {
                credit.on_seen(&bytes);
                self.on_encoded(channel, &bytes)?;
            }
            SubtaskMessage::Credit { output, count } => {
                self.outputs.add_credit(output, count).map_err(exchange_error)?;
            }
            SubtaskMessage::Observe => {
                self.report_if_due(self.clock.now());
                return Ok(());
            }
            SubtaskMessage::Tick => self.ticking = false,
            SubtaskMessage::Wake => self.chain.wake(),
            SubtaskMessage::Start { senders, receivers } => {
                self.senders = senders;
                self.receivers = receivers;
                self.chain.open(self.is_restored, self.settings.strict, self.clock.now())?;
                if self.chain.has_migrated() {
                    self.snapshots.lineage = Lineage::new(self.id.index, None);
                }
                self.phase = Phase::Running;
                self.started_ns = self.clock.nanos();
                self.tell_master(SubtaskEvent::Running { took_over: self.took_over });
            }
            SubtaskMessage::Assigned(assignment) => {
                self.snapshots.waiting.push_back(FromMaster::Assigned(assignment));
            }
            SubtaskMessage::Trigger(barrier) => {
                self.snapshots.waiting.push_back(FromMaster::Trigger(barrier));
            }
            SubtaskMessage::Completed(checkpoint) => {
                self.prepared.retain(|(id, _)| *id > checkpoint);
                self.snapshots.lineage.complete(checkpoint);
                if let Some(copies) = self.store.copies().cloned() {
                    let files = self.snapshots.lineage.files().map(str::to_owned).collect();
                    let id = self.id;
                    self.tasks.spawn(async move { copies.keep(id, files).await });
                }
                self.chain.on_complete(checkpoint);
            }
            SubtaskMessage::Aborted(checkpoint) => self.abort_snapshot(checkpoint),
            SubtaskMessage::Stored { checkpoint, snapshot } => {
                self.snapshots.lineage.stored(checkpoint, snapshot);
            }
        }
        self.pump(myself)
    }

    /// Does what the enumerator and the coordinator want, in their order: a trigger has to wait while the snapshot before
    /// is under way, and splits that come behind it are not in its snapshot.
    fn take_waiting(&mut self) -> Result<(), OperatorError> {
        while let Some(message) = self.snapshots.waiting.pop_front() {
            match message {
                FromMaster::Trigger(barrier) if self.is_snapshotting() => {
                    self.snapshots.waiting.push_front(FromMaster::Trigger(barrier));
                    return Ok(());
                }
                FromMaster::Trigger(barrier) => self.on_trigger(barrier)?,
                FromMaster::Assigned(assignment) => self.on_assigned(assignment)?,
            }
        }
        Ok(())
    }

    /// Batches have come on credit, as the link has counted; of the rest not too much may wait either: a faulty peer
    /// must not fill this memory.
    fn on_encoded(&mut self, channel: usize, bytes: &[u8]) -> Result<(), OperatorError> {
        let element = element::decode(bytes, &*self.codecs[channel], LIMITS).map_err(exchange_error)?;
        self.report.bytes_in += bytes.len() as u64;
        self.inputs.push(channel, element, || self.clock.now());
        if self.inputs.waiting(channel) > MOST_WAITING {
            return Err(exchange_error(format!("more than {MOST_WAITING} elements wait on a channel")));
        }
        Ok(())
    }

    fn on_assigned(&mut self, assignment: AnyAssignment) -> Result<(), OperatorError> {
        let now = self.clock.now();
        match assignment {
            Assignment::Splits(splits) => {
                self.asked_for_splits = false;
                self.chain.add_splits(splits, now)
            }
            // The enumerator keeps the request and answers again.
            Assignment::Later(_) => self.chain.no_splits_now(now),
            Assignment::Finished => self.chain.no_more_splits(now),
        }
    }

    fn on_trigger(&mut self, barrier: Barrier) -> Result<(), OperatorError> {
        match self.phase {
            Phase::Running if self.chain.has_source() && !self.chain.is_source_ended() => {
                if barrier.stop {
                    self.phase = Phase::Stopping;
                }
                let now = self.clock.now();
                self.outputs.now = now;
                self.announce(&barrier);
                self.chain.source_barrier(barrier, now, &mut self.outputs)
            }
            // Its part is under way: the coordinator had heard of the end first. A second part would hold what came
            // behind the barrier, and what it asks to publish would count as done with the first.
            Phase::Ended if barrier.checkpoint <= self.last_barrier => Ok(()),
            Phase::Ended => {
                let mut operators = self.ended_with.clone().unwrap_or_default();
                for operator in self.ended_with.iter_mut().flatten() {
                    operator.committables.clear();
                }
                self.last_barrier = barrier.checkpoint;
                let extent = self.announce(&barrier);
                if self.settings.checkpointing || barrier.savepoint.is_some() {
                    self.chain.add_states(barrier.checkpoint, extent, &mut operators)?;
                }
                self.begin_snapshot(barrier, operators);
                Ok(())
            }
            // The end of this subtask will be reported; the coordinator then asks again.
            Phase::Deployed | Phase::Running | Phase::Stopping => Ok(()),
        }
    }

    /// Works while there is input and credit, within the budget.
    fn pump(&mut self, myself: &ActorRef<SubtaskMessage>) -> Result<(), OperatorError> {
        if self.phase == Phase::Deployed {
            return Ok(());
        }
        let began = self.clock.nanos();
        self.snapshots.worked_until = began;
        if let Some(since) = self.blocked_since.take() {
            self.report.backpressured_ns += began - since;
        }
        if let Some(since) = self.ready_since.take() {
            self.report.busy_ns += began - since;
        }
        self.take_waiting()?;
        let mut steps = 0;
        let (mut more, mut wake_at) = (false, None);
        loop {
            self.send_pending()?;
            if self.has_stopped {
                break;
            }
            if self.outputs.is_blocked() {
                let now = self.clock.now();
                self.outputs.now = now;
                if self.overtake_if_due(now)? {
                    continue;
                }
                break;
            }
            if steps >= BUDGET {
                more = true;
                break;
            }
            let now = self.clock.now();
            self.outputs.now = now;
            if self.chain.step(now, &mut self.outputs)? {
                steps += 1;
                self.after_step()?;
                continue;
            }
            if self.chain.is_blocked() {
                break;
            }
            self.take_waiting()?;
            if self.is_held_back()? {
                break;
            }
            if self.overtake_if_due(now)? {
                continue;
            }
            if let Some((port, element, credit)) = self.inputs.next(now) {
                if let Some(credit) = credit {
                    let output = self.input_channels[credit.channel].output;
                    self.senders[credit.channel].grant(output, credit.count);
                }
                self.feed(port, element, now)?;
                continue;
            }
            if self.chain.has_source() && self.phase == Phase::Running {
                self.ask_for_splits();
                match self.chain.poll_source(now, &mut self.outputs)? {
                    SourceStatus::More => {
                        steps += 1;
                        self.after_step()?;
                        self.crash_if_due();
                        continue;
                    }
                    SourceStatus::Waiting(until) => wake_at = until,
                    SourceStatus::Ended => {}
                }
                // It may have left a watermark or its end behind.
                if self.chain.step(now, &mut self.outputs)? {
                    steps += 1;
                    self.after_step()?;
                    continue;
                }
            }
            break;
        }
        let now = self.clock.now();
        if !more {
            self.outputs.flush();
            self.send_pending()?;
        }
        self.take_snapshots();
        self.end_if_done(now)?;
        let rest_at = if more { None } else { self.drain_at_rest(now)? };
        let ended = self.clock.nanos();
        self.report.busy_ns += ended - began;
        if self.outputs.is_blocked() {
            self.blocked_since = Some(ended);
            self.report.credit_waits += 1;
        } else if more {
            self.ready_since = Some(ended);
        }
        self.report_if_due(now);
        if more {
            self.tick(myself);
        } else {
            let timer = self.chain.next_processing_time().filter(|_| !self.has_stopped);
            // One that is due waits for the chain to be at rest: what brings it there looks again.
            let overtakes_at = self.overtakes_at().filter(|at| *at > now);
            let times = wake_at.into_iter().chain(timer).chain(rest_at).chain(overtakes_at);
            self.schedule(myself, times.min());
        }
        Ok(())
    }

    fn send_pending(&mut self) -> Result<(), OperatorError> {
        let receivers = &mut self.receivers;
        self.outputs.drain(|at, element| receivers[at].send(element)).map_err(exchange_error)
    }

    fn after_step(&mut self) -> Result<(), OperatorError> {
        // Looked at after each step: some steps take longer than records may wait.
        let since = self.outputs.gathering_since();
        if since.is_some_and(|since| self.clock.now() - since >= self.settings.flush_timeout_ms) {
            self.outputs.flush();
        }
        self.take_snapshots();
        self.drain_at_work()
    }

    /// Gives the chain an element. Where a fault is due within a batch, the records before it are processed first.
    fn feed(&mut self, port: usize, element: Element, now: Timestamp) -> Result<(), OperatorError> {
        if let Element::Barrier(barrier) = element {
            if self.is_snapshotting() {
                self.snapshots.held = Some((port, barrier));
            } else {
                self.announce(&barrier);
                self.chain.push(port, Element::Barrier(barrier));
            }
            return Ok(());
        }
        let (Some(left), Element::Batch(batch)) = (&mut self.crash_after, &element) else {
            self.chain.push(port, element);
            return Ok(());
        };
        let records = batch.len() as u64;
        if records < *left {
            *left -= records;
            self.chain.push(port, element);
            return Ok(());
        }
        if let Element::Batch(mut batch) = element {
            drop(batch.split_off(*left as usize));
            self.chain.push(port, Element::Batch(batch));
            while self.chain.step(now, &mut self.outputs)? {}
            self.send_pending()?;
        }
        panic!("injected fault");
    }

    /// Sources count what they have read.
    fn crash_if_due(&self) {
        let read = self.chain.counts().first().map_or(0, |counts| counts.records_out);
        if self.crash_after.is_some_and(|after| read >= after) {
            panic!("injected fault");
        }
    }

    fn ask_for_splits(&mut self) {
        if !self.asked_for_splits && self.chain.wants_splits() {
            self.asked_for_splits = true;
            self.tell_master(SubtaskEvent::WantsSplits);
        }
    }

    fn end_if_done(&mut self, now: Timestamp) -> Result<(), OperatorError> {
        let done = self.phase == Phase::Running && self.chain.is_ended() && !self.outputs.is_blocked();
        if done && self.outputs.gathering_since().is_none() {
            self.phase = Phase::Ended;
            self.ended_with = Some(self.chain.final_snapshot(now)?);
            self.send_report(now);
            self.tell_master(SubtaskEvent::Ended);
        }
        Ok(())
    }

    fn report_if_due(&mut self, now: Timestamp) {
        let is_due = now - self.reported_at >= REPORT_EVERY_MS;
        if is_due && matches!(self.phase, Phase::Running | Phase::Stopping) {
            self.send_report(now);
        }
    }

    fn send_report(&mut self, now: Timestamp) {
        self.reported_at = now;
        let counts = self.chain.counts();
        self.report.operators = counts;
        self.report.watermark = self.chain.watermark();
        self.report.progress = self.chain.progress();
        self.report.spill = self.chain.spill_counts();
        self.report.users = self.users.readings();
        self.report.queued_batches = self.inputs.queued() as u64;
        self.report.waiting_elements = self.outputs.waiting() as u64;
        self.report.most_queued_batches = self.report.most_queued_batches.max(self.report.queued_batches);
        self.count_exchange();
        self.tell_master(SubtaskEvent::Report(Box::new(self.report.clone())));
    }

    /// Takes over what others have counted. Time without credit is counted up to now, though it has not ended.
    fn count_exchange(&mut self) {
        let now = self.clock.nanos();
        if let Some(since) = &mut self.blocked_since {
            self.report.backpressured_ns += now - *since;
            *since = now;
        }
        let report = &mut self.report;
        report.elapsed_ns = now - self.started_ns;
        report.edges.clear();
        report.edges.extend(self.outputs.edge_records());
        report.records_out = report.edges.iter().sum();
        report.batches_in = self.inputs.taken();
        report.batches_out = self.outputs.batches();
        report.bytes_out = self.receivers.iter().map(Receiver::sent_bytes).sum();
        report.input_watermark = match self.input_channels.is_empty() {
            true => self.chain.watermark(),
            false => self.inputs.watermark(),
        };
    }

    fn tick(&mut self, myself: &ActorRef<SubtaskMessage>) {
        if !self.ticking {
            self.ticking = true;
            let _ = myself.cast(SubtaskMessage::Tick);
        }
    }

    fn schedule(&mut self, myself: &ActorRef<SubtaskMessage>, at: Option<Timestamp>) {
        let now = self.clock.now();
        if self.tick_at.is_some_and(|scheduled| scheduled <= now) {
            self.tick_at = None;
        }
        let Some(at) = at.filter(|at| self.tick_at.is_none_or(|scheduled| *at < scheduled)) else { return };
        if at <= now {
            self.tick(myself);
            return;
        }
        self.tick_at = Some(at);
        drop(myself.send_after(self.clock.until(at), || SubtaskMessage::Tick));
    }
}

#[cfg(test)]
mod tests;
