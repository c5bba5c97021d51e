//! Runs programs: reads their flags, starts an embedded cluster, follows the job to its end.

use crate::args::{Ui, parse};
use crate::progress;
use crate::{role, web};
use hurtig_dataflow::BoxError;
use hurtig_dataflow::error::describe;
use hurtig_datastream::Environment;
use hurtig_runtime::process::child;
use hurtig_runtime::{Cluster, Config, JobError, JobStatus, RunError};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// Exit code of a program whose job was ended by the user.
const CANCELLED: u8 = 130;

/// Runs a program with the arguments of this process. `build` adds the job's operations to the environment; it gets
/// the arguments after `--`.
///
/// The exit code is 0 when the job finished, 1 when it failed, 2 for wrong flags or configuration, 130 when the user
/// interrupted it.
pub fn run(name: &str, build: impl FnOnce(&Environment, &[String]) -> Result<(), BoxError>) -> ExitCode {
    run_with_args(name, std::env::args_os(), build)
}

/// Runs a program with the given arguments, the first of which is its name.
pub fn run_with_args(
    name: &str,
    args: impl IntoIterator<Item = OsString>,
    build: impl FnOnce(&Environment, &[String]) -> Result<(), BoxError>,
) -> ExitCode {
    run_and_then(name, args, build, || {})
}

/// As [`run_with_args`]; `ended` is called when the job has ended, before the user is told of a failure: a program that
/// draws on the terminal draws for the last time there.
pub fn run_and_then(
    name: &str,
    args: impl IntoIterator<Item = OsString>,
    build: impl FnOnce(&Environment, &[String]) -> Result<(), BoxError>,
    ended: impl FnOnce(),
) -> ExitCode {
    match child::assignment() {
        Ok(None) => {}
        Ok(Some(assignment)) => {
            start_logging();
            return role::take(assignment, name, build);
        }
        Err(error) => {
            eprintln!("error: what this process is to do in its cluster cannot be read: {error}");
            return ExitCode::FAILURE;
        }
    }
    let (config, own, ui) = match parse(args.into_iter()) {
        Ok(parsed) => parsed,
        Err(error) => return ExitCode::from(error.report()),
    };
    start_logging();
    let env = Environment::new();
    if let Err(error) = build(&env, &own) {
        eprintln!("error: {}", describe(&*error));
        return ExitCode::FAILURE;
    }
    let result = run_to_end(name, &env, &config, Some(ui));
    ended();
    match result {
        Ok(_) => ExitCode::SUCCESS,
        Err(RunError::Job(JobError::Cancelled(name))) => {
            eprintln!("job '{name}' was cancelled");
            ExitCode::from(CANCELLED)
        }
        Err(error) => {
            eprintln!("error: {}", describe(&error));
            ExitCode::FAILURE
        }
    }
}

/// Runs the job of an environment to its end, embedded in this process. Shows nothing and leaves signals alone, which
/// suits tests and programs for which a job is one part.
///
/// ```
/// use hurtig::prelude::*;
///
/// let env = Environment::new();
/// let doubled = env.from_collection(vec![1, 2, 3]).map(|n| n * 2).collect();
/// let status = hurtig::execute("doubling", &env, &Config::default())?;
/// assert_eq!(status.state, JobState::Finished);
/// let mut found = doubled.take();
/// found.sort();
/// assert_eq!(found, [2, 4, 6]);
/// # Ok::<(), hurtig::RunError>(())
/// ```
///
/// # Errors
/// The program is wrong, or the job failed.
pub fn execute(name: &str, env: &Environment, config: &Config) -> Result<JobStatus, RunError> {
    run_to_end(name, env, config, None)
}

/// Runs a job; with a user, who sees its progress and may interrupt it, or without.
fn run_to_end(
    name: &str,
    env: &Environment,
    config: &Config,
    user: Option<Ui>,
) -> Result<JobStatus, RunError> {
    let runtime = runtime().map_err(|error| RunError::Cluster(error.to_string()))?;
    let config = configured(env, config);
    let result = runtime.block_on(async {
        let cluster = Cluster::start(&config).await?;
        let _page = web::serve(&cluster, &config, user.is_some()).await?;
        let job = cluster.submit(name, &env.graph(), &config).await?;
        let shown = async {
            if let Some(ui) = user {
                progress::follow(&job, ui.quiet).await;
            }
        };
        let result = tokio::select! {
            result = async { tokio::join!(job.wait(), shown).0 } => result,
            () = interrupted(user) => {
                let _ = job.cancel();
                tokio::select! {
                    result = job.wait() => result,
                    // Asked twice: whatever holds the job up, the user wants to go.
                    () = interrupted(user) => std::process::exit(CANCELLED.into()),
                }
            }
        };
        cluster.shutdown().await;
        Ok(result?)
    });
    // A blocking read that never returns must not hold the process.
    runtime.shutdown_background();
    result
}

/// Waits until the user, if there is one, interrupts the program.
async fn interrupted(user: Option<Ui>) {
    if user.is_none() || tokio::signal::ctrl_c().await.is_err() {
        // Where signals cannot be heard the default ends the process.
        std::future::pending::<()>().await;
    }
}

/// A configuration with what the program itself says in its place.
pub fn configured(env: &Environment, config: &Config) -> Config {
    let mut config = config.clone();
    if let Some(parallelism) = env.parallelism() {
        config.parallelism.default = Some(parallelism);
    }
    if let Some(max) = env.max_parallelism() {
        config.parallelism.max = Some(max as usize);
    }
    config.execution.chaining &= env.is_chaining_enabled();
    config
}

/// The runtime that embedded clusters run on: two threads at least, so that a busy subtask does not hold up the
/// actors that steer it, and timers looked at often under load.
///
/// # Errors
/// The operating system refuses threads.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(cores.max(2))
        .event_interval(7)
        .enable_all()
        .build()
}

/// Warnings go to standard error; `HURTIG_LOG` asks for more.
pub fn start_logging() {
    let filter = EnvFilter::try_from_env("HURTIG_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let filter = ["ractor=error", "ractor_cluster=error"]
        .iter()
        .filter_map(|directive| directive.parse().ok())
        .fold(filter, EnvFilter::add_directive);
    // A program that has its own subscriber keeps it.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}
