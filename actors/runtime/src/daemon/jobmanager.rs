//! The JobManager's process: accepts programs, has each planned, gives each job a master process and slots.
//!
//! Root of its process, with the ResourceManager and a child for each program it has started. A master that ends
//! before its job is started again, from the last checkpoint that lies in its store. When the JobManager itself ends,
//! masters and workers go on; one that is started again in the same folder finds the jobs in its memory and waits for
//! their masters to come back, and replaces those that do not.

mod autoscaler;
mod clients;
mod job;
mod rescale;

use crate::clock::Clock;
use crate::config::Config;
use crate::daemon::client::ClusterClient;
use crate::daemon::memory::{JobMemory, Programs, RememberedJob, Upload};
use crate::machine::Machine;
use crate::node::{Node, NodeError, NodeEvent, Peer, PeerId, Reply, decode};
use crate::process::child::{ChildMessage, start_error};
use crate::process::worker::{any_port, node_options};
use crate::protocol::{
    Advice, Answer, Assignment, Call, ClientRequest, FromMaster, FromTaskManager, Hardware, NotRescaled,
    Plan, RoleSpec, Submitted, ToMaster, ToTaskManager,
};
use crate::report::RescaleReport;
use crate::resource::{self, Offer, ResourceManager, ResourceManagerMessage, Share, Standalone};
use crate::status::JobState;
use crate::stub;
use crate::taskmanager::TaskManagerMessage;
use crate::tasks::{Tasks, blocking};
use crate::worker::links::WorkerId;
use autoscaler::Autoscaler;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::SlotsWanted;
use hurtig_dataflow::ids::JobId;
use hurtig_transport::{Role, Tls};
use job::Job;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use rescale::Rescale;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// The most slots that a job may ask for: as many as a vertex can have subtasks, for 32 sharing groups.
const MAX_SLOTS: usize = 1 << 20;

/// The most slots that a TaskManager may offer, as its configuration allows.
const MAX_OFFERED: usize = 32_768;

/// How long a program may take to build its job.
const PLANNING_TIMEOUT: Duration = Duration::from_secs(60);

/// What the JobManager's process is told.
pub enum DaemonMessage {
    /// From the node.
    Node(NodeEvent),
    /// From a client in this process.
    Asked(Box<ClientRequest>, Reply),
    /// From what stands for a job at the ResourceManager: to be passed on to the job's master.
    ToMaster(JobId, ToMaster),
    /// From what stands for a TaskManager at the ResourceManager: run a worker there.
    Launch(PeerId, JobId, WorkerId, Share),
    /// From the same: a job's worker there stands for other slots from now on.
    Share(PeerId, JobId, Share),
    /// From the same: a job's workers there are to end.
    Release(PeerId, JobId),
    /// From itself: the delay before a job's next master is over.
    StartMaster(JobId, u32),
    /// From itself: a master has had its time to come back.
    MasterDue(JobId, u32),
    /// From its own task: a job has taken the checkpoint from which it goes on with another parallelism.
    Rescale(Box<Rescale>),
    /// From the autoscaler: what it has found of a job.
    Advised(JobId, Advice),
    /// From its own task: what came of having a job's master go on with another graph.
    RescaledInPlace(Box<Rescale>, Result<RescaleReport, NotRescaled>),
    /// From itself: a program has had its time to build its job.
    PlanningDue(ActorId),
    /// From whoever runs it: it is to end. Answered, with its node, when no checkpoint is under way that was when it was
    /// asked, or at once if nothing is to be waited for.
    Leave {
        /// How long to wait.
        limit: Duration,
        /// Where to answer.
        done: oneshot::Sender<Node>,
    },
}
impl ractor::Message for DaemonMessage {}

/// What a JobManager's process is made of.
pub struct Options {
    /// Where to listen.
    pub address: SocketAddr,
    /// Its identity in the cluster.
    pub tls: Tls,
    /// Where it keeps files: `jobs/<id>` holds a job's logs and keys.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its jobs.
    pub jobs: Arc<dyn JobMemory>,
    /// The programs it was given.
    pub programs: Arc<dyn Programs>,
    /// What it runs on.
    pub machine: Machine,
}

/// A JobManager that runs in this process.
pub struct JobManagerDaemon {
    actor: ActorRef<DaemonMessage>,
    address: SocketAddr,
}

impl JobManagerDaemon {
    /// Starts it.
    ///
    /// # Errors
    /// A sentence: the address is taken, or what it kept cannot be read.
    pub async fn start(options: Options) -> Result<Self, String> {
        let (reply, address) = oneshot::channel();
        let (actor, _) = Actor::spawn(None, Daemon, (options, reply)).await.map_err(start_error)?;
        let address = address.await.map_err(|_| "the JobManager ended at once".to_string())?;
        Ok(JobManagerDaemon { actor, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of it.
    pub fn client(&self) -> ClusterClient {
        let actor = self.actor.clone();
        ClusterClient::here(Arc::new(move |request, reply| {
            // One that has ended drops the reply, which tells whoever asks.
            let _ = actor.cast(DaemonMessage::Asked(Box::new(request), reply));
        }))
    }

    /// Ends it and the masters of its jobs, and says goodbye; jobs that have not ended are taken up when it is started
    /// again. Waits up to `limit` for checkpoints that are under way.
    pub async fn shutdown(self, limit: Duration) {
        super::end(self.actor, |done| DaemonMessage::Leave { limit, done }).await;
    }

    /// Waits until it ends by itself, which it does only if it fails.
    pub async fn ended(&self) {
        let _ = self.actor.get_cell().wait(None).await;
    }
}

struct Daemon;

struct TaskManager {
    peer: Peer,
    /// The address by which others reach its machine.
    host: String,
    hardware: Hardware,
    stub: ActorRef<TaskManagerMessage>,
}

/// What a graph is planned for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Planned {
    /// A job that is to begin.
    Submitted,
    /// One that is to have another parallelism.
    Rescaled,
}

struct Planning {
    purpose: Planned,
    child: ActorRef<ChildMessage>,
    /// Who waits for it.
    client: PeerId,
    job: JobId,
    call: Call,
    path: PathBuf,
    reply: Option<Reply>,
}

struct State {
    myself: ActorRef<DaemonMessage>,
    clock: Clock,
    config: Config,
    folder: PathBuf,
    memory: Arc<dyn JobMemory>,
    programs: Arc<dyn Programs>,
    random: SmallRng,
    machine: Machine,
    node: Node,
    resource_manager: ActorRef<ResourceManagerMessage>,
    autoscaler: ActorId,
    jobs: BTreeMap<JobId, Job>,
    planning: BTreeMap<ActorId, Planning>,
    task_managers: BTreeMap<PeerId, TaskManager>,
    uploads: BTreeMap<(PeerId, u64), Box<dyn Upload>>,
    last_upload: u64,
    tasks: Tasks,
}

impl Actor for Daemon {
    type Msg = DaemonMessage;
    type State = State;
    type Arguments = (Options, oneshot::Sender<SocketAddr>);

    async fn pre_start(
        &self,
        myself: ActorRef<DaemonMessage>,
        (options, reply): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Options { address, tls, folder, config, jobs, programs, machine } = options;
        let events = {
            let myself = myself.clone();
            Arc::new(move |event| drop(myself.cast(DaemonMessage::Node(event))))
        };
        let remembered = jobs.jobs()?;
        let node = machine.node(node_options(&config), events, Some(myself.get_cell())).await?;
        let seed = machine.random() as u64;
        let arguments = resource::Arguments {
            provider: Box::new(Standalone),
            slot_timeout: config.cluster.slot_timeout,
            placement: config.cluster.slot_placement,
            seed,
            network: None,
        };
        let (resource_manager, _) =
            Actor::spawn_linked(None, ResourceManager, arguments, myself.get_cell()).await?;
        let (autoscaler, _) =
            Actor::spawn_linked(None, Autoscaler, myself.clone(), myself.get_cell()).await?;
        let mut state = State {
            myself,
            clock: Clock::new(),
            config,
            folder,
            memory: jobs,
            programs,
            random: SmallRng::seed_from_u64(seed),
            machine,
            node,
            resource_manager,
            autoscaler: autoscaler.get_id(),
            jobs: BTreeMap::new(),
            planning: BTreeMap::new(),
            task_managers: BTreeMap::new(),
            uploads: BTreeMap::new(),
            last_upload: 0,
            tasks: Tasks::default(),
        };
        for job in remembered {
            state.take_up(job).await?;
        }
        // Last: whoever connects finds all jobs.
        let allow = |name: &hurtig_transport::Name| matches!(name.role(), Role::TaskManager | Role::Client);
        let address = state.node.listen(address, &tls, allow).await.map_err(|error| describe(&error))?;
        let _ = reply.send(address);
        Ok(state)
    }

    async fn handle(
        &self,
        _: ActorRef<DaemonMessage>,
        message: DaemonMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DaemonMessage::Node(NodeEvent::Connected(peer)) => tracing::info!("{peer} has connected"),
            DaemonMessage::Node(NodeEvent::Lost { peer, reason }) => state.on_lost(&peer, &reason),
            DaemonMessage::Node(NodeEvent::Received { from, message, reply }) => match from.name().role() {
                Role::Client => state.on_client(&from, &message, reply).await,
                Role::TaskManager => state.on_task_manager(&from, &message, reply).await?,
                _ => state.on_master(&from, &message).await,
            },
            DaemonMessage::Asked(request, reply) => state.on_request(PeerId::HERE, *request, reply).await,
            DaemonMessage::ToMaster(job, message) => {
                if let Some(job) = state.jobs.get_mut(&job) {
                    job.on_told(&message);
                }
            }
            DaemonMessage::Launch(task_manager, job, worker, share) => {
                state.launch(task_manager, job, worker, share);
            }
            DaemonMessage::Share(task_manager, job, share) => {
                if let Some(TaskManager { peer, .. }) = state.task_managers.get(&task_manager) {
                    let _ = peer.tell(&ToTaskManager::Share(job, share));
                }
            }
            DaemonMessage::Release(task_manager, job) => {
                if let Some(TaskManager { peer, .. }) = state.task_managers.get(&task_manager) {
                    // One that is gone has no workers of ours.
                    let _ = peer.tell(&ToTaskManager::Release(job));
                }
            }
            DaemonMessage::StartMaster(job, masters) => {
                let waits = |job: &Job| job.masters() == masters && !job.has_ended();
                if state.jobs.get(&job).is_some_and(waits) {
                    state.start_master(job).await;
                }
            }
            DaemonMessage::MasterDue(job, masters) => state.on_master_due(job, masters).await,
            DaemonMessage::Rescale(rescale) => state.on_rescale(*rescale),
            DaemonMessage::RescaledInPlace(rescale, result) => {
                state.on_rescaled_in_place(*rescale, result).await;
            }
            DaemonMessage::Advised(job, advice) => {
                if let Some(job) = state.jobs.get_mut(&job) {
                    job.on_advice(advice);
                }
            }
            DaemonMessage::Leave { limit, done } => {
                let node = state.node.clone();
                state.settle(|_| true, limit, move || drop(done.send(node)));
            }
            DaemonMessage::PlanningDue(child) => {
                if let Some(Planning { child, .. }) = state.planning.get(&child) {
                    let seconds = PLANNING_TIMEOUT.as_secs();
                    child.stop(Some(format!("it did not build its job within {seconds} s")));
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<DaemonMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let has_failed = matches!(event, SupervisionEvent::ActorFailed(..));
        let (who, how) = match event {
            SupervisionEvent::ActorTerminated(who, _, how) => (who, how.unwrap_or_default()),
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            _ => return Ok(()),
        };
        if let Some(planning) = state.planning.remove(&who.get_id()) {
            state.on_planned(planning, &how).await;
        } else if let Some(job) = state.jobs.values().find(|job| job.is_master(who.get_id())).map(Job::id) {
            state.on_master_ended(job, &how).await;
        } else if who.get_id() == state.resource_manager.get_id() {
            tracing::error!("the JobManager ends: its ResourceManager has failed: {how}");
            myself.stop(None);
        } else if who.get_id() == state.autoscaler && has_failed {
            tracing::error!("the autoscaler has failed, and begins anew: {how}");
            let begun = Actor::spawn_linked(None, Autoscaler, myself.clone(), myself.get_cell()).await?;
            state.autoscaler = begun.0.get_id();
        }
        Ok(())
    }
}

impl State {
    async fn submit(&mut self, client: PeerId, mut call: Call, reply: Option<Reply>) {
        call.defines.extend(self.cluster_defines());
        // What the job says of its logs comes later, and holds.
        let log = self.config.settings().into_iter().filter(|(key, _)| key.starts_with("log."));
        call.defines.splice(..0, log.map(|(key, value)| format!("{key}={value}")));
        let job = JobId(self.random.random());
        self.plan(Planned::Submitted, client, job, call, reply).await;
    }

    /// Has a program build its graph.
    async fn plan(&mut self, purpose: Planned, client: PeerId, job: JobId, call: Call, reply: Option<Reply>) {
        let folder = self.job_folder(job);
        let path = folder.join("plan");
        // A job that is planned again has one of before, which must not pass for the new; the first time there is none.
        let _ = std::fs::remove_file(&path);
        let assignment = Assignment { job, call: call.clone(), role: RoleSpec::Plan(path.clone()) };
        match self.start(assignment, folder.join("planning")).await {
            Ok(child) => {
                let id = child.get_id();
                self.planning.insert(id, Planning { purpose, child, client, job, call, path, reply });
                drop(self.myself.send_after(PLANNING_TIMEOUT, move || DaemonMessage::PlanningDue(id)));
            }
            Err(reason) => {
                if let Some(reply) = reply {
                    reply.send(&Answer::<Submitted>::Err(reason));
                }
            }
        }
    }

    /// What all processes of the cluster must agree on, and the job's owner has no say in.
    fn cluster_defines(&self) -> Vec<String> {
        let shared = |name: &str| name.starts_with("heartbeat.") || name == "cluster.orphan-timeout";
        self.config
            .describe()
            .into_iter()
            .filter(|key| shared(key.entry.name))
            .filter_map(|key| Some(format!("{}={}", key.entry.name, key.value?)))
            .collect()
    }

    fn job_folder(&self, job: JobId) -> PathBuf {
        self.folder.join("jobs").join(job.to_string())
    }

    async fn start(&self, assignment: Assignment, log: PathBuf) -> Result<ActorRef<ChildMessage>, String> {
        let Some(program) = self.programs.path(&assignment.call.program) else {
            return Err(format!("the program '{}' is not there: submit it again", assignment.call.file_name));
        };
        let arguments = (program, Box::new(assignment), log, None);
        self.machine.start(arguments, self.myself.get_cell()).await
    }

    async fn on_planned(&mut self, planning: Planning, how: &str) {
        let plan =
            std::fs::read(&planning.path).ok().and_then(|bytes| rmp_serde::from_slice::<Plan>(&bytes).ok());
        let plan = plan.unwrap_or_else(|| {
            let file_name = &planning.call.file_name;
            Err(format!("'{file_name}' built no job: {how}; is it a program made with hurtig?"))
        });
        let plan = match plan {
            Ok(graph) if planning.purpose == Planned::Rescaled => {
                return self.on_rescale_planned(planning, graph);
            }
            other => other,
        };
        let Planning { purpose, job, call, reply, .. } = planning;
        let accepted = match plan {
            Ok(graph) => {
                self.accept(job, call, graph.clone()).await.map(|()| Submitted { job, graph, rescaled: None })
            }
            Err(reason) => Err(reason),
        };
        if accepted.is_err() && purpose == Planned::Submitted {
            // Nothing of it is needed; what cannot be removed does no harm.
            let _ = std::fs::remove_dir_all(self.job_folder(job));
        }
        if let Some(reply) = reply {
            reply.send(&accepted);
        }
    }

    fn on_lost(&mut self, peer: &Peer, reason: &str) {
        tracing::info!("{peer} is gone: {reason}");
        self.uploads.retain(|(of, _), _| *of != peer.id());
        for planning in self.planning.values().filter(|planning| planning.client == peer.id()) {
            planning.child.stop(Some("nobody waits for it".into()));
        }
        if let Some(TaskManager { stub, .. }) = self.task_managers.remove(&peer.id()) {
            let task_manager = stub.get_id();
            let _ = self.resource_manager.cast(ResourceManagerMessage::Unregister { task_manager });
            stub.stop(None);
        } else if let Some(job) = self.jobs.values_mut().find(|job| job.is_peer(peer)) {
            job.on_master_lost();
            if !job.has_ended() {
                let (id, masters) = (job.id(), job.masters());
                self.expect_master(id, masters);
            }
        }
    }

    /// A master that is silent but whose process has not ended may come back; then it is replaced.
    fn expect_master(&self, job: JobId, masters: u32) {
        let patience = self.config.heartbeat.timeout * 2;
        drop(self.myself.send_after(patience, move || DaemonMessage::MasterDue(job, masters)));
    }

    async fn on_task_manager(
        &mut self,
        from: &Peer,
        message: &[u8],
        reply: Option<Reply>,
    ) -> Result<(), ActorProcessingErr> {
        match decode::<FromTaskManager>(message) {
            Ok(FromTaskManager::Register { offer, .. }) if offer.slots > MAX_OFFERED => {
                from.close(&format!("it offers more than {MAX_OFFERED} slots"));
            }
            Ok(FromTaskManager::Register { offer, host, hardware, workers }) => {
                let host = host.unwrap_or_else(|| from.address().ip().to_string());
                self.register(from, offer, (host, hardware), workers).await?;
            }
            Ok(FromTaskManager::Leaving) => {
                if let Some(TaskManager { stub, .. }) = self.task_managers.get(&from.id()) {
                    let task_manager = stub.get_id();
                    let _ = self.resource_manager.cast(ResourceManagerMessage::Leaving { task_manager });
                }
                if let Some(reply) = reply {
                    tracing::info!("{from} is about to end");
                    let name = from.name().dns_name();
                    let is_there = |job: &Job| job.placed().values().any(|on| *on == name);
                    self.settle(is_there, self.config.taskmanager.leave_timeout, move || reply.send(&()));
                }
            }
            Ok(FromTaskManager::Started(job, worker)) => {
                if let Some(TaskManager { stub, .. }) = self.task_managers.get(&from.id()) {
                    let task_manager = stub.get_id();
                    let _ = self.resource_manager.cast(ResourceManagerMessage::Launched {
                        task_manager,
                        job,
                        worker,
                        actor: None,
                        address: None,
                    });
                }
            }
            Ok(FromTaskManager::Ended(job, worker, reason)) => {
                let ended = ResourceManagerMessage::WorkerEnded { job, worker, reason };
                let _ = self.resource_manager.cast(ended);
            }
            Ok(FromTaskManager::Fetch(program, offset)) => {
                if let Some(reply) = reply {
                    clients::send_chunk(&self.tasks, self.programs.path(&program), offset, reply);
                }
            }
            Err(error) => from.close(&format!("its message cannot be read: {error}")),
        }
        Ok(())
    }

    /// Has the masters of jobs say when the checkpoints are done that are under way now.
    fn settle(
        &self,
        concerned: impl Fn(&Job) -> bool,
        limit: Duration,
        then: impl FnOnce() + Send + 'static,
    ) {
        let jobs = self.jobs.values().filter(|job| !job.has_ended() && concerned(job));
        let masters = jobs.filter_map(Job::peer);
        let settled: Vec<_> = masters.map(|master| master.ask::<_, ()>(&ToMaster::Settle, limit)).collect();
        self.tasks.spawn(async move {
            // One that is gone, or too slow, is not waited for.
            futures::future::join_all(settled).await;
            then();
        });
    }

    async fn register(
        &mut self,
        from: &Peer,
        offer: Offer,
        (host, hardware): (String, Hardware),
        workers: Vec<(JobId, WorkerId, Share)>,
    ) -> Result<(), ActorProcessingErr> {
        let (id, myself) = (from.id(), self.myself.clone());
        let stub = stub::spawn(self.myself.get_cell(), move |message| {
            let message = match message {
                TaskManagerMessage::Launch { job, worker, share } => {
                    DaemonMessage::Launch(id, job, worker, share)
                }
                TaskManagerMessage::Share { job, share } => DaemonMessage::Share(id, job, share),
                TaskManagerMessage::Release { job } => DaemonMessage::Release(id, job),
            };
            let _ = myself.cast(message);
        });
        let stub = stub.await?;
        let mut used: BTreeMap<JobId, Share> = BTreeMap::new();
        for (job, worker, share) in workers {
            let name = from.name().dns_name();
            if self.jobs.get_mut(&job).is_some_and(|job| job.knows_worker(worker, &name)) {
                let of_job = used.entry(job).or_default();
                *of_job = of_job.and(share);
            } else {
                // Of a job that has ended, or that has given its slots back meanwhile.
                let _ = from.tell(&ToTaskManager::Release(job));
            }
        }
        tracing::info!("{from} offers {} slots", offer.slots);
        let task_manager = TaskManager { peer: from.clone(), host, hardware, stub: stub.clone() };
        self.task_managers.insert(id, task_manager);
        let _ =
            self.resource_manager.cast(ResourceManagerMessage::Register { task_manager: stub, offer, used });
        Ok(())
    }

    fn launch(&mut self, task_manager: PeerId, job: JobId, worker: WorkerId, share: Share) {
        let Some(TaskManager { peer, host, .. }) = self.task_managers.get(&task_manager) else { return };
        let Some(of_job) = self.jobs.get_mut(&job) else { return };
        of_job.place(worker, peer.name().dns_name());
        match of_job.worker_assignment(worker, host) {
            Ok(assignment) => {
                // One that is gone is unregistered, and its jobs get other slots.
                let _ = peer.tell(&ToTaskManager::Launch { share, assignment: Box::new(assignment) });
            }
            Err(reason) => {
                let ended = ResourceManagerMessage::WorkerEnded { job, worker, reason };
                let _ = self.resource_manager.cast(ended);
            }
        }
    }

    async fn on_master(&mut self, from: &Peer, message: &[u8]) {
        let job = from.name().job().and_then(|job| u128::from_str_radix(job, 16).ok()).map(JobId);
        let message = match decode::<FromMaster>(message) {
            Ok(message) => message,
            Err(error) => return from.close(&format!("its message cannot be read: {error}")),
        };
        let Some((id, job)) = job.and_then(|id| self.jobs.get_mut(&id).map(|job| (id, job))) else {
            return from.close("its job is not known");
        };
        if from.name().id() != job::master_name(job.masters()) {
            return from.close("another master has taken its place");
        }
        match message {
            FromMaster::Ready { address, rescaled } => {
                job.on_master_ready(from, address);
                if rescaled != job.remember().call.rescales() {
                    tracing::warn!(job = %id, "the job's master has not heard of its new graph: it is replaced");
                    self.depose_master(id).await;
                }
            }
            FromMaster::Status(status) => {
                if job.on_status(from, *status) {
                    keep(&*self.memory, job.remember());
                }
                if job.has_ended() {
                    job.say_goodbye();
                    let _ = self.resource_manager.cast(ResourceManagerMessage::Release { job: id });
                }
            }
            FromMaster::Observed(seen) => {
                if job.is_peer(from) && !job.has_ended() {
                    self.keep_observation(id, &seen);
                }
            }
            FromMaster::Request { slots, .. } if too_many(&slots) => {
                from.close(&format!("it asks for more than {MAX_SLOTS} slots"));
            }
            FromMaster::Request { attempt, slots, keeps } => {
                job.on_request(attempt, keeps);
                let master = job.stub();
                let request = ResourceManagerMessage::Request { job: id, attempt, slots, keeps, master };
                let _ = self.resource_manager.cast(request);
            }
            FromMaster::Release => {
                job.on_released();
                let _ = self.resource_manager.cast(ResourceManagerMessage::Release { job: id });
            }
        }
    }

    /// Makes a job of a planned program and starts its master.
    async fn accept(
        &mut self,
        id: JobId,
        call: Call,
        graph: crate::protocol::GraphSummary,
    ) -> Result<(), String> {
        let status = crate::report::JobStatus::new(id, &graph.name, self.clock.now());
        let job = RememberedJob { id, call, graph, status, masters: 0, port: 0, completed: Vec::new() };
        job::make_authority(&self.job_folder(id), id)?;
        self.add_job(job).await?;
        self.start_master(id).await;
        Ok(())
    }

    /// A job of a JobManager before.
    async fn take_up(&mut self, job: RememberedJob) -> Result<(), String> {
        let (id, masters, ended) = (job.id, job.masters, job.status.state.is_terminal());
        if ended {
            self.jobs.insert(id, Job::ended(job, &self.myself).await?);
            return Ok(());
        }
        let folder = self.job_folder(id);
        let is_ours = job::has_authority(&folder);
        if !is_ours {
            // Of a JobManager elsewhere. Its master and workers find nobody any more who knows them, and end.
            job::make_authority(&folder, id)?;
        }
        self.add_job(job).await?;
        if is_ours {
            self.expect_master(id, masters);
        } else {
            self.start_master(id).await;
        }
        Ok(())
    }

    async fn add_job(&mut self, mut job: RememberedJob) -> Result<(), String> {
        let (folder, id) = (self.job_folder(job.id), job.id);
        let (authority, tls) = job::load_authority(&folder)?;
        let host = &self.config.cluster.host;
        let mut address = any_port(host).await?;
        address.set_port(job.port);
        let allow = move |name: &hurtig_transport::Name| {
            name.role() == Role::Master && name.job() == Some(&id.to_string())
        };
        let listening = match self.node.listen(address, &tls, allow).await {
            Err(NodeError::Transport(_)) if job.port != 0 => {
                // Taken by somebody else meanwhile: its master will not find the way, and be replaced.
                address.set_port(0);
                self.node.listen(address, &tls, allow).await
            }
            other => other,
        };
        job.port = listening.map_err(|error| describe(&error))?.port();
        blocking(|| self.memory.keep(&job))?;
        let job = Job::new(job, authority, folder, host.clone(), &self.myself).await?;
        self.jobs.insert(id, job);
        Ok(())
    }

    async fn start_master(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let assignment = match job.master_assignment() {
            Ok(assignment) => assignment,
            Err(reason) => return self.fail_job(id, &reason),
        };
        // Written before it begins: the next master of this job is another, whatever happens to this one.
        keep(&*self.memory, job.remember());
        let log = job.folder().join("master");
        match self.start(assignment, log).await {
            Ok(child) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.set_child(child);
                }
            }
            Err(reason) => self.fail_job(id, &reason),
        }
    }

    fn fail_job(&mut self, id: JobId, reason: &str) {
        self.end_job(id, JobState::Failed, Some(reason));
    }

    /// Ends a job that has no master to do so.
    fn end_job(&mut self, id: JobId, state: JobState, reason: Option<&str>) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.end(state, reason, self.clock.now());
            job.kill_master(&self.machine);
            keep(&*self.memory, job.remember());
            let _ = self.resource_manager.cast(ResourceManagerMessage::Release { job: id });
        }
    }

    async fn on_master_ended(&mut self, id: JobId, how: &str) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.on_child_ended();
        if job.has_ended() {
            return;
        }
        tracing::warn!(job = %id, "the job's master has ended: {how}");
        if let Some(reason) = job.gives_up(how) {
            return self.fail_job(id, &reason);
        }
        self.replace_master(id).await;
    }

    async fn on_master_due(&mut self, id: JobId, masters: u32) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.masters() != masters || job.is_connected() || job.has_ended() {
            return;
        }
        job.kill_master(&self.machine);
        if let Some(reason) = job.gives_up("it did not connect") {
            return self.fail_job(id, &reason);
        }
        tracing::warn!(job = %id, "the job's master did not come back: it is replaced");
        self.replace_master(id).await;
    }

    /// Ends a job's master and starts another, which gets slots of its own.
    async fn replace_master(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.kill_master(&self.machine);
        job.on_master_lost();
        let _ = self.resource_manager.cast(ResourceManagerMessage::Release { job: id });
        job.on_released();
        let (delay, masters) = (job.delay(), job.masters());
        if delay.is_zero() {
            self.start_master(id).await;
        } else {
            drop(self.myself.send_after(delay, move || DaemonMessage::StartMaster(id, masters)));
        }
    }
}

/// Whether nobody can mean so many slots.
fn too_many(slots: &[SlotsWanted]) -> bool {
    slots.iter().fold(0_usize, |sum, group| sum.saturating_add(group.count)) > MAX_SLOTS
}

/// A JobManager that cannot write its memory goes on, loudly: its jobs run, and only it would forget them.
fn keep(memory: &dyn JobMemory, job: &RememberedJob) {
    if let Err(reason) = blocking(|| memory.keep(job)) {
        tracing::error!(job = %job.id, "the job's state cannot be written down: {reason}");
    }
}
