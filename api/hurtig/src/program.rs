//! Runs programs: reads their flags, starts an embedded cluster, follows the job to its end.

use crate::args::{Ui, parse};
use crate::progress;
use crate::{role, web};
use hurtig_dataflow::BoxError;
use hurtig_dataflow::error::describe;
use hurtig_datastream::Environment;
use hurtig_runtime::config::{LogConfig, LogFormat};
use hurtig_runtime::process::child;
use hurtig_runtime::{Cluster, Config, JobError, JobStatus, RunError};
use std::ffi::OsString;
use std::fs::File;
use std::io::IsTerminal;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Mutex;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Exit code of a program whose job was ended by the user.
const CANCELLED: u8 = 130;

/// Exit code for wrong flags or configuration.
const WRONG_USE: u8 = 2;

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
    if let Err(error) = start_logging(&config.log, LogTo::Terminal) {
        eprintln!("error: {error}");
        return ExitCode::from(WRONG_USE);
    }
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

/// Where logs go.
pub enum LogTo<'a> {
    /// Standard error, which people read: warnings, unless the configuration says otherwise.
    Terminal,
    /// Standard error, which is a file: what happens, too.
    StandardError,
    /// A file that takes what happens; warnings go to standard error as well.
    File(&'a Path),
}

/// Starts logging, as configured.
///
/// # Errors
/// `log.filter` is none, or the file cannot be written.
pub fn start_logging(config: &LogConfig, to: LogTo<'_>) -> Result<(), BoxError> {
    let filter = |default: &str| {
        let filter = config.filter.as_deref().unwrap_or(default);
        // What is said later holds.
        let all = format!("ractor=error,ractor_cluster=error,{filter}");
        EnvFilter::try_new(all)
            .map_err(|error| BoxError::from(format!("'log.filter' is '{filter}': {error}")))
    };
    let (terminal, file) = match to {
        LogTo::Terminal => (filter("warn")?, None),
        LogTo::StandardError => (filter("info")?, None),
        LogTo::File(path) => {
            let file = File::options().create(true).append(true).open(path);
            let file = file.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
            (filter("warn")?, Some((filter("info")?, file)))
        }
    };
    let is_json = config.format == LogFormat::Json;
    let terminal = lines(std::io::stderr, is_json, std::io::stderr().is_terminal()).with_filter(terminal);
    let file = file.map(|(filter, file)| lines(Mutex::new(file), is_json, false).with_filter(filter));
    // A program that has its own subscriber keeps it.
    let _ = tracing_subscriber::registry().with(terminal).with(file).try_init();
    Ok(())
}

/// Writes events as lines, with the spans that they are in.
fn lines<S, W>(to: W, is_json: bool, is_terminal: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(to);
    if is_json { lines.json().boxed() } else { lines.with_ansi(is_terminal).boxed() }
}
