//! Whatever crashes, results are those of an undisturbed run: nothing lost, nothing twice.
//!
//! Each job runs once undisturbed, then with crashes at random records in its first attempts, at random parallelism
//! and settings, which differ from run to run, then in legs from savepoint to savepoint, each at another parallelism. `HURTIG_TEST_SEEDS` says how often, `HURTIG_TEST_SEED` from which seed on;
//! a failure names its seed.

mod bad_lines;
mod examples;
mod functions;
mod operators;
mod sources;
mod windows;

use hurtig::config::ByteSize;
use hurtig::formats::TextLines;
use hurtig::prelude::*;
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::{Crashes, Seed, seeds, tell_seed};
use hurtig_tests::{folders, jobs};
use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Events of a job, and how fast they come: a tenth of a second for all.
const EVENTS: u64 = 12_000;
const EVENTS_PER_SECOND: f64 = 120_000.0;

/// Seeds each job runs with at least, unless the environment says otherwise.
const SEEDS: u64 = 24;

/// The last operator before the sinks: knows whether it was restored.
#[derive(Clone)]
struct Witness {
    restored: Arc<AtomicU64>,
}

impl ProcessFunction<String> for Witness {
    type Out = String;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.restored.fetch_add(u64::from(ctx.restored), Ordering::Relaxed);
        Ok(())
    }

    fn process(&mut self, record: String, ctx: &mut ProcessContext<'_, String>) -> OpResult {
        ctx.emit(record);
        Ok(())
    }
}

/// Legs of a journey from savepoint to savepoint, at most, before the last.
const MOST_LEGS: usize = 4;

/// Parallelisms between which a job goes back and forth.
const PARALLELISMS: [usize; 6] = [7, 3, 1, 7, 2, 3];

/// Those with which it begins: a split of the source then has all events of its keys, in order, whoever reads it later.
const FIRST: [usize; 3] = [1, 2, 3];

/// What a run came to.
struct Outcome {
    collected: Vec<String>,
    written: Vec<String>,
    restarts: u32,
    restored: bool,
}

fn run(
    build: impl Fn(&Environment) -> DataStream<String>,
    config: &Config,
    sink: impl Fn(&Path) -> FileSink<String, TextLines>,
    crashes: Option<Crashes>,
) -> Outcome {
    let out = tempfile::tempdir().expect("a folder");
    let restored = Arc::new(AtomicU64::new(0));
    let env = Environment::new();
    let results = build(&env).process(Witness { restored: Arc::clone(&restored) }).uid("witness");
    let collected = results.collect();
    results.sink_to(sink(out.path())).uid("files");
    let faults = crashes.map(|crashes| Arc::new(crashes) as _);
    let status = jobs::run(jobs::execute(&env, config, faults)).expect("the job finishes");
    let mut collected = collected.take();
    collected.sort_unstable();
    let unpublished = folders::unpublished_files(out.path());
    assert!(unpublished.is_empty(), "not published after {} restarts: {unpublished:?}", status.restarts);
    Outcome {
        collected,
        written: folders::sorted_lines(out.path()),
        restarts: status.restarts,
        restored: restored.load(Ordering::Relaxed) > 0,
    }
}

/// Settings that results must not depend on.
fn random_config(seed: &mut Seed, batch_size: Option<usize>) -> Config {
    let interval = Duration::from_millis(1 + seed.below(12));
    let mut config = jobs::config(1 + seed.below(3) as usize, Some(interval));
    config.execution.chaining = seed.below(2) == 0;
    config.execution.batch_size = batch_size.unwrap_or(1 + seed.below(300) as usize);
    config.execution.flush_timeout = Duration::from_millis(seed.below(6));
    config.exchange.credits = 1 + seed.below(8) as usize;
    config.checkpoint.max_concurrent = 1 + seed.below(3) as usize;
    config.checkpoint.retained = 1 + seed.below(2) as usize;
    config.taskmanager.count = 1 + seed.below(3) as usize;
    config.state.memory = (seed.below(2) == 0).then(|| ByteSize(seed.below(100_000)));
    config
}

/// A sink whose files end at sizes, times, checkpoints, or all of these, and may lie in several folders.
fn random_sink(seed: &mut Seed) -> impl Fn(&Path) -> FileSink<String, TextLines> + use<> {
    let by_size = (seed.below(2) == 0).then(|| 2_000 + seed.below(50_000));
    let by_time = (seed.below(2) == 0).then(|| Duration::from_millis(1 + seed.below(40)));
    let (keeps_open, folders) = (seed.below(2) == 0, 1 + seed.below(3) as usize);
    println!(
        "files end at {by_size:?} bytes, after {by_time:?}, stay open: {keeps_open}, in {folders} folders"
    );
    move |folder| {
        let mut sink = FileSink::text(folder);
        sink = by_size.into_iter().fold(sink, FileSink::roll_at_bytes);
        sink = by_time.into_iter().fold(sink, FileSink::roll_every);
        sink = if keeps_open { sink.keep_open_at_checkpoints() } else { sink };
        let bucket = move |line: &String| format!("length={}", line.len() % folders);
        if folders > 1 { sink.bucket_by(bucket) } else { sink }
    }
}

/// Runs a job that reads about `records` records, undisturbed and disturbed, then in legs. Where results depend on the
/// batches of the source their size is given.
fn check(
    records: u64,
    batch_size: Option<usize>,
    seeds: std::ops::Range<u64>,
    build: impl Fn(&Environment) -> DataStream<String>,
) {
    let expected = check_crashes(records, batch_size, seeds.clone(), &build);
    // A sixth as many.
    let journeys = (seeds.end - seeds.start).div_ceil(6);
    check_journeys(batch_size, seeds.start..seeds.start + journeys, &build, &expected);
}

/// The same, but for the legs: for results that depend on who reads which split of the source. Returns them.
fn check_crashes(
    records: u64,
    batch_size: Option<usize>,
    seeds: std::ops::Range<u64>,
    build: impl Fn(&Environment) -> DataStream<String>,
) -> Vec<String> {
    let mut quiet = jobs::config(1, None);
    quiet.execution.batch_size = batch_size.unwrap_or(quiet.execution.batch_size);
    let expected = run(&build, &quiet, |folder| FileSink::text(folder), None);
    assert!(!expected.collected.is_empty());
    assert_eq!(expected.collected, expected.written);
    let (mut runs, mut restored, mut restarted_again) = (0, 0, 0);
    let least = seeds.end - seeds.start;
    for number in seeds.start.. {
        // It depends on the machine what a run comes to. Half as many as there are seeds must begin again with a
        // checkpoint, and some more than once.
        if runs >= least && (least < SEEDS || restored >= least / 2 && restarted_again > 1) {
            break;
        }
        assert!(
            runs < 5 * least,
            "of {runs} runs {restored} were restored and {restarted_again} restarted again"
        );
        runs += 1;
        let mut seed = Seed::new(number);
        let mut config = random_config(&mut seed, batch_size);
        let on_disk = (seed.below(2) == 0).then(|| tempfile::tempdir().expect("a folder"));
        config.checkpoint.dir = on_disk.as_ref().map(|dir| dir.path().to_path_buf());
        let crashes = Crashes { seed: seed.next(), attempts: 1 + seed.below(4) as u32, within: records };
        tell_seed(number);
        println!("crashes in {} attempts", crashes.attempts);
        println!("{:?} {:?} {:?}", config.checkpoint, config.execution, config.parallelism);
        println!("{:?} {:?}", config.taskmanager, config.state);
        let found = run(&build, &config, random_sink(&mut seed), Some(crashes));
        restored += u64::from(found.restored);
        let restarts = found.restarts;
        restarted_again += u64::from(restarts > 1);
        for (way, found) in [("collected", &found.collected), ("written", &found.written)] {
            if let Err(difference) = folders::compare(&expected.collected, found) {
                panic!("seed {number}, {way} after {restarts} restarts: {difference}");
            }
        }
    }
    println!("of {runs} runs {restored} were restored and {restarted_again} restarted again");
    expected.collected
}

/// A job in legs: each stops with a savepoint somewhere, and the next goes on from it at another parallelism. Files that a
/// savepoint names as still open stay, as long as the savepoint may.
fn check_journeys(
    batch_size: Option<usize>,
    seeds: std::ops::Range<u64>,
    build: impl Fn(&Environment) -> DataStream<String>,
    expected: &[String],
) {
    let (mut legs, journeys) = (0, seeds.end - seeds.start);
    for number in seeds {
        tell_seed(number);
        let mut seed = Seed::new(number);
        let (out, savepoints) =
            (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let savepoints = savepoints.path().display().to_string();
        let (mut from, mut way) = (None, Vec::new());
        loop {
            let is_last = way.len() == MOST_LEGS;
            let mut config = random_config(&mut seed, batch_size);
            let parallelism = match way.len() {
                0 => FIRST[number as usize % FIRST.len()],
                leg => PARALLELISMS[(number as usize + leg) % PARALLELISMS.len()],
            };
            config.parallelism.default = Some(parallelism);
            config.restore.from = from.take();
            way.push((parallelism, config.state.memory.is_some()));
            let env = Environment::new();
            let results = build(&env).process(Witness { restored: Arc::default() }).uid("witness");
            results.sink_to(random_sink(&mut seed)(out.path())).uid("files");
            let after = Duration::from_millis(seed.below(12));
            let savepoint = jobs::run(async {
                let job = jobs::start(&env, &config, None).await.expect("the job starts");
                let mut savepoint = None;
                if !is_last {
                    job.client.wait_until(|status| status.state == JobState::Running).await.expect("it runs");
                    tokio::time::sleep(after).await;
                    // It may have read everything by now.
                    savepoint = job.client.stop(Some(&savepoints)).await.ok();
                }
                job.finish().await.unwrap_or_else(|error| panic!("seed {number}, {way:?}: {error}"));
                savepoint
            });
            match savepoint {
                Some(savepoint) => from = Some(savepoint.into()),
                None => break,
            }
        }
        legs += way.len();
        if let Err(difference) = folders::compare(expected, &folders::sorted_lines(out.path())) {
            panic!("seed {number}, parallelism and whether state may leave memory {way:?}: {difference}");
        }
    }
    println!("{journeys} journeys of {legs} legs");
    assert!(legs as u64 > journeys, "{legs} legs in {journeys} journeys");
}

fn shown<T: Record + Debug>(stream: &DataStream<T>) -> DataStream<String> {
    stream.map(|record| format!("{record:?}")).uid("shown")
}

/// A job on the made-up events.
fn check_events<T: Record + Debug>(build: impl Fn(&DataStream<Event>) -> DataStream<T>) {
    check(EVENTS / 2, None, seeds(SEEDS), |env| {
        shown(&build(&events(env, "events", EVENTS, EVENTS_PER_SECOND)))
    });
}

/// A job on two streams of made-up events.
fn check_two<T: Record + Debug>(build: impl Fn(&DataStream<Event>, &DataStream<Event>) -> DataStream<T>) {
    check(EVENTS / 4, None, seeds(SEEDS), |env| {
        let (left, right) = two(env);
        shown(&build(&left, &right))
    });
}

fn two(env: &Environment) -> (DataStream<Event>, DataStream<Event>) {
    let left = events(env, "left", EVENTS / 2, EVENTS_PER_SECOND / 2.0);
    let right = events(env, "right", EVENTS / 3, EVENTS_PER_SECOND / 3.0);
    (left, right)
}
