//! Snapshot files and checkpoint storage of hurtig: bytes in an object store, and the check that what lies there
//! fits the program that wants it back. What the bytes of a state mean is the dataflow's business.
//!
//! Entry points: [`CheckpointStore`] writes, publishes, lists, loads and deletes; [`RestorePlan`] fits a checkpoint
//! to a job graph; [`metadata`] and [`snapshot_file`] describe the files. [`lease`] elects a leader among JobManagers
//! in the same store.
//!
//! # Invariants
//! * A checkpoint exists once its `_metadata` file does. It is written last and removed first, whole or not at all.
//! * A published file is never changed, and a savepoint is never deleted.
//! * Nothing in a checkpoint's directory names another place, so the directory can be moved and copied.
//! * No file, however damaged, causes a panic or an allocation out of proportion to its own length.
//! * Nothing here reads a clock (the lease is given one), retries, or knows of actors.
//!
//! # Decisions
//! * 2026-11: files are LZ4 in blocks of 256 KiB under one checksum rather than LZ4's own frame format: the length
//!   of every block is bounded by the format, so a hostile file cannot ask for memory.
//! * 2026-11: local files are synced to disk before they count; without it a power cut could leave a published
//!   checkpoint with empty files.
//! * 2026-11: a transient failure while listing checkpoints is an error, not a skipped checkpoint: falling back to an
//!   older one than need be would repeat what sinks have already published.

pub mod error;
pub mod lease;
pub mod metadata;
pub mod restore;
pub mod snapshot_file;
pub mod store;

mod directory;
mod envelope;
mod location;

pub use error::{Error, ErrorKind};
pub use metadata::{CheckpointMetadata, SourceMetadata, SubtaskMetadata, VertexMetadata};
pub use restore::RestorePlan;
pub use snapshot_file::SnapshotHandle;
pub use store::{CheckpointStore, SnapshotDir};
