//! Savepoints that earlier builds have written, each kept in a folder of `tests/savepoints`, are restored by this one.
//!
//! `HURTIG_TEST_KEEP=FOLDER` has this build write another, to be kept when what it writes has changed. None is ever
//! taken away.

use hurtig::prelude::*;
use hurtig_tests::events::{Event, KEYS, events};
use hurtig_tests::jobs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

const EVENTS: u64 = 20_000;

/// Which operator has put out a line for which key, and the line.
type Line = (String, u64, String);

type Mean = Average<i64, fn(&i64) -> f64>;

/// Has state of each kind, and timers.
#[derive(Clone, Default)]
struct AllKinds {
    count: ValueState<u64>,
    recent: ListState<u64>,
    sums: MapState<String, i64>,
    largest: Option<ReducingState<i64>>,
    mean: Option<AggregatingState<Mean>>,
}

impl KeyedProcessFunction<u64, Event> for AllKinds {
    type Out = Line;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.count = ctx.value_state("count")?;
        self.recent = ctx.list_state("recent")?;
        self.sums = ctx.map_state("sums")?;
        self.largest = Some(ctx.reducing_state("largest", i64::max)?);
        let value: fn(&i64) -> f64 = |value| *value as f64;
        self.mean = Some(ctx.aggregating_state("mean", Average::of(value))?);
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, Line>) -> OpResult {
        let (Some(largest), Some(mean)) = (&self.largest, &self.mean) else { return Err("not open".into()) };
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        self.recent.add(ctx, event.n);
        let name = format!("remainder {}", event.n % 5);
        let sum = self.sums.get(ctx, &name).copied().unwrap_or_default() + event.value;
        self.sums.insert(ctx, name, sum);
        largest.add(ctx, event.value);
        mean.add(ctx, &event.value);
        if count % 10 == 0 {
            let recent = self.recent.take(ctx);
            let sums: BTreeMap<_, _> = self.sums.iter(ctx).map(|(name, sum)| (name.clone(), *sum)).collect();
            let (largest, mean) = (largest.get(ctx).copied(), mean.get(ctx));
            ctx.emit((
                "all kinds".into(),
                event.key,
                format!("{count} {recent:?} {sums:?} {largest:?} {mean:?}"),
            ));
        }
        if count % 7 == 0 {
            ctx.register_event_time_timer(event.at / 1_000 * 1_000 + 9_000);
        }
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u64, Line>) -> OpResult {
        let key = *ctx.key();
        ctx.emit(("timers".into(), key, timer.time.to_string()));
        Ok(())
    }
}

/// The program that the savepoints are of. What it was once it must stay: another one cannot restore them.
fn build(env: &Environment, per_second: f64) -> Collected<Line> {
    let events = events(env, "events", EVENTS, per_second);
    let keyed = events.key_by(|event: &Event| event.key);
    let all_kinds = keyed.process(AllKinds::default()).uid("all kinds");
    let counts =
        keyed.count().uid("counts").map(|(key, n)| ("counts".to_string(), key, n.to_string())).uid("c");
    let tumbling = keyed
        .window(TumblingEventTimeWindows::of(Duration::from_secs(2)))
        .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
            ("tumbling".to_string(), *key, format!("{} {sum}", window.start))
        })
        .uid("tumbling");
    let sessions = keyed
        .window(EventTimeSessionWindows::with_gap(Duration::from_secs(2)))
        .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
            ("sessions".to_string(), *key, format!("{} {} {sum}", window.start, window.end))
        })
        .uid("sessions");
    all_kinds.union(&counts).union(&tumbling).union(&sessions).collect()
}

fn by_operator_and_key(lines: Vec<Line>) -> BTreeMap<(String, u64), Vec<String>> {
    let mut all: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for (operator, key, line) in lines {
        all.entry((operator, key)).or_default().push(line);
    }
    all
}

fn keep(folder: &Path) {
    let env = Environment::new();
    let _ = build(&env, 20_000.0);
    let location = jobs::run(async {
        let job = jobs::start(&env, &jobs::config(2, None), None).await.expect("the job starts");
        job.client.wait_until(|status| status.records_read() > EVENTS / 3).await.expect("it runs");
        let location = job.client.stop(folder.to_str()).await.expect("a savepoint");
        job.cluster.shutdown().await;
        location
    });
    println!("{location}");
}

#[test]
fn savepoints_of_earlier_builds_are_restored_at_any_parallelism() {
    if let Some(folder) = std::env::var_os("HURTIG_TEST_KEEP") {
        return keep(Path::new(&folder));
    }
    let env = Environment::new();
    let all = build(&env, 1e9);
    jobs::run(jobs::execute(&env, &jobs::config(2, None), None)).expect("the job finishes");
    let undisturbed = by_operator_and_key(all.take());
    assert_eq!(undisturbed.len() as u64, 5 * KEYS);
    let kept = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("savepoints");
    let savepoints: Vec<PathBuf> =
        kept.read_dir().expect("savepoints").map(|entry| entry.expect("an entry").path()).collect();
    assert!(!savepoints.is_empty());
    for (savepoint, parallelism) in savepoints.iter().flat_map(|path| [1, 2, 3, 7].map(|p| (path, p))) {
        let env = Environment::new();
        let lines = build(&env, 1e9);
        let mut config = jobs::config(parallelism, None);
        config.restore.from = Some(savepoint.clone());
        jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
        let restored = by_operator_and_key(lines.take());
        assert_eq!(restored.len(), undisturbed.len(), "{}", savepoint.display());
        for (of, lines) in restored {
            let all = &undisturbed[&of];
            assert!(lines.len() < all.len() && all.ends_with(&lines), "{}: {of:?}", savepoint.display());
        }
    }
}
