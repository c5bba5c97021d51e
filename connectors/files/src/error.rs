//! What can be wrong with files, each as one sentence with the remedy.

use hurtig_dataflow::error::{BoxError, Fatal};
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error as ThisError;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// It may work later: try again.
    Retry,
    /// Somebody must change something first: tell the user.
    User,
    /// Data of a checkpoint is gone: tell the user, do not try again.
    Lost,
}

/// What can be wrong with files.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// Input that is not there.
    #[error("there is no file or folder '{0}': correct the path, or put the input there")]
    Missing(String),
    /// A pattern that is not one.
    #[error(
        "'{pattern}' is not a file pattern ({reason}): correct it, or put [ ] round characters meant as such"
    )]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A pattern without matches.
    #[error(
        "no file matches '{0}': correct the pattern, put the input there, or wait for files with monitor()"
    )]
    NoMatch(String),
    /// A folder without input.
    #[error("there is no file in the folder '{0}': put the input there, or wait for files with monitor()")]
    EmptyFolder(String),
    /// Access is denied.
    #[error(
        "no permission to {action} '{path}': give it to the user that runs the job, or choose another path"
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
    },
    /// No space is left.
    #[error("the disk is full, '{0}' cannot be written: make room, or choose another disk")]
    DiskFull(String),
    /// The output folder is a file.
    #[error("'{0}' is not a folder: remove it, or choose another output folder")]
    NotAFolder(String),
    /// The output folder was removed.
    #[error("cannot {action} '{path}', its folder is gone: put it back, or choose another output folder")]
    FolderGone {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
    },
    /// Another job writes there.
    #[error("the output folder '{folder}' is in use by {holder}: cancel that job, or choose another folder")]
    InUse {
        /// The folder.
        folder: String,
        /// Who writes there.
        holder: String,
    },
    /// Input that changed while it was being read.
    #[error(
        "'{path}' has only {length} bytes, but {position} were read already: it was replaced; put the old file back, or start the job afresh"
    )]
    Replaced {
        /// The file.
        path: String,
        /// Its length.
        length: u64,
        /// Where reading was to go on.
        position: u64,
    },
    /// A record that does not end.
    #[error(
        "{path}: the record at byte {position} is longer than {limit} bytes: close the quote or break the line, or raise max_record_bytes"
    )]
    RecordTooLong {
        /// The file.
        path: String,
        /// Where the record begins.
        position: u64,
        /// The limit.
        limit: usize,
    },
    /// Something is where a part file is to appear.
    #[error("'{0}' exists already and is not overwritten: move it away")]
    Occupied(String),
    /// A part file that a checkpoint needs is gone.
    #[error(
        "the part file '{0}' of the checkpoint is gone, its records are lost: put it back, or restore another checkpoint"
    )]
    Lost(String),
    /// A part file is not what a checkpoint says.
    #[error(
        "'{path}' has {found} bytes instead of the {expected} of the checkpoint, records are lost: put the right file back, or restore another checkpoint"
    )]
    Length {
        /// The file.
        path: String,
        /// Its length.
        found: u64,
        /// The length in the checkpoint.
        expected: u64,
    },
    /// A bucket that leaves the output folder.
    #[error("bucket '{0}' is not a relative path without '..': correct the function given to bucket_by")]
    Bucket(String),
    /// Anything else the operating system says.
    #[error("cannot {action} '{path}': check the disk")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: String,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::DiskFull(_) | Error::Io { .. } => ErrorKind::Retry,
            Error::Lost(_) | Error::Length { .. } | Error::Replaced { .. } => ErrorKind::Lost,
            _ => ErrorKind::User,
        }
    }

    /// The sentence for an error of the operating system; `action` completes "cannot …".
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let shown = shown(path);
        match source.kind() {
            io::ErrorKind::NotFound if action == "read" => Error::Missing(shown),
            io::ErrorKind::NotFound => Error::FolderGone { action, path: shown },
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::Denied { action, path: shown }
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error::DiskFull(shown),
            io::ErrorKind::NotADirectory => {
                // The innermost ancestor that is there is the one that is no folder.
                let culprit = path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(path);
                Error::NotAFolder(self::shown(culprit))
            }
            _ => Error::Io { action, path: shown, source },
        }
    }
}

/// For `map_err`: an error as the runtime takes it, which ends the job where trying again cannot mend it.
pub(crate) fn told(error: Error) -> BoxError {
    match error.kind() {
        ErrorKind::Retry => error.into(),
        ErrorKind::User | ErrorKind::Lost => Fatal(error.into()).into(),
    }
}

/// The error within what the runtime was told.
#[cfg(test)]
pub(crate) fn within(told: &BoxError) -> Option<&Error> {
    told.downcast_ref().or_else(|| told.downcast_ref::<Fatal>()?.0.downcast_ref())
}

/// For `map_err`: turns an error of the operating system into a sentence.
pub(crate) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::io(action, path, source)
}

/// A path as users like to see it: from the working directory where it lies there.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().ok();
    let inside = here.and_then(|here| path.strip_prefix(here).ok());
    inside.filter(|inside| !inside.as_os_str().is_empty()).unwrap_or(path).display().to_string()
}

/// A path that means the same in every process.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Error> {
    std::path::absolute(path).map_err(failed("resolve", path))
}
