//! A cluster of workers that exchange records over links, in one thread on the paused clock: links delay and break,
//! workers and subtasks die, all by a seed. What a job has put out in the end is what an undisturbed run puts out.
//!
//! `HURTIG_TEST_SEEDS` says how many seeds, `HURTIG_TEST_SEED` runs one; a failure names its seed. Time costs nothing
//! here: a run that would take seconds takes some ten milliseconds.

use hurtig::Cluster;
use hurtig::prelude::*;
use hurtig_runtime::worker::memory::{MemoryNetwork, NetworkFaults};
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::{Crashes, Seed, seeds};
use hurtig_tests::{folders, jobs};
use std::ops::Range;
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

/// What a run came to.
struct Outcome {
    lines: Vec<String>,
    restarts: u32,
    checkpoints: u64,
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let status = runtime.expect("a runtime").block_on(async {
        let cluster = Cluster::start_linked(&config, network.clone()).await.expect("the cluster starts");
        let faults = crashes.map(|crashes| Arc::new(crashes) as _);
        let job = cluster.submit_with_faults("simulated", &env.graph(), &config, faults).await;
        let job = job.expect("the job starts");
        let ended = async { tokio::join!(job.wait(), disturb).0 };
        let ended = tokio::time::timeout(LIMIT, ended).await.expect("the job ends");
        cluster.shutdown().await;
        ended.expect("the job finishes")
    });
    let mut lines = results.take();
    lines.sort_unstable();
    Outcome { lines, restarts: status.restarts, checkpoints: status.checkpoints_completed }
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
    config.taskmanager.count = 2 + seed.below(2) as usize;
    config
}

fn simulate(build: Build, number: u64) -> Outcome {
    let mut seed = Seed::new(number);
    let config = random_config(&mut seed);
    let links = Links {
        breaking: seed.below(4),
        within_bytes: 1 + seed.below(40_000),
        slowest: Duration::from_millis(1 + seed.below(200)),
        seed: Mutex::new(Seed::new(seed.next())),
    };
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
    let one: Option<u64> = std::env::var("HURTIG_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let numbers: Range<u64> = one.map_or_else(|| seeds(SEEDS), |number| number..number + 1);
    let count = numbers.end - numbers.start;
    let (mut restarts, mut checkpoints) = (0, 0);
    for number in numbers {
        println!("seed {number}: HURTIG_TEST_SEED={number}");
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
