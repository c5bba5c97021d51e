//! Barriers overtake the records that a slow subtask keeps waiting: checkpoints are quick then, hold those records, and
//! give the same results at whatever parallelism they are restored.

use super::{Counting, on_a_paused_clock, start};
use hurtig::prelude::*;
use hurtig_state::{CheckpointStore, RestorePlan};
use hurtig_tests::events::events;
use hurtig_tests::{folders, jobs};
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;

const EVENTS: u64 = 2_000;

/// How long the slow subtask takes for a record.
const SLOW: Duration = Duration::from_millis(2);

fn slowed<T: Record>(stream: &DataStream<T>) -> DataStream<T> {
    let one_by_one = AsyncOptions::ordered().with_capacity(1);
    let slow = |record| async move {
        tokio::time::sleep(SLOW).await;
        Ok(record)
    };
    stream.map_async(one_by_one, slow).uid("slow")
}

/// Those who read by key are slow.
fn slow_readers_by_key(env: &Environment, files: &Path) {
    let counted = events(env, "events", EVENTS, 1e6).key_by(|event| event.key);
    let counted = counted.process(Counting::default()).uid("counts");
    slowed(&counted).sink_to(FileSink::text(files)).uid("files");
}

/// Those who read anything are slow, and windows wait for all of them.
fn slow_readers_of_anything(env: &Environment, files: &Path) {
    let records = events(env, "events", EVENTS, 1e6).rebalance();
    let counts = slowed(&records.map(|event| (event.value % 50, event.at)).uid("pairs"))
        .key_by(|pair| pair.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(2)))
        .count()
        .uid("windows");
    counts.map(|result| format!("{result:?}")).uid("shown").sink_to(FileSink::text(files)).uid("files");
}

type Build = fn(&Environment, &Path);

struct Folders {
    files: TempDir,
    checkpoints: TempDir,
}

impl Folders {
    fn new() -> Self {
        let folder = || tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a folder");
        Folders { files: folder(), checkpoints: folder() }
    }

    fn config(&self, parallelism: usize, timeout: Option<Duration>) -> Config {
        let mut config = jobs::config(parallelism, Some(Duration::from_millis(20)));
        config.checkpoint.dir = Some(self.checkpoints.path().into());
        config.checkpoint.alignment_timeout = timeout;
        config.execution.batch_size = 16;
        config.taskmanager.count = 2;
        config
    }

    /// Runs the job until so many checkpoints are complete, or to its end. Returns how many were, and the last one.
    async fn run(&self, build: Build, config: &Config, checkpoints: u64) -> (u64, Option<String>) {
        let env = Environment::new();
        build(&env, self.files.path());
        let (cluster, job) = start(&env, config).await;
        // It may end before.
        let _ = job.wait_until(|status| status.checkpoints_completed >= checkpoints).await;
        let _ = job.cancel();
        let _ = job.wait().await;
        let status = job.status();
        let is_expected = matches!(status.state, JobState::Cancelled | JobState::Finished);
        assert!(is_expected, "{:?}: {:?}", status.state, status.failure);
        cluster.shutdown().await;
        (status.checkpoints_completed, status.last_checkpoint.map(|report| report.location))
    }

    fn lines(&self) -> Vec<String> {
        folders::sorted_lines(self.files.path())
    }
}

/// How many batches a checkpoint holds that its barrier has overtaken.
async fn overtaken(location: &str) -> usize {
    let (store, metadata) = CheckpointStore::load(location).await.expect("a checkpoint");
    let heads = RestorePlan::heads(&metadata, &store).await.expect("its heads");
    heads.in_flight().iter().map(|in_flight| in_flight.batches.len()).sum()
}

fn check(build: Build) {
    let quiet = Folders::new();
    on_a_paused_clock(quiet.run(build, &quiet.config(1, None), u64::MAX));
    let expected = quiet.lines();
    assert!(expected.len() > 100, "{} lines", expected.len());
    for timeout in [Duration::ZERO, Duration::from_millis(30)] {
        for parallelisms in [[2, 2, 2], [2, 3, 1], [3, 1, 2], [1, 4, 3]] {
            let folders = Folders::new();
            let held: Vec<usize> = on_a_paused_clock(async {
                let (mut from, mut held) = (None::<String>, Vec::new());
                for parallelism in parallelisms {
                    let mut config = folders.config(parallelism, Some(timeout));
                    config.parallelism.max = Some(128);
                    config.restore.from = from.take().map(Into::into);
                    let (_, last) = folders.run(build, &config, 4).await;
                    from = last.clone();
                    held.push(overtaken(&last.expect("a checkpoint")).await);
                }
                let mut config = folders.config(2, Some(timeout));
                config.parallelism.max = Some(128);
                config.restore.from = from.map(Into::into);
                folders.run(build, &config, u64::MAX).await;
                held
            });
            assert!(held[0] > 0, "{timeout:?} {parallelisms:?}: {held:?} batches");
            let same = folders::compare(&expected, &folders.lines());
            same.unwrap_or_else(|difference| panic!("{timeout:?} {parallelisms:?}: {difference}"));
        }
    }
}

#[test]
fn what_barriers_have_overtaken_goes_on_to_readers_by_key_in_its_order_at_any_parallelism() {
    check(slow_readers_by_key);
}

#[test]
fn what_barriers_have_overtaken_goes_on_to_readers_of_anything_at_any_parallelism() {
    check(slow_readers_of_anything);
}

#[test]
fn checkpoints_are_quick_though_subtasks_are_slow() {
    for build in [slow_readers_by_key, slow_readers_of_anything] as [Build; 2] {
        let [aligned, overtaking] = [None, Some(Duration::ZERO)].map(|timeout| {
            let folders = Folders::new();
            on_a_paused_clock(folders.run(build, &folders.config(2, timeout), u64::MAX)).0
        });
        assert!(overtaking > 3 * aligned, "{overtaking} checkpoints instead of {aligned}");
    }
}
