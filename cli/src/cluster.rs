//! `hurtig cluster`: a JobManager and TaskManagers as processes of this machine. One that dies is started again; all end
//! with this one, however it ends.

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context;
use hurtig::Config;
use hurtig::daemon::client::ClusterClient;
use hurtig::process::allow_large_pages;
use hurtig_transport::{Authority, Name, Role, Validity};
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::Instant;

use crate::daemons::{Common, OF_CLUSTER, asked_to_end, runtime};
use crate::memory::Memory;
use crate::place;

/// A daemon that ends sooner cannot run; one that ends later has died.
const STARTED: Duration = Duration::from_secs(5);

/// How long a daemon may take to end besides what it waits for.
const END_TIMEOUT: Duration = Duration::from_secs(5);

/// Before one that has died is started again.
const RESTART_DELAY: Duration = Duration::from_secs(1);

/// Run a cluster on this machine: a JobManager and TaskManagers as processes of their own
///
/// Certificates are made anew. A process that dies is started again. Ctrl-C ends all.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// TaskManagers to run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    taskmanagers: u16,
    /// Slots that each offers
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..))]
    slots: u16,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    // The daemons that it starts are without from their first moment.
    allow_large_pages(false);
    let config = args.common.config()?;
    place::check_address("cluster.jobmanager", &config.cluster.jobmanager)?;
    let folder = place::folder(&config)?;
    // Before the certificates of a cluster that runs are replaced.
    drop(Memory::open(&folder.join("jobmanager")).map_err(anyhow::Error::msg)?);
    make_certificates(&folder, args.taskmanagers)
        .with_context(|| format!("no certificates can be made in {}", folder.display()))?;
    runtime()?.block_on(supervise(&args, &config, &folder))
}

/// A new authority, and certificates of all processes of the cluster.
fn make_certificates(folder: &Path, task_managers: u16) -> anyhow::Result<()> {
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

fn task_manager_certificates(folder: &Path, number: u16) -> PathBuf {
    folder.join("certs").join(format!("taskmanager-{number}"))
}

/// A process of the cluster.
struct Daemon {
    name: String,
    command: Command,
    running: Running,
}

/// One start of it.
struct Running {
    child: Child,
    /// Its end tells the process that this one is gone. Waiting for a child closes the pipe it still has.
    _pipe: Option<ChildStdin>,
    since: Instant,
}

impl Running {
    fn start(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command.spawn().with_context(|| format!("the {name} cannot be started"))?;
        Ok(Running { _pipe: child.stdin.take(), child, since: Instant::now() })
    }
}

impl Daemon {
    fn start(name: String, mut command: Command) -> anyhow::Result<Self> {
        let running = Running::start(&name, &mut command)?;
        Ok(Daemon { name, command, running })
    }

    /// Waits for its end, and starts it again unless that is in vain.
    async fn keep(&mut self) -> anyhow::Result<()> {
        loop {
            let status = self.running.child.wait().await?;
            anyhow::ensure!(
                self.running.since.elapsed() >= STARTED,
                "the {} cannot run: {status}",
                self.name
            );
            tokio::time::sleep(RESTART_DELAY).await;
            self.running = Running::start(&self.name, &mut self.command)?;
            println!("{} has ended ({status}) and is started again: {}", self.name, self.process());
        }
    }

    fn process(&self) -> String {
        self.running.child.id().map_or_else(|| "it has ended".into(), |id| format!("process {id}"))
    }

    /// Asks it to end, and makes it after a while.
    async fn end(mut self, patience: Duration) {
        let child = &mut self.running.child;
        if let Some(id) = child.id() {
            let _ = Command::new("kill").arg(id.to_string()).status().await;
        }
        let _ = tokio::time::timeout(patience, child.wait()).await;
        // One that has ended needs no killing.
        let _ = child.kill().await;
    }
}

fn daemons(args: &Args, folder: &Path) -> anyhow::Result<Vec<Daemon>> {
    let program = std::env::current_exe().context("this program cannot find itself")?;
    let command = |verb: &str| {
        let mut command = Command::new(&program);
        command.arg(verb);
        if let Some(path) = &args.common.config {
            command.arg("--config").arg(path);
        }
        for define in &args.common.define {
            command.arg("-D").arg(define);
        }
        // The pipe is held as long as this process lives.
        command.arg(OF_CLUSTER).stdin(Stdio::piped()).stdout(Stdio::null());
        command.kill_on_drop(true).process_group(0);
        command
    };
    let mut all = vec![Daemon::start("JobManager".into(), command("jobmanager"))?];
    for number in 1..=args.taskmanagers {
        let mut command = command("taskmanager");
        let certificates = task_manager_certificates(folder, number);
        command.arg("--slots").arg(args.slots.to_string());
        command.arg("-D").arg(format!("cluster.certificates={}", certificates.display()));
        all.push(Daemon::start(format!("TaskManager {number}"), command)?);
    }
    Ok(all)
}

async fn supervise(args: &Args, config: &Config, folder: &Path) -> anyhow::Result<ExitCode> {
    let mut daemons = daemons(args, folder)?;
    let tls = place::tls(config, Role::Client)?;
    let started = async {
        loop {
            match ClusterClient::connect(config, &tls).await {
                Ok(client) => return client.close().await,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let outcome = {
        let processes: Vec<String> =
            daemons.iter().map(|daemon| format!("  {}: {}", daemon.name, daemon.process())).collect();
        let kept = futures::future::try_join_all(daemons.iter_mut().map(Daemon::keep));
        let asked = async {
            tokio::select! {
                asked = asked_to_end() => return asked,
                () = started => {}
            }
            println!("{}\n{}", headline(args, config, folder), processes.join("\n"));
            asked_to_end().await
        };
        tokio::select! {
            asked = asked => asked.map(|()| ExitCode::SUCCESS),
            kept = kept => kept.map(|_| ExitCode::FAILURE),
        }
    };
    let patience = config.taskmanager.leave_timeout + END_TIMEOUT;
    futures::future::join_all(daemons.into_iter().map(|daemon| daemon.end(patience))).await;
    outcome
}

fn headline(args: &Args, config: &Config, folder: &Path) -> String {
    let plural = |count: u16, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let page = std::fs::read_to_string(folder.join("jobmanager").join(place::WEB_ADDRESS));
    let page = page.map_or(String::new(), |address| format!("The web page is at {address}\n"));
    format!(
        "A JobManager at {} and {} with {} each; Ctrl-C ends them.\n{page}Submit a program with `hurtig run PROGRAM`. Logs lie in {}.",
        config.cluster.jobmanager,
        plural(args.taskmanagers, "TaskManager"),
        plural(args.slots, "slot"),
        folder.display()
    )
}
