//! Who may join: an [`Authority`] signs a certificate for each process, an [`Identity`] is what a process then has,
//! and [`CertificateInfo`] tells a human what a certificate says.
//!
//! Files of a folder, all PEM: `ca.pem` (the authorities that are trusted), `ca.key` (only where certificates are
//! issued), `node.pem` (the process's certificate, then those between it and the authority), `node.key`. Keys are
//! readable by their owner only. Certificates from another authority than ours do as well, if they hold the names
//! that [`Name`](crate::Name) describes and serve both to accept and to connect.

mod authority;
mod files;
mod identity;
mod info;

pub use authority::{Authority, Validity};
pub(crate) use files::read as read_file;
pub use identity::Identity;
pub use info::CertificateInfo;

/// Certificates of the trusted authorities.
pub const AUTHORITY_FILE: &str = "ca.pem";
/// The authority's key.
pub const AUTHORITY_KEY_FILE: &str = "ca.key";
/// A process's certificate and those between it and the authority.
pub const NODE_FILE: &str = "node.pem";
/// A process's key.
pub const NODE_KEY_FILE: &str = "node.key";
