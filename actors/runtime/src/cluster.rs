//! An embedded cluster: JobManager, ResourceManager and TaskManagers in this process, under one root supervisor.

use crate::client::{JobClient, JobError};
use crate::clock::Clock;
use crate::config::{Config, SlotPlacement};
use crate::daemon::client::ClusterClient;
use crate::fault::FaultInjector;
use crate::jobmanager::{JobManager, JobManagerMessage, Submission};
use crate::process::worker::copies_of;
use crate::protocol::Rescaled;
use crate::report::JobStatus;
use crate::resource::{self, InProcessProvider, ResourceManager, ResourceManagerMessage, WorkerProvider};
use crate::worker::memory::MemoryNetwork;
use hurtig_dataflow::error::Error as GraphError;
use hurtig_dataflow::graph::{GraphDefaults, JobGraph, StreamGraph};
use hurtig_dataflow::ids::JobId;
use hurtig_state::CheckpointStore;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error as ThisError;
use tokio::sync::oneshot;

/// How long a job waits for slots.
const SLOT_TIMEOUT: Duration = Duration::from_secs(300);

/// Why a job cannot be run.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum RunError {
    /// The program is wrong.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The checkpoint folder cannot be used.
    #[error(transparent)]
    Store(#[from] hurtig_state::Error),
    /// The job has no result.
    #[error(transparent)]
    Job(#[from] JobError),
    /// The cluster's actors could not be started or have ended.
    #[error("the cluster does not run: {0}")]
    Cluster(String),
}

/// What the root supervisor is told: nothing.
enum RootMessage {}
impl ractor::Message for RootMessage {}

struct Root;

struct RootState {
    job_manager: ActorRef<JobManagerMessage>,
}

type RootArguments = (
    Clock,
    u64,
    Box<dyn WorkerProvider>,
    Option<MemoryNetwork>,
    Config,
    oneshot::Sender<ActorRef<JobManagerMessage>>,
);

impl Actor for Root {
    type Msg = RootMessage;
    type State = RootState;
    type Arguments = RootArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<RootMessage>,
        (clock, seed, provider, network, config, reply): RootArguments,
    ) -> Result<RootState, ActorProcessingErr> {
        let seed_of_slots = seed.rotate_left(32);
        let arguments = resource::Arguments {
            provider,
            slot_timeout: SLOT_TIMEOUT,
            placement: SlotPlacement::Pack,
            seed: seed_of_slots,
            network,
        };
        let (resource_manager, _): (ActorRef<ResourceManagerMessage>, _) =
            Actor::spawn_linked(None, ResourceManager, arguments, myself.get_cell()).await?;
        let arguments = (resource_manager, clock, seed, config);
        let (job_manager, _) = Actor::spawn_linked(None, JobManager, arguments, myself.get_cell()).await?;
        let _ = reply.send(job_manager.clone());
        Ok(RootState { job_manager })
    }

    /// Neither can go on without the other, so the cluster ends with either.
    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<RootMessage>,
        event: SupervisionEvent,
        state: &mut RootState,
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!("the cluster ends: {error}");
            state.job_manager.stop(None);
            myself.stop(Some(error.to_string()));
        }
        Ok(())
    }
}

/// An embedded cluster. Ends, with its jobs, when [`shutdown`](Cluster::shutdown) is called.
pub struct Cluster {
    root: ActorRef<RootMessage>,
    job_manager: ActorRef<JobManagerMessage>,
    memory: CheckpointStore,
}

impl Cluster {
    /// Starts a cluster as configured.
    ///
    /// # Errors
    /// Its actors cannot be started.
    pub async fn start(config: &Config) -> Result<Self, RunError> {
        Self::start_with(config, None).await
    }

    /// Starts a cluster whose workers exchange records over links, encoded, as workers in different processes do.
    ///
    /// # Errors
    /// Its actors cannot be started.
    pub async fn start_linked(config: &Config, network: MemoryNetwork) -> Result<Self, RunError> {
        Self::start_with(config, Some(network.with_heartbeat_timeout(config.heartbeat.timeout))).await
    }

    async fn start_with(config: &Config, network: Option<MemoryNetwork>) -> Result<Self, RunError> {
        let provider =
            InProcessProvider { task_managers: config.taskmanager.count, slots: config.taskmanager.slots };
        let (reply, answer) = oneshot::channel();
        let clock = Clock::new();
        let arguments: RootArguments =
            (clock, random_seed(), Box::new(provider), network, config.clone(), reply);
        let (root, _) = Actor::spawn(None, Root, arguments)
            .await
            .map_err(|error| RunError::Cluster(error.to_string()))?;
        let job_manager = answer.await.map_err(|error| RunError::Cluster(error.to_string()))?;
        Ok(Cluster {
            root,
            job_manager,
            memory: CheckpointStore::open(&format!("memory:{:016x}", random_seed()))?,
        })
    }

    /// Submits a job and returns a handle on it.
    ///
    /// # Errors
    /// The program is wrong, the checkpoint folder cannot be used, or the cluster has ended.
    pub async fn submit(
        &self,
        name: &str,
        graph: &StreamGraph,
        config: &Config,
    ) -> Result<JobClient, RunError> {
        self.submit_with_faults(name, graph, config, None).await
    }

    /// Submits a job into which faults are put.
    ///
    /// # Errors
    /// As [`Cluster::submit`].
    pub async fn submit_with_faults(
        &self,
        name: &str,
        graph: &StreamGraph,
        config: &Config,
        faults: Option<Arc<dyn FaultInjector>>,
    ) -> Result<JobClient, RunError> {
        let graph = job_graph(name, graph, config)?;
        let store = match &config.checkpoint.dir {
            Some(dir) => CheckpointStore::open(&dir.display().to_string())?,
            None => self.memory.clone(),
        };
        let store = store.with_copies(copies_of(config).map_err(RunError::Cluster)?);
        if config.checkpoint.interval.is_some() {
            store.probe().await?;
        }
        let submission = Submission { graph, config: config.clone(), store, faults };
        self.ask(|reply| JobManagerMessage::Submit { submission: Box::new(submission), reply }).await
    }

    /// Jobs that run or have ended.
    ///
    /// # Errors
    /// The cluster has ended.
    pub async fn jobs(&self) -> Result<Vec<JobStatus>, RunError> {
        self.ask(|reply| JobManagerMessage::List { reply }).await
    }

    /// A handle on a job.
    ///
    /// # Errors
    /// The cluster has ended.
    pub async fn job(&self, job: JobId) -> Result<Option<JobClient>, RunError> {
        self.ask(|reply| JobManagerMessage::Find { job, reply }).await
    }

    /// A client of the kind that clusters of processes have.
    pub fn client(&self) -> ClusterClient {
        let job_manager = self.job_manager.clone();
        ClusterClient::here(Arc::new(move |request, reply| {
            // One that has ended drops the reply, which tells whoever asks.
            let _ = job_manager.cast(JobManagerMessage::Asked(Box::new(request), reply));
        }))
    }

    /// Ends the cluster and all its jobs.
    pub async fn shutdown(self) {
        let timeout = Some(Duration::from_secs(30));
        self.root.get_cell().stop_children_and_wait(None, timeout).await;
        let _ = self.root.stop_and_wait(None, timeout).await;
    }

    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> JobManagerMessage,
    ) -> Result<T, RunError> {
        let (reply, answer) = oneshot::channel();
        let gone = || RunError::Cluster("its JobManager has ended".into());
        self.job_manager.cast(message(reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

/// Builds the job graph as configured.
///
/// # Errors
/// The program is wrong.
pub fn job_graph(name: &str, graph: &StreamGraph, config: &Config) -> Result<JobGraph, GraphError> {
    rescaled_job_graph(name, graph, config, None)
}

/// The same, with what has been changed of the job's parallelism since it was submitted.
///
/// # Errors
/// The program is wrong, or cannot have that parallelism.
pub fn rescaled_job_graph(
    name: &str,
    graph: &StreamGraph,
    config: &Config,
    rescaled: Option<&Rescaled>,
) -> Result<JobGraph, GraphError> {
    let configured = config.parallelism.max.map(|max| max as u32);
    let defaults = GraphDefaults {
        parallelism: rescaled
            .and_then(|rescaled| rescaled.parallelism)
            .unwrap_or_else(|| config.default_parallelism()),
        max_parallelism: rescaled.map(|rescaled| rescaled.max_parallelism).or(configured),
        chaining: config.execution.chaining,
        of_uids: rescaled.map(|rescaled| rescaled.of_uids.clone()).unwrap_or_default(),
    };
    graph.job_graph(name, &defaults)
}

#[allow(clippy::disallowed_methods, reason = "job ids must differ between processes")]
fn random_seed() -> u64 {
    rand::Rng::random(&mut rand::rng())
}
