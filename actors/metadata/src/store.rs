//! The database: one connection, used by one thread at a time.

use crate::error::Error;
use crate::lock::DirectoryLock;
use crate::{job, open};
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, TransactionBehavior};
use std::path::{Path, PathBuf};

/// Name of the database in its directory.
pub const DATABASE_FILE: &str = "metadata.db";

/// How much is kept of what has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Jobs that have ended, beside those that have not. Those that ended first are forgotten first.
    pub ended_jobs: u32,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { ended_jobs: 100 }
    }
}

/// What a JobManager must not forget. Belongs to one process at a time; threads may share it.
///
/// Every method is done and on disk when it returns, so it takes as long as the disk does: from an actor, call on a
/// thread that may block.
#[derive(Debug)]
pub struct MetadataStore {
    path: PathBuf,
    retention: Retention,
    // Before the lock: fields are dropped in order, and the database is closed while the directory is still ours.
    connection: Mutex<Connection>,
    _lock: DirectoryLock,
}

impl MetadataStore {
    /// Opens the store in a directory; makes both if they are not there. All of the file is read and checked.
    ///
    /// # Errors
    /// Another process has the directory; the file is damaged, foreign or of a newer release, and then left as it
    /// is; the disk failed.
    pub fn open(directory: &Path, retention: Retention) -> Result<Self, Error> {
        std::fs::create_dir_all(directory).map_err(|error| Error::of_io("create", directory, error))?;
        let lock = DirectoryLock::take(directory)?;
        let path = directory.join(DATABASE_FILE);
        let connection = open::open(&path)?;
        let store = MetadataStore { path, retention, connection: Mutex::new(connection), _lock: lock };
        // It may have been larger before.
        store.write("forget old jobs in", |transaction| store.prune(transaction, None))?;
        Ok(store)
    }

    /// The database's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads.
    pub(crate) fn read<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, Error> {
        work(&self.connection.lock()).map_err(|error| Error::of_sqlite(action, &self.path, error))
    }

    /// Writes, whole or not at all: an error or a panic of the work takes everything back.
    pub(crate) fn write<T>(
        &self,
        action: &'static str,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, Failure>,
    ) -> Result<T, Error> {
        let failed = |error| Error::of_sqlite(action, &self.path, error);
        let mut connection = self.connection.lock();
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let result = work(&transaction).map_err(|failure| match failure {
            Failure::Sqlite(error) => failed(error),
            Failure::Refused(error) => error,
        })?;
        transaction.commit().map_err(failed)?;
        Ok(result)
    }

    /// Forgets the jobs that ended first. The one that has just ended counts as the last, whatever the clock says.
    pub(crate) fn prune(
        &self,
        transaction: &Transaction<'_>,
        just_ended: Option<hurtig_dataflow::ids::JobId>,
    ) -> Result<Vec<hurtig_dataflow::ids::JobId>, Failure> {
        job::prune(transaction, self.retention.ended_jobs, just_ended)
    }
}

/// Why a transaction is taken back.
pub(crate) enum Failure {
    /// The database failed.
    Sqlite(rusqlite::Error),
    /// What was asked for cannot be.
    Refused(Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Failure::Sqlite(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Refused(error)
    }
}
