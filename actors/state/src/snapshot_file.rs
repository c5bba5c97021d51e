//! A subtask's snapshot as a file, or inline in the checkpoint's metadata when it is small.
//!
//! # Frame
//! Snapshot files (magic `hurtigSN`), inline snapshots and the metadata file share one frame. Numbers are little
//! endian.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic |
//! | 2 | format version |
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
//!
//! # Content
//! One MessagePack map: a [`SubtaskSnapshot`] with the names of its fields. The rows and items inside are opaque here.
//!
//! # Limits
//! | | |
//! |---|---|
//! | file, before compression as well as after | 8 GiB |
//! | inline snapshot, framed and compressed | less than 16 KiB |
//! | memory a reader takes for a block | 256 KiB |
//!
//! Readers check, in this order: length, magic, checksum of the header, version, end mark, checksum, limits; only
//! then is anything unpacked.

use crate::envelope::{self, Format};
use crate::error::Error;
use bytes::Bytes;
use hurtig_dataflow::snapshot::SubtaskSnapshot;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Version of the snapshot format written, and the newest one read.
pub const SNAPSHOT_VERSION: u16 = 1;

/// Snapshots with fewer bytes than this, framed and compressed, go into the metadata instead of a file of their own.
pub const INLINE_BYTES: usize = 16 * 1024;

pub(crate) const FORMAT: Format =
    Format { magic: b"hurtigSN", version: SNAPSHOT_VERSION, limit_bytes: 8 << 30, what: "subtask snapshot" };

/// Where one subtask's snapshot lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SnapshotHandle {
    /// Here.
    Inline(ByteBuf),
    /// In a file.
    File {
        /// Name within the directory of the checkpoint, so that the directory can be moved.
        path: String,
        /// Length of the file.
        bytes: u64,
    },
}

impl SnapshotHandle {
    /// Bytes stored, compressed.
    pub fn stored_bytes(&self) -> u64 {
        match self {
            SnapshotHandle::Inline(bytes) => bytes.len() as u64,
            SnapshotHandle::File { bytes, .. } => *bytes,
        }
    }
}

pub(crate) fn encode(snapshot: &SubtaskSnapshot) -> Result<Vec<Bytes>, Error> {
    envelope::encode(&FORMAT, snapshot)
}

pub(crate) fn decode(file: &[u8], path: &str) -> Result<SubtaskSnapshot, Error> {
    Ok(envelope::decode(&FORMAT, file, path)?.0)
}
