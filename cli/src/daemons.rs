//! `hurtig jobmanager`, `hurtig taskmanager`: the processes of a cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use hurtig::Config;
use hurtig::daemon::{jobmanager, taskmanager};
use hurtig::process::child;
use hurtig_transport::Role;
use tokio::signal::unix::{SignalKind, signal};

use crate::memory::{Memory, ProgramFolder};
use crate::place;

/// Flags of every daemon.
#[derive(Debug, clap::Args)]
pub(crate) struct Common {
    /// Set any configuration key; may be repeated
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    pub(crate) define: Vec<String>,
    /// Configuration file to read instead of $HURTIG_CONFIG or ./hurtig.yaml
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

impl Common {
    pub(crate) fn config(&self) -> anyhow::Result<Config> {
        let mut builder = Config::builder().process();
        if let Some(path) = &self.config {
            builder = builder.file(path);
        }
        for assignment in &self.define {
            builder = builder.flag(assignment);
        }
        Ok(builder.build()?)
    }
}

/// Run the JobManager: accepts programs, plans them, gives each job a master and slots
#[derive(Debug, clap::Args)]
pub(crate) struct JobManagerArgs {
    /// Address to listen on [default: the one of 'cluster.jobmanager']
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    #[arg(long, hide = true)]
    of_cluster: bool,
    #[command(flatten)]
    common: Common,
}

/// Run a TaskManager: offers slots and runs the workers of jobs
#[derive(Debug, clap::Args)]
pub(crate) struct TaskManagerArgs {
    /// Slots to offer [default: one per core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    slots: Option<u16>,
    #[arg(long, hide = true)]
    of_cluster: bool,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    hurtig::runtime().context("no threads for the daemon")
}

/// Waits until this process is asked to end.
pub(crate) async fn asked_to_end() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

/// Flag of a daemon whose standard input is held open by the `hurtig cluster` that has started it.
pub(crate) const OF_CLUSTER: &str = "--of-cluster";

/// As [`asked_to_end`], or until the `hurtig cluster` is gone that has started this process.
async fn told_to_end(of_cluster: bool) -> anyhow::Result<()> {
    if !of_cluster {
        return asked_to_end().await;
    }
    let (tell, orphaned) = tokio::sync::oneshot::channel();
    child::when_parent_dies(move || {
        // One that ends already need not be told.
        let _ = tell.send(());
    })?;
    tokio::select! {
        asked = asked_to_end() => asked,
        _ = orphaned => Ok(()),
    }
}

pub(crate) fn job_manager(args: JobManagerArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    start_logging();
    let folder = place::folder(&config)?.join("jobmanager");
    let listen = args.listen.unwrap_or_else(|| config.cluster.jobmanager.clone());
    place::check_address("cluster.jobmanager", &listen)?;
    let tls = place::tls(&config, Role::JobManager)?;
    let memory = Memory::open(&folder).map_err(anyhow::Error::msg)?;
    let programs = ProgramFolder::open(&folder, Some(memory.clone())).map_err(anyhow::Error::msg)?;
    runtime()?.block_on(async move {
        let address = tokio::net::lookup_host(&listen)
            .await
            .with_context(|| format!("'{listen}' is no address to listen on"))?
            .next()
            .with_context(|| format!("'{listen}' is no address to listen on"))?;
        let options = jobmanager::Options { address, tls, folder, config, jobs: memory, programs };
        let daemon = jobmanager::JobManagerDaemon::start(options).await.map_err(anyhow::Error::msg)?;
        println!("JobManager at {}", daemon.address());
        tokio::select! {
            asked = told_to_end(args.of_cluster) => asked?,
            () = daemon.ended() => anyhow::bail!("the JobManager has ended"),
        }
        daemon.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn task_manager(args: TaskManagerArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    start_logging();
    let tls = place::tls(&config, Role::TaskManager)?;
    let folder = place::folder(&config)?.join(format!("taskmanager-{}", tls.name().id()));
    let programs = ProgramFolder::open(&folder, None).map_err(anyhow::Error::msg)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = args.slots.map(usize::from).or(config.taskmanager.slots).unwrap_or(cores);
    runtime()?.block_on(async move {
        let options = taskmanager::Options { slots, tls, folder, config, programs };
        let daemon = taskmanager::TaskManagerDaemon::start(options).await.map_err(anyhow::Error::msg)?;
        println!("TaskManager with {slots} slots");
        tokio::select! {
            asked = told_to_end(args.of_cluster) => asked?,
            () = daemon.ended() => anyhow::bail!("the TaskManager has ended"),
        }
        daemon.shutdown().await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Daemons write what happens to standard error.
fn start_logging() {
    hurtig::start_logging();
}
