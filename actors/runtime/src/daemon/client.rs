//! A connection of a client to a cluster: what the command line, the REST interface and programs use.

use crate::config::Config;
use crate::daemon::leader::JobManagers;
use crate::machine::Machine;
use crate::node::{AskError, Node, NodeError, Peer, Reply, question};
use crate::process::worker::node_options;
use crate::profile::PROFILE_TIMEOUT;
use crate::protocol::{
    Answer, CHUNK_BYTES, Call, Changed, ClientRequest, GraphSummary, LogAnswer, LogFile, LogPart,
    LogQuestion, Observed, Overview, Profile, ProgramHash, ProgramSummary, Submitted,
};
use crate::report::JobStatus;
use crate::worker::links::WorkerId;
use hurtig_dataflow::ids::{CheckpointId, JobId};
use hurtig_transport::Tls;
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error as ThisError;
use tokio::time::{Instant, sleep};

/// How long an ordinary question may take.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long planning or a savepoint may take.
const LONG_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long a JobManager that went away is waited for, and how often it is looked for.
const RECONNECT_TIMEOUT: Duration = Duration::from_secs(60);
const RECONNECT_INTERVAL: Duration = Duration::from_millis(500);

/// What a client is told instead of an answer.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ClientError {
    /// There is no way to the JobManager.
    #[error("no JobManager at {address}: is it running? `hurtig cluster` starts one here")]
    Unreachable {
        /// Where it was looked for.
        address: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// A JobManager is there, and it and this client do not take each other for what they say they are.
    #[error(
        "the JobManager at {address} does not accept this client, or this client not it: see 'cluster.certificates'"
    )]
    Unknown {
        /// Where it is.
        address: String,
        /// Why.
        #[source]
        source: NodeError,
    },
    /// The JobManager went away, or did not answer.
    #[error("the JobManager did not answer")]
    Lost(#[from] AskError),
    /// The JobManager says no.
    #[error("{0}")]
    Refused(String),
    /// The program cannot be read.
    #[error("the program cannot be read")]
    Program(#[from] io::Error),
}

/// A connection to a cluster's JobManager.
pub struct ClusterClient(Way);

/// Takes the questions of clients in this process.
pub type AskHere = Arc<dyn Fn(ClientRequest, Reply) + Send + Sync>;

/// How the JobManager is reached.
enum Way {
    /// By the net.
    Dialled(Dialled),
    /// It is in this process.
    Here(AskHere),
}

struct Dialled {
    node: Node,
    job_managers: JobManagers,
    tls: Tls,
    peer: Mutex<Peer>,
}

impl ClusterClient {
    /// Connects to the JobManager that the configuration names.
    ///
    /// # Errors
    /// It cannot be reached, or does not let this client in.
    pub async fn connect(config: &Config, tls: &Tls) -> Result<Self, ClientError> {
        Self::connect_on(&Machine::Real, config, tls).await
    }

    /// The same, on any machine.
    ///
    /// # Errors
    /// As [`ClusterClient::connect`].
    pub async fn connect_on(machine: &Machine, config: &Config, tls: &Tls) -> Result<Self, ClientError> {
        let address = &config.cluster.jobmanager;
        let job_managers = JobManagers::new(config);
        let unreachable = |source| match source {
            NodeError::Transport(hurtig_transport::Error::Handshake { .. }) => {
                ClientError::Unknown { address: address.clone(), source }
            }
            _ => ClientError::Unreachable { address: address.clone(), source },
        };
        let node = machine.node(node_options(config), Arc::new(|_| {}), None).await.map_err(unreachable)?;
        let peer = match job_managers.dial(&node, tls).await {
            Ok(peer) => peer,
            Err(error) => {
                // A process has one node, and the next try begins another.
                node.shutdown().await;
                return Err(unreachable(error));
            }
        };
        Ok(ClusterClient(Way::Dialled(Dialled {
            node,
            job_managers,
            tls: tls.clone(),
            peer: Mutex::new(peer),
        })))
    }

    /// A client of a JobManager in this process.
    pub fn here(ask: AskHere) -> Self {
        ClusterClient(Way::Here(ask))
    }

    /// Looks for a JobManager that went away until it is back.
    async fn reconnect(&self, lost: ClientError) -> Result<(), ClientError> {
        let Way::Dialled(way) = &self.0 else { return Err(lost) };
        let until = Instant::now() + RECONNECT_TIMEOUT;
        loop {
            match way.job_managers.dial(&way.node, &way.tls).await {
                Ok(peer) => {
                    *way.peer.lock() = peer;
                    return Ok(());
                }
                Err(_) if Instant::now() >= until => return Err(lost),
                Err(_) => sleep(RECONNECT_INTERVAL).await,
            }
        }
    }

    /// Ends the connection.
    pub async fn close(self) {
        if let Way::Dialled(way) = self.0 {
            way.node.shutdown().await;
        }
    }

    async fn ask<R: DeserializeOwned>(
        &self,
        request: &ClientRequest,
        limit: Duration,
    ) -> Result<R, ClientError> {
        match &self.0 {
            Way::Dialled(way) => {
                let asked = way.peer.lock().ask(request, limit);
                Ok(asked.await?)
            }
            Way::Here(ask) => {
                let (reply, answer) = question(limit);
                ask(request.clone(), reply);
                Ok(answer.await?)
            }
        }
    }

    async fn ask_answer<R: DeserializeOwned>(
        &self,
        request: &ClientRequest,
        limit: Duration,
    ) -> Result<R, ClientError> {
        self.ask::<Answer<R>>(request, limit).await?.map_err(ClientError::Refused)
    }

    /// Gives the JobManager a program, unless it has it. `progress` is told the bytes sent so far.
    ///
    /// # Errors
    /// The program cannot be read or is refused, or the JobManager is gone.
    pub async fn upload(
        &self,
        program: &ProgramHash,
        size_bytes: u64,
        mut content: impl Read,
        mut progress: impl FnMut(u64),
    ) -> Result<(), ClientError> {
        if self.ask::<bool>(&ClientRequest::HasProgram(program.clone()), ASK_TIMEOUT).await? {
            return Ok(());
        }
        let begin = ClientRequest::BeginUpload { program: program.clone(), size_bytes };
        let upload = self.ask_answer::<u64>(&begin, ASK_TIMEOUT).await?;
        let mut sent = 0;
        loop {
            let mut bytes = Vec::with_capacity(CHUNK_BYTES);
            content.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
            if bytes.is_empty() {
                break;
            }
            sent += bytes.len() as u64;
            let chunk = ClientRequest::Chunk { upload, bytes: bytes.into() };
            self.ask_answer::<()>(&chunk, ASK_TIMEOUT).await?;
            progress(sent);
        }
        self.ask_answer(&ClientRequest::FinishUpload(upload), ASK_TIMEOUT).await
    }

    /// Runs a program as a job.
    ///
    /// # Errors
    /// It builds no job, or the JobManager is gone.
    pub async fn submit(&self, call: Call) -> Result<Submitted, ClientError> {
        self.ask_answer(&ClientRequest::Submit(call), LONG_TIMEOUT).await
    }

    /// The jobs there are.
    ///
    /// # Errors
    /// The JobManager is gone.
    pub async fn list(&self) -> Result<Vec<JobStatus>, ClientError> {
        self.ask(&ClientRequest::List, ASK_TIMEOUT).await
    }

    /// A job by the beginning of its id, with its graph.
    ///
    /// # Errors
    /// There is none or more than one, or the JobManager is gone.
    pub async fn info(&self, id: &str) -> Result<(JobStatus, GraphSummary), ClientError> {
        self.ask_answer(&ClientRequest::Info(id.to_string()), ASK_TIMEOUT).await
    }

    /// Follows a job to its end, which is returned. `show` is told each change, or why there is none to tell: a
    /// JobManager that goes away does not end its jobs, so it is waited for.
    ///
    /// # Errors
    /// There is no such job, or the JobManager is gone and does not come back for a minute.
    pub async fn follow(
        &self,
        job: JobId,
        show: impl FnMut(Result<&JobStatus, &ClientError>),
    ) -> Result<JobStatus, ClientError> {
        self.follow_until(job, show, |_| false).await
    }

    /// The same, until a condition holds or the job ends.
    ///
    /// # Errors
    /// As [`ClusterClient::follow`].
    pub async fn follow_until(
        &self,
        job: JobId,
        mut show: impl FnMut(Result<&JobStatus, &ClientError>),
        holds: impl Fn(&JobStatus) -> bool,
    ) -> Result<JobStatus, ClientError> {
        let mut seen = 0;
        loop {
            let question = ClientRequest::Follow { job, seen };
            match self.ask_answer::<Changed>(&question, ASK_TIMEOUT).await {
                Ok(changed) => {
                    show(Ok(&changed.status));
                    if changed.status.state.is_terminal() || holds(&changed.status) {
                        return Ok(changed.status);
                    }
                    seen = changed.version;
                }
                Err(lost @ ClientError::Lost(_)) => {
                    show(Err(&lost));
                    self.reconnect(lost).await?;
                    // One that has begun anew counts from the beginning.
                    seen = 0;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Ends a job.
    ///
    /// # Errors
    /// It does not run, or the JobManager is gone.
    pub async fn cancel(&self, job: JobId) -> Result<(), ClientError> {
        self.ask_answer(&ClientRequest::Cancel(job), ASK_TIMEOUT).await
    }

    /// Takes a savepoint, with which the job stops if wanted, and returns its location.
    ///
    /// # Errors
    /// The job does not run, the savepoint cannot be taken, or the JobManager is gone.
    pub async fn savepoint(
        &self,
        job: JobId,
        target: Option<String>,
        stop: bool,
    ) -> Result<String, ClientError> {
        self.ask_answer(&ClientRequest::Savepoint { job, target, stop }, LONG_TIMEOUT).await
    }

    /// Gives a job another parallelism: of the vertices for which the program says nothing else, and of those that
    /// contain an operator of a uid. Answered when the job starts again, from a checkpoint that was taken for that.
    ///
    /// # Errors
    /// The job does not run, cannot have that parallelism, or there are no slots for it, in which case it goes on as it
    /// was; or the JobManager is gone.
    pub async fn rescale(
        &self,
        job: JobId,
        parallelism: Option<usize>,
        vertices: Vec<(String, usize)>,
    ) -> Result<Submitted, ClientError> {
        self.ask_answer(&ClientRequest::Rescale { job, parallelism, vertices }, LONG_TIMEOUT).await
    }

    /// What the cluster consists of.
    ///
    /// # Errors
    /// The JobManager is gone.
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.ask(&ClientRequest::Overview, ASK_TIMEOUT).await
    }

    /// All that is observed of a job; what each subtask has added to a checkpoint, for the one that is named.
    ///
    /// # Errors
    /// There is no such job, or the JobManager is gone.
    pub async fn observe(
        &self,
        job: JobId,
        checkpoint: Option<CheckpointId>,
    ) -> Result<Observed, ClientError> {
        self.ask_answer(&ClientRequest::Observe { job, checkpoint }, ASK_TIMEOUT).await
    }

    /// The JobManager's configuration: what is not as by default.
    ///
    /// # Errors
    /// The JobManager is gone.
    pub async fn config(&self) -> Result<Vec<(String, String)>, ClientError> {
        self.ask(&ClientRequest::Config, ASK_TIMEOUT).await
    }

    /// Where one of a job's workers spends its time, from now on for so long.
    ///
    /// # Errors
    /// There is no such job or worker, it cannot be sampled, or the JobManager is gone.
    pub async fn profile(
        &self,
        job: JobId,
        worker: WorkerId,
        duration: Duration,
    ) -> Result<Profile, ClientError> {
        let limit = duration + PROFILE_TIMEOUT * 3;
        self.ask_answer(&ClientRequest::Profile { job, worker, duration }, limit).await
    }

    /// The log files of the JobManager, or of a TaskManager by its name, whose names begin so; the newest first.
    ///
    /// # Errors
    /// There is no such TaskManager, or it or the JobManager is gone.
    pub async fn logs(&self, of: Option<&str>, under: &str) -> Result<Vec<LogFile>, ClientError> {
        let request = ClientRequest::Logs {
            of: of.map(str::to_owned),
            question: LogQuestion::List { under: under.to_owned() },
        };
        match self.ask_answer(&request, ASK_TIMEOUT).await? {
            LogAnswer::Files(files) => Ok(files),
            LogAnswer::Part(_) => Err(ClientError::Refused("it answers something else".into())),
        }
    }

    /// A part of a log file from a place on, or its end.
    ///
    /// # Errors
    /// There is no such file, or its daemon is gone.
    pub async fn log(&self, of: Option<&str>, name: &str, from: Option<u64>) -> Result<LogPart, ClientError> {
        let question = LogQuestion::Read { name: name.to_owned(), from };
        match self
            .ask_answer(&ClientRequest::Logs { of: of.map(str::to_owned), question }, ASK_TIMEOUT)
            .await?
        {
            LogAnswer::Part(part) => Ok(part),
            LogAnswer::Files(_) => Err(ClientError::Refused("it answers something else".into())),
        }
    }

    /// The programs that were uploaded.
    ///
    /// # Errors
    /// They cannot be listed, or the JobManager is gone.
    pub async fn programs(&self) -> Result<Vec<ProgramSummary>, ClientError> {
        self.ask_answer(&ClientRequest::Programs, ASK_TIMEOUT).await
    }
}
