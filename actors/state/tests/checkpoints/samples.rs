//! Checkpoints to test with.

use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::key::{KEY_HASH_VERSION, KeyGroupRange};
use hurtig_dataflow::snapshot::{
    GroupRows, OperatorSnapshot, RowOp, StateKind, StateSnapshot, SubtaskSnapshot,
};
use hurtig_state::metadata::METADATA_VERSION;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, Error, SnapshotDir, SnapshotHandle, SourceMetadata, SubtaskMetadata,
    VertexMetadata,
};
use serde_bytes::ByteBuf;

pub(crate) const JOB: JobId = JobId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
pub(crate) const MAX_PARALLELISM: u32 = 128;

/// Large enough for a file of its own, and of bytes that do not compress.
pub(crate) const LARGE: usize = 40_000;
/// Small enough to go into the metadata.
pub(crate) const SMALL: usize = 100;

pub(crate) fn operator(uid: &str, parallelism: usize) -> OperatorId {
    OperatorId { uid: uid.into(), name: format!("The {uid}"), parallelism }
}

pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..length).map(|_| next()).collect()
}

/// What one subtask leaves: for each uid keyed state of its key groups and a list of one item.
pub(crate) fn snapshot(
    checkpoint: CheckpointId,
    uids: &[&str],
    index: usize,
    parallelism: usize,
    bytes: usize,
) -> SubtaskSnapshot {
    let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
    let operators = uids.iter().map(|uid| {
        let mut keyed = StateSnapshot::new("counts", StateKind::Keyed);
        for group in range.first..range.first + range.count {
            let bytes = noise(bytes / usize::from(range.count), u64::from(group));
            keyed.groups.push(GroupRows::new(RowOp::Put, group, 1, bytes));
        }
        let mut list = StateSnapshot::new("positions", StateKind::List);
        list.items.push(ByteBuf::from(vec![index as u8]));
        OperatorSnapshot {
            uid: uid.to_string(),
            watermark: 1000 + index as i64,
            ended: false,
            states: vec![keyed, list],
            committables: vec![ByteBuf::from(b"transaction".to_vec())],
        }
    });
    SubtaskSnapshot { checkpoint, operators: operators.collect(), in_flight: Vec::new() }
}

/// Writes a snapshot as a base.
pub(crate) async fn write(
    store: &CheckpointStore,
    dir: &SnapshotDir,
    subtask: SubtaskId,
    attempt: Attempt,
    mut snapshot: SubtaskSnapshot,
) -> SnapshotHandle {
    let mut chunks = Vec::new();
    for (operator, part) in snapshot.operators.iter_mut().enumerate() {
        for (state, part) in part.states.iter_mut().enumerate() {
            part.is_whole = part.kind != StateKind::Keyed;
            let rows = std::mem::take(&mut part.groups).into_iter();
            chunks.extend(rows.map(|rows| Chunk { operator, state, rows }));
        }
    }
    let mut writer = store.writer(JOB, dir, subtask, attempt, snapshot).unwrap();
    writer.add(chunks).await.unwrap();
    SnapshotHandle { layers: vec![writer.finish(Vec::new()).await.unwrap()] }
}

/// Reads all of a snapshot.
pub(crate) async fn read(
    store: &CheckpointStore,
    checkpoint: &CheckpointMetadata,
    handle: &SnapshotHandle,
) -> Result<SubtaskSnapshot, Error> {
    store.read_snapshot(checkpoint, handle, Some(KeyGroupRange::all(MAX_PARALLELISM)), true).await
}

/// Takes a checkpoint of one vertex of two operators, two subtasks each, and publishes it.
pub(crate) async fn take(store: &CheckpointStore, dir: &SnapshotDir, bytes: usize) -> CheckpointMetadata {
    let metadata = prepare(store, dir, bytes).await;
    let location = store.publish(&metadata).await.unwrap();
    CheckpointMetadata { location, ..metadata }
}

/// The same, but not published.
pub(crate) async fn prepare(store: &CheckpointStore, dir: &SnapshotDir, bytes: usize) -> CheckpointMetadata {
    let mut subtasks = Vec::new();
    for index in 0..2 {
        let subtask = SubtaskId { vertex: 0, index };
        let snapshot = snapshot(dir.checkpoint, &["source", "count"], index, 2, bytes);
        let handle = write(store, dir, subtask, Attempt(1), snapshot).await;
        subtasks.push(SubtaskMetadata {
            snapshot: handle,
            committables: vec![("count".into(), vec![ByteBuf::from(b"transaction".to_vec())])],
            written_bytes: 5,
            since: 0,
        });
    }
    let location = match dir.savepoint {
        Some(_) => store.directory(JOB, dir).unwrap(),
        None => String::new(),
    };
    CheckpointMetadata {
        attempt: Attempt(1),
        version: METADATA_VERSION,
        job: JOB,
        checkpoint: dir.checkpoint,
        savepoint: dir.savepoint.is_some(),
        triggered_at: 1_700_000_000_000,
        completed_at: 1_700_000_000_123,
        max_parallelism: MAX_PARALLELISM,
        key_hash_version: KEY_HASH_VERSION,
        is_final: false,
        vertices: vec![VertexMetadata {
            operators: vec![operator("source", 2), operator("count", 2)],
            subtasks,
        }],
        sources: vec![SourceMetadata { uid: "source".into(), bytes: ByteBuf::from(b"splits".to_vec()) }],
        location,
    }
}

/// Runs to the end, for property tests, which are not async.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}
