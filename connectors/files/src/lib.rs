//! File source and sink of hurtig.
//!
//! [`FileSource`] reads files, folders and patterns, once or for as long as the job runs; [`FileSink`] writes part
//! files that appear exactly once, when the checkpoint that covers them is complete.
//!
//! # Invariants
//! * A record is read by the one split in which its first byte lies.
//! * A file that can be seen in an output folder is complete and is never written to again; what is not complete has a
//!   name that begins with a dot, and [`FileSource`] leaves such names out.
//! * No file that is there already is overwritten.
//!
//! # Decisions
//! * 2026-11: the folder's lock is the operating system's (`flock`), held by each writer: it ends with the process,
//!   however that ends, so there are no stale locks to be recognised.
//! * 2026-11: in-progress files of dead attempts are deleted by writers when they open, not by the committer: writers
//!   know the job, the attempt and what the checkpoint still needs.
//! * 2026-11: a file kept open across checkpoints is copied, not renamed or cut, when it is continued after a failure:
//!   a writer of the dead attempt that is still running cannot reach the copy, and the checkpoint stays restorable.

mod error;
mod sink;
mod source;

pub use error::{Error, ErrorKind};
pub use hurtig_formats::{
    BadLine, Csv, DecodeFormat, EncodeFormat, Fail, JsonLines, OnError, SideOutput, Skip, TextLines,
};
pub use sink::{FileSink, RollingPolicy};
pub use source::{FileSource, FileSplit};
