//! A TaskManager: offers slots and runs Workers, one per job. Child of its provider when embedded.
//!
//! It registers with the ResourceManager when it starts. A Worker that dies takes its subtasks with it; the job's
//! master hears of it from the ResourceManager.

use crate::resource::ResourceManagerMessage;
use crate::worker::{Worker, WorkerMessage};
use hurtig_dataflow::ids::JobId;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::collections::HashMap;

/// What a TaskManager is told.
pub enum TaskManagerMessage {
    /// From the ResourceManager: a job gets slots here; run a Worker for it and answer with it.
    Launch {
        /// The job.
        job: JobId,
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
    workers: HashMap<JobId, ActorRef<WorkerMessage>>,
}

impl Actor for TaskManager {
    type Msg = TaskManagerMessage;
    type State = State;
    type Arguments = (ActorRef<ResourceManagerMessage>, usize);

    async fn pre_start(
        &self,
        myself: ActorRef<TaskManagerMessage>,
        (resource_manager, slots): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        resource_manager.cast(ResourceManagerMessage::Register { task_manager: myself, slots })?;
        Ok(State { resource_manager, workers: HashMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<TaskManagerMessage>,
        message: TaskManagerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            TaskManagerMessage::Launch { job } => {
                let (worker, _) = Actor::spawn_linked(None, Worker, (), myself.get_cell()).await?;
                state.workers.insert(job, worker.clone());
                state.resource_manager.cast(ResourceManagerMessage::Launched {
                    task_manager: myself.get_id(),
                    job,
                    worker,
                })?;
            }
            TaskManagerMessage::Release { job } => {
                if let Some(worker) = state.workers.remove(&job) {
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
        if let SupervisionEvent::ActorFailed(who, error) = event {
            tracing::error!("a worker failed: {error}");
            state.workers.retain(|_, worker| worker.get_id() != who.get_id());
        }
        Ok(())
    }
}
