//! What can go wrong with checkpoints, and what to do about it.

use hurtig_dataflow::error::BoxError;
use std::error::Error as StdError;
use std::io;
use thiserror::Error as ThisError;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The store did not answer as it should: try again later.
    Retry,
    /// A file is damaged: use an older checkpoint.
    Corrupt,
    /// A file was written by a newer release: use that, or an older checkpoint.
    NewerVersion,
    /// A file was written by an older release: use that, or a newer checkpoint.
    OlderVersion,
    /// There is nothing at this place.
    NotFound,
    /// Another run of the job writes to the same place: stop this one.
    Conflict,
    /// Settings, program and checkpoint do not fit: tell the user, do not try again.
    Config,
}

/// What can go wrong with checkpoints.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// No store for this kind of location.
    #[error(
        "'{location}' cannot hold checkpoints: scheme '{scheme}' is not supported{}; use a path, 'file:///path', 's3://bucket/path', 'hdfs://namenode/path' or, in tests, 'memory:'", missing_feature(.scheme)
    )]
    UnsupportedScheme {
        /// The scheme asked for.
        scheme: String,
        /// The whole location.
        location: String,
    },
    /// The location cannot be used as it stands.
    #[error("'{location}' cannot hold checkpoints: {reason}")]
    InvalidLocation {
        /// The location.
        location: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The store refuses access.
    #[error(
        "no permission to {action} '{path}': give the user that runs hurtig access, or choose another place"
    )]
    Denied {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// The store is full.
    #[error("no space left to {action} '{path}': free some, or choose another place for checkpoints")]
    Full {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// The store failed in a way that may pass.
    #[error("cannot {action} '{path}'")]
    Store {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: String,
        /// What the store said.
        #[source]
        source: BoxError,
    },
    /// There is no such file.
    #[error("there is no '{path}': {remedy}")]
    NotFound {
        /// The file.
        path: String,
        /// What to do.
        remedy: String,
    },
    /// A file is not what was written.
    #[error("'{path}' is damaged ({reason}): use an older checkpoint")]
    Corrupt {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file was written by a newer release.
    #[error(
        "'{path}' has format version {found}, but this release of hurtig reads version {supported}: use a newer release or an older checkpoint"
    )]
    NewerVersion {
        /// The file.
        path: String,
        /// Its version.
        found: u16,
        /// The newest version known here.
        supported: u16,
    },
    /// A file was written by an older release, in a format that is not read any more.
    #[error(
        "'{path}' has format version {found}, but this release of hurtig reads version {supported}: restore it with the release that wrote it"
    )]
    OlderVersion {
        /// The file.
        path: String,
        /// Its version.
        found: u16,
        /// The version known here.
        supported: u16,
    },
    /// A different checkpoint was published under the same number.
    #[error(
        "another checkpoint is already published as '{path}': another run of this job writes to the same place"
    )]
    Conflict {
        /// The metadata file.
        path: String,
    },
    /// A newer master has claimed the job.
    #[error("another master has taken the job over, as '{path}' shows")]
    Deposed {
        /// Where masters claim the job.
        path: String,
    },
    /// What should be written is larger than what may be read back.
    #[error(
        "a {what} of more than {limit_bytes} bytes cannot be stored: run the job with a higher parallelism"
    )]
    TooLarge {
        /// What it is.
        what: &'static str,
        /// The limit.
        limit_bytes: u64,
    },
    /// A value could not be turned into bytes or back for a reason that lies in this process.
    #[error("cannot {action} a {what}")]
    Internal {
        /// What was tried.
        action: &'static str,
        /// On what.
        what: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// Something that belongs to the user was about to be deleted.
    #[error("'{location}' is not deleted: {reason}")]
    NotOurs {
        /// Where it lies.
        location: String,
        /// Why it is not deleted.
        reason: &'static str,
    },
    /// A contender for the leader's lease cannot be told from others by what it says of itself.
    #[error(
        "'{text}' cannot stand in a lease: a holder and its address have no line break and at most 1024 bytes"
    )]
    InvalidHolder {
        /// The holder, or its address.
        text: String,
    },
    /// The number of key groups differs.
    #[error(
        "the checkpoint was taken with a max parallelism of {checkpoint}, but the job now has {program}: set the max parallelism to {checkpoint}"
    )]
    MaxParallelism {
        /// Key groups in the checkpoint.
        checkpoint: u32,
        /// Key groups of the program.
        program: u32,
    },
    /// Keys are hashed in another way.
    #[error(
        "the checkpoint was taken with version {checkpoint} of the key hash, but this release of hurtig uses version {program}: restore it with the release that took it"
    )]
    KeyHash {
        /// Version in the checkpoint.
        checkpoint: u16,
        /// Version of this release.
        program: u16,
    },
    /// Some operators of the checkpoint are missing in the program.
    #[error(
        "the checkpoint holds state of operators that the program does not have: {missing}; give its operators these uids, or drop that state with --allow-non-restored"
    )]
    NonRestored {
        /// The operators, for people.
        missing: String,
    },
    /// Records that a barrier had overtaken do not fit the program.
    #[error(
        "the checkpoint holds records on their way to operator '{operator}', and the program cannot take them ({reason}): start from a savepoint, which holds none, or with the program that took the checkpoint"
    )]
    InFlight {
        /// The operator's uid.
        operator: String,
        /// What does not fit.
        reason: String,
    },
    /// No operator of the checkpoint is in the program.
    #[error(
        "this is a checkpoint of another program: it has {checkpoint}, the program has {program}; start the program that took it, or start without its state with --allow-non-restored"
    )]
    OtherProgram {
        /// Operators of the checkpoint, for people.
        checkpoint: String,
        /// Operators of the program, for people.
        program: String,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Full { .. } | Error::Store { .. } => ErrorKind::Retry,
            Error::Corrupt { .. } => ErrorKind::Corrupt,
            Error::NewerVersion { .. } => ErrorKind::NewerVersion,
            Error::OlderVersion { .. } => ErrorKind::OlderVersion,
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::Conflict { .. } | Error::Deposed { .. } => ErrorKind::Conflict,
            Error::UnsupportedScheme { .. }
            | Error::InvalidLocation { .. }
            | Error::Denied { .. }
            | Error::TooLarge { .. }
            | Error::Internal { .. }
            | Error::NotOurs { .. }
            | Error::InvalidHolder { .. }
            | Error::MaxParallelism { .. }
            | Error::KeyHash { .. }
            | Error::NonRestored { .. }
            | Error::InFlight { .. }
            | Error::OtherProgram { .. } => ErrorKind::Config,
        }
    }

    pub(crate) fn corrupt(path: &str, reason: impl Into<String>) -> Self {
        Error::Corrupt { path: path.to_string(), reason: reason.into() }
    }

    /// Refuses a file of another version than the one that is read.
    pub(crate) fn check_version(path: &str, found: u16, supported: u16) -> Result<(), Self> {
        let path = path.to_string();
        match found {
            0 => Err(Error::corrupt(&path, "it has format version 0")),
            _ if found > supported => Err(Error::NewerVersion { path, found, supported }),
            _ if found < supported => Err(Error::OlderVersion { path, found, supported }),
            _ => Ok(()),
        }
    }

    /// Sorts what a store said into what the user has to do, and keeps only its innermost cause: the outer ones say
    /// again what this error says.
    pub(crate) fn of_store(action: &'static str, path: &str, error: object_store::Error) -> Self {
        use object_store::Error as E;
        let path = path.to_string();
        if let Some(source) = root_io(&error) {
            return Self::of_io(action, path, source);
        }
        let cause = innermost(&error);
        match error {
            E::NotFound { .. } if action == "write" => cannot_be_made(path),
            E::NotFound { .. } => Error::NotFound { path, remedy: "use an older checkpoint".into() },
            E::PermissionDenied { .. } | E::Unauthenticated { .. } => {
                Error::Denied { action, path, source: cause.into() }
            }
            E::InvalidPath { .. }
            | E::NotSupported { .. }
            | E::NotImplemented { .. }
            | E::UnknownConfigurationKey { .. } => Error::InvalidLocation { location: path, reason: cause },
            _ => Error::Store { action, path, source: cause.into() },
        }
    }

    pub(crate) fn of_io(action: &'static str, path: String, error: &io::Error) -> Self {
        use io::ErrorKind as K;
        let source: BoxError = error.to_string().into();
        match error.kind() {
            K::NotFound if action == "write" => cannot_be_made(path),
            K::NotFound => Error::NotFound { path, remedy: "use an older checkpoint".into() },
            K::PermissionDenied | K::ReadOnlyFilesystem => Error::Denied { action, path, source },
            K::StorageFull | K::QuotaExceeded | K::FileTooLarge => Error::Full { action, path, source },
            K::NotADirectory => Error::InvalidLocation {
                location: path,
                reason: "a part of the path is a file, not a directory".into(),
            },
            K::InvalidFilename | K::IsADirectory => {
                Error::InvalidLocation { location: path, reason: error.to_string() }
            }
            _ => Error::Store { action, path, source },
        }
    }
}

fn root_io(error: &object_store::Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn StdError + 'static)> = error.source();
    let mut found = None;
    while let Some(error) = cause {
        found = error.downcast_ref::<io::Error>().or(found);
        cause = error.source();
    }
    found
}

fn innermost(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = error.to_string();
        cause = error.source();
    }
    text
}

fn cannot_be_made(path: String) -> Error {
    let reason = "there is no such folder or bucket, and none can be made: name another place".into();
    Error::InvalidLocation { location: path, reason }
}

/// What to do where a scheme is supported by other builds only.
fn missing_feature(scheme: &str) -> &'static str {
    match scheme {
        "s3" | "s3a" => " by this program: build it with the feature 's3' of the crate 'hurtig'",
        "hdfs" => " by this program: build it with the feature 'hdfs' of the crate 'hurtig'",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::error::describe;

    fn of_io(kind: io::ErrorKind) -> Error {
        let source = Box::new(io::Error::new(kind, "the store's words"));
        Error::of_store("write", "dir/file", object_store::Error::Generic { store: "test", source })
    }

    #[test]
    fn what_the_store_says_becomes_one_sentence_and_one_thing_to_do() {
        let check = |kind, expected: ErrorKind, words: &str| {
            let error = of_io(kind);
            assert_eq!(error.kind(), expected);
            let text = describe(&error);
            assert!(text.contains(words) && text.contains("dir/file"), "{text}");
            assert!(text.matches("the store's words").count() <= 1, "{text}");
        };
        check(io::ErrorKind::PermissionDenied, ErrorKind::Config, "no permission to write");
        check(io::ErrorKind::StorageFull, ErrorKind::Retry, "no space left to write");
        check(io::ErrorKind::TimedOut, ErrorKind::Retry, "cannot write");
        check(io::ErrorKind::NotFound, ErrorKind::Config, "none can be made");
        check(io::ErrorKind::NotADirectory, ErrorKind::Config, "not a directory");
    }
}
