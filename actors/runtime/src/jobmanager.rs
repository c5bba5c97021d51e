//! The JobManager: accepts jobs and runs a JobMaster for each. Child of the cluster's root.
//!
//! A JobMaster that dies before its job has ended leaves the job failed. The status of ended jobs is kept as long as
//! the JobManager lives.

use crate::client::JobClient;
use crate::clock::Clock;
use crate::config::Config;
use crate::fault::FaultInjector;
use crate::master::{Arguments, JobMaster, JobMasterMessage};
use crate::report::JobStatus;
use crate::resource::ResourceManagerMessage;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::{Attempt, JobId};
use hurtig_state::CheckpointStore;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

/// A job to run.
pub struct Submission {
    /// Its graph.
    pub graph: JobGraph,
    /// Its configuration.
    pub config: Config,
    /// Where its checkpoints go.
    pub store: CheckpointStore,
    /// Faults to put in.
    pub faults: Option<Arc<dyn FaultInjector>>,
}

/// What the JobManager is told.
pub enum JobManagerMessage {
    /// From a client: run a job.
    Submit {
        /// The job.
        submission: Box<Submission>,
        /// Where to answer.
        reply: oneshot::Sender<JobClient>,
    },
    /// From a client: what jobs there are.
    List {
        /// Where to answer.
        reply: oneshot::Sender<Vec<JobStatus>>,
    },
    /// From a client: one job.
    Find {
        /// The job.
        job: JobId,
        /// Where to answer.
        reply: oneshot::Sender<Option<JobClient>>,
    },
}

impl ractor::Message for JobManagerMessage {}

/// The actor.
pub struct JobManager;

struct Job {
    status: watch::Sender<JobStatus>,
    master: ActorRef<JobMasterMessage>,
}

/// State of the JobManager.
pub struct State {
    clock: Clock,
    random: SmallRng,
    resource_manager: ActorRef<ResourceManagerMessage>,
    jobs: BTreeMap<JobId, Job>,
}

impl Actor for JobManager {
    type Msg = JobManagerMessage;
    type State = State;
    type Arguments = (ActorRef<ResourceManagerMessage>, Clock, u64);

    async fn pre_start(
        &self,
        _: ActorRef<JobManagerMessage>,
        (resource_manager, clock, seed): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State { clock, random: SmallRng::seed_from_u64(seed), resource_manager, jobs: BTreeMap::new() })
    }

    async fn handle(
        &self,
        myself: ActorRef<JobManagerMessage>,
        message: JobManagerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JobManagerMessage::Submit { submission, reply } => {
                let client = state.submit(&myself, *submission).await?;
                let _ = reply.send(client);
            }
            JobManagerMessage::List { reply } => {
                let _ = reply.send(state.jobs.values().map(|job| job.status.borrow().clone()).collect());
            }
            JobManagerMessage::Find { job, reply } => {
                let client = |job: &Job| JobClient::new(job.master.clone(), job.status.subscribe());
                let _ = reply.send(state.jobs.get(&job).map(client));
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<JobManagerMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.on_master_gone(who.get_id(), &error.to_string())
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                state.on_master_gone(who.get_id(), &reason.unwrap_or_else(|| "it was stopped".into()));
            }
            _ => {}
        }
        Ok(())
    }
}

impl State {
    async fn submit(
        &mut self,
        myself: &ActorRef<JobManagerMessage>,
        submission: Submission,
    ) -> Result<JobClient, ActorProcessingErr> {
        let id = JobId(self.random.random());
        let status = JobStatus::new(id, &submission.graph.name, self.clock.now());
        let (status, receiver) = watch::channel(status);
        let arguments = Arguments {
            job: id,
            graph: Arc::new(submission.graph),
            config: submission.config,
            store: submission.store,
            clock: self.clock,
            resource_manager: self.resource_manager.clone(),
            status: status.clone(),
            faults: submission.faults,
            first_attempt: Attempt(1),
            completed: Vec::new(),
        };
        let (master, _) = Actor::spawn_linked(None, JobMaster, arguments, myself.get_cell()).await?;
        self.jobs.insert(id, Job { status, master: master.clone() });
        Ok(JobClient::new(master, receiver))
    }

    fn on_master_gone(&mut self, who: ActorId, reason: &str) {
        let Some(job) = self.jobs.values().find(|job| job.master.get_id() == who) else { return };
        let now = self.clock.now();
        job.status.send_if_modified(|status| status.on_master_gone(reason, now));
        if let Some(id) = self.jobs.iter().find(|(_, job)| job.master.get_id() == who).map(|(id, _)| *id) {
            let _ = self.resource_manager.cast(ResourceManagerMessage::Release { job: id });
        }
    }
}
