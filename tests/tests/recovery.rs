//! What a job starts from, and what becomes of it when something fails.

use hurtig::config::{CheckpointMode, RestartStrategyConfig};
use hurtig::dataflow::error::describe;
use hurtig::prelude::*;
use hurtig::{JobError, RunError};
use hurtig_tests::events::{Event, KEYS, events};
use hurtig_tests::faults::{Crashes, Seed, seeds};
use hurtig_tests::{folders, jobs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const EVENTS: u64 = 24_000;
const EVENTS_PER_SECOND: f64 = 48_000.0;
const INTERVAL: Option<Duration> = Some(Duration::from_millis(10));

type Sum = (u64, u64, i64);

/// The running sum of each key's values.
fn sums(events: &DataStream<Event>) -> DataStream<Sum> {
    events
        .map(|event| (event.key, event.n, event.value))
        .uid("rows")
        .key_by(|row| row.0)
        .reduce(|a, b| (a.0, b.1, a.2 + b.2))
        .uid("sums")
        .key_by(|row| row.0)
        .process(Ballast::default())
        .uid("ballast")
}

/// Keeps so much for each key, and changes it so often, that snapshots are files.
#[derive(Clone, Default)]
struct Ballast {
    weight: ValueState<Vec<u64>>,
}

impl KeyedProcessFunction<u64, Sum> for Ballast {
    type Out = Sum;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.weight = ctx.value_state("weight")?;
        Ok(())
    }

    fn process(&mut self, sum: Sum, ctx: &mut KeyedContext<'_, u64, Sum>) -> OpResult {
        match self.weight.get_mut(ctx) {
            Some(weight) => weight[0] = weight[0].wrapping_add(1),
            None => {
                let mut seed = Seed::new(sum.0);
                self.weight.set(ctx, (0..4_000).map(|_| seed.next()).collect());
            }
        }
        ctx.emit(sum);
        Ok(())
    }
}

fn sums_to_files(env: &Environment, out: &Path) {
    sums_to_files_at(EVENTS_PER_SECOND, env, out);
}

/// The same at a rate at which the job does not end before it is interrupted, however busy the machine is.
fn sums_to_files_slowly(env: &Environment, out: &Path) {
    sums_to_files_at(EVENTS_PER_SECOND / 16.0, env, out);
}

fn sums_to_files_at(per_second: f64, env: &Environment, out: &Path) {
    let sums = sums(&events(env, "events", EVENTS, per_second));
    sums.map(|sum| format!("{sum:?}")).uid("shown").sink_to(FileSink::text(out)).uid("files");
}

fn expected_sums() -> Vec<String> {
    let mut sums = [0; KEYS as usize];
    let mut rows: Vec<_> = (0..EVENTS)
        .map(|n| {
            let event = Event::of(n);
            let sum = &mut sums[event.key as usize];
            *sum += event.value;
            format!("{:?}", (event.key, n, *sum))
        })
        .collect();
    rows.sort_unstable();
    rows
}

fn check_sums(out: &Path) {
    if let Err(difference) = folders::compare(&expected_sums(), &folders::sorted_lines(out)) {
        panic!("{difference}");
    }
    assert_eq!(folders::unpublished_files(out), Vec::<PathBuf>::new());
}

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

/// Complete checkpoints in a folder, oldest first.
fn checkpoints(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for job in dir.read_dir().into_iter().flatten().flatten() {
        for checkpoint in job.path().read_dir().into_iter().flatten().flatten() {
            let path = checkpoint.path();
            let number =
                path.file_name().and_then(|name| name.to_str()?.strip_prefix("chk-")?.parse::<u64>().ok());
            if let Some(number) = number.filter(|_| path.join("_metadata").is_file()) {
                found.push((number, path));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Why a job did not end well.
fn failure(env: &Environment, config: &Config) -> String {
    match jobs::run(jobs::execute(env, config, None)) {
        Err(error) => describe(&error),
        Ok(status) => panic!("the job finished: {status:?}"),
    }
}

#[test]
fn a_job_stopped_with_a_savepoint_goes_on_at_another_parallelism() {
    for (before, after) in [(1, 3), (2, 3), (3, 2), (2, 1)] {
        let (out, savepoints) = (folder(), folder());
        let env = Environment::new();
        sums_to_files_slowly(&env, out.path());
        let location = jobs::run(async {
            let job = jobs::start(&env, &jobs::config(before, INTERVAL), None).await.expect("the job starts");
            job.client.wait_until(|status| status.checkpoints_completed >= 3).await.expect("checkpoints");
            let location = job.client.stop(Some(&savepoints.path().display().to_string())).await;
            job.cluster.shutdown().await;
            location.expect("a savepoint")
        });
        let rows = folders::sorted_lines(out.path()).len();
        assert!(rows > 0 && (rows as u64) < EVENTS, "{rows}");
        let mut config = jobs::config(after, None);
        config.restore.from = Some(location.into());
        let env = Environment::new();
        sums_to_files(&env, out.path());
        jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
        check_sums(out.path());
    }
}

#[test]
fn a_job_goes_on_from_a_savepoint_that_did_not_stop_it_after_a_crash() {
    let (out, savepoints) = (folder(), folder());
    let env = Environment::new();
    sums_to_files(&env, out.path());
    jobs::run(async {
        let faults = Arc::new(Crashes { seed: 5, attempts: 3, within: EVENTS });
        let job = jobs::start(&env, &jobs::config(2, INTERVAL), Some(faults)).await.expect("the job starts");
        job.client.wait_until(|status| status.checkpoints_completed >= 2).await.expect("checkpoints");
        // One that comes while the job restarts is refused.
        let _ = job.client.savepoint(Some(&savepoints.path().display().to_string())).await;
        job.finish().await.expect("the job finishes");
    });
    check_sums(out.path());
}

/// Runs a job until it has taken some checkpoints, and ends its cluster.
fn interrupted(out: &Path, dir: &Path, retained: usize) {
    let env = Environment::new();
    sums_to_files_slowly(&env, out);
    let mut config = jobs::config(2, INTERVAL);
    config.checkpoint.dir = Some(dir.to_path_buf());
    config.checkpoint.retained = retained;
    jobs::run(async {
        let job = jobs::start(&env, &config, None).await.expect("the job starts");
        job.client.wait_until(|status| status.checkpoints_completed >= 4).await.expect("checkpoints");
        job.cluster.shutdown().await;
    });
}

#[test]
fn another_cluster_goes_on_from_a_retained_checkpoint() {
    let (out, dir) = (folder(), folder());
    interrupted(out.path(), dir.path(), 1);
    let mut config = jobs::config(3, INTERVAL);
    config.restore.from = checkpoints(dir.path()).pop();
    assert!(config.restore.from.is_some());
    let env = Environment::new();
    sums_to_files(&env, out.path());
    jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
    check_sums(out.path());
}

fn cut(file: &Path) {
    let bytes = std::fs::read(file).expect("a file");
    std::fs::write(file, &bytes[..bytes.len() / 2]).expect("written");
}

fn flip_a_bit(file: &Path) {
    let mut bytes = std::fs::read(file).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(file, bytes).expect("written");
}

/// A file with state that a checkpoint has written, not one that it shares with those before.
fn state_file(checkpoint: &Path) -> PathBuf {
    let number = checkpoint.file_name().and_then(|name| name.to_str()?.strip_prefix("chk-"));
    let prefix = format!("c{}-", number.expect("the folder of a checkpoint"));
    let shared = checkpoint.with_file_name("shared");
    let files = shared.read_dir().expect("a folder of files").map(|file| file.expect("a file").path());
    let is_its = |file: &PathBuf| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(&prefix))
    };
    files.filter(is_its).min().expect("a state file")
}

#[test]
fn a_damaged_checkpoint_is_refused_by_name() {
    for (damage, of_state) in
        [(cut as fn(&Path), false), (cut, true), (flip_a_bit, false), (flip_a_bit, true)]
    {
        let (out, dir) = (folder(), folder());
        interrupted(out.path(), dir.path(), 2);
        let newest = checkpoints(dir.path()).pop().expect("a checkpoint");
        let file = if of_state { state_file(&newest) } else { newest.join("_metadata") };
        damage(&file);
        let before = folders::sorted_lines(out.path());
        let mut config = jobs::config(2, INTERVAL);
        config.restore.from = Some(newest);
        let env = Environment::new();
        sums_to_files(&env, out.path());
        let message = failure(&env, &config);
        let name = file.file_name().expect("a name").to_string_lossy();
        assert!(message.contains("is damaged") && message.contains(&*name), "{message}");
        assert!(message.contains("use an older checkpoint"), "{message}");
        assert_eq!(before, folders::sorted_lines(out.path()), "nothing is changed");
    }
}

#[test]
fn a_restart_falls_back_on_the_checkpoint_before_a_damaged_one() {
    let (out, dir) = (folder(), folder());
    let times = Arc::new(AtomicU32::new(0));
    let env = Environment::new();
    let (folder_of_checkpoints, damaged) = (dir.path().to_path_buf(), Arc::clone(&times));
    // Slowly: a disk that others use too must get two checkpoints done between two that are damaged.
    let per_second = EVENTS_PER_SECOND / 4.0;
    let events = events(&env, "events", EVENTS, per_second).map(move |event| {
        let done = damaged.load(Ordering::Relaxed);
        let found = checkpoints_every(&folder_of_checkpoints, event.n);
        if let [.., _, newest] = &found[..]
            && event.n > u64::from(done + 1) * 5_000
            && done < 2
            && damaged.fetch_add(1, Ordering::Relaxed) == done
        {
            let file = if done == 0 { newest.join("_metadata") } else { state_file(newest) };
            flip_a_bit(&file);
            panic!("{} was damaged", file.display());
        }
        event
    });
    let sums = sums(&events.uid("damage").set_parallelism(1));
    sums.map(|sum| format!("{sum:?}")).uid("shown").sink_to(FileSink::text(out.path())).uid("files");
    let mut config = jobs::config(2, Some(Duration::from_millis(25)));
    config.checkpoint.dir = Some(dir.path().to_path_buf());
    config.checkpoint.retained = 2;
    config.execution.chaining = false;
    let status = jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
    assert_eq!((status.restarts, times.load(Ordering::Relaxed)), (2, 2), "{:?}", status.failure);
    // What the damaged checkpoint had published comes again, but nothing is lost and no sum is wrong.
    let mut found = folders::sorted_lines(out.path());
    found.dedup();
    if let Err(difference) = folders::compare(&expected_sums(), &found) {
        panic!("{difference}");
    }
}

/// Looks for checkpoints now and then.
fn checkpoints_every(dir: &Path, n: u64) -> Vec<PathBuf> {
    if n.is_multiple_of(100) { checkpoints(dir) } else { Vec::new() }
}

#[test]
fn a_checkpoint_of_another_program_is_refused_by_the_names_of_operators() {
    let (out, dir) = (folder(), folder());
    interrupted(out.path(), dir.path(), 1);
    let mut config = jobs::config(2, INTERVAL);
    config.restore.from = checkpoints(dir.path()).pop();
    let env = Environment::new();
    let counts = events(&env, "other-events", 100, 1e6).key_by(|event| event.key).count().uid("other-counts");
    counts.discard();
    let message = failure(&env, &config);
    assert!(message.contains("checkpoint of another program"), "{message}");
    assert!(message.contains("sums") && message.contains("other-counts"), "{message}");
}

/// Keeps the last value as one type or another.
#[derive(Clone, Default)]
struct Last<V> {
    last: ValueState<V>,
}

impl<V: From<u8> + Clone + Send + Sync + serde::Serialize + serde::de::DeserializeOwned + 'static>
    KeyedProcessFunction<u64, Event> for Last<V>
{
    type Out = u64;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.last = ctx.value_state("last")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, u64>) -> OpResult {
        self.last.set(ctx, V::from(event.n as u8));
        Ok(())
    }
}

#[test]
fn state_of_a_changed_type_is_refused_by_its_name() {
    let savepoints = folder();
    let env = Environment::new();
    let keyed =
        |env: &Environment| events(env, "events", EVENTS, EVENTS_PER_SECOND / 16.0).key_by(|event| event.key);
    keyed(&env).process(Last::<u64>::default()).uid("last").discard();
    let location = jobs::run(async {
        let job = jobs::start(&env, &jobs::config(2, INTERVAL), None).await.expect("the job starts");
        job.client.wait_until(|status| status.checkpoints_completed >= 3).await.expect("checkpoints");
        let location = job.client.stop(Some(&savepoints.path().display().to_string())).await;
        job.cluster.shutdown().await;
        location.expect("a savepoint")
    });
    let env = Environment::new();
    keyed(&env).process(Last::<Text>::default()).uid("last").discard();
    let mut config = jobs::config(2, INTERVAL);
    config.restore.from = Some(location.into());
    let message = failure(&env, &config);
    assert!(message.contains("state 'last'") && message.contains("the type has changed"), "{message}");
}

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Text(String);

impl From<u8> for Text {
    fn from(number: u8) -> Self {
        Text(number.to_string())
    }
}

fn panics_at(env: &Environment, n: u64) {
    let events = events(env, "events", 10_000, 1e6);
    let checked = events.map(move |event| {
        assert!(event.n != n, "number {n} cannot be");
        event
    });
    checked.uid("check").name("the check").discard();
}

#[test]
fn a_panic_in_user_code_fails_the_job_and_is_told_with_its_place() {
    let env = Environment::new();
    panics_at(&env, 500);
    let mut config = jobs::config(2, None);
    config.restart.strategy = RestartStrategyConfig::None;
    let message = failure(&env, &config);
    assert!(message.contains("number 500 cannot be"), "{message}");
    assert!(message.contains("the check") && message.contains("/2: panicked at"), "{message}");
    assert!(message.contains("tests/recovery.rs:"), "{message}");
    // The process goes on, and so does another job.
    let env = Environment::new();
    let found = env.from_range(0..10).collect();
    jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
    assert_eq!(found.len(), 10);
}

#[test]
fn a_panic_in_a_future_is_told_with_its_place_too() {
    for wait in [false, true] {
        let env = Environment::new();
        let events = events(&env, "events", 1_000, 1e6);
        let looked_up = events.map_async(AsyncOptions::ordered(), move |event| async move {
            if wait {
                // So that it is not the first poll that panics.
                tokio::task::yield_now().await;
            }
            assert!(event.n != 500, "nobody knows number {}", event.n);
            Ok(event.n)
        });
        looked_up.uid("look-up").name("the look-up").discard();
        let mut config = jobs::config(2, None);
        config.restart.strategy = RestartStrategyConfig::None;
        let message = failure(&env, &config);
        assert!(message.contains("nobody knows number 500"), "{message}");
        assert!(message.contains("the look-up") && message.contains("/2: "), "{message}");
        assert!(message.contains("panicked at ") && message.contains("tests/recovery.rs:"), "{message}");
    }
}

#[test]
fn restarts_end_when_the_strategy_says_so() {
    let restarts = |config: &Config| {
        let env = Environment::new();
        panics_at(&env, 500);
        jobs::run(async {
            let job = jobs::start(&env, config, None).await.expect("the job starts");
            let client = job.client.clone();
            assert!(matches!(job.finish().await, Err(RunError::Job(JobError::Failed { .. }))));
            client.status().restarts
        })
    };
    let mut config = jobs::config(1, INTERVAL);
    config.restart.fixed_delay.attempts = 3;
    assert_eq!(restarts(&config), 3);
    config.restart.strategy = RestartStrategyConfig::FailureRate;
    config.restart.failure_rate.max_failures = 2;
    config.restart.failure_rate.delay = Duration::ZERO;
    assert_eq!(restarts(&config), 2);
    config.restart.strategy = RestartStrategyConfig::ExponentialDelay;
    config.restart.exponential_delay.initial = Duration::from_millis(1);
    config.restart.exponential_delay.attempts = Some(4);
    assert_eq!(restarts(&config), 4);
    config.restart.strategy = RestartStrategyConfig::None;
    assert_eq!(restarts(&config), 0);
}

#[test]
fn a_job_is_cancelled_while_it_runs_and_while_it_waits_for_its_restart() {
    let out = folder();
    let env = Environment::new();
    sums_to_files_slowly(&env, out.path());
    jobs::run(async {
        let job = jobs::start(&env, &jobs::config(2, None), None).await.expect("the job starts");
        job.client.wait_until(|status| status.records_read() > 0).await.expect("records");
        job.client.cancel().expect("it runs");
        assert!(matches!(job.finish().await, Err(RunError::Job(JobError::Cancelled(_)))));
    });
    assert_eq!(folders::sorted_lines(out.path()), Vec::<String>::new(), "nothing is published");

    let env = Environment::new();
    panics_at(&env, 500);
    let mut config = jobs::config(1, None);
    config.restart.fixed_delay.delay = Duration::from_secs(3_600);
    jobs::run(async {
        let job = jobs::start(&env, &config, None).await.expect("the job starts");
        job.client.wait_until(|status| status.state == JobState::Restarting).await.expect("a failure");
        job.client.cancel().expect("it waits");
        assert!(matches!(job.finish().await, Err(RunError::Job(JobError::Cancelled(_)))));
    });
}

#[test]
fn at_least_once_loses_nothing() {
    let mut restarted = 0;
    for seed in seeds(6) {
        let out = folder();
        let env = Environment::new();
        let events = events(&env, "events", EVENTS / 2, EVENTS_PER_SECOND);
        let numbers = events.rebalance().map(|event| format!("{:06}", event.n)).uid("numbers");
        numbers.sink_to(FileSink::text(out.path())).uid("files");
        let mut config = jobs::config(2, INTERVAL);
        config.checkpoint.mode = CheckpointMode::AtLeastOnce;
        let faults = Arc::new(Crashes { seed, attempts: 3, within: EVENTS / 4 });
        let status = jobs::run(jobs::execute(&env, &config, Some(faults))).expect("the job finishes");
        restarted += status.restarts;
        let mut found = folders::sorted_lines(out.path());
        found.dedup();
        let expected: Vec<_> = (0..EVENTS / 2).map(|n| format!("{n:06}")).collect();
        if let Err(difference) = folders::compare(&expected, &found) {
            panic!("seed {seed}: {difference}");
        }
    }
    assert!(restarted > 0);
}

#[test]
fn metrics_tell_what_a_job_has_done() {
    let env = Environment::new();
    let sums = sums(&events(&env, "events", EVENTS, EVENTS_PER_SECOND)).collect();
    let faults = Arc::new(Crashes { seed: 3, attempts: 2, within: EVENTS });
    let (status, metrics) = jobs::run(async {
        let job = jobs::start(&env, &jobs::config(2, INTERVAL), Some(faults)).await.expect("the job starts");
        let client = job.client.clone();
        let status = job.finish().await.expect("the job finishes");
        (status, client.metrics())
    });
    assert_eq!(sums.take().len() as u64, EVENTS);
    assert_eq!(metrics.job["numRestarts"], f64::from(status.restarts));
    assert_eq!(metrics.job["numberOfCompletedCheckpoints"], status.checkpoints_completed as f64);
    assert_eq!(metrics.subtasks.keys().collect::<Vec<_>>(), status.subtasks.keys().collect::<Vec<_>>());
    for (id, values) in &metrics.subtasks {
        assert_eq!(values["numRecordsIn"], status.subtasks[id].records_in() as f64, "{id:?}");
        assert!(values["accumulateBusyTimeMs"] > 0.0, "{id:?}");
    }
}
