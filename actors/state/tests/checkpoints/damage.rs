//! Files that are not what was written.

use crate::samples::*;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_dataflow::snapshot::SubtaskSnapshot;
use hurtig_state::metadata::METADATA_VERSION;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, Error, ErrorKind, Layer, SnapshotDir, SnapshotHandle,
    SourceMetadata, SubtaskMetadata, VertexMetadata,
};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_bytes::ByteBuf;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, PoisonError};
use tempfile::TempDir;

/// One checkpoint on disk, whose files the tests damage and put back.
struct Victim {
    _directory: TempDir,
    metadata: CheckpointMetadata,
}

impl Victim {
    fn new(bytes: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(directory.path().to_str().unwrap()).unwrap();
        let metadata = wait(take(&store, &SnapshotDir::of_checkpoint(1), bytes));
        Victim { _directory: directory, metadata }
    }

    fn file(&self, name: &str) -> PathBuf {
        let directory = Path::new(&self.metadata.location);
        if name == STATE_FILE { directory.join("../shared").join(name) } else { directory.join(name) }
    }

    /// What reading the whole checkpoint says while a file has another content.
    fn read_with(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        let (path, damaged) = (self.file(name), self.file("_damaged"));
        let sound = std::fs::read(&path).unwrap();
        std::fs::write(&damaged, content).unwrap();
        std::fs::rename(&damaged, &path).unwrap();
        let result = wait(async {
            let (store, metadata) = CheckpointStore::load(&self.metadata.location).await?;
            for subtask in &metadata.vertices[0].subtasks {
                read(&store, &metadata, &subtask.snapshot).await?;
            }
            Ok(())
        });
        std::fs::write(&path, sound).unwrap();
        result
    }

    fn check_refused(&self, name: &str, content: &[u8]) -> Result<(), TestCaseError> {
        let error = self.read_with(name, content).expect_err("damage goes unnoticed");
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        prop_assert!(text.contains(name) && text.contains("use an older checkpoint"), "{}", text);
        Ok(())
    }
}

/// Making one takes longer than damaging it. The lock keeps tests in one process from damaging it together.
static LARGE_ONE: LazyLock<Mutex<Victim>> = LazyLock::new(|| Mutex::new(Victim::new(LARGE)));

const STATE_FILE: &str = "c1-v0-s1-a1.state";

#[test]
fn every_flipped_bit_and_every_missing_end_of_the_metadata_is_noticed() {
    let victim = Victim::new(SMALL);
    let sound = std::fs::read(victim.file("_metadata")).unwrap();
    victim.read_with("_metadata", &sound).unwrap();
    for at in 0..sound.len() {
        let mut flipped = sound.clone();
        flipped[at] ^= 1 << (at % 8);
        victim.check_refused("_metadata", &flipped).unwrap();
        victim.check_refused("_metadata", &sound[..at]).unwrap();
    }
    victim.check_refused("_metadata", &[&sound[..], &[0]].concat()).unwrap();
    victim.check_refused("_metadata", &[&sound[..], &sound[..]].concat()).unwrap();
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_noticed(at: prop::sample::Index, bit in 0u8..8, is_metadata: bool) {
        let victim = LARGE_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if is_metadata { "_metadata" } else { STATE_FILE };
        let mut content = std::fs::read(victim.file(name)).unwrap();
        let at = at.index(content.len());
        content[at] ^= 1u8 << bit;
        victim.check_refused(name, &content)?;
    }

    #[test]
    fn a_missing_end_is_noticed(at: prop::sample::Index, is_metadata: bool) {
        let victim = LARGE_ONE.lock().unwrap_or_else(PoisonError::into_inner);
        let name = if is_metadata { "_metadata" } else { STATE_FILE };
        let content = std::fs::read(victim.file(name)).unwrap();
        victim.check_refused(name, &content[..at.index(content.len())])?;
    }

    #[test]
    fn a_damaged_inline_snapshot_is_noticed(at: prop::sample::Index, bit in 0u8..8, is_cut: bool) {
        let store = CheckpointStore::open("memory:inline").unwrap();
        let (dir, subtask) = (SnapshotDir::of_checkpoint(1), SubtaskId { vertex: 0, index: 0 });
        let snapshot = snapshot(1, &["x"], 0, 1, SMALL);
        let mut handle = wait(write(&store, &dir, subtask, Attempt(1), snapshot));
        let [Layer::Inline(bytes)] = &mut handle.layers[..] else { panic!("small enough to be inline") };
        let at = at.index(bytes.len());
        if is_cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1u8 << bit;
        }
        let metadata = wait(prepare(&store, &dir, SMALL));
        let metadata = CheckpointMetadata { location: format!("memory:inline/{JOB}/chk-1"), ..metadata };
        let error = wait(read(&store, &metadata, &handle)).unwrap_err();
        prop_assert_eq!(error.kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn random_metadata_comes_back(metadata in any_metadata()) {
        let directory = format!("memory:random/{}-{}", metadata.job, metadata.checkpoint);
        let store = CheckpointStore::open(&directory).unwrap();
        let location = wait(store.publish(&metadata)).unwrap();
        let (_, loaded) = wait(CheckpointStore::load(&location)).unwrap();
        prop_assert_eq!(loaded, CheckpointMetadata { location, ..metadata });
    }
}

#[test]
fn another_version_is_refused_in_a_sentence_that_says_so() {
    let victim = Victim::new(LARGE);
    for name in ["_metadata", STATE_FILE] {
        let mut content = std::fs::read(victim.file(name)).unwrap();
        content[8..10].copy_from_slice(&(METADATA_VERSION + 1).to_le_bytes());
        let checksum = crc32fast::hash(&content[..12]);
        content[12..16].copy_from_slice(&checksum.to_le_bytes());
        let error = victim.read_with(name, &content).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewerVersion);
        let text = error.to_string();
        assert!(
            text.contains(name) && text.contains("format version 3") && text.contains("newer release"),
            "{text}"
        );
        content[8..10].copy_from_slice(&1u16.to_le_bytes());
        let checksum = crc32fast::hash(&content[..12]);
        content[12..16].copy_from_slice(&checksum.to_le_bytes());
        let error = victim.read_with(name, &content).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::OlderVersion);
        let text = error.to_string();
        assert!(text.contains("format version 1") && text.contains("the release that wrote it"), "{text}");
    }
}

#[test]
fn one_kind_of_file_is_not_taken_for_another() {
    let victim = Victim::new(LARGE);
    let metadata = std::fs::read(victim.file("_metadata")).unwrap();
    let state = std::fs::read(victim.file(STATE_FILE)).unwrap();
    victim.check_refused("_metadata", &state).unwrap();
    victim.check_refused(STATE_FILE, &metadata).unwrap();
}

#[test]
fn metadata_that_would_lose_or_double_state_is_neither_published_nor_read() {
    let store = CheckpointStore::open("memory:contradictions").unwrap();
    let sound = wait(prepare(&store, &SnapshotDir::of_checkpoint(1), SMALL));
    let check = |change: &dyn Fn(&mut CheckpointMetadata), words: &str| {
        let mut metadata = sound.clone();
        change(&mut metadata);
        let error = wait(store.publish(&metadata)).unwrap_err();
        let text = hurtig_dataflow::error::describe(&error);
        assert!(text.contains(words), "{text}");
    };
    check(&|metadata| drop(metadata.vertices[0].subtasks.pop()), "it has 1 of the 2 subtasks of vertex 0");
    check(
        &|metadata| metadata.vertices[0].operators[1].uid = "source".into(),
        "two operators with uid 'source'",
    );
    for path in ["../chk-2/v0-s0-a1.state", "/etc/passwd", "", ".."] {
        let handle = SnapshotHandle { layers: vec![Layer::File { name: path.into(), bytes: 1 }] };
        check(
            &|metadata| metadata.vertices[0].subtasks[0].snapshot = handle.clone(),
            "not the name of a file",
        );
        let metadata = CheckpointMetadata { location: "memory:contradictions/x/y".into(), ..sound.clone() };
        let error = wait(read(&store, &metadata, &handle)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
    check(
        &|metadata| metadata.vertices[0].subtasks[0].snapshot.layers.clear(),
        "a subtask of vertex 0 has no snapshot",
    );
}

fn any_metadata() -> impl Strategy<Value = CheckpointMetadata> {
    let layer = prop_oneof![
        vec(any::<u8>(), 0..200).prop_map(|bytes| Layer::Inline(bytes.into())),
        ("[a-zA-Z0-9_-]{1,20}", any::<u64>()).prop_map(|(name, bytes)| Layer::File { name, bytes }),
    ];
    let handle = vec(layer, 1..4).prop_map(|layers| SnapshotHandle { layers });
    let items = || vec(any::<u8>(), 0..50).prop_map(ByteBuf::from);
    let subtask = (handle, vec((".*", vec(items(), 0..3)), 0..3), any::<u64>(), any::<u64>()).prop_map(
        |(snapshot, committables, written_bytes, since)| SubtaskMetadata {
            snapshot,
            committables,
            written_bytes,
            since,
        },
    );
    let vertex = (vec((".*", ".*"), 0..4), vec(subtask, 0..5));
    let vertices = vec(vertex, 0..4).prop_map(|vertices| {
        let with_index = vertices.into_iter().enumerate();
        let vertices = with_index.map(|(vertex, (operators, subtasks))| {
            let operators = operators.into_iter().enumerate().map(|(index, (uid, name))| {
                let parallelism = subtasks.len();
                OperatorId { uid: format!("{vertex}/{index}/{uid}"), name, parallelism }
            });
            VertexMetadata { operators: operators.collect(), subtasks }
        });
        vertices.collect::<Vec<_>>()
    });
    let sources = vec((".*", items()).prop_map(|(uid, bytes)| SourceMetadata { uid, bytes }), 0..3);
    let numbers = (any::<u128>(), any::<u64>(), any::<i64>(), any::<i64>(), any::<u32>(), any::<u16>());
    (numbers, any::<bool>(), any::<bool>(), vertices, sources).prop_map(
        |(
            (job, checkpoint, triggered_at, completed_at, max_parallelism, key_hash_version),
            a,
            b,
            vertices,
            sources,
        )| {
            CheckpointMetadata {
                attempt: Attempt(max_parallelism),
                version: METADATA_VERSION,
                job: JobId(job),
                checkpoint,
                savepoint: a,
                triggered_at,
                completed_at,
                max_parallelism,
                key_hash_version,
                is_final: b,
                vertices,
                sources,
                location: String::new(),
            }
        },
    )
}

#[test]
fn a_subtask_without_operators_comes_back() {
    let store = CheckpointStore::open("memory:empty").unwrap();
    let (dir, subtask) = (SnapshotDir::of_checkpoint(1), SubtaskId { vertex: 0, index: 0 });
    let written = wait(write(&store, &dir, subtask, Attempt(1), SubtaskSnapshot::default()));
    let metadata = wait(take(&store, &dir, SMALL));
    assert_eq!(wait(read(&store, &metadata, &written)).unwrap(), SubtaskSnapshot::default());
}
