//! Rows of uploaded programs. Their files are the [`ProgramStore`](crate::ProgramStore)'s.

use crate::error::Error;
use crate::hash::ProgramHash;
use crate::row::{self, NAME_BYTES, bounded, signed};
use crate::store::MetadataStore;
use hurtig_dataflow::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};

/// What is remembered of an uploaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramRecord {
    /// Hash of its file.
    pub hash: ProgramHash,
    /// Name of the file that was uploaded last, for people.
    pub name: String,
    /// Size of its file.
    pub size_bytes: u64,
    /// When it was uploaded first.
    pub uploaded_at: Timestamp,
    /// When it was last uploaded, or a job of it submitted.
    pub last_used_at: Timestamp,
}

const COLUMNS: &str = "hash, name, size_bytes, uploaded_ms, last_used_ms";

impl MetadataStore {
    /// Remembers a program whose file is stored. One that is known counts as used and takes the name.
    ///
    /// # Errors
    /// The name is too long; the disk failed.
    pub fn add_program(
        &self,
        hash: ProgramHash,
        name: &str,
        size_bytes: u64,
        now: Timestamp,
    ) -> Result<(), Error> {
        bounded("a program's name", name, NAME_BYTES)?;
        let size_bytes = signed("a program", size_bytes)?;
        self.write("add a program to", |transaction| {
            let sql = format!(
                "INSERT INTO program ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?4) ON CONFLICT (hash) DO UPDATE
                SET name = excluded.name, last_used_ms = max(last_used_ms, excluded.last_used_ms)"
            );
            transaction.prepare_cached(&sql)?.execute(params![hash.to_string(), name, size_bytes, now])?;
            Ok(())
        })
    }

    /// A program; `None` if it is not there.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn program(&self, hash: ProgramHash) -> Result<Option<ProgramRecord>, Error> {
        self.read("read a program in", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM program WHERE hash = ?1");
            connection.prepare_cached(&sql)?.query_row([hash.to_string()], record).optional()
        })
    }

    /// All programs, by hash.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn programs(&self) -> Result<Vec<ProgramRecord>, Error> {
        self.read("list programs in", list)
    }

    /// Forgets the programs that no job names and that were last used before a time, and returns those that remain.
    /// To be called by [`ProgramStore::collect`](crate::ProgramStore::collect), which deletes their files.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn forget_unused_programs(&self, before: Timestamp) -> Result<Vec<ProgramHash>, Error> {
        self.write("forget programs in", |transaction| {
            let sql = "DELETE FROM program WHERE last_used_ms < ?1
                AND NOT EXISTS (SELECT 1 FROM job WHERE job.program = program.hash)";
            transaction.prepare_cached(sql)?.execute([before])?;
            Ok(list(transaction)?.into_iter().map(|program| program.hash).collect())
        })
    }
}

fn list(connection: &Connection) -> rusqlite::Result<Vec<ProgramRecord>> {
    let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM program ORDER BY hash"))?;
    query.query_map([], record)?.collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<ProgramRecord> {
    Ok(ProgramRecord {
        hash: row::parsed(row, "hash", str::parse)?,
        name: row.get("name")?,
        size_bytes: row::unsigned(row, "size_bytes")?,
        uploaded_at: row.get("uploaded_ms")?,
        last_used_at: row.get("last_used_ms")?,
    })
}
