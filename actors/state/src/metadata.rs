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
//! | snapshot file | lies directly beside `_metadata`; its name has letters, digits, `-`, `_` and `.` only |
//! | operators | every uid once, with as many subtasks as its parallelism |
//!
//! The job's id, the checkpoint's number and the uids of the operators are what a restore goes by; times and sizes
//! are for people.

use crate::directory::is_file_name;
use crate::envelope::{self, Format};
use crate::error::Error;
use crate::snapshot_file::SnapshotHandle;
use bytes::Bytes;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{CheckpointId, JobId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::HashSet;

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

    /// Bytes that are worth a thread of their own when there are many.
    pub(crate) fn estimated_bytes(&self) -> usize {
        let of_subtask = |subtask: &SubtaskMetadata| {
            let inline = match &subtask.snapshot {
                SnapshotHandle::Inline(bytes) => bytes.len(),
                SnapshotHandle::File { path, .. } => path.len(),
            };
            let committables = subtask.committables.iter().flat_map(|(_, items)| items);
            inline + committables.map(|item| item.len()).sum::<usize>()
        };
        self.vertices.iter().flat_map(|vertex| &vertex.subtasks).map(of_subtask).sum::<usize>()
            + self.sources.iter().map(|source| source.bytes.len()).sum::<usize>()
    }

    /// What no sound checkpoint has, whether written or read: restoring it would lose or double state.
    fn check(&self) -> Result<(), String> {
        let mut uids = HashSet::new();
        for operator in self.operators() {
            if !uids.insert(&operator.uid) {
                return Err(format!("it has two operators with uid '{}'", operator.uid));
            }
        }
        for (vertex, metadata) in self.vertices.iter().enumerate() {
            let subtasks = metadata.subtasks.len();
            if let Some(odd) = metadata.operators.iter().find(|operator| operator.parallelism != subtasks) {
                let parallelism = odd.parallelism;
                return Err(format!("it has {subtasks} of the {parallelism} subtasks of vertex {vertex}"));
            }
            for subtask in &metadata.subtasks {
                if let SnapshotHandle::File { path, .. } = &subtask.snapshot
                    && !is_file_name(path)
                {
                    return Err(format!("it names '{path}', which is not a file in its directory"));
                }
            }
        }
        Ok(())
    }
}

fn written_version() -> u16 {
    METADATA_VERSION
}

pub(crate) fn encode(metadata: &CheckpointMetadata) -> Result<Vec<Bytes>, Error> {
    if let Err(reason) = metadata.check() {
        return Err(Error::Internal { action: "publish", what: FORMAT.what, source: reason.into() });
    }
    envelope::encode(&FORMAT, metadata)
}

pub(crate) fn decode(file: &[u8], path: &str) -> Result<CheckpointMetadata, Error> {
    let (mut metadata, version) = envelope::decode::<CheckpointMetadata>(&FORMAT, file, path)?;
    metadata.version = version;
    metadata.check().map_err(|reason| Error::corrupt(path, reason))?;
    Ok(metadata)
}
