//! `hurtig jobmanager`, `hurtig taskmanager`: the processes of a cluster.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hurtig::daemon::memory::JobMemory;
use hurtig::daemon::{jobmanager, taskmanager};
use hurtig::logs;
use hurtig::machine::Machine;
use hurtig::process::{allow_large_pages, child};
use hurtig::resource::Offer;
use hurtig::tasks::Tasks;
use hurtig::{Config, LogTo};
use hurtig_rest::{Reporters, Server};
use hurtig_transport::Role;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use crate::memory::{Memory, ProgramFolder};
use crate::place;
use crate::shared::SharedJobs;
use crate::standby::{self, Term};

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
    /// Address to listen on, needed where 'cluster.jobmanager' names several [default: the one it names]
    #[arg(long, value_name = "HOST:PORT")]
    listen: Option<String>,
    /// Folder of another web page to serve in place of hurtig's, such as Flink's dashboard
    #[arg(long, value_name = "DIR")]
    web_dir: Option<PathBuf>,
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
    allow_large_pages(false);
    let config = args.common.config()?;
    let folder = place::folder(&config)?.join("jobmanager");
    place::check_job_managers(&config)?;
    let listen = match (args.listen, config.cluster.job_managers().as_slice()) {
        (Some(listen), _) => listen,
        (None, [only]) => only.clone(),
        (None, _) => {
            anyhow::bail!("'cluster.jobmanager' names several: say by --listen which of them this one is")
        }
    };
    place::check_address("--listen", &listen)?;
    let (tls, web_dir) = (place::tls(&config, Role::JobManager)?, args.web_dir);
    let memory = Memory::open(&folder).map_err(anyhow::Error::msg)?;
    let programs = ProgramFolder::open(&folder, Some(memory.clone())).map_err(anyhow::Error::msg)?;
    runtime()?.block_on(async move {
        let _kept = start_logging(&config, &folder, "jobmanager", None)?;
        let address = tokio::net::lookup_host(&listen)
            .await
            .with_context(|| format!("'{listen}' is no address to listen on"))?
            .next()
            .with_context(|| format!("'{listen}' is no address to listen on"))?;
        let (tell, mut asked) = watch::channel(false);
        let options = |jobs: Arc<dyn JobMemory>| jobmanager::Options {
            address,
            tls: tls.clone(),
            folder: folder.clone(),
            config: config.clone(),
            jobs,
            programs: programs.clone(),
            machine: Machine::Real,
        };
        let serve = async {
            if let Some(shared) = &config.high_availability.dir {
                let (local, asked) = (Arc::clone(&programs), asked.clone());
                let lead = async |jobs: Arc<SharedJobs>, lost: oneshot::Receiver<String>| {
                    lead(options(jobs), &web_dir, &mut asked.clone(), async {
                        lost.await.unwrap_or_default()
                    })
                    .await
                };
                return standby::serve(&config, shared, &listen, local, asked.clone(), lead).await;
            }
            lead(options(memory), &web_dir, &mut asked, std::future::pending()).await.map(drop)
        };
        let told = async {
            let told = told_to_end(args.of_cluster).await;
            // Nobody listens any more once all is over.
            let _ = tell.send(true);
            told
        };
        tokio::try_join!(serve, told)?;
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs a JobManager until it is to end.
async fn lead(
    options: jobmanager::Options,
    web_dir: &Option<PathBuf>,
    asked: &mut watch::Receiver<bool>,
    lost: impl Future<Output = String>,
) -> anyhow::Result<Term> {
    let (config, written) = (options.config.clone(), options.folder.join(place::WEB_ADDRESS));
    let leave_timeout = config.taskmanager.leave_timeout;
    let daemon = jobmanager::JobManagerDaemon::start(options).await.map_err(anyhow::Error::msg)?;
    println!("JobManager at {}", daemon.address());
    // Both go on as long as it leads.
    let _page = serve_page(&daemon, &config, web_dir, &written).await?;
    let _reporters = Reporters::start(daemon.client(), &config);
    let term = tokio::select! {
        _ = asked.wait_for(|asked| *asked) => Term::Asked,
        reason = lost => Term::Lost(reason),
        () = daemon.ended() => anyhow::bail!("the JobManager has ended"),
    };
    // Whoever has lost the lead has lost its jobs too.
    let limit = if matches!(term, Term::Asked) { leave_timeout } else { Duration::ZERO };
    daemon.shutdown(limit).await;
    Ok(term)
}

/// Serves REST and the page, and writes down where.
async fn serve_page(
    daemon: &jobmanager::JobManagerDaemon,
    config: &Config,
    web_dir: &Option<PathBuf>,
    written: &Path,
) -> anyhow::Result<Option<Server>> {
    // One of a life before leads nowhere.
    let _ = std::fs::remove_file(written);
    let options = hurtig_rest::Options {
        client: daemon.client(),
        config: config.clone(),
        is_embedded: false,
        web_dir: web_dir.clone(),
    };
    let server = Server::start(options).await?;
    if let Some(server) = &server {
        println!("Web page at {}", server.url());
        std::fs::write(written, server.url())
            .with_context(|| format!("{} cannot be written", written.display()))?;
    }
    Ok(server)
}

pub(crate) fn task_manager(args: TaskManagerArgs) -> anyhow::Result<ExitCode> {
    allow_large_pages(false);
    let config = args.common.config()?;
    let tls = place::tls(&config, Role::TaskManager)?;
    let folder = place::folder(&config)?.join(format!("taskmanager-{}", tls.name().id()));
    let programs = ProgramFolder::open(&folder, None).map_err(anyhow::Error::msg)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let slots = args.slots.map(usize::from).or(config.taskmanager.slots).unwrap_or(cores);
    runtime()?.block_on(async move {
        let _kept = start_logging(&config, &folder, "taskmanager", Some(folder.join("jobs")))?;
        let options = taskmanager::Options {
            offer: Offer::of_machine(slots, &config.taskmanager),
            tls,
            folder,
            config,
            programs,
            machine: Machine::Real,
        };
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

/// A daemon logs into a file of its folder, which must not grow for ever, nor those of the processes that it starts.
fn start_logging(
    config: &Config,
    folder: &Path,
    name: &str,
    of_jobs: Option<PathBuf>,
) -> anyhow::Result<Tasks> {
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let file = folder.join(name).with_extension("log");
    hurtig::start_logging(&config.log, LogTo::File(&file)).map_err(anyhow::Error::from_boxed)?;
    let tasks = Tasks::default();
    tasks.spawn(logs::look_after(folder.to_path_buf(), of_jobs, config.log.clone()));
    Ok(tasks)
}
