//! The tables, as the steps that made them. A step, once released, is never changed: the next one is added below it.

use crate::error::Error;
use rusqlite::{Connection, TransactionBehavior};
use std::path::Path;

/// Says whose file it is: "hurt" in ASCII, at offset 68 of the file.
pub(crate) const APPLICATION_ID: u32 = u32::from_be_bytes(*b"hurt");

/// `STEPS[n]` leads from format version n to n + 1.
///
/// Ids and hashes are text, so that people can read the file. A job that has ended has a time for it.
pub(crate) const STEPS: &[&str] = &["
    CREATE TABLE leadership (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        epoch INTEGER NOT NULL,
        holder TEXT NOT NULL,
        since_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE program (
        hash TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        size_bytes INTEGER NOT NULL,
        uploaded_ms INTEGER NOT NULL,
        last_used_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE job (
        id TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        program TEXT REFERENCES program (hash),
        arguments TEXT NOT NULL,
        configuration TEXT NOT NULL,
        state TEXT NOT NULL,
        attempt INTEGER NOT NULL,
        submitted_ms INTEGER NOT NULL,
        ended_ms INTEGER,
        failure TEXT,
        graph TEXT
    ) STRICT;
    CREATE INDEX job_program ON job (program);
    CREATE INDEX job_ended ON job (ended_ms) WHERE ended_ms IS NOT NULL;
    CREATE TABLE checkpoint (
        job TEXT NOT NULL REFERENCES job (id) ON DELETE CASCADE,
        id INTEGER NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('checkpoint', 'savepoint')),
        location TEXT NOT NULL,
        triggered_ms INTEGER NOT NULL,
        completed_ms INTEGER NOT NULL,
        size_bytes INTEGER NOT NULL,
        PRIMARY KEY (job, id)
    ) STRICT, WITHOUT ROWID;
"];

/// Takes the steps that a file still lacks, each whole or not at all.
pub(crate) fn migrate(connection: &mut Connection, path: &Path, steps: &[&str]) -> Result<(), Error> {
    let failed = |error| Error::of_sqlite("update the tables of", path, error);
    let version = version(connection).map_err(failed)? as usize;
    for (index, step) in steps.iter().enumerate().skip(version) {
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        transaction.execute_batch(step).map_err(failed)?;
        transaction.pragma_update(None, "user_version", index as u32 + 1).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    if version < steps.len() {
        // The version is to stand in the file itself, where the next opening looks before it trusts the log.
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).map_err(failed)?;
    }
    Ok(())
}

/// The file's format version.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Whether the tables are those that the first `version` steps make.
pub(crate) fn matches(connection: &Connection, version: usize, steps: &[&str]) -> rusqlite::Result<bool> {
    let made = Connection::open_in_memory()?;
    for step in steps.iter().take(version) {
        made.execute_batch(step)?;
    }
    Ok(tables(connection)? == tables(&made)?)
}

fn tables(connection: &Connection) -> rusqlite::Result<Vec<(String, String, Option<String>)>> {
    let mut query = connection.prepare("SELECT type, name, sql FROM sqlite_schema ORDER BY name, type")?;
    let rows = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "CREATE TABLE a (x INTEGER) STRICT; INSERT INTO a VALUES (1);";
    const SECOND: &str = "ALTER TABLE a ADD COLUMN y TEXT; UPDATE a SET y = 'one';";

    #[test]
    fn an_older_file_takes_the_steps_it_lacks() {
        let mut connection = Connection::open_in_memory().unwrap();
        let path = Path::new("test");
        migrate(&mut connection, path, &[FIRST]).unwrap();
        assert!(matches(&connection, 1, &[FIRST, SECOND]).unwrap());
        migrate(&mut connection, path, &[FIRST, SECOND]).unwrap();
        migrate(&mut connection, path, &[FIRST, SECOND]).unwrap();
        assert_eq!(version(&connection).unwrap(), 2);
        assert!(matches(&connection, 2, &[FIRST, SECOND]).unwrap());
        let y: String = connection.query_row("SELECT y FROM a", [], |row| row.get(0)).unwrap();
        assert_eq!(y, "one");
    }

    #[test]
    fn a_step_that_fails_leaves_the_version_before_it() {
        let mut connection = Connection::open_in_memory().unwrap();
        let broken = "CREATE TABLE b (x INTEGER); this is no SQL;";
        assert!(migrate(&mut connection, Path::new("test"), &[FIRST, broken]).is_err());
        assert_eq!(version(&connection).unwrap(), 1);
        assert!(matches(&connection, 1, &[FIRST, broken]).unwrap());
    }
}
