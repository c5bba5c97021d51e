//! The sink as the runtime drives it: writers of several subtasks and attempts, snapshots, commits, crashes.

use super::*;
use crate::error::within;
use crate::{Error, FileSource};
use hurtig_dataflow::ids::{Attempt, JobId};
use hurtig_dataflow::operator::OpenContext;
use hurtig_dataflow::sink::SinkContext;
use hurtig_dataflow::snapshot::{OperatorSnapshot, redistribute};
use hurtig_dataflow::source::{Assignment, Polled, Source};
use hurtig_dataflow::state::StateStore;
use hurtig_dataflow::{KeyGroupRange, Rows};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use std::fs;

pub(crate) fn place(job: u128, subtask: usize, parallelism: usize, attempt: u32) -> Place {
    Place {
        job: JobId(job),
        job_name: "test".into(),
        operator: "sink".into(),
        uid: "sink".into(),
        subtask,
        parallelism,
        attempt: Attempt(attempt),
        checkpointing: true,
        batch_size: 16,
        waker: Arc::new(|| {}),
        spawner: Arc::new(drop),
    }
}

/// One subtask with its state.
struct Subtask<T> {
    writer: Box<dyn SinkWriter<T>>,
    states: StateStore,
    now: i64,
}

impl<T: Record> Subtask<T> {
    fn open(sink: &impl Sink<In = T>, place: &Place, snapshots: &[OperatorSnapshot]) -> OpResult<Self> {
        let restored = redistribute(snapshots, place.subtask, place.parallelism, 128);
        let mut states = StateStore::new(KeyGroupRange::all(128), restored.states);
        let mut writer = sink.writer(place)?;
        let restored = !snapshots.is_empty();
        writer.open(&mut OpenContext { place, states: &mut states, restored })?;
        Ok(Subtask { writer, states, now: 0 })
    }

    fn write(&mut self, records: impl IntoIterator<Item = T>) -> OpResult {
        let rows = Rows::untimed(records.into_iter().collect());
        let mut ctx = SinkContext { states: &mut self.states, now: self.now, watermark: 0 };
        self.writer.write(rows, &mut ctx)
    }

    fn time(&mut self, now: i64) {
        self.now = now;
        if self.writer.next_processing_time().is_some_and(|at| at <= now) {
            let mut ctx = SinkContext { states: &mut self.states, now, watermark: 0 };
            self.writer.on_processing_time(&mut ctx).unwrap();
        }
    }

    fn end(&mut self) {
        let mut ctx = SinkContext { states: &mut self.states, now: self.now, watermark: 0 };
        self.writer.end(&mut ctx).unwrap();
    }

    fn snapshot(&mut self) -> OperatorSnapshot {
        let mut ctx = SinkContext { states: &mut self.states, now: self.now, watermark: 0 };
        let committables = self.writer.prepare_commit(&mut ctx).unwrap();
        OperatorSnapshot {
            states: self.states.snapshot().unwrap(),
            committables: committables.into_iter().map(|bytes| bytes.into()).collect(),
            ..Default::default()
        }
    }
}

fn committables(snapshots: &[OperatorSnapshot]) -> Vec<Vec<u8>> {
    snapshots.iter().flat_map(|part| &part.committables).map(|bytes| bytes.to_vec()).collect()
}

fn commit(sink: &impl Sink, snapshots: &[OperatorSnapshot]) -> OpResult {
    sink.committer().unwrap().commit(committables(snapshots))
}

/// Names of all files below a folder, sorted, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        match path.is_dir() {
            true => found.extend(names(&path).into_iter().map(|inner| format!("{name}/{inner}"))),
            false => found.push(name),
        }
    }
    found.retain(|name| name != ".hurtig-lock");
    found.sort();
    found
}

fn published_numbers(folder: &Path) -> Vec<u32> {
    let published = names(folder).into_iter().filter(|name| !name.contains(".part"));
    let text: String = published.map(|name| fs::read_to_string(folder.join(name)).unwrap()).collect();
    let mut numbers: Vec<u32> = text.lines().map(|line| line.parse().unwrap()).collect();
    numbers.sort();
    numbers
}

fn text(folder: &Path) -> FileSink<u32, TextLines> {
    FileSink::text(folder)
}

#[test]
fn files_appear_when_the_checkpoint_is_committed_and_committing_again_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path());
    let mut subtask = Subtask::open(&sink, &place(0xabcd << 112, 0, 1, 1), &[]).unwrap();
    subtask.write(0..10).unwrap();
    let snapshot = [subtask.snapshot()];
    assert!(names(folder.path()).iter().all(|name| name.starts_with('.')));
    for _ in 0..2 {
        commit(&sink, &snapshot).unwrap();
        assert_eq!(names(folder.path()), ["part-abcd0000-0-0.txt"]);
        assert_eq!(published_numbers(folder.path()), (0..10).collect::<Vec<_>>());
    }
    subtask.write(10..12).unwrap();
    subtask.end();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(names(folder.path()), ["part-abcd0000-0-0.txt", "part-abcd0000-0-1.txt"]);
    drop(subtask);
    assert!(!folder.path().join(".hurtig-lock").exists());
}

#[test]
fn files_are_rolled_by_size_and_by_time() {
    let folder = tempfile::tempdir().unwrap();
    let sink =
        text(folder.path()).roll_at_bytes(6).roll_every(Duration::from_secs(60)).keep_open_at_checkpoints();
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write([1, 2, 3, 4]).unwrap();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2, 3]);
    assert_eq!(subtask.writer.next_processing_time(), Some(60_000));
    subtask.time(59_999);
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2, 3]);
    subtask.time(60_000);
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2, 3, 4]);
    assert_eq!(subtask.writer.next_processing_time(), None);
}

#[test]
fn every_file_has_a_header_and_every_bucket_its_folder() {
    #[derive(Clone, Serialize, Deserialize)]
    struct Delay {
        carrier: String,
        minutes: u32,
    }
    let folder = tempfile::tempdir().unwrap();
    let sink = FileSink::csv(folder.path())
        .with_header()
        .bucket_by(|delay: &Delay| format!("carrier={}", delay.carrier));
    let mut subtask = Subtask::open(&sink, &place(0, 2, 3, 1), &[]).unwrap();
    let delay = |carrier: &str, minutes| Delay { carrier: carrier.into(), minutes };
    subtask.write([delay("LH", 1), delay("AF", 2), delay("LH", 3)]).unwrap();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    subtask.write([delay("LH", 4)]).unwrap();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    let expected = [
        ("carrier=AF/part-00000000-2-1.csv", "carrier,minutes\nAF,2\n"),
        ("carrier=LH/part-00000000-2-0.csv", "carrier,minutes\nLH,1\nLH,3\n"),
        ("carrier=LH/part-00000000-2-2.csv", "carrier,minutes\nLH,4\n"),
    ];
    assert_eq!(names(folder.path()), expected.map(|(name, _)| name));
    for (name, content) in expected {
        assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), content);
    }
}

#[test]
fn a_bucket_outside_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for bucket in ["..", "a/../..", "/etc"] {
        let sink = text(folder.path()).bucket_by(move |_| bucket.to_string());
        let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
        let error = subtask.write([1]).unwrap_err().to_string();
        assert!(error.starts_with(&format!("bucket '{bucket}' is not a relative path")), "{error}");
    }
}

#[test]
fn a_foreign_file_is_not_overwritten_and_a_lost_one_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path());
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write([1]).unwrap();
    let snapshot = [subtask.snapshot()];
    let published = folder.path().join("part-00000000-0-0.txt");
    fs::write(&published, "precious").unwrap();
    let error = commit(&sink, &snapshot).unwrap_err();
    assert!(matches!(within(&error), Some(Error::Occupied(_))), "{error}");
    assert_eq!(fs::read_to_string(&published).unwrap(), "precious");
    // Half-way through publishing: both names are there and mean one file.
    fs::remove_file(&published).unwrap();
    let hidden = folder.path().join(&names(folder.path())[0]);
    fs::hard_link(&hidden, &published).unwrap();
    commit(&sink, &snapshot).unwrap();
    assert_eq!(names(folder.path()), ["part-00000000-0-0.txt"]);
    fs::write(&published, "shorter or longer").unwrap();
    let error = commit(&sink, &snapshot).unwrap_err();
    assert!(matches!(within(&error), Some(Error::Length { found: 17, expected: 2, .. })), "{error}");
    fs::remove_file(&published).unwrap();
    let error = commit(&sink, &snapshot).unwrap_err();
    assert!(matches!(within(&error), Some(Error::Lost(_))), "{error}");
}

#[test]
fn a_job_started_into_a_folder_with_part_files_passes_over_their_names() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("part-00000000-0-0.txt"), "7\n").unwrap();
    let sink = text(folder.path());
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write([8]).unwrap();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(names(folder.path()), ["part-00000000-0-0.txt", "part-00000000-0-1.txt"]);
    assert_eq!(published_numbers(folder.path()), [7, 8]);
}

#[test]
fn numbers_go_on_from_the_largest_of_all_subtasks_though_the_commit_comes_late() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path()).roll_at_bytes(2);
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write([1, 2, 3]).unwrap();
    let snapshot = [subtask.snapshot()];
    drop(subtask);
    let mut subtasks = [0, 1].map(|at| Subtask::open(&sink, &place(0, at, 2, 2), &snapshot).unwrap());
    let mut last = Vec::new();
    for (subtask, number) in subtasks.iter_mut().zip([4, 5]) {
        subtask.write([number]).unwrap();
        last.push(subtask.snapshot());
    }
    commit(&sink, &last).unwrap();
    commit(&sink, &snapshot).unwrap();
    let expected = ["0-0", "0-1", "0-2", "0-3", "1-3"].map(|part| format!("part-00000000-{part}.txt"));
    assert_eq!(names(folder.path()), expected);
    assert_eq!(published_numbers(folder.path()), [1, 2, 3, 4, 5]);
}

#[test]
fn without_checkpoints_files_are_published_when_rolled_if_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path()).roll_at_bytes(4).publish_when_rolled();
    let unsafe_place = Place { checkpointing: false, ..place(0, 0, 1, 1) };
    let mut subtask = Subtask::open(&sink, &unsafe_place, &[]).unwrap();
    subtask.write([1, 2, 3]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2]);
    subtask.end();
    assert_eq!(published_numbers(folder.path()), [1, 2, 3]);
}

#[test]
fn a_writer_that_is_dropped_leaves_nothing_that_no_checkpoint_names() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path()).roll_at_bytes(4).keep_open_at_checkpoints();
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write([1]).unwrap();
    let snapshot = [subtask.snapshot()];
    // The first file is closed after the checkpoint that names it as open, the second is named by none.
    subtask.write([2, 3]).unwrap();
    drop(subtask);
    assert_eq!(names(folder.path()).len(), 1);
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 2), &snapshot).unwrap();
    subtask.write([2, 3]).unwrap();
    subtask.end();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2, 3]);
    assert!(names(folder.path()).iter().all(|name| !name.starts_with('.')));
}

#[test]
fn a_savepoint_of_another_job_is_gone_on_with_and_keeps_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path()).keep_open_at_checkpoints();
    let mut old = Subtask::open(&sink, &place(1 << 96, 0, 1, 1), &[]).unwrap();
    old.write([1]).unwrap();
    let savepoint = [old.snapshot()];
    drop(old);
    let mut new = Subtask::open(&sink, &place(2 << 96, 0, 1, 1), &savepoint).unwrap();
    new.write([2]).unwrap();
    new.end();
    commit(&sink, &[new.snapshot()]).unwrap();
    assert_eq!(published_numbers(folder.path()), [1, 2]);
    drop(new);
    // The savepoint can be used again.
    assert!(Subtask::open(&sink, &place(3 << 96, 0, 1, 1), &savepoint).is_ok());
}

#[test]
fn an_output_path_that_is_no_folder_and_a_full_disk_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = text(&path).writer(&place(0, 0, 1, 1)).err().unwrap().to_string();
        assert_eq!(
            error,
            format!("'{}' is not a folder: remove it, or choose another output folder", file.display())
        );
    }
    let full = Path::new("/dev/full");
    if full.exists() {
        let error = fs::write(full, "x").map_err(crate::error::failed("write", full)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the disk is full, '/dev/full' cannot be written: make room, or choose another disk"
        );
    }
}

/// What happens to a running job.
#[derive(Debug, Clone)]
enum Step {
    Write(u32),
    Wait(i64),
    /// A checkpoint completes and is committed; or the commit is lost.
    Checkpoint {
        committed: bool,
    },
    /// A checkpoint is aborted after some subtasks took their snapshots.
    Aborted {
        subtasks: usize,
    },
    /// The job fails and starts again, at this parallelism; the committer may come late.
    Fail {
        parallelism: usize,
        end: End,
        late: bool,
    },
}

/// What becomes of the writers of an attempt that failed.
#[derive(Debug, Clone)]
enum End {
    Dropped,
    Killed,
    /// Nobody told them: they go on writing.
    Outdated,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u32..20).prop_map(Step::Write),
        1 => (1i64..50).prop_map(Step::Wait),
        2 => any::<bool>().prop_map(|committed| Step::Checkpoint { committed }),
        1 => (0usize..4).prop_map(|subtasks| Step::Aborted { subtasks }),
        2 => (1usize..4, prop::sample::select(vec![End::Dropped, End::Killed, End::Outdated]), any::<bool>())
            .prop_map(|(parallelism, end, late)| Step::Fail { parallelism, end, late }),
    ];
    prop::collection::vec(step, 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn whatever_fails_the_published_files_hold_the_input_exactly_once(
        steps in steps(),
        bytes in 1u64..60,
        keep_open: bool,
        buckets in 0u32..3,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let mut sink = text(folder.path()).roll_at_bytes(bytes).roll_every(Duration::from_millis(30));
        if keep_open {
            sink = sink.keep_open_at_checkpoints();
        }
        if buckets > 0 {
            sink = sink.bucket_by(move |number| format!("b{}/c", number % buckets));
        }
        let sink = sink;
        let start = |parallelism, attempt, snapshots: &[OperatorSnapshot]| -> Vec<Subtask<u32>> {
            (0..parallelism)
                .map(|at| Subtask::open(&sink, &place(5, at, parallelism, attempt), snapshots).unwrap())
                .collect()
        };
        let (mut attempt, mut now) = (1, 0);
        let mut subtasks = start(2, attempt, &[]);
        let mut outdated: Vec<Subtask<u32>> = Vec::new();
        // The source's position, and what the last complete checkpoint holds.
        let mut position = 0;
        let mut checkpoint: (u32, Vec<OperatorSnapshot>) = (0, Vec::new());
        for step in steps.into_iter().chain([Step::Checkpoint { committed: true }]) {
            match step {
                Step::Write(count) => {
                    for number in position..position + count {
                        let at = number as usize % subtasks.len();
                        subtasks[at].write([number]).unwrap();
                    }
                    position += count;
                }
                Step::Wait(time) => {
                    now += time;
                    subtasks.iter_mut().for_each(|subtask| subtask.time(now));
                }
                Step::Checkpoint { committed } => {
                    checkpoint = (position, subtasks.iter_mut().map(Subtask::snapshot).collect());
                    if committed {
                        commit(&sink, &checkpoint.1).unwrap();
                    }
                }
                Step::Aborted { subtasks: count } => {
                    for subtask in subtasks.iter_mut().take(count) {
                        subtask.snapshot();
                    }
                }
                Step::Fail { parallelism, end, late } => {
                    match end {
                        End::Dropped => drop(subtasks),
                        End::Killed => std::mem::forget(subtasks),
                        End::Outdated => outdated.extend(subtasks),
                    }
                    attempt += 1;
                    let publish = || sink.committer().unwrap().commit(committables(&checkpoint.1)).unwrap();
                    if !late {
                        publish();
                    }
                    position = checkpoint.0;
                    subtasks = start(parallelism, attempt, &checkpoint.1);
                    subtasks.iter_mut().for_each(|subtask| subtask.time(now));
                    if late {
                        publish();
                    }
                }
            }
            for subtask in &mut outdated {
                subtask.write([1_000_000, 2_000_000]).unwrap();
            }
            let published = published_numbers(folder.path());
            prop_assert!(published.windows(2).all(|pair| pair[0] < pair[1]), "doubled: {published:?}");
        }
        subtasks.iter_mut().for_each(Subtask::end);
        let last: Vec<_> = subtasks.iter_mut().map(Subtask::snapshot).collect();
        drop((subtasks, outdated));
        commit(&sink, &last).unwrap();
        prop_assert_eq!(published_numbers(folder.path()), (0..position).collect::<Vec<_>>());
        let hidden: Vec<_> = names(folder.path()).into_iter().filter(|name| name.contains(".part")).collect();
        prop_assert!(hidden.is_empty(), "left over: {hidden:?}");
    }
}

#[test]
fn what_the_sink_writes_the_source_reads() {
    let folder = tempfile::tempdir().unwrap();
    let sink = text(folder.path()).roll_at_bytes(10);
    let mut subtask = Subtask::open(&sink, &place(0, 0, 1, 1), &[]).unwrap();
    subtask.write(0..100).unwrap();
    commit(&sink, &[subtask.snapshot()]).unwrap();
    subtask.write(100..103).unwrap();
    let source = FileSource::text(folder.path());
    let mut splits = source.enumerator(None).unwrap();
    let mut read = Vec::new();
    while let Assignment::Splits(some) = splits.next(0, 1).unwrap() {
        for split in some {
            let mut reader = source.open(split, &place(0, 0, 1, 1)).unwrap();
            while let Polled::Rows(rows) = reader.poll(7, 0).unwrap() {
                read.extend(rows.records.iter().map(|line| line.parse::<u32>().unwrap()));
            }
        }
    }
    read.sort();
    assert_eq!(read, (0..100).collect::<Vec<_>>());
}
