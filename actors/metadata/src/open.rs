//! From a directory to a database that can be trusted: made if it is absent, else looked at before anything is
//! written. A refused file is left as it is, with its log.

use crate::error::Error;
use crate::schema::{self, APPLICATION_ID, STEPS};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Opens the database at a path, in a directory that this process has locked.
pub(crate) fn open(path: &Path) -> Result<Connection, Error> {
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => create(path)?,
        Err(error) => return Err(Error::of_io("read", path, error)),
    }
    check_header(path)?;
    let failed = |error| Error::of_sqlite("open", path, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
    check_content(&connection, path)?;
    // Only now is anything written.
    settle(&connection).map_err(failed)?;
    schema::migrate(&mut connection, path, STEPS)?;
    Ok(connection)
}

/// Makes an empty database beside its place and then moves it there, so that one who finds a file at the place finds
/// it whole, even after a power cut.
fn create(path: &Path) -> Result<(), Error> {
    let log = with_suffix(path, "-wal");
    if log.exists() {
        // It would be taken for the log of the new file.
        return Err(Error::corrupt(path, format!("it is missing, but its log '{}' is there", log.display())));
    }
    let new = with_suffix(path, ".new");
    match std::fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            return Err(Error::of_io("replace", &new, error));
        }
        _ => {}
    }
    let failed = |error| Error::of_sqlite("create", &new, error);
    let mut connection = Connection::open(&new).map_err(failed)?;
    // No journal: a file that is not finished is never looked at.
    connection.pragma_update(None, "journal_mode", "OFF").map_err(failed)?;
    connection.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    schema::migrate(&mut connection, &new, STEPS)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    publish(&new, path)
}

/// Moves a finished file to its place, for good.
pub(crate) fn publish(from: &Path, to: &Path) -> Result<(), Error> {
    let synced = File::open(from).and_then(|file| file.sync_all());
    synced.map_err(|error| Error::of_io("write", from, error))?;
    std::fs::rename(from, to).map_err(|error| Error::of_io("create", to, error))?;
    let directory = to.parent().unwrap_or(Path::new("."));
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| Error::of_io("write", directory, error))
}

/// Looks at the first bytes, since SQLite may write to a file that it opens.
fn check_header(path: &Path) -> Result<(), Error> {
    let mut header = [0; HEADER_BYTES];
    match File::open(path).and_then(|mut file| file.read_exact(&mut header)) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
            return Err(Error::corrupt(path, "it is shorter than its header"));
        }
        Err(error) => return Err(Error::of_io("read", path, error)),
    }
    let number = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let foreign = |reason| Err(Error::Foreign { path: path.display().to_string(), reason });
    if !header.starts_with(MAGIC) {
        return foreign("it is no SQLite file");
    }
    if number(68) != APPLICATION_ID {
        return foreign("it belongs to another application");
    }
    let page_bytes = match u64::from(u16::from_be_bytes([header[16], header[17]])) {
        1 => 65_536,
        bytes => bytes,
    };
    let length = path.metadata().map_err(|error| Error::of_io("read", path, error))?.len();
    // SQLite takes a last page that is cut for one that ends in zeros. With a log, the file may well be short: what
    // it lacks is in there.
    if length < u64::from(number(28)) * page_bytes && !with_suffix(path, "-wal").exists() {
        return Err(Error::corrupt(path, "it has been cut"));
    }
    check_version(path, number(60))
}

fn check_version(path: &Path, found: u32) -> Result<(), Error> {
    let supported = STEPS.len() as u32;
    match found {
        0 => Err(Error::corrupt(path, "it has no format version")),
        found if found > supported => {
            Err(Error::NewerVersion { path: path.display().to_string(), found, supported })
        }
        _ => Ok(()),
    }
}

/// Reads all of the database, with its log.
fn check_content(connection: &Connection, path: &Path) -> Result<(), Error> {
    let failed = |error| Error::of_sqlite("open", path, error);
    // A refused file keeps its log: nothing is moved from there into the file when it is closed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true).map_err(failed)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false).map_err(failed)?;
    connection.pragma_update(None, "cell_size_check", true).map_err(failed)?;
    set_and_read(connection, "locking_mode", "exclusive").map_err(failed)?;
    let version = schema::version(connection).map_err(failed)?;
    check_version(path, version)?;
    let verdict: String =
        connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(failed)?;
    if verdict != "ok" {
        return Err(Error::corrupt(path, verdict));
    }
    if !schema::matches(connection, version as usize, STEPS).map_err(failed)? {
        return Err(Error::corrupt(path, "its tables are not those of its format version"));
    }
    let is_orphan = connection.prepare("PRAGMA foreign_key_check").and_then(|mut check| check.exists([]));
    if is_orphan.map_err(failed)? {
        return Err(Error::corrupt(path, "a row names another one that is not there"));
    }
    Ok(())
}

/// How the database is used from here on.
fn settle(connection: &Connection) -> rusqlite::Result<()> {
    let mode = set_and_read(connection, "journal_mode", "wal")?;
    if mode != "wal" {
        return Err(rusqlite::Error::InvalidParameterName(format!("the journal mode is {mode}")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(())
}

fn set_and_read(connection: &Connection, pragma: &str, value: &str) -> rusqlite::Result<String> {
    connection.pragma_update_and_check(None, pragma, value, |row| row.get(0))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
