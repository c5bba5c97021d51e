//! A completed checkpoint: what it consists of, and the `_metadata` file that says so.
//!
//! # Format of `_metadata`
//! The frame of [`crate::snapshot_file`] with the magic `hurtigMD`, version [`METADATA_VERSION`], around one
//! MessagePack map: a [`CheckpointMetadata`] with the names of its fields. A reader ignores names it does not know;
//! a new field that an older release may ignore therefore needs no new version.
//!
//! | limit | |
//! |---|---|
//! | file, before compression as well as after | 1 GiB |
//! | snapshot handle | a relative path below the directory of the `_metadata` file; `..` is refused |
//!
//! The job's id, the checkpoint's number and the uids of the operators are what a restore goes by; times and sizes
//! are for people.

use crate::envelope::{self, Format};
use crate::error::Error;
use crate::snapshot_file::SnapshotHandle;
use bytes::Bytes;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{CheckpointId, JobId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Version of the metadata format written, and the newest one read.
pub const METADATA_VERSION: u16 = 1;

pub(crate) const FORMAT: Format = Format {
    magic: b"hurtigMD",
    version: METADATA_VERSION,
    limit_bytes: 1 << 30,
    what: "checkpoint metadata file",
};

/// A completed checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckpointMetadata {
    /// Version of the format it was read from; written is always [`METADATA_VERSION`].
    #[serde(skip, default = "written_version")]
    pub version: u16,
    /// The job that took it.
    pub job: JobId,
    /// Its number within the job.
    pub checkpoint: CheckpointId,
    /// Whether it is a savepoint, which is never deleted by us.
    pub savepoint: bool,
    /// When its barriers were sent out.
    pub triggered_at: Timestamp,
    /// When its last part was acknowledged.
    pub completed_at: Timestamp,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Version of the function that maps keys to key groups.
    pub key_hash_version: u16,
    /// Whether the job had ended with it.
    pub is_final: bool,
    /// Snapshots by vertex.
    pub vertices: Vec<VertexMetadata>,
    /// What the split enumerators know.
    pub sources: Vec<SourceMetadata>,
    /// Absolute location of its directory. Filled in when it is loaded; not in the file, so that the directory can
    /// be moved. When publishing: where to, or empty for the store's own place for it.
    #[serde(skip)]
    pub location: String,
}

/// One vertex of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VertexMetadata {
    /// The operators of its chain.
    pub operators: Vec<OperatorId>,
    /// Its subtasks, by index.
    pub subtasks: Vec<SubtaskMetadata>,
}

/// One subtask of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SubtaskMetadata {
    /// Where its snapshot lies.
    pub snapshot: SnapshotHandle,
    /// What its sinks ask to have published, by uid.
    pub committables: Vec<(String, Vec<ByteBuf>)>,
    /// Bytes of state.
    pub bytes: u64,
}

/// One source of a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceMetadata {
    /// The source's uid.
    pub uid: String,
    /// What its split enumerator knows.
    pub bytes: ByteBuf,
}

impl CheckpointMetadata {
    /// Bytes of state of all subtasks.
    pub fn bytes(&self) -> u64 {
        self.vertices.iter().flat_map(|vertex| &vertex.subtasks).map(|subtask| subtask.bytes).sum()
    }

    /// All operators, in order.
    pub fn operators(&self) -> impl Iterator<Item = &OperatorId> {
        self.vertices.iter().flat_map(|vertex| &vertex.operators)
    }
}

fn written_version() -> u16 {
    METADATA_VERSION
}

pub(crate) fn encode(metadata: &CheckpointMetadata) -> Result<Vec<Bytes>, Error> {
    envelope::encode(&FORMAT, metadata)
}

pub(crate) fn decode(file: &[u8], path: &str) -> Result<CheckpointMetadata, Error> {
    let (mut metadata, version) = envelope::decode::<CheckpointMetadata>(&FORMAT, file, path)?;
    metadata.version = version;
    for subtask in metadata.vertices.iter().flat_map(|vertex| &vertex.subtasks) {
        if let SnapshotHandle::File { path: file, .. } = &subtask.snapshot
            && !is_inside(file)
        {
            return Err(Error::corrupt(
                path,
                format!("it names '{file}', which is not inside its directory"),
            ));
        }
    }
    Ok(metadata)
}

/// Whether a relative path stays below where it starts.
pub(crate) fn is_inside(path: &str) -> bool {
    path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}
