//! Whatever crashes, results are those of an undisturbed run: nothing lost, nothing twice.
//!
//! Each job runs once undisturbed, then with crashes at random records in its first attempts, at random parallelism
//! and settings. `HURTIG_TEST_SEEDS` says how often; a failure names its seed.

use hurtig::prelude::*;
use hurtig_examples::{enrichment, flights, late_data, session_windows, stock_alerts, word_count};
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::{Crashes, Seed, seeds};
use hurtig_tests::{folders, jobs};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Events of a job, and how fast they come: a tenth of a second for all.
const EVENTS: u64 = 12_000;
const EVENTS_PER_SECOND: f64 = 120_000.0;

/// Seeds each job runs with unless the environment says otherwise.
const SEEDS: u64 = 12;

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
    crashes: Option<Crashes>,
) -> Outcome {
    let out = tempfile::tempdir().expect("a folder");
    let restored = Arc::new(AtomicU64::new(0));
    let env = Environment::new();
    let results = build(&env).process(Witness { restored: Arc::clone(&restored) }).uid("witness");
    let collected = results.collect();
    results.sink_to(FileSink::text(out.path())).uid("files");
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
    let interval = Duration::from_millis(3 + seed.below(15));
    let mut config = jobs::config(1 + seed.below(3) as usize, Some(interval));
    config.execution.chaining = seed.below(2) == 0;
    config.execution.batch_size = batch_size.unwrap_or(1 + seed.below(300) as usize);
    config.execution.flush_timeout = Duration::from_millis(seed.below(6));
    config.exchange.credits = 1 + seed.below(8) as usize;
    config.checkpoint.max_concurrent = 1 + seed.below(3) as usize;
    config.checkpoint.retained = 1 + seed.below(2) as usize;
    config
}

/// Runs a job that reads about `records` records, undisturbed and disturbed. Where results depend on the batches of
/// the source their size is given.
fn check(
    records: u64,
    batch_size: Option<usize>,
    seeds: std::ops::Range<u64>,
    build: impl Fn(&Environment) -> DataStream<String>,
) {
    let mut quiet = jobs::config(1, None);
    quiet.execution.batch_size = batch_size.unwrap_or(quiet.execution.batch_size);
    let expected = run(&build, &quiet, None);
    assert!(!expected.collected.is_empty());
    assert_eq!(expected.collected, expected.written);
    let (mut restarted, mut restored) = (0, 0);
    let count = seeds.end - seeds.start;
    for number in seeds {
        let mut seed = Seed::new(number);
        let mut config = random_config(&mut seed, batch_size);
        let on_disk = (seed.below(2) == 0).then(|| tempfile::tempdir().expect("a folder"));
        config.checkpoint.dir = on_disk.as_ref().map(|dir| dir.path().to_path_buf());
        let crashes = Crashes { seed: seed.next(), attempts: 1 + seed.below(4) as u32, within: records };
        println!("seed {number}: crashes in {} attempts", crashes.attempts);
        println!("{:?} {:?} {:?}", config.checkpoint, config.execution, config.parallelism);
        let found = run(&build, &config, Some(crashes));
        restarted += u64::from(found.restarts > 0);
        restored += u64::from(found.restored);
        let restarts = found.restarts;
        for (way, found) in [("collected", &found.collected), ("written", &found.written)] {
            if let Err(difference) = folders::compare(&expected.collected, found) {
                panic!("seed {number}, {way} after {restarts} restarts: {difference}");
            }
        }
    }
    println!("{restarted} of {count} runs restarted, {restored} from a checkpoint");
    assert!(count < SEEDS || restarted >= count / 3, "only {restarted} of {count} runs restarted");
    assert!(count < SEEDS || restored > 0, "no run was restored from a checkpoint");
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
        let left = events(env, "left", EVENTS / 2, EVENTS_PER_SECOND / 2.0);
        let right = events(env, "right", EVENTS / 3, EVENTS_PER_SECOND / 3.0);
        shown(&build(&left, &right))
    });
}

#[test]
fn stateless_operators() {
    check_events(|events| {
        let odd =
            events.filter(|event| event.n % 2 == 1).uid("odd").rebalance().map(|event| event.n).uid("left");
        let even =
            events.filter(|event| event.n % 2 == 0).uid("even").rescale().map(|event| event.n).uid("right");
        odd.union(&even)
            .flat_map(|n: u64, out: &mut Collector<'_, _>| out.extend((0..n % 3).map(|copy| (n, copy))))
            .uid("copies")
    });
}

#[test]
fn reduce() {
    check_events(|events| {
        events
            .map(|event| (event.key, event.n, event.value))
            .uid("rows")
            .key_by(|row| row.0)
            .reduce(|a, b| (a.0, a.1.max(b.1), a.2 + b.2))
            .uid("reduced")
    });
}

#[test]
fn aggregate() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .aggregate(Average::of(|event: &Event| event.value as f64))
            .uid("averages")
    });
}

#[test]
fn tumbling_windows() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
                (*key, window.start, sum)
            })
            .uid("sums")
    });
}

#[test]
fn sliding_windows() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(SlidingEventTimeWindows::of(Duration::from_millis(900), Duration::from_millis(300)))
            .aggregate_with(Count::new(), |key, window, count| (*key, window.end, count))
            .uid("counts")
    });
}

#[test]
fn sliding_windows_of_all_records() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(SlidingEventTimeWindows::of(Duration::from_millis(900), Duration::from_millis(300)))
            .apply(|key, window: &WindowContext, records, out| {
                let mut numbers: Vec<_> = records.map(|event: &Event| event.n).collect();
                numbers.sort_unstable();
                out.emit((*key, window.window.start, numbers));
            })
            .uid("lists")
    });
}

#[test]
fn session_windows_merge() {
    check_events(|events| {
        events
            .filter(|event| event.n * 7 % 31 < 12)
            .uid("thinned")
            .key_by(|event| event.key)
            .window(EventTimeSessionWindows::with_gap(Duration::from_millis(400)))
            .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
                (*key, window.start, window.end, sum)
            })
            .uid("sessions")
    });
}

#[test]
fn count_windows() {
    check_events(|events| {
        let keyed = events.key_by(|event| event.key);
        let tumbling = keyed.count_window(7).sum(|event| event.value).uid("by-seven");
        let sliding = keyed.count_window_sliding(5, 3).sum(|event| event.value).uid("last-five");
        tumbling.union(&sliding)
    });
}

#[test]
fn windows_with_allowed_lateness() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .allowed_lateness(Duration::from_secs(5))
            .aggregate_with(Count::new(), |key, window, count| (*key, window.start, count))
            .uid("counts")
    });
}

/// Keeps state of every kind, and timers of both.
#[derive(Clone, Default)]
struct Everything {
    count: ValueState<u64>,
    recent: ListState<u64>,
    by_remainder: MapState<u64, i64>,
    largest: Option<ReducingState<i64>>,
    mean: Option<AggregatingState<MeanValue>>,
    /// Numbers that a timer of either kind will put out.
    pending: ListState<u64>,
}

type MeanValue = Average<i64, fn(&i64) -> f64>;

impl KeyedProcessFunction<u64, Event> for Everything {
    type Out = String;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.count = ctx.value_state("count")?;
        self.recent = ctx.list_state("recent")?;
        self.by_remainder = ctx.map_state("by-remainder")?;
        self.largest = Some(ctx.reducing_state("largest", i64::max)?);
        self.mean =
            Some(ctx.aggregating_state("mean", Average::of((|value| *value as f64) as fn(&i64) -> f64))?);
        self.pending = ctx.list_state("pending")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        self.recent.add(ctx, event.n);
        let remainder = event.n % 5;
        let sum = self.by_remainder.get(ctx, &remainder).copied().unwrap_or_default() + event.value;
        self.by_remainder.insert(ctx, remainder, sum);
        let (Some(largest), Some(mean)) = (&self.largest, &self.mean) else { return Err("not open".into()) };
        largest.add(ctx, event.value);
        mean.add(ctx, &event.value);
        if count % 10 == 0 {
            let recent = self.recent.take(ctx);
            let mut sums: Vec<_> = self.by_remainder.iter(ctx).map(|(r, sum)| (*r, *sum)).collect();
            sums.sort_unstable();
            let (largest, mean) = (largest.get(ctx).copied(), mean.get(ctx));
            ctx.emit(format!("{} {count} {recent:?} {sums:?} {largest:?} {mean:?}", event.key));
        }
        if count % 7 == 0 {
            ctx.register_event_time_timer(event.at / 1_000 * 1_000 + 3_000);
            ctx.delete_event_time_timer(event.at / 1_000 * 1_000 + 4_000);
        }
        if count % 15 == 0 {
            self.pending.add(ctx, event.n);
            let soon = ctx.processing_time() + 2;
            ctx.register_processing_time_timer(soon);
            // What no clock has reached by then is put out at the end.
            ctx.register_event_time_timer(Timestamp::MAX - 1);
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u64, String>) -> OpResult {
        let key = *ctx.key();
        if timer.domain == TimeDomain::EventTime && timer.time < Timestamp::MAX - 1 {
            ctx.emit(format!("{key} woken at {}", timer.time));
            return Ok(());
        }
        for n in self.pending.take(ctx) {
            ctx.emit(format!("{key} held {n}"));
        }
        Ok(())
    }
}

#[test]
fn every_kind_of_state_and_timer() {
    check_events(|events| events.key_by(|event| event.key).process(Everything::default()).uid("everything"));
}

#[test]
fn interval_join() {
    check_two(|left, right| {
        left.key_by(|event| event.key)
            .interval_join(&right.key_by(|event| event.key))
            .between(-100, 200)
            .apply(|left, right| (left.n, right.n))
            .uid("pairs")
    });
}

#[test]
fn window_join() {
    check_two(|left, right| {
        left.join(right)
            .where_(|event| event.key)
            .equal_to(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(300)))
            .apply(|left, right| (left.n, right.n))
            .uid("pairs")
    });
}

#[test]
fn co_group() {
    check_two(|left, right| {
        left.co_group(right)
            .where_(|event| event.key)
            .equal_to(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(500)))
            .apply(|key, window: &WindowContext, left: &[&Event], right: &[&Event], out| {
                let sum = |events: &[&Event]| events.iter().map(|event| event.n).sum::<u64>();
                out.emit((*key, window.window.start, left.len(), sum(left), right.len(), sum(right)));
            })
            .uid("groups")
    });
}

/// Counts both sides and tells the counts at the end.
#[derive(Clone, Default)]
struct BothCounts {
    counts: ValueState<(u64, u64)>,
}

impl BothCounts {
    fn add(&self, ctx: &mut KeyedContext<'_, u64, (u64, u64, u64)>, (left, right): (u64, u64)) {
        let before = self.counts.get(ctx).copied().unwrap_or_default();
        self.counts.set(ctx, (before.0 + left, before.1 + right));
        ctx.register_event_time_timer(Timestamp::MAX - 1);
    }
}

impl KeyedCoProcessFunction<u64, Event, Event> for BothCounts {
    type Out = (u64, u64, u64);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.counts = ctx.value_state("counts")?;
        Ok(())
    }

    fn process1(&mut self, _: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        self.add(ctx, (1, 0));
        Ok(())
    }

    fn process2(&mut self, _: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        self.add(ctx, (0, 1));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        let (left, right) = self.counts.take(ctx).unwrap_or_default();
        let key = *ctx.key();
        ctx.emit((key, left, right));
        Ok(())
    }
}

#[test]
fn connected_keyed_streams() {
    check_two(|left, right| {
        left.key_by(|event| event.key)
            .connect(&right.key_by(|event| event.key))
            .process(BothCounts::default())
            .uid("both")
    });
}

/// Gives each event the name of its rule; those that come before their rule wait for the end.
#[derive(Clone, Default)]
struct Named {
    rules: Handle<BroadcastTable<u64, String>>,
    waiting: ListState<u64>,
}

impl KeyedBroadcastProcessFunction<u64, Event, u64> for Named {
    type Out = (u64, String);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.rules = ctx.broadcast_state("rules")?;
        self.waiting = ctx.list_state("waiting")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        match ctx.broadcast(self.rules).get(&(event.n % 40)).cloned() {
            Some(rule) => ctx.emit((event.n, rule)),
            None => {
                self.waiting.add(ctx, event.n);
                ctx.register_event_time_timer(Timestamp::MAX - 1);
            }
        }
        Ok(())
    }

    fn process_broadcast(&mut self, rule: u64, ctx: &mut BroadcastContext<'_, Self::Out>) -> OpResult {
        ctx.broadcast_mut(self.rules).insert(rule, format!("rule {rule}"));
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        for n in self.waiting.take(ctx) {
            let rule =
                ctx.broadcast(self.rules).get(&(n % 40)).cloned().unwrap_or_else(|| "no rule".to_string());
            ctx.emit((n, rule));
        }
        Ok(())
    }
}

#[test]
fn broadcast_state() {
    check(EVENTS / 2, None, seeds(SEEDS), |env| {
        let rules = GeneratorSource::new(|n| n).with_count(40).with_rate(800.0);
        let rules = env.generate(rules, WatermarkStrategy::none()).uid("rules").set_parallelism(1);
        let events = events(env, "events", EVENTS, EVENTS_PER_SECOND);
        shown(
            &events
                .key_by(|event| event.key)
                .connect_broadcast(&rules)
                .process(Named::default())
                .uid("named"),
        )
    });
}

fn check_async(options: AsyncOptions) {
    check_events(move |events| {
        events
            .map_async(options, |event: Event| async move {
                if event.n.is_multiple_of(64) {
                    tokio::time::sleep(Duration::from_millis(event.n % 3)).await;
                }
                Ok((event.n, event.value))
            })
            .uid("looked-up")
    });
}

#[test]
fn asynchronous_map_in_order() {
    check_async(AsyncOptions::ordered().with_capacity(50));
}

#[test]
fn asynchronous_map_out_of_order() {
    check_async(AsyncOptions::unordered().with_capacity(50));
}

#[test]
fn example_word_count() {
    let books = tempfile::tempdir().expect("a folder");
    for book in 0..12u64 {
        let line = |n: u64| format!("word{} and Word{}, {book}\n", n * 17 % 101, n * 29 % 57);
        let text: String = (0..1_500).map(line).collect();
        std::fs::write(books.path().join(format!("{book}.txt")), text).expect("a book");
    }
    check(30_000, None, seeds(SEEDS), |env| {
        let lines = word_count::lines(env, &[books.path().to_path_buf()]).expect("a file");
        shown(&word_count::count_words(&lines))
    });
}

#[test]
fn example_session_windows() {
    check(20_000, None, seeds(SEEDS), |env| {
        shown(&session_windows::sessions(&session_windows::clicks(env, 40_000)))
    });
}

#[test]
fn example_stock_alerts() {
    check(20_000, None, seeds(SEEDS), |env| shown(&stock_alerts::alerts(&stock_alerts::trades(env, 40_000))));
}

#[test]
fn example_late_data() {
    check(20_000, Some(64), seeds(SEEDS), |env| {
        let outputs = late_data::minute_means(&late_data::readings(env, 40_000));
        let means = outputs.means.map(|mean| format!("mean {mean:?}")).uid("shown-means");
        let broken = outputs.broken.map(|reading| format!("broken {reading:?}")).uid("shown-broken");
        let late = outputs.late.map(|reading| format!("late {reading:?}")).uid("shown-late");
        means.union(&broken).union(&late)
    });
}

fn check_enrichment(options: AsyncOptions) {
    check(6_000, None, seeds(SEEDS), move |env| {
        shown(&enrichment::enrich(&enrichment::orders(env, 8_000), options))
    });
}

#[test]
fn example_enrichment_in_order() {
    check_enrichment(AsyncOptions::ordered().with_capacity(100));
}

#[test]
fn example_enrichment_out_of_order() {
    check_enrichment(AsyncOptions::unordered().with_capacity(100));
}

#[test]
fn example_flights() {
    let run = |config: &Config, crashes: Option<Crashes>| {
        let out = tempfile::tempdir().expect("a folder");
        let env = Environment::new();
        let options = flights::Options {
            data: folders::flights_data(),
            out: out.path().to_path_buf(),
            rate: 0,
            live: false,
        };
        flights::job(&env, &options);
        let faults = crashes.map(|crashes| Arc::new(crashes) as _);
        let status = jobs::run(jobs::execute(&env, config, faults)).expect("the job finishes");
        let outputs = ["hourly", "rushes", "worst", "late", "cancelled"];
        (outputs.map(|output| (output, folders::sorted_rows(&out.path().join(output)))), status.restarts)
    };
    let (expected, _) = run(&jobs::config(1, None), None);
    let (count, mut restarted) = (seeds(5).end, 0);
    for number in seeds(5) {
        let mut seed = Seed::new(number);
        let config = random_config(&mut seed, Some(1_024));
        let crashes = Crashes { seed: seed.next(), attempts: 4, within: 150_000 };
        let (found, restarts) = run(&config, Some(crashes));
        restarted += u64::from(restarts > 0);
        for ((output, expected), (_, found)) in expected.iter().zip(&found) {
            if let Err(difference) = folders::compare(expected, found) {
                panic!("seed {number}, {output} after {restarts} restarts: {difference}");
            }
        }
    }
    assert!(restarted > count / 2, "only {restarted} of {count} runs restarted");
}
