//! What a cluster of real processes costs: `scripts/bench submit | idle | exchange-remote | rescale`. A program of its own, since
//! it is all of the processes: under the name `hurtig` it is the command, and started by a cluster it is the job.

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time from outside")]

#[allow(dead_code, reason = "shared with the other benchmarks")]
mod usage;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use hurtig::dataflow::Rows;
use hurtig::dataflow::operator::Place;
use hurtig::prelude::*;
use hurtig::process::child::ASSIGNED;
use hurtig_tests::benchmarks::mix;
use hurtig_tests::cluster::{Cluster, Options};
use hurtig_tests::folders::published_files;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};
use usage::round;

const COMMAND: &str = "hurtig";

/// The submissions of a program that the cluster has already.
const SUBMISSIONS: usize = 20;

type Figures = serde_json::Map<String, serde_json::Value>;

#[derive(Parser, Debug)]
#[command(about = "Measures a cluster and prints one JSON object")]
struct Args {
    /// submit, idle, exchange-remote or rescale
    name: String,
    /// Records to exchange, or keys of the job that is rescaled
    #[arg(long)]
    records: Option<u64>,
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
        "exchange-remote" => exchange(args.records.unwrap_or(100_000_000))?,
        "rescale" => rescale(args.records.unwrap_or(10_500_000))?,
        other => bail!("no benchmark '{other}' of a cluster: submit, idle, exchange-remote, rescale"),
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
        [name, folder, keys] if name == "rescale" => {
            let (folder, keys) = (PathBuf::from(folder), keys.parse()?);
            // All keys, then one in a hundred of them again and again.
            let source = GeneratorSource::new(move |index| {
                let key = if index < keys { index } else { mix(index) % (keys / 100) * 100 };
                (key, [mix(key); 11])
            });
            let rows = env.generate(source, WatermarkStrategy::none()).uid("rows");
            let newest = rows.key_by(|row| row.0).reduce(|_, newer| newer).uid("newest");
            newest.sink_to(Pulse { folder }).uid("pulse");
        }
        _ => return Err("small FOLDER, exchange RECORDS or rescale FOLDER KEYS".into()),
    }
    Ok(())
}

/// A sink that writes down when records come.
struct Pulse {
    folder: PathBuf,
}

struct PulseWriter {
    file: std::fs::File,
    records: u64,
    last: SystemTime,
}

/// Between two notes of a sink.
const PULSE: Duration = Duration::from_millis(2);

impl Sink for Pulse {
    type In = (u64, [u64; 11]);

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<(u64, [u64; 11])>>> {
        std::fs::create_dir_all(&self.folder)?;
        let (process, subtask) = (std::process::id(), place.subtask);
        let file = std::fs::File::create(self.folder.join(format!("{process}-{subtask}")))?;
        Ok(Box::new(PulseWriter { file, records: 0, last: SystemTime::UNIX_EPOCH }))
    }
}

impl SinkWriter<(u64, [u64; 11])> for PulseWriter {
    fn write(&mut self, records: Rows<(u64, [u64; 11])>, _: &mut SinkContext<'_>) -> OpResult {
        self.records += records.len() as u64;
        let now = SystemTime::now();
        if now.duration_since(self.last).is_ok_and(|passed| passed >= PULSE) {
            self.last = now;
            let micros = now.duration_since(SystemTime::UNIX_EPOCH)?.as_micros();
            writeln!(self.file, "{micros} {}", self.records)?;
        }
        Ok(())
    }
}

/// The notes of all sinks, in order: microseconds since 1970. And how many records have come.
fn pulses(folder: &Path) -> anyhow::Result<(Vec<u64>, u64)> {
    let (mut all, mut records) = (Vec::new(), 0);
    for entry in folder.read_dir().into_iter().flatten() {
        let text = std::fs::read_to_string(entry?.path())?;
        let mut of_file = 0;
        // The last line may not be whole.
        for (micros, count) in text.lines().filter_map(|line| line.split_once(' ')) {
            all.push(micros.parse()?);
            of_file = count.parse().unwrap_or(of_file);
        }
        records += of_file;
    }
    all.sort_unstable();
    Ok((all, records))
}

/// How long the sinks of a job with much state get nothing while its parallelism changes from 2 to 3.
fn rescale(keys: u64) -> anyhow::Result<Figures> {
    let started = start(1, 3)?;
    let (out, checkpoints) = (started.folder.path().join("pulse"), started.folder.path().join("checkpoints"));
    let path = |path: &Path| path.to_str().map(str::to_owned).context("a path that is UTF-8");
    let place = format!("-Dcheckpoint.dir={}", path(&checkpoints)?);
    let flags = ["--detached", "-p2", &place, "-Dcheckpoint.interval=10s"];
    let submitted = started.run(&flags, &["rescale", &path(&out)?, &keys.to_string()])?.wait()?;
    ensure!(submitted.success(), "`hurtig run` ended with {submitted}");
    let jobs: serde_json::Value = serde_json::from_str(&started.cluster.call(&["list", "--json"]))?;
    let job = jobs[0]["id"].as_str().context("there is no job")?.to_string();
    // All keys are there, and in a checkpoint.
    while pulses(&out)?.1 < keys + keys / 2 {
        std::thread::sleep(Duration::from_millis(200));
    }
    let began = SystemTime::now();
    let clock = Instant::now();
    started.cluster.call(&["rescale", &job, "-p", "3"]);
    let answered = clock.elapsed();
    let began = began.duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as u64;
    // It is over when all has gone on for a while.
    let (pause, after) = loop {
        std::thread::sleep(Duration::from_millis(500));
        let (all, _) = pulses(&out)?;
        let since: Vec<u64> = all.into_iter().filter(|micros| *micros >= began).collect();
        let gaps = since.windows(2).map(|pair| (pair[1] - pair[0], pair[1]));
        let Some((gap, until)) = gaps.max() else { continue };
        let after = since.last().map_or(0, |last| last - until);
        if clock.elapsed() > answered && after > 10_000_000 {
            break (gap, after);
        }
        ensure!(clock.elapsed() < Duration::from_secs(300), "it does not go on");
    };
    let state_mb = keys as f64 * 96.0 / 1e6;
    let mut extra = Figures::new();
    extra.insert("state_mb".into(), round(state_mb, 1).into());
    extra.insert("pause_ms".into(), round(pause as f64 / 1e3, 1).into());
    extra.insert("answered_ms".into(), round(answered.as_secs_f64() * 1e3, 1).into());
    extra.insert("observed_s".into(), round(after as f64 / 1e6, 1).into());
    Ok(extra)
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
