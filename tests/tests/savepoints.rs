//! Savepoints that are read, changed and made outside jobs, with jobs that leave them and start from them.

use hurtig::prelude::*;
use hurtig::savepoint::{OperatorState, Savepoint, SavepointError, SavepointWriter};
use hurtig_tests::events::{Event, KEYS, events};
use hurtig_tests::folders::sorted_lines;
use hurtig_tests::jobs;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

const EVENTS: u64 = 6_000;
const MAX_PARALLELISM: u32 = 128;

/// Keeps a value, a list and a map for each key, and puts the value out.
#[derive(Clone, Default)]
struct Keeping {
    count: ValueState<u64>,
    first: ListState<u64>,
    by_third: MapState<u8, u64>,
}

impl KeyedProcessFunction<u64, Event> for Keeping {
    type Out = (u64, u64);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.count = ctx.value_state("count")?;
        self.first = ctx.list_state("first")?;
        self.by_third = ctx.map_state("by third")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, (u64, u64)>) -> OpResult {
        let count = self.count.get(ctx).copied().unwrap_or_default() + 1;
        self.count.set(ctx, count);
        if self.first.iter(ctx).count() < 3 {
            self.first.add(ctx, event.n);
        }
        let third = (event.n / KEYS % 3) as u8;
        let of_third = self.by_third.get(ctx, &third).copied().unwrap_or_default();
        self.by_third.insert(ctx, third, of_third + 1);
        ctx.emit((event.key, count));
        Ok(())
    }
}

/// Each count of a key is a line of a file.
fn job(env: &Environment, per_second: f64, folder: &Path) {
    let events = events(env, "events", EVENTS, per_second);
    let counts = events.key_by(|event| event.key).process(Keeping::default()).uid("counts");
    counts.sink_to(FileSink::csv(folder.join("out"))).uid("files");
}

/// The last count of each key, and how many there are in all.
fn results(folder: &Path) -> (BTreeMap<u64, u64>, u64) {
    let lines = sorted_lines(&folder.join("out"));
    let mut last = BTreeMap::new();
    for line in &lines {
        let (key, count) = line.split_once(',').expect("a key and a count");
        let count: u64 = count.parse().expect("a count");
        let known = last.entry(key.parse().expect("a key")).or_insert(count);
        *known = (*known).max(count);
    }
    (last, lines.len() as u64)
}

fn config(from: Option<&str>) -> Config {
    let mut config = jobs::config(2, Some(Duration::from_millis(20)));
    config.parallelism.max = Some(MAX_PARALLELISM as usize);
    config.restore.from = from.map(Into::into);
    config
}

/// Runs the job to its end.
async fn finish(folder: &Path, from: &str) {
    let env = Environment::new();
    job(&env, 1e6, folder);
    let mut config = config(Some(from));
    config.parallelism.default = Some(3);
    jobs::execute(&env, &config, None).await.expect("the job finishes");
}

#[test]
fn a_job_begins_with_state_that_was_made_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let target = folder.path().to_str().expect("UTF-8");
    jobs::run(async {
        let mut counts = OperatorState::<u64>::new("counts", MAX_PARALLELISM);
        let count = counts.value_state::<u64>("count").expect("a state");
        (0..KEYS).for_each(|key| count.set(&mut counts.at(&key), 1_000 * key));
        let mut writer = SavepointWriter::new(MAX_PARALLELISM);
        writer.put(counts).await.expect("it is taken");
        let savepoint = writer.write(target).await.expect("a savepoint");
        finish(folder.path(), &savepoint).await;
    });
    let expected = (0..KEYS).map(|key| (key, 1_000 * key + EVENTS / KEYS)).collect();
    assert_eq!(results(folder.path()).0, expected);
}

/// Runs the job for a while, and stops it with a savepoint. Returns where, and how many results there were.
async fn stopped(folder: &Path) -> (String, u64) {
    let env = Environment::new();
    job(&env, 5_000.0, folder);
    let running = jobs::start(&env, &config(None), None).await.expect("the job starts");
    let has_begun = running.client.wait_until(|status| status.checkpoints_completed > 3).await;
    has_begun.expect("the job runs");
    let savepoint = running.client.stop(folder.to_str()).await.expect("a savepoint");
    running.finish().await.expect("the job ends");
    (savepoint, results(folder).1)
}

#[test]
fn what_a_job_has_left_is_read_and_changed_and_all_else_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    jobs::run(async {
        let (savepoint, before) = stopped(folder.path()).await;
        assert!((1..EVENTS).contains(&before), "{before} results");
        let savepoint = Savepoint::load(&savepoint).await.expect("a savepoint");
        let mut counts = savepoint.operator::<u64>("counts").await.expect("an operator");
        let count = counts.value_state::<u64>("count").expect("a state");
        let first = counts.list_state::<u64>("first").expect("a state");
        let by_third = counts.map_state::<u8, u64>("by third").expect("a state");
        let mut read = BTreeMap::new();
        count.for_each(counts.states(), |key: &u64, n| _ = read.insert(*key, *n));
        assert_eq!(read.values().sum::<u64>(), before);
        let mut firsts: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        first.for_each(counts.states(), |key: &u64, n| firsts.entry(*key).or_default().push(*n));
        assert!(firsts.iter().all(|(key, firsts)| firsts[..] == [*key, key + KEYS, key + 2 * KEYS]));
        let mut thirds: BTreeMap<u64, u64> = BTreeMap::new();
        by_third.for_each(counts.states(), |key: &u64, _, n| *thirds.entry(*key).or_default() += n);
        assert_eq!(thirds, read);

        count.set(&mut counts.at(&3), read[&3] + 1_000);
        count.clear(&mut counts.at(&5));
        let mut writer = savepoint.change().await.expect("it can be changed");
        writer.put(counts).await.expect("it is taken");
        let changed = writer.write(folder.path().to_str().expect("UTF-8")).await.expect("a savepoint");
        finish(folder.path(), &changed).await;
        let (last, in_all) = results(folder.path());
        assert_eq!(in_all, EVENTS, "positions of the source are carried over");
        let all = EVENTS / KEYS;
        let expected = (0..KEYS).map(|key| match key {
            3 => (key, all + 1_000),
            5 => (key, all - read[&5]),
            _ => (key, all),
        });
        assert_eq!(last, expected.collect());
    });
}

#[test]
fn what_is_not_there_or_does_not_fit_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    jobs::run(async {
        let (location, _) = stopped(folder.path()).await;
        let savepoint = Savepoint::load(&location).await.expect("a savepoint");
        let Err(unknown) = savepoint.operator::<u64>("cuonts").await else { panic!("it is there") };
        assert!(unknown.to_string().contains("no operator 'cuonts', but events, counts"), "{unknown}");
        let mut counts = savepoint.operator::<u64>("counts").await.expect("an operator");
        let wrong = counts.value_state::<String>("count").err().expect("it is no text");
        assert!(wrong.to_string().contains("'count' of the checkpoint cannot be read"), "{wrong}");
        let mut writer = savepoint.change().await.expect("it can be changed");
        let refused = writer.put(OperatorState::<u64>::new("more", 64)).await;
        assert!(matches!(refused, Err(SavepointError::MaxParallelism { found: 64, expected: 128, .. })));
        // Not twice to one place.
        let target = folder.path().to_str().expect("UTF-8");
        assert!(writer.remove("counts") && !writer.remove("counts"));
        writer.write(target).await.expect("a savepoint");
        let mut again = savepoint.change().await.expect("it can be changed");
        again.put(counts).await.expect("it is taken");
        let refused = again.write(target).await;
        assert!(matches!(refused, Err(SavepointError::Exists { .. })), "{refused:?}");
        assert!(Savepoint::load("nowhere").await.is_err());
    });
}

/// Holds the number of each second event of a key only.
#[derive(Clone, Default)]
struct Alternating {
    held: ValueState<u64>,
}

impl KeyedProcessFunction<u64, Event> for Alternating {
    type Out = u64;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.held = ctx.value_state("held")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, u64>) -> OpResult {
        match self.held.get(ctx) {
            Some(_) => self.held.clear(ctx),
            None => self.held.set(ctx, event.n),
        }
        Ok(())
    }
}

#[test]
fn what_is_deleted_in_a_checkpoint_that_builds_on_others_stays_deleted_in_a_savepoint_made_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    jobs::run(async {
        let env = Environment::new();
        // Each event has a key that comes again once, much later.
        let events = events(&env, "events", 20_000, 20_000.0);
        let held = events.key_by(|event| event.n % 5_003).process(Alternating::default()).uid("held");
        held.discard().uid("nowhere");
        let mut config = config(None);
        config.checkpoint.dir = Some(folder.path().join("checkpoints"));
        let running = jobs::start(&env, &config, None).await.expect("the job starts");
        let client = &running.client;
        // Some of each subtask's keys are deleted by then, and deletions lie on top of what they delete.
        client.wait_until(|status| status.records_read() > 12_000).await.expect("the job runs");
        client.cancel().expect("it runs");
        let _ = client.wait().await;
        let checkpoint = client.status().last_checkpoint.expect("a checkpoint").location;
        running.cluster.shutdown().await;
        let read = async |location: &str| {
            let savepoint = Savepoint::load(location).await.expect("a savepoint");
            let mut operator = savepoint.operator::<u64>("held").await.expect("an operator");
            let held = operator.value_state::<u64>("held").expect("a state");
            let mut all = BTreeMap::new();
            held.for_each(operator.states(), |key: &u64, n| _ = all.insert(*key, *n));
            all
        };
        let expected = read(&checkpoint).await;
        assert!((100..5_003).contains(&expected.len()), "{} keys", expected.len());
        let savepoint = Savepoint::load(&checkpoint).await.expect("a checkpoint");
        let writer = savepoint.change().await.expect("it can be changed");
        let copy = writer.write(folder.path().to_str().expect("UTF-8")).await.expect("a savepoint");
        assert_eq!(read(&copy).await, expected);
    });
}
