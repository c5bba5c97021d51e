//! State for which memory has no room: results are those of a run that has room, crash or not, and memory holds.

use hurtig::config::ByteSize;
use hurtig::dataflow::state::SpillCounts;
use hurtig::prelude::*;
use hurtig_tests::events::{Event, event_time};
use hurtig_tests::faults::{Crashes, Seed};
use hurtig_tests::{folders, jobs};
use std::sync::Arc;
use std::time::Duration;
use tempfile::tempdir;

const EVENTS: u64 = 120_000;
const KEYS: u64 = 40_000;

/// Memory for state, which would need more than ten times as much.
const MEMORY: u64 = 1 << 20;

fn key(event: &Event) -> String {
    format!("{:032}", Seed::new(event.n).next() % KEYS)
}

fn events(env: &Environment) -> DataStream<Event> {
    let source = GeneratorSource::new(Event::of).with_count(EVENTS).with_rate(200_000.0);
    env.generate(source, event_time()).uid("events")
}

/// Keeps a count, and a weight that makes it heavy, for each key.
#[derive(Clone, Default)]
struct Counted {
    count: ValueState<u64>,
    weight: ListState<String>,
    seen: MapState<u64, i64>,
}

impl KeyedProcessFunction<String, Event> for Counted {
    type Out = String;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, String>) -> OpResult {
        self.count = ctx.value_state("count")?;
        self.weight = ctx.list_state("weight")?;
        self.seen = ctx.map_state("seen")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, String, String>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or(0) + 1;
        self.count.set(ctx, count);
        self.weight.add(ctx, "weight ".repeat(10));
        self.seen.insert(ctx, event.n, event.value);
        if count % 7 == 0 {
            self.weight.clear(ctx);
        }
        let (weights, seen) = (self.weight.iter(ctx).count(), self.seen.iter(ctx).count());
        let key = ctx.key().clone();
        ctx.emit(format!("{key} {count} {weights} {seen}"));
        Ok(())
    }
}

fn counts(env: &Environment) -> DataStream<String> {
    events(env).key_by(key).process(Counted::default()).uid("counts")
}

fn windows(env: &Environment) -> DataStream<String> {
    events(env)
        .map(|event| (key(&event), event.value))
        .uid("values")
        .key_by(|row| row.0.clone())
        .window(SlidingEventTimeWindows::of(Duration::from_secs(600), Duration::from_secs(300)))
        .reduce(|a, b| (a.0, a.1 + b.1))
        .uid("windows")
        .map(|sum| format!("{sum:?}"))
        .uid("shown")
}

fn run(
    build: impl Fn(&Environment) -> DataStream<String>,
    config: &Config,
    crashes: Option<Crashes>,
) -> (Vec<String>, SpillCounts) {
    let out = tempdir().expect("a folder");
    let env = Environment::new();
    build(&env).sink_to(FileSink::text(out.path())).uid("files");
    let faults = crashes.map(|crashes| Arc::new(crashes) as _);
    let status = jobs::run(jobs::execute(&env, config, faults)).expect("the job finishes");
    let mut spilled = SpillCounts::default();
    status.subtasks.values().filter_map(|report| report.spill).for_each(|counts| spilled.add(counts));
    (folders::sorted_lines(out.path()), spilled)
}

fn check(build: impl Fn(&Environment) -> DataStream<String>, is_kept: bool) {
    let (expected, _) = run(&build, &jobs::config(1, None), None);
    assert!(expected.len() as u64 >= KEYS);
    for (parallelism, crashes) in [(2, 0), (3, 2)] {
        let spill_dir = tempdir().expect("a folder");
        let mut config = jobs::config(parallelism, Some(Duration::from_millis(50)));
        config.state.memory = Some(ByteSize(MEMORY));
        config.state.spill_dir = Some(spill_dir.path().to_path_buf());
        let crashes = Crashes { seed: 3, attempts: crashes, within: EVENTS / 6 };
        let (found, spilled) = run(&build, &config, Some(crashes));
        if let Err(difference) = folders::compare(&expected, &found) {
            panic!("{difference}");
        }
        println!("{spilled:?}, {:.2} of all look-ups hit", spilled.hit_ratio());
        assert!(spilled.written_bytes > MEMORY && spilled.misses > 0, "{spilled:?}");
        // Caches of files take what is left.
        assert!(spilled.memory_bytes <= MEMORY + MEMORY / 4, "{spilled:?}");
        assert!(!is_kept || spilled.cold_bytes > 5 * MEMORY, "{spilled:?}");
        assert_eq!(spill_dir.path().read_dir().expect("it is there").count(), 0, "files have no name");
    }
}

#[test]
fn a_job_with_far_more_state_than_memory_gives_the_results_of_one_with_room() {
    check(counts, true);
}

#[test]
fn windows_with_more_keys_than_memory_has_room_for_give_the_results_of_ones_with_room() {
    check(windows, false);
}
