//! A handle on a job: what it does, and what may be asked of it. Calls are messages to the job's master.

use crate::clock::Clock;
use crate::master::JobMasterMessage;
use crate::metrics::names::{JOB, TASK};
use crate::metrics::sight::{JobSight, TaskSight};
use crate::observe::Observer;
use crate::protocol::{GraphSummary, Observed};
use crate::report::JobStatus;
use crate::status::JobState;
use hurtig_dataflow::ids::{JobId, SubtaskId};
use ractor::ActorRef;
use std::collections::BTreeMap;
use thiserror::Error as ThisError;
use tokio::sync::{oneshot, watch};

/// Why a job has no result, or a request no answer.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum JobError {
    /// The job has failed.
    #[error("job '{name}' failed: {reason}")]
    Failed {
        /// The job's name.
        name: String,
        /// The failure.
        reason: String,
    },
    /// The job was cancelled.
    #[error("job '{0}' was cancelled")]
    Cancelled(String),
    /// The savepoint could not be taken.
    #[error("no savepoint: {0}")]
    Savepoint(String),
    /// The job has ended, or its cluster is gone.
    #[error("the job no longer runs")]
    Gone,
}

/// Values of metrics by their names, which `hurtig::metrics::names` explains.
pub type MetricValues = BTreeMap<&'static str, f64>;

/// The metrics of a job at a moment.
#[derive(Clone, Debug, Default)]
pub struct JobMetrics {
    /// Of the job as a whole.
    pub job: MetricValues,
    /// Of each subtask of the last attempt.
    pub subtasks: BTreeMap<SubtaskId, MetricValues>,
}

/// A handle on a job. Cheap to clone; dropping it does not end the job.
#[derive(Clone)]
pub struct JobClient {
    pub(crate) master: ActorRef<JobMasterMessage>,
    pub(crate) status: watch::Receiver<JobStatus>,
    pub(crate) graph: GraphSummary,
    pub(crate) observer: Observer,
    pub(crate) clock: Clock,
}

impl JobClient {
    /// The job.
    pub fn id(&self) -> JobId {
        self.status.borrow().id
    }

    /// What is known of the job now.
    pub fn status(&self) -> JobStatus {
        self.status.borrow().clone()
    }

    /// Follows the job's status: the receiver is notified of every change.
    pub fn subscribe(&self) -> watch::Receiver<JobStatus> {
        self.status.clone()
    }

    /// The metrics of the job and of its subtasks, as they are now.
    pub fn metrics(&self) -> JobMetrics {
        let now = self.clock.now();
        let (seen, placed) = (self.observer.observation(None), BTreeMap::new());
        let job = Observed {
            status: self.status(),
            graph: self.graph.clone(),
            seen,
            call: None,
            placed,
            advice: Vec::new(),
        };
        let subtasks = job.seen.subtasks.iter().map(|(id, seen)| {
            let sight = TaskSight { seen, rates: seen.rates, now };
            (*id, TASK.iter().map(|metric| (metric.name, (metric.of)(&sight))).collect())
        });
        let subtasks = subtasks.collect();
        let sight = JobSight { job: &job, now };
        JobMetrics { job: JOB.iter().map(|metric| (metric.name, (metric.of)(&sight))).collect(), subtasks }
    }

    /// Waits until the status fulfils a condition.
    ///
    /// # Errors
    /// The job has ended, or its cluster is gone, and the condition never held.
    pub async fn wait_until(&self, mut holds: impl FnMut(&JobStatus) -> bool) -> Result<JobStatus, JobError> {
        let mut status = self.status.clone();
        let found = status.wait_for(|status| status.state.is_terminal() || holds(status)).await;
        let found = found.map_err(|_| JobError::Gone)?.clone();
        if holds(&found) { Ok(found) } else { Err(JobError::Gone) }
    }

    /// Waits for the job's end.
    ///
    /// # Errors
    /// The job failed or was cancelled, or its cluster is gone.
    pub async fn wait(&self) -> Result<JobStatus, JobError> {
        let mut status = self.status.clone();
        let ended =
            status.wait_for(|status| status.state.is_terminal()).await.map_err(|_| JobError::Gone)?.clone();
        match ended.state {
            JobState::Finished => Ok(ended),
            JobState::Cancelled => Err(JobError::Cancelled(ended.name)),
            _ => Err(JobError::Failed {
                name: ended.name,
                reason: ended.failure.unwrap_or_else(|| "for no known reason".into()),
            }),
        }
    }

    /// Ends the job without publishing what is not yet published. Returns at once; wait for the status.
    ///
    /// # Errors
    /// The job no longer runs.
    pub fn cancel(&self) -> Result<(), JobError> {
        self.master.cast(JobMasterMessage::Cancel).map_err(|_| JobError::Gone)
    }

    /// Takes a savepoint in a folder, by default the configured one, and returns its location.
    ///
    /// # Errors
    /// The job no longer runs, or the savepoint could not be taken.
    pub async fn savepoint(&self, target: Option<&str>) -> Result<String, JobError> {
        self.request_savepoint(target, false).await
    }

    /// Takes a savepoint, publishes all output up to it, and ends the job.
    ///
    /// # Errors
    /// The job no longer runs, or the savepoint could not be taken.
    pub async fn stop(&self, target: Option<&str>) -> Result<String, JobError> {
        let location = self.request_savepoint(target, true).await?;
        self.wait().await?;
        Ok(location)
    }

    async fn request_savepoint(&self, target: Option<&str>, stop: bool) -> Result<String, JobError> {
        let (reply, answer) = oneshot::channel();
        let message = JobMasterMessage::Savepoint { target: target.map(str::to_string), stop, reply };
        self.master.cast(message).map_err(|_| JobError::Gone)?;
        answer.await.map_err(|_| JobError::Gone)?.map_err(JobError::Savepoint)
    }
}
