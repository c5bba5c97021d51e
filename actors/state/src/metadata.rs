//! A completed checkpoint: what it consists of, and the `_metadata` file that says so.
//!
//! # Format of `_metadata`
//! One MessagePack map, a [`CheckpointMetadata`] with the names of its fields, in a frame. Numbers are little endian.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic, `hurtigMD` |
//! | 2 | format version, [`METADATA_VERSION`] |
//! | 2 | zero |
//! | 4 | CRC-32 of the 12 bytes before; these 16 bytes stay as they are in every future version |
//! | … | blocks |
//! | 8 | length of the content before compression |
//! | 8 | length of the file |
//! | 4 | CRC-32 of everything before |
//! | 4 | `hEND` |
//!
//! The content is cut into blocks of 256 KiB, the last one shorter. Each is a length (4 bytes) and as many bytes of
//! LZ4 block data, or the block as it is if that length is the block's own.
//! A reader ignores names it does not know;
//! a new field that an older release may ignore therefore needs no new version.
//!
//! | limit | |
//! |---|---|
//! | file, before compression as well as after | 1 GiB |
//! | snapshot file | of a savepoint directly beside `_metadata`, of a checkpoint in `../shared`; its name has letters, digits, `-`, `_` and `.` only |
//! | operators | every uid once, with as many subtasks as its parallelism |
//!
//! The job's id, the checkpoint's number and the uids of the operators are what a restore goes by; times and sizes
//! are for people.

use crate::directory::is_file_name;
use crate::envelope::{self, Format};
use crate::error::Error;
use crate::snapshot_file::{Layer, SnapshotHandle};
use bytes::Bytes;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::collections::HashSet;

/// Version of the metadata format written and read.
pub const METADATA_VERSION: u16 = 2;

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
    /// The attempt that took it.
    pub attempt: Attempt,
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
    /// Bytes that were written for this checkpoint; the snapshot's other layers are older.
    pub written_bytes: u64,
    /// The newest complete checkpoint that the subtask knew of. Later snapshots of it build on none that is older.
    pub since: CheckpointId,
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
    /// Which of two checkpoints of a job is the newer: that of the newer attempt, of one attempt that of the greater
    /// number. What an older attempt publishes too late is not newer for its number.
    pub fn age(&self) -> impl Ord + use<> {
        (self.attempt, self.checkpoint)
    }

    fn subtasks(&self) -> impl Iterator<Item = &SubtaskMetadata> {
        self.vertices.iter().flat_map(|vertex| &vertex.subtasks)
    }

    /// Bytes that are read to restore it.
    pub fn bytes(&self) -> u64 {
        self.subtasks().map(|subtask| subtask.snapshot.stored_bytes()).sum()
    }

    /// Bytes that were written for it.
    pub fn written_bytes(&self) -> u64 {
        self.subtasks().map(|subtask| subtask.written_bytes).sum()
    }

    /// Names of its files, some of which earlier checkpoints have written.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.subtasks().flat_map(|subtask| subtask.snapshot.files())
    }

    /// All operators, in order.
    pub fn operators(&self) -> impl Iterator<Item = &OperatorId> {
        self.vertices.iter().flat_map(|vertex| &vertex.operators)
    }

    /// Bytes that are worth a thread of their own when there are many.
    pub(crate) fn estimated_bytes(&self) -> usize {
        let of_subtask = |subtask: &SubtaskMetadata| {
            let inline = subtask.snapshot.layers.iter().map(|layer| match layer {
                Layer::Inline(bytes) => bytes.len(),
                Layer::File { name, .. } => name.len(),
            });
            let committables = subtask.committables.iter().flat_map(|(_, items)| items);
            inline.sum::<usize>() + committables.map(|item| item.len()).sum::<usize>()
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
                if let Some(odd) = subtask.snapshot.files().find(|name| !is_file_name(name)) {
                    return Err(format!("it names '{odd}', which is not the name of a file"));
                }
                if subtask.snapshot.layers.is_empty() {
                    return Err(format!("a subtask of vertex {vertex} has no snapshot"));
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
