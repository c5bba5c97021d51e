//! The TaskManager's process: offers slots and runs a worker process for each job that gets some.
//!
//! Root of its process. It dials the JobManager, again whenever that is lost; workers go on meanwhile, as long as their
//! masters do. A worker's end is told to the JobManager. When this process ends, however it does, its workers end.

use crate::config::Config;
use crate::daemon::memory::Programs;
use crate::node::{Node, NodeEvent, Peer, decode};
use crate::process::child::{ChildMessage, ChildProcess, start_error};
use crate::process::worker::node_options;
use crate::protocol::{
    Answer, Assignment, CHUNK_BYTES, FromTaskManager, ProgramHash, ProgramPart, RoleSpec, ToTaskManager,
};
use crate::tasks::{Tasks, blocking};
use crate::worker::links::WorkerId;
use futures::{StreamExt, stream};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::JobId;
use hurtig_transport::{Peer as Whom, Role, Tls};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
    Fetched(Box<Assignment>, usize, Result<(), String>),
}
impl ractor::Message for DaemonMessage {}

/// What a TaskManager's process is made of.
pub struct Options {
    /// Number of slots it offers.
    pub slots: usize,
    /// Its identity in the cluster.
    pub tls: Tls,
    /// Where it keeps logs.
    pub folder: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// The programs it was given.
    pub programs: Arc<dyn Programs>,
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
        let (actor, _) = Actor::spawn(None, Daemon, options).await.map_err(|error| error.to_string())?;
        Ok(TaskManagerDaemon { actor })
    }

    /// Ends it and its workers.
    pub async fn shutdown(self) {
        self.actor.get_cell().stop_children_and_wait(None, None).await;
        let _ = self.actor.stop_and_wait(None, None).await;
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
    slots: usize,
    child: ActorRef<ChildMessage>,
}

struct State {
    myself: ActorRef<DaemonMessage>,
    options: Options,
    node: Node,
    job_manager: Option<Peer>,
    workers: BTreeMap<ActorId, Running>,
    /// Jobs whose workers are wanted while their program is on its way.
    fetching: Vec<(JobId, WorkerId)>,
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
        let node = Node::start_linked(node_options(&options.config), events, myself.get_cell()).await?;
        myself.cast(DaemonMessage::Redial)?;
        Ok(State {
            myself,
            options,
            node,
            job_manager: None,
            workers: BTreeMap::new(),
            fetching: Vec::new(),
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
                    tracing::warn!("the JobManager is gone: {reason}");
                    state.job_manager = None;
                    state.redial(REDIAL_DELAY);
                }
            }
            DaemonMessage::Node(NodeEvent::Received { message, .. }) => {
                match decode::<ToTaskManager>(&message) {
                    Ok(ToTaskManager::Launch { slots, assignment }) => state.launch(assignment, slots).await,
                    Ok(ToTaskManager::Release(job)) => state.release(job),
                    Err(error) => {
                        tracing::error!("a message of the JobManager cannot be read: {error}");
                    }
                }
            }
            DaemonMessage::Redial => state.redial(Duration::ZERO),
            DaemonMessage::Fetched(assignment, slots, result) => {
                state.on_fetched(assignment, slots, result).await;
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
        let address = self.options.config.cluster.jobmanager.clone();
        self.tasks.spawn(async move {
            tokio::time::sleep(delay).await;
            if let Err(error) = node.dial(&address, &tls, &Whom::Any(Role::JobManager)).await {
                tracing::debug!("no JobManager at {address}: {}", describe(&error));
                tokio::time::sleep(REDIAL_DELAY).await;
                let _ = myself.cast(DaemonMessage::Redial);
            }
        });
    }

    fn on_connected(&mut self, peer: Peer) {
        tracing::info!("registered with {peer}");
        self.job_manager = Some(peer);
        let workers = self.workers.values().map(|running| (running.job, running.worker, running.slots));
        self.tell(&FromTaskManager::Register { slots: self.options.slots, workers: workers.collect() });
    }

    async fn launch(&mut self, assignment: Box<Assignment>, slots: usize) {
        let RoleSpec::Worker(spec) = &assignment.role else { return };
        let program = assignment.call.program.clone();
        if self.options.programs.path(&program).is_some() {
            return self.start(assignment, slots).await;
        }
        self.fetching.push((assignment.job, spec.worker));
        let Some(peer) = self.job_manager.clone() else { return };
        let (programs, myself) = (Arc::clone(&self.options.programs), self.myself.clone());
        self.tasks.spawn(async move {
            let result = fetch(&peer, &*programs, &program).await;
            let _ = myself.cast(DaemonMessage::Fetched(assignment, slots, result));
        });
    }

    async fn on_fetched(&mut self, assignment: Box<Assignment>, slots: usize, result: Result<(), String>) {
        let (job, RoleSpec::Worker(spec)) = (assignment.job, &assignment.role) else { return };
        let worker = spec.worker;
        let Some(at) = self.fetching.iter().position(|wanted| *wanted == (job, worker)) else { return };
        self.fetching.swap_remove(at);
        match result {
            Ok(()) => self.start(assignment, slots).await,
            Err(reason) => self.tell(&FromTaskManager::Ended(job, worker, reason)),
        }
    }

    async fn start(&mut self, assignment: Box<Assignment>, slots: usize) {
        let (job, RoleSpec::Worker(spec)) = (assignment.job, &assignment.role) else { return };
        let worker = spec.worker;
        let started = match self.options.programs.path(&assignment.call.program) {
            Some(program) => {
                let log =
                    self.options.folder.join("jobs").join(job.to_string()).join(format!("worker-{worker}"));
                let arguments = (program, assignment, log);
                let spawned =
                    Actor::spawn_linked(None, ChildProcess, arguments, self.myself.get_cell()).await;
                spawned.map(|(child, _)| child).map_err(start_error)
            }
            None => Err("its program is gone".into()),
        };
        match started {
            Ok(child) => {
                self.workers.insert(child.get_id(), Running { job, worker, slots, child });
                self.tell(&FromTaskManager::Started(job, worker));
            }
            Err(reason) => self.tell(&FromTaskManager::Ended(job, worker, reason)),
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
