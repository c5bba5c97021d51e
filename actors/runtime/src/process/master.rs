//! A master's process: runs one job's JobMaster, which works as it does when embedded.
//!
//! Its host stands between it and other processes: to the JobMaster it is the ResourceManager, passing requests for
//! slots to the JobManager, and it has a stub for each worker. The JobManager may go and come back meanwhile: the host
//! dials it again and the job goes on.

use crate::clock::Clock;
use crate::config::Config;
use crate::machine::Machine;
use crate::master::coordinator::SavepointReply;
use crate::master::{Arguments as JobMasterArguments, DEPOSED, JobMaster, JobMasterMessage};
use crate::node::{Node, NodeEvent, Peer, PeerId, Reply, TellError, decode};
use crate::observe::Observer;
use crate::process::worker::{any_port, node_options, store_of};
use crate::process::{Built, Replan};
use crate::profile::PROFILE_TIMEOUT;
use crate::protocol::{
    Answer, Assignment, FromMaster, FromWorker, GraphSummary, MasterSpec, NotRescaled, Profile, Rescaled,
    ToMaster, ToSubtask, ToWorker,
};
use crate::report::{JobStatus, RescaleReport};
use crate::resource::{NoSlots, ResourceManagerMessage, SlotGrant};
use crate::stub;
use crate::subtask::SubtaskMessage;
use crate::subtask::neighbours::SubtaskRef;
use crate::tasks::Tasks;
use crate::worker::WorkerMessage;
use crate::worker::links::WorkerId;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::{JobGraph, SlotsWanted};
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId};
use hurtig_state::{CheckpointMetadata, CheckpointStore, Error, Mastership, TakenOver};
use hurtig_transport::{Identity, Peer as Whom, Role, Tls};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// How long workers whose processes were started may take to connect.
const WORKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two tries to reach the JobManager.
const REDIAL_DELAY: Duration = Duration::from_millis(500);

/// Between two messages with the job's status.
const STATUS_DELAY: Duration = Duration::from_millis(100);

/// Attempts that a master may make before the next one's begin.
const ATTEMPTS_PER_MASTER: u32 = 1_000_000;

/// More would have attempts that cannot be counted.
const MAX_MASTERS: u32 = u32::MAX / ATTEMPTS_PER_MASTER;

/// What the host is told.
enum HostMessage {
    /// From the node.
    Node(NodeEvent),
    /// From the JobMaster, to whom this is the ResourceManager.
    Resource(ResourceManagerMessage),
    /// From its own task: the job's status has changed.
    StatusChanged,
    /// From its own task: the JobManager could not be reached.
    Redial,
    /// From itself: the JobManager has been away too long.
    Orphaned(u64),
    /// From its own task: another master has the job.
    Deposed,
    /// From itself: workers have had their time to connect.
    WorkersDue(Attempt),
}
impl ractor::Message for HostMessage {}

struct Host;

/// A worker that has connected.
struct Connected {
    peer: Peer,
    actor: ActorRef<WorkerMessage>,
    address: String,
}

/// What an attempt has asked for and not been given yet.
struct Request {
    attempt: Attempt,
    slots: Vec<SlotsWanted>,
    keeps: bool,
    /// Those that were granted, of which not all have connected.
    workers: Option<Vec<(WorkerId, Vec<usize>)>>,
}

impl Request {
    fn expects(&self, worker: WorkerId) -> bool {
        self.workers.iter().flatten().any(|(expected, _)| *expected == worker)
    }
}

struct State {
    job: JobId,
    replan: Replan,
    /// Whether another graph was wanted: workers of it may come though this master has none.
    was_rescaled: bool,
    /// How often the job was rescaled before it had the graph that it has.
    rescaled: Arc<AtomicU32>,
    spec: Arc<MasterSpec>,
    address: String,
    node: Node,
    tls: Tls,
    job_manager: Option<Peer>,
    orphan_timeout: Duration,
    /// How often the JobManager went away.
    absences: u64,
    mastership: Mastership,
    master: ActorRef<JobMasterMessage>,
    status: watch::Sender<JobStatus>,
    observer: Observer,
    clock: Clock,
    workers: BTreeMap<WorkerId, Connected>,
    by_peer: BTreeMap<PeerId, WorkerId>,
    request: Option<Request>,
    tasks: Tasks,
    done: Option<oneshot::Sender<()>>,
}

struct Arguments {
    job: JobId,
    /// How often the job was rescaled before.
    rescaled: u32,
    graph: Arc<JobGraph>,
    replan: Replan,
    config: Config,
    spec: MasterSpec,
    tls: Tls,
    machine: Machine,
    done: oneshot::Sender<()>,
}

/// Runs a job's master to the job's end.
///
/// # Errors
/// It cannot begin.
pub async fn run(
    assignment: &Assignment,
    spec: MasterSpec,
    Built { graph, config, replan }: Built,
    machine: Machine,
) -> Result<(), String> {
    if let Some(difference) = spec.graph.difference(&GraphSummary::new(&graph)) {
        return Err(different(&difference));
    }
    let tls = Identity::from_bytes(&spec.identity).and_then(Tls::new).map_err(|error| describe(&error))?;
    let (done, ended) = oneshot::channel();
    let rescaled = assignment.call.rescales();
    let (job, graph) = (assignment.job, Arc::new(graph));
    let arguments = Arguments { job, rescaled, graph, replan, config, spec, tls, machine, done };
    let (_, host) = Actor::spawn(None, Host, arguments).await.map_err(|error| error.to_string())?;
    let _ = ended.await;
    let _ = host.await;
    Ok(())
}

fn different(difference: &str) -> String {
    format!(
        "the program builds another job graph than when it was planned: {difference}; a graph must depend on nothing but the program's arguments"
    )
}

impl Actor for Host {
    type Msg = HostMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<HostMessage>,
        args: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let spec = Arc::new(args.spec);
        let events = {
            let myself = myself.clone();
            Arc::new(move |event| drop(myself.cast(HostMessage::Node(event))))
        };
        let options = node_options(&args.config);
        let node = args.machine.node(options, events, Some(myself.get_cell())).await?;
        let local = any_port(&spec.host).await?;
        let local = node.listen(local, &args.tls, |name| name.role() == Role::Worker).await?;
        let resource_manager = stub::spawn(myself.get_cell(), {
            let myself = myself.clone();
            move |message| drop(myself.cast(HostMessage::Resource(message)))
        });
        let orphan_timeout = args.config.cluster.orphan_timeout;
        let clock = Clock::new();
        let store = store_of(&args.config, args.job)?;
        let (status, changes) = watch::channel(JobStatus::new(args.job, &args.graph.name, spec.started_at));
        // Before it looks what there is: what it does not see, nobody before it can complete any more.
        let name = format!("{:032x}", args.machine.random());
        let claimed = store.claim(args.job, spec.number, &name).await;
        let mastership = claimed.map_err(|error| describe(&error))?;
        if mastership.number() > MAX_MASTERS {
            return Err(format!("the job has had {MAX_MASTERS} masters, more than are counted: submit it again from its last checkpoint").into());
        }
        let (completed, first_checkpoint) = completed_before(&store, &mastership, args.job, &spec).await?;
        let observer = Observer::new(args.config.settings(), args.config.checkpoint.retained);
        let arguments = JobMasterArguments {
            job: args.job,
            graph: args.graph,
            config: args.config,
            store,
            clock,
            resource_manager: resource_manager.await?,
            status: status.clone(),
            observer: observer.clone(),
            faults: None,
            first_attempt: first_attempt(&mastership),
            completed,
            first_checkpoint,
            mastership: Some(mastership.clone()),
        };
        let (master, _) = Actor::spawn_linked(None, JobMaster, arguments, myself.get_cell()).await?;
        let tasks = Tasks::default();
        tasks.spawn(watch_status(changes, myself.clone()));
        myself.cast(HostMessage::Redial)?;
        drop(myself.send_after(orphan_timeout, || HostMessage::Orphaned(0)));
        Ok(State {
            job: args.job,
            replan: args.replan,
            was_rescaled: false,
            rescaled: Arc::new(AtomicU32::new(args.rescaled)),
            orphan_timeout,
            absences: 0,
            mastership,
            address: format!("{}:{}", spec.host, local.port()),
            spec,
            node,
            tls: args.tls,
            job_manager: None,
            master,
            status,
            observer,
            clock,
            workers: BTreeMap::new(),
            by_peer: BTreeMap::new(),
            request: None,
            tasks,
            done: Some(args.done),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<HostMessage>,
        message: HostMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            HostMessage::Node(NodeEvent::Connected(peer)) => state.on_connected(peer),
            HostMessage::Node(NodeEvent::Lost { peer, reason }) => state.on_lost(&myself, &peer, &reason),
            HostMessage::Node(NodeEvent::Received { from, message, reply }) => {
                if from.name().role() == Role::Worker {
                    state.on_worker(&myself, &from, &message).await?;
                } else {
                    state.on_job_manager(&myself, &message, reply);
                }
            }
            HostMessage::Resource(ResourceManagerMessage::Request { attempt, slots, keeps, .. }) => {
                if !keeps {
                    state.release();
                }
                state.tell_job_manager(&FromMaster::Request { attempt, slots: slots.clone(), keeps });
                state.request = Some(Request { attempt, slots, keeps, workers: None });
            }
            HostMessage::Resource(ResourceManagerMessage::Release { .. }) => {
                state.release();
                state.tell_job_manager(&FromMaster::Release);
            }
            HostMessage::Resource(_) => {}
            HostMessage::StatusChanged => state.show(),
            HostMessage::Redial => state.redial(&myself),
            HostMessage::Orphaned(absences) => state.on_orphaned(&myself, absences),
            HostMessage::Deposed => state.on_deposed(&myself),
            HostMessage::WorkersDue(attempt) => state.on_workers_due(attempt),
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<HostMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) if who.get_id() == state.master.get_id() => {
                state.on_master_gone(&error.to_string());
            }
            SupervisionEvent::ActorTerminated(who, _, Some(reason)) if reason == DEPOSED => {
                debug_assert!(who.get_id() == state.master.get_id());
                state.on_deposed(&myself);
            }
            SupervisionEvent::ActorTerminated(who, _, _) if who.get_id() == state.master.get_id() => {
                state.on_master_gone("it was stopped");
            }
            SupervisionEvent::ActorFailed(_, error) => {
                tracing::error!("the master ends: {error}");
                state.end(&myself);
            }
            _ => {}
        }
        Ok(())
    }
}

/// A master's attempts are its own.
fn first_attempt(mastership: &Mastership) -> Attempt {
    Attempt(mastership.number().saturating_sub(1) * ATTEMPTS_PER_MASTER + 1)
}

/// What masters before this one have completed, oldest first, and the number of its first checkpoint.
///
/// The store knows, not the JobManager: that hears of a checkpoint after its output is published and older checkpoints
/// are deleted, or does not hear of it at all.
async fn completed_before(
    store: &CheckpointStore,
    mastership: &Mastership,
    job: JobId,
    spec: &MasterSpec,
) -> Result<(Vec<Arc<CheckpointMetadata>>, CheckpointId), String> {
    let taken = mastership.take_over(store, job, first_attempt(mastership)).await;
    let TakenOver { completed: found, next_checkpoint } = taken.map_err(|error| describe(&error))?;
    if let (true, Some(known)) = (found.is_empty(), spec.completed.last()) {
        return Err(format!(
            "no checkpoint of the job is left, not even {known}: begun anew it would publish its results again; cancel it, and submit it again if that is wanted"
        ));
    }
    Ok((found.into_iter().rev().map(Arc::new).collect(), next_checkpoint))
}

/// Says when the status has changed, not too often.
async fn watch_status(mut changes: watch::Receiver<JobStatus>, host: ActorRef<HostMessage>) {
    while changes.changed().await.is_ok() {
        let ended = changes.borrow_and_update().state.is_terminal();
        if host.cast(HostMessage::StatusChanged).is_err() || ended {
            return;
        }
        tokio::time::sleep(STATUS_DELAY).await;
    }
}

impl State {
    fn tell_job_manager(&self, message: &FromMaster) {
        if let Some(peer) = &self.job_manager
            && let Err(error) = peer.tell(message)
        {
            match error {
                TellError::TooLong { .. } | TellError::Encode(_) => {
                    tracing::error!("the JobManager cannot be told: {error}");
                }
                // What it has not heard it is told again when it is back.
                _ => tracing::debug!("the JobManager is not told: {error}"),
            }
        }
    }

    fn show(&self) {
        let mut status = self.status.borrow().clone();
        // They are with what is observed, for those who ask.
        status.subtasks.values_mut().for_each(|report| report.users.clear());
        if status.state.is_terminal() {
            let last = self.observer.observation(None);
            self.tell_job_manager(&FromMaster::Observed(Box::new(last)));
        }
        self.tell_job_manager(&FromMaster::Status(Box::new(status)));
    }

    fn redial(&mut self, myself: &ActorRef<HostMessage>) {
        let (node, tls, address) = (self.node.clone(), self.tls.clone(), self.spec.job_manager.clone());
        let (mastership, myself) = (self.mastership.clone(), myself.clone());
        let status = self.status.subscribe();
        self.tasks.spawn(async move {
            if let Err(error) = node.dial(&address, &tls, &Whom::Any(Role::JobManager)).await {
                tracing::debug!("no JobManager at {address}: {}", describe(&error));
                // Another JobManager may lead, which has given the job to another master. A job that has ended has no
                // claims any more, and its master one thing to do: to tell how.
                if let Err(Error::Deposed { .. }) = mastership.confirm().await
                    && !status.borrow().state.is_terminal()
                {
                    let _ = myself.cast(HostMessage::Deposed);
                    return;
                }
                tokio::time::sleep(REDIAL_DELAY).await;
                let _ = myself.cast(HostMessage::Redial);
            }
        });
    }

    fn on_connected(&mut self, peer: Peer) {
        if peer.name().role() != Role::JobManager {
            return;
        }
        self.job_manager = Some(peer);
        let rescaled = self.rescaled.load(Ordering::Relaxed);
        self.tell_job_manager(&FromMaster::Ready { address: self.address.clone(), rescaled });
        self.show();
        if let Some(Request { attempt, slots, keeps, .. }) = &self.request {
            let (attempt, slots, keeps) = (*attempt, slots.clone(), *keeps);
            self.tell_job_manager(&FromMaster::Request { attempt, slots, keeps });
        }
    }

    fn on_lost(&mut self, myself: &ActorRef<HostMessage>, peer: &Peer, reason: &str) {
        if self.job_manager.as_ref() == Some(peer) {
            self.job_manager = None;
            self.expect_job_manager(myself);
            let myself = myself.clone();
            self.tasks.spawn(async move {
                tokio::time::sleep(REDIAL_DELAY).await;
                let _ = myself.cast(HostMessage::Redial);
            });
        } else if let Some(worker) = self.by_peer.remove(&peer.id())
            && self.workers.remove(&worker).is_some()
        {
            self.on_worker_lost(worker, format!("its connection is lost: {reason}"));
        }
    }

    fn expect_job_manager(&mut self, myself: &ActorRef<HostMessage>) {
        self.absences += 1;
        let absences = self.absences;
        drop(myself.send_after(self.orphan_timeout, move || HostMessage::Orphaned(absences)));
    }

    /// Nobody will ever ask for this job: it ends without a trace, and a JobManager that comes later starts it again.
    fn on_orphaned(&mut self, myself: &ActorRef<HostMessage>, absences: u64) {
        if self.job_manager.is_none() && self.absences == absences {
            tracing::error!("no JobManager for {} s: the master ends", self.orphan_timeout.as_secs());
            self.end(myself);
        }
    }

    fn on_job_manager(&mut self, myself: &ActorRef<HostMessage>, message: &[u8], reply: Option<Reply>) {
        match decode::<ToMaster>(message) {
            Ok(ToMaster::Slots(attempt, result)) => {
                // Of an attempt that is over, or that has them already.
                let Some(request) = self.request.as_mut().filter(|request| request.attempt == attempt) else {
                    return;
                };
                match result {
                    Ok(workers) => {
                        let is_granted =
                            |worker: &WorkerId| workers.iter().any(|(granted, _)| granted == worker);
                        let left: Vec<WorkerId> =
                            self.workers.keys().filter(|worker| !is_granted(worker)).copied().collect();
                        request.workers = Some(workers);
                        left.into_iter().for_each(|worker| self.dismiss(worker));
                        drop(myself.send_after(WORKER_TIMEOUT, move || HostMessage::WorkersDue(attempt)));
                        self.hire_if_connected();
                    }
                    Err(refused) => self.refuse(refused),
                }
            }
            Ok(ToMaster::WorkerEnded(worker, reason)) => {
                if let Some(Connected { peer, .. }) = self.workers.remove(&worker) {
                    self.by_peer.remove(&peer.id());
                }
                self.on_worker_lost(worker, reason);
            }
            Ok(ToMaster::TaskManagerLost(worker)) => {
                // One that has connected can do without.
                if !self.workers.contains_key(&worker) {
                    self.on_worker_lost(worker, "its TaskManager is gone".into());
                }
            }
            Ok(ToMaster::Cancel) => drop(self.master.cast(JobMasterMessage::Cancel)),
            Ok(ToMaster::Savepoint { target, stop }) => {
                if let Some(reply) = reply {
                    self.take(|reply| JobMasterMessage::Savepoint { target, stop, reply }, reply);
                }
            }
            Ok(ToMaster::Rescale { rescaled, graph }) => {
                if let Some(reply) = reply {
                    self.rescale(rescaled, graph, reply);
                }
            }
            Ok(ToMaster::Checkpoint) => {
                if let Some(reply) = reply {
                    self.take(|reply| JobMasterMessage::CheckpointNow { reply }, reply);
                }
            }
            Ok(ToMaster::Observe { checkpoint }) => {
                if let Some(reply) = reply {
                    reply.send(&self.observer.observation(checkpoint));
                }
            }
            Ok(ToMaster::Profile { worker, duration }) => {
                if let Some(reply) = reply {
                    self.profile(worker, duration, reply);
                }
            }
            Ok(ToMaster::Settle) => {
                if let Some(reply) = reply {
                    let (settled, answer) = oneshot::channel();
                    let _ = self.master.cast(JobMasterMessage::Settle { reply: settled });
                    self.tasks.spawn(async move {
                        // A master that has ended has nothing under way.
                        let _ = answer.await;
                        reply.send(&());
                    });
                }
            }
            Ok(ToMaster::Goodbye) => self.end(myself),
            Err(error) => tracing::error!("a message of the JobManager cannot be read: {error}"),
        }
    }

    /// Of one that nobody knows the JobMaster takes no notice.
    fn on_worker_lost(&mut self, worker: WorkerId, reason: String) {
        if self.request.as_ref().is_some_and(|request| request.expects(worker)) {
            let reason = format!("worker {worker} could not begin: {reason}");
            self.refuse(NoSlots { reason, is_final: false });
        } else {
            let _ = self.master.cast(JobMasterMessage::WorkerLost { worker, reason });
        }
    }

    /// Has the job go on with another graph. Whatever comes of it, workers that are started from now on have that one.
    fn rescale(&mut self, rescaled: Rescaled, graph: GraphSummary, reply: Reply) {
        self.was_rescaled = true;
        let planned = (self.replan)(&rescaled).and_then(|planned| {
            match graph.difference(&GraphSummary::new(&planned)) {
                None => Ok(planned),
                Some(difference) => Err(different(&difference)),
            }
        });
        let planned = match planned {
            Ok(planned) => Arc::new(planned),
            Err(reason) => return reply.send(&Result::<RescaleReport, _>::Err(NotRescaled::Refused(reason))),
        };
        Arc::make_mut(&mut self.spec).graph = graph;
        let (times, has_graph) = (rescaled.times, Arc::clone(&self.rescaled));
        let (answer, rescaling) = oneshot::channel();
        let message = JobMasterMessage::Rescale { graph: planned, rescaled, reply: answer };
        let _ = self.master.cast(message);
        self.tasks.spawn(async move {
            let result = rescaling.await.unwrap_or(Err(NotRescaled::Ending));
            if result.is_ok() {
                has_graph.store(times, Ordering::Relaxed);
            }
            reply.send(&result);
        });
    }

    fn profile(&self, worker: WorkerId, duration: Duration, reply: Reply) {
        let Some(peer) = self.workers.get(&worker).map(|connected| connected.peer.clone()) else {
            return reply.send(&Answer::<Profile>::Err(format!("there is no worker {worker}")));
        };
        self.tasks.spawn(async move {
            let limit = duration + PROFILE_TIMEOUT;
            let asked = peer.ask::<_, Answer<Profile>>(&ToWorker::Profile(duration), limit).await;
            reply.send(&asked.unwrap_or_else(|error| Err(error.to_string())));
        });
    }

    /// Ends a worker that has no slots any more.
    fn dismiss(&mut self, worker: WorkerId) {
        if let Some(Connected { peer, actor, .. }) = self.workers.remove(&worker) {
            self.by_peer.remove(&peer.id());
            peer.close("its slots are given back");
            actor.stop(None);
        }
    }

    /// Asks the JobMaster for a savepoint or a checkpoint.
    fn take(&self, question: impl FnOnce(SavepointReply) -> JobMasterMessage, reply: Reply) {
        let (answer, taken) = oneshot::channel();
        let _ = self.master.cast(question(answer));
        self.tasks.spawn(async move {
            let result: Answer<String> =
                taken.await.unwrap_or_else(|_| Err("the job has ended meanwhile".into()));
            reply.send(&result);
        });
    }

    async fn on_worker(
        &mut self,
        myself: &ActorRef<HostMessage>,
        from: &Peer,
        message: &[u8],
    ) -> Result<(), ActorProcessingErr> {
        let message = match decode::<FromWorker>(message) {
            Ok(message) => message,
            Err(error) => {
                from.close(&format!("its message cannot be read: {error}"));
                return Ok(());
            }
        };
        if let FromWorker::Ready { worker, address, graph } = message {
            if from.name().id() != worker.certified_as() || self.by_peer.contains_key(&from.id()) {
                from.close("it says that it is another worker");
                return Ok(());
            }
            if let Some(difference) = self.spec.graph.difference(&graph) {
                // A master that is to have another graph, and has not, is about to be replaced.
                let is_final = !self.was_rescaled;
                self.refuse(NoSlots { reason: different(&difference), is_final });
                return Ok(());
            }
            let peer = from.clone();
            let actor = stub::spawn(myself.get_cell(), move |message| {
                if let Some(message) = to_wire(message) {
                    // One that is gone is reported by the node.
                    let _ = peer.tell(&message);
                }
            });
            self.by_peer.insert(from.id(), worker);
            let connected = Connected { peer: from.clone(), actor: actor.await?, address };
            self.workers.insert(worker, connected);
            self.hire_if_connected();
            return Ok(());
        }
        let Some(worker) = self.by_peer.get(&from.id()).copied() else { return Ok(()) };
        let Some(Connected { actor, .. }) = self.workers.get(&worker) else { return Ok(()) };
        let message = match message {
            FromWorker::Ready { .. } => return Ok(()),
            FromWorker::Deployed(attempt, result) => {
                let at = |id| (id, SubtaskRef::At { worker: actor.clone(), attempt, id });
                let result = result.map(|subtasks| subtasks.into_iter().map(at).collect());
                JobMasterMessage::Deployed { attempt, result }
            }
            FromWorker::Subtask(attempt, id, event) => JobMasterMessage::Subtask { attempt, id, event },
            FromWorker::Failed(attempt, failure) => JobMasterMessage::SubtaskFailed { attempt, failure },
            FromWorker::Stopped(attempt) => JobMasterMessage::Stopped { attempt, worker: Some(worker) },
        };
        // If it has failed, so has this host.
        let _ = self.master.cast(message);
        Ok(())
    }

    /// Gives the JobMaster its slots once their workers are there.
    fn hire_if_connected(&mut self) {
        let all_there = |request: &mut Request| {
            let there = |(worker, _): &(WorkerId, Vec<usize>)| self.workers.contains_key(worker);
            request.workers.as_ref().is_some_and(|workers| workers.iter().all(there))
        };
        let Some(Request { attempt, workers, .. }) = self.request.take_if(all_there) else { return };
        let grant = |(worker, slots): (WorkerId, Vec<usize>)| {
            let connected = &self.workers[&worker];
            let address = Some(connected.address.clone());
            SlotGrant { worker, actor: Some(connected.actor.clone()), address, slots }
        };
        let grants = workers.into_iter().flatten().map(grant).collect();
        let _ = self.master.cast(JobMasterMessage::Slots { attempt, result: Ok(grants) });
    }

    fn refuse(&mut self, refused: NoSlots) {
        if let Some(Request { attempt, .. }) = self.request.take() {
            let _ = self.master.cast(JobMasterMessage::Slots { attempt, result: Err(refused) });
        }
    }

    fn on_workers_due(&mut self, attempt: Attempt) {
        if self.request.as_ref().is_some_and(|request| request.attempt == attempt) {
            let seconds = WORKER_TIMEOUT.as_secs();
            let reason = format!("workers were started and did not connect within {seconds} s");
            self.refuse(NoSlots { reason, is_final: false });
        }
    }

    /// Workers end with their connection.
    fn release(&mut self) {
        self.request = None;
        let workers: Vec<WorkerId> = self.workers.keys().copied().collect();
        workers.into_iter().for_each(|worker| self.dismiss(worker));
    }

    fn on_master_gone(&mut self, reason: &str) {
        let now = self.clock.now();
        self.status.send_if_modified(|status| status.on_master_gone(reason, now));
        self.show();
    }

    fn on_deposed(&mut self, myself: &ActorRef<HostMessage>) {
        tracing::error!("the master ends: {DEPOSED}");
        self.end(myself);
    }

    fn end(&mut self, myself: &ActorRef<HostMessage>) {
        tracing::debug!(job = %self.job, "the master ends");
        if let Some(done) = self.done.take() {
            let _ = done.send(());
        }
        myself.stop(None);
    }
}

/// What a JobMaster tells a Worker, as it travels.
fn to_wire(message: WorkerMessage) -> Option<ToWorker> {
    match message {
        WorkerMessage::Deploy { attempt, deployments, restored_from, rescaled, .. } => {
            let settings = deployments.first()?.settings.clone();
            let subtasks = deployments.iter().map(|deployment| deployment.id).collect();
            Some(ToWorker::Deploy { attempt, subtasks, settings, restored_from, rescaled })
        }
        WorkerMessage::Start { attempt, placement, .. } => {
            Some(ToWorker::Start(attempt, (*placement).clone()))
        }
        WorkerMessage::Stop { attempt, .. } => Some(ToWorker::Stop(attempt)),
        WorkerMessage::ToSubtask { attempt, id, message } => {
            let message = match message {
                SubtaskMessage::Assigned(assignment) => ToSubtask::Assigned(assignment),
                SubtaskMessage::Trigger(barrier) => ToSubtask::Trigger(barrier),
                SubtaskMessage::Completed(checkpoint) => ToSubtask::Completed(checkpoint),
                SubtaskMessage::Aborted(checkpoint) => ToSubtask::Aborted(checkpoint),
                _ => return None,
            };
            Some(ToWorker::Subtask(attempt, id, message))
        }
        WorkerMessage::Connected { .. } | WorkerMessage::LinkLost { .. } | WorkerMessage::Observe { .. } => {
            None
        }
    }
}
