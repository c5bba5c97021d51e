//! What all handlers share: the way to the JobManager, and what the server itself remembers.

use crate::error::{ApiError, Result};
use crate::operations::Operations;
use crate::view::View;
use hurtig_dataflow::ids::{CheckpointId, JobId};
use hurtig_runtime::clock::Clock;
use hurtig_runtime::daemon::client::ClusterClient;
use hurtig_runtime::protocol::{Observed, Profile};
use hurtig_runtime::tasks::Tasks;
use hurtig_runtime::worker::links::WorkerId;
use hurtig_runtime::{Config, JobStatus};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

/// Jobs that lists show: the newest.
const SHOWN: usize = 500;

/// Ended jobs that are kept here.
const REMEMBERED: usize = 500;

/// Where a worker has spent its time, and when that was found, if it is known.
pub type Known = Arc<tokio::sync::Mutex<Option<(i64, Profile)>>>;

/// State of the server.
pub struct App {
    /// The way to the JobManager.
    pub client: Arc<ClusterClient>,
    /// The server's configuration.
    pub config: Config,
    /// The clock.
    pub clock: Clock,
    /// Jobs that have ended: nothing changes in them any more.
    pub ended: Mutex<BTreeMap<JobId, Observed>>,
    /// Where workers have spent their time, a moment ago.
    pub profiles: Mutex<BTreeMap<(JobId, WorkerId), Known>>,
    /// Savepoints that were asked for.
    pub operations: Operations,
    /// File names of programs that were uploaded here, by their hash.
    pub names: Mutex<BTreeMap<String, String>>,
    /// Who may ask.
    pub guard: Arc<crate::guard::Guard>,
    /// Whether this is the page of a program that runs its own job.
    pub is_embedded: bool,
    /// What goes on beside requests; ends with the server.
    pub tasks: Tasks,
    /// A folder of files to serve in place of hurtig's page.
    pub web_dir: Option<PathBuf>,
}

/// As handlers get it.
pub type Shared = axum::extract::State<Arc<App>>;

impl App {
    /// Reads a job's id.
    ///
    /// # Errors
    /// It is none.
    pub fn job_id(text: &str) -> Result<JobId> {
        let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let id = is_id.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        id.map(JobId).ok_or_else(|| {
            let shown: String = text.chars().take(64).collect();
            ApiError::bad_request(format!("'{shown}' is no job id: expected 32 hexadecimal digits"))
        })
    }

    /// A job, now.
    ///
    /// # Errors
    /// There is none, or the JobManager does not answer.
    pub async fn view(&self, job: &str) -> Result<View> {
        self.view_with(job, None).await
    }

    /// A job, with each subtask's part of a checkpoint.
    ///
    /// # Errors
    /// As [`App::view`].
    pub async fn view_with(&self, job: &str, checkpoint: Option<CheckpointId>) -> Result<View> {
        let id = Self::job_id(job)?;
        let known = self.ended.lock().get(&id).filter(|_| checkpoint.is_none()).cloned();
        let job = match known {
            Some(job) => job,
            None => self.client.observe(id, checkpoint).await?,
        };
        Ok(View { job, now: self.clock.now() })
    }

    /// All jobs, the newest first, as far as they can be seen.
    ///
    /// # Errors
    /// The JobManager does not answer.
    pub async fn views(&self) -> Result<Vec<View>> {
        let mut jobs = self.client.list().await?;
        jobs.sort_by_key(|job| (std::cmp::Reverse(job.started_at), job.id));
        jobs.truncate(SHOWN);
        let (known, asked): (Vec<_>, Vec<_>) = {
            let ended = self.ended.lock();
            jobs.iter().map(|job| job.id).partition(|id| ended.contains_key(id))
        };
        let unknown = jobs.iter().filter(|job| asked.contains(&job.id)).cloned().collect();
        let mut found = views(&self.client, &self.clock, unknown).await;
        let mut ended = self.ended.lock();
        for view in found.iter().filter(|view| view.job.status.state.is_terminal()) {
            if ended.len() < REMEMBERED {
                ended.insert(view.job.status.id, view.job.clone());
            }
        }
        let now = self.clock.now();
        found.extend(known.iter().filter_map(|id| Some(View { job: ended.get(id)?.clone(), now })));
        found.sort_by_key(|view| (std::cmp::Reverse(view.job.status.started_at), view.job.status.id));
        Ok(found)
    }
}

/// Jobs, in the given order, as far as they can be seen.
pub async fn views(client: &ClusterClient, clock: &Clock, jobs: Vec<JobStatus>) -> Vec<View> {
    let asked = jobs.into_iter().map(|job| client.observe(job.id, None));
    let observed = futures::future::join_all(asked).await;
    let now = clock.now();
    observed.into_iter().flatten().map(|job| View { job, now }).collect()
}
