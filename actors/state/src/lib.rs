//! Snapshot files and checkpoint storage of hurtig: bytes in an object store, and the check that what lies there
//! fits the program that wants it back. What the bytes of a state mean is the dataflow's business.
//!
//! Entry points: [`CheckpointStore`] writes, publishes, lists, loads and deletes; [`Lineage`] says what a snapshot builds
//! on, [`Retention`] what may be deleted; [`RestorePlan`] fits a checkpoint to a job graph; [`metadata`] and
//! [`snapshot_file`] describe the files. [`lease`] elects a leader among JobManagers in the same store, [`mastership`] says
//! which of a job's masters may complete checkpoints. [`ColdFile`] keeps state that memory has no room for.
//!
//! # Invariants
//! * A checkpoint exists once its `_metadata` file does. It is written last and removed first, whole or not at all.
//! * A published file is never changed, and a savepoint is never deleted.
//! * A savepoint names nothing outside its directory, which can be moved and copied; a checkpoint nothing outside its
//!   job's folder, which can be too.
//! * A file is named by a checkpoint only if it is whole, and deleted only when no checkpoint names it, nor may yet.
//! * No file, however damaged, causes a panic or an allocation out of proportion to its own length.
//! * Nothing here reads a clock (the lease is given one), retries, or knows of actors.
//!
//! # Decisions
//! * 2026-11: files are LZ4 in blocks of 256 KiB under one checksum rather than LZ4's own frame format: the length
//!   of every block is bounded by the format, so a hostile file cannot ask for memory.
//! * 2026-11: local files are synced to disk before they count; without it a power cut could leave a published
//!   checkpoint with empty files.
//! * 2026-11: a snapshot is a base and the deltas on top of it, each a file of its own in one folder per job, rather than
//!   one growing file: no store can append, and a file that never changes can be shared by checkpoints.
//! * 2026-11: blocks of up to 256 KiB with rows of several key groups where these are small: a block for each key group
//!   and state made a snapshot of little state ten times as long.
//! * 2026-11: state outside memory is in SQLite, whose reads and writes of single keys took the least time of four stores;
//!   nothing is ever restored from there, so its file needs no journal and no name.
//! * 2026-11: S3 and HDFS are features: their clients take longer to build than all else here. Their settings come from
//!   the environment, as with all tools that speak to them: keys in a configuration would be told to every process, and
//!   shown on pages.
//! * 2026-11: local copies are whole files under their own names, checked as the others are, rather than a second way to
//!   keep state: what is wrong with one is seen, and the file in the store is read instead.
//! * 2026-11: a transient failure while listing checkpoints is an error, not a skipped checkpoint: falling back to an
//!   older one than need be would repeat what sinks have already published.

pub mod cold;
pub mod error;
pub mod lease;
pub mod lineage;
pub mod mastership;
pub mod metadata;
pub mod restore;
pub mod retention;
pub mod shared;
pub mod snapshot_file;
pub mod store;
pub mod writer;

mod directory;
mod envelope;
mod local_copies;
mod location;
mod reader;

pub use cold::{ColdError, ColdFile};
pub use error::{Error, ErrorKind};
pub use lineage::Lineage;
pub use local_copies::LocalCopies;
pub use mastership::{Mastership, TakenOver};
pub use metadata::{CheckpointMetadata, SourceMetadata, SubtaskMetadata, VertexMetadata};
pub use restore::{Heads, RestorePlan};
pub use retention::Retention;
pub use shared::SharedFolder;
pub use snapshot_file::{Layer, SnapshotHandle};
pub use store::{CheckpointStore, SnapshotDir};
pub use writer::SnapshotWriter;
