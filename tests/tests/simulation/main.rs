//! A cluster of workers that exchange records over links, in one thread on the paused clock: links delay and break,
//! workers and subtasks die, all by a seed. What a job has put out in the end is what an undisturbed run puts out.
//!
//! `HURTIG_TEST_SEEDS` says how many seeds, `HURTIG_TEST_SEED` from which on; a failure names its seed. Time costs nothing
//! here: a run that would take seconds takes some ten milliseconds. Nor does waiting, for what is to happen or is not.

mod cluster;
mod overtaking;

use hurtig::config::RestartStrategyConfig;
use hurtig::dataflow::Rows;
use hurtig::dataflow::error::describe;
use hurtig::dataflow::operator::Place;
use hurtig::dataflow::source::{FixedSplits, Polled};
use hurtig::prelude::*;
use hurtig::{Cluster, JobClient};
use hurtig_runtime::worker::memory::{MemoryNetwork, NetworkFaults};
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::{Crashes, Seed, seeds, tell_seed};
use hurtig_tests::{folders, jobs};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const EVENTS: u64 = 2_400;
/// The job takes a second of the paused clock.
const EVENTS_PER_SECOND: f64 = 2_400.0;

/// Seeds for each job unless the environment says otherwise.
const SEEDS: u64 = 150;

/// After so long a run has lost its way. Of the paused clock.
const LIMIT: Duration = Duration::from_secs(3_600);

/// Links that are slow, and the first of which break.
struct Links {
    seed: Mutex<Seed>,
    breaking: u64,
    within_bytes: u64,
    slowest: Duration,
}

impl Links {
    /// Of eight connections so many break within so many bytes.
    fn new(seed: Seed, breaking: u64, within_bytes: u64, slowest: Duration) -> Self {
        Links { seed: Mutex::new(seed), breaking, within_bytes, slowest }
    }

    fn below(&self, limit: u64) -> u64 {
        self.seed.lock().expect("no test has failed").below(limit)
    }
}

impl NetworkFaults for Links {
    fn breaks_after(&self) -> Option<u64> {
        (self.below(8) < self.breaking).then(|| self.below(self.within_bytes))
    }

    fn delay(&self) -> Duration {
        // Most pieces are fast, so that some channels are far behind others.
        let slow = self.below(10) == 0;
        if slow { Duration::from_micros(self.below(self.slowest.as_micros() as u64)) } else { Duration::ZERO }
    }
}

/// The first connections fall silent after so many bytes, and nobody says that they have.
struct FallSilent {
    connections: AtomicU64,
    after_bytes: u64,
}

impl NetworkFaults for FallSilent {
    fn breaks_after(&self) -> Option<u64> {
        None
    }

    fn is_silent_after(&self) -> Option<u64> {
        let is_first = |left: u64| left.checked_sub(1);
        self.connections.fetch_update(Relaxed, Relaxed, is_first).is_ok().then_some(self.after_bytes)
    }

    fn delay(&self) -> Duration {
        Duration::ZERO
    }
}

/// What a run came to.
struct Outcome {
    lines: Vec<String>,
    restarts: u32,
    checkpoints: u64,
    took: Duration,
}

/// Runs a test in one thread, with a clock that goes on when all wait for it.
fn on_a_paused_clock<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let test = async { tokio::time::timeout(LIMIT, test).await.expect("the job ends") };
    runtime.expect("a runtime").block_on(test)
}

type Build = fn(&DataStream<Event>) -> DataStream<String>;

/// Runs a job in a thread of its own with a clock of its own; `disturb` goes on beside it.
fn run(
    build: Build,
    config: &Config,
    network: &MemoryNetwork,
    crashes: Option<Crashes>,
    disturb: impl Future<Output = ()>,
) -> Outcome {
    let env = Environment::new();
    let results = build(&events(&env, "events", EVENTS, EVENTS_PER_SECOND)).collect();
    let config = hurtig::configured(&env, config);
    let (status, took) = on_a_paused_clock(async {
        let began = tokio::time::Instant::now();
        let cluster = Cluster::start_linked(&config, network.clone()).await.expect("the cluster starts");
        let faults = crashes.map(|crashes| Arc::new(crashes) as _);
        let job = cluster.submit_with_faults("simulated", &env.graph(), &config, faults).await;
        let job = job.expect("the job starts");
        let ended = tokio::join!(job.wait(), disturb).0;
        let took = began.elapsed();
        cluster.shutdown().await;
        (ended.expect("the job finishes"), took)
    });
    let mut lines = results.take();
    lines.sort_unstable();
    Outcome { lines, restarts: status.restarts, checkpoints: status.checkpoints_completed, took }
}

/// Settings that results must not depend on.
fn random_config(seed: &mut Seed) -> Config {
    let mut config =
        jobs::config(2 + seed.below(3) as usize, Some(Duration::from_millis(10 + seed.below(100))));
    config.execution.chaining = seed.below(2) == 0;
    config.execution.batch_size = 1 + seed.below(100) as usize;
    config.execution.flush_timeout = Duration::from_millis(seed.below(6));
    config.exchange.credits = 1 + seed.below(8) as usize;
    config.checkpoint.max_concurrent = 1 + seed.below(3) as usize;
    config.checkpoint.timeout = Duration::from_millis(2_000 + seed.below(10_000));
    config.checkpoint.tolerable_failures = 1_000;
    let timeout = Duration::from_millis(seed.below(20));
    config.checkpoint.alignment_timeout = [None, Some(Duration::ZERO), Some(timeout)][seed.below(3) as usize];
    config.state.local_recovery = seed.below(4) == 0;
    config.taskmanager.count = 2 + seed.below(2) as usize;
    config
}

fn simulate(build: Build, number: u64) -> Outcome {
    let mut seed = Seed::new(number);
    let config = random_config(&mut seed);
    let (breaking, within_bytes) = (seed.below(4), 1 + seed.below(40_000));
    let slowest = Duration::from_millis(1 + seed.below(200));
    let links = Links::new(Seed::new(seed.next()), breaking, within_bytes, slowest);
    let network = MemoryNetwork::with_faults(Arc::new(links));
    let crashes = Crashes { seed: seed.next(), attempts: seed.below(4) as u32, within: EVENTS };
    let deaths: Vec<(Duration, usize)> = (0..seed.below(5))
        .map(|_| (Duration::from_millis(seed.below(600)), seed.below(100) as usize))
        .collect();
    let disturb = async {
        for (after, whom) in deaths {
            tokio::time::sleep(after).await;
            network.kill_worker(whom);
        }
    };
    run(build, &config, &network, Some(crashes), disturb)
}

fn check(build: Build) {
    let quiet = run(build, &jobs::config(1, None), &MemoryNetwork::default(), None, async {});
    assert!(quiet.lines.len() > 100, "{} lines", quiet.lines.len());
    let numbers = seeds(SEEDS);
    let count = numbers.end - numbers.start;
    let (mut restarts, mut checkpoints) = (0, 0);
    for number in numbers {
        tell_seed(number);
        let found = simulate(build, number);
        if let Err(difference) = folders::compare(&quiet.lines, &found.lines) {
            panic!("seed {number}, after {} restarts: {difference}", found.restarts);
        }
        restarts += u64::from(found.restarts);
        checkpoints += found.checkpoints;
    }
    println!("{count} runs, {restarts} restarts, {checkpoints} checkpoints");
    assert!(count < SEEDS || restarts > count && checkpoints > count, "nothing was disturbed");
}

/// Counts the events of a key and puts out every fourth count, and each window's sum.
#[derive(Clone, Default)]
struct Counting {
    count: ValueState<u64>,
}

impl KeyedProcessFunction<u64, Event> for Counting {
    type Out = String;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.count = ctx.value_state("count")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        if count % 4 == 0 {
            ctx.emit(format!("{} has {count} with {}", event.key, event.n));
            ctx.register_event_time_timer(event.at + 2_500);
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let line = format!("{} woken for {}", ctx.key(), timer.time);
        ctx.emit(line);
        Ok(())
    }
}

#[test]
fn counts_and_timers_are_those_of_an_undisturbed_run() {
    check(|events| events.key_by(|event| event.key).process(Counting::default()).uid("counts"));
}

#[test]
fn links_that_fall_silent_are_noticed_within_the_heartbeat_timeout() {
    let build: Build = |events| events.key_by(|event| event.key).process(Counting::default()).uid("counts");
    let mut config = jobs::config(2, Some(Duration::from_millis(50)));
    config.taskmanager.count = 2;
    config.heartbeat.timeout = Duration::from_millis(400);
    let quiet = run(build, &config, &MemoryNetwork::default(), None, async {});
    assert_eq!(quiet.restarts, 0, "heartbeats are sent too rarely");
    for after_bytes in [1, 13, 1_000, 4_000] {
        let faults = FallSilent { connections: AtomicU64::new(1), after_bytes };
        let found = run(build, &config, &MemoryNetwork::with_faults(Arc::new(faults)), None, async {});
        folders::compare(&quiet.lines, &found.lines).expect("the same lines");
        assert_eq!(found.restarts, 1, "silence after {after_bytes} bytes");
        let lost = found.took.saturating_sub(quiet.took);
        assert!(lost < 3 * config.heartbeat.timeout, "{lost:?} lost by silence after {after_bytes} bytes");
    }
}

#[test]
fn windows_behind_two_exchanges_are_those_of_an_undisturbed_run() {
    check(|events| {
        let sums = events
            .rebalance()
            .map(|event| (event.value % 50, event.at))
            .uid("pairs")
            .key_by(|pair| pair.0)
            .window(TumblingEventTimeWindows::of(Duration::from_secs(2)))
            .count()
            .uid("windows");
        sums.map(|result| format!("{result:?}")).uid("shown")
    });
}

/// Starts a job on a cluster of its own.
async fn start(env: &Environment, config: &Config) -> (Cluster, JobClient) {
    let config = hurtig::configured(env, config);
    let cluster = Cluster::start_linked(&config, MemoryNetwork::default()).await.expect("the cluster starts");
    let job = cluster.submit("simulated", &env.graph(), &config).await.expect("the job starts");
    (cluster, job)
}

/// A job in whose middle a subtask is held for three seconds, and checkpoints that may take one.
fn held(env: &Environment) -> (Collected<u64>, Config) {
    let numbers = events(env, "events", EVENTS, EVENTS_PER_SECOND / 10.0).map(|event| event.n).uid("numbers");
    let one_by_one = AsyncOptions::ordered().with_capacity(1);
    let held = numbers.rebalance().map_async(one_by_one, |n| async move {
        if n == EVENTS / 4 {
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        Ok(n)
    });
    let mut config = jobs::config(2, Some(Duration::from_millis(100)));
    config.restart.strategy = RestartStrategyConfig::None;
    config.checkpoint.timeout = Duration::from_secs(1);
    (held.uid("held").collect(), config)
}

#[test]
fn a_checkpoint_that_takes_too_long_fails_and_a_later_one_is_complete() {
    let env = Environment::new();
    let (found, mut config) = held(&env);
    config.checkpoint.tolerable_failures = 3;
    let (before, after, ended) = on_a_paused_clock(async {
        let (cluster, job) = start(&env, &config).await;
        let before = job.wait_until(|status| status.checkpoints_failed > 0).await.expect("one fails");
        let done = before.checkpoints_completed;
        let after = job.wait_until(|status| status.checkpoints_completed > done).await.expect("one succeeds");
        let ended = job.wait().await.expect("the job finishes");
        cluster.shutdown().await;
        (before, after, ended)
    });
    // Some were complete before the subtask was held, and many are after.
    assert!(before.checkpoints_completed > 10, "{before:?}");
    assert_eq!(after.state, JobState::Running);
    assert!(ended.checkpoints_completed > before.checkpoints_completed + 10, "{ended:?}");
    assert!((1..=3).contains(&ended.checkpoints_failed) && ended.restarts == 0, "{ended:?}");
    let mut found = found.take();
    found.sort_unstable();
    assert_eq!(found, (0..EVENTS).collect::<Vec<_>>());
}

#[test]
fn a_checkpoint_that_takes_too_long_fails_the_job_if_no_failure_is_tolerable() {
    let env = Environment::new();
    let (_, mut config) = held(&env);
    config.checkpoint.tolerable_failures = 0;
    let error = on_a_paused_clock(async {
        let (cluster, job) = start(&env, &config).await;
        let ended = job.wait().await;
        cluster.shutdown().await;
        ended.expect_err("the job fails")
    });
    let told = describe(&error);
    let why = "it was not complete within 'checkpoint.timeout': a subtask is slow or held back";
    assert!(told.contains("checkpoint ") && told.contains(why), "{told}");
}

/// Numbers in one split, one each ten milliseconds of their own time; nothing ever in the other. Neither ends.
struct HalfSilent;

struct Half {
    silent: bool,
    next: u64,
}

impl Source for HalfSilent {
    type Out = u64;
    type Split = (bool, u64);

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<(bool, u64)>>> {
        Ok(Box::new(FixedSplits::new([(false, 0), (true, 0)], restored)?))
    }

    fn open(
        &self,
        (silent, next): (bool, u64),
        _: &Place,
    ) -> OpResult<Box<dyn SplitReader<Out = u64, Split = (bool, u64)>>> {
        Ok(Box::new(Half { silent, next }))
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

impl SplitReader for Half {
    type Out = u64;
    type Split = (bool, u64);

    fn poll(&mut self, _: usize, _: Timestamp) -> OpResult<Polled<u64>> {
        if self.silent || self.next == EVENTS {
            return Ok(Polled::Pending);
        }
        self.next += 1;
        Ok(Polled::Rows(Rows::untimed(vec![self.next - 1])))
    }

    fn position(&self) -> (bool, u64) {
        (self.silent, self.next)
    }
}

/// Event time has come as far as the last number that can be divided by a hundred says.
struct ByHundreds(Timestamp);

impl WatermarkGenerator<u64> for ByHundreds {
    fn on_batch(&mut self, numbers: &[u64], times: &[Timestamp]) {
        let marks = numbers.iter().zip(times).filter(|(n, _)| n.is_multiple_of(100));
        self.0 = marks.map(|(_, time)| *time).fold(self.0, Timestamp::max);
    }

    fn watermark(&self) -> Timestamp {
        self.0
    }
}

#[test]
fn windows_fire_by_watermarks_of_the_users_own_though_a_subtask_has_no_records() {
    // At the source, and behind it.
    for at_source in [true, false] {
        let env = Environment::new();
        let strategy = WatermarkStrategy::custom(|| ByHundreds(Timestamp::MIN))
            .with_timestamps(|n: &u64| *n as Timestamp * 10)
            .with_idleness(Duration::from_secs(60));
        let numbers = if at_source {
            env.from_source(HalfSilent, strategy, "numbers")
        } else {
            let numbers = env.from_source(HalfSilent, WatermarkStrategy::none(), "numbers");
            numbers.assign_timestamps_and_watermarks(strategy)
        };
        let counts = numbers
            .key_by(|n| n % 3)
            .window(TumblingEventTimeWindows::of(Duration::from_secs(1)))
            .aggregate_with(Count::new(), |key, window, count| (window.start, *key, count));
        let (results, mut found) = tokio::sync::mpsc::unbounded_channel();
        counts.for_each(move |count| results.send(count).unwrap_or_default());
        // The last number that says how far event time has come is the beginning of the window that does not fire.
        let windows = (EVENTS as usize).div_ceil(100) - 1;
        let counted = on_a_paused_clock(async {
            let (cluster, job) = start(&env, &jobs::config(2, None)).await;
            let mut counted = Vec::new();
            while counted.len() < 3 * windows {
                counted.push(found.recv().await.expect("the job runs"));
            }
            tokio::time::sleep(Duration::from_secs(600)).await;
            counted.extend(found.try_recv());
            job.cancel().expect("it runs");
            assert!(job.wait().await.is_err());
            cluster.shutdown().await;
            counted
        });
        let of_window = |window: u64| (0..3).map(move |key| (window, key));
        let expected = (0..windows as u64).flat_map(of_window).map(|(window, key)| {
            let numbers = (window * 100..(window + 1) * 100).filter(|n| n % 3 == key);
            (window as Timestamp * 1_000, key, numbers.count() as u64)
        });
        let mut counted = counted;
        counted.sort_unstable();
        assert_eq!(counted, expected.collect::<Vec<_>>());
    }
}
