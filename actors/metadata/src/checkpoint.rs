//! Completed checkpoints and savepoints of jobs: where they lie, not what is in them.

use crate::error::Error;
use crate::job::writable;
use crate::row::{self, SETTINGS_BYTES, bounded, signed};
use crate::store::MetadataStore;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId};
use rusqlite::{Connection, OptionalExtension, Row, params};

/// Whose a snapshot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckpointKind {
    /// The system's: deleted when a newer one makes it obsolete.
    Checkpoint,
    /// The user's: never deleted.
    Savepoint,
}

impl CheckpointKind {
    fn word(self) -> &'static str {
        match self {
            CheckpointKind::Checkpoint => "checkpoint",
            CheckpointKind::Savepoint => "savepoint",
        }
    }
}

/// What is remembered of a completed checkpoint or savepoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckpointRecord {
    /// Its number within the job.
    pub id: CheckpointId,
    /// Whose it is.
    pub kind: CheckpointKind,
    /// Absolute location of its directory.
    pub location: String,
    /// When it was triggered.
    pub triggered_at: Timestamp,
    /// When it was complete.
    pub completed_at: Timestamp,
    /// Size of its files.
    pub size_bytes: u64,
}

const COLUMNS: &str = "id, kind, location, triggered_ms, completed_ms, size_bytes";

impl MetadataStore {
    /// Remembers a completed checkpoint or savepoint and, with it, forgets the checkpoints that it makes obsolete.
    /// Savepoints are never forgotten so. To remember the same once more does nothing.
    ///
    /// # Errors
    /// The job has ended or is not there, the attempt is not the current one, another one has its number; the disk
    /// failed.
    pub fn add_checkpoint(
        &self,
        job: JobId,
        attempt: Attempt,
        checkpoint: &CheckpointRecord,
        subsumed: &[CheckpointId],
    ) -> Result<(), Error> {
        bounded("a location", &checkpoint.location, SETTINGS_BYTES)?;
        let id = signed("a checkpoint's number", checkpoint.id)?;
        let size_bytes = signed("a checkpoint's size", checkpoint.size_bytes)?;
        self.write("add a checkpoint to", |transaction| {
            writable(transaction, job, attempt)?;
            match find(transaction, job, id)? {
                Some(found) if found == *checkpoint => {}
                Some(_) => return Err(Error::CheckpointExists { job, checkpoint: checkpoint.id }.into()),
                None => {
                    let sql = format!(
                        "INSERT INTO checkpoint (job, {COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)"
                    );
                    transaction.prepare_cached(&sql)?.execute(params![
                        job.to_string(),
                        id,
                        checkpoint.kind.word(),
                        checkpoint.location,
                        checkpoint.triggered_at,
                        checkpoint.completed_at,
                        size_bytes,
                    ])?;
                }
            }
            let sql = "DELETE FROM checkpoint WHERE job = ?1 AND id = ?2 AND kind = 'checkpoint'";
            let mut forget = transaction.prepare_cached(sql)?;
            for id in subsumed.iter().filter_map(|id| i64::try_from(*id).ok()) {
                forget.execute(params![job.to_string(), id])?;
            }
            Ok(())
        })
    }

    /// Checkpoints and savepoints of a job, newest first; none if the job is not there.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn checkpoints(&self, job: JobId) -> Result<Vec<CheckpointRecord>, Error> {
        self.read("list checkpoints in", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE job = ?1 ORDER BY id DESC");
            let mut query = connection.prepare_cached(&sql)?;
            query.query_map([job.to_string()], record)?.collect()
        })
    }

    /// The newest checkpoint or savepoint of a job: what its next attempt starts from.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn last_checkpoint(&self, job: JobId) -> Result<Option<CheckpointRecord>, Error> {
        self.read("read a checkpoint in", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE job = ?1 ORDER BY id DESC LIMIT 1");
            let mut query = connection.prepare_cached(&sql)?;
            query.query_row([job.to_string()], record).optional()
        })
    }
}

fn find(connection: &Connection, job: JobId, id: i64) -> rusqlite::Result<Option<CheckpointRecord>> {
    let sql = format!("SELECT {COLUMNS} FROM checkpoint WHERE job = ?1 AND id = ?2");
    connection.prepare_cached(&sql)?.query_row(params![job.to_string(), id], record).optional()
}

fn record(row: &Row<'_>) -> rusqlite::Result<CheckpointRecord> {
    let kind: String = row.get("kind")?;
    Ok(CheckpointRecord {
        id: row::unsigned(row, "id")?,
        // The table admits two words only.
        kind: if kind == "savepoint" { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint },
        location: row.get("location")?,
        triggered_at: row.get("triggered_ms")?,
        completed_at: row.get("completed_ms")?,
        size_bytes: row::unsigned(row, "size_bytes")?,
    })
}
