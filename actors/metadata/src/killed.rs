//! Tests with a process that is killed. It is this test executable once more, told by a variable to write and, when
//! it has said so, to wait for its end.

use crate::store::{DATABASE_FILE, MetadataStore, Retention};
use crate::{CheckpointKind, CheckpointRecord, Error, JobRecord};
use hurtig_dataflow::ids::{Attempt, JobId};
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

const DIRECTORY: &str = "HURTIG_TEST_METADATA_DIRECTORY";
/// More than SQLite keeps in memory of a transaction: the rest is in the log before the commit.
const SPILLING: usize = 8 << 20;

/// A child that runs one test of this executable; killed when dropped.
struct Writer {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Writer {
    fn start(test: &str, directory: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "--nocapture", &format!("killed::{test}")])
            .env(DIRECTORY, directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Writer { child, lines }
    }

    /// The number in the next line that says `wrote`.
    fn wrote(&mut self) -> u128 {
        let told = self.lines.find_map(|line| {
            let line = line.unwrap();
            // The test runner's own words may stand before ours.
            line.split_once("wrote ").map(|(_, number)| number.parse().unwrap())
        });
        told.expect("the writer has ended early")
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn say(number: u128) {
    println!("wrote {number}");
    std::io::stdout().flush().unwrap();
}

/// The child's store; `None` in an ordinary run of the tests.
fn of_child() -> Option<MetadataStore> {
    let directory = std::env::var_os(DIRECTORY)?;
    Some(MetadataStore::open(Path::new(&directory), Retention::default()).unwrap())
}

fn checkpoint(id: u64) -> CheckpointRecord {
    let kind = CheckpointKind::Checkpoint;
    CheckpointRecord { id, kind, location: "here".into(), triggered_at: 0, completed_at: 1, size_bytes: 2 }
}

#[test]
fn child_stops_within_a_transaction() {
    let Some(store) = of_child() else { return };
    let job = JobRecord::new(JobId(1), "whole", "running", 0);
    store.add_job(&job).unwrap();
    store.set_graph(job.id, Attempt(1), "small").unwrap();
    let stopped = store.write("test", |transaction| {
        transaction.execute("INSERT INTO job SELECT '2', name, program, arguments, configuration, state, attempt, submitted_ms, ended_ms, failure, graph FROM job", [])?;
        transaction.execute("UPDATE job SET state = 'torn', graph = ?1", ["g".repeat(SPILLING)])?;
        say(1);
        // Until the parent kills this process, or is itself gone.
        let _ = std::io::stdin().read(&mut [0]);
        Err::<(), _>(Error::UnknownJob(JobId(0)).into())
    });
    assert!(stopped.is_err());
}

#[test]
fn a_transaction_that_was_cut_off_has_never_been() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = Writer::start("child_stops_within_a_transaction", directory.path());
    writer.wrote();
    let pid = writer.child.id();
    let refused = MetadataStore::open(directory.path(), Retention::default()).unwrap_err();
    assert!(refused.to_string().contains(&format!("in use by process {pid}: stop that")), "{refused}");
    let log = directory.path().join(format!("{DATABASE_FILE}-wal"));
    let spilled = std::fs::metadata(&log).unwrap().len();
    assert!(spilled > SPILLING as u64 / 2, "only {spilled} bytes of the transaction are in the log");
    writer.kill();

    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    let job = JobRecord::new(JobId(1), "whole", "running", 0);
    assert_eq!(store.jobs().unwrap(), [job]);
    assert_eq!(store.graph(JobId(1)).unwrap().as_deref(), Some("small"));
}

#[test]
fn child_writes_until_it_is_killed() {
    let Some(store) = of_child() else { return };
    let first = store.jobs().unwrap().len() as u128;
    for number in first.. {
        let job = JobRecord::new(JobId(number), "job", "running", number as i64);
        store.add_job(&job).unwrap();
        store.add_checkpoint(job.id, Attempt(1), &checkpoint(1), &[]).unwrap();
        // Takes the place of the other in the same transaction.
        store.add_checkpoint(job.id, Attempt(1), &checkpoint(2), &[1]).unwrap();
        say(number);
    }
}

#[test]
fn what_was_answered_before_a_kill_is_there_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut answered = Vec::new();
    for round in 1..=4 {
        let mut writer = Writer::start("child_writes_until_it_is_killed", directory.path());
        for _ in 0..round * 7 {
            answered.push(JobId(writer.wrote()));
        }
        writer.kill();
        let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
        for job in &answered {
            assert_eq!(store.checkpoints(*job).unwrap(), [checkpoint(2)]);
        }
        // What was under way may be there or not, but never in part.
        for job in store.jobs().unwrap() {
            assert!(store.checkpoints(job.id).unwrap().len() <= 1);
        }
    }
}
