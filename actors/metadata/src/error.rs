//! What can go wrong with the JobManager's memory, and what to do about it.

use crate::hash::ProgramHash;
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, LeaderEpoch};
use rusqlite::ErrorCode;
use std::io;
use std::path::Path;
use thiserror::Error as ThisError;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The disk did not do as it should: try again later.
    Retry,
    /// What lies in the directory cannot be used: tell the user, do not start.
    Unusable,
    /// The caller's view is outdated: another attempt or leader has written. Stop, or look again.
    Stale,
    /// What the call is about does not exist.
    Unknown,
    /// The request itself is wrong: tell the one who made it.
    Invalid,
}

/// What can go wrong with the JobManager's memory.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// The file system failed.
    #[error("cannot {action} '{path}'")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file system refuses access.
    #[error(
        "no permission to {action} '{path}': give the user that runs hurtig access, or choose another directory"
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
    },
    /// The disk is full.
    #[error("no space left to {action} '{path}': free some")]
    Full {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
    },
    /// Another process uses the directory.
    #[error(
        "'{path}' is in use by {}: stop that, or choose another directory",
        match holder { Some(pid) => format!("process {pid}"), None => "another process".to_string() }
    )]
    InUse {
        /// The directory.
        path: String,
        /// The process, if known.
        holder: Option<u32>,
    },
    /// The file is not one of ours.
    #[error(
        "'{path}' is no metadata file of hurtig ({reason}): choose another directory, or move the file away"
    )]
    Foreign {
        /// The file.
        path: String,
        /// How that shows.
        reason: &'static str,
    },
    /// The file was written by a newer release.
    #[error(
        "'{path}' has format version {found}, but this release of hurtig reads at most version {supported}: use a newer release, or another directory"
    )]
    NewerVersion {
        /// The file.
        path: String,
        /// Its version.
        found: u32,
        /// The newest version known here.
        supported: u32,
    },
    /// The file is not what was written.
    #[error(
        "'{path}' is damaged ({reason}): put back a copy, or move it away with the files beside it whose names start alike, and start the jobs again from their checkpoints"
    )]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// SQLite failed in another way.
    #[error("cannot {action} '{path}'")]
    Database {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// No such job is remembered.
    #[error("there is no job {0}, or it ended too long ago")]
    UnknownJob(JobId),
    /// A job of this id is there already.
    #[error("job {0} was submitted already")]
    JobExists(JobId),
    /// The job has ended, so nothing about it changes.
    #[error("job {job} has ended ({state})")]
    JobEnded {
        /// The job.
        job: JobId,
        /// The state it ended in.
        state: String,
    },
    /// The writer's attempt is not the current one.
    #[error("attempt {} of job {job} may not write: attempt {} is the current one", given.0, current.0)]
    Fenced {
        /// The job.
        job: JobId,
        /// The writer's attempt.
        given: Attempt,
        /// The current one.
        current: Attempt,
    },
    /// The job's state has changed since the writer looked.
    #[error("job {job} is {found}, not {expected}")]
    StateChanged {
        /// The job.
        job: JobId,
        /// The state that the writer saw.
        expected: String,
        /// The state now.
        found: String,
    },
    /// Another checkpoint has this number.
    #[error("another checkpoint {checkpoint} of job {job} is recorded already")]
    CheckpointExists {
        /// The job.
        job: JobId,
        /// Its number.
        checkpoint: CheckpointId,
    },
    /// No such program is stored.
    #[error("there is no program {0}: upload it")]
    UnknownProgram(ProgramHash),
    /// There is, or was, a newer leader.
    #[error("epoch {given} is over: {holder} leads in epoch {current}")]
    Superseded {
        /// The epoch asked for.
        given: LeaderEpoch,
        /// The newest epoch.
        current: LeaderEpoch,
        /// Its leader.
        holder: String,
    },
    /// Something is larger than what is kept.
    #[error("{what} of {size} is too large: at most {limit} is kept")]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// Its size, in bytes where it has any.
        size: u64,
        /// The limit, in the same unit.
        limit: u64,
    },
    /// An upload has another length than announced.
    #[error("the upload of program {hash} has {found} bytes or more instead of {announced}: upload it again")]
    UploadSize {
        /// The hash announced.
        hash: ProgramHash,
        /// The bytes announced.
        announced: u64,
        /// The bytes that came.
        found: u64,
    },
    /// An upload has another content than announced.
    #[error("the upload has hash {found} instead of {announced}: upload it again")]
    UploadHash {
        /// The hash announced.
        announced: ProgramHash,
        /// The hash of what came.
        found: ProgramHash,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::Full { .. } | Error::Database { .. } => ErrorKind::Retry,
            Error::Denied { .. }
            | Error::InUse { .. }
            | Error::Foreign { .. }
            | Error::NewerVersion { .. }
            | Error::Corrupt { .. } => ErrorKind::Unusable,
            Error::JobEnded { .. }
            | Error::Fenced { .. }
            | Error::StateChanged { .. }
            | Error::Superseded { .. } => ErrorKind::Stale,
            Error::UnknownJob(_) | Error::UnknownProgram(_) => ErrorKind::Unknown,
            Error::JobExists(_)
            | Error::CheckpointExists { .. }
            | Error::TooLarge { .. }
            | Error::UploadSize { .. }
            | Error::UploadHash { .. } => ErrorKind::Invalid,
        }
    }

    pub(crate) fn of_io(action: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind as K;
        let path = path.display().to_string();
        match source.kind() {
            K::PermissionDenied | K::ReadOnlyFilesystem => Error::Denied { action, path },
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Error::Full { action, path },
            _ => Error::Io { action, path, source },
        }
    }

    pub(crate) fn of_sqlite(action: &'static str, path: &Path, source: rusqlite::Error) -> Self {
        use rusqlite::Error as E;
        match &source {
            E::FromSqlConversionFailure(..)
            | E::IntegralValueOutOfRange(..)
            | E::Utf8Error(..)
            | E::InvalidColumnType(..) => return Self::corrupt(path, source.to_string()),
            _ => {}
        }
        let text = path.display().to_string();
        match source.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                Self::corrupt(path, source.to_string())
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                Error::InUse { path: text, holder: None }
            }
            Some(ErrorCode::DiskFull) => Error::Full { action, path: text },
            Some(ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => Error::Denied { action, path: text },
            _ => Error::Database { action, path: text, source },
        }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl Into<String>) -> Self {
        Error::Corrupt { path: path.display().to_string(), reason: reason.into() }
    }
}
