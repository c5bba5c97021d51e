//! A TaskManager: offers slots and runs Workers, one per job. Child of its provider when embedded.
//!
//! It registers with the ResourceManager when it starts. A Worker that dies takes its subtasks with it; the job's
//! master hears of it from the ResourceManager.

use crate::resource::{Offer, ResourceManagerMessage, Share};
use crate::worker::links::WorkerId;
use crate::worker::memory::MemoryNetwork;
use crate::worker::{Arguments, Worker, WorkerMessage};
use hurtig_dataflow::ids::JobId;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::{BTreeMap, HashMap};

/// What a TaskManager is told.
pub enum TaskManagerMessage {
    /// From the ResourceManager: a job gets slots here; run a Worker for it and answer with it.
    Launch {
        /// The job.
        job: JobId,
        /// The Worker's id.
        worker: WorkerId,
        /// What it stands for.
        share: Share,
    },
    /// From the ResourceManager: the Worker of a job stands for other slots from now on.
    Share {
        /// The job.
        job: JobId,
        /// What it stands for.
        share: Share,
    },
    /// From the ResourceManager: the job has given its slots back.
    Release {
        /// The job.
        job: JobId,
    },
}

impl ractor::Message for TaskManagerMessage {}

/// The actor.
pub struct TaskManager;

/// State of a TaskManager.
pub struct State {
    resource_manager: ActorRef<ResourceManagerMessage>,
    /// How Workers reach each other, if only by links.
    network: Option<MemoryNetwork>,
    workers: HashMap<JobId, (WorkerId, ActorRef<WorkerMessage>)>,
}

impl Actor for TaskManager {
    type Msg = TaskManagerMessage;
    type State = State;
    type Arguments = (ActorRef<ResourceManagerMessage>, Offer, Option<MemoryNetwork>);

    async fn pre_start(
        &self,
        myself: ActorRef<TaskManagerMessage>,
        (resource_manager, offer, network): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let used = BTreeMap::new();
        resource_manager.cast(ResourceManagerMessage::Register { task_manager: myself, offer, used })?;
        Ok(State { resource_manager, network, workers: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskManagerMessage>,
        message: TaskManagerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TaskManagerMessage::Launch { job, worker, .. } => {
                let network = state.network.as_ref().map(|network| network.network(worker));
                let address = network.as_ref().map(|network| network.address.clone());
                let arguments = Arguments { id: worker, network };
                let (actor, _) = Actor::spawn_linked(None, Worker, arguments, myself.get_cell()).await?;
                if let Some(network) = &state.network {
                    network.join(worker, actor.clone());
                }
                state.workers.insert(job, (worker, actor.clone()));
                state.resource_manager.cast(ResourceManagerMessage::Launched {
                    task_manager: myself.get_id(),
                    job,
                    worker,
                    actor: Some(actor),
                    address,
                })?;
            }
            // Nothing is kept of it here.
            TaskManagerMessage::Share { .. } => {}
            TaskManagerMessage::Release { job } => {
                if let Some((id, worker)) = state.workers.remove(&job) {
                    if let Some(network) = &state.network {
                        network.leave(id);
                    }
                    worker.stop(None);
                }
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<TaskManagerMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (who, reason) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        let of = |(_, (_, worker)): &(&JobId, &(WorkerId, ActorRef<WorkerMessage>))| {
            worker.get_id() == who.get_id()
        };
        // One whose slots were given back is known no more.
        if let Some((job, worker)) = state.workers.iter().find(of).map(|(job, (id, _))| (*job, *id)) {
            tracing::error!(%job, "worker {worker} has ended: {reason}");
            state.workers.remove(&job);
            if let Some(network) = &state.network {
                network.leave(worker);
            }
            state.resource_manager.cast(ResourceManagerMessage::WorkerEnded { job, worker, reason })?;
        }
        Ok(())
    }
}
