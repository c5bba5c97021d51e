//! A job that crashes at any request to the store: there is always a checkpoint to restore, it holds what the state was
//! at its barrier, and nothing remains that no checkpoint names.

use crate::samples::*;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::ids::{Attempt, CheckpointId, SubtaskId};
use hurtig_dataflow::key::{KEY_HASH_VERSION, KeyGroupRange, hash_key, key_group, owner_of_group};
use hurtig_dataflow::snapshot::{OperatorSnapshot, SubtaskSnapshot};
use hurtig_dataflow::state::{Budget, Handle, KeyedTable, Spill, StateMemory, StateStore};
use hurtig_state::metadata::METADATA_VERSION;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, ColdFile, Error, Lineage, RestorePlan, Retention, SnapshotDir,
    SnapshotHandle, SubtaskMetadata, VertexMetadata,
};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use tempfile::TempDir;

/// A store that a process loses the connection to when it crashes.
#[derive(Debug)]
struct Faulty {
    inner: Arc<InMemory>,
    /// Requests until the crash.
    left: AtomicI64,
    /// Bytes of files read.
    read: AtomicU64,
    /// Whether the request during which the process crashes is carried out.
    is_done: bool,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty store")
    }
}

fn crash() -> object_store::Error {
    object_store::Error::Generic { store: "faulty", source: "crash".into() }
}

impl Faulty {
    fn new(inner: Arc<InMemory>, crash_at: i64, is_done: bool) -> Self {
        Faulty { inner, left: AtomicI64::new(crash_at), read: AtomicU64::new(0), is_done }
    }

    async fn request<T>(&self, request: impl Future<Output = Result<T>>) -> Result<T> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => request.await,
            0 if self.is_done => request.await.and_then(|_| Err(crash())),
            _ => Err(crash()),
        }
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.request(self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.request(self.inner.put_multipart_opts(at, options)).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.request(self.inner.get_opts(at, options)).await
    }

    async fn get_ranges(&self, at: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let bytes: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.request(self.inner.get_ranges(at, ranges)).await
    }

    fn delete_stream(&self, at: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let left = self.left.fetch_sub(1, Ordering::Relaxed);
        let deleted = self.inner.delete_stream(at);
        match left {
            left if left > 0 => deleted,
            0 if self.is_done => deleted.map(|deleted| deleted.and_then(|_| Err(crash()))).boxed(),
            _ => stream::iter([Err(crash())]).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.left.fetch_sub(1, Ordering::Relaxed) {
            left if left > 0 => self.inner.list(prefix),
            _ => stream::iter([Err(crash())]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.request(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.request(self.inner.copy_opts(from, to, options)).await
    }
}

type Model = BTreeMap<u16, Vec<u8>>;

/// The job as the tests see it from outside: what survives a crash.
struct World {
    disk: Arc<InMemory>,
    /// Where state lies that has no room in memory.
    spilled: TempDir,
    random: u64,
    attempt: u32,
    next: CheckpointId,
    /// The state at each barrier.
    models: HashMap<CheckpointId, Model>,
    /// The newest checkpoint whose publication was confirmed.
    confirmed: CheckpointId,
}

struct Subtask {
    states: StateStore,
    table: Handle<KeyedTable<u16, Vec<u8>>>,
    lineage: Lineage,
}

impl World {
    fn new(seed: u64) -> Self {
        let disk = Arc::new(InMemory::new());
        let spilled = tempfile::tempdir().unwrap();
        World { disk, spilled, random: seed, attempt: 0, next: 1, models: HashMap::new(), confirmed: 0 }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random =
            self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) % below
    }

    /// Runs the job until it crashes, or has taken some checkpoints.
    async fn attempt(
        &mut self,
        parallelism: usize,
        checkpoints: u64,
        crash_at: i64,
        is_done: bool,
    ) -> Result<(), Error> {
        self.attempt += 1;
        let store = Faulty::new(Arc::clone(&self.disk), crash_at, is_done);
        let store = CheckpointStore::with_store(Arc::new(store), "root".into(), "test:root");
        store.delete_job(JOB, Attempt(u32::MAX)).await?;
        let found = store.list(JOB).await?;
        let newest = found.first().map_or(0, |found| found.checkpoint);
        assert!(newest >= self.confirmed, "checkpoint {} is lost", self.confirmed);
        let operators = [vec![operator("count", parallelism)]];
        let (mut model, mut subtasks) = (Model::new(), Vec::new());
        for index in 0..parallelism {
            let range = KeyGroupRange::of_subtask(index, parallelism, MAX_PARALLELISM);
            let (mut restored, mut lineage) = (Vec::new(), Lineage::new(index, None));
            if let Some(metadata) = found.first() {
                let plan = RestorePlan::new(metadata, &operators, MAX_PARALLELISM, false).unwrap();
                let heads = RestorePlan::heads(metadata, &store).await?;
                let from = (metadata, &store);
                let mut read = plan.read(from, &heads, &operators[0], index, parallelism).await?;
                restored = read.remove(0).unwrap().states;
                if metadata.vertices[0].subtasks.len() == parallelism {
                    let handle = metadata.vertices[0].subtasks[index].snapshot.clone();
                    lineage = Lineage::new(index, Some((newest, handle)));
                }
            }
            let mut states = StateStore::new(range, restored).noting_changes(lineage.since());
            if self.random(2) == 0 {
                let memory = StateMemory::new(self.random(100_000) as usize);
                states = states.spilling(Spill::new(memory, Box::new(ColdFile::new(self.spilled.path(), 0))));
            }
            let table = states.keyed::<u16, Vec<u8>>("table").unwrap();
            states.get(table).for_each(|key, value| drop(model.insert(*key, value.clone())));
            subtasks.push(Subtask { states, table, lineage });
        }
        if newest > 0 {
            assert_eq!(model, self.models[&newest]);
        }
        let mut retention = Retention::default();
        for metadata in found.into_iter().rev() {
            // More may be left than are retained.
            for old in retention.complete(Arc::new(metadata), 2) {
                store.delete(&old).await?;
            }
        }
        let ids = (0..parallelism).map(|index| SubtaskId { vertex: 0, index });
        retention.begin(ids, (newest > 0).then_some(newest));
        self.next = self.next.max(newest + 1);
        for _ in 0..checkpoints {
            self.change(&mut model, &mut subtasks);
            self.checkpoint(&store, &model, &mut subtasks, &mut retention).await?;
        }
        Ok(())
    }

    fn change(&mut self, model: &mut Model, subtasks: &mut [Subtask]) {
        for _ in 0..self.random(100) {
            let key = self.random(100) as u16;
            let group = key_group(hash_key(&key), MAX_PARALLELISM);
            let subtask = &mut subtasks[owner_of_group(group, MAX_PARALLELISM, subtasks.len())];
            let table = subtask.states.get_mut(subtask.table);
            if self.random(4) == 0 {
                table.remove(hash_key(&key), &key);
                model.remove(&key);
            } else {
                let value = noise(700, self.random(1 << 30));
                table.insert(hash_key(&key), key, value.clone());
                model.insert(key, value);
            }
            subtask.states.keep_within_memory().unwrap();
        }
    }

    async fn checkpoint(
        &mut self,
        store: &CheckpointStore,
        model: &Model,
        subtasks: &mut [Subtask],
        retention: &mut Retention,
    ) -> Result<(), Error> {
        let id = self.next;
        self.next += 1;
        self.models.insert(id, model.clone());
        let dir = SnapshotDir::of_checkpoint(id);
        // Now and then one fails after some have stored their parts.
        let fails = self.random(5) == 0;
        let mut parts: Vec<SubtaskMetadata> = Vec::new();
        for (index, subtask) in subtasks.iter_mut().enumerate() {
            let extent = subtask.lineage.extent();
            let states = subtask.states.open_epoch(id, extent).unwrap();
            let operators = vec![OperatorSnapshot { uid: "count".into(), states, ..Default::default() }];
            let head = SubtaskSnapshot { checkpoint: id, operators, in_flight: Vec::new() };
            let place = SubtaskId { vertex: 0, index };
            let mut writer = store.writer(JOB, &dir, place, Attempt(self.attempt), head)?;
            let mut out = Vec::new();
            while !subtask.states.drain(&mut Budget::new(10, 10_000), &mut out).unwrap() {}
            let chunk = |(state, rows)| Chunk { operator: 0, state, rows };
            writer.add(out.into_iter().map(chunk).collect()).await?;
            let layer = writer.finish(Vec::new()).await?;
            let (written_bytes, since) = (layer.stored_bytes(), subtask.lineage.since());
            let mut snapshot = subtask.lineage.below(extent);
            snapshot.layers.push(layer);
            subtask.lineage.stored(id, snapshot.clone());
            retention.acknowledged(place, since);
            parts.push(SubtaskMetadata { snapshot, committables: Vec::new(), written_bytes, since });
        }
        if fails {
            parts.iter().for_each(|part| retention.give_up(&part.snapshot));
        } else {
            let mut metadata = CheckpointMetadata {
                attempt: Attempt(1),
                version: METADATA_VERSION,
                job: JOB,
                checkpoint: id,
                savepoint: false,
                triggered_at: 0,
                completed_at: 0,
                max_parallelism: MAX_PARALLELISM,
                key_hash_version: KEY_HASH_VERSION,
                is_final: false,
                vertices: vec![VertexMetadata {
                    operators: vec![operator("count", parts.len())],
                    subtasks: parts,
                }],
                sources: Vec::new(),
                location: String::new(),
            };
            metadata.location = store.publish(&metadata).await?;
            self.confirmed = id;
            for old in retention.complete(Arc::new(metadata), 2) {
                store.delete(&old).await?;
            }
            // The first subtask does not hear of each.
            for (index, subtask) in subtasks.iter_mut().enumerate() {
                if index > 0 || self.random(3) > 0 {
                    subtask.lineage.complete(id);
                }
            }
        }
        let none: [&SnapshotHandle; 0] = [];
        let garbage = retention.garbage(none.into_iter());
        store.delete_files(JOB, garbage).await
    }

    /// Checks that nothing is left but the checkpoints retained and what they name.
    async fn check_left(&self) {
        let store = CheckpointStore::with_store(Arc::clone(&self.disk) as _, "root".into(), "test:root");
        store.delete_job(JOB, Attempt(u32::MAX)).await.unwrap();
        let checkpoints = store.list(JOB).await.unwrap();
        assert!(!checkpoints.is_empty() || self.confirmed == 0);
        let named: HashSet<&str> = checkpoints.iter().flat_map(CheckpointMetadata::files).collect();
        let files: Vec<ObjectMeta> = self.disk.list(None).try_collect().await.unwrap();
        let (metadata, files): (Vec<_>, Vec<_>) =
            files.iter().filter_map(|file| file.location.filename()).partition(|name| *name == "_metadata");
        assert_eq!(metadata.len(), checkpoints.len());
        assert_eq!(files.into_iter().collect::<HashSet<_>>(), named);
    }

    fn crashed(result: &Result<(), Error>) -> bool {
        match result {
            Ok(()) => false,
            Err(Error::Store { .. }) => true,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn whatever_request_a_job_crashes_at_it_goes_on_from_its_last_checkpoint_and_leaves_nothing() {
    for is_done in [false, true] {
        for crash_at in 0.. {
            let mut world = World::new(7);
            let crashed = World::crashed(&world.attempt(2, 12, crash_at, is_done).await);
            // A second crash while it recovers, and then a run at another parallelism.
            let again = world.attempt(2, 2, crash_at % 23, is_done).await;
            World::crashed(&again);
            world.attempt(2 + crash_at as usize % 2, 3, i64::MAX, false).await.unwrap();
            world.attempt(2, 1, i64::MAX, false).await.unwrap();
            world.check_left().await;
            if !crashed {
                assert!(crash_at > 50, "the job makes many requests");
                break;
            }
        }
    }
}

#[tokio::test]
async fn a_long_run_needs_no_cleaning() {
    let mut world = World::new(3);
    world.attempt(3, 300, i64::MAX, false).await.unwrap();
    let files: Vec<ObjectMeta> = world.disk.list(None).try_collect().await.unwrap();
    // Two checkpoints retained, of three subtasks with at most nine layers each, and what one more may build on.
    assert!(files.len() < 60, "{} files", files.len());
    world.check_left().await;
}

#[tokio::test]
async fn a_restore_reads_the_key_groups_of_its_subtask_only() {
    let disk = Arc::new(Faulty::new(Arc::new(InMemory::new()), i64::MAX, false));
    let store = CheckpointStore::with_store(Arc::clone(&disk) as _, "root".into(), "test:root");
    // Large enough to be written in parts.
    let taken = take(&store, &SnapshotDir::of_checkpoint(1), 10 << 20).await;
    let total = taken.bytes();
    assert!(total > 40 << 20, "{total} bytes");
    let program = vec![operator("source", 16), operator("count", 16)];
    let plan = RestorePlan::new(&taken, std::slice::from_ref(&program), MAX_PARALLELISM, false).unwrap();
    let heads = RestorePlan::heads(&taken, &store).await.unwrap();
    let mut groups = Vec::new();
    for index in 0..16 {
        disk.read.store(0, Ordering::Relaxed);
        let read = plan.read((&taken, &store), &heads, &program, index, 16).await.unwrap();
        let bytes = disk.read.load(Ordering::Relaxed);
        // A block at each end of the range has groups of others too; and the ends of the files.
        assert!(bytes < total / 16 + (2 << 20), "{bytes} of {total} bytes");
        let states = read.into_iter().flatten().flat_map(|operator| operator.states);
        groups.extend(states.flat_map(|state| state.groups).map(|rows| (rows.first, rows.bytes.len())));
    }
    groups.sort_unstable();
    assert_eq!(groups.len(), 2 * MAX_PARALLELISM as usize);
    assert!(
        groups.chunks(2).enumerate().all(|(group, rows)| rows[0].0 == group as u16 && rows[0] == rows[1])
    );
}

#[tokio::test]
async fn a_file_written_in_parts_is_whole_on_a_disk_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = CheckpointStore::open(directory.path().to_str().unwrap()).unwrap();
    let taken = take(&store, &SnapshotDir::of_checkpoint(1), 10 << 20).await;
    let found = read(&store, &taken, &taken.vertices[0].subtasks[1].snapshot).await.unwrap();
    assert_eq!(found, snapshot(1, &["source", "count"], 1, 2, 10 << 20));
    assert_eq!(store.list(JOB).await.unwrap(), [taken]);
}
