//! Runs jobs on embedded clusters.

use hurtig::config::RestartStrategyConfig;
use hurtig::fault::FaultInjector;
use hurtig::prelude::*;
use hurtig::{Cluster, JobClient, JobStatus, RunError};
use hurtig_runtime::worker::memory::MemoryNetwork;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

/// A configuration for tests of failures: many quick restarts, and checkpoints in such intervals.
pub fn config(parallelism: usize, checkpoint_interval: Option<Duration>) -> Config {
    let mut config = Config::default();
    config.parallelism.default = Some(parallelism);
    config.checkpoint.interval = checkpoint_interval;
    config.restart.strategy = RestartStrategyConfig::FixedDelay;
    config.restart.fixed_delay.attempts = 100;
    config.restart.fixed_delay.delay = Duration::ZERO;
    config
}

/// Runs a test on the runtime that programs run on.
///
/// # Panics
/// The test fails.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = hurtig::runtime().unwrap_or_else(|error| panic!("no runtime: {error}"));
    runtime.block_on(test)
}

/// A job on a cluster of its own.
pub struct Job {
    /// The cluster.
    pub cluster: Cluster,
    /// The handle on the job.
    pub client: JobClient,
}

/// Starts a cluster and a job on it.
///
/// # Errors
/// The program is wrong.
pub async fn start(
    env: &Environment,
    config: &Config,
    faults: Option<Arc<dyn FaultInjector>>,
) -> Result<Job, RunError> {
    let config = hurtig::configured(env, config);
    // Several TaskManagers are as good as several processes: their workers exchange records over links.
    let cluster = match config.taskmanager.count {
        1 => Cluster::start(&config).await?,
        _ => Cluster::start_linked(&config, MemoryNetwork::default()).await?,
    };
    let client = cluster.submit_with_faults("test", &env.graph(), &config, faults).await?;
    Ok(Job { cluster, client })
}

impl Job {
    /// Waits for the job's end, then ends the cluster.
    ///
    /// # Errors
    /// The job failed.
    pub async fn finish(self) -> Result<JobStatus, RunError> {
        let ended = self.client.wait().await;
        self.cluster.shutdown().await;
        Ok(ended?)
    }
}

/// Runs a job to its end.
///
/// # Errors
/// The program is wrong, or the job failed.
pub async fn execute(
    env: &Environment,
    config: &Config,
    faults: Option<Arc<dyn FaultInjector>>,
) -> Result<JobStatus, RunError> {
    start(env, config, faults).await?.finish().await
}
