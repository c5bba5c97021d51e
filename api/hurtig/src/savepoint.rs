//! Savepoints outside jobs: their state is read, changed, and made from nothing, so that a job can begin with what
//! another system knows, or go on with what was put right.
//!
//! A savepoint is read with the types that its program has declared. What is not looked at is carried over as it is, such
//! as timers, windows, and positions of sources. What a job gets is a savepoint of its own; the one that was read is not
//! changed. One operator's state is in memory at a time.
//!
//! ```
//! use hurtig::savepoint::{OperatorState, Savepoint, SavepointWriter};
//! # let folder = std::env::temp_dir().join(format!("hurtig-doc-{}", std::process::id()));
//! # let folder = folder.to_str().unwrap();
//! # hurtig::runtime()?.block_on(async {
//! // A job whose operator with the uid "counts" declares `ctx.value_state::<u64>("count")` can start from this.
//! let mut counts = OperatorState::<String>::new("counts", 128);
//! let count = counts.value_state::<u64>("count")?;
//! for (word, n) in [("one", 1), ("two", 2)] {
//!     count.set(&mut counts.at(&word.to_string()), n);
//! }
//! let mut writer = SavepointWriter::new(128);
//! writer.put(counts).await?;
//! let location = writer.write(folder).await?;
//!
//! let savepoint = Savepoint::load(&location).await?;
//! let mut counts = savepoint.operator::<String>("counts").await?;
//! let count = counts.value_state::<u64>("count")?;
//! assert_eq!(count.get(&mut counts.at(&"two".to_string())), Some(&2));
//! let mut total = 0;
//! count.for_each(counts.states(), |_: &String, n| total += n);
//! assert_eq!(total, 3);
//!
//! // Another one, in which one of them is different.
//! count.set(&mut counts.at(&"two".to_string()), 3);
//! let mut changed = savepoint.change().await?;
//! changed.put(counts).await?;
//! changed.write(folder).await?;
//! # std::fs::remove_dir_all(folder)?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
//! ```

use hurtig_dataflow::Key;
use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::error::Error as StateError;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_dataflow::key::{KEY_HASH_VERSION, KeyGroupRange, hash_key};
use hurtig_dataflow::snapshot::{OperatorSnapshot, RowOp, StateKind, StateSnapshot, SubtaskSnapshot};
use hurtig_dataflow::state::{
    Handle, ItemList, KeyScope, KeyedTable, ListState, MapState, Migration, Scope, StateStore, StateValue,
    ValueState,
};
use hurtig_dataflow::time::{MIN_TIMESTAMP, Timestamp};
use hurtig_runtime::clock::Clock;
use hurtig_state::metadata::METADATA_VERSION;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, Heads, RestorePlan, SnapshotDir, SnapshotHandle, SourceMetadata,
    SubtaskMetadata, VertexMetadata,
};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use thiserror::Error as ThisError;

/// Why a savepoint cannot be read or written.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum SavepointError {
    /// Its files cannot be read or written, or are of another version.
    #[error(transparent)]
    Store(#[from] hurtig_state::Error),
    /// A state does not have the type that was asked for.
    #[error(transparent)]
    State(#[from] StateError),
    /// It has no such operator.
    #[error("{location} has no operator '{uid}', but {known}")]
    UnknownOperator {
        /// The savepoint.
        location: String,
        /// The uid asked for.
        uid: String,
        /// Those there are.
        known: String,
    },
    /// It is a checkpoint with records on their way between operators, which belong to no state.
    #[error("{location} holds records on their way to operators: take a savepoint, which holds none")]
    InFlight {
        /// The checkpoint.
        location: String,
    },
    /// There is a savepoint where this one would be.
    #[error("there is a savepoint at {location} already: write to another folder")]
    Exists {
        /// Where.
        location: String,
    },
    /// State of another number of key groups.
    #[error("operator '{uid}' has {found} key groups, the savepoint {expected}: make both with the same")]
    MaxParallelism {
        /// The operator.
        uid: String,
        /// Its key groups.
        found: u32,
        /// Those of the savepoint.
        expected: u32,
    },
}

/// A savepoint or checkpoint that is read.
#[derive(Debug)]
pub struct Savepoint {
    store: CheckpointStore,
    metadata: CheckpointMetadata,
}

impl Savepoint {
    /// Opens the savepoint or checkpoint at a location.
    ///
    /// # Errors
    /// There is none, or it is damaged or of another version.
    pub async fn load(location: &str) -> Result<Self, SavepointError> {
        let (store, metadata) = CheckpointStore::load(location).await?;
        Ok(Savepoint { store, metadata })
    }

    /// The operators there are.
    pub fn operators(&self) -> impl Iterator<Item = &OperatorId> {
        self.metadata.operators()
    }

    /// Number of key groups.
    pub fn max_parallelism(&self) -> u32 {
        self.metadata.max_parallelism
    }

    /// Reads the state of an operator whose keys are of a type.
    ///
    /// # Errors
    /// There is no such operator, or its files cannot be read.
    pub async fn operator<K: Key>(&self, uid: &str) -> Result<OperatorState<K>, SavepointError> {
        let snapshot = self.read(uid).await?;
        Ok(OperatorState::of(snapshot, self.metadata.max_parallelism))
    }

    async fn heads(&self) -> Result<Heads, SavepointError> {
        let heads = RestorePlan::heads(&self.metadata, &self.store).await?;
        match heads.in_flight().is_empty() {
            true => Ok(heads),
            false => Err(SavepointError::InFlight { location: self.metadata.location.clone() }),
        }
    }

    async fn read(&self, uid: &str) -> Result<OperatorSnapshot, SavepointError> {
        let Some(operator) = self.operators().find(|operator| operator.uid == uid).cloned() else {
            let known: Vec<&str> = self.operators().map(|operator| operator.uid.as_str()).collect();
            let (location, uid) = (self.metadata.location.clone(), uid.to_string());
            return Err(SavepointError::UnknownOperator { location, uid, known: known.join(", ") });
        };
        let vertices = [vec![operator]];
        let plan = RestorePlan::new(&self.metadata, &vertices, self.metadata.max_parallelism, true)?;
        let heads = self.heads().await?;
        let from = (&self.metadata, &self.store);
        let read = plan.read(from, &heads, &vertices[0], 0, 1).await?;
        Ok(read.into_iter().flatten().next().unwrap_or_default())
    }

    /// Begins another savepoint with all that is in this one.
    ///
    /// # Errors
    /// It is a checkpoint with records on their way.
    pub async fn change(&self) -> Result<SavepointWriter<'_>, SavepointError> {
        self.heads().await?;
        let operators = self.operators().map(|operator| (operator.uid.clone(), Content::Kept));
        Ok(SavepointWriter {
            former: Some(self),
            max_parallelism: self.metadata.max_parallelism,
            operators: operators.collect(),
            now: Clock::new().now(),
        })
    }
}

/// The state of an operator outside a job.
pub struct OperatorState<K> {
    uid: String,
    watermark: Timestamp,
    has_ended: bool,
    max_parallelism: u32,
    states: StateStore,
    key: PhantomData<fn() -> K>,
}

impl<K: Key> OperatorState<K> {
    /// An operator without any state, for a job with so many key groups (`parallelism.max`).
    pub fn new(uid: &str, max_parallelism: u32) -> Self {
        let watermark = MIN_TIMESTAMP;
        Self::of(OperatorSnapshot { uid: uid.to_string(), watermark, ..Default::default() }, max_parallelism)
    }

    fn of(snapshot: OperatorSnapshot, max_parallelism: u32) -> Self {
        let OperatorSnapshot { uid, watermark, ended, states, .. } = snapshot;
        let states = StateStore::new(KeyGroupRange::all(max_parallelism), states);
        OperatorState { uid, watermark, has_ended: ended, max_parallelism, states, key: PhantomData }
    }

    /// Says which versions the type of a state has had, before it is declared.
    pub fn migrate<V: StateValue>(&mut self, name: &str, migration: Migration<V>) {
        self.states.migrate(name, migration);
    }

    /// Declares what the program declares by the same method of its context.
    ///
    /// # Errors
    /// The name is taken, or the savepoint's state is of another type.
    pub fn value_state<V: StateValue>(&mut self, name: &str) -> Result<ValueState<V>, SavepointError> {
        Ok(ValueState::declare::<K>(&mut self.states, name, None)?)
    }

    /// As [`value_state`](OperatorState::value_state), for lists.
    ///
    /// # Errors
    /// As there.
    pub fn list_state<V: StateValue>(&mut self, name: &str) -> Result<ListState<V>, SavepointError> {
        Ok(ListState::declare::<K>(&mut self.states, name, None)?)
    }

    /// As [`value_state`](OperatorState::value_state), for maps.
    ///
    /// # Errors
    /// As there.
    pub fn map_state<M: Key, V: StateValue>(&mut self, name: &str) -> Result<MapState<M, V>, SavepointError> {
        Ok(MapState::declare::<K>(&mut self.states, name, None)?)
    }

    /// Declares a table of values by key, as operators of hurtig's own have them, such as `reduce` and `count`.
    ///
    /// # Errors
    /// As [`value_state`](OperatorState::value_state).
    pub fn table<V: StateValue>(&mut self, name: &str) -> Result<Handle<KeyedTable<K, V>>, SavepointError> {
        Ok(self.states.keyed(name)?)
    }

    /// Declares a list that belongs to no key, dealt out evenly among subtasks.
    ///
    /// # Errors
    /// As [`value_state`](OperatorState::value_state).
    pub fn items<V: StateValue>(&mut self, name: &str) -> Result<Handle<ItemList<V>>, SavepointError> {
        Ok(self.states.list(name)?)
    }

    /// What is declared, to read all of it.
    pub fn states(&self) -> &StateStore {
        &self.states
    }

    /// What is declared, to change it.
    pub fn states_mut(&mut self) -> &mut StateStore {
        &mut self.states
    }

    /// Where states have a key: what handles are used with. A value that is set here was set now.
    pub fn at(&mut self, key: &K) -> AtKey<'_, K> {
        AtKey { states: &mut self.states, hash: hash_key(key), key: key.clone(), now: Clock::new().now() }
    }

    fn snapshot(mut self) -> Result<OperatorSnapshot, SavepointError> {
        let mut states = self.states.snapshot()?;
        states.append(&mut self.states.take_unclaimed());
        let (uid, watermark) = (self.uid, self.watermark);
        Ok(OperatorSnapshot { uid, watermark, ended: self.has_ended, states, committables: Vec::new() })
    }
}

/// A key of an operator's state.
pub struct AtKey<'a, K> {
    states: &'a mut StateStore,
    key: K,
    hash: u64,
    now: Timestamp,
}

impl<K: Key> KeyScope for AtKey<'_, K> {
    type Key = K;

    fn scope(&mut self) -> Scope<'_, K> {
        Scope::new(self.states, &self.key, self.hash, self.now)
    }
}

/// What an operator of a new savepoint has.
enum Content {
    /// What it has in the one that was read.
    Kept,
    Changed(OperatorSnapshot),
}

/// A savepoint on its way: operators with their states.
pub struct SavepointWriter<'a> {
    former: Option<&'a Savepoint>,
    max_parallelism: u32,
    operators: BTreeMap<String, Content>,
    now: Timestamp,
}

impl SavepointWriter<'_> {
    /// One without operators, for a job with so many key groups.
    pub fn new(max_parallelism: u32) -> Self {
        SavepointWriter { former: None, max_parallelism, operators: BTreeMap::new(), now: Clock::new().now() }
    }

    /// Adds an operator, or takes the place of the one with its uid.
    ///
    /// # Errors
    /// A value that cannot be serialised; another number of key groups.
    pub async fn put<K: Key>(&mut self, operator: OperatorState<K>) -> Result<(), SavepointError> {
        if operator.max_parallelism != self.max_parallelism {
            let (uid, found) = (operator.uid.clone(), operator.max_parallelism);
            return Err(SavepointError::MaxParallelism { uid, found, expected: self.max_parallelism });
        }
        let uid = operator.uid.clone();
        self.operators.insert(uid, Content::Changed(operator.snapshot()?));
        Ok(())
    }

    /// Leaves an operator out. Returns whether there was one.
    pub fn remove(&mut self, uid: &str) -> bool {
        self.operators.remove(uid).is_some()
    }

    /// Writes it into a folder of its own in a given one, and returns where.
    ///
    /// # Errors
    /// Files cannot be read or written, or there is one of the same name: one savepoint is changed into a folder once.
    pub async fn write(self, target: &str) -> Result<String, SavepointError> {
        let store = CheckpointStore::open(target)?;
        let former = self.former.map(|savepoint| &savepoint.metadata);
        #[allow(clippy::disallowed_methods, reason = "a name that differs from all others")]
        let job = former.map_or_else(|| JobId(rand::random()), |former| former.job);
        let checkpoint = former.map_or(1, |former| former.checkpoint + 1);
        let dir = SnapshotDir::of_savepoint(checkpoint, store.location());
        let location = store.directory(job, &dir)?;
        if CheckpointStore::load(&location).await.is_ok() {
            return Err(SavepointError::Exists { location });
        }
        let mut vertices = Vec::new();
        for (uid, content) in self.operators {
            let snapshot = match (content, self.former) {
                (Content::Changed(snapshot), _) => snapshot,
                (Content::Kept, Some(savepoint)) => savepoint.read(&uid).await?,
                (Content::Kept, None) => continue,
            };
            let known = former.and_then(|former| former.operators().find(|operator| operator.uid == uid));
            let name = known.map_or_else(|| uid.clone(), |operator| operator.name.clone());
            let operators = vec![OperatorId { uid: uid.clone(), name, parallelism: 1 }];
            let id = SubtaskId { vertex: vertices.len(), index: 0 };
            let snapshot = write_snapshot(&store, job, &dir, id, snapshot).await?;
            let committables = former.map(|former| committables(former, &uid)).unwrap_or_default();
            let written_bytes = snapshot.stored_bytes();
            let subtask = SubtaskMetadata { snapshot, committables, written_bytes, since: 0 };
            vertices.push(VertexMetadata { operators, subtasks: vec![subtask] });
        }
        let kept = |source: &&SourceMetadata| {
            vertices.iter().flat_map(|vertex| &vertex.operators).any(|operator| operator.uid == source.uid)
        };
        let sources = former.map(|former| former.sources.iter().filter(kept).cloned().collect());
        let metadata = CheckpointMetadata {
            version: METADATA_VERSION,
            job,
            checkpoint,
            attempt: Attempt::default(),
            savepoint: true,
            triggered_at: self.now,
            completed_at: self.now,
            max_parallelism: self.max_parallelism,
            key_hash_version: KEY_HASH_VERSION,
            is_final: former.is_some_and(|former| former.is_final),
            sources: sources.unwrap_or_default(),
            vertices,
            location,
        };
        Ok(store.publish(&metadata).await?)
    }
}

/// What the sink of a savepoint asks to have published.
fn committables(former: &CheckpointMetadata, uid: &str) -> Vec<(String, Vec<serde_bytes::ByteBuf>)> {
    let subtasks = former.vertices.iter().flat_map(|vertex| &vertex.subtasks);
    let all = subtasks.flat_map(|subtask| &subtask.committables);
    all.filter(|(sink, _)| sink == uid).cloned().collect()
}

/// Writes an operator's state in as many layers as its rows have been in: within one, what is deleted goes before what is
/// put, whatever their order.
async fn write_snapshot(
    store: &CheckpointStore,
    job: JobId,
    dir: &SnapshotDir,
    id: SubtaskId,
    mut snapshot: OperatorSnapshot,
) -> Result<SnapshotHandle, SavepointError> {
    let has_rows = |state: &StateSnapshot| matches!(state.kind, StateKind::Keyed | StateKind::Broadcast);
    let mut layers: Vec<Vec<Chunk>> = vec![Vec::new()];
    for (at, state) in snapshot.states.iter_mut().enumerate().filter(|(_, state)| has_rows(state)) {
        state.is_whole = false;
        let (mut layer, mut last) = (0, RowOp::Drop);
        for rows in std::mem::take(&mut state.groups) {
            if rows.op < last {
                layer += 1;
                layers.resize_with(layers.len().max(layer + 1), Vec::new);
            }
            last = rows.op;
            layers[layer].push(Chunk { operator: 0, state: at, rows });
        }
    }
    let mut handle = SnapshotHandle::default();
    for (number, chunks) in layers.into_iter().enumerate() {
        let operators = vec![snapshot.clone()];
        let head = SubtaskSnapshot { checkpoint: dir.checkpoint, operators, in_flight: Vec::new() };
        // Files are told apart by their attempt.
        let mut writer = store.writer(job, dir, id, Attempt(number as u32), head)?;
        writer.add(chunks).await?;
        handle.layers.push(writer.finish(Vec::new()).await?);
    }
    Ok(handle)
}
