//! Verbs that speak with a cluster: `run`, `list`, `info`, `cancel`, `stop`, `savepoint`.

use std::ffi::OsString;
use std::fs::File;
use std::io::Seek;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use hurtig::config::Origin;
use hurtig::daemon::client::ClusterClient;
use hurtig::dataflow::error::describe;
use hurtig::dataflow::ids::JobId;
use hurtig::protocol::{Advice, Call, GraphSummary, Submitted, VertexSummary};
use hurtig::report::{CheckpointReport, RescaleReport};
use hurtig::{Config, JobState, JobStatus, ProgressLine};
use hurtig_metadata::ProgramHash;
use hurtig_transport::Role;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::daemons::{Common, asked_to_end};
use crate::failure::Failure;
use crate::place;
use crate::table::{Column, Table};

/// A job on the cluster, and nothing more to say of it
#[derive(Debug, clap::Args)]
pub(crate) struct JobArgs {
    /// The job's id, or the beginning of it
    job: String,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// A savepoint of a job on the cluster
#[derive(Debug, clap::Args)]
pub(crate) struct SavepointArgs {
    /// The job's id, or the beginning of it
    job: String,
    /// Folder for the savepoint [default: the one of 'savepoint.dir']
    target: Option<String>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// A job of the cluster that is to stop with a savepoint
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    #[command(flatten)]
    savepoint: SavepointArgs,
    /// The same folder, as a flag; without one, the default
    #[arg(long = "savepoint", value_name = "DIR", num_args = 0..=1, conflicts_with = "target")]
    savepoint_dir: Option<Option<String>>,
}

/// Another parallelism for a job of the cluster
#[derive(Debug, clap::Args)]
pub(crate) struct RescaleArgs {
    /// The job's id, or the beginning of it
    job: String,
    /// Subtasks of each vertex for which the program says nothing else
    #[arg(short, long, value_name = "N", required_unless_present = "vertices")]
    parallelism: Option<usize>,
    /// Subtasks of the vertex that the operator with this uid is part of; may be repeated
    #[arg(long = "vertex", value_name = "UID=N", value_parser = vertex)]
    vertices: Vec<(String, usize)>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

fn vertex(text: &str) -> Result<(String, usize), String> {
    let parts = text.rsplit_once('=').and_then(|(uid, count)| Some((uid.to_string(), count.parse().ok()?)));
    parts.ok_or_else(|| "write it as UID=N, such as 'counts=4'; `hurtig info JOB` shows the uids".into())
}

/// The jobs of the cluster
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

pub(crate) fn with_client<T>(
    config: &Config,
    work: impl AsyncFnOnce(&ClusterClient) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    place::check_job_managers(config)?;
    let tls = place::tls(config, Role::Client)?;
    hurtig::runtime()?.block_on(async {
        let client = ClusterClient::connect(config, &tls).await?;
        let result = work(&client).await;
        client.close().await;
        result
    })
}

/// Configuration that is not the default, as whoever submits it has it: the program's flags come on top.
fn defines(config: &Config) -> Vec<String> {
    let set = config.describe().into_iter().filter(|key| key.origin != Origin::Default);
    let groups = ["cluster.", "heartbeat.", "high-availability.", "rest.", "metrics."];
    let own = |name: &str| groups.iter().any(|group| name.starts_with(group));
    set.filter(|key| !own(key.entry.name))
        .filter_map(|key| Some(format!("{}={}", key.entry.name, key.value?)))
        .collect()
}

/// Submits a program, shows its graph, and follows its job unless it is to be left alone.
pub(crate) fn submit(
    program: &Path,
    args: Vec<OsString>,
    detached: bool,
    quiet: bool,
) -> anyhow::Result<ExitCode> {
    let config = Config::builder().process().build()?;
    let unread = || format!("{} cannot be read", program.display());
    let mut content = File::open(program).with_context(unread)?;
    let hash = ProgramHash::of_file(&mut content).with_context(unread)?.to_string();
    let size = content.stream_position().with_context(unread)?;
    content.rewind().with_context(unread)?;
    let args = args
        .into_iter()
        .map(|arg| arg.into_string().map_err(|arg| anyhow::anyhow!("argument {arg:?} is not UTF-8")))
        .collect::<Result<Vec<_>, _>>()?;
    let file_name = program.file_name().unwrap_or(program.as_os_str()).to_string_lossy().into_owned();
    let call = Call {
        program: hash.clone(),
        file_name,
        args,
        defines: defines(&config),
        folder: std::env::current_dir().context("no working folder")?,
        rescaled: None,
    };
    with_client(&config, async |client| {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(size) };
        if let Ok(style) = ProgressStyle::with_template("uploading [{bar:30}] {bytes} of {total_bytes}") {
            bar.set_style(style.progress_chars("=> "));
        }
        client.upload(&hash, size, content, |sent| bar.set_position(sent)).await?;
        bar.finish_and_clear();
        let Submitted { job, graph, .. } = client.submit(call).await?;
        if !quiet {
            eprintln!("job {job} '{}'", graph.name);
            eprint!("{}", graph_text(&graph));
        }
        if detached {
            println!("{job}");
            return Ok(ExitCode::SUCCESS);
        }
        follow(client, job, quiet).await
    })
}

/// Follows a job to its end; Ctrl-C or SIGTERM ends the job, a second one only this command.
async fn follow(client: &ClusterClient, job: JobId, quiet: bool) -> anyhow::Result<ExitCode> {
    let line = ProgressLine::new(quiet).told_in_lines();
    let end = client.follow(job, |now| match now {
        Ok(status) => line.show(status),
        Err(lost) => line.show_unknown(&format!("{}: waiting for it", describe(lost))),
    });
    tokio::pin!(end);
    let mut asked = false;
    let ended = loop {
        tokio::select! {
            ended = &mut end => break ended?,
            asked_to_end = asked_to_end() => {
                asked_to_end?;
                if asked {
                    return Ok(ExitCode::from(130));
                }
                asked = true;
                client.cancel(job).await?;
            }
        }
    };
    line.finish();
    match ended.state {
        JobState::Finished => Ok(ExitCode::SUCCESS),
        JobState::Cancelled => {
            Err(Failure { code: 130, message: format!("job '{}' was cancelled", ended.name) }.into())
        }
        _ => {
            let reason = ended.failure.unwrap_or_else(|| "for no known reason".into());
            anyhow::bail!("job '{}' failed: {reason}", ended.name)
        }
    }
}

/// The job graph as text: a line for each vertex with those it reads from, and the uids of its operators below.
fn graph_text(graph: &GraphSummary) -> String {
    let mut text = String::new();
    for (number, vertex) in graph.vertices.iter().enumerate() {
        text.push_str(&format!("  {number}: {} ({} subtasks)", vertex.name, vertex.parallelism));
        let from: Vec<String> = graph
            .edges
            .iter()
            .filter(|(_, to, _)| *to == number)
            .map(|(from, _, way)| format!("{from} by {way}"))
            .collect();
        if !from.is_empty() {
            text.push_str(&format!(" from {}", from.join(", ")));
        }
        text.push_str(&format!("\n       uids {}\n", vertex.operators.join(", ")));
    }
    text
}

fn status_as_json(job: &JobStatus) -> Value {
    json!({
        "id": job.id.to_string(), "name": job.name, "state": job.state, "attempt": job.attempt.0,
        "restarts": job.restarts, "checkpoints": job.checkpoints_completed, "failure": job.failure,
    })
}

fn checkpoint_as_json(report: &CheckpointReport) -> Value {
    json!({
        "location": report.location, "bytes": report.bytes, "written_bytes": report.written_bytes,
        "duration_ms": report.duration_ms,
    })
}

pub(crate) fn list(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    let jobs = with_client(&config, async |client| Ok(client.list().await?))?;
    if args.json {
        println!("{}", Value::from(jobs.iter().map(status_as_json).collect::<Vec<_>>()));
        return Ok(ExitCode::SUCCESS);
    }
    if jobs.is_empty() {
        println!("no jobs");
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(vec![
        Column::fixed("JOB"),
        Column::fixed("STATE"),
        Column::fixed("RESTARTS"),
        Column::fixed("CHECKPOINTS"),
        Column::filling("NAME"),
    ]);
    for job in &jobs {
        let (id, state) = (job.id.to_string(), job.state.to_string());
        let (restarts, checkpoints) = (job.restarts.to_string(), job.checkpoints_completed.to_string());
        table.row([id.as_str(), &state, &restarts, &checkpoints, &job.name]);
    }
    print!("{}", table.render(120));
    Ok(ExitCode::SUCCESS)
}

pub(crate) fn info(args: &JobArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    let (status, graph, advice) = with_client(&config, async |client| {
        let (status, graph) = client.info(&args.job).await?;
        let advice = client.observe(status.id, None).await.map(|observed| observed.advice);
        // A master that does not answer has nothing to say of load.
        Ok((status, graph, advice.unwrap_or_default()))
    })?;
    if args.json {
        let vertex = |vertex: &VertexSummary| json!({ "name": vertex.name, "parallelism": vertex.parallelism, "uids": vertex.operators });
        let mut all = status_as_json(&status);
        all["last_checkpoint"] = status.last_checkpoint.as_ref().map(checkpoint_as_json).into();
        all["last_savepoint"] = status.last_savepoint.as_ref().map(checkpoint_as_json).into();
        all["max_parallelism"] = graph.max_parallelism.into();
        all["vertices"] = graph.vertices.iter().map(vertex).collect::<Vec<_>>().into();
        all["edges"] =
            graph.edges.iter().map(|(from, to, by)| json!({ "from": from, "to": to, "by": by })).collect();
        all["autoscaler"] = advice.iter().map(advice_as_json).collect::<Vec<_>>().into();
        println!("{all}");
        return Ok(ExitCode::SUCCESS);
    }
    println!("job         {}\nname        {}\nstate       {}", status.id, status.name, status.state);
    println!("attempt     {}\nrestarts    {}", status.attempt.0, status.restarts);
    if let Some(failure) = &status.failure {
        println!("failure     {failure}");
    }
    if let Some(checkpoint) = &status.last_checkpoint {
        println!(
            "checkpoint  {} ({} bytes, {} ms)",
            checkpoint.location, checkpoint.bytes, checkpoint.duration_ms
        );
    }
    if let Some(savepoint) = &status.last_savepoint {
        println!(
            "savepoint   {} ({} bytes, {} ms)",
            savepoint.location, savepoint.bytes, savepoint.duration_ms
        );
    }
    if let Some(advice) = advice.first() {
        let found = if advice.is_change() { format!("{advice}; ") } else { String::new() };
        println!("autoscaler  {found}{}", advice.outcome);
    }
    print!("graph\n{}", graph_text(&graph));
    Ok(ExitCode::SUCCESS)
}

fn advice_as_json(advice: &Advice) -> serde_json::Value {
    let vertices = advice.vertices.iter().map(|vertex| {
        json!({
            "uid": vertex.uid, "name": vertex.name, "parallelism": vertex.parallelism, "wanted": vertex.wanted,
            "utilization": vertex.utilization, "records_per_second": vertex.demand,
        })
    });
    json!({ "at": advice.at, "outcome": advice.outcome, "vertices": vertices.collect::<Vec<_>>() })
}

pub(crate) fn cancel(args: &JobArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    with_client(&config, async |client| {
        let (status, _) = client.info(&args.job).await?;
        client.cancel(status.id).await?;
        let ended = client.follow(status.id, |_| ()).await?;
        match args.json {
            true => println!("{}", status_as_json(&ended)),
            false => println!("job {} is {}", ended.id, ended.state),
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn stop(args: StopArgs) -> anyhow::Result<ExitCode> {
    let StopArgs { mut savepoint, savepoint_dir } = args;
    savepoint.target = savepoint.target.or(savepoint_dir.flatten());
    self::savepoint(&savepoint, true)
}

pub(crate) fn savepoint(args: &SavepointArgs, stop: bool) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    // Relative to here, wherever the job runs.
    let target = match &args.target {
        Some(target) if !target.contains(':') => Some(std::path::absolute(target)?.display().to_string()),
        other => other.clone(),
    };
    with_client(&config, async |client| {
        let (status, _) = client.info(&args.job).await?;
        let location = client.savepoint(status.id, target, stop).await?;
        if stop {
            client.follow(status.id, |_| ()).await?;
        }
        match args.json {
            true => println!("{}", json!({ "id": status.id.to_string(), "location": location })),
            false => println!("{location}"),
        }
        Ok(ExitCode::SUCCESS)
    })
}

pub(crate) fn rescale(args: RescaleArgs) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    with_client(&config, async |client| {
        let (status, _) = client.info(&args.job).await?;
        let Submitted { job, graph, rescaled } =
            client.rescale(status.id, args.parallelism, args.vertices.clone()).await?;
        eprint!("{}", graph_text(&graph));
        let is_running = |status: &JobStatus| rescaled.is_some() || status.state == JobState::Running;
        let again = client.follow_until(job, |_| (), is_running).await?;
        match again.state {
            JobState::Failed => {
                let reason = again.failure.unwrap_or_else(|| "for no known reason".into());
                anyhow::bail!("job '{}' failed: {reason}", again.name)
            }
            _ if args.json => {
                let mut all = status_as_json(&again);
                all["pause_ms"] = rescaled.map(|report| report.pause_ms).into();
                println!("{all}");
            }
            state => match rescaled {
                Some(RescaleReport {
                    pause_ms,
                    workers: (kept, workers),
                    subtasks: (stayed, subtasks),
                    ..
                }) => {
                    println!(
                        "running after a pause of {pause_ms} ms, with {kept} of {workers} workers and the state of \
                         {stayed} of {subtasks} subtasks kept"
                    );
                }
                None => println!("{state}"),
            },
        }
        Ok(ExitCode::SUCCESS)
    })
}
