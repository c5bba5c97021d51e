//! Files that are not as they were written, or not ours: refused with a sentence, and left as they are.

use hurtig_dataflow::ids::{Attempt, JobId, LeaderEpoch};
use hurtig_metadata::*;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

fn open(directory: &Path) -> Result<MetadataStore, Error> {
    MetadataStore::open(directory, Retention::default())
}

fn database(directory: &TempDir) -> PathBuf {
    directory.path().join(DATABASE_FILE)
}

/// A store with something in every table.
fn filled(directory: &Path) -> MetadataStore {
    let store = open(directory).unwrap();
    let program = ProgramHash::of(b"program");
    store.add_program(program, "program", 7, 0).unwrap();
    store.begin_epoch(LeaderEpoch(1), "node-1", 0).unwrap();
    for id in 1..20 {
        let job = JobRecord { program: Some(program), ..JobRecord::new(JobId(id), "job", "running", 0) };
        store.add_job(&job).unwrap();
        store.set_graph(job.id, Attempt(1), &"graph".repeat(300)).unwrap();
        let location = "/checkpoints/chk-1".to_string();
        let kind = CheckpointKind::Checkpoint;
        let checkpoint =
            CheckpointRecord { id: 1, kind, location, triggered_at: 0, completed_at: 1, size_bytes: 2 };
        store.add_checkpoint(job.id, Attempt(1), &checkpoint, &[]).unwrap();
    }
    store
}

/// Reads and writes all there is. What comes of it does not matter, as long as it comes.
fn use_all(store: &MetadataStore) {
    let _ = (store.jobs(), store.running_jobs(), store.programs(), store.leadership());
    for id in (0..22).map(JobId) {
        let _ = (store.job(id), store.graph(id), store.checkpoints(id), store.last_checkpoint(id));
        let end = JobChange { ended_at: Some(1), ..JobChange::to("finished", Attempt(1)) };
        let _ = store.change_job(id, Seen { state: "running", attempt: Attempt(1) }, &end);
    }
    let _ = store.forget_unused_programs(i64::MAX);
}

fn refused(directory: &TempDir, words: &[&str]) {
    let before = fs::read(database(directory)).ok();
    let error = open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unusable);
    let text = error.to_string();
    assert!(words.iter().all(|words| text.contains(words)), "{text}");
    assert_eq!(fs::read(database(directory)).ok(), before, "it was written to");
}

#[test]
fn a_file_of_another_application_is_refused() {
    let directory = tempdir().unwrap();
    fs::write(database(&directory), "some text ".repeat(100)).unwrap();
    refused(&directory, &["is no metadata file of hurtig", "no SQLite file", "choose another directory"]);

    fs::remove_file(database(&directory)).unwrap();
    let other = rusqlite::Connection::open(database(&directory)).unwrap();
    other.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(other);
    refused(&directory, &["belongs to another application"]);
}

#[test]
fn a_file_of_a_newer_release_is_refused_even_if_only_its_log_says_so() {
    let directory = tempdir().unwrap();
    drop(filled(directory.path()));
    let newer = rusqlite::Connection::open(database(&directory)).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    // While the other connection is open, the number is in the log only.
    let copy = tempdir().unwrap();
    for suffix in ["", "-wal"] {
        let name = format!("{DATABASE_FILE}{suffix}");
        fs::copy(directory.path().join(&name), copy.path().join(&name)).unwrap();
    }
    let log = fs::read(copy.path().join(format!("{DATABASE_FILE}-wal"))).unwrap();
    assert!(!log.is_empty());
    refused(&copy, &["has format version 99", "reads at most version 1", "use a newer release"]);
    assert_eq!(fs::read(copy.path().join(format!("{DATABASE_FILE}-wal"))).unwrap(), log);
    drop(newer);
    refused(&directory, &["has format version 99"]);
}

#[test]
fn a_file_that_is_empty_cut_or_altered_is_refused() {
    let directory = tempdir().unwrap();
    drop(filled(directory.path()));
    let whole = fs::read(database(&directory)).unwrap();
    for length in [0, 50, 99] {
        fs::write(database(&directory), &whole[..length]).unwrap();
        refused(&directory, &["is damaged", "shorter than its header", "put back a copy"]);
    }
    for length in [100, 4096, whole.len() - 4096, whole.len() - 1] {
        fs::write(database(&directory), &whole[..length]).unwrap();
        refused(&directory, &["is damaged"]);
    }
    fs::write(database(&directory), &whole).unwrap();
    let tool = rusqlite::Connection::open(database(&directory)).unwrap();
    tool.execute_batch("ALTER TABLE job ADD COLUMN mine TEXT").unwrap();
    drop(tool);
    refused(&directory, &["is damaged", "its tables are not those of its format version"]);
    fs::write(database(&directory), &whole).unwrap();
    assert_eq!(open(directory.path()).unwrap().jobs().unwrap().len(), 19);
}

#[test]
fn a_log_without_its_file_is_not_taken_for_that_of_a_new_one() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join(format!("{DATABASE_FILE}-wal")), b"log").unwrap();
    refused(&directory, &["it is missing, but its log"]);
    assert!(!database(&directory).exists());
}

#[test]
fn a_start_that_was_cut_off_is_begun_again() {
    let directory = tempdir().unwrap();
    fs::write(directory.path().join(format!("{DATABASE_FILE}.new")), b"half a file").unwrap();
    use_all(&open(directory.path()).unwrap());
    assert!(!directory.path().join(format!("{DATABASE_FILE}.new")).exists());
}

/// The files of a filled store: the database alone, and one whose last rows are in its log.
fn images() -> [(Vec<u8>, Vec<u8>); 2] {
    let directory = tempdir().unwrap();
    let store = filled(directory.path());
    let log = directory.path().join(format!("{DATABASE_FILE}-wal"));
    let with_log = (fs::read(database(&directory)).unwrap(), fs::read(log).unwrap());
    drop(store);
    [(fs::read(database(&directory)).unwrap(), Vec::new()), with_log]
}

#[test]
fn damage_anywhere_never_panics() {
    let images = images();
    assert!(images[0].0.len() > 40_000 && images[1].1.len() > 40_000);
    let damage = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 1..40usize), 1..4);
    // The first pages and page headers say most, so they are hit more often.
    let place = prop_oneof![Just(200usize), Just(4096), Just(usize::MAX)];
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(300));
    let cases = (any::<bool>(), place, damage);
    runner
        .run(&cases, |(has_log, within, damage)| {
            let directory = tempdir().unwrap();
            let (mut file, mut log) = images[usize::from(has_log)].clone();
            for (at, value, length) in damage {
                let bytes = if has_log && value % 2 == 0 { &mut log } else { &mut file };
                let start = at.index(bytes.len().min(within));
                let end = bytes.len().min(start + length);
                bytes[start..end].fill(value);
            }
            fs::write(database(&directory), &file).unwrap();
            if has_log {
                fs::write(directory.path().join(format!("{DATABASE_FILE}-wal")), &log).unwrap();
            }
            match open(directory.path()) {
                Ok(store) => use_all(&store),
                Err(error) => {
                    prop_assert!(!error.to_string().is_empty());
                    prop_assert_eq!(fs::read(database(&directory)).unwrap(), file, "{}", error);
                }
            }
            Ok(())
        })
        .unwrap();
}
