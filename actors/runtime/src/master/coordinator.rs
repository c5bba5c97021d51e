//! Takes checkpoints. Child of the JobMaster, for the job's whole life.
//!
//! It triggers the sources, gathers what subtasks acknowledge, publishes the metadata of complete checkpoints, lets
//! committers publish what sinks prepared, and deletes checkpoints that are no longer retained. What it must not lose
//! lies in the checkpoint store; when it dies, the JobMaster ends with it.

use crate::clock::Clock;
use crate::config::Config;
use crate::failure::Failure;
use crate::master::committer::CommitterMessage;
use crate::master::enumerator::EnumeratorMessage;
use crate::master::progress::{Pending, Progress, Purpose};
use crate::master::{CheckpointEvent, JobMasterMessage, SubtaskEvent};
use crate::observe::Observer;
use crate::observe::checkpoints::{CheckpointKind, Part};
use crate::report::CheckpointReport;
use crate::subtask::SubtaskMessage;
use crate::subtask::neighbours::SubtaskRef;
use crate::tasks::Tasks;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::key::KEY_HASH_VERSION;
use hurtig_state::metadata::METADATA_VERSION;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, Error, Mastership, Retention, SnapshotHandle, SourceMetadata,
    VertexMetadata,
};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Answer to a request for a savepoint: where it lies, or why there is none.
pub type SavepointReply = oneshot::Sender<Result<String, String>>;

/// What the coordinator is told.
pub enum CoordinatorMessage {
    /// From the JobMaster: an attempt is about to start.
    Begin {
        /// The attempt.
        attempt: Attempt,
        /// Its subtasks.
        subtasks: BTreeMap<SubtaskId, SubtaskRef>,
        /// Enumerators, with uid and vertex of their sources.
        enumerators: Vec<(String, usize, ActorRef<EnumeratorMessage>)>,
    },
    /// From the JobMaster: all subtasks of the attempt run, so checkpoints may be taken.
    Running {
        /// The attempt.
        attempt: Attempt,
    },
    /// From the JobMaster, between two attempts: the next one has another graph, of the same operators.
    Graph(Arc<JobGraph>),
    /// From the JobMaster: the attempt is over. Answered, so that what completed before is known when the next begins.
    Suspend {
        /// The attempt.
        attempt: Attempt,
    },
    /// From the JobMaster: numbers continue after this one, and it is among those retained.
    Restored(Arc<CheckpointMetadata>),
    /// From a subtask, by way of the JobMaster.
    Subtask {
        /// Its attempt.
        attempt: Attempt,
        /// Which one.
        id: SubtaskId,
        /// What happened.
        event: SubtaskEvent,
    },
    /// From an enumerator: its state for a checkpoint.
    SourceSnapshot {
        /// Its attempt.
        attempt: Attempt,
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// The source's uid.
        uid: String,
        /// The state.
        bytes: Vec<u8>,
    },
    /// From the JobMaster: take a savepoint.
    Savepoint {
        /// Where to.
        target: String,
        /// Whether the job stops with it.
        stop: bool,
        /// Where to answer.
        reply: SavepointReply,
    },
    /// From the JobMaster: have all subtasks stop with a checkpoint, so that the next attempt goes on where they are.
    Pause {
        /// Where to answer, when they have, or why they do not.
        reply: SavepointReply,
    },
    /// From the JobMaster: take a checkpoint now, as if it were time.
    CheckpointNow {
        /// Where to answer.
        reply: SavepointReply,
    },
    /// From its own task: a checkpoint's metadata is stored, or not.
    Published {
        /// The attempt that took the checkpoint.
        attempt: Attempt,
        /// The checkpoint, with its location if stored.
        result: Result<Box<(CheckpointMetadata, CheckpointReport)>, String>,
        /// The checkpoint's number.
        checkpoint: CheckpointId,
        /// Why it was taken.
        purpose: Purpose,
    },
    /// From its own task: committers are done with a checkpoint, or failed.
    Committed {
        /// The attempt that took the checkpoint.
        attempt: Attempt,
        /// The checkpoint's location.
        location: String,
        /// Why it was taken.
        purpose: Purpose,
        /// What went wrong.
        result: Result<(), Failure>,
    },
    /// From a process that is about to end, by way of the JobMaster: answer when the checkpoints that are under way now
    /// are done.
    Settle {
        /// Where to answer.
        reply: oneshot::Sender<()>,
    },
    /// From itself: look what is due.
    Tick,
}

impl ractor::Message for CoordinatorMessage {}

/// What the coordinator is made of.
pub struct Arguments {
    /// The job.
    pub job: JobId,
    /// Its graph.
    pub graph: Arc<JobGraph>,
    /// Its configuration.
    pub config: Config,
    /// Where checkpoints go.
    pub store: CheckpointStore,
    /// The clock.
    pub clock: Clock,
    /// Its parent.
    pub master: ActorRef<JobMasterMessage>,
    /// Committers by the uid of their sink.
    pub committers: HashMap<String, ActorRef<CommitterMessage>>,
    /// The master's claim to the job, if others can claim it too.
    pub mastership: Option<Mastership>,
    /// Checkpoints that masters of the job before have completed, oldest first.
    pub completed: Vec<Arc<CheckpointMetadata>>,
    /// The number of the first one.
    pub first_checkpoint: CheckpointId,
    /// Where what happens is written down.
    pub observer: Observer,
}

/// The actor.
pub struct Coordinator;

/// State of the coordinator.
pub struct State {
    args: Arguments,
    progress: Progress,
    tasks: Tasks,
    attempt: Option<Attempt>,
    running: bool,
    subtasks: BTreeMap<SubtaskId, SubtaskRef>,
    enumerators: Vec<(String, usize, ActorRef<EnumeratorMessage>)>,
    ended: BTreeSet<SubtaskId>,
    retention: Retention,
    /// Checkpoints whose metadata is being stored.
    publishing: BTreeMap<CheckpointId, Vec<SnapshotHandle>>,
    restored: Option<CheckpointId>,
    replies: HashMap<CheckpointId, SavepointReply>,
    stop_replies: HashMap<String, SavepointReply>,
    /// Who waits until these checkpoints are done.
    settling: Vec<(BTreeSet<CheckpointId>, oneshot::Sender<()>)>,
    tick_at: Option<Timestamp>,
}

impl Actor for Coordinator {
    type Msg = CoordinatorMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _: ActorRef<CoordinatorMessage>,
        args: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut retention = Retention::default();
        for completed in args.completed.iter().filter(|completed| !completed.savepoint) {
            retention.complete(Arc::clone(completed), usize::MAX);
        }
        Ok(State {
            progress: Progress::new(&args.config, args.first_checkpoint, args.clock.now()),
            args,
            tasks: Tasks::default(),
            attempt: None,
            running: false,
            subtasks: BTreeMap::new(),
            enumerators: Vec::new(),
            ended: BTreeSet::new(),
            retention,
            publishing: BTreeMap::new(),
            restored: None,
            replies: HashMap::new(),
            stop_replies: HashMap::new(),
            settling: Vec::new(),
            tick_at: None,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<CoordinatorMessage>,
        message: CoordinatorMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CoordinatorMessage::Begin { attempt, subtasks, enumerators } => {
                state.begin_attempt(attempt, subtasks, enumerators);
            }
            CoordinatorMessage::Running { attempt } => state.running = state.attempt == Some(attempt),
            CoordinatorMessage::Graph(graph) => state.args.graph = graph,
            CoordinatorMessage::Suspend { attempt } => {
                state.suspend();
                let _ = state.args.master.cast(JobMasterMessage::Stopped { attempt, worker: None });
            }
            CoordinatorMessage::Restored(metadata) => state.on_restored(metadata),
            CoordinatorMessage::Subtask { attempt, id, event } if state.attempt == Some(attempt) => {
                state.on_subtask(&myself, id, event);
            }
            CoordinatorMessage::SourceSnapshot { attempt, checkpoint, uid, bytes }
                if state.attempt == Some(attempt) =>
            {
                if let Some(complete) = state.progress.add_source(checkpoint, &uid, bytes) {
                    state.publish(&myself, complete);
                }
            }
            CoordinatorMessage::Savepoint { target, stop, reply } => {
                state.take(Purpose::Savepoint { target, stop }, reply);
            }
            CoordinatorMessage::Pause { reply } => {
                state.take(Purpose::Rescale, reply);
                // Nothing comes of a checkpoint that is triggered after it.
                state.running = false;
            }
            CoordinatorMessage::CheckpointNow { reply } => state.take(Purpose::Periodic, reply),
            CoordinatorMessage::Published { attempt, result, checkpoint, purpose }
                if state.attempt == Some(attempt) =>
            {
                state.on_published(&myself, checkpoint, purpose, result);
            }
            CoordinatorMessage::Committed { attempt, location, purpose, result } => {
                state.on_committed(attempt, location, &purpose, result);
            }
            CoordinatorMessage::Settle { reply } => {
                let under_way = state.progress.pending().chain(state.publishing.keys().copied()).collect();
                state.settling.push((under_way, reply));
            }
            CoordinatorMessage::Tick => state.tick_at = None,
            // Of an attempt that is over.
            CoordinatorMessage::Subtask { .. }
            | CoordinatorMessage::SourceSnapshot { .. }
            | CoordinatorMessage::Published { .. } => {}
        }
        state.act_on_time(&myself);
        state.answer_settled();
        Ok(())
    }
}

impl State {
    fn tell_master(&self, event: CheckpointEvent) {
        if let Some(attempt) = self.attempt {
            let _ = self.args.master.cast(JobMasterMessage::Checkpoint { attempt, event });
        }
    }

    fn begin_attempt(
        &mut self,
        attempt: Attempt,
        subtasks: BTreeMap<SubtaskId, SubtaskRef>,
        enumerators: Vec<(String, usize, ActorRef<EnumeratorMessage>)>,
    ) {
        self.progress.reset(self.args.clock.now());
        self.attempt = Some(attempt);
        self.retention.begin(subtasks.keys().copied(), self.restored);
        self.subtasks = subtasks;
        self.enumerators = enumerators;
        self.ended.clear();
    }

    fn suspend(&mut self) {
        self.attempt = None;
        self.running = false;
        for pending in self.progress.drain() {
            self.give_up(pending.snapshots());
        }
        self.publishing.clear();
        self.subtasks.clear();
        self.enumerators.clear();
        for (_, reply) in self.replies.drain() {
            let _ =
                reply.send(Err("the job failed or was cancelled meanwhile: try again once it runs".into()));
        }
    }

    fn on_restored(&mut self, metadata: Arc<CheckpointMetadata>) {
        self.progress.continue_after(metadata.checkpoint);
        self.restored = Some(metadata.checkpoint);
        let (id, now) = (metadata.checkpoint, self.args.clock.now());
        self.args.observer.on_restored(id, metadata.savepoint, &metadata.location, now);
        // A checkpoint of this job is among those retained already, one given by the user is not ours to delete.
        self.retention.forget_after(metadata.checkpoint);
    }

    fn answer_settled(&mut self) {
        let (progress, publishing) = (&self.progress, &self.publishing);
        let is_under_way = |id: &CheckpointId| progress.is_pending(*id) || publishing.contains_key(id);
        for (_, reply) in self.settling.extract_if(.., |(under_way, _)| !under_way.iter().any(is_under_way)) {
            let _ = reply.send(());
        }
    }

    fn is_source(&self, id: SubtaskId) -> bool {
        self.enumerators.iter().any(|(_, vertex, _)| *vertex == id.vertex)
    }

    fn all_sources_ended(&self) -> bool {
        self.subtasks.keys().filter(|id| self.is_source(**id)).all(|id| self.ended.contains(id))
    }

    fn on_subtask(&mut self, myself: &ActorRef<CoordinatorMessage>, id: SubtaskId, event: SubtaskEvent) {
        match event {
            SubtaskEvent::Acknowledged {
                checkpoint,
                metadata,
                alignment_ms,
                synchronous_us,
                in_flight_bytes,
            } => {
                self.retention.acknowledged(id, metadata.since);
                if !self.progress.is_pending(checkpoint) {
                    // It has failed meanwhile.
                    self.retention.give_up(&metadata.snapshot);
                    return;
                }
                let (at, written_bytes) = (self.args.clock.now(), metadata.written_bytes);
                let bytes = metadata.snapshot.stored_bytes();
                let part = Part { at, bytes, written_bytes, alignment_ms, synchronous_us, in_flight_bytes };
                self.args.observer.on_acknowledged(checkpoint, id, part);
                let took = (alignment_ms, synchronous_us);
                if let Some(complete) = self.progress.acknowledge(checkpoint, id, metadata, took) {
                    self.publish(myself, complete);
                }
            }
            SubtaskEvent::Declined { checkpoint, reason } => self.fail(checkpoint, &reason),
            SubtaskEvent::Ended => {
                self.ended.insert(id);
                for barrier in self.progress.waiting_for(id) {
                    self.ask_ended(id, barrier);
                }
                if self.ended.len() == self.subtasks.len() {
                    self.trigger(Purpose::Final);
                }
            }
            SubtaskEvent::Running { .. } | SubtaskEvent::WantsSplits | SubtaskEvent::Report(_) => {}
        }
    }

    fn ask_ended(&self, id: SubtaskId, barrier: hurtig_dataflow::Barrier) {
        if let Some(subtask) = self.subtasks.get(&id) {
            subtask.tell(SubtaskMessage::Trigger(barrier));
        }
    }

    fn trigger(&mut self, purpose: Purpose) -> CheckpointId {
        let subtasks: BTreeSet<SubtaskId> = self.subtasks.keys().copied().collect();
        let sources = self.enumerators.iter().map(|(uid, ..)| uid.clone()).collect();
        let (kind, now) = (kind_of(&purpose), self.args.clock.now());
        let barrier = self.progress.begin(purpose, now, subtasks.clone(), sources);
        self.args.observer.on_triggered(barrier.checkpoint, kind, subtasks, now);
        tracing::debug!(checkpoint = barrier.checkpoint, "triggered");
        for (_, _, enumerator) in &self.enumerators {
            let _ = enumerator.cast(EnumeratorMessage::Trigger(barrier.clone()));
        }
        // Enumerators pass the trigger to their subtasks; others that have ended see no barrier any more.
        for id in self.ended.iter().filter(|id| !self.is_source(**id)) {
            self.ask_ended(*id, barrier.clone());
        }
        barrier.checkpoint
    }

    fn take(&mut self, purpose: Purpose, reply: SavepointReply) {
        if !self.running || self.all_sources_ended() {
            let why = match self.running {
                false => "the job does not run at present: try again once it runs",
                true => "the job has read all its input and is finishing: there is nothing left to save",
            };
            let _ = reply.send(Err(why.into()));
            return;
        }
        if self.progress.is_stopping() {
            let _ = reply.send(Err("the job is about to stop with a savepoint".into()));
            return;
        }
        let checkpoint = self.trigger(purpose);
        self.replies.insert(checkpoint, reply);
    }

    fn metadata(&self, attempt: Attempt, pending: &Pending) -> CheckpointMetadata {
        let graph = &self.args.graph;
        let mut subtasks = pending.subtasks.clone();
        let vertices = graph.vertices.iter().enumerate().map(|(vertex, description)| VertexMetadata {
            operators: graph.operators_of(vertex),
            subtasks: (0..description.parallelism)
                .filter_map(|index| subtasks.remove(&SubtaskId { vertex, index }))
                .collect(),
        });
        let dir = crate::subtask::snapshot_dir(&pending.barrier);
        CheckpointMetadata {
            version: METADATA_VERSION,
            job: self.args.job,
            checkpoint: pending.barrier.checkpoint,
            attempt,
            savepoint: pending.barrier.savepoint.is_some(),
            triggered_at: pending.triggered_at,
            completed_at: self.args.clock.now(),
            max_parallelism: graph.max_parallelism,
            key_hash_version: KEY_HASH_VERSION,
            is_final: pending.purpose == Purpose::Final,
            vertices: vertices.collect(),
            sources: pending
                .sources
                .iter()
                .map(|(uid, bytes)| SourceMetadata { uid: uid.clone(), bytes: bytes.clone().into() })
                .collect(),
            // A place that cannot be used fails where subtasks write to it.
            location: self.args.store.directory(self.args.job, &dir).unwrap_or_default(),
        }
    }

    /// All parts of a checkpoint are stored: stores its metadata, which is what makes it complete.
    fn publish(&mut self, myself: &ActorRef<CoordinatorMessage>, pending: Pending) {
        let Some(attempt) = self.attempt else { return };
        let mut metadata = self.metadata(attempt, &pending);
        let (store, master, myself) = (self.args.store.clone(), self.args.master.clone(), myself.clone());
        // Without checkpointing the end of the job is not a point anybody restores from.
        let keep = self.args.config.checkpoint.interval.is_some() || pending.purpose != Purpose::Final;
        let mastership = self.args.mastership.clone();
        let snapshots = pending.subtasks.values().map(|subtask| subtask.snapshot.clone()).collect();
        self.publishing.insert(metadata.checkpoint, snapshots);
        self.tasks.spawn(async move {
            let checkpoint = metadata.checkpoint;
            let mut stored = if keep { store.publish(&metadata).await } else { Ok(String::new()) };
            // Only now: a master that comes later sees the checkpoint and starts from it.
            if let (Ok(location), Some(mastership)) = (&stored, mastership) {
                let confirmed = match &pending.purpose {
                    Purpose::Savepoint { stop: true, .. } => {
                        metadata.location.clone_from(location);
                        mastership.stop_with(&metadata).await
                    }
                    _ => mastership.confirm().await,
                };
                stored = confirmed.and(stored);
            }
            if let Err(Error::Deposed { .. }) = stored {
                let event = CheckpointEvent::Deposed;
                let _ = master.cast(JobMasterMessage::Checkpoint { attempt, event });
                return;
            }
            let result = stored.map_err(|error| describe(&error)).map(|location| {
                metadata.location.clone_from(&location);
                let report = CheckpointReport {
                    id: checkpoint,
                    location,
                    bytes: metadata.bytes(),
                    written_bytes: metadata.written_bytes(),
                    triggered_at: metadata.triggered_at,
                    duration_ms: metadata.completed_at - metadata.triggered_at,
                    alignment_ms: pending.alignment_ms,
                    synchronous_us: pending.synchronous_us,
                    savepoint: metadata.savepoint,
                };
                Box::new((metadata, report))
            });
            let purpose = pending.purpose;
            let _ = myself.cast(CoordinatorMessage::Published { attempt, result, checkpoint, purpose });
        });
    }

    fn on_published(
        &mut self,
        myself: &ActorRef<CoordinatorMessage>,
        checkpoint: CheckpointId,
        purpose: Purpose,
        result: Result<Box<(CheckpointMetadata, CheckpointReport)>, String>,
    ) {
        let snapshots = self.publishing.remove(&checkpoint).unwrap_or_default();
        let (metadata, report) = match result {
            Ok(published) => *published,
            Err(reason) => {
                self.abort(checkpoint, snapshots.iter());
                return self.on_failed(checkpoint, &purpose, &reason);
            }
        };
        let now = self.args.clock.now();
        if purpose == Purpose::Periodic && self.progress.is_overtaken(checkpoint) {
            tracing::debug!(checkpoint, "subsumed before it was stored");
            self.answer(checkpoint, Ok(report.location));
            self.args.observer.on_checkpoint_failed(checkpoint, SUBSUMED, now);
            self.give_up(snapshots.iter());
            self.delete(vec![Arc::new(metadata)]);
            return;
        }
        for useless in self.progress.on_published(checkpoint, now) {
            tracing::debug!(checkpoint = useless.barrier.checkpoint, "subsumed before it was complete");
            self.answer(useless.barrier.checkpoint, Ok(report.location.clone()));
            self.args.observer.on_checkpoint_failed(useless.barrier.checkpoint, SUBSUMED, now);
            self.abort(useless.barrier.checkpoint, useless.snapshots());
        }
        self.args.observer.on_completed(&report, now);
        let metadata = Arc::new(metadata);
        let publishes = match &purpose {
            // A savepoint that the job outlives publishes nothing: should the job fail, it restarts from an older
            // checkpoint and would publish the same records again.
            Purpose::Savepoint { stop: false, .. } => false,
            Purpose::Savepoint { .. } | Purpose::Periodic | Purpose::Rescale | Purpose::Final => true,
        };
        if publishes {
            for subtask in self.subtasks.values() {
                subtask.tell(SubtaskMessage::Completed(checkpoint));
            }
        }
        match purpose {
            Purpose::Periodic | Purpose::Rescale => {
                let most = self.args.config.checkpoint.retained;
                let old = self.retention.complete(Arc::clone(&metadata), most);
                self.delete(old);
            }
            Purpose::Final => drop(self.retention.complete(Arc::clone(&metadata), usize::MAX)),
            Purpose::Savepoint { .. } => {}
        }
        self.tell_master(CheckpointEvent::Completed {
            metadata: Arc::clone(&metadata),
            report: report.clone(),
            publishes,
        });
        match (&purpose, self.replies.remove(&checkpoint)) {
            (Purpose::Savepoint { stop: true, .. }, Some(reply)) => {
                self.stop_replies.insert(metadata.location.clone(), reply);
            }
            (_, Some(reply)) => drop(reply.send(Ok(report.location))),
            (_, None) => {}
        }
        if publishes {
            self.commit(myself, &metadata, purpose);
        }
    }

    /// Files of checkpoints that are none, and will be none, may go.
    fn give_up<'a>(&mut self, snapshots: impl Iterator<Item = &'a SnapshotHandle>) {
        snapshots.for_each(|snapshot| self.retention.give_up(snapshot));
    }

    /// Deletes checkpoints, then the files that none needs any more.
    fn delete(&mut self, old: Vec<Arc<CheckpointMetadata>>) {
        let under_way = self.progress.stored().chain(self.publishing.values().flatten());
        let garbage = self.retention.garbage(under_way);
        if old.is_empty() && garbage.is_empty() {
            return;
        }
        let (store, job) = (self.args.store.clone(), self.args.job);
        self.tasks.spawn(async move {
            for old in old {
                if let Err(error) = store.delete(&old).await {
                    tracing::warn!(checkpoint = old.checkpoint, "not deleted: {}", describe(&error));
                    return;
                }
            }
            if let Err(error) = store.delete_files(job, garbage).await {
                tracing::warn!("files of checkpoints are not deleted: {}", describe(&error));
            }
        });
    }

    /// A checkpoint is of no use any more.
    fn abort<'a>(&mut self, checkpoint: CheckpointId, snapshots: impl Iterator<Item = &'a SnapshotHandle>) {
        self.give_up(snapshots);
        for subtask in self.subtasks.values() {
            subtask.tell(SubtaskMessage::Aborted(checkpoint));
        }
    }

    /// Lets the committers publish what the checkpoint holds.
    fn commit(
        &mut self,
        myself: &ActorRef<CoordinatorMessage>,
        metadata: &CheckpointMetadata,
        purpose: Purpose,
    ) {
        let Some(attempt) = self.attempt else { return };
        let mut waiting = Vec::new();
        let mut sinks = committables_by_sink(metadata);
        // The job ends with these: even of a sink for which they hold nothing earlier commits may be under way.
        let is_last = matches!(purpose, Purpose::Final | Purpose::Savepoint { stop: true, .. });
        for (uid, committer) in &self.args.committers {
            let committables = sinks.remove(uid);
            if committables.is_some() || is_last {
                let (reply, answer) = oneshot::channel();
                let committables = committables.unwrap_or_default();
                let _ = committer.cast(CommitterMessage::Commit { committables, reply });
                waiting.push((uid.clone(), answer));
            }
        }
        let (myself, location) = (myself.clone(), metadata.location.clone());
        self.tasks.spawn(async move {
            let result = all_committed(waiting).await;
            let _ = myself.cast(CoordinatorMessage::Committed { attempt, location, purpose, result });
        });
    }

    fn on_committed(
        &mut self,
        attempt: Attempt,
        location: String,
        purpose: &Purpose,
        result: Result<(), Failure>,
    ) {
        if let Some(reply) = self.stop_replies.remove(&location) {
            let _ = reply.send(result.clone().map(|()| location).map_err(|failure| failure.message));
        }
        if self.attempt != Some(attempt) {
            return;
        }
        match (result, purpose) {
            (Err(failure), _) => self.tell_master(CheckpointEvent::CommitFailed(failure)),
            (Ok(()), Purpose::Final | Purpose::Savepoint { stop: true, .. }) => {
                self.tell_master(CheckpointEvent::AllPublished);
            }
            (Ok(()), _) => {}
        }
    }

    fn fail(&mut self, checkpoint: CheckpointId, reason: &str) {
        if let Some(pending) = self.progress.fail(checkpoint) {
            self.abort(checkpoint, pending.snapshots());
            self.on_failed(checkpoint, &pending.purpose, reason);
        }
    }

    /// Answers whoever has asked for a checkpoint, if anybody has.
    fn answer(&mut self, checkpoint: CheckpointId, result: Result<String, String>) {
        if let Some(reply) = self.replies.remove(&checkpoint) {
            let _ = reply.send(result);
        }
    }

    fn on_failed(&mut self, checkpoint: CheckpointId, purpose: &Purpose, reason: &str) {
        self.answer(checkpoint, Err(reason.to_string()));
        self.args.observer.on_checkpoint_failed(checkpoint, reason, self.args.clock.now());
        let fails_job = self.progress.on_failed(purpose, self.args.clock.now());
        if !fails_job {
            // Else it is told as the job's failure.
            tracing::warn!(checkpoint, "failed: {reason}");
        }
        self.tell_master(CheckpointEvent::Failed { checkpoint, reason: reason.to_string(), fails_job });
    }

    fn act_on_time(&mut self, myself: &ActorRef<CoordinatorMessage>) {
        if !self.running {
            return;
        }
        let now = self.args.clock.now();
        for checkpoint in self.progress.expired(now) {
            let reason = "it was not complete within 'checkpoint.timeout': a subtask is slow or held back";
            self.fail(checkpoint, reason);
        }
        if !self.all_sources_ended() && self.progress.next_due().is_some_and(|due| due <= now) {
            self.trigger(Purpose::Periodic);
        }
        let next = self.progress.next_due().filter(|_| !self.all_sources_ended());
        let Some(at) = next.into_iter().chain(self.progress.next_timeout()).min() else { return };
        if self.tick_at.is_none_or(|scheduled| at < scheduled) {
            self.tick_at = Some(at);
            drop(myself.send_after(self.args.clock.until(at), || CoordinatorMessage::Tick));
        }
    }
}

/// What is said of a checkpoint that a newer one has made useless.
const SUBSUMED: &str = "a newer checkpoint was complete before it";

fn kind_of(purpose: &Purpose) -> CheckpointKind {
    match purpose {
        Purpose::Periodic | Purpose::Rescale | Purpose::Final => CheckpointKind::Checkpoint,
        Purpose::Savepoint { stop: false, .. } => CheckpointKind::Savepoint,
        Purpose::Savepoint { stop: true, .. } => CheckpointKind::StoppingSavepoint,
    }
}

/// All committables of a checkpoint, by the uid of their sink, in order of subtasks.
pub fn committables_by_sink(metadata: &CheckpointMetadata) -> BTreeMap<String, Vec<Vec<u8>>> {
    let mut sinks: BTreeMap<String, Vec<Vec<u8>>> = BTreeMap::new();
    for (uid, committables) in
        metadata.vertices.iter().flat_map(|v| &v.subtasks).flat_map(|s| &s.committables)
    {
        sinks.entry(uid.clone()).or_default().extend(committables.iter().map(|bytes| bytes.to_vec()));
    }
    sinks
}

/// Waits for committers' answers.
pub async fn all_committed(
    waiting: Vec<(String, oneshot::Receiver<Result<(), Failure>>)>,
) -> Result<(), Failure> {
    for (uid, answer) in waiting {
        let ended = || Err(Failure::of("commit", "the committer ended without an answer"));
        answer.await.unwrap_or_else(|_| ended()).map_err(|failure| Failure {
            place: format!("sink '{uid}'"),
            message: format!("cannot publish: {}", failure.message),
            ..failure
        })?;
    }
    Ok(())
}
