//! A Worker: runs one job's subtasks on one TaskManager. Child of the TaskManager.
//!
//! Its children are the subtasks of the present attempt. Where the job has other workers in other processes, subtasks
//! begin when the links to them stand; a link that breaks fails the attempt, as a subtask's failure does. When one fails it tells the JobMaster, which has all Workers
//! stop the attempt. It keeps nothing durable; when it dies its subtasks die with it.

pub mod credit;
pub mod handover;
pub mod links;
pub mod memory;

use crate::execution::{ExecutionGraph, OutputChannel, Wiring};
use crate::failure::Failure;
use crate::master::JobMasterMessage;
use crate::protocol::Rescaled;
use crate::subtask::neighbours::{LIMITS, Receiver, Sender, SubtaskRef};
use crate::subtask::{Deployment, Subtask, SubtaskMessage};
use crate::tasks::Tasks;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::{Attempt, SubtaskId};
use hurtig_dataflow::state::StateMemory;
use links::{Duplex, Links, Network, Placement, Routes, WorkerId};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long subtasks of an attempt may take to finish what they are doing.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Connections that wait for their attempt to begin here: a worker has one to each other worker of its job.
const MOST_EARLY: usize = 1_024;

/// How often subtasks that do nothing are asked how they are.
const OBSERVE_INTERVAL: Duration = Duration::from_secs(1);

/// What a Worker is told.
pub enum WorkerMessage {
    /// From the JobMaster: make subtasks.
    Deploy {
        /// Their attempt.
        attempt: Attempt,
        /// What they are made of.
        deployments: Vec<Deployment>,
        /// The checkpoint that their state is from, for those that do not get it along.
        restored_from: Option<String>,
        /// How their graph was planned, if it is another than that of the beginning.
        rescaled: Option<Rescaled>,
        /// Whom to answer.
        master: ActorRef<JobMasterMessage>,
    },
    /// From the JobMaster: all subtasks of the job exist; let them work.
    Start {
        /// Their attempt.
        attempt: Attempt,
        /// Those that are in this process.
        direct: Arc<BTreeMap<SubtaskId, ActorRef<SubtaskMessage>>>,
        /// Where all of them are.
        placement: Arc<Placement>,
    },
    /// From the task that dialed or accepted: a connection to another worker, or why there is none.
    Connected {
        /// The attempt it is for.
        attempt: Attempt,
        /// The other worker.
        peer: WorkerId,
        /// The connection.
        result: io::Result<Box<dyn Duplex>>,
    },
    /// From a link: it has broken.
    LinkLost {
        /// Its attempt.
        attempt: Attempt,
        /// The other worker.
        peer: WorkerId,
        /// Why.
        reason: String,
    },
    /// From the JobMaster and its children, for one of the subtasks.
    ToSubtask {
        /// Its attempt.
        attempt: Attempt,
        /// Which one.
        id: SubtaskId,
        /// What it is told.
        message: SubtaskMessage,
    },
    /// From itself: have the attempt's subtasks tell how they are.
    Observe {
        /// Their attempt.
        attempt: Attempt,
    },
    /// From the JobMaster: stop the attempt's subtasks and answer when they are gone.
    Stop {
        /// The attempt.
        attempt: Attempt,
        /// Whom to answer.
        master: ActorRef<JobMasterMessage>,
    },
}

impl ractor::Message for WorkerMessage {}

/// The actor.
pub struct Worker;

/// What a Worker is made of.
pub struct Arguments {
    /// Its id.
    pub id: WorkerId,
    /// How it reaches the job's other workers, if they are not in this process.
    pub network: Option<Network>,
}

/// State of a Worker.
pub struct State {
    id: WorkerId,
    network: Option<Network>,
    attempt: Attempt,
    master: Option<ActorRef<JobMasterMessage>>,
    graph: Option<Arc<JobGraph>>,
    /// Batches that may be under way on a channel.
    window: u32,
    /// What its subtasks share for keyed state, attempt after attempt: what one has left counts in the next.
    memory: Option<Arc<StateMemory>>,
    subtasks: BTreeMap<SubtaskId, Deployed>,
    starting: Option<Starting>,
    links: Links,
    dialing: Tasks,
    /// Connections of other workers that have come to their attempt sooner.
    early: BTreeMap<WorkerId, (Attempt, Box<dyn Duplex>)>,
}

struct Deployed {
    actor: ActorRef<SubtaskMessage>,
    wiring: Wiring,
}

/// An attempt whose links are being made.
struct Starting {
    placement: Arc<Placement>,
    first_channels: BTreeMap<SubtaskId, u32>,
    routes: Arc<Routes>,
    peers: BTreeSet<WorkerId>,
}

impl Actor for Worker {
    type Msg = WorkerMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _: ActorRef<WorkerMessage>,
        Arguments { id, network }: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            id,
            network,
            attempt: Attempt::default(),
            master: None,
            graph: None,
            window: 0,
            memory: None,
            subtasks: BTreeMap::new(),
            starting: None,
            links: Links::default(),
            dialing: Tasks::default(),
            early: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMessage>,
        message: WorkerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMessage::Deploy { attempt, deployments, master, .. } if attempt > state.attempt => {
                stop_subtasks(&myself, state).await;
                state.attempt = attempt;
                state.master = Some(master.clone());
                let result = deploy(&myself, state, deployments).await;
                let _ = master.cast(JobMasterMessage::Deployed { attempt, result });
            }
            WorkerMessage::Start { attempt, direct, placement } if attempt == state.attempt => {
                state.start(&myself, &direct, placement);
                observe_later(&myself, attempt);
            }
            WorkerMessage::Observe { attempt } if attempt == state.attempt && !state.subtasks.is_empty() => {
                for deployed in state.subtasks.values() {
                    // One that is gone has failed, and the attempt ends.
                    let _ = deployed.actor.cast(SubtaskMessage::Observe);
                }
                observe_later(&myself, attempt);
            }
            WorkerMessage::Connected { attempt, peer, result } if attempt >= state.attempt => {
                state.on_connected(&myself, attempt, peer, result);
            }
            WorkerMessage::LinkLost { attempt, peer, reason } if attempt == state.attempt => {
                state.on_link_failed(peer, &reason);
            }
            WorkerMessage::ToSubtask { attempt, id, message } if attempt == state.attempt => {
                if let Some(deployed) = state.subtasks.get(&id) {
                    // One that is gone has failed, and the attempt ends.
                    let _ = deployed.actor.cast(message);
                }
            }
            WorkerMessage::Stop { attempt, master } => {
                if attempt >= state.attempt {
                    // Nothing of this attempt may be deployed after it was stopped.
                    state.attempt = attempt;
                    stop_subtasks(&myself, state).await;
                }
                let _ = master.cast(JobMasterMessage::Stopped { attempt, worker: Some(state.id) });
            }
            // Of an attempt that is over.
            WorkerMessage::Deploy { .. }
            | WorkerMessage::Start { .. }
            | WorkerMessage::Observe { .. }
            | WorkerMessage::Connected { .. }
            | WorkerMessage::LinkLost { .. }
            | WorkerMessage::ToSubtask { .. } => {}
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<WorkerMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(who, error) = event
            && let Some((id, _)) =
                state.subtasks.iter().find(|(_, deployed)| deployed.actor.get_id() == who.get_id())
        {
            let failure =
                error.downcast::<Failure>().map(|failure| *failure).unwrap_or_else(|error| Failure {
                    subtask: Some(*id),
                    place: format!("subtask {}/{}", id.vertex, id.index),
                    message: error.to_string(),
                    fatal: false,
                });
            state.fail(failure);
        }
        Ok(())
    }
}

/// Subtasks tell of themselves when they work; those that wait for input or credit are asked.
fn observe_later(myself: &ActorRef<WorkerMessage>, attempt: Attempt) {
    drop(myself.send_after(OBSERVE_INTERVAL, move || WorkerMessage::Observe { attempt }));
}

async fn deploy(
    myself: &ActorRef<WorkerMessage>,
    state: &mut State,
    deployments: Vec<Deployment>,
) -> Result<Vec<(SubtaskId, SubtaskRef)>, Failure> {
    let mut subtasks = Vec::with_capacity(deployments.len());
    state.window = deployments.first().map_or(0, |deployment| deployment.settings.credits);
    let limit = deployments.first().and_then(|deployment| deployment.settings.state_memory);
    let limit = limit.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
    if state.memory.as_ref().map(|memory| memory.limit()) != limit {
        state.memory = limit.map(StateMemory::new);
    }
    for mut deployment in deployments {
        deployment.memory.clone_from(&state.memory);
        let (id, wiring) = (deployment.id, deployment.wiring.clone());
        state.graph = Some(Arc::clone(&deployment.graph));
        let spawned = Actor::spawn_linked(None, Subtask, deployment, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| Failure::of("deployment", error.to_string()))?;
        state.subtasks.insert(id, Deployed { actor: actor.clone(), wiring });
        subtasks.push((id, SubtaskRef::Here(actor)));
    }
    Ok(subtasks)
}

async fn stop_subtasks(myself: &ActorRef<WorkerMessage>, state: &mut State) {
    state.starting = None;
    state.dialing = Tasks::default();
    if !std::mem::take(&mut state.subtasks).is_empty() {
        myself.get_cell().stop_children_and_wait(None, Some(STOP_TIMEOUT)).await;
    }
    state.links.close();
}

impl State {
    /// Tells each subtask its neighbours, at once or when the links to them stand.
    fn start(
        &mut self,
        myself: &ActorRef<WorkerMessage>,
        direct: &BTreeMap<SubtaskId, ActorRef<SubtaskMessage>>,
        placement: Arc<Placement>,
    ) {
        let (Some(network), Some(graph)) = (&self.network, &self.graph) else {
            return self.tell_neighbours(
                |_, from, _| direct.get(&from).cloned().map(Sender::Here),
                |output| Some(Receiver::Here(direct.get(&output.to)?.clone(), output.channel)),
            );
        };
        let execution = ExecutionGraph::new(graph);
        let first_channels = execution.first_channels();
        let local = self.subtasks.iter().map(|(id, deployed)| (*id, &deployed.actor, &deployed.wiring));
        let routes = Arc::new(Routes::new(local, &first_channels, self.window));
        let peers = links::peers_of(self.id, &execution, &placement);
        for dialing in links::dial_peers(network, self.id, self.attempt, &peers, myself) {
            self.dialing.spawn(dialing);
        }
        let peers = peers.into_keys().collect();
        self.starting = Some(Starting { placement, first_channels, routes, peers });
        for (peer, (attempt, stream)) in std::mem::take(&mut self.early) {
            if attempt >= self.attempt {
                self.on_connected(myself, attempt, peer, Ok(stream));
            }
        }
        self.start_if_linked();
    }

    fn on_connected(
        &mut self,
        myself: &ActorRef<WorkerMessage>,
        attempt: Attempt,
        peer: WorkerId,
        result: io::Result<Box<dyn Duplex>>,
    ) {
        let stream = match result {
            Ok(stream) => stream,
            Err(error) => return self.on_link_failed(peer, &describe(&error)),
        };
        match (&self.starting, &self.network) {
            (Some(starting), Some(network)) if attempt == self.attempt => {
                if !starting.peers.contains(&peer) || self.links.contains(peer) {
                    tracing::warn!("a connection of worker {peer}, of which none is expected");
                    return;
                }
                let which = (attempt, peer);
                let link = links::start(stream, network, &starting.routes, which, myself);
                self.links.insert(peer, link);
                self.start_if_linked();
            }
            // The other has been told to start and this one has not, or another attempt is about to begin.
            _ if self.early.len() < MOST_EARLY || self.early.contains_key(&peer) => {
                drop(self.early.insert(peer, (attempt, stream)));
            }
            _ => tracing::warn!("a connection of worker {peer}, while {MOST_EARLY} others wait"),
        }
    }

    fn on_link_failed(&mut self, peer: WorkerId, reason: &str) {
        self.fail(Failure::of(&format!("link from worker {} to {peer}", self.id), reason));
    }

    fn start_if_linked(&mut self) {
        let linked = |starting: &mut Starting| self.links.count() == starting.peers.len();
        let Some(starting) = self.starting.take_if(linked) else { return };
        let Starting { placement, first_channels, routes, .. } = starting;
        let Some(graph) = self.graph.clone() else { return };
        let local: BTreeMap<_, _> =
            self.subtasks.iter().map(|(id, deployed)| (*id, deployed.actor.clone())).collect();
        let link_to =
            |id: &SubtaskId| placement.subtasks.get(id).and_then(|peer| self.links.sender(*peer)).cloned();
        self.tell_neighbours(
            |id, from, at| match local.get(&from) {
                Some(actor) => Some(Sender::Here(actor.clone())),
                None => {
                    let channel = first_channels[&id] + at as u32;
                    Some(Sender::Linked(link_to(&from)?, channel, routes.input_credit(channel)?))
                }
            },
            |output| match local.get(&output.to) {
                Some(actor) => Some(Receiver::Here(actor.clone(), output.channel)),
                None => {
                    let channel = first_channels[&output.to] + output.channel as u32;
                    let encoder = graph.edges[output.edge].codec.encoder(LIMITS);
                    let sent = routes.output_credit(channel)?;
                    Some(Receiver::linked(link_to(&output.to)?, channel, sent, encoder))
                }
            },
        );
    }

    /// Lets all subtasks work, or none where a neighbour is nowhere.
    fn tell_neighbours(
        &self,
        sender: impl Fn(SubtaskId, SubtaskId, usize) -> Option<Sender>,
        receiver: impl Fn(&OutputChannel) -> Option<Receiver>,
    ) {
        let start = |id: &SubtaskId, deployed: &Deployed| {
            let Wiring { inputs, outputs, .. } = &deployed.wiring;
            let senders = inputs.iter().enumerate().map(|(at, input)| sender(*id, input.from, at));
            let senders = senders.collect::<Option<_>>()?;
            let receivers = outputs.iter().map(&receiver).collect::<Option<_>>()?;
            Some(SubtaskMessage::Start { senders, receivers })
        };
        let starts = self.subtasks.iter().map(|(id, deployed)| Some((&deployed.actor, start(id, deployed)?)));
        match starts.collect::<Option<Vec<_>>>() {
            Some(starts) => {
                for (actor, message) in starts {
                    // One that is gone has failed, and the attempt ends.
                    let _ = actor.cast(message);
                }
            }
            None => self.fail(Failure::of("placement", "a subtask's neighbour is on no known worker")),
        }
    }

    fn fail(&self, failure: Failure) {
        if let Some(master) = &self.master {
            let _ = master.cast(JobMasterMessage::SubtaskFailed { attempt: self.attempt, failure });
        }
    }
}
