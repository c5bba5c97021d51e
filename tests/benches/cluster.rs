//! What a cluster of real processes costs: `scripts/bench submit | idle | exchange-remote`. A program of its own, since
//! it is all of the processes: under the name `hurtig` it is the command, and started by a cluster it is the job.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time from outside")]

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod usage;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use hurtig::prelude::*;
use hurtig::process::child::ASSIGNED;
use hurtig_tests::cluster::{Cluster, Options};
use hurtig_tests::folders::published_files;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};
use usage::round;

const COMMAND: &str = "hurtig";

/// The submissions of a program that the cluster has already.
const SUBMISSIONS: usize = 20;

type Figures = serde_json::Map<String, serde_json::Value>;

#[derive(Parser, Debug)]
#[command(about = "Measures a cluster and prints one JSON object")]
struct Args {
    /// submit, idle or exchange-remote
    name: String,
    /// Records to exchange
    #[arg(long, default_value_t = 100_000_000)]
    records: u64,
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::var_os(ASSIGNED).is_some() {
        return Ok(hurtig::run("bench", build));
    }
    let name = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    if name.file_name().is_some_and(|name| name == COMMAND) {
        return Ok(hurtig_cli::main_with_args(std::env::args_os()));
    }
    let args = Args::parse();
    let mut figures = match args.name.as_str() {
        "submit" => submit()?,
        "idle" => idle()?,
        "exchange-remote" => exchange(args.records)?,
        other => bail!("no benchmark '{other}' of a cluster: submit, idle, exchange-remote"),
    };
    figures.insert("name".into(), args.name.into());
    println!("{}", serde_json::Value::from(figures));
    Ok(ExitCode::SUCCESS)
}

fn build(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    match args {
        [name, folder] if name == "small" => {
            let numbers = env.from_range(0..1_000).key_by(|n| n % 10).count();
            numbers.map(|count| format!("{count:?}")).sink_to(FileSink::text(folder));
        }
        [name, records] if name == "exchange" => {
            env.from_range(0..records.parse()?).key_by(|n| *n).as_stream().discard();
        }
        _ => return Err("small FOLDER or exchange RECORDS".into()),
    }
    Ok(())
}

/// A cluster whose command is this program.
struct Started {
    folder: tempfile::TempDir,
    program: PathBuf,
    cluster: Cluster,
}

fn start(task_managers: usize, slots: usize) -> anyhow::Result<Started> {
    let folder = tempfile::tempdir()?;
    let program = std::env::current_exe()?;
    let command = folder.path().join(COMMAND);
    symlink(&program, &command)?;
    let options = Options { task_managers, slots, defines: Vec::new(), ..Options::default() };
    let cluster = Cluster::start(command.to_str().context("a path that is UTF-8")?, options);
    Ok(Started { folder, program, cluster })
}

impl Started {
    fn run(&self, flags: &[&str], args: &[&str]) -> anyhow::Result<std::process::Child> {
        let program = self.program.to_str().context("a path that is UTF-8")?;
        let all = [&["run", "--quiet", program][..], flags, &["--"], args].concat();
        Ok(self.cluster.command(&all).spawn()?)
    }
}

/// Milliseconds until the job's first output can be read, and until the command has ended.
fn submit_once(started: &Started, out: &Path) -> anyhow::Result<(f64, f64)> {
    let began = Instant::now();
    let mut child = started.run(&["-p2"], &["small", out.to_str().context("a path that is UTF-8")?])?;
    let mut first = None;
    let status = loop {
        if first.is_none() && !published_files(out).is_empty() {
            first = Some(began.elapsed());
        }
        if let Some(status) = child.try_wait()? {
            break status;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    ensure!(status.success(), "`hurtig run` ended with {status}");
    let first = first.unwrap_or_else(|| began.elapsed());
    Ok((first.as_secs_f64() * 1e3, began.elapsed().as_secs_f64() * 1e3))
}

/// How long a small job takes from the command to its output.
fn submit() -> anyhow::Result<Figures> {
    let started = start(1, 2)?;
    // So that the TaskManager is there.
    let (with_upload, _) = submit_once(&started, &started.folder.path().join("first"))?;
    let mut times = Vec::new();
    for number in 0..SUBMISSIONS {
        times.push(submit_once(&started, &started.folder.path().join(format!("out-{number}")))?);
    }
    let middle = |of: fn(&(f64, f64)) -> f64| {
        let mut all: Vec<f64> = times.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        (round(all[all.len() / 2], 1), round(all[all.len() - 1], 1))
    };
    let (output, end) = (middle(|times| times.0), middle(|times| times.1));
    let mut extra = Figures::new();
    extra.insert("with_upload_ms".into(), round(with_upload, 1).into());
    extra.insert("output_p50_ms".into(), output.0.into());
    extra.insert("output_max_ms".into(), output.1.into());
    extra.insert("end_p50_ms".into(), end.0.into());
    extra.insert("end_max_ms".into(), end.1.into());
    Ok(extra)
}

/// Resident memory of daemons that have nothing to do.
fn idle() -> anyhow::Result<Figures> {
    let started = start(1, 2)?;
    // Long enough for heartbeats to have gone back and forth.
    std::thread::sleep(Duration::from_secs(5));
    let mut extra = Figures::new();
    let daemons = [
        ("jobmanager_mb", started.cluster.job_manager.id()),
        ("taskmanager_mb", started.cluster.task_managers[0].id()),
    ];
    for (name, process) in daemons {
        extra.insert(name.into(), round(usage::rss_mb(process)?, 1).into());
    }
    Ok(extra)
}

/// Numbers over a hash exchange between two workers, each a process on a TaskManager of its own.
fn exchange(records: u64) -> anyhow::Result<Figures> {
    let before = usage::cpu_seconds_with_children()?;
    let started = start(2, 1)?;
    let began = Instant::now();
    let status = started.run(&["-p2"], &["exchange", &records.to_string()])?.wait()?;
    let wall = began.elapsed().as_secs_f64();
    ensure!(status.success(), "`hurtig run` ended with {status}");
    // What they have used counts once they have ended.
    drop(started);
    let cpu = usage::cpu_seconds_with_children()? - before;
    let mut extra = Figures::new();
    extra.insert("wall_s".into(), round(wall, 3).into());
    extra.insert("cpu_s".into(), round(cpu, 3).into());
    extra.insert("ns_cpu_per_record".into(), round(cpu * 1e9 / records as f64, 1).into());
    extra.insert("records".into(), records.into());
    Ok(extra)
}
