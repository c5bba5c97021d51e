//! Where checkpoints lie: one directory in an object store.
//!
//! ```text
//! <location>/<job>/masters/<20 digits>                who of the job's masters came last
//! <location>/<job>/chk-<id>/_metadata                 written last: with it the checkpoint exists
//! <location>/<job>/shared/c<id>-v<vertex>-s<index>-a<attempt>.state
//! <target>/savepoint-<job, 8 digits>-<id>/…           the same two side by side, at a place of the user's choice
//! ```
//!
//! A checkpoint names the files it has written and those of earlier checkpoints that it builds on; they go when no
//! checkpoint names them ([`Retention`](crate::Retention)). A savepoint has all of its own.
//!
//! The attempt in the name keeps a late subtask of a former attempt from writing over a file of this one. The store
//! keeps no state of its own, and never tries again by itself: [`Error::kind`] says when the caller should.

use crate::directory::{Directory, PARALLEL_REQUESTS, is_file_name, join, off_the_loop};
use crate::error::{Error, ErrorKind};
use crate::local_copies::LocalCopies;
use crate::location;
use crate::metadata::{self, CheckpointMetadata};
use crate::reader;
use crate::snapshot_file::{Layer, SnapshotHandle};
use crate::writer::SnapshotWriter;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::snapshot::SubtaskSnapshot;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Name of the file that makes a directory a checkpoint.
pub const METADATA_FILE: &str = "_metadata";

/// Folder of the files of a job's checkpoints.
const SHARED: &str = "shared";

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
/// assert!(CheckpointStore::open("ftp://host").unwrap_err().to_string().contains("'ftp' is not supported"));
/// ```
#[derive(Clone, Debug)]
pub struct CheckpointStore {
    root: Directory,
    copies: Option<LocalCopies>,
}

impl CheckpointStore {
    /// Opens a location: a path, `file:///path`, `memory:name`, or, with the feature `s3`, `s3://bucket/path`. Nothing is
    /// read or created yet.
    ///
    /// A relative path starts at this process's working directory, so it is to be made absolute
    /// ([`location`](Self::location)) before it is sent to another process. A memory store lives as long as the
    /// process and is shared by all who open its name, so clusters in one test process need a name each.
    ///
    /// # Errors
    /// An unsupported scheme, or a path that cannot be used.
    pub fn open(location: &str) -> Result<Self, Error> {
        Ok(CheckpointStore { root: location::parse(location)?, copies: None })
    }

    /// A directory of a given store, for stores that no location names, such as one with faults.
    pub fn with_store(store: Arc<dyn ObjectStore>, root: Path, location: &str) -> Self {
        let root = Directory { store, root, url: location.to_string(), is_local: false };
        CheckpointStore { root, copies: None }
    }

    /// Keeps copies of what this process writes, and reads those where it can.
    #[must_use]
    pub fn with_copies(mut self, copies: Option<LocalCopies>) -> Self {
        self.copies = copies;
        self
    }

    /// Its copies, if it keeps any.
    pub fn copies(&self) -> Option<&LocalCopies> {
        self.copies.as_ref()
    }

    /// Finds out whether checkpoints can be stored here, by storing something and deleting it.
    ///
    /// # Errors
    /// They cannot, and why.
    pub async fn probe(&self) -> Result<(), Error> {
        let name = format!("probe-{}", std::process::id());
        self.root.put(&name, vec![Bytes::from_static(b"hurtig")], PutMode::Overwrite).await?;
        self.root.remove_file(&name).await
    }

    /// The location in its absolute spelling.
    pub fn location(&self) -> &str {
        &self.root.url
    }

    /// Absolute location of a checkpoint's or savepoint's directory.
    ///
    /// # Errors
    /// The savepoint's target cannot be used.
    pub fn directory(&self, job: JobId, dir: &SnapshotDir) -> Result<String, Error> {
        Ok(self.snapshot_dir(job, dir)?.url)
    }

    /// Begins to write one subtask's snapshot, given without its rows.
    ///
    /// # Errors
    /// The savepoint's target cannot be used.
    pub fn writer(
        &self,
        job: JobId,
        dir: &SnapshotDir,
        subtask: SubtaskId,
        attempt: Attempt,
        snapshot: SubtaskSnapshot,
    ) -> Result<SnapshotWriter, Error> {
        let (id, SubtaskId { vertex, index }) = (dir.checkpoint, subtask);
        let name = format!("c{id}-v{vertex}-s{index}-a{}.state", attempt.0);
        let files = match &dir.savepoint {
            None => self.root.below(&shared_name(job)),
            Some(_) => self.snapshot_dir(job, dir)?,
        };
        // Savepoints are not what a job goes on from when it fails.
        let copies = self.copies.as_ref().filter(|_| dir.savepoint.is_none());
        Ok(SnapshotWriter::new(files, copies.map(|copies| copies.directory().clone()), name, snapshot))
    }

    /// Reads one subtask's snapshot of a checkpoint: all layers, as one. Of rows it reads those of the key groups in a
    /// range, and those without key groups if `unkeyed`.
    ///
    /// # Errors
    /// The store failed; a file is missing, damaged or of another version.
    pub async fn read_snapshot(
        &self,
        checkpoint: &CheckpointMetadata,
        handle: &SnapshotHandle,
        groups: Option<KeyGroupRange>,
        unkeyed: bool,
    ) -> Result<SubtaskSnapshot, Error> {
        let directory = files_directory(&self.root.at(&checkpoint.location)?, checkpoint.savepoint)?;
        // Rows that are not wanted need not be known of the layers below the last.
        let skipped = match groups.is_none() && !unkeyed {
            true => handle.layers.len().saturating_sub(1),
            false => 0,
        };
        let mut sum = SubtaskSnapshot::default();
        for layer in handle.layers.iter().skip(skipped) {
            let copy = match &self.copies {
                Some(copies) if !checkpoint.savepoint => copies.read(layer, groups, unkeyed).await,
                _ => None,
            };
            let read = match copy {
                Some(read) => read,
                None => reader::read_layer(&directory, &checkpoint.location, layer, groups, unkeyed).await?,
            };
            sum.add(read);
        }
        Ok(sum)
    }

    /// Publishes a completed checkpoint by writing its metadata file, whole or not at all, and returns the absolute
    /// location of its directory. Publishing the same once more does nothing, so it may be tried again.
    ///
    /// It goes to [`CheckpointMetadata::location`] if that is set (for savepoints: [`directory`](Self::directory)),
    /// else to this store's own place for it.
    ///
    /// # Errors
    /// The store failed, a different checkpoint is published there already, or the metadata contradicts itself.
    pub async fn publish(&self, metadata: &CheckpointMetadata) -> Result<String, Error> {
        let directory = match metadata.location.as_str() {
            "" if metadata.savepoint => self.root.below(&savepoint_name(metadata.job, metadata.checkpoint)),
            "" => self.root.below(&checkpoint_name(metadata.job, metadata.checkpoint)),
            location => self.root.at(location)?,
        };
        let copy = metadata.clone();
        let work = move || metadata::encode(&copy);
        let chunks =
            off_the_loop(metadata.estimated_bytes(), "serialise", metadata::FORMAT.what, work).await?;
        match directory.put(METADATA_FILE, chunks.clone(), PutMode::Create).await {
            Err(Error::Conflict { path }) => {
                // A first try may have succeeded although its answer was lost.
                let published = directory.get(METADATA_FILE, metadata::FORMAT.limit_bytes).await?;
                if published != chunks.concat() {
                    return Err(Error::Conflict { path });
                }
            }
            result => result?,
        }
        Ok(directory.url)
    }

    /// Reads a checkpoint or savepoint from the location of its directory or of its metadata file.
    ///
    /// # Errors
    /// There is none, it is damaged, or of a newer version; the store failed.
    pub async fn load(location: &str) -> Result<(CheckpointStore, CheckpointMetadata), Error> {
        let trimmed = location.trim_end_matches('/');
        let root = match trimmed.strip_suffix(METADATA_FILE) {
            Some("") => location::parse(".")?,
            Some(directory) if directory.ends_with('/') => location::parse(directory)?,
            _ => location::parse(location)?,
        };
        match read_metadata(&root).await {
            Ok(metadata) => Ok((CheckpointStore { root, copies: None }, metadata)),
            Err(Error::NotFound { path, .. }) => Err(Error::NotFound { path, remedy: advice(&root).await }),
            Err(error) => Err(error),
        }
    }

    /// Completed checkpoints of a job, newest first. What is damaged, incomplete or of a newer version is left out
    /// with a warning.
    ///
    /// # Errors
    /// The store failed: that may hide the newest checkpoint, so it is not the moment to fall back to an older one.
    pub async fn list(&self, job: JobId) -> Result<Vec<CheckpointMetadata>, Error> {
        let reads = self.checkpoint_ids(job).await?.into_iter().map(|id| {
            let directory = self.root.below(&checkpoint_name(job, id));
            async move {
                match read_complete(&directory, job, id).await {
                    Err(error) if !matches!(error.kind(), ErrorKind::Retry | ErrorKind::Config) => {
                        tracing::warn!(%job, checkpoint = id, "checkpoint is left out: {}", describe(&error));
                        Ok(None)
                    }
                    result => result,
                }
            }
        });
        let found: Vec<_> = stream::iter(reads).buffer_unordered(PARALLEL_REQUESTS).try_collect().await?;
        let mut found: Vec<_> = found.into_iter().flatten().collect();
        found.sort_unstable_by_key(|checkpoint| std::cmp::Reverse(checkpoint.age()));
        Ok(found)
    }

    /// Deletes the metadata of a checkpoint that the system took in this store: it is no checkpoint any more. Its files
    /// stay.
    ///
    /// # Errors
    /// It is a savepoint, or a copy at another place: those are the user's. The store failed; the call may be
    /// repeated.
    pub async fn delete(&self, checkpoint: &CheckpointMetadata) -> Result<(), Error> {
        let directory = self.root.below(&checkpoint_name(checkpoint.job, checkpoint.checkpoint));
        let is_elsewhere = !checkpoint.location.is_empty() && checkpoint.location != directory.url;
        if checkpoint.savepoint || is_elsewhere {
            let reason = match checkpoint.savepoint {
                true => "savepoints belong to the user",
                false => "it does not lie where this job keeps its checkpoints",
            };
            return Err(Error::NotOurs { location: checkpoint.location.clone(), reason });
        }
        directory.remove_file(METADATA_FILE).await?;
        directory.remove_all().await
    }

    /// Deletes files of a job's checkpoints that no checkpoint needs any more.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn delete_files(&self, job: JobId, names: Vec<String>) -> Result<(), Error> {
        let directory = self.root.below(&shared_name(job));
        let removals = names.into_iter().filter(|name| is_file_name(name)).map(|name| {
            let directory = directory.clone();
            async move { directory.remove_file(&name).await }
        });
        stream::iter(removals).buffer_unordered(PARALLEL_REQUESTS).try_collect().await
    }

    /// Deletes what attempts of a job up to `until` have left that no published checkpoint names. Published ones stay. To
    /// be called when no such attempt runs, or a checkpoint under way loses its files; those of later ones it leaves alone.
    ///
    /// # Errors
    /// The store failed; the call may be repeated.
    pub async fn delete_job(&self, job: JobId, until: Attempt) -> Result<(), Error> {
        let is_old = move |name: &str| attempt_of(name).is_none_or(|attempt| attempt <= until);
        let mut named = HashSet::new();
        let mut is_known = true;
        for id in self.checkpoint_ids(job).await? {
            let directory = self.root.below(&checkpoint_name(job, id));
            match read_metadata(&directory).await {
                Ok(metadata) => named.extend(metadata.files().map(str::to_string)),
                Err(error) if error.kind() == ErrorKind::NotFound => directory.remove_all().await?,
                Err(error) if matches!(error.kind(), ErrorKind::Retry | ErrorKind::Config) => {
                    return Err(error);
                }
                // Which files it names cannot be known.
                Err(_) => is_known = false,
            }
        }
        let shared = self.root.below(&shared_name(job));
        if is_known {
            let files = shared.files().await?;
            let names = files.iter().filter_map(|file| file.location.filename());
            let garbage =
                names.filter(|name| is_old(name) && !named.contains(*name)).map(str::to_string).collect();
            self.delete_files(job, garbage).await?;
            shared.remove_unfinished(is_old).await?;
        }
        shared.remove_if_empty().await;
        self.root.below(&job.to_string()).remove_if_empty().await;
        Ok(())
    }

    /// A directory beside the jobs' ones.
    pub(crate) fn below(&self, name: &str) -> Directory {
        self.root.below(name)
    }

    fn snapshot_dir(&self, job: JobId, dir: &SnapshotDir) -> Result<Directory, Error> {
        match &dir.savepoint {
            None => Ok(self.root.below(&checkpoint_name(job, dir.checkpoint))),
            Some(target) => Ok(self.root.at(target)?.below(&savepoint_name(job, dir.checkpoint))),
        }
    }

    pub(crate) async fn checkpoint_ids(&self, job: JobId) -> Result<Vec<CheckpointId>, Error> {
        let names = self.root.below(&job.to_string()).directories().await?;
        Ok(names.iter().filter_map(|name| name.strip_prefix("chk-")?.parse().ok()).collect())
    }
}

async fn read_metadata(directory: &Directory) -> Result<CheckpointMetadata, Error> {
    let file = directory.get(METADATA_FILE, metadata::FORMAT.limit_bytes).await?;
    let path = join(&directory.url, METADATA_FILE);
    let bytes = file.len();
    let work = move || metadata::decode(&file, &path);
    let mut metadata = off_the_loop(bytes, "read", metadata::FORMAT.what, work).await?;
    metadata.location = directory.url.clone();
    Ok(metadata)
}

/// Reads the metadata and checks that the files it names are there in full; `None` if it was never published.
async fn read_complete(
    directory: &Directory,
    job: JobId,
    checkpoint: CheckpointId,
) -> Result<Option<CheckpointMetadata>, Error> {
    let metadata = match read_metadata(directory).await {
        Err(Error::NotFound { .. }) => return Ok(None),
        result => result?,
    };
    if (metadata.job, metadata.checkpoint) != (job, checkpoint) {
        let reason = format!("it is checkpoint {} of job {}", metadata.checkpoint, metadata.job);
        return Err(Error::corrupt(&directory.url, reason));
    }
    let files = files_directory(directory, false)?;
    let found = files.files().await?;
    let sizes: HashMap<&str, u64> =
        found.iter().filter_map(|file| Some((file.location.filename()?, file.size))).collect();
    let handles =
        metadata.vertices.iter().flat_map(|vertex| &vertex.subtasks).map(|subtask| &subtask.snapshot);
    for layer in handles.flat_map(|handle| &handle.layers) {
        if let Layer::File { name, bytes } = layer {
            let reason = match sizes.get(name.as_str()) {
                Some(size) if size == bytes => continue,
                Some(size) => format!("it has {size} bytes instead of {bytes}"),
                None => "it is missing".to_string(),
            };
            return Err(Error::corrupt(&join(&files.url, name), reason));
        }
    }
    Ok(Some(metadata))
}

/// Where the files of a checkpoint or savepoint lie, by its own directory.
fn files_directory(directory: &Directory, is_savepoint: bool) -> Result<Directory, Error> {
    if is_savepoint {
        return Ok(directory.clone());
    }
    let parent = directory
        .parent()
        .ok_or_else(|| Error::corrupt(&directory.url, "it is a checkpoint outside the folder of a job"))?;
    Ok(parent.below(SHARED))
}

/// What to try instead of a directory that is no checkpoint.
async fn advice(directory: &Directory) -> String {
    let mut found = directory.directories().await.unwrap_or_default();
    found.retain(|name| name.starts_with("chk-") || name.starts_with("savepoint-"));
    // Numbers of the same length sort as text does.
    found.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b)));
    match found.last() {
        Some(name) => {
            format!("name one of the checkpoints below it, such as '{}'", join(&directory.url, name))
        }
        None => "name the directory of a completed checkpoint or savepoint".to_string(),
    }
}

/// The attempt that has written a file of a snapshot, or is writing it.
fn attempt_of(name: &str) -> Option<Attempt> {
    let (number, _) = name.rsplit_once("-a")?.1.split_once(".state")?;
    number.parse().ok().map(Attempt)
}

fn checkpoint_name(job: JobId, checkpoint: CheckpointId) -> String {
    format!("{job}/chk-{checkpoint}")
}

fn shared_name(job: JobId) -> String {
    format!("{job}/{SHARED}")
}

fn savepoint_name(job: JobId, checkpoint: CheckpointId) -> String {
    format!("savepoint-{}-{checkpoint}", job.short())
}
