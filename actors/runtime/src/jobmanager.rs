//! The JobManager: accepts jobs and runs a JobMaster for each. Child of the cluster's root.
//!
//! A JobMaster that dies before its job has ended leaves the job failed. The status of ended jobs is kept as long as
//! the JobManager lives.

mod clients;

use crate::client::JobClient;
use crate::clock::Clock;
use crate::config::Config;
use crate::fault::FaultInjector;
use crate::master::{Arguments, JobMaster, JobMasterMessage};
use crate::node::Reply;
use crate::observe::Observer;
use crate::protocol::{ClientRequest, GraphSummary};
use crate::report::JobStatus;
use crate::resource::ResourceManagerMessage;
use crate::tasks::Tasks;
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
    /// From a client of the kind that clusters of processes have.
    Asked(Box<ClientRequest>, Reply),
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
    graph: GraphSummary,
    observer: Observer,
    status: watch::Sender<JobStatus>,
    master: ActorRef<JobMasterMessage>,
}

impl Job {
    fn client(&self, clock: Clock) -> JobClient {
        JobClient {
            master: self.master.clone(),
            status: self.status.subscribe(),
            graph: self.graph.clone(),
            observer: self.observer.clone(),
            clock,
        }
    }
}

/// State of the JobManager.
pub struct State {
    clock: Clock,
    random: SmallRng,
    config: Config,
    tasks: Tasks,
    resource_manager: ActorRef<ResourceManagerMessage>,
    jobs: BTreeMap<JobId, Job>,
}

impl Actor for JobManager {
    type Msg = JobManagerMessage;
    type State = State;
    type Arguments = (ActorRef<ResourceManagerMessage>, Clock, u64, Config);

    async fn pre_start(
        &self,
        _: ActorRef<JobManagerMessage>,
        (resource_manager, clock, seed, config): Self::Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let random = SmallRng::seed_from_u64(seed);
        let (tasks, jobs) = (Tasks::default(), BTreeMap::new());
        Ok(State { clock, random, config, tasks, resource_manager, jobs })
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
            JobManagerMessage::Asked(request, reply) => state.on_request(*request, reply),
            JobManagerMessage::Find { job, reply } => {
                let _ = reply.send(state.jobs.get(&job).map(|job| job.client(state.clock)));
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
        let (status, _) = watch::channel(status);
        let graph = GraphSummary::new(&submission.graph);
        let observer = Observer::new(submission.config.settings(), submission.config.checkpoint.retained);
        let arguments = Arguments {
            job: id,
            graph: Arc::new(submission.graph),
            config: submission.config,
            store: submission.store,
            clock: self.clock,
            resource_manager: self.resource_manager.clone(),
            status: status.clone(),
            observer: observer.clone(),
            faults: submission.faults,
            first_attempt: Attempt(1),
            first_checkpoint: 1,
            completed: Vec::new(),
            mastership: None,
        };
        let (master, _) = Actor::spawn_linked(None, JobMaster, arguments, myself.get_cell()).await?;
        let job = Job { graph, observer, status, master };
        let client = job.client(self.clock);
        self.jobs.insert(id, job);
        Ok(client)
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
