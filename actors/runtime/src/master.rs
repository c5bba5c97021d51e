//! The JobMaster: runs one job. Child of the JobManager.
//!
//! It has workers deploy the subtasks of an attempt, feeds the coordinator, and starts the next attempt from the last
//! completed checkpoint when one fails, as the restart strategy says. Its children, the coordinator and the
//! committers, live as long as the job; enumerators as long as an attempt. When it dies the JobManager marks the job
//! failed; what it must not lose lies in the checkpoint store.

pub mod committer;
pub mod coordinator;
pub mod enumerator;
pub mod lifecycle;
pub mod progress;
pub mod restart;
pub mod restore;

use crate::clock::Clock;
use crate::config::{CheckpointMode, Config};
use crate::execution::{ExecutionGraph, assign_slots};
use crate::failure::Failure;
use crate::fault::FaultInjector;
use crate::observe::Observer;
use crate::observe::subtasks::SubtaskState;
use crate::protocol::{NotRescaled, Rescaled};
use crate::report::{CheckpointReport, JobStatus, REMEMBERED_RESCALES, RescaleReport, SubtaskReport};
use crate::resource::{NoSlots, ResourceManagerMessage, SlotGrant};
use crate::subtask::neighbours::SubtaskRef;
use crate::subtask::{Deployment, SubtaskSettings};
use crate::tasks::Tasks;
use crate::worker::WorkerMessage;
use crate::worker::links::{Placement, WorkerId};
use committer::{CommitterMessage, SinkCommitter};
use coordinator::{Coordinator, CoordinatorMessage, SavepointReply};
use enumerator::{Enumerator, EnumeratorMessage};
use hurtig_dataflow::graph::{JobGraph, Logic};
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::panics::catch_panic;
use hurtig_dataflow::time::millis;
use hurtig_state::{CheckpointMetadata, CheckpointStore, Error, Mastership, SubtaskMetadata};
use lifecycle::{Lifecycle, Next};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use restart::RestartStrategy;
use restore::Restored;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// What happens in a subtask, as its master hears of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum SubtaskEvent {
    /// Its operators are open.
    Running {
        /// Whether it has gone on with the keyed state that its predecessor left on its Worker.
        took_over: bool,
    },
    /// A source has no split left.
    WantsSplits,
    /// Its part of a checkpoint is stored.
    Acknowledged {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// What is stored.
        metadata: SubtaskMetadata,
        /// How long alignment took, in milliseconds.
        alignment_ms: i64,
        /// For how long its barrier stopped the work, in microseconds.
        synchronous_us: u64,
        /// Bytes of the batches that its barrier has overtaken.
        in_flight_bytes: u64,
    },
    /// Its part of a checkpoint could not be stored.
    Declined {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
    },
    /// It has seen the end of its input.
    Ended,
    /// Numbers.
    Report(Box<SubtaskReport>),
}

/// What happens to checkpoints.
pub enum CheckpointEvent {
    /// One is complete.
    Completed {
        /// What it consists of.
        metadata: Arc<CheckpointMetadata>,
        /// Numbers.
        report: CheckpointReport,
        /// Whether what it holds for sinks is published: the job goes on from it, or from a later one.
        publishes: bool,
    },
    /// One has failed.
    Failed {
        /// The checkpoint.
        checkpoint: CheckpointId,
        /// Why.
        reason: String,
        /// Whether the attempt fails with it.
        fails_job: bool,
    },
    /// A sink cannot publish.
    CommitFailed(Failure),
    /// The last checkpoint of the job is complete and published.
    AllPublished,
    /// A newer master has claimed the job: this one ends.
    Deposed,
}

/// Why a JobMaster stops whose job another one has claimed.
pub const DEPOSED: &str = "another master has taken the job over";

/// What a JobMaster is told.
pub enum JobMasterMessage {
    /// From the ResourceManager: slots, or why there are none.
    Slots {
        /// The attempt that asked for them.
        attempt: Attempt,
        /// The slots.
        result: Result<Vec<SlotGrant>, NoSlots>,
    },
    /// From its own task: what the attempt starts from.
    Restored {
        /// The attempt.
        attempt: Attempt,
        /// State and positions, or why the attempt cannot start.
        result: Box<Result<Restored, Failure>>,
    },
    /// From a Worker: subtasks exist.
    Deployed {
        /// Their attempt.
        attempt: Attempt,
        /// The subtasks, or why they could not be made.
        result: Result<Vec<(SubtaskId, SubtaskRef)>, Failure>,
    },
    /// From a subtask.
    Subtask {
        /// Its attempt.
        attempt: Attempt,
        /// Which one.
        id: SubtaskId,
        /// What happened.
        event: SubtaskEvent,
    },
    /// From a split enumerator: the bytes that no subtask of its source has been given yet, where it knows.
    Unread {
        /// Its attempt.
        attempt: Attempt,
        /// The source's vertex.
        vertex: usize,
        /// Bytes.
        bytes: Option<u64>,
    },
    /// From a Worker: a subtask has failed.
    SubtaskFailed {
        /// Its attempt.
        attempt: Attempt,
        /// What went wrong.
        failure: Failure,
    },
    /// From a Worker: all subtasks of the attempt are gone. From the coordinator: no checkpoint of it completes any
    /// more. Had a checkpoint been committed without the next attempt knowing of it, its output would come twice.
    Stopped {
        /// The attempt.
        attempt: Attempt,
        /// The Worker; `None` is the coordinator.
        worker: Option<WorkerId>,
    },
    /// From the ResourceManager, or what stands for a Worker of another process: it is gone, and with it its subtasks.
    WorkerLost {
        /// The Worker.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// From the ResourceManager: the TaskManager of a Worker is gone.
    TaskManagerLost {
        /// The Worker.
        worker: WorkerId,
    },
    /// From the coordinator.
    Checkpoint {
        /// The attempt that took it.
        attempt: Attempt,
        /// What happened.
        event: CheckpointEvent,
    },
    /// From itself: the delay before an attempt is over.
    Start(Attempt),
    /// From itself: the attempt's subtasks have stopped where the next may go on, or that has taken too long.
    Paused(Attempt),
    /// From a client: end the job.
    Cancel,
    /// From a client: take a savepoint.
    Savepoint {
        /// Where to; `None` takes the configured folder.
        target: Option<String>,
        /// Whether the job stops with it.
        stop: bool,
        /// Where to answer.
        reply: SavepointReply,
    },
    /// From the JobManager: go on with another graph, of the same operators.
    Rescale {
        /// The graph.
        graph: Arc<JobGraph>,
        /// How it was planned.
        rescaled: Rescaled,
        /// Where to answer, when the job runs again, or if it cannot be done now.
        reply: oneshot::Sender<Result<RescaleReport, NotRescaled>>,
    },
    /// From whoever is about to start the job anew: take a checkpoint now.
    CheckpointNow {
        /// Where to answer.
        reply: SavepointReply,
    },
    /// From a process that is about to end: answer when the checkpoints that are under way are done.
    Settle {
        /// Where to answer.
        reply: oneshot::Sender<()>,
    },
}

impl ractor::Message for JobMasterMessage {}

/// What a JobMaster is made of.
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
    /// Who grants slots.
    pub resource_manager: ActorRef<ResourceManagerMessage>,
    /// Where the job's status is shown.
    pub status: watch::Sender<JobStatus>,
    /// Where what happens is written down.
    pub observer: Observer,
    /// Faults to put in.
    pub faults: Option<Arc<dyn FaultInjector>>,
    /// Above those of any master of the job before.
    pub first_attempt: Attempt,
    /// Checkpoints that masters of the job before have completed, oldest first.
    pub completed: Vec<Arc<CheckpointMetadata>>,
    /// The number of its first checkpoint.
    pub first_checkpoint: CheckpointId,
    /// Its claim to the job, if others can claim it too.
    pub mastership: Option<Mastership>,
}

/// How long subtasks may take to stop with a checkpoint, before the job goes on with another graph from an older one.
const PAUSE_TIMEOUT: Duration = Duration::from_secs(10);

/// What an attempt must ask for first.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Needs {
    /// It has what it needs.
    Nothing,
    /// Slots with new workers: none were granted yet, or a Worker was lost since.
    NewWorkers,
    /// Other slots, for another graph: Workers are kept where they can be.
    OtherSlots,
}

/// A graph that is to take the place of the present one.
struct NextGraph {
    graph: Arc<JobGraph>,
    rescaled: Rescaled,
}

/// A change of the graph under way.
struct Rescaling {
    since: hurtig_dataflow::Timestamp,
    workers: BTreeSet<WorkerId>,
    /// Subtasks whose state stayed where it was.
    took_over: usize,
    /// The parallelism of each vertex before, by the uid of its first operator.
    former: BTreeMap<String, usize>,
    reply: oneshot::Sender<Result<RescaleReport, NotRescaled>>,
}

/// The actor.
pub struct JobMaster;

/// State of a JobMaster.
pub struct State {
    args: Arguments,
    execution: ExecutionGraph,
    lifecycle: Lifecycle,
    tasks: Tasks,
    coordinator: ActorRef<CoordinatorMessage>,
    committers: HashMap<String, ActorRef<CommitterMessage>>,
    workers: BTreeMap<WorkerId, HiredWorker>,
    needs: Needs,
    undeployed: usize,
    /// Who has not said yet that the attempt's subtasks are gone.
    unstopped: BTreeSet<Option<WorkerId>>,
    subtasks: BTreeMap<SubtaskId, SubtaskRef>,
    enumerators: BTreeMap<usize, ActorRef<EnumeratorMessage>>,
    /// What the next attempt's graph is to be, while the last one's subtasks are being stopped.
    next: Option<NextGraph>,
    /// How the graph was planned, if it is another than that of the beginning.
    rescaled: Option<Rescaled>,
    /// Since when no subtask runs because of a change of the graph, the workers there were, and who waits for its end.
    rescaling: Option<Rescaling>,
    /// Whether this process reads all state that an attempt starts from: always where workers are part of it; else only
    /// when workers could not read what they need, to find out which checkpoint can be.
    reads_all: bool,
    restored_sources: HashMap<String, Vec<u8>>,
    running: BTreeSet<SubtaskId>,
    completed: Vec<Arc<CheckpointMetadata>>,
}

/// A Worker with the subtasks it runs.
struct HiredWorker {
    actor: ActorRef<WorkerMessage>,
    address: Option<String>,
    subtasks: Vec<SubtaskId>,
}

impl Actor for JobMaster {
    type Msg = JobMasterMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<JobMasterMessage>,
        args: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let mut committers = HashMap::new();
        for operator in args.graph.vertices.iter().flat_map(|vertex| &vertex.chain) {
            if let Logic::Sink(_, make) = &operator.logic
                && make().is_some()
            {
                let (committer, _) =
                    Actor::spawn_linked(None, SinkCommitter, Arc::clone(make), myself.get_cell()).await?;
                committers.insert(operator.uid.clone(), committer);
            }
        }
        let arguments = coordinator::Arguments {
            job: args.job,
            graph: Arc::clone(&args.graph),
            config: args.config.clone(),
            store: args.store.clone(),
            clock: args.clock,
            master: myself.clone(),
            committers: committers.clone(),
            mastership: args.mastership.clone(),
            completed: args.completed.clone(),
            first_checkpoint: args.first_checkpoint,
            observer: args.observer.clone(),
        };
        let (coordinator, _) = Actor::spawn_linked(None, Coordinator, arguments, myself.get_cell()).await?;
        let strategy = RestartStrategy::new(&args.config, args.job.0 as u64);
        // A job that can have another master has its workers in other processes.
        let reads_all = args.mastership.is_none();
        myself.cast(JobMasterMessage::Start(args.first_attempt))?;
        Ok(State {
            execution: ExecutionGraph::new(&args.graph),
            lifecycle: Lifecycle::new(strategy, args.first_attempt),
            tasks: Tasks::default(),
            coordinator,
            committers,
            workers: BTreeMap::new(),
            needs: Needs::NewWorkers,
            undeployed: 0,
            unstopped: BTreeSet::new(),
            subtasks: BTreeMap::new(),
            enumerators: BTreeMap::new(),
            next: None,
            rescaled: None,
            rescaling: None,
            reads_all,
            restored_sources: HashMap::new(),
            running: BTreeSet::new(),
            completed: args.completed.clone(),
            args,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<JobMasterMessage>,
        message: JobMasterMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let now = state.lifecycle.attempt();
        match message {
            JobMasterMessage::Slots { attempt, result } if attempt == now => match result {
                Ok(grants) => state.on_slots(&myself, grants),
                Err(NoSlots { reason, is_final }) => {
                    // Slots whose workers did not begin are given back before others are asked for.
                    state.needs = Needs::NewWorkers;
                    let failure = Failure::of("the job's slots", reason);
                    state.fail(&myself, if is_final { failure.fatal() } else { failure });
                }
            },
            JobMasterMessage::Restored { attempt, result } if attempt == now => match *result {
                Ok(restored) => state.deploy(&myself, restored),
                Err(failure) => state.fail(&myself, failure),
            },
            JobMasterMessage::Deployed { attempt, result } if attempt == now => {
                state.on_deployed(&myself, result).await?;
            }
            JobMasterMessage::Subtask { attempt, id, event } if attempt == now => state.on_subtask(id, event),
            JobMasterMessage::Unread { attempt, vertex, bytes } if attempt == now => {
                // One that looks for new files tells the same again and again.
                state
                    .args
                    .status
                    .send_if_modified(|status| status.unread.insert(vertex, bytes) != Some(bytes));
            }
            JobMasterMessage::SubtaskFailed { attempt, failure } if attempt == now => {
                state.fail(&myself, failure)
            }
            JobMasterMessage::Stopped { attempt, worker } if attempt == now => {
                state.on_stopped(&myself, worker);
            }
            JobMasterMessage::WorkerLost { worker, reason } => state.on_worker_lost(&myself, worker, &reason),
            JobMasterMessage::TaskManagerLost { worker } => {
                state.on_worker_lost(&myself, worker, "its TaskManager is gone");
            }
            JobMasterMessage::Checkpoint { attempt, event } if attempt == now => {
                state.on_checkpoint(&myself, event);
            }
            JobMasterMessage::Start(attempt) if state.lifecycle.may_start(attempt) => state.start(&myself),
            JobMasterMessage::Paused(attempt) if attempt == now => state.on_paused(&myself),
            JobMasterMessage::Cancel => {
                if state.lifecycle.on_cancel() {
                    state.stop_attempt(&myself);
                }
            }
            JobMasterMessage::Savepoint { target, stop, reply } => state.savepoint(target, stop, reply),
            JobMasterMessage::Rescale { graph, rescaled, reply } => {
                state.rescale(&myself, NextGraph { graph, rescaled }, reply);
            }
            JobMasterMessage::CheckpointNow { reply } => {
                let message = match state.args.config.checkpoint.interval {
                    Some(_) => CoordinatorMessage::CheckpointNow { reply },
                    None => {
                        let why = "the job takes no checkpoints: stop it with a savepoint, and run it again from that";
                        drop(reply.send(Err(why.into())));
                        return Ok(());
                    }
                };
                let _ = state.coordinator.cast(message);
            }
            JobMasterMessage::Settle { reply } => {
                // If it has ended, nothing is under way: whoever asks is told by the reply's end.
                let _ = state.coordinator.cast(CoordinatorMessage::Settle { reply });
            }
            // Of an attempt that is over: its effects are fenced off.
            JobMasterMessage::Restored { .. }
            | JobMasterMessage::Deployed { .. }
            | JobMasterMessage::Unread { .. }
            | JobMasterMessage::Subtask { .. }
            | JobMasterMessage::SubtaskFailed { .. }
            | JobMasterMessage::Stopped { .. }
            | JobMasterMessage::Checkpoint { .. }
            | JobMasterMessage::Slots { .. }
            | JobMasterMessage::Paused(_)
            | JobMasterMessage::Start(_) => {}
        }
        state.show();
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<JobMasterMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) if state.is_enumerator(who.get_id()) => {
                let failure = error.downcast::<Failure>().map(|failure| *failure);
                state.fail(&myself, failure.unwrap_or_else(|error| Failure::of("source", error.to_string())));
                state.show();
                Ok(())
            }
            // The coordinator and the committers hold what must not be lost half-way: end with them.
            SupervisionEvent::ActorFailed(_, error) if !state.lifecycle.state().is_terminal() => Err(error),
            _ => Ok(()),
        }
    }
}

impl State {
    fn show(&self) {
        let lifecycle = &self.lifecycle;
        self.args.observer.on_state(lifecycle.state(), self.args.clock.now());
        self.args.status.send_modify(|status| {
            status.state = lifecycle.state();
            status.attempt = lifecycle.attempt();
            status.restarts = lifecycle.restarts();
            status.failure = lifecycle.failure().map(ToString::to_string);
            if lifecycle.state().is_terminal() && status.ended_at.is_none() {
                status.ended_at = Some(self.args.clock.now());
            }
        });
    }

    fn is_enumerator(&self, id: ActorId) -> bool {
        self.enumerators.values().any(|enumerator| enumerator.get_id() == id)
    }

    fn on_slots(&mut self, myself: &ActorRef<JobMasterMessage>, grants: Vec<SlotGrant>) {
        let each =
            |grant: &SlotGrant| grant.slots.iter().map(|slot| (*slot, grant.worker)).collect::<Vec<_>>();
        let slots: BTreeMap<usize, WorkerId> = grants.iter().flat_map(each).collect();
        let hire = |grant: SlotGrant| {
            let hired = HiredWorker { actor: grant.actor?, address: grant.address, subtasks: Vec::new() };
            Some((grant.worker, hired))
        };
        self.workers = grants.into_iter().filter_map(hire).collect();
        for (subtask, slot) in assign_slots(&self.args.graph) {
            if let Some(worker) = slots.get(&slot).and_then(|worker| self.workers.get_mut(worker)) {
                worker.subtasks.push(subtask);
            }
        }
        self.workers.retain(|_, worker| !worker.subtasks.is_empty());
        self.needs = Needs::Nothing;
        if self.lifecycle.may_start(self.lifecycle.attempt()) {
            self.start(myself);
        }
    }

    /// What ran on the Worker is gone for good: nothing more is waited for from it, and the next attempt gets new slots.
    fn on_worker_lost(&mut self, myself: &ActorRef<JobMasterMessage>, worker: WorkerId, reason: &str) {
        if self.workers.remove(&worker).is_none() {
            return;
        }
        self.needs = Needs::NewWorkers;
        self.fail(myself, Failure::of(&format!("worker {worker}"), reason));
        self.on_stopped(myself, Some(worker));
    }

    /// Asks for slots, once the subtasks of a former attempt are gone.
    fn request_slots(&mut self, myself: &ActorRef<JobMasterMessage>) {
        let (job, attempt, slots) = (self.args.job, self.lifecycle.attempt(), self.args.graph.wanted_slots());
        // Those that are not kept end with their slots, and nothing is to be waited for from them.
        self.workers.clear();
        let (keeps, master) = (self.needs == Needs::OtherSlots, myself.clone());
        let request = ResourceManagerMessage::Request { job, attempt, slots, keeps, master };
        let _ = self.args.resource_manager.cast(request);
    }

    /// Begins an attempt: first finds out what it starts from.
    fn start(&mut self, myself: &ActorRef<JobMasterMessage>) {
        if self.needs != Needs::Nothing {
            return self.request_slots(myself);
        }
        let (myself, attempt) = (myself.clone(), self.lifecycle.attempt());
        let candidates = self.completed.clone();
        let (store, config, graph) =
            (self.args.store.clone(), self.args.config.clone(), Arc::clone(&self.args.graph));
        let committers = self.committers.clone();
        let mastership = self.args.mastership.clone();
        // What masters before this one have left behind; what this one leaves it knows.
        let (job, first_checkpoint) = (self.args.job, self.args.first_checkpoint);
        let is_first = attempt == self.args.first_attempt;
        let wanted = if self.reads_all { self.execution.subtasks().collect() } else { Vec::new() };
        self.tasks.spawn(async move {
            if let Some(mastership) = mastership {
                let begun = match is_first {
                    true => mastership.confirm().await,
                    false => mastership.begin(attempt, first_checkpoint, &candidates).await,
                };
                if let Err(Error::Deposed { .. }) = begun {
                    let event = CheckpointEvent::Deposed;
                    let _ = myself.cast(JobMasterMessage::Checkpoint { attempt, event });
                    return;
                }
                if let Err(error) = begun {
                    let failure =
                        Failure::of("the job's checkpoints", hurtig_dataflow::error::describe(&error));
                    let _ =
                        myself.cast(JobMasterMessage::Restored { attempt, result: Box::new(Err(failure)) });
                    return;
                }
            }
            let before = Attempt(attempt.0.saturating_sub(1));
            if is_first && let Err(error) = store.delete_job(job, before).await {
                let error = hurtig_dataflow::error::describe(&error);
                tracing::warn!(%job, "files of unfinished checkpoints remain: {error}");
            }
            let result =
                restore::find(&store, &config, &graph, (job, candidates), &wanted, &committers).await;
            let _ = myself.cast(JobMasterMessage::Restored { attempt, result: Box::new(result) });
        });
    }

    fn settings(&self) -> SubtaskSettings {
        let config = &self.args.config;
        SubtaskSettings {
            batch_size: config.execution.batch_size,
            flush_timeout_ms: millis(config.execution.flush_timeout),
            credits: config.exchange.credits as u32,
            exactly_once: config.checkpoint.mode == CheckpointMode::ExactlyOnce,
            alignment_timeout_ms: config.checkpoint.alignment_timeout.map(millis),
            checkpointing: config.checkpoint.interval.is_some(),
            strict: !config.restore.allow_non_restored,
            state_memory: config.state.memory.map(|bytes| bytes.0),
            spill_dir: config.state.spill_dir.clone(),
        }
    }

    fn deploy(&mut self, myself: &ActorRef<JobMasterMessage>, mut restored: Restored) {
        if let Some(metadata) = &restored.metadata {
            let _ = self.coordinator.cast(CoordinatorMessage::Restored(Arc::clone(metadata)));
            // Newer ones could not be read: they must not take the place of one that can.
            let is_readable = |completed: &Arc<CheckpointMetadata>| {
                completed.job == metadata.job && completed.age() <= metadata.age()
            };
            self.completed.retain(is_readable);
        }
        self.restored_sources = std::mem::take(&mut restored.sources);
        self.running.clear();
        self.subtasks.clear();
        self.rescaling.iter_mut().for_each(|rescaling| rescaling.took_over = 0);
        self.args.status.send_modify(|status| {
            status.subtasks.clear();
            status.unread.clear();
        });
        self.undeployed = self.workers.len();
        let now = self.args.clock.now();
        self.args.observer.on_deploying(self.lifecycle.attempt(), &self.placement(), now);
        let restored_from = restored.metadata.as_ref().map(|metadata| metadata.location.clone());
        for worker in self.workers.values() {
            let deployments = worker
                .subtasks
                .iter()
                .map(|id| Deployment {
                    id: *id,
                    job: self.args.job,
                    graph: Arc::clone(&self.args.graph),
                    attempt: self.lifecycle.attempt(),
                    wiring: self.execution.wiring[id].clone(),
                    restored: restored.subtasks.remove(id).unwrap_or_default(),
                    settings: self.settings(),
                    memory: None,
                    handover: None,
                    store: self.args.store.clone(),
                    master: myself.clone(),
                    clock: self.args.clock,
                    faults: self.args.faults.clone(),
                })
                .collect();
            let _ = worker.actor.cast(WorkerMessage::Deploy {
                attempt: self.lifecycle.attempt(),
                deployments,
                restored_from: restored_from.clone(),
                rescaled: self.rescaled.clone(),
                master: myself.clone(),
            });
        }
    }

    async fn on_deployed(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
        result: Result<Vec<(SubtaskId, SubtaskRef)>, Failure>,
    ) -> Result<(), ActorProcessingErr> {
        match result {
            Ok(subtasks) => {
                let now = self.args.clock.now();
                for (id, _) in &subtasks {
                    self.args.observer.on_subtask(*id, SubtaskState::Initialising, now);
                }
                self.subtasks.extend(subtasks);
            }
            Err(failure) => {
                self.reads_all = true;
                self.fail(myself, failure);
                return Ok(());
            }
        }
        self.undeployed = self.undeployed.saturating_sub(1);
        if self.undeployed > 0 || !self.lifecycle.may_start(self.lifecycle.attempt()) {
            return Ok(());
        }
        if let Err(failure) = self.start_enumerators(myself).await? {
            self.fail(myself, failure);
            return Ok(());
        }
        // Before any of them can end.
        self.begin_checkpoints();
        let direct = |(id, subtask): (&SubtaskId, &SubtaskRef)| match subtask {
            SubtaskRef::Here(actor) => Some((*id, actor.clone())),
            SubtaskRef::At { .. } => None,
        };
        let direct = Arc::new(self.subtasks.iter().filter_map(direct).collect());
        let placement = Arc::new(self.placement());
        for worker in self.workers.values() {
            let _ = worker.actor.cast(WorkerMessage::Start {
                attempt: self.lifecycle.attempt(),
                direct: Arc::clone(&direct),
                placement: Arc::clone(&placement),
            });
        }
        Ok(())
    }

    fn placement(&self) -> Placement {
        let mut placement = Placement::default();
        for (id, worker) in &self.workers {
            placement.subtasks.extend(worker.subtasks.iter().map(|subtask| (*subtask, *id)));
            placement.workers.extend(worker.address.clone().map(|address| (*id, address)));
        }
        placement
    }

    async fn start_enumerators(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
    ) -> Result<Result<(), Failure>, ActorProcessingErr> {
        let graph = Arc::clone(&self.args.graph);
        for (vertex, description) in graph.vertices.iter().enumerate() {
            let Some(operator) = description.chain.first() else { continue };
            let Logic::Source(source) = &operator.logic else { continue };
            let restored = self.restored_sources.get(&operator.uid).map(Vec::as_slice);
            let made = catch_panic(|| source.enumerator(restored));
            let enumerator = match made {
                Ok(Ok(enumerator)) => enumerator,
                Ok(Err(error)) => {
                    return Ok(Err(Failure::of_error(&format!("source '{}'", operator.name), &*error)));
                }
                Err(panic) => return Ok(Err(Failure::of(&format!("source '{}'", operator.name), panic))),
            };
            let of_index = |index| self.subtasks.get(&SubtaskId { vertex, index }).cloned();
            let Some(subtasks) = (0..description.parallelism).map(of_index).collect() else {
                let why = "a worker has not made all subtasks that it was to make";
                return Ok(Err(Failure::of(&format!("source '{}'", operator.name), why)));
            };
            let state = enumerator::State {
                source: operator.name.clone(),
                uid: operator.uid.clone(),
                vertex,
                enumerator,
                subtasks,
                coordinator: self.coordinator.clone(),
                master: myself.clone(),
                attempt: self.lifecycle.attempt(),
            };
            let (actor, _) = Actor::spawn_linked(None, Enumerator, state, myself.get_cell()).await?;
            self.enumerators.insert(vertex, actor);
        }
        Ok(Ok(()))
    }

    fn on_subtask(&mut self, id: SubtaskId, event: SubtaskEvent) {
        match event {
            SubtaskEvent::Running { took_over } => {
                self.running.insert(id);
                if let Some(rescaling) = self.rescaling.as_mut().filter(|_| took_over) {
                    rescaling.took_over += 1;
                }
                self.args.observer.on_subtask(id, SubtaskState::Running, self.args.clock.now());
                if self.running.len() == self.subtasks.len() {
                    self.lifecycle.on_running();
                    self.on_rescaled();
                    let attempt = self.lifecycle.attempt();
                    let _ = self.coordinator.cast(CoordinatorMessage::Running { attempt });
                }
            }
            SubtaskEvent::WantsSplits => {
                if let Some(enumerator) = self.enumerators.get(&id.vertex) {
                    let _ = enumerator.cast(EnumeratorMessage::Next { subtask: id.index });
                }
            }
            SubtaskEvent::Report(report) => {
                self.args.observer.on_report(id, &report, self.args.clock.now());
                self.args.status.send_modify(|status| {
                    status.subtasks.insert(id, *report);
                });
            }
            event => {
                if matches!(event, SubtaskEvent::Ended) {
                    self.args.observer.on_subtask(id, SubtaskState::Finished, self.args.clock.now());
                }
                let attempt = self.lifecycle.attempt();
                let _ = self.coordinator.cast(CoordinatorMessage::Subtask { attempt, id, event });
            }
        }
    }

    fn begin_checkpoints(&self) {
        let uid = |vertex: &usize| self.args.graph.vertices[*vertex].chain[0].uid.clone();
        let enumerators = self.enumerators.iter();
        let _ = self.coordinator.cast(CoordinatorMessage::Begin {
            attempt: self.lifecycle.attempt(),
            subtasks: self.subtasks.clone(),
            enumerators: enumerators.map(|(vertex, actor)| (uid(vertex), *vertex, actor.clone())).collect(),
        });
    }

    fn on_checkpoint(&mut self, myself: &ActorRef<JobMasterMessage>, event: CheckpointEvent) {
        match event {
            CheckpointEvent::Completed { metadata, report, publishes } => {
                if publishes {
                    self.completed.push(metadata);
                    let retained = self.args.config.checkpoint.retained;
                    let surplus = self.completed.len().saturating_sub(retained);
                    self.completed.drain(..surplus);
                }
                self.args.status.send_modify(|status| {
                    status.checkpoints_completed += 1;
                    let last = if report.savepoint {
                        &mut status.last_savepoint
                    } else {
                        &mut status.last_checkpoint
                    };
                    *last = Some(report);
                });
            }
            CheckpointEvent::Failed { checkpoint, reason, fails_job } => {
                self.args.status.send_modify(|status| status.checkpoints_failed += 1);
                if fails_job {
                    self.fail(myself, Failure::of(&format!("checkpoint {checkpoint}"), reason));
                }
            }
            CheckpointEvent::CommitFailed(failure) => self.fail(myself, failure),
            CheckpointEvent::Deposed if self.lifecycle.is_deposed() => myself.stop(Some(DEPOSED.into())),
            CheckpointEvent::Deposed => {}
            CheckpointEvent::AllPublished => {
                if self.lifecycle.on_done() {
                    self.stop_attempt(myself);
                }
            }
        }
    }

    /// Has the attempt's subtasks stop, so that the next attempt begins with another graph. Where they stop with a
    /// checkpoint, it takes over the state that they leave on their Workers.
    fn rescale(
        &mut self,
        myself: &ActorRef<JobMasterMessage>,
        next: NextGraph,
        reply: oneshot::Sender<Result<RescaleReport, NotRescaled>>,
    ) {
        if self.next.is_some() || !self.lifecycle.may_rescale() {
            let why = match self.lifecycle.is_ending() {
                true => NotRescaled::Ending,
                false => NotRescaled::Refused("not all of the job's subtasks run".into()),
            };
            drop(reply.send(Err(why)));
            return;
        }
        let workers = self.workers.keys().copied().collect();
        let vertices = self.args.graph.vertices.iter();
        let former =
            vertices.filter_map(|vertex| Some((vertex.chain.first()?.uid.clone(), vertex.parallelism)));
        let former = former.collect();
        let since = self.args.clock.now();
        self.rescaling = Some(Rescaling { since, workers, took_over: 0, former, reply });
        self.next = Some(next);
        let (reply, paused) = oneshot::channel();
        let _ = self.coordinator.cast(CoordinatorMessage::Pause { reply });
        let (myself, attempt) = (myself.clone(), self.lifecycle.attempt());
        self.tasks.spawn(async move {
            match tokio::time::timeout(PAUSE_TIMEOUT, paused).await {
                Ok(Ok(Ok(_))) => {}
                Ok(Ok(Err(reason))) => tracing::info!("rescaled from an older checkpoint: {reason}"),
                Ok(Err(_)) | Err(_) => tracing::info!("rescaled from an older checkpoint: subtasks are slow"),
            }
            let _ = myself.cast(JobMasterMessage::Paused(attempt));
        });
    }

    fn on_paused(&mut self, myself: &ActorRef<JobMasterMessage>) {
        if self.lifecycle.on_rescale() {
            self.stop_attempt(myself);
        }
    }

    /// No subtask of the last attempt is left: what comes next has the new graph, if there is one.
    fn take_next_graph(&mut self) {
        let Some(NextGraph { graph, rescaled }) = self.next.take() else { return };
        let _ = self.coordinator.cast(CoordinatorMessage::Graph(Arc::clone(&graph)));
        self.execution = ExecutionGraph::new(&graph);
        self.args.graph = graph;
        self.rescaled = Some(rescaled);
        if self.needs == Needs::Nothing {
            self.needs = Needs::OtherSlots;
        }
    }

    /// The job runs again.
    fn on_rescaled(&mut self) {
        let Some(rescaling) = self.rescaling.take() else { return };
        let Rescaling { since, workers, took_over, former, reply } = rescaling;
        let changed = self.args.graph.vertices.iter().filter_map(|now| {
            let former = *former.get(&now.chain.first()?.uid)?;
            (now.parallelism != former).then(|| (now.name.clone(), former, now.parallelism))
        });
        let vertices = changed.collect();
        let number = self.rescaled.as_ref().map_or(0, |rescaled| rescaled.times);
        let at = self.args.clock.now();
        let kept = self.workers.keys().filter(|worker| workers.contains(worker)).count();
        let (workers, subtasks) = ((kept, self.workers.len()), (took_over, self.subtasks.len()));
        let report = RescaleReport { number, at, pause_ms: at - since, workers, subtasks, vertices };
        tracing::info!(job = %self.args.job, ?report, "rescaled");
        self.args.status.send_modify(|status| {
            status.rescales.push(report.clone());
            let surplus = status.rescales.len().saturating_sub(REMEMBERED_RESCALES);
            status.rescales.drain(..surplus);
        });
        let _ = reply.send(Ok(report));
    }

    fn savepoint(&mut self, target: Option<String>, stop: bool, reply: SavepointReply) {
        let configured = self.args.config.savepoint.dir.as_ref().map(|dir| dir.display().to_string());
        let Some(target) = target.or(configured) else {
            let why = "no folder for the savepoint: name one, or set 'savepoint.dir'";
            drop(reply.send(Err(why.into())));
            return;
        };
        // Every process that takes part must find the same place.
        let message = match CheckpointStore::open(&target) {
            Ok(store) => CoordinatorMessage::Savepoint { target: store.location().to_string(), stop, reply },
            Err(error) => {
                drop(reply.send(Err(hurtig_dataflow::error::describe(&error))));
                return;
            }
        };
        let _ = self.coordinator.cast(message);
    }

    fn fail(&mut self, myself: &ActorRef<JobMasterMessage>, failure: Failure) {
        // The user is told once: below if the job is tried again, else by whoever waits for its end.
        tracing::debug!(job = %self.args.job, attempt = self.lifecycle.attempt().0, "{failure}");
        let (attempt, now) = (self.lifecycle.attempt(), self.args.clock.now());
        if self.lifecycle.on_failure(failure.clone()) {
            self.args.observer.on_failure(&failure, attempt, now);
            self.stop_attempt(myself);
        }
    }

    fn stop_attempt(&mut self, myself: &ActorRef<JobMasterMessage>) {
        let attempt = self.lifecycle.attempt();
        self.args.observer.on_stopping(self.args.clock.now());
        self.unstopped = self.workers.keys().map(|worker| Some(*worker)).chain([None]).collect();
        let _ = self.coordinator.cast(CoordinatorMessage::Suspend { attempt });
        for enumerator in std::mem::take(&mut self.enumerators).into_values() {
            enumerator.stop(None);
        }
        for worker in self.workers.values() {
            let _ = worker.actor.cast(WorkerMessage::Stop { attempt, master: myself.clone() });
        }
    }

    fn on_stopped(&mut self, myself: &ActorRef<JobMasterMessage>, worker: Option<WorkerId>) {
        if !self.unstopped.remove(&worker) || !self.unstopped.is_empty() {
            return;
        }
        let failed = self.lifecycle.attempt();
        self.args.observer.on_stopped(self.args.clock.now());
        match self.lifecycle.on_stopped(self.args.clock.now()) {
            Next::Restart(delay) => {
                self.take_next_graph();
                if let Some(failure) = self.lifecycle.failure().filter(|_| !delay.is_zero()) {
                    tracing::warn!(job = %self.args.job, attempt = failed.0, ?delay, "tried again after: {failure}");
                }
                let attempt = self.lifecycle.attempt();
                drop(myself.send_after(delay, move || JobMasterMessage::Start(attempt)));
            }
            Next::End => {
                let _ =
                    self.args.resource_manager.cast(ResourceManagerMessage::Release { job: self.args.job });
                self.show();
                let (store, job, myself) = (self.args.store.clone(), self.args.job, myself.clone());
                let mastership = self.args.mastership.clone();
                self.tasks.spawn(async move {
                    let ended = async {
                        if let Some(mastership) = mastership {
                            mastership.end().await?;
                        }
                        store.delete_job(job, failed).await
                    };
                    if let Err(error) = ended.await {
                        let error = hurtig_dataflow::error::describe(&error);
                        tracing::warn!(%job, "files of unfinished checkpoints remain: {error}");
                    }
                    myself.stop(None);
                });
            }
        }
    }
}
