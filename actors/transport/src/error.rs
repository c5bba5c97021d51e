//! What can go wrong between wanting a connection and having one. How a link ends is no error but an event:
//! [`LinkEnd`](crate::LinkEnd).

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::refusal::Refusal;

/// Why a certificate could not be made or read, or a connection not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of certificates or keys cannot be read or written.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried: a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file or message of certificates or keys does not hold what it should.
    #[error("{place}: {reason}")]
    Certificate {
        /// The file, or what else was read.
        place: String,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// Signing a certificate failed.
    #[error("cannot issue a certificate for {name}")]
    Issue {
        /// For whom.
        name: String,
        /// Why not.
        source: rcgen::Error,
    },
    /// A name that no process can have.
    #[error("name '{name}' {reason}")]
    Name {
        /// The name, shortened if long.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// rustls does not accept the certificates.
    #[error("certificates of {name} cannot be used")]
    Tls {
        /// Whose they are.
        name: String,
        /// Why not.
        source: rustls::Error,
    },
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The peer cannot be reached.
    #[error("cannot connect to {peer} at {address}")]
    Connect {
        /// Who was wanted.
        peer: String,
        /// Where.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The peer was reached, but the two do not accept each other.
    #[error("no connection to {peer} at {address}: {refusal}")]
    Handshake {
        /// Who was wanted.
        peer: String,
        /// Where.
        address: String,
        /// What the matter is.
        refusal: Refusal,
        /// What TLS says of it, if it does.
        source: Option<io::Error>,
    },
}

/// What the caller of a failed operation does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Try again later: the peer is not there, or is slow, or its certificates are being replaced.
    Retry,
    /// Tell the user: files, names or addresses are wrong and stay so.
    User,
}

impl Error {
    /// What the caller does about it.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Connect { .. } | Error::Handshake { .. } => ErrorKind::Retry,
            _ => ErrorKind::User,
        }
    }

    pub(crate) fn certificate(place: impl ToString, reason: impl ToString) -> Self {
        Error::Certificate { place: place.to_string(), reason: reason.to_string() }
    }
}
