//! The TaskManager's process: offers slots and runs a worker process for each job that gets some.
//!
//! Root of its process. It dials the JobManager, again whenever that is lost; workers go on meanwhile, as long as their
//! masters do. A worker's end is told to the JobManager. When this process ends, however it does, its workers end; when
//! it is asked to end, it lets them finish their part of the checkpoints under way.

use crate::config::{ClusterConfig, Config};
use crate::daemon::leader::JobManagers;
use crate::daemon::memory::Programs;
use crate::machine::Machine;
use crate::node::{Node, NodeEvent, Peer, decode};
use crate::process::child::{ChildMessage, start_error};
use crate::process::worker::node_options;
use crate::protocol::{
    Answer, Assignment, CHUNK_BYTES, FromTaskManager, ProgramHash, ProgramPart, RoleSpec, ToTaskManager,
};
use crate::resource::{Offer, Share};
use crate::tasks::{Tasks, blocking};
use crate::worker::links::WorkerId;
use futures::{StreamExt, stream};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::JobId;
use hurtig_transport::Tls;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Between two tries to reach the JobManager.
const REDIAL_DELAY: Duration = Duration::from_millis(500);

/// How long part of a program may take to come.
const FETCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Parts of a program on their way at once.
const FETCHED_AT_ONCE: usize = 8;

/// What a TaskManager's process is told.
pub enum DaemonMessage {
    /// From the node.
    Node(NodeEvent),
    /// From its own task: the JobManager could not be reached, or is to be reached again.
    Redial,
    /// From its own task: a program is there, or why not.
    Fetched(Box<Assignment>, Share, Result<(), String>),
    /// From whoever runs it: it is to end. Answered, with its node, when nothing is waited for any more.
    Leave(oneshot::Sender<Node>),
}
impl ractor::Message for DaemonMessage {}

/// What a TaskManager's process is made of.
pub struct Options {
    /// What it offers.
    pub offer: Offer,
    /// Its identity in the cluster.
    pub tls: Tls,
    /// Where it keeps logs.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// The programs it was given.
    pub programs: Arc<dyn Programs>,
    /// What it runs on.
    pub machine: Machine,
}

/// A TaskManager that runs in this process.
pub struct TaskManagerDaemon {
    actor: ActorRef<DaemonMessage>,
}

impl TaskManagerDaemon {
    /// Starts it. It need not find the JobManager yet.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(options: Options) -> Result<Self, String> {
        let (actor, _) = Actor::spawn(None, Daemon, options).await.map_err(start_error)?;
        Ok(TaskManagerDaemon { actor })
    }

    /// Ends it and its workers: takes no worker any more, waits a while for the checkpoints that are under way, and says
    /// goodbye, so that nobody has to find by silence that it is gone.
    pub async fn shutdown(self) {
        super::end(self.actor, DaemonMessage::Leave).await;
    }

    /// Waits until it ends by itself, which it does only if it fails.
    pub async fn ended(&self) {
        let _ = self.actor.get_cell().wait(None).await;
    }
}

struct Daemon;

struct Running {
    job: JobId,
    worker: WorkerId,
    share: Share,
    child: ActorRef<ChildMessage>,
}

struct State {
    myself: ActorRef<DaemonMessage>,
    options: Options,
    node: Node,
    job_managers: Arc<JobManagers>,
    job_manager: Option<Peer>,
    workers: BTreeMap<ActorId, Running>,
    /// Jobs whose workers are wanted while their program is on its way.
    fetching: Vec<(JobId, WorkerId)>,
    /// Whether it is about to end.
    is_leaving: bool,
    tasks: Tasks,
}

impl Actor for Daemon {
    type Msg = DaemonMessage;
    type State = State;
    type Arguments = Options;

    async fn pre_start(
        &self,
        myself: ActorRef<DaemonMessage>,
        options: Options,
    ) -> Result<State, ActorProcessingErr> {
        let events = {
            let myself = myself.clone();
            Arc::new(move |event| drop(myself.cast(DaemonMessage::Node(event))))
        };
        let of_node = node_options(&options.config);
        let node = options.machine.node(of_node, events, Some(myself.get_cell())).await?;
        myself.cast(DaemonMessage::Redial)?;
        Ok(State {
            myself,
            job_managers: Arc::new(JobManagers::new(&options.config)),
            options,
            node,
            job_manager: None,
            workers: BTreeMap::new(),
            fetching: Vec::new(),
            is_leaving: false,
            tasks: Tasks::default(),
        })
    }

    async fn handle(
        &self,
        _: ActorRef<DaemonMessage>,
        message: DaemonMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DaemonMessage::Node(NodeEvent::Connected(peer)) => state.on_connected(peer),
            DaemonMessage::Node(NodeEvent::Lost { peer, reason }) => {
                if state.job_manager.as_ref() == Some(&peer) {
                    state.job_manager = None;
                    if !state.is_leaving {
                        tracing::warn!("the JobManager is gone: {reason}");
                        state.redial(REDIAL_DELAY);
                    }
                }
            }
            DaemonMessage::Node(NodeEvent::Received { message, reply, .. }) => {
                match decode::<ToTaskManager>(&message) {
                    Ok(ToTaskManager::Launch { share, assignment }) => state.launch(assignment, share).await,
                    Ok(ToTaskManager::Share(job, share)) => state.share(job, share),
                    Ok(ToTaskManager::Release(job)) => state.release(job),
                    Ok(ToTaskManager::Logs(question)) => {
                        if let Some(reply) = reply {
                            super::answer_about_logs(&state.tasks, &state.options.folder, question, reply);
                        }
                    }
                    Err(error) => {
                        tracing::error!("a message of the JobManager cannot be read: {error}");
                    }
                }
            }
            DaemonMessage::Redial if state.is_leaving => {}
            DaemonMessage::Redial => state.redial(Duration::ZERO),
            DaemonMessage::Leave(done) => state.leave(done),
            DaemonMessage::Fetched(assignment, share, result) => {
                state.on_fetched(assignment, share, result).await;
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
        let (who, how, failed) = match event {
            SupervisionEvent::ActorTerminated(who, _, how) => (who, how.unwrap_or_default(), false),
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string(), true),
            _ => return Ok(()),
        };
        if let Some(Running { job, worker, .. }) = state.workers.remove(&who.get_id()) {
            tracing::info!(%job, "worker {worker} has ended: {how}");
            state.tell(&FromTaskManager::Ended(job, worker, how));
        } else if failed {
            tracing::error!("the TaskManager ends: {how}");
            myself.stop(None);
        }
        Ok(())
    }
}

impl State {
    fn tell(&self, message: &FromTaskManager) {
        if let Some(peer) = &self.job_manager {
            // What it has not heard it learns when this one registers again.
            let _ = peer.tell(message);
        }
    }

    fn redial(&self, delay: Duration) {
        let (node, tls, myself) = (self.node.clone(), self.options.tls.clone(), self.myself.clone());
        let job_managers = Arc::clone(&self.job_managers);
        self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            if let Err(error) = job_managers.dial(&node, &tls).await {
                tracing::debug!("no JobManager: {}", describe(&error));
                tokio::time::sleep(REDIAL_DELAY).await;
                let _ = myself.cast(DaemonMessage::Redial);
            }
        });
    }

    /// Says so where somebody is to hear it, and answers when it may end.
    fn leave(&mut self, done: oneshot::Sender<Node>) {
        self.is_leaving = true;
        let limit = self.options.config.taskmanager.leave_timeout;
        let leaving = self.job_manager.as_ref().map(|peer| {
            tracing::info!("the TaskManager is asked to end");
            peer.ask::<_, ()>(&FromTaskManager::Leaving, limit)
        });
        let node = self.node.clone();
        self.tasks.spawn(async move {
            if let Some(leaving) = leaving
                && let Err(error) = leaving.await
            {
                tracing::warn!("a checkpoint under way is not waited for any longer: {error}");
            }
            let _ = done.send(node);
        });
    }

    fn on_connected(&mut self, peer: Peer) {
        if self.is_leaving {
            return;
        }
        tracing::info!("registered with {peer}");
        self.job_manager = Some(peer);
        let workers = self.workers.values().map(|running| (running.job, running.worker, running.share));
        let register = FromTaskManager::Register {
            offer: self.options.offer,
            host: self.host(),
            hardware: crate::process::hardware(),
            workers: workers.collect(),
        };
        self.tell(&register);
    }

    /// Where others reach this machine, if that is configured.
    fn host(&self) -> Option<String> {
        let host = &self.options.config.cluster.host;
        (*host != ClusterConfig::default().host).then(|| host.clone())
    }

    async fn launch(&mut self, assignment: Box<Assignment>, share: Share) {
        let RoleSpec::Worker(spec) = &assignment.role else { return };
        if self.is_leaving {
            // It was sent before the JobManager heard of that.
            let why = "its TaskManager is about to end".to_string();
            return self.tell(&FromTaskManager::Ended(assignment.job, spec.worker, why));
        }
        let program = assignment.call.program.clone();
        if self.options.programs.path(&program).is_some() {
            return self.start(assignment, share).await;
        }
        self.fetching.push((assignment.job, spec.worker));
        let Some(peer) = self.job_manager.clone() else { return };
        let (programs, myself) = (Arc::clone(&self.options.programs), self.myself.clone());
        self.tasks.spawn(async move {
            let result = fetch(&peer, &*programs, &program).await;
            let _ = myself.cast(DaemonMessage::Fetched(assignment, share, result));
        });
    }

    async fn on_fetched(&mut self, assignment: Box<Assignment>, share: Share, result: Result<(), String>) {
        let (job, RoleSpec::Worker(spec)) = (assignment.job, &assignment.role) else { return };
        let worker = spec.worker;
        let Some(at) = self.fetching.iter().position(|wanted| *wanted == (job, worker)) else { return };
        self.fetching.swap_remove(at);
        match result {
            Ok(()) => self.start(assignment, share).await,
            Err(reason) => self.tell(&FromTaskManager::Ended(job, worker, reason)),
        }
    }

    async fn start(&mut self, assignment: Box<Assignment>, share: Share) {
        let (job, RoleSpec::Worker(spec)) = (assignment.job, &assignment.role) else { return };
        let worker = spec.worker;
        let started = match self.options.programs.path(&assignment.call.program) {
            Some(program) => {
                let log =
                    self.options.folder.join("jobs").join(job.to_string()).join(format!("worker-{worker}"));
                let memory = self.options.config.taskmanager.worker_memory.or(share.memory_limit());
                let arguments = (program, assignment, log, memory);
                self.options.machine.start(arguments, self.myself.get_cell()).await
            }
            None => Err("its program is gone".into()),
        };
        match started {
            Ok(child) => {
                self.workers.insert(child.get_id(), Running { job, worker, share, child });
                self.tell(&FromTaskManager::Started(job, worker));
            }
            Err(reason) => self.tell(&FromTaskManager::Ended(job, worker, reason)),
        }
    }

    fn share(&mut self, job: JobId, share: Share) {
        for running in self.workers.values_mut().filter(|running| running.job == job) {
            running.share = share;
        }
    }

    fn release(&mut self, job: JobId) {
        self.fetching.retain(|(wanted, _)| *wanted != job);
        for running in self.workers.values().filter(|running| running.job == job) {
            running.child.stop(Some("its slots were given back".into()));
        }
    }
}

/// Gets a program from the JobManager, several parts at a time: the way there may be long.
async fn fetch(peer: &Peer, programs: &dyn Programs, program: &ProgramHash) -> Result<(), String> {
    let part = |offset: u64| {
        let question = FromTaskManager::Fetch(program.clone(), offset);
        let part = peer.ask::<_, Answer<ProgramPart>>(&question, FETCH_TIMEOUT);
        async move { part.await.map_err(|error| format!("its program did not come: {error}"))? }
    };
    let first = part(0).await?;
    let size_bytes = first.size_bytes;
    let mut upload = blocking(|| programs.begin(program, size_bytes))?;
    blocking(|| upload.write(&first.bytes))?;
    let rest = (CHUNK_BYTES as u64..size_bytes).step_by(CHUNK_BYTES);
    let mut parts = stream::iter(rest.map(part)).buffered(FETCHED_AT_ONCE);
    while let Some(part) = parts.next().await {
        let bytes = part?.bytes;
        blocking(|| upload.write(&bytes))?;
    }
    blocking(|| upload.finish())
}
