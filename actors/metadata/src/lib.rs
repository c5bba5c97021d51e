//! The durable memory of hurtig's JobManager: which jobs there are, what their checkpoints are called, which programs
//! were uploaded. It brings SQLite with it, so it is a crate of its own.
//!
//! Entry points: [`MetadataStore`] holds rows, [`ProgramStore`] holds the programs' files. Both belong to one process
//! at a time, are synchronous, and may be shared between threads; callers in actors use a thread that may block.
//!
//! ```
//! use hurtig_metadata::{JobChange, JobRecord, MetadataStore, Retention, Seen};
//! use hurtig_dataflow::ids::{Attempt, JobId};
//!
//! # fn main() -> Result<(), hurtig_metadata::Error> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let directory = directory.path();
//! let store = MetadataStore::open(directory, Retention::default())?;
//! let job = JobRecord::new(JobId(7), "word count", "created", 1_700_000_000_000);
//! store.add_job(&job)?;
//!
//! let seen = Seen { state: "created", attempt: Attempt(1) };
//! store.change_job(job.id, seen, &JobChange::to("running", Attempt(1)))?;
//! assert_eq!(store.job(job.id)?.unwrap().state, "running");
//! # Ok(())
//! # }
//! ```
//!
//! # Invariants
//! * What a call has answered is on disk, and a call is done whole or not at all.
//! * Who writes about a job names its attempt; an attempt that is not the current one cannot write.
//! * A job that has ended does not change any more. It is forgotten when enough others have ended after it.
//! * A file that is damaged, foreign or of a newer release is refused and left as it is.
//! * A program's row exists only while its file does. A file without a row is found by the next collection.
//! * Nothing here reads a clock, retries, or knows of actors. Times are milliseconds since 1970.
//!
//! # Decisions
//! * 2026-11: a job's state is text. Which states there are is the business of the layer above; here only the end
//!   of a job means something, and that is told by its time.
//! * 2026-11: SQLite holds its own lock for as long as the store is open (`locking_mode=EXCLUSIVE`), on top of the
//!   directory's: the write-ahead log then needs no shared memory, so network file systems will do, and no tool can
//!   change rows below a running JobManager.
//! * 2026-11: every commit is synced (`synchronous=FULL`). A cluster writes a few rows a second, and which of them
//!   may be lost is not worth a second kind of write.
//! * 2026-11: SQLite checks the structure of its file, which is all read when it is opened, and the sums of its
//!   log, not the content of its pages: a bit that flips within a name is not noticed. Sums per row were left out.

mod checkpoint;
mod error;
mod hash;
mod job;
#[cfg(test)]
mod killed;
mod leadership;
mod lock;
mod open;
mod program;
mod program_store;
mod row;
mod schema;
mod store;

pub use checkpoint::{CheckpointKind, CheckpointRecord};
pub use error::{Error, ErrorKind};
pub use hash::ProgramHash;
pub use job::{JobChange, JobRecord, Seen};
pub use leadership::Leadership;
pub use program::ProgramRecord;
pub use program_store::{ProgramStore, StoredProgram, Upload};
pub use store::{DATABASE_FILE, MetadataStore, Retention};
