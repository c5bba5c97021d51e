//! A worker's process: runs a job's subtasks on one TaskManager.
//!
//! It dials the job's master, does what that says, and ends when the connection to it is lost: then the master counts
//! its subtasks as gone, so they must not go on.
//!
//! What connects it with other processes has threads of its own: a user's function may work on a record for longer than
//! any heartbeat time-out, on all threads that subtasks have, and nobody is to take the process for dead.
//!
//! # Decisions
//! * 2026-11: tokio lets no other thread look after sockets and timers while the one that did works on a task: without
//!   a second runtime, one function that did not return silenced a worker of two threads.

use crate::clock::Clock;
use crate::config::Config;
use crate::execution::ExecutionGraph;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::master::{JobMasterMessage, SubtaskEvent, restore};
use crate::node::{NodeEvent, NodeEvents, NodeOptions, Peer, TellError, decode};
use crate::process::{Built, Replan};
use crate::profile;
use crate::protocol::{Assignment, FromWorker, GraphSummary, Rescaled, ToSubtask, ToWorker, WorkerSpec};
use crate::simulation;
use crate::stub;
use crate::subtask::neighbours::SubtaskRef;
use crate::subtask::{Deployment, SubtaskMessage, SubtaskSettings};
use crate::tasks::Tasks;
use crate::worker::handover::Handover;
use crate::worker::links::{Dial, Duplex, Network, link_options, welcome};
use crate::worker::{self, Worker, WorkerMessage};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_state::{CheckpointStore, LocalCopies};
use hurtig_transport::{
    DialOptions, Identity, LinkOptions, Listener, ListenerOptions, Peer as Whom, Purpose, Role, Tls, dial,
};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::{self, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};

/// The longest message between processes: an acknowledgement may hold small state and what sinks have prepared.
const MAX_MESSAGE_BYTES: usize = 32 << 20;

/// Shorter batches do not get shorter by much.
const COMPRESS_FROM: u32 = 512;

/// How long a worker that has connected may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// What the host of a Worker is told.
enum HostMessage {
    /// From the node.
    Node(NodeEvent),
}
impl ractor::Message for HostMessage {}

struct Host;

struct State {
    job: JobId,
    graph: Arc<JobGraph>,
    replan: Replan,
    config: Config,
    store: CheckpointStore,
    clock: Clock,
    worker: ActorRef<WorkerMessage>,
    /// Stands for the master.
    master: ActorRef<JobMasterMessage>,
    handover: Handover,
    tasks: Tasks,
    done: Option<oneshot::Sender<String>>,
}

struct Arguments {
    job: JobId,
    graph: Arc<JobGraph>,
    replan: Replan,
    config: Config,
    store: CheckpointStore,
    spec: WorkerSpec,
    network: Network,
    way_in: WayIn,
    done: oneshot::Sender<String>,
    node: tokio::sync::watch::Receiver<Option<Peer>>,
}

/// How other workers reach this one.
enum WayIn {
    /// They dial, on these threads.
    Listener(Listener, Handle),
    /// They are in this process.
    Simulated(simulation::Process),
}

/// Runs a worker to its end; returns why it ended.
///
/// # Errors
/// It cannot begin: no master, no address to listen on, a checkpoint folder that cannot be used.
pub async fn run(
    assignment: &Assignment,
    spec: WorkerSpec,
    Built { graph, config, replan }: Built,
    machine: Machine,
) -> Result<String, String> {
    let store = store_of(&config, assignment.job)?.with_copies(copies_of(&config)?);
    let tls = Identity::from_bytes(&spec.identity).and_then(Tls::new).map_err(|error| describe(&error))?;
    let job = assignment.job;
    let (threads, network, way_in) = match &machine {
        Machine::Real => {
            let threads =
                network_threads().map_err(|error| format!("no threads for the network: {error}"))?;
            let (network, listener) = listen(&threads, &spec.host, &tls, job, &config).await?;
            (threads.clone(), network, WayIn::Listener(listener, threads))
        }
        Machine::Simulated(process) => {
            (Handle::current(), process.network(spec.worker), WayIn::Simulated(process.clone()))
        }
    };
    let (done, ended) = oneshot::channel();
    let (connected, node_peer) = tokio::sync::watch::channel(None);
    let summary = GraphSummary::new(&graph);
    let ready = FromWorker::Ready { worker: spec.worker, address: network.address.clone(), graph: summary };
    let master = spec.master.clone();
    let options = node_options(&config);
    let arguments = Arguments {
        job,
        graph: Arc::new(graph),
        replan,
        config,
        store,
        spec,
        network,
        way_in,
        done,
        node: node_peer,
    };
    let (host, _) = Actor::spawn(None, Host, arguments).await.map_err(|error| error.to_string())?;
    if let Machine::Simulated(process) = &machine {
        process.has_root(host.get_cell());
    }
    let (tell, mut lost) = mpsc::unbounded_channel();
    let events: NodeEvents = Arc::new(move |event| {
        if let NodeEvent::Lost { reason, .. } = &event {
            // The host may have no thread to hear it on.
            let _ = tell.send(reason.clone());
        }
        drop(host.cast(HostMessage::Node(event)));
    });
    let whom = Whom::AnyOfJob(Role::Master, job.to_string());
    let peer = on(&threads, async move {
        let node = machine.node(options, events, None).await?;
        node.dial(&master, &tls, &whom).await
    });
    let peer = peer.await?.map_err(|error| describe(&error))?;
    connected.send_replace(Some(peer.clone()));
    peer.tell(&ready).map_err(|error| error.to_string())?;
    Ok(tokio::select! {
        why = ended => why.unwrap_or_else(|_| "its host has ended".into()),
        Some(why) = lost.recv() => format!("the job's master is gone: {why}"),
    })
}

/// Lets other workers connect, and says how they are reached.
async fn listen(
    threads: &Handle,
    host: &str,
    tls: &Tls,
    job: JobId,
    config: &Config,
) -> Result<(Network, Listener), String> {
    let address = any_port(host).await?;
    let options = ListenerOptions::new([Purpose::DATA], |name, _| name.role() == Role::Worker);
    let listener = {
        let tls = tls.clone();
        on(threads, async move { Listener::bind(address, tls, options).await }).await?
    };
    let listener = listener.map_err(|error| describe(&error))?;
    let local = listener.local_addr().map_err(|error| describe(&error))?;
    let network = Network {
        address: format!("{host}:{}", local.port()),
        dial: dial_workers(threads.clone(), tls.clone(), job),
        options: LinkOptions {
            compress_from_bytes: config.exchange.compression.then_some(COMPRESS_FROM),
            ..link_options(config.heartbeat.timeout)
        },
        runtime: Some(threads.clone()),
    };
    Ok((network, listener))
}

/// The runtime of what connects this process with others. It ends with the process.
fn network_threads() -> io::Result<Handle> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if RUNTIME.get().is_none() {
        let built = runtime::Builder::new_multi_thread().enable_all().thread_name("network").build()?;
        if let Err(second) = RUNTIME.set(built) {
            second.shutdown_background();
        }
    }
    RUNTIME.get().map(|runtime| runtime.handle().clone()).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Does something on these threads, to which the sockets that it opens then belong.
async fn on<T: Send + 'static>(
    threads: &Handle,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, String> {
    #[allow(clippy::disallowed_methods, reason = "awaited at once")]
    let done = threads.spawn(work);
    done.await.map_err(|error| error.to_string())
}

/// The options of a node, as configured.
pub fn node_options(config: &Config) -> NodeOptions {
    NodeOptions {
        heartbeat_interval: config.heartbeat.interval,
        heartbeat_timeout: config.heartbeat.timeout,
        max_message_bytes: MAX_MESSAGE_BYTES,
        ..NodeOptions::default()
    }
}

/// Where a job's checkpoints lie, for any of its processes.
pub fn store_of(config: &Config, job: JobId) -> Result<CheckpointStore, String> {
    let location = match &config.checkpoint.dir {
        Some(dir) => dir.display().to_string(),
        None => format!("memory:{job}"),
    };
    CheckpointStore::open(&location).map_err(|error| describe(&error))
}

/// Where a worker keeps copies of what it writes there, if it is to.
pub fn copies_of(config: &Config) -> Result<Option<LocalCopies>, String> {
    let folder = || config.state.spill_dir.clone().unwrap_or_else(std::env::temp_dir);
    let copies = config.state.local_recovery.then(|| LocalCopies::new(&folder())).transpose();
    copies.map_err(|error| describe(&error))
}

/// Any port of the address that a host name stands for.
pub async fn any_port(host: &str) -> Result<SocketAddr, String> {
    let mut found = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| format!("'{host}' is no address of this machine: {error}"))?;
    found.next().ok_or_else(|| format!("'{host}' is no address of this machine"))
}

fn dial_workers(threads: Handle, tls: Tls, job: JobId) -> Dial {
    Arc::new(move |address| {
        let (threads, tls) = (threads.clone(), tls.clone());
        Box::pin(async move {
            let connection = on(&threads, async move {
                let whom = Whom::AnyOfJob(Role::Worker, job.to_string());
                dial(&tls, &address, &whom, Purpose::DATA, &DialOptions::default()).await
            });
            let connection = connection.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
            Ok(Box::new(connection.stream) as Box<dyn Duplex>)
        })
    })
}

/// Welcomes other workers.
async fn accept(mut listener: Listener, worker: ActorRef<WorkerMessage>) {
    let tasks = Tasks::default();
    loop {
        let connection = listener.accept().await;
        let worker = worker.clone();
        tasks.spawn(async move {
            let stream = Box::new(connection.stream);
            let welcome = welcome(worker, stream, Some(connection.peer.id()));
            match tokio::time::timeout(HELLO_TIMEOUT, welcome).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("{} is refused: {error}", connection.peer),
                Err(_) => tracing::warn!("{} has not said who it is", connection.peer),
            }
        });
    }
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
        let node = args.node.clone();
        let master = stub::spawn(myself.get_cell(), move |message| {
            // A master that is gone ends this process by the node's word.
            if let (Some(peer), Some(message)) = (node.borrow().as_ref(), to_wire(message)) {
                tell(peer, message);
            }
        });
        let arguments = worker::Arguments { id: args.spec.worker, network: Some(args.network) };
        let (worker, _) = Actor::spawn_linked(None, Worker, arguments, myself.get_cell()).await?;
        let tasks = Tasks::default();
        match args.way_in {
            WayIn::Listener(listener, threads) => {
                let _entered = threads.enter();
                tasks.spawn(accept(listener, worker.clone()));
            }
            WayIn::Simulated(process) => process.join(args.spec.worker, worker.clone()),
        }
        Ok(State {
            job: args.job,
            graph: args.graph,
            replan: args.replan,
            config: args.config,
            store: args.store,
            clock: Clock::new(),
            worker,
            master: master.await?,
            handover: Handover::default(),
            tasks,
            done: Some(args.done),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<HostMessage>,
        HostMessage::Node(event): HostMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            NodeEvent::Connected(_) => {}
            NodeEvent::Lost { reason, .. } => {
                state.end(format!("the job's master is gone: {reason}"));
                myself.stop(None);
            }
            NodeEvent::Received { message, reply, .. } => match decode::<ToWorker>(&message) {
                Ok(ToWorker::Profile(duration)) => {
                    if let Some(reply) = reply {
                        state.tasks.spawn(async move { reply.send(&profile::sample(duration).await) });
                    }
                }
                Ok(message) => state.on_told(message),
                Err(error) => tracing::error!("a message of the master cannot be read: {error}"),
            },
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<HostMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            state.end(error.to_string());
            myself.stop(None);
        }
        Ok(())
    }
}

impl State {
    fn end(&mut self, reason: String) {
        if let Some(done) = self.done.take() {
            let _ = done.send(reason);
        }
    }

    /// Takes another graph, of the same operators.
    fn plan(&mut self, rescaled: &Rescaled) -> Result<(), String> {
        self.graph = Arc::new((self.replan)(rescaled)?);
        Ok(())
    }

    fn on_told(&mut self, message: ToWorker) {
        let message = match message {
            ToWorker::Deploy { attempt, subtasks, settings, restored_from, rescaled } => {
                if let Some(Err(reason)) = rescaled.map(|rescaled| self.plan(&rescaled)) {
                    let result = Err(Failure::of("the job graph", reason));
                    let _ = self.master.cast(JobMasterMessage::Deployed { attempt, result });
                    return;
                }
                return self.deploy(attempt, subtasks, settings, restored_from);
            }
            ToWorker::Start(attempt, placement) => WorkerMessage::Start {
                attempt,
                direct: Arc::new(BTreeMap::new()),
                placement: Arc::new(placement),
            },
            // Answered before.
            ToWorker::Profile(_) => return,
            ToWorker::Stop(attempt) => WorkerMessage::Stop { attempt, master: self.master.clone() },
            ToWorker::Subtask(attempt, id, message) => {
                let message = match message {
                    ToSubtask::Assigned(assignment) => SubtaskMessage::Assigned(assignment),
                    ToSubtask::Trigger(barrier) => SubtaskMessage::Trigger(barrier),
                    ToSubtask::Completed(checkpoint) => SubtaskMessage::Completed(checkpoint),
                    ToSubtask::Aborted(checkpoint) => SubtaskMessage::Aborted(checkpoint),
                };
                WorkerMessage::ToSubtask { attempt, id, message }
            }
        };
        // If it has failed, so has this host.
        let _ = self.worker.cast(message);
    }

    /// Reads the state that the subtasks start from, then makes them.
    fn deploy(
        &self,
        attempt: Attempt,
        subtasks: Vec<SubtaskId>,
        settings: SubtaskSettings,
        restored_from: Option<String>,
    ) {
        let (graph, config, store) = (Arc::clone(&self.graph), self.config.clone(), self.store.clone());
        let handover = self.handover.clone();
        let (worker, master, clock, job) = (self.worker.clone(), self.master.clone(), self.clock, self.job);
        self.tasks.spawn(async move {
            let restored = match restored_from {
                Some(location) => {
                    let copies = store.copies().cloned();
                    restore::load(&location, (copies, &handover), &config, &graph, job, &subtasks).await
                }
                None => Ok(BTreeMap::new()),
            };
            handover.clear();
            let message = match restored {
                Ok(mut restored) => {
                    let execution = ExecutionGraph::new(&graph);
                    let deployment = |id: SubtaskId| {
                        Some(Deployment {
                            id,
                            job,
                            graph: Arc::clone(&graph),
                            attempt,
                            wiring: execution.wiring.get(&id)?.clone(),
                            restored: restored.remove(&id).unwrap_or_default(),
                            settings: settings.clone(),
                            memory: None,
                            handover: Some(handover.clone()),
                            store: store.clone(),
                            master: master.clone(),
                            clock,
                            faults: None,
                        })
                    };
                    let deployments = subtasks.into_iter().filter_map(deployment).collect();
                    let deploy = WorkerMessage::Deploy {
                        attempt,
                        deployments,
                        restored_from: None,
                        rescaled: None,
                        master,
                    };
                    let _ = worker.cast(deploy);
                    return;
                }
                Err(failure) => JobMasterMessage::Deployed { attempt, result: Err(failure) },
            };
            let _ = master.cast(message);
        });
    }
}

/// Tells the master. What is too long to be told is a checkpoint that fails.
fn tell(peer: &Peer, message: FromWorker) {
    let Err(error @ (TellError::TooLong { .. } | TellError::Encode(_))) = peer.tell(&message) else { return };
    tracing::error!("the master cannot be told: {error}");
    if let FromWorker::Subtask(attempt, id, SubtaskEvent::Acknowledged { checkpoint, .. }) = message {
        let declined = SubtaskEvent::Declined { checkpoint, reason: error.to_string() };
        let _ = peer.tell(&FromWorker::Subtask(attempt, id, declined));
    }
}

/// What a Worker and its subtasks tell their master, as it travels.
fn to_wire(message: JobMasterMessage) -> Option<FromWorker> {
    match message {
        JobMasterMessage::Deployed { attempt, result } => Some(FromWorker::Deployed(
            attempt,
            result.map(|subtasks: Vec<(SubtaskId, SubtaskRef)>| {
                subtasks.into_iter().map(|(id, _)| id).collect()
            }),
        )),
        JobMasterMessage::Subtask { attempt, id, event } => Some(FromWorker::Subtask(attempt, id, event)),
        JobMasterMessage::SubtaskFailed { attempt, failure } => Some(FromWorker::Failed(attempt, failure)),
        JobMasterMessage::Stopped { attempt, .. } => Some(FromWorker::Stopped(attempt)),
        _ => None,
    }
}
