//! A Worker: runs one job's subtasks on one TaskManager. Child of the TaskManager.
//!
//! Its children are the subtasks of the present attempt. When one fails it tells the JobMaster, which has all Workers
//! stop the attempt. It keeps nothing durable; when it dies its subtasks die with it.

use crate::failure::Failure;
use crate::master::JobMasterMessage;
use crate::subtask::{Deployment, Subtask, SubtaskMessage};
use hurtig_dataflow::ids::{Attempt, SubtaskId};
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long subtasks of an attempt may take to finish what they are doing.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What a Worker is told.
pub enum WorkerMessage {
    /// From the JobMaster: make subtasks.
    Deploy {
        /// Their attempt.
        attempt: Attempt,
        /// What they are made of.
        deployments: Vec<Deployment>,
        /// Whom to answer.
        master: ActorRef<JobMasterMessage>,
    },
    /// From the JobMaster: all subtasks of the job exist; let them work.
    Start {
        /// Their attempt.
        attempt: Attempt,
        /// All of them, here and elsewhere.
        peers: Arc<BTreeMap<SubtaskId, ActorRef<SubtaskMessage>>>,
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

/// State of a Worker.
#[derive(Default)]
pub struct State {
    attempt: Attempt,
    master: Option<ActorRef<JobMasterMessage>>,
    subtasks: BTreeMap<SubtaskId, Deployed>,
}

struct Deployed {
    actor: ActorRef<SubtaskMessage>,
    wiring: crate::execution::Wiring,
}

impl Actor for Worker {
    type Msg = WorkerMessage;
    type State = State;
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<WorkerMessage>, (): ()) -> Result<State, ActorProcessingErr> {
        Ok(State::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<WorkerMessage>,
        message: WorkerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            WorkerMessage::Deploy { attempt, deployments, master } if attempt > state.attempt => {
                stop_subtasks(&myself, state).await;
                state.attempt = attempt;
                state.master = Some(master.clone());
                let result = deploy(&myself, state, deployments).await;
                let _ = master.cast(JobMasterMessage::Deployed { attempt, result });
            }
            WorkerMessage::Start { attempt, peers } if attempt == state.attempt => state.start(&peers),
            WorkerMessage::Stop { attempt, master } => {
                if attempt >= state.attempt {
                    // Nothing of this attempt may be deployed after it was stopped.
                    state.attempt = attempt;
                    stop_subtasks(&myself, state).await;
                }
                let _ = master.cast(JobMasterMessage::Stopped { attempt });
            }
            // Of an attempt that is over.
            WorkerMessage::Deploy { .. } | WorkerMessage::Start { .. } => {}
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
            if let Some(master) = &state.master {
                let _ = master.cast(JobMasterMessage::SubtaskFailed { attempt: state.attempt, failure });
            }
        }
        Ok(())
    }
}

async fn deploy(
    myself: &ActorRef<WorkerMessage>,
    state: &mut State,
    deployments: Vec<Deployment>,
) -> Result<Vec<(SubtaskId, ActorRef<SubtaskMessage>)>, Failure> {
    let mut subtasks = Vec::with_capacity(deployments.len());
    for deployment in deployments {
        let (id, wiring) = (deployment.id, deployment.wiring.clone());
        let spawned = Actor::spawn_linked(None, Subtask, deployment, myself.get_cell()).await;
        let (actor, _) = spawned.map_err(|error| Failure::of("deployment", error.to_string()))?;
        state.subtasks.insert(id, Deployed { actor: actor.clone(), wiring });
        subtasks.push((id, actor));
    }
    Ok(subtasks)
}

async fn stop_subtasks(myself: &ActorRef<WorkerMessage>, state: &mut State) {
    if !std::mem::take(&mut state.subtasks).is_empty() {
        myself.get_cell().stop_children_and_wait(None, Some(STOP_TIMEOUT)).await;
    }
}

impl State {
    /// Tells each subtask its neighbours.
    fn start(&mut self, peers: &BTreeMap<SubtaskId, ActorRef<SubtaskMessage>>) {
        for Deployed { actor, wiring } in self.subtasks.values() {
            let senders = wiring.inputs.iter().map(|channel| peers[&channel.from].clone()).collect();
            let receivers = wiring.outputs.iter().map(|channel| peers[&channel.to].clone()).collect();
            let _ = actor.cast(SubtaskMessage::Start { senders, receivers });
        }
    }
}
