//! What can be wrong with input and output.

use crate::on_error::BadLine;
use hurtig_dataflow::BoxError;
use thiserror::Error as ThisError;

/// What the caller should do about an [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The input is bad: tell the user, do not try again.
    Input,
    /// The program is wrong: tell the user, do not try again.
    Program,
}

/// What can be wrong with input and output.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum Error {
    /// A record does not parse and the policy is to fail.
    #[error("{0}; fix the line, or set on_error(Skip)")]
    BadLine(BadLine),
    /// What precedes a file's records does not parse.
    #[error("{0}; correct the head of the file")]
    BadHead(BadLine),
    /// A record has no representation in a format.
    #[error("a record cannot be written as {format}: change its type, or choose another format")]
    Encode {
        /// Name of the format.
        format: &'static str,
        /// What the encoder said.
        #[source]
        source: BoxError,
    },
}

impl Error {
    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::BadLine(_) | Error::BadHead(_) => ErrorKind::Input,
            Error::Encode { .. } => ErrorKind::Program,
        }
    }

    pub(crate) fn encode(format: &'static str, source: impl Into<BoxError>) -> Self {
        Error::Encode { format, source: source.into() }
    }
}
