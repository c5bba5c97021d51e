//! Where checkpoints lie: one directory in an object store.
//!
//! ```text
//! <location>/<job>/chk-<id>/_metadata                 written last: with it the checkpoint exists
//! <location>/<job>/chk-<id>/v<vertex>-s<index>-a<attempt>.state
//! <target>/savepoint-<job, 8 digits>-<id>/…           the same two, at a place of the user's choice
//! ```
//!
//! The attempt in the name keeps a late subtask of a former attempt from writing over a file of this one. The store
//! keeps no state of its own, and never tries again by itself: [`Error::kind`] says when the caller should.

use crate::error::{Error, ErrorKind};
use crate::location::{self, Location, join};
use crate::metadata::{self, CheckpointMetadata};
use crate::snapshot_file::{self, INLINE_BYTES, SnapshotHandle};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::snapshot::{OperatorSnapshot, SubtaskSnapshot};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Name of the file that makes a directory a checkpoint.
pub const METADATA_FILE: &str = "_metadata";

/// Most requests to the store that one call has under way.
pub(crate) const PARALLEL_REQUESTS: usize = 16;

/// State up to this size is packed and unpacked where the caller runs; more goes to a blocking thread.
const IN_PLACE_BYTES: usize = 64 * 1024;

/// Where the parts of one checkpoint or savepoint go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotDir {
    /// Number of the checkpoint or savepoint.
    pub checkpoint: CheckpointId,
    /// For a savepoint, the location its directory is made in, as [`CheckpointStore::location`] spells it.
    pub savepoint: Option<String>,
}

impl SnapshotDir {
    /// The directory of a checkpoint.
    pub fn of_checkpoint(checkpoint: CheckpointId) -> Self {
        SnapshotDir { checkpoint, savepoint: None }
    }

    /// The directory of a savepoint below a location of the user's choice.
    pub fn of_savepoint(checkpoint: CheckpointId, target: &str) -> Self {
        SnapshotDir { checkpoint, savepoint: Some(target.to_string()) }
    }
}

/// Where checkpoints lie: a directory in an object store. Clones are cheap.
///
/// ```
/// use hurtig_state::CheckpointStore;
/// let store = CheckpointStore::open("memory:example").unwrap();
/// assert_eq!(store.location(), "memory:example");
/// assert!(CheckpointStore::open("s3://bucket").unwrap_err().to_string().contains("'s3' is not supported"));
/// ```
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    store: Arc<dyn ObjectStore>,
    root: Path,
    url: String,
    is_local: bool,
}

impl CheckpointStore {
    /// Opens a location: a path, `file:///path`, or `memory:name`. Nothing is read or created yet.
    ///
    /// A relative path starts at this process's working directory, so it is to be made absolute
    /// ([`location`](Self::location)) before it is sent to another process. A memory store lives as long as the
    /// process and is shared by all who open its name, so clusters in one test process need a name each.
    ///
    /// # Errors
    /// An unsupported scheme, or a path that cannot be used.
    pub fn open(location: &str) -> Result<Self, Error> {
        let Location { store, root, url, is_local } = location::parse(location)?;
        Ok(CheckpointStore { store, root, url, is_local })
    }

    /// A directory of a given store, for stores that no location names, such as one with faults.
    pub fn with_store(store: Arc<dyn ObjectStore>, root: Path, location: &str) -> Self {
        CheckpointStore { store, root, url: location.to_string(), is_local: false }
    }

    /// The location in its absolute spelling.
    pub fn location(&self) -> &str {
        &self.url
    }

    /// Absolute location of a checkpoint's or savepoint's directory.
    ///
    /// # Errors
    /// The savepoint's target cannot be used.
    pub fn directory(&self, job: JobId, dir: &SnapshotDir) -> Result<String, Error> {
        Ok(self.dir(job, dir)?.url)
    }

    /// Writes one subtask's snapshot; a small one is handed back inside the handle instead.
    ///
    /// # Errors
    /// The store failed, or the snapshot is too large.
    pub async fn write_snapshot(
        &self,
        job: JobId,
        dir: &SnapshotDir,
        subtask: SubtaskId,
        attempt: Attempt,
        snapshot: SubtaskSnapshot,
    ) -> Result<SnapshotHandle, Error> {
        let estimate = snapshot.operators.iter().map(operator_bytes).sum();
        let chunks = off_the_loop(estimate, snapshot_file::FORMAT.what, move || {
            let chunks = snapshot_file::encode(&snapshot);
            drop(snapshot);
            chunks
        })
        .await?;
        let bytes: usize = chunks.iter().map(Bytes::len).sum();
        if bytes < INLINE_BYTES {
            return Ok(SnapshotHandle::Inline(chunks.concat().into()));
        }
        let name = format!("v{}-s{}-a{}.state", subtask.vertex, subtask.index, attempt.0);
        self.dir(job, dir)?.put(&name, chunks, PutMode::Overwrite).await?;
        Ok(SnapshotHandle::File { path: name, bytes: bytes as u64 })
    }

    /// Reads one subtask's snapshot. `base` is the checkpoint's [`location`](CheckpointMetadata::location).
    ///
    /// # Errors
    /// The store failed; the file is missing, damaged or of a newer version.
    pub async fn read_snapshot(&self, base: &str, handle: &SnapshotHandle) -> Result<SubtaskSnapshot, Error> {
        let (file, path) = match handle {
            SnapshotHandle::Inline(bytes) => {
                (Bytes::copy_from_slice(bytes), join(base, &format!("{METADATA_FILE} (inline snapshot)")))
            }
            SnapshotHandle::File { path, bytes } => {
                if !metadata::is_inside(path) {
                    return Err(Error::corrupt(base, format!("it names '{path}', which is not inside it")));
                }
                let dir = self.at(base)?;
                let file = dir.get(path, snapshot_file::FORMAT.limit_bytes).await?;
                let path = join(&dir.url, path);
                if file.len() as u64 != *bytes {
                    let reason = format!("it has {} bytes instead of {bytes}", file.len());
                    return Err(Error::Corrupt { path, reason });
                }
                (file, path)
            }
        };
        let what = snapshot_file::FORMAT.what;
        off_the_loop(file.len(), what, move || snapshot_file::decode(&file, &path)).await
    }

    /// Publishes a completed checkpoint by writing its metadata file, whole or not at all, and returns the absolute
    /// location of its directory. Publishing the same once more does nothing, so it may be tried again.
    ///
    /// It goes to [`CheckpointMetadata::location`] if that is set (for savepoints: [`directory`](Self::directory)),
    /// else to this store's own place for it.
    ///
    /// # Errors
    /// The store failed, or a different checkpoint is published there already.
    pub async fn publish(&self, metadata: &CheckpointMetadata) -> Result<String, Error> {
        let dir = match metadata.location.as_str() {
            "" if metadata.savepoint => self.below(&savepoint_name(metadata.job, metadata.checkpoint)),
            "" => self.below(&checkpoint_name(metadata.job, metadata.checkpoint)),
            location => self.at(location)?,
        };
        let copy = metadata.clone();
        let what = metadata::FORMAT.what;
        let chunks = off_the_loop(usize::MAX, what, move || metadata::encode(&copy)).await?;
        let file = chunks.concat();
        match dir.put(METADATA_FILE, chunks, PutMode::Create).await {
            Err(Error::Conflict { path }) => {
                // A first try may have succeeded although its answer was lost.
                if dir.get(METADATA_FILE, metadata::FORMAT.limit_bytes).await? != file {
                    return Err(Error::Conflict { path });
                }
            }
            result => result?,
        }
        Ok(dir.url)
    }

    /// Reads a checkpoint or savepoint from the location of its directory or of its metadata file.
    ///
    /// # Errors
    /// There is none, it is damaged, or of a newer version; the store failed.
    pub async fn load(location: &str) -> Result<(CheckpointStore, CheckpointMetadata), Error> {
        let trimmed = location.trim_end_matches('/');
        let dir = match trimmed.strip_suffix(METADATA_FILE) {
            Some(dir) if dir.ends_with('/') || dir.is_empty() => {
                Self::open(if dir.is_empty() { "." } else { dir })?
            }
            _ => Self::open(location)?,
        };
        match dir.read_metadata().await {
            Ok(metadata) => Ok((dir, metadata)),
            Err(Error::NotFound { path, .. }) => Err(Error::NotFound { path, remedy: dir.advice().await }),
            Err(error) => Err(error),
        }
    }

    /// Completed checkpoints of a job, newest first. What is damaged, incomplete or of a newer version is left out
    /// with a warning.
    ///
    /// # Errors
    /// The store failed: that may hide the newest checkpoint, so it is not the moment to fall back to an older one.
    pub async fn list(&self, job: JobId) -> Result<Vec<CheckpointMetadata>, Error> {
        let mut ids = self.checkpoint_ids(job).await?;
        ids.sort_unstable_by(|a, b| b.cmp(a));
        let read = ids.into_iter().map(|id| {
            let dir = self.below(&checkpoint_name(job, id));
            async move {
                match dir.read_complete(job, id).await {
                    Ok(metadata) => Ok(metadata),
                    Err(error) if error.kind() == ErrorKind::Retry || error.kind() == ErrorKind::Config => {
                        Err(error)
                    }
                    Err(error) => {
                        tracing::warn!(%job, checkpoint = id, "checkpoint is left out: {}", describe(&error));
                        Ok(None)
                    }
                }
            }
        });
        let found: Vec<_> = stream::iter(read).buffered(PARALLEL_REQUESTS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Deletes a checkpoint that the system took in this store: first its metadata, then the rest.
    ///
    /// # Errors
    /// It is a savepoint, or a copy at another place: those are the user's. The store failed; the call may be
    /// repeated.
    pub async fn delete(&self, checkpoint: &CheckpointMetadata) -> Result<(), Error> {
        let dir = self.below(&checkpoint_name(checkpoint.job, checkpoint.checkpoint));
        let location = &checkpoint.location;
        if checkpoint.savepoint {
            let reason = "savepoints belong to the user";
            return Err(Error::NotOurs { location: location.clone(), reason });
        }
        if !location.is_empty() && *location != dir.url {
            let reason = "it does not lie where this job keeps its checkpoints";
            return Err(Error::NotOurs { location: location.clone(), reason });
        }
        dir.remove_file(&dir.root.clone().join(METADATA_FILE)).await?;
        dir.remove_all().await
    }

    /// Deletes what a job left of checkpoints that were never published. Published ones stay. To be called when
    /// nothing of the job runs any more, or a checkpoint under way loses its files.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn delete_job(&self, job: JobId) -> Result<(), Error> {
        for id in self.checkpoint_ids(job).await? {
            let dir = self.below(&checkpoint_name(job, id));
            if !dir.has(METADATA_FILE).await? {
                dir.remove_all().await?;
            }
        }
        if self.is_local {
            // Fails while checkpoints remain in it, as it should.
            let path = join(&self.url, &job.to_string());
            let _ = off_the_loop(usize::MAX, "directory", move || {
                std::fs::remove_dir(&path).map_err(|error| Error::of_io("delete", path, &error))
            })
            .await;
        }
        Ok(())
    }

    fn below(&self, path: &str) -> CheckpointStore {
        let mut below = self.clone();
        below.root.extend(path.split('/').filter(|part| !part.is_empty()));
        below.url = join(&self.url, path);
        below
    }

    /// A location as a directory of this store if it lies in it, else of its own.
    fn at(&self, location: &str) -> Result<CheckpointStore, Error> {
        match location.strip_prefix(self.url.trim_end_matches('/')) {
            Some("") => Ok(self.clone()),
            Some(rest) if rest.strip_prefix('/').is_some_and(metadata::is_inside) => {
                Ok(self.below(&rest[1..]))
            }
            _ => Self::open(location),
        }
    }

    fn dir(&self, job: JobId, dir: &SnapshotDir) -> Result<CheckpointStore, Error> {
        match &dir.savepoint {
            None => Ok(self.below(&checkpoint_name(job, dir.checkpoint))),
            Some(target) => Ok(self.at(target)?.below(&savepoint_name(job, dir.checkpoint))),
        }
    }

    async fn put(&self, name: &str, chunks: Vec<Bytes>, mode: PutMode) -> Result<(), Error> {
        let path = join(&self.url, name);
        let payload: PutPayload = chunks.into_iter().collect();
        match self.store.put_opts(&self.root.clone().join(name), payload, mode.into()).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Err(Error::Conflict { path })
            }
            Err(error) => Err(Error::of_store("write", &path, error)),
        }
    }

    async fn get(&self, name: &str, limit_bytes: u64) -> Result<Bytes, Error> {
        let path = join(&self.url, name);
        let mut object = self.root.clone();
        object.extend(name.split('/'));
        let found = self.store.get(&object).await.map_err(|error| Error::of_store("read", &path, error))?;
        if found.meta.size > limit_bytes {
            return Err(Error::corrupt(&path, "it is longer than any valid file"));
        }
        found.bytes().await.map_err(|error| Error::of_store("read", &path, error))
    }

    async fn has(&self, name: &str) -> Result<bool, Error> {
        match self.store.head(&self.root.clone().join(name)).await {
            Ok(_) => Ok(true),
            Err(error) => match Error::of_store("read", &join(&self.url, name), error) {
                Error::NotFound { .. } => Ok(false),
                error => Err(error),
            },
        }
    }

    async fn read_metadata(&self) -> Result<CheckpointMetadata, Error> {
        let file = self.get(METADATA_FILE, metadata::FORMAT.limit_bytes).await?;
        let path = join(&self.url, METADATA_FILE);
        let what = metadata::FORMAT.what;
        let mut metadata = off_the_loop(file.len(), what, move || metadata::decode(&file, &path)).await?;
        metadata.location = self.url.clone();
        Ok(metadata)
    }

    /// Reads the metadata and checks that the files it names are there in full; `None` if it was never published.
    async fn read_complete(
        &self,
        job: JobId,
        checkpoint: CheckpointId,
    ) -> Result<Option<CheckpointMetadata>, Error> {
        let metadata = match self.read_metadata().await {
            Err(Error::NotFound { .. }) => return Ok(None),
            result => result?,
        };
        if (metadata.job, metadata.checkpoint) != (job, checkpoint) {
            let reason = format!("it is checkpoint {} of job {}", metadata.checkpoint, metadata.job);
            return Err(Error::corrupt(&self.url, reason));
        }
        let objects: Vec<_> = self
            .store
            .list(Some(&self.root))
            .try_collect()
            .await
            .map_err(|error| Error::of_store("list", &self.url, error))?;
        let sizes: HashMap<Path, u64> =
            objects.into_iter().map(|object| (object.location, object.size)).collect();
        for subtask in metadata.vertices.iter().flat_map(|vertex| &vertex.subtasks) {
            if let SnapshotHandle::File { path, bytes } = &subtask.snapshot {
                let mut object = self.root.clone();
                object.extend(path.split('/'));
                let reason = match sizes.get(&object) {
                    Some(size) if size == bytes => continue,
                    Some(size) => format!("it has {size} bytes instead of {bytes}"),
                    None => "it is missing".to_string(),
                };
                return Err(Error::corrupt(&join(&self.url, path), reason));
            }
        }
        Ok(Some(metadata))
    }

    async fn checkpoint_ids(&self, job: JobId) -> Result<Vec<CheckpointId>, Error> {
        let dir = self.below(&job.to_string());
        let names = dir.directories().await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("chk-")?.parse().ok()).collect())
    }

    async fn directories(&self) -> Result<Vec<String>, Error> {
        match self.store.list_with_delimiter(Some(&self.root)).await {
            Ok(found) => Ok(found
                .common_prefixes
                .iter()
                .filter_map(|path| Some(path.filename()?.to_string()))
                .collect()),
            Err(error) => match Error::of_store("list", &self.url, error) {
                Error::NotFound { .. } => Ok(Vec::new()),
                error => Err(error),
            },
        }
    }

    /// What to try instead of a directory that is no checkpoint.
    async fn advice(&self) -> String {
        let mut found = self.directories().await.unwrap_or_default();
        found.retain(|name| name.starts_with("chk-") || name.starts_with("savepoint-"));
        // Numbers of the same length sort as text does.
        found.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
        match found.last() {
            Some(name) => {
                format!("name one of the checkpoints below it, such as '{}'", join(&self.url, name))
            }
            None => "name the directory of a completed checkpoint or savepoint".to_string(),
        }
    }

    async fn remove_file(&self, path: &Path) -> Result<(), Error> {
        match self.store.delete(path).await {
            Ok(()) => Ok(()),
            Err(error) => match Error::of_store("delete", &join(&self.url, METADATA_FILE), error) {
                Error::NotFound { .. } => Ok(()),
                error => Err(error),
            },
        }
    }

    async fn remove_all(&self) -> Result<(), Error> {
        if self.is_local {
            // The store does not show files that a killed process was writing, and leaves directories behind.
            let path = self.url.clone();
            let removal = off_the_loop(usize::MAX, "directory", move || {
                std::fs::remove_dir_all(&path).map_err(|error| Error::of_io("delete", path, &error))
            });
            return match removal.await {
                Err(Error::NotFound { .. }) => Ok(()),
                result => result,
            };
        }
        let found: Vec<_> = self
            .store
            .list(Some(&self.root))
            .try_collect()
            .await
            .map_err(|error| Error::of_store("list", &self.url, error))?;
        let removals = found.into_iter().map(|object| {
            let dir = self.clone();
            async move { dir.remove_file(&object.location).await }
        });
        stream::iter(removals).buffer_unordered(PARALLEL_REQUESTS).try_collect().await
    }
}

fn checkpoint_name(job: JobId, checkpoint: CheckpointId) -> String {
    format!("{job}/chk-{checkpoint}")
}

fn savepoint_name(job: JobId, checkpoint: CheckpointId) -> String {
    format!("savepoint-{}-{checkpoint}", job.short())
}

fn operator_bytes(operator: &OperatorSnapshot) -> usize {
    operator.bytes() + operator.committables.iter().map(|bytes| bytes.len()).sum::<usize>()
}

/// Runs work on bytes: little of it here and now, much of it on a thread that may block.
async fn off_the_loop<T, F>(bytes: usize, what: &'static str, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    if bytes <= IN_PLACE_BYTES {
        return work();
    }
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal { action: "process", what, source: error.into() }),
    }
}
