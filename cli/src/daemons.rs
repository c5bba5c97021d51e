//! `hurtig jobmanager`, `hurtig taskmanager`, `hurtig cluster`: the processes of a cluster.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use hurtig::Config;
use hurtig::daemon::{jobmanager, taskmanager};
use hurtig_transport::{Authority, Name, Role, Validity};
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
    #[command(flatten)]
    common: Common,
}

/// Run a TaskManager: offers slots and runs the workers of jobs
#[derive(Debug, clap::Args)]
pub(crate) struct TaskManagerArgs {
    /// Slots to offer [default: one per core]
    #[arg(long, value_name = "N")]
    slots: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// Run a cluster on this machine: a JobManager and TaskManagers as processes of their own
///
/// Certificates are made anew. Ctrl-C ends it.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// TaskManagers to run
    #[arg(long, value_name = "N", default_value_t = 1)]
    taskmanagers: usize,
    /// Slots that each offers
    #[arg(long, value_name = "N", default_value_t = 2)]
    slots: usize,
    #[command(flatten)]
    common: Common,
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    hurtig::runtime().context("no threads for the daemon")
}

/// Waits until this process is asked to end.
async fn asked_to_end() -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminated.recv() => {}
        _ = interrupted.recv() => {}
    }
    Ok(())
}

pub(crate) fn job_manager(args: JobManagerArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    start_logging();
    let folder = place::folder(&config)?.join("jobmanager");
    let tls = place::tls(&config, Role::JobManager)?;
    let memory = Memory::open(&folder).map_err(anyhow::Error::msg)?;
    let programs = ProgramFolder::open(&folder, Some(memory.clone())).map_err(anyhow::Error::msg)?;
    let listen = args.listen.unwrap_or_else(|| config.cluster.jobmanager.clone());
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
            asked = asked_to_end() => asked?,
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
    let slots = args.slots.or(config.taskmanager.slots).unwrap_or(cores);
    runtime()?.block_on(async move {
        let options = taskmanager::Options { slots, tls, folder, config, programs };
        let daemon = taskmanager::TaskManagerDaemon::start(options).await.map_err(anyhow::Error::msg)?;
        println!("TaskManager with {slots} slots");
        tokio::select! {
            asked = asked_to_end() => asked?,
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

pub(crate) fn cluster(args: ClusterArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    let folder = place::folder(&config)?;
    make_certificates(&folder, args.taskmanagers)
        .with_context(|| format!("no certificates can be made in {}", folder.display()))?;
    runtime()?.block_on(run_cluster(&args, &config, &folder))
}

/// A new authority, and certificates of all processes of the cluster.
fn make_certificates(folder: &Path, task_managers: usize) -> anyhow::Result<()> {
    let certificates = folder.join("certs");
    if certificates.exists() {
        std::fs::remove_dir_all(&certificates)?;
    }
    let validity = Validity::days(365);
    let authority = Authority::ephemeral("local cluster", validity)?;
    let issue = |role: Role, id: &str, folder: PathBuf| -> anyhow::Result<()> {
        Ok(authority.issue(&Name::new(role, id)?, validity, &[])?.save(&folder)?)
    };
    issue(Role::JobManager, "local", place::local_certificates(folder, Role::JobManager))?;
    issue(Role::Client, "local", place::local_certificates(folder, Role::Client))?;
    for number in 1..=task_managers {
        issue(Role::TaskManager, &number.to_string(), task_manager_certificates(folder, number))?;
    }
    Ok(())
}

fn task_manager_certificates(folder: &Path, number: usize) -> PathBuf {
    folder.join("certs").join(format!("taskmanager-{number}"))
}

async fn run_cluster(args: &ClusterArgs, config: &Config, folder: &Path) -> anyhow::Result<ExitCode> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let start = |verb: &str, more: Vec<String>| -> anyhow::Result<tokio::process::Child> {
        let mut command = tokio::process::Command::new(&program);
        command.arg(verb).args(more);
        if let Some(path) = &args.common.config {
            command.arg("--config").arg(path);
        }
        for define in &args.common.define {
            command.arg("-D").arg(define);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true).process_group(0);
        command.spawn().with_context(|| format!("`hurtig {verb}` cannot be started"))
    };
    let mut children = vec![("JobManager".to_string(), start("jobmanager", Vec::new())?)];
    for number in 1..=args.taskmanagers {
        let certificates = task_manager_certificates(folder, number);
        let more = vec![
            "--slots".into(),
            args.slots.to_string(),
            "-D".into(),
            format!("cluster.certificates={}", certificates.display()),
        ];
        children.push((format!("TaskManager {number}"), start("taskmanager", more)?));
    }
    println!(
        "A JobManager at {} and {} TaskManagers with {} slots each; Ctrl-C ends them.\nSubmit a program with `hurtig run PROGRAM`. Logs lie in {}.",
        config.cluster.jobmanager,
        args.taskmanagers,
        args.slots,
        folder.display()
    );
    for (name, child) in &children {
        if let Some(id) = child.id() {
            println!("  {name}: process {id}");
        }
    }
    let outcome = tokio::select! {
        asked = asked_to_end() => asked.map(|()| ExitCode::SUCCESS),
        status = children[0].1.wait() => {
            Err(anyhow::anyhow!("the JobManager has ended: {}", status.map_or_else(|e| e.to_string(), |s| s.to_string())))
        }
    };
    end(children).await;
    outcome
}

/// Asks all to end, waits for a while, and ends those that have not.
async fn end(children: Vec<(String, tokio::process::Child)>) {
    for (_, child) in &children {
        if let Some(id) = child.id() {
            let _ = tokio::process::Command::new("kill").arg(id.to_string()).status().await;
        }
    }
    for (_, mut child) in children {
        let _ = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        // One that has ended needs no killing.
        let _ = child.kill().await;
    }
}
