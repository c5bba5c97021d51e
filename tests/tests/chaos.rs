//! Processes of a cluster are killed, stopped and cut off at random while a job with state writes files: what it has
//! written in the end is what an undisturbed run writes.
//!
//! `HURTIG_TEST_CHAOS_SECONDS` says how long, `HURTIG_TEST_SEED` repeats a schedule; each run prints its seed, what it
//! does, and how long it took until output came again. For hours: `cargo test -p hurtig-tests --test chaos -- --nocapture`,
//! which ends no test that takes long.

#![allow(clippy::disallowed_methods, reason = "chaos happens in real time, by a seed that is printed")]

use hurtig::JobState;
use hurtig_tests::cluster::{Cluster, Daemon, Options, SOON};
use hurtig_tests::faults::Seed;
use hurtig_tests::folders::{self, published_files, sorted_lines, unpublished_files};
use hurtig_tests::network::{add_address, connections, is_own, remove_address, reset};
use hurtig_tests::processes::{Process, kill, signal, until, wait_until};
use hurtig_tests::proxy::Proxy;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

const EVENTS_PER_SECOND: u64 = 2_000;
const TASK_MANAGERS: u64 = 3;

/// The machine of the JobManagers and masters, and that of each TaskManager and its workers.
const HOSTS: [Ipv4Addr; 1 + TASK_MANAGERS as usize] = [
    Ipv4Addr::new(10, 9, 0, 1),
    Ipv4Addr::new(10, 9, 0, 2),
    Ipv4Addr::new(10, 9, 0, 3),
    Ipv4Addr::new(10, 9, 0, 4),
];

fn number_of(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().and_then(|text| text.parse().ok())
}

/// Milliseconds below a limit.
fn within(seed: &mut Seed, milliseconds: u64) -> Duration {
    Duration::from_millis(seed.below(milliseconds))
}

fn pick(seed: &mut Seed, processes: Vec<Process>) -> Option<Process> {
    let count = processes.len() as u64;
    processes.into_iter().nth(seed.below(count) as usize)
}

/// What is done to the cluster, with numbers to choose whom it hits.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillWorker,
    KillMaster,
    KillTaskManager(usize, Duration),
    KillJobManager(Duration),
    PauseWorker(Duration),
    PauseMaster(Duration),
    PauseTaskManager(usize, Duration),
    PauseJobManager(Duration),
    /// All connections of TaskManagers to the JobManager are closed, held or slow, where a proxy lies between.
    Cut,
    Hold(Duration),
    Delay(Duration),
    /// A machine cannot be reached.
    CutMachine(usize, Duration),
    /// Some connections break, between any processes.
    Reset(u64),
}

impl Fault {
    fn random(seed: &mut Seed) -> Self {
        let task_manager = seed.below(TASK_MANAGERS) as usize;
        match seed.below(17) {
            0 | 1 => Fault::KillWorker,
            2 => Fault::KillMaster,
            3 | 4 => Fault::KillTaskManager(task_manager, within(seed, 1_000)),
            5 => Fault::KillJobManager(within(seed, 2_000)),
            6 => Fault::PauseWorker(within(seed, 4_000)),
            7 => Fault::PauseMaster(within(seed, 4_000)),
            8 => Fault::PauseTaskManager(task_manager, within(seed, 4_000)),
            9 => Fault::PauseJobManager(within(seed, 4_000)),
            10 => Fault::Cut,
            11 => Fault::Hold(within(seed, 3_000)),
            12 => Fault::Delay(within(seed, 200)),
            13 | 14 => Fault::CutMachine(seed.below(HOSTS.len() as u64) as usize, within(seed, 3_000)),
            _ => Fault::Reset(1 + seed.below(4)),
        }
    }
}

/// The run of one schedule.
struct Chaos {
    cluster: Cluster,
    /// Between TaskManagers and the JobManager, where there is only one.
    proxy: Option<Proxy>,
    seed: Seed,
    job: String,
    out: PathBuf,
    start: Instant,
    recoveries: Vec<(&'static str, Duration)>,
}

impl Chaos {
    fn at(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }

    /// The newest attempt that has begun to write.
    fn attempt(&self) -> u64 {
        let attempt = |file: &PathBuf| file.extension()?.to_str()?.parse().ok();
        unpublished_files(&self.out).iter().filter_map(attempt).max().unwrap_or(0)
    }

    fn published(&self) -> usize {
        published_files(&self.out).len()
    }

    fn has_ended(&self) -> bool {
        self.cluster.job(&self.job).is_some_and(|job| job.state.is_terminal())
    }

    /// Waits for output, unless the job has ended; that is looked at seldom, for each look starts a process.
    fn wait_for_output(&self, what: &str, arrived: impl Fn() -> bool) {
        let mut looked = Instant::now();
        wait_until(what, SOON, || {
            if looked.elapsed() > Duration::from_secs(2) {
                looked = Instant::now();
                if self.has_ended() {
                    return true;
                }
            }
            arrived()
        });
    }

    /// One of the JobManagers: that which leads, or one that stands by.
    fn job_manager(&mut self) -> &mut Daemon {
        let cluster = &mut self.cluster;
        let number = self.seed.below(1 + cluster.standbys.len() as u64) as usize;
        std::iter::once(&mut cluster.job_manager).chain(&mut cluster.standbys).nth(number).expect("below")
    }

    fn through(&self, what: impl Fn(&Proxy)) {
        self.proxy.iter().for_each(what);
    }

    /// Output after the death of a process that the attempt cannot go on without.
    fn recover(&mut self, what: &'static str, before: u64) {
        let killed = Instant::now();
        self.wait_for_output("another attempt", || self.attempt() > before);
        let published = self.published();
        self.wait_for_output("its output", || self.published() > published);
        println!("{:8.3} s   output again after {:?}", self.at(), killed.elapsed());
        self.recoveries.push((what, killed.elapsed()));
    }

    fn goes_on(&self) {
        let published = self.published();
        self.wait_for_output("output", || self.published() > published);
    }

    fn pause(&self, process: Option<u32>, duration: Duration) {
        let Some(process) = process else { return };
        signal(process, "STOP");
        sleep(duration);
        signal(process, "CONT");
    }

    /// Does it; whether the attempt must end by it is the answer.
    fn inflict(&mut self, fault: Fault) -> Option<&'static str> {
        println!("{:8.3} s {fault:?}", self.at());
        match fault {
            Fault::KillWorker => {
                let worker = pick(&mut self.seed, self.cluster.all_workers())?;
                kill(worker.id);
                return Some("worker");
            }
            Fault::KillMaster => {
                let master = pick(&mut self.seed, self.cluster.masters())?;
                kill(master.id);
                return Some("master");
            }
            Fault::KillTaskManager(number, _) => {
                let works = !self.cluster.workers(number).is_empty();
                self.cluster.task_managers[number].kill();
                return works.then_some("TaskManager");
            }
            Fault::KillJobManager(pause) => {
                let (killed, published) = (Instant::now(), self.published());
                let victim = self.job_manager();
                victim.kill();
                sleep(pause);
                victim.start();
                // A job goes on without.
                self.wait_for_output("output", || self.published() > published);
                self.recoveries.push(("JobManager", killed.elapsed()));
            }
            Fault::PauseWorker(duration) => {
                let worker = pick(&mut self.seed, self.cluster.all_workers());
                self.pause(worker.map(|worker| worker.id), duration);
            }
            Fault::PauseMaster(duration) => {
                let master = pick(&mut self.seed, self.cluster.masters());
                self.pause(master.map(|master| master.id), duration);
            }
            Fault::PauseTaskManager(number, duration) => {
                self.pause(Some(self.cluster.task_managers[number].id()), duration);
            }
            Fault::PauseJobManager(duration) => {
                let paused = self.job_manager().id();
                self.pause(Some(paused), duration);
            }
            Fault::Cut => self.through(Proxy::cut),
            Fault::Hold(duration) => self.through(|proxy| {
                proxy.hold();
                sleep(duration);
                proxy.pass(Duration::ZERO);
            }),
            Fault::Delay(delay) => self.through(|proxy| proxy.pass(delay)),
            Fault::CutMachine(number, duration) => {
                remove_address(HOSTS[number]);
                sleep(duration);
                add_address(HOSTS[number]);
            }
            Fault::Reset(count) => {
                for _ in 0..count {
                    let mut open = connections();
                    if !open.is_empty() {
                        reset(open.swap_remove(self.seed.below(open.len() as u64) as usize));
                    }
                }
            }
        }
        None
    }

    /// Starts again what a fault has left dead.
    fn repair(&mut self, fault: Fault) {
        if let Fault::KillTaskManager(number, pause) = fault {
            sleep(pause);
            self.cluster.task_managers[number].start();
        }
    }

    fn step(&mut self) {
        let fault = Fault::random(&mut self.seed);
        let before = self.attempt();
        // A third of the faults meets a cluster that has not recovered from another one.
        if self.seed.below(3) == 0 {
            let second = Fault::random(&mut self.seed);
            self.inflict(fault);
            sleep(within(&mut self.seed, 1_500));
            self.repair(fault);
            self.inflict(second);
            self.repair(second);
            self.goes_on();
        } else {
            match self.inflict(fault) {
                Some(what) => self.recover(what, before),
                None => self.goes_on(),
            }
            self.repair(fault);
        }
        sleep(within(&mut self.seed, 1_000));
    }
}

fn write_quietly(out: &Path, count: u64) {
    let mut command = Command::new(PROGRAM);
    command.args(["-q", "-p1", "--", "events"]).arg(out).args([&count.to_string(), "1e9"]);
    assert!(command.status().expect("the program starts").success());
}

#[test]
fn whatever_dies_every_result_is_written_once() {
    if !is_own("whatever_dies_every_result_is_written_once") {
        return;
    }
    let seconds = number_of("HURTIG_TEST_CHAOS_SECONDS").unwrap_or(120);
    let number = number_of("HURTIG_TEST_SEED").unwrap_or_else(|| rand::random::<u32>().into());
    println!("seed {number}, {seconds} s: HURTIG_TEST_SEED={number} HURTIG_TEST_CHAOS_SECONDS={seconds}");
    let folder = tempfile::tempdir().expect("a folder");
    let (out, quiet) = (folder.path().join("out"), folder.path().join("quiet"));
    let count = seconds * EVENTS_PER_SECOND;
    write_quietly(&quiet, count);

    HOSTS.into_iter().for_each(add_address);
    let address = SocketAddr::from((HOSTS[0], 7_000));
    // Another JobManager stands by, or a proxy lies before the only one.
    let standbys = number as usize % 2;
    let proxy = (standbys == 0).then(|| Proxy::start(address, false));
    let through = proxy.as_ref().map(Proxy::address);
    let options = Options { through, standbys, hosts: HOSTS.to_vec(), ..Options::impatient() };
    assert_eq!(options.task_managers as u64, TASK_MANAGERS);
    let cluster = Cluster::start_at(HURTIG, address, options);
    let checkpoints = format!("--checkpoint-dir={}", folder.path().join("checkpoints").display());
    let flags = ["-p4", "--checkpoint-interval=200ms", &checkpoints]
        .into_iter()
        .chain(["-Drestart.strategy=fixed-delay", "-Drestart.fixed-delay.attempts=1000000"])
        .chain(["-Drestart.fixed-delay.delay=10ms"]);
    let (count, rate) = (count.to_string(), EVENTS_PER_SECOND.to_string());
    let own = ["--", "events", out.to_str().expect("UTF-8"), &count, &rate];
    let job = cluster.submit(PROGRAM, &flags.chain(own).collect::<Vec<_>>());
    let start = Instant::now();
    let mut chaos =
        Chaos { cluster, proxy, seed: Seed::new(number), job, out, start, recoveries: Vec::new() };
    chaos.goes_on();
    while start.elapsed() < Duration::from_secs(seconds) && !chaos.has_ended() {
        chaos.step();
    }
    println!("{:8.3} s calm", chaos.at());
    chaos.through(|proxy| proxy.pass(Duration::ZERO));
    let ended = until("the job's end", Duration::from_secs(seconds) + SOON, || {
        chaos.cluster.job(&chaos.job).filter(|job| job.state.is_terminal())
    });
    assert_eq!(ended.state, JobState::Finished, "seed {number}: {ended:?}");
    if let Err(difference) = folders::compare(&sorted_lines(&quiet), &sorted_lines(&chaos.out)) {
        panic!("seed {number}: {difference}");
    }
    let left = unpublished_files(&chaos.out);
    assert!(left.is_empty(), "seed {number}: {left:?}");
    wait_until("the end of the job's processes", SOON, || {
        chaos.cluster.masters().is_empty() && chaos.cluster.all_workers().is_empty()
    });
    report(&chaos.recoveries);
}

fn report(recoveries: &[(&'static str, Duration)]) {
    assert!(!recoveries.is_empty(), "nothing was killed");
    let mut by_process: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
    for (what, duration) in recoveries {
        by_process.entry(what).or_default().push(*duration);
        by_process.entry("any process").or_default().push(*duration);
    }
    for (what, mut times) in by_process {
        times.sort();
        let (p50, count) = (times[times.len() / 2], times.len());
        println!("from the death of {what} to output: p50 {p50:?}, max {:?} of {count}", times[count - 1]);
    }
}
