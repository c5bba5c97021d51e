//! A connection of a client to a cluster: what the command line and programs use.

use crate::config::Config;
use crate::node::{AskError, Node, NodeError, Peer};
use crate::process::worker::node_options;
use crate::protocol::{
    Answer, CHUNK_BYTES, Call, Changed, ClientRequest, GraphSummary, Overview, ProgramHash, Submitted,
};
use crate::report::JobStatus;
use hurtig_dataflow::ids::JobId;
use hurtig_transport::{Peer as Whom, Role, Tls};
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
pub struct ClusterClient {
    node: Node,
    address: String,
    tls: Tls,
    peer: Mutex<Peer>,
}

impl ClusterClient {
    /// Connects to the JobManager that the configuration names.
    ///
    /// # Errors
    /// It cannot be reached, or does not let this client in.
    pub async fn connect(config: &Config, tls: &Tls) -> Result<Self, ClientError> {
        let address = config.cluster.jobmanager.clone();
        let unreachable = |source| ClientError::Unreachable { address: address.clone(), source };
        let node = Node::start(node_options(config), Arc::new(|_| {})).await.map_err(unreachable)?;
        let peer = dial(&node, &address, tls).await.map_err(unreachable)?;
        Ok(ClusterClient { node, address, tls: tls.clone(), peer: Mutex::new(peer) })
    }

    /// Looks for a JobManager that went away until it is back.
    async fn reconnect(&self) -> Result<(), NodeError> {
        let until = Instant::now() + RECONNECT_TIMEOUT;
        loop {
            match dial(&self.node, &self.address, &self.tls).await {
                Ok(peer) => {
                    *self.peer.lock() = peer;
                    return Ok(());
                }
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => sleep(RECONNECT_INTERVAL).await,
            }
        }
    }

    /// Ends the connection.
    pub async fn close(self) {
        self.node.shutdown().await;
    }

    async fn ask<R: DeserializeOwned>(
        &self,
        request: &ClientRequest,
        limit: Duration,
    ) -> Result<R, ClientError> {
        let asked = self.peer.lock().ask(request, limit);
        Ok(asked.await?)
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
        mut show: impl FnMut(Result<&JobStatus, &ClientError>),
    ) -> Result<JobStatus, ClientError> {
        let mut seen = 0;
        loop {
            let question = ClientRequest::Follow { job, seen };
            match self.ask_answer::<Changed>(&question, ASK_TIMEOUT).await {
                Ok(changed) => {
                    show(Ok(&changed.status));
                    if changed.status.state.is_terminal() {
                        return Ok(changed.status);
                    }
                    seen = changed.version;
                }
                Err(lost @ ClientError::Lost(_)) => {
                    show(Err(&lost));
                    self.reconnect().await.map_err(|_| lost)?;
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

    /// What the cluster consists of.
    ///
    /// # Errors
    /// The JobManager is gone.
    pub async fn overview(&self) -> Result<Overview, ClientError> {
        self.ask(&ClientRequest::Overview, ASK_TIMEOUT).await
    }
}

async fn dial(node: &Node, address: &str, tls: &Tls) -> Result<Peer, NodeError> {
    node.dial(address, tls, &Whom::Any(Role::JobManager)).await
}
