//! Rows of state that memory has no room for: a SQLite file for each operator instance that needs one.
//!
//! The file is nobody's but this process's and never a source of truth, so it has no journal, is never synced and never
//! committed, and its name is deleted as soon as it is open: however the process ends, it is gone.

use hurtig_dataflow::error::BoxError;
use hurtig_dataflow::state::{ColdCursor, ColdRow, ColdStore, ColdTable};
use rusqlite::{Connection, ErrorCode, OpenFlags, params};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Statements kept ready: five for each table, of which windows have one each.
const STATEMENTS: usize = 200;

/// Distinguishes the folders of one process.
static FILES: AtomicU64 = AtomicU64::new(0);

/// Why state cannot be moved out of memory or back.
#[derive(Debug, thiserror::Error)]
pub enum ColdError {
    /// The disk has no room.
    #[error(
        "no space left for the state that memory has no room for, in '{dir}': make room, name another folder by 'state.spill-dir', or allow more memory by 'state.memory'"
    )]
    Full {
        /// The folder.
        dir: PathBuf,
    },
    /// The folder cannot be used.
    #[error("state cannot be kept in '{dir}': name another folder by 'state.spill-dir'")]
    Folder {
        /// The folder.
        dir: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// The file cannot be read or written.
    #[error("state that was moved to a file in '{dir}' cannot be used")]
    Sqlite {
        /// The folder.
        dir: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// A store in a file of its own, which is made when the first table is.
pub struct ColdFile {
    dir: PathBuf,
    cache_bytes: usize,
    most_pages: Option<u32>,
    file: Mutex<Option<Arc<File>>>,
}

impl ColdFile {
    /// A store whose file will lie in a folder and take so much memory for its cache.
    pub fn new(dir: &Path, cache_bytes: usize) -> Self {
        ColdFile { dir: dir.to_path_buf(), cache_bytes, most_pages: None, file: Mutex::new(None) }
    }

    /// Bounds the file, as a full disk would.
    #[must_use]
    pub fn with_most_pages(mut self, pages: u32) -> Self {
        self.most_pages = Some(pages);
        self
    }

    fn open(&self) -> Result<Arc<File>, ColdError> {
        let dir = self.dir.clone();
        let failed = |source| ColdError::Folder { dir: dir.clone(), source };
        std::fs::create_dir_all(&dir).map_err(failed)?;
        // A folder of its own, which nobody else can have made, keeps others from putting something in the file's place.
        let own = loop {
            let number = FILES.fetch_add(1, Relaxed);
            let own = dir.join(format!("hurtig-state-{}-{number}", std::process::id()));
            match private_folder(&own) {
                Ok(()) => break own,
                // Left by an earlier process of this number, which was ended just then.
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(error)),
            }
        };
        let path = own.join("rows");
        let file = self.connect(&path).map_err(|source| of_sqlite(&dir, source));
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir(&own);
        Ok(Arc::new(File { connection: Mutex::new(file?), dir, tables: AtomicU64::new(0) }))
    }

    fn connect(&self, path: &Path) -> Result<Connection, rusqlite::Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_EXRESCODE;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        let set = |pragma: &str, value: &dyn rusqlite::ToSql| {
            connection.pragma_update_and_check(None, pragma, value, |_| Ok(())).or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(()),
                error => Err(error),
            })
        };
        set("page_size", &4096)?;
        set("journal_mode", &"OFF")?;
        set("synchronous", &"OFF")?;
        set("locking_mode", &"EXCLUSIVE")?;
        set("temp_store", &"MEMORY")?;
        set("cache_size", &-((self.cache_bytes / 1024).max(64) as i64))?;
        if let Some(pages) = self.most_pages {
            set("max_page_count", &pages)?;
        }
        // For good: pages go to the file when the cache is full, and nobody else reads it.
        connection.execute_batch("BEGIN EXCLUSIVE")?;
        Ok(connection)
    }
}

fn private_folder(path: &Path) -> std::io::Result<()> {
    let mut folder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut folder, 0o700);
    folder.create(path)
}

impl ColdStore for ColdFile {
    fn table(&self) -> Result<Box<dyn ColdTable>, BoxError> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let file = match &*file {
            Some(file) => Arc::clone(file),
            None => Arc::clone(file.insert(self.open()?)),
        };
        Ok(Box::new(Table::new(file)?))
    }

    fn memory(&self) -> usize {
        self.cache_bytes
    }
}

struct File {
    connection: Mutex<Connection>,
    dir: PathBuf,
    tables: AtomicU64,
}

impl File {
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, source: rusqlite::Error) -> ColdError {
        of_sqlite(&self.dir, source)
    }
}

fn of_sqlite(dir: &Path, source: rusqlite::Error) -> ColdError {
    let dir = dir.to_path_buf();
    match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => ColdError::Full { dir },
        _ => ColdError::Sqlite { dir, source },
    }
}

/// A table, with the text of its statements.
struct Table {
    file: Arc<File>,
    name: String,
    put: String,
    find: String,
    delete: String,
    scan_by_key: String,
    scan_changed: String,
}

impl Table {
    fn new(file: Arc<File>) -> Result<Self, ColdError> {
        let name = format!("t{}", file.tables.fetch_add(1, Relaxed));
        let make = format!(
            "CREATE TABLE {name} (g INTEGER, k BLOB, changed INTEGER, r BLOB, PRIMARY KEY (g, k)) WITHOUT ROWID;
             CREATE INDEX {name}c ON {name} (g, changed) WHERE changed > 0;"
        );
        file.lock().execute_batch(&make).map_err(|source| file.failed(source))?;
        Ok(Table {
            put: format!("INSERT OR REPLACE INTO {name} (g, k, changed, r) VALUES (?1, ?2, ?3, ?4)"),
            find: format!("SELECT changed, r FROM {name} WHERE g = ?1 AND k = ?2"),
            delete: format!("DELETE FROM {name} WHERE g = ?1 AND k = ?2"),
            scan_by_key: format!(
                "SELECT k, changed, r FROM {name} WHERE g = ?1 AND k > ?3 AND changed BETWEEN ?4 AND ?5 \
                 ORDER BY k LIMIT ?6"
            ),
            scan_changed: format!(
                "SELECT k, changed, r FROM {name} WHERE g = ?1 AND changed > 0 AND (changed, k) > (?2, ?3) \
                 AND changed BETWEEN ?4 AND ?5 ORDER BY changed, k LIMIT ?6"
            ),
            name,
            file,
        })
    }
}

fn number(changed: u64) -> i64 {
    i64::try_from(changed).unwrap_or(i64::MAX)
}

impl ColdTable for Table {
    fn put(&mut self, rows: &[ColdRow]) -> Result<(), BoxError> {
        let connection = self.file.lock();
        let put = || {
            let mut statement = connection.prepare_cached(&self.put)?;
            for row in rows {
                statement.execute(params![row.group, row.key, number(row.changed), row.row])?;
            }
            Ok(())
        };
        put().map_err(|source| self.file.failed(source).into())
    }

    fn take(&mut self, keys: &[(u16, Vec<u8>)], out: &mut Vec<ColdRow>) -> Result<(), BoxError> {
        let connection = self.file.lock();
        let mut take = || {
            let mut find = connection.prepare_cached(&self.find)?;
            let mut delete = connection.prepare_cached(&self.delete)?;
            for (group, key) in keys {
                let mut rows = find.query(params![group, key])?;
                let Some(row) = rows.next()? else { continue };
                let changed = row.get::<_, i64>(0)? as u64;
                out.push(ColdRow { group: *group, key: key.clone(), changed, row: row.get(1)? });
                drop(rows);
                delete.execute(params![group, key])?;
            }
            Ok(())
        };
        take().map_err(|source| self.file.failed(source).into())
    }

    fn scan(
        &self,
        group: u16,
        after: Option<&ColdCursor>,
        changed: RangeInclusive<u64>,
        by_key: bool,
        most: usize,
        out: &mut Vec<ColdRow>,
    ) -> Result<(), BoxError> {
        let none = ColdCursor::default();
        let after = after.unwrap_or(&none);
        let connection = self.file.lock();
        let mut scan = || {
            let sql = if by_key { &self.scan_by_key } else { &self.scan_changed };
            let mut statement = connection.prepare_cached(sql)?;
            statement.raw_bind_parameter(1, group)?;
            if !by_key {
                statement.raw_bind_parameter(2, number(after.changed))?;
            }
            statement.raw_bind_parameter(3, &after.key)?;
            statement.raw_bind_parameter(4, number(*changed.start()))?;
            statement.raw_bind_parameter(5, number(*changed.end()))?;
            statement.raw_bind_parameter(6, most as i64)?;
            let mut rows = statement.raw_query();
            while let Some(row) = rows.next()? {
                let changed = row.get::<_, i64>(1)? as u64;
                out.push(ColdRow { group, key: row.get(0)?, changed, row: row.get(2)? });
            }
            Ok(())
        };
        scan().map_err(|source| self.file.failed(source).into())
    }

    fn forget_changes(&mut self) -> Result<(), BoxError> {
        let forget = format!("UPDATE {} SET changed = 0 WHERE changed > 0", self.name);
        let done = self.file.lock().execute(&forget, []);
        done.map(drop).map_err(|source| self.file.failed(source).into())
    }

    fn clear(&mut self, groups: RangeInclusive<u16>) -> Result<(), BoxError> {
        let clear = format!("DELETE FROM {} WHERE g BETWEEN ?1 AND ?2", self.name);
        let done = self.file.lock().execute(&clear, params![groups.start(), groups.end()]);
        done.map(drop).map_err(|source| self.file.failed(source).into())
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        // What remains takes room, but is never read.
        let dropped = self.file.lock().execute_batch(&format!("DROP TABLE {}", self.name));
        if let Err(error) = dropped {
            tracing::debug!(%error, "a table of state on disk is not dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(group: u16, key: &str, changed: u64) -> ColdRow {
        ColdRow { group, key: key.into(), changed, row: format!("{group}{key}").into() }
    }

    fn keys(rows: &[ColdRow]) -> Vec<&str> {
        rows.iter().map(|row| std::str::from_utf8(&row.key).unwrap()).collect()
    }

    fn taken(table: &mut dyn ColdTable, group: u16, key: &str) -> Option<ColdRow> {
        let mut out = Vec::new();
        table.take(&[(group, key.into())], &mut out).unwrap();
        out.pop()
    }

    #[test]
    fn rows_are_taken_once_and_looked_through_by_key_or_by_when_they_changed() {
        let dir = tempfile::tempdir().unwrap();
        let store = ColdFile::new(dir.path(), 1 << 20);
        let (mut table, mut other) = (store.table().unwrap(), store.table().unwrap());
        other.put(&[row(1, "a", 9)]).unwrap();
        table.put(&[row(1, "a", 3), row(1, "b", 0), row(1, "c", 2), row(1, "d", 3), row(2, "a", 1)]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
        let mut out = Vec::new();
        table.scan(1, None, 0..=3, true, 3, &mut out).unwrap();
        assert_eq!(keys(&out), ["a", "b", "c"]);
        let after = ColdCursor { changed: 0, key: "c".into() };
        out.clear();
        table.scan(1, Some(&after), 0..=3, true, 3, &mut out).unwrap();
        assert_eq!(keys(&out), ["d"]);
        out.clear();
        table.scan(1, None, 1..=3, false, 2, &mut out).unwrap();
        assert_eq!(keys(&out), ["c", "a"]);
        let after = ColdCursor { changed: 3, key: "a".into() };
        out.clear();
        table.scan(1, Some(&after), 1..=3, false, 2, &mut out).unwrap();
        assert_eq!(keys(&out), ["d"]);
        assert_eq!(taken(&mut *table, 1, "a"), Some(row(1, "a", 3)));
        assert_eq!(taken(&mut *table, 1, "a"), None);
        table.forget_changes().unwrap();
        assert_eq!(taken(&mut *table, 1, "d"), Some(row(1, "d", 0)));
        table.clear(1..=1).unwrap();
        assert_eq!(taken(&mut *table, 1, "b"), None);
        assert_eq!(taken(&mut *table, 2, "a"), Some(row(2, "a", 0)));
        drop(table);
        assert_eq!(taken(&mut *other, 1, "a"), Some(row(1, "a", 9)));
    }

    #[test]
    fn a_full_disk_is_one_sentence_with_the_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let store = ColdFile::new(dir.path(), 64 << 10).with_most_pages(8);
        let mut table = store.table().unwrap();
        let rows: Vec<_> = (0..1_000).map(|n| row(0, &format!("key-{n:0100}"), 0)).collect();
        let error = table.put(&rows).unwrap_err().to_string();
        assert!(error.contains("no space left") && error.contains("'state.spill-dir'"), "{error}");
        let nowhere = ColdFile::new(Path::new("/proc/nowhere"), 0);
        let error = nowhere.table().err().unwrap().to_string();
        assert!(error.contains("'/proc/nowhere'"), "{error}");
    }
}
