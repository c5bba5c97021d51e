//! Jobs on a cluster of real processes: one JobManager and three TaskManagers with two slots each. What a job writes
//! there is what it writes when the program is run by hand, whichever process is killed meanwhile.

mod autoscaler;
mod certificates;
mod ending;
mod isolation;
mod memory;
mod rescale;
mod slots;
mod stores;

use hurtig::JobState;
use hurtig_tests::cluster::{Cluster, Options, SOON, free_address};
use hurtig_tests::events::KEYS;
use hurtig_tests::folders::{self, flights_data, published_files, sorted_lines, sorted_rows};
use hurtig_tests::processes::{kill, listening, running_from, signal, until, until_equal, wait_until};
use hurtig_tests::programs::{failure, says};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn cluster() -> Cluster {
    Cluster::start(HURTIG, Options::default())
}

fn same(expected: &[String], found: &[String]) {
    assert!(!expected.is_empty());
    if let Err(difference) = folders::compare(expected, found) {
        panic!("{difference}");
    }
}

/// A job that writes the running counts of made-up events.
struct Counts {
    folder: TempDir,
    /// Where checkpoints and savepoints lie, if not in the folder.
    store: Option<String>,
    count: u64,
    per_second: f64,
}

impl Counts {
    fn new(count: u64, per_second: f64) -> Self {
        Counts { folder: folder(), store: None, count, per_second }
    }

    /// A job that ends when the test has done with it and stops it.
    fn endless() -> Self {
        Counts::new(u64::MAX / 2, 2_000.0)
    }

    fn place(&self, name: &str) -> String {
        match &self.store {
            Some(store) => format!("{store}/{name}"),
            None => text(&self.folder.path().join(name)).to_string(),
        }
    }

    fn out(&self) -> std::path::PathBuf {
        self.folder.path().join("out")
    }

    /// The command line behind the program.
    fn args(&self, parallelism: usize, more: &[&str]) -> Vec<String> {
        let checkpoints = self.place("checkpoints");
        let flags = [
            "--checkpoint-interval=100ms",
            "-Drestart.strategy=fixed-delay",
            "-Drestart.fixed-delay.attempts=1000",
            "-Drestart.fixed-delay.delay=10ms",
        ];
        let mut args = vec![format!("-p{parallelism}"), format!("--checkpoint-dir={checkpoints}")];
        args.extend(flags.iter().chain(more).map(ToString::to_string));
        let (count, per_second) = (self.count.to_string(), self.per_second.to_string());
        args.extend(["--", "events", text(&self.out()), &count, &per_second].map(str::to_string));
        args
    }

    fn submit(&self, cluster: &Cluster, parallelism: usize, more: &[&str]) -> String {
        let args = self.args(parallelism, more);
        cluster.submit(PROGRAM, &args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn published(&self) -> usize {
        published_files(&self.out()).len()
    }

    /// Waits until the job has published something more.
    fn goes_on(&self) {
        let before = self.published();
        wait_until("more published files", SOON, || self.published() > before);
    }

    /// What is written is what an undisturbed run writes: each key's counts from one on, once.
    fn is_whole(&self) {
        let quiet = Counts::new(self.count, 1e9);
        let (out, count) = (quiet.out(), self.count.to_string());
        let run =
            Command::new(PROGRAM).args(["-q", "-p1", "--", "events", text(&out), &count, "1e9"]).output();
        assert!(run.expect("the program starts").status.success());
        same(&sorted_lines(&out), &sorted_lines(&self.out()));
        let unpublished = folders::unpublished_files(&self.out());
        assert!(unpublished.is_empty(), "{unpublished:?}");
    }

    /// Stops a job with a savepoint, which it returns.
    fn stop(&self, cluster: &Cluster, job: &str) -> String {
        // A JobManager that has only just begun can ask this of the master once that is back and has told it something.
        let told =
            || cluster.job(job).filter(|job| job.state == JobState::Running).map(|job| job.checkpoints);
        let before = until("the job", SOON, told);
        wait_until("news of the job", SOON, || told().is_some_and(|checkpoints| checkpoints != before));
        cluster.call(&["stop", job, &self.place("savepoints")])
    }

    /// Has a job that was stopped go on to an end a little further on, and looks whether all is there.
    fn ends_whole_going_on_from(mut self, savepoint: &str, cluster: &Cluster, parallelism: usize) {
        // Lines are `key,count`.
        let count = |line: &String| line.split(',').next_back().and_then(|count| count.parse::<u64>().ok());
        let furthest = sorted_lines(&self.out()).iter().filter_map(count).max().expect("counts");
        (self.count, self.per_second) = ((furthest + 100) * KEYS, 1e9);
        let job = self.submit(cluster, parallelism, &["--from", savepoint]);
        cluster.wait_for(&job, JobState::Finished, SOON);
        self.is_whole();
    }
}

#[test]
fn examples_write_what_they_write_in_one_process() {
    let (cluster, books, months) = (cluster(), folder(), flights_data());
    for book in 0..3 {
        let line = |n: u64| format!("word{} and Word{}, {book}\n", n * 17 % 101, n * 29 % 57);
        std::fs::write(books.path().join(format!("{book}.txt")), (0..500).map(line).collect::<String>())
            .expect("a book");
    }
    let january = folder();
    std::fs::copy(months.join("2013-01.csv"), january.path().join("2013-01.csv")).expect("a month");
    let outs = folder();
    let run = |way: &str, example: &str| -> Vec<String> {
        let out = outs.path().join(way).join(example);
        let out = text(&out);
        match example {
            "word_count" => vec![example, text(books.path()), "--out", out],
            "sessions" => vec![example, out, "2000"],
            _ => vec![example, "--data", text(january.path()), "--out", out, "--rate", "0"],
        }
        .into_iter()
        .map(str::to_string)
        .collect()
    };
    for example in ["word_count", "sessions", "flights"] {
        let status = Command::new(PROGRAM).args(["-q", "-p2", "--"]).args(run("embedded", example)).status();
        assert!(status.expect("the program starts").success());
        let mut command = cluster.command(&["run", "-q", PROGRAM, "-p6", "--"]);
        let output = command.args(run("cluster", example)).output().expect("the command starts");
        assert!(output.status.success(), "{example}: {}", String::from_utf8_lossy(&output.stderr));
        let found = |way: &str| {
            let out = outs.path().join(way).join(example);
            match example {
                "flights" => ["hourly", "rushes", "worst", "cancelled"]
                    .iter()
                    .flat_map(|name| sorted_rows(&out.join(name)))
                    .collect(),
                _ => sorted_lines(&out),
            }
        };
        same(&found("embedded"), &found("cluster"));
    }
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
    until_equal("masters left", SOON, 0, || cluster.masters().len());
}

#[test]
fn benchmarks_give_what_they_give_in_one_process() {
    let (cluster, outs) = (cluster(), folder());
    for (name, records) in
        [("wordcount", 60_000), ("window", 50_000), ("ysb", 20_000), ("chain", 50_000), ("exchange", 50_000)]
    {
        let out = |way: &str| text(&outs.path().join(way).join(name)).to_string();
        let records = records.to_string();
        let alone = Command::new(PROGRAM)
            .args(["-q", "-p2", "--", "benchmark", name, &out("embedded"), &records])
            .status();
        assert!(alone.expect("the program starts").success());
        let args = ["run", "-q", PROGRAM, "-p6", "--", "benchmark", name, &out("cluster"), &records];
        let output = cluster.command(&args).output().expect("the command starts");
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        same(&sorted_lines(Path::new(&out("embedded"))), &sorted_lines(Path::new(&out("cluster"))));
    }
}

/// What a program prints, without the numbers of subtasks, in order of lines.
fn printed(text: &str) -> Vec<String> {
    let record = |line: &str| line.split_once("> ").map_or(line, |(_, record)| record).to_string();
    let mut lines: Vec<String> = text.lines().map(record).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn examples_print_into_the_logs_of_workers_what_they_print_in_one_process() {
    let cluster = cluster();
    for example in ["stock_alerts", "late_data", "enrichment"] {
        let alone = Command::new(PROGRAM).args(["-q", "-p2", "--", example]).output();
        let alone = alone.expect("the program starts");
        assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
        let job = cluster.submit(PROGRAM, &["-p6", "--", example]);
        cluster.wait_for(&job, JobState::Finished, SOON);
        until_equal("workers left", SOON, 0, || cluster.all_workers().len());
        let logs = (1..=3).flat_map(|number| {
            let folder = cluster.folder().join(format!("taskmanager-{number}/jobs/{job}"));
            folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
        });
        let outs = logs.filter(|log| log.extension().is_some_and(|extension| extension == "out"));
        let out: String = outs.filter_map(|out| std::fs::read_to_string(out).ok()).collect();
        same(&printed(&String::from_utf8_lossy(&alone.stdout)), &printed(&out));
    }
}

#[test]
fn a_job_survives_the_death_of_each_process() {
    let mut cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();

    let worker = cluster.all_workers().first().cloned().expect("a worker");
    kill(worker.id);
    wait_until("a restart", SOON, || cluster.job(&job).is_some_and(|job| job.restarts > 0));
    counts.goes_on();

    let victim = (0..3).find(|number| !cluster.workers(*number).is_empty()).expect("a worker");
    let restarts = cluster.job(&job).expect("the job").restarts;
    cluster.task_managers[victim].kill();
    wait_until("a restart", SOON, || cluster.job(&job).is_some_and(|job| job.restarts > restarts));
    counts.goes_on();

    let master = cluster.masters().first().cloned().expect("a master");
    kill(master.id);
    until("another master", SOON, || {
        cluster.masters().iter().find(|other| other.id != master.id).map(|_| ())
    });
    cluster.wait_for(&job, JobState::Running, SOON);
    counts.goes_on();

    cluster.job_manager.kill();
    counts.goes_on();
    let masters = cluster.masters();
    for master in &masters {
        signal(master.id, "STOP");
    }
    cluster.job_manager.start();
    cluster.wait_for(&job, JobState::Suspended, SOON);
    for master in &masters {
        signal(master.id, "CONT");
    }
    cluster.wait_for(&job, JobState::Running, SOON);
    counts.goes_on();

    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
}

#[test]
fn a_standby_takes_over_when_the_job_manager_and_its_masters_die() {
    let mut cluster = Cluster::start(HURTIG, Options { standbys: 1, ..Options::default() });
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();
    let masters = cluster.masters();
    cluster.job_manager.kill();
    for master in &masters {
        kill(master.id);
    }
    cluster.wait_for(&job, JobState::Running, SOON);
    counts.goes_on();

    // The first one stands by now, and takes over in its turn from one that is asked to end.
    cluster.job_manager.start();
    assert!(cluster.standbys[0].terminate().success());
    cluster.wait_for(&job, JobState::Running, SOON);
    counts.goes_on();
    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
    until_equal("masters left", SOON, 0, || cluster.masters().len());
}

#[test]
fn a_job_manager_that_was_followed_while_it_slept_does_no_harm() {
    let mut cluster = Cluster::start(HURTIG, Options { standbys: 1, ..Options::impatient() });
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();

    // Its master knows nothing of it: it goes on until it finds that another one has the job.
    let master = cluster.masters().first().cloned().expect("a master");
    cluster.job_manager.kill();
    let followed = || cluster.masters().iter().any(|other| other.id != master.id);
    wait_until("another master", SOON, followed);
    until_equal("the end of the former master", SOON, false, || cluster.masters().contains(&master));
    counts.goes_on();

    // All of a machine sleeps, and wakes when its job is elsewhere.
    cluster.job_manager.start();
    let (sleeper, masters) = (cluster.standbys[0].id(), cluster.masters());
    cluster.standbys[0].pause();
    for master in &masters {
        signal(master.id, "STOP");
    }
    wait_until("another master", SOON, || cluster.masters().len() > masters.len());
    cluster.wait_for(&job, JobState::Running, SOON);
    counts.goes_on();
    for master in &masters {
        signal(master.id, "CONT");
    }
    cluster.standbys[0].resume();
    until_equal("the end of the master that slept", SOON, 1, || cluster.masters().len());
    counts.goes_on();

    assert_eq!(cluster.standbys[0].id(), sleeper, "it goes on");
    until_equal("addresses of the one that stands by", SOON, Vec::new(), || listening(sleeper));
    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
}

#[test]
fn a_program_that_aborts_harms_no_other_job() {
    let cluster = cluster();
    let counts = Counts::new(6_000, 3_000.0);
    let job = counts.submit(&cluster, 3, &[]);
    let mut command = cluster.command(&["run", "-q", PROGRAM, "-p3", "--", "abort", "50"]);
    says(&failure(1, &mut command), &["failed"]);
    let ended = cluster.wait_for(&job, JobState::Finished, SOON);
    assert_eq!(ended.restarts, 0);
    counts.is_whole();
}

#[test]
fn a_program_that_builds_no_job_is_refused_with_a_reason() {
    let cluster = cluster();
    let refused = |program: &str, args: &[&str], words: &[&str]| {
        let said = failure(1, cluster.command(&["run", "-q", program]).args(args));
        says(&said, words);
        assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
    };
    refused(PROGRAM, &["--", "unknown"], &["name a program"]);
    refused(PROGRAM, &["--", "nothing"], &["no"]);
    refused("/bin/true", &[], &["built no job", "exit code 0", "made with hurtig"]);
    refused(PROGRAM, &["--checkpoint-interval=1s", "--", "events", "x", "1", "1"], &["checkpoint.dir"]);
    says(&failure(1, cluster.command(&["run", "-q", PROGRAM]).arg("--no-such-flag")), &["'--no-such-flag'"]);
    assert_eq!(cluster.call(&["list"]), "no jobs");
    refused(
        PROGRAM,
        &["--", "changing"],
        &["another job graph", "process-", "nothing but the program's arguments"],
    );
    for role in ["master", "worker"] {
        refused(
            PROGRAM,
            &["--", "disloyal", role],
            &["another job graph", "operators events, numbers", "operators events, other-numbers"],
        );
    }
    until_equal("processes of programs", SOON, 0, || running_from(cluster.folder()).len());
}

#[test]
fn a_job_stops_with_a_savepoint_and_goes_on_from_it_at_another_parallelism() {
    let cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 2, &[]);
    counts.goes_on();
    let target = counts.folder.path().join("savepoints");
    let first = cluster.call(&["savepoint", &job[..8], text(&target)]);
    counts.goes_on();
    let savepoint = counts.stop(&cluster, &job);
    assert_ne!(first, savepoint);
    let stopped = cluster.job(&job).expect("the job");
    assert_eq!(stopped.state, JobState::Finished);
    says(&cluster.call(&["info", &job]), &["finished", "graph", "(2 subtasks)"]);
    let json = |args: &[&str]| -> Value { serde_json::from_str(&cluster.call(args)).expect("JSON") };
    let info = json(&["info", &job, "--json"]);
    assert_eq!((&info["state"], &info["vertices"][1]["parallelism"]), (&json!("finished"), &json!(2)));
    let metrics = json(&["metrics", &job, "--json", "--name", "numRecords"]);
    let written = sorted_lines(&counts.out()).len() as u64;
    let read: f64 = metrics["vertices"][1]["metrics"]["numRecordsIn"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_f64)
        .sum();
    assert!(read > 0.0 && read <= written as f64, "{read} of {written}: {metrics}");
    says(&cluster.call(&["metrics", &job]), &["numberOfCompletedCheckpoints", "busyTimeMsPerSecond", "ms/s"]);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
}

#[test]
fn a_cancelled_job_gives_its_slots_back() {
    let cluster = cluster();
    let counts = Counts::new(u64::MAX / 2, 1_000.0);
    let job = counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    says(&cluster.call(&["cancel", &job]), &["cancelled"]);
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
    let said = failure(1, &mut cluster.command(&["cancel", &job]));
    says(&said, &["cancelled already"]);
    let next = Counts::new(1_200, 1e6);
    let job = next.submit(&cluster, 6, &[]);
    cluster.wait_for(&job, JobState::Finished, SOON);
    next.is_whole();
}

#[test]
fn a_job_waits_for_slots_until_a_task_manager_comes() {
    let mut cluster = Cluster::start(HURTIG, Options { task_managers: 1, ..Options::default() });
    let counts = Counts::new(1_200, 1e6);
    let job = counts.submit(&cluster, 4, &[]);
    let master = until("a master", SOON, || cluster.masters().first().cloned());
    assert_eq!(cluster.job(&job).expect("the job").state, JobState::Created);
    assert!(cluster.all_workers().is_empty());
    cluster.add_task_manager();
    cluster.wait_for(&job, JobState::Finished, SOON);
    counts.is_whole();
    until_equal("the master's end", SOON, false, || cluster.masters().contains(&master));
}

#[test]
fn a_job_that_waits_in_vain_for_slots_names_the_numbers() {
    let mut options = Options { task_managers: 1, ..Options::default() };
    options.defines.push("cluster.slot-timeout=1s".into());
    let cluster = Cluster::start(HURTIG, options);
    let mut command = cluster.command(&["run", "-q", PROGRAM, "-p5", "--", "sessions", "out", "100"]);
    says(&failure(1, &mut command), &["needs 5 slots", "2 are registered"]);
}

#[test]
fn daemons_end_when_asked_and_leave_no_process_behind() {
    let mut cluster = cluster();
    let counts = Counts::new(u64::MAX / 2, 1_000.0);
    counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    assert_eq!(cluster.all_workers().len(), 3);
    for number in 0..3 {
        assert!(cluster.task_managers[number].terminate().success());
        until_equal("workers of an ended TaskManager", SOON, 0, || cluster.workers(number).len());
    }
    assert!(cluster.job_manager.terminate().success());
    until_equal("processes left", SOON, 0, || running_from(cluster.folder()).len());
}

#[test]
fn a_killed_task_manager_leaves_no_worker_behind() {
    let mut cluster = cluster();
    let counts = Counts::new(u64::MAX / 2, 1_000.0);
    counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    assert_eq!(cluster.workers(1).len(), 1);
    cluster.task_managers[1].kill();
    until_equal("workers left", Duration::from_secs(10), 0, || cluster.workers(1).len());
}

/// The command for a cluster of its own, in a folder and at an address.
fn local(folder: &TempDir, address: &str, args: &[&str]) -> Command {
    let mut command = Command::new(HURTIG);
    command.args(args).env("HURTIG_CLUSTER_DIR", folder.path()).env("HURTIG_CLUSTER_JOBMANAGER", address);
    command
}

#[test]
fn a_local_cluster_is_one_command() {
    let folder = folder();
    let address = free_address().to_string();
    let hurtig = |args: &[&str]| local(&folder, &address, args);
    let mut command = hurtig(&["cluster", "--taskmanagers", "2", "--slots", "1"]);
    let mut cluster = command.stdout(Stdio::piped()).spawn().expect("a cluster");
    let mut lines = BufReader::new(cluster.stdout.take().expect("its output")).lines();
    let mut told = || lines.next().expect("a line").expect("UTF-8");
    // It says so once programs can be submitted.
    says(&told(), &["A JobManager at", &address, "2 TaskManagers with 1 slot each"]);
    says(&told(), &["The web page is at http://"]);
    says(&told(), &["hurtig run PROGRAM"]);
    for daemon in ["JobManager", "TaskManager 1", "TaskManager 2"] {
        says(&told(), &[daemon, "process "]);
    }
    let out = folder.path().join("out");
    let run = hurtig(&["run", "-q", PROGRAM, "-p2", "--", "sessions", text(&out), "500"]).output();
    let run = run.expect("the command starts");
    hurtig_tests::processes::signal(cluster.id(), "INT");
    let status = cluster.wait().expect("an end");
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    assert!(!sorted_rows(&out).is_empty());
    assert!(status.success(), "{status}");
    assert!(running_from(folder.path()).is_empty());
    assert!(std::net::TcpStream::connect(&address).is_err(), "the JobManager still listens");
}
