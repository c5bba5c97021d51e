//! A JobManager, TaskManagers, masters and workers as on a cluster of processes: they are killed, cut off from the others
//! and started again while a job runs, connections are slow and break. The files that the job has published in the end are
//! those of an undisturbed run.

use super::{Counting, Links, on_a_paused_clock};
use hurtig::cluster::rescaled_job_graph;
use hurtig::daemon::client::ClusterClient;
use hurtig::daemon::jobmanager::{self, JobManagerDaemon};
use hurtig::daemon::memory::{JobMemory, Programs, RememberedJob, Upload};
use hurtig::daemon::taskmanager::{self, TaskManagerDaemon};
use hurtig::dataflow::ids::JobId;
use hurtig::machine::Machine;
use hurtig::prelude::*;
use hurtig::protocol::{Call, ProgramHash, ProgramSummary};
use hurtig::report::{JobStatus, RescaleReport};
use hurtig::resource::Offer;
use hurtig::simulation::{Part, Process, Program, Simulation};
use hurtig_runtime::worker::memory::NetworkFaults;
use hurtig_tests::events::events;
use hurtig_tests::faults::{Seed, seeds, tell_seed};
use hurtig_tests::{folders, jobs};
use hurtig_transport::{Authority, Name, Role, Tls, Validity};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// Seeds unless the environment says otherwise.
const SEEDS: u64 = 100;

const EVENTS: u64 = 1_800;
/// The job takes nine seconds of the paused clock if nothing happens to it.
const EVENTS_PER_SECOND: f64 = 200.0;

const TASK_MANAGERS: usize = 3;
const SLOTS: usize = 2;

/// A folder in memory, where there is such: hundreds of simulated seconds would be as many real ones of waiting for a disk.
fn folder() -> TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder")
}

/// What is on a JobManager's disk, of all JobManagers one after the other.
#[derive(Default)]
struct Jobs(Mutex<BTreeMap<JobId, RememberedJob>>);

impl JobMemory for Jobs {
    fn jobs(&self) -> Result<Vec<RememberedJob>, String> {
        Ok(self.0.lock().expect("no test has failed").values().cloned().collect())
    }

    fn keep(&self, job: &RememberedJob) -> Result<(), String> {
        self.0.lock().expect("no test has failed").insert(job.id, job.clone());
        Ok(())
    }
}

/// The only program is everywhere.
struct OneProgram;

impl Programs for OneProgram {
    fn path(&self, _: &ProgramHash) -> Option<PathBuf> {
        Some("program".into())
    }

    fn list(&self) -> Result<Vec<ProgramSummary>, String> {
        Ok(Vec::new())
    }

    fn begin(&self, _: &ProgramHash, _: u64) -> Result<Box<dyn Upload>, String> {
        Err("there is one program".into())
    }
}

/// Identities of all daemons, made once.
struct Identities {
    job_manager: Tls,
    task_managers: Vec<Tls>,
    client: Tls,
}

impl Identities {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority =
            Authority::create(folder.path(), "simulated", Validity::days(1)).expect("an authority");
        let issue = |role, id: &str| {
            let name = Name::new(role, id).expect("a name");
            Tls::new(authority.issue(&name, Validity::days(1), &[]).expect("an identity"))
                .expect("an identity")
        };
        let task_manager = |number: usize| issue(Role::TaskManager, &format!("taskmanager-{number}"));
        Identities {
            job_manager: issue(Role::JobManager, "jobmanager"),
            task_managers: (0..TASK_MANAGERS).map(task_manager).collect(),
            client: issue(Role::Client, "client"),
        }
    }
}

/// A cluster, and what of it is on disks.
struct Daemons<'a> {
    simulation: Simulation,
    identities: &'a Identities,
    config: Config,
    folder: TempDir,
    jobs: Arc<Jobs>,
    /// On so many machines was the JobManager before: masters there are not its own.
    machines: u32,
    job_manager: Option<Process>,
    task_managers: Vec<Option<Process>>,
}

impl<'a> Daemons<'a> {
    async fn start(simulation: Simulation, identities: &'a Identities, config: Config) -> Self {
        let folder = folder();
        let (jobs, task_managers) = (Arc::default(), vec![None; TASK_MANAGERS]);
        let mut daemons = Daemons {
            simulation,
            identities,
            config,
            folder,
            jobs,
            machines: 0,
            job_manager: None,
            task_managers,
        };
        daemons.start_what_is_dead().await;
        daemons
    }

    async fn start_what_is_dead(&mut self) {
        if self.job_manager.is_none() {
            let process = self.simulation.process();
            let address: SocketAddr = self.config.cluster.jobmanager.parse().expect("an address");
            let options = jobmanager::Options {
                address,
                tls: self.identities.job_manager.clone(),
                folder: self.folder.path().join(format!("jobmanager-{}", self.machines)),
                config: self.config.clone(),
                jobs: self.jobs.clone(),
                programs: Arc::new(OneProgram),
                machine: Machine::Simulated(process.clone()),
            };
            JobManagerDaemon::start(options).await.expect("a JobManager");
            self.job_manager = Some(process);
        }
        for number in 0..TASK_MANAGERS {
            if self.task_managers[number].is_none() {
                let process = self.simulation.process();
                let options = taskmanager::Options {
                    offer: Offer::unlimited(SLOTS),
                    tls: self.identities.task_managers[number].clone(),
                    folder: self.folder.path().join(format!("taskmanager-{number}")),
                    config: self.config.clone(),
                    programs: Arc::new(OneProgram),
                    machine: Machine::Simulated(process.clone()),
                };
                TaskManagerDaemon::start(options).await.expect("a TaskManager");
                self.task_managers[number] = Some(process);
            }
        }
    }

    /// Submits the job, from a savepoint if one is given.
    async fn submit(&self, from: Option<&str>) -> (ClusterClient, JobId) {
        let machine = Machine::Simulated(self.simulation.process());
        let call = Call {
            program: "the program".into(),
            file_name: "program".into(),
            args: from.map(str::to_owned).into_iter().collect(),
            defines: Vec::new(),
            folder: "/".into(),
            rescaled: None,
        };
        // The first connections break as well as others, also after the job was accepted.
        loop {
            if let Ok(client) =
                ClusterClient::connect_on(&machine, &self.config, &self.identities.client).await
            {
                let submitted = client.submit(call.clone()).await.map(|submitted| submitted.job);
                if submitted.is_err() {
                    // What is under way is accepted by then, or never.
                    sleep(Duration::from_secs(3)).await;
                }
                let jobs = self.jobs.jobs().expect("jobs");
                let accepted = jobs.iter().find(|job| job.call.args == call.args).map(|job| job.id);
                if let Some(job) = submitted.ok().or(accepted) {
                    return (client, job);
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// How many masters a job has had.
    fn masters(&self, job: JobId) -> u32 {
        self.jobs.0.lock().expect("no test has failed")[&job].masters
    }

    /// One thing that happens, by chance.
    async fn disturb(&mut self, seed: &mut Seed) -> &'static str {
        let rest = Duration::from_millis(seed.below(1_500));
        let masters = self.simulation.processes(|part| matches!(part, Part::Master(_)));
        let workers = self.simulation.processes(|part| matches!(part, Part::Worker(..)));
        let one_of = |processes: &[Process], seed: &mut Seed| {
            (!processes.is_empty()).then(|| processes[seed.below(processes.len() as u64) as usize].clone())
        };
        let (what, process) = match seed.below(10) {
            0 | 1 => {
                if let Some(process) = self.job_manager.take() {
                    process.kill();
                }
                sleep(rest).await;
                self.machines += seed.below(2) as u32;
                self.start_what_is_dead().await;
                return "the JobManager is killed, and starts elsewhere if the seed says so";
            }
            2 | 3 => {
                let number = seed.below(TASK_MANAGERS as u64) as usize;
                if let Some(process) = self.task_managers[number].take() {
                    process.kill();
                }
                sleep(rest).await;
                self.start_what_is_dead().await;
                return "a TaskManager is killed";
            }
            4 => ("a master is killed", one_of(&masters, seed)),
            5 | 6 => ("a worker is killed", one_of(&workers, seed)),
            7 => ("a master is cut off", one_of(&masters, seed)),
            8 => ("a worker is cut off", one_of(&workers, seed)),
            _ => {
                let daemons = self.task_managers.iter().flatten().chain(&self.job_manager);
                ("a daemon is cut off", one_of(&daemons.cloned().collect::<Vec<_>>(), seed))
            }
        };
        let Some(process) = process else { return "nothing is there to disturb" };
        if what.ends_with("killed") {
            process.kill();
        } else {
            process.cut_off();
            sleep(rest).await;
            process.rejoin();
        }
        what
    }
}

/// Counts with timers, into files.
fn program(files: &Path, config: &Config) -> Program {
    let (files, config) = (files.to_path_buf(), config.clone());
    Arc::new(move |call| {
        let env = Environment::new();
        let counted = events(&env, "events", EVENTS, EVENTS_PER_SECOND)
            .key_by(|event| event.key)
            .process(Counting::default())
            .uid("counts");
        counted.sink_to(FileSink::text(&files)).uid("files");
        let mut config = hurtig::configured(&env, &config);
        config.restore.from = call.args.first().map(PathBuf::from);
        let graph = rescaled_job_graph("simulated", &env.graph(), &config, call.rescaled.as_ref());
        Ok((graph.map_err(|error| error.to_string())?, config))
    })
}

fn config(number: u64, seed: &mut Seed) -> Config {
    let mut config =
        jobs::config(2 + seed.below(3) as usize, Some(Duration::from_millis(50 + seed.below(300))));
    config.checkpoint.dir = Some(format!("memory:simulated-{number}").into());
    config.checkpoint.timeout = Duration::from_secs(5);
    config.checkpoint.tolerable_failures = 1_000;
    config.restart.fixed_delay.attempts = 1_000;
    config.heartbeat.interval = Duration::from_millis(200);
    config.heartbeat.timeout = Duration::from_secs(1);
    config.cluster.jobmanager = "127.0.0.1:6123".into();
    config.cluster.host = "127.0.0.1".into();
    config.exchange.credits = 1 + seed.below(8) as usize;
    config.checkpoint.alignment_timeout = (seed.below(2) == 0).then(|| Duration::from_millis(seed.below(20)));
    config.state.local_recovery = seed.below(4) == 0;
    config
}

/// Runs the job on a cluster to which so many things happen, and changes its parallelism so many times.
fn run(
    number: u64,
    identities: &Identities,
    config: Config,
    (control, records): (Links, Links),
    disturbances: u64,
    rescales: u64,
) -> (Found, Vec<String>) {
    let files = folder();
    let program = program(files.path(), &config);
    let (control, records): (Arc<dyn NetworkFaults>, _) = (Arc::new(control), Arc::new(records));
    let timeout = config.heartbeat.timeout;
    let mut seed = Seed::new(number ^ 0x5eed);
    // In some runs the job is stopped midway, and goes on as another one.
    let stop_after =
        (disturbances > 0 && number.is_multiple_of(3)).then(|| Duration::from_millis(seed.below(8_000)));
    let savepoints = format!("memory:simulated-{number}/savepoints");
    let found = on_a_paused_clock(async {
        let simulation = Simulation::new(program, control, records, timeout, number);
        let mut daemons = Daemons::start(simulation, identities, config).await;
        let (client, job) = daemons.submit(None).await;
        let disturbed = async {
            for _ in 0..disturbances {
                sleep(Duration::from_millis(seed.below(1_200))).await;
                let what = daemons.disturb(&mut seed).await;
                if std::env::var_os("HURTIG_TEST_SEED").is_some() {
                    println!("{:?}: {what}", tokio::time::Instant::now());
                }
            }
            daemons
        };
        let stopped = async {
            if let Some(after) = stop_after {
                sleep(after).await;
                // One that is lost midway is asked for again, if the job has not ended.
                while client.savepoint(job, Some(savepoints.clone()), true).await.is_err() {
                    sleep(Duration::from_millis(300)).await;
                    if client.info(&job.to_string()).await.is_ok_and(|(status, _)| status.state.is_terminal())
                    {
                        return;
                    }
                }
            }
        };
        let mut rescaling = Seed::new(number ^ 0x5ca1e);
        let rescaled = async {
            let mut reports = Vec::new();
            for _ in 0..rescales {
                sleep(Duration::from_millis(500 + rescaling.below(2_000))).await;
                let parallelism = 1 + rescaling.below(6) as usize;
                let (all, vertices) = match rescaling.below(3) {
                    0 => (Some(parallelism), Vec::new()),
                    1 => (None, vec![("events".to_owned(), parallelism)]),
                    _ => (None, vec![("counts".to_owned(), parallelism)]),
                };
                // What is refused, or whose answer is lost, is of no consequence.
                if let Ok(done) = client.rescale(job, all, vertices).await {
                    reports.extend(done.rescaled);
                }
            }
            reports
        };
        let (status, daemons, (), reports) =
            tokio::join!(client.follow(job, |_| {}), disturbed, stopped, rescaled);
        let status = status.unwrap_or_else(|error| panic!("seed {number}: the job is lost: {error}"));
        let mut all = Found { statuses: vec![status], masters: daemons.masters(job), rescales: reports };
        let JobStatus { last_savepoint, last_checkpoint, .. } = all.statuses[0].clone();
        // Without a later checkpoint the job has ended with the savepoint; else it has gone on from there to its end.
        let last_checkpoint = last_checkpoint.map_or(0, |report| report.id);
        if let Some(savepoint) = last_savepoint.filter(|report| report.id > last_checkpoint) {
            let (client, job) = daemons.submit(Some(&savepoint.location)).await;
            all.statuses.push(client.follow(job, |_| {}).await.expect("it goes on"));
            all.masters += daemons.masters(job);
        }
        daemons.simulation.end();
        all
    });
    for status in &found.statuses {
        assert_eq!(status.state, JobState::Finished, "seed {number}: {:?}", status.failure);
    }
    (found, folders::sorted_lines(files.path()))
}

/// What a run came to: the job, or both if it was stopped.
struct Found {
    statuses: Vec<JobStatus>,
    masters: u32,
    /// Those that its master has made.
    rescales: Vec<RescaleReport>,
}

#[test]
fn results_are_those_of_an_undisturbed_run_whatever_happens_to_the_clusters_processes() {
    let identities = Identities::new();
    let calm = |number| Links::new(Seed::new(number), 0, 1, Duration::from_millis(2));
    let (quiet, expected) = run(0, &identities, config(0, &mut Seed::new(0)), (calm(0), calm(1)), 0, 0);
    assert_eq!((quiet.statuses[0].restarts, quiet.masters), (0, 1));
    assert!(expected.len() > 400, "{} lines", expected.len());
    let numbers = seeds(SEEDS);
    let count = numbers.end - numbers.start;
    let (mut restarts, mut masters, mut stopped, mut rescaled) = (0, 0, 0, 0);
    for number in numbers {
        tell_seed(number);
        let mut seed = Seed::new(number);
        let config = config(number, &mut seed);
        let slowest = Duration::from_millis(1 + seed.below(100));
        let links = |seed: &mut Seed, breaking, within_bytes| {
            Links::new(Seed::new(seed.next()), breaking, within_bytes, slowest)
        };
        let control_breaking = seed.below(3);
        let control = links(&mut seed, control_breaking, 400 << 10);
        let records = links(&mut seed, 1, 20_000);
        let disturbances = 3 + seed.below(8);
        let rescales = seed.below(4);
        let (found, lines) = run(number, &identities, config, (control, records), disturbances, rescales);
        let tries: u32 = found.statuses.iter().map(|status| status.restarts).sum();
        if let Err(difference) = folders::compare(&expected, &lines) {
            panic!("seed {number}, after {tries} restarts and {} masters: {difference}", found.masters);
        }
        restarts += u64::from(tries);
        masters += u64::from(found.masters);
        stopped += found.statuses.len() as u64 - 1;
        rescaled += found.rescales.len() as u64;
    }
    println!(
        "{count} runs, {restarts} restarts, {masters} masters, {stopped} stopped with a savepoint, {rescaled} rescaled"
    );
    let is_disturbed = restarts > count && masters > count && stopped > count / 10 && rescaled > count / 4;
    assert!(count < SEEDS || is_disturbed, "nothing was disturbed");
}

#[test]
fn a_job_that_is_rescaled_keeps_its_master_and_the_workers_that_still_have_slots() {
    let identities = Identities::new();
    let calm = |number| Links::new(Seed::new(number), 0, 1, Duration::from_millis(2));
    let config = || config(1, &mut Seed::new(1));
    let (_, expected) = run(0, &identities, config(), (calm(0), calm(1)), 0, 0);
    let mut stayed = 0;
    for number in 1..10 {
        let (found, lines) = run(number, &identities, config(), (calm(0), calm(1)), 0, 4);
        folders::compare(&expected, &lines)
            .unwrap_or_else(|difference| panic!("seed {number}: {difference}"));
        assert_eq!((found.masters, found.statuses[0].restarts), (1, 0), "seed {number}");
        assert!(found.rescales.len() > 1, "seed {number}: {:?}", found.rescales);
        for RescaleReport { pause_ms, workers: (kept, all), subtasks, .. } in found.rescales {
            assert!(kept > 0 && kept <= all, "seed {number}: {kept} of {all} kept");
            assert!(pause_ms < 1_000, "seed {number}: a pause of {pause_ms} ms");
            stayed += subtasks.0;
        }
    }
    assert!(stayed > 10, "the state of {stayed} subtasks stayed where it was");
}
