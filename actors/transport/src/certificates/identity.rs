//! What a process proves itself with.

use std::fmt;
use std::path::Path;

use bytes::Buf;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{AUTHORITY_FILE, CertificateInfo, NODE_FILE, NODE_KEY_FILE, files};
use crate::error::Error;
use crate::name::Name;

/// Starts the bytes of an identity, with the version of their format.
const MAGIC: &[u8] = b"hurtig identity 1\n";

/// A process's certificate, its key, and the authorities it trusts. As bytes it can be handed to a child process over
/// a pipe; never put it into arguments or the environment, which others can read.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    chain: Vec<u8>,
    key: Vec<u8>,
    roots: Vec<u8>,
    name: Name,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads `node.pem`, `node.key` and `ca.pem` of a folder.
    ///
    /// # Errors
    /// [`Error::File`] if one cannot be read, [`Error::Certificate`] or [`Error::Name`] if it does not hold what it
    /// should.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let read = |file: &str| files::read(&folder.join(file));
        Self::from_pem(read(NODE_FILE)?, read(NODE_KEY_FILE)?, read(AUTHORITY_FILE)?, &folder.display())
    }

    /// Writes the files that [`Identity::load`] reads, replacing what is there. The folder is created if need be.
    ///
    /// # Errors
    /// [`Error::File`] if a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), Error> {
        files::create_folder(folder)?;
        files::write(&folder.join(NODE_KEY_FILE), &self.key, files::SECRET)?;
        files::write(&folder.join(AUTHORITY_FILE), &self.roots, files::PUBLIC)?;
        // last: until it is there, a process that follows the files finds that key and certificate differ, and waits
        files::write(&folder.join(NODE_FILE), &self.chain, files::PUBLIC)
    }

    /// Of PEM texts; `place` says in errors where they are from.
    pub(super) fn from_pem(
        chain: Vec<u8>,
        key: Vec<u8>,
        roots: Vec<u8>,
        place: &dyn fmt::Display,
    ) -> Result<Self, Error> {
        let text = std::str::from_utf8(&chain)
            .map_err(|_| Error::certificate(place, "the certificate is not PEM"))?;
        let name = CertificateInfo::of_pem(text, place)?.process()?;
        Ok(Identity { chain, key, roots, name })
    }

    /// Whose it is.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What the certificate says.
    ///
    /// # Errors
    /// [`Error::Certificate`] if it cannot be read.
    pub fn info(&self) -> Result<CertificateInfo, Error> {
        CertificateInfo::of_pem(&String::from_utf8_lossy(&self.chain), &self.name)
    }

    /// All of it, the private key as well, for a pipe to a child process.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for part in [&self.chain, &self.key, &self.roots] {
            // each was read from a bounded file or made by us
            bytes.extend_from_slice(&(part.len() as u32).to_le_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Reads what [`Identity::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`Error::Certificate`] or [`Error::Name`] if the bytes are anything else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        const PLACE: &str = "identity of a parent process";
        let damaged = || Error::certificate(PLACE, "is damaged, or of another version of hurtig");
        let mut rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let mut part = || {
            let length = rest.try_get_u32_le().map_err(|_| damaged())? as usize;
            let (part, after) = rest.split_at_checked(length).ok_or_else(damaged)?;
            rest = after;
            Ok(part.to_vec())
        };
        let (chain, key, roots) = (part()?, part()?, part()?);
        match rest.is_empty() {
            true => Self::from_pem(chain, key, roots, &PLACE),
            false => Err(damaged()),
        }
    }

    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates(&self.chain, &self.name)
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, Error> {
        PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| Error::certificate(&self.name, format!("the key is not PEM: {error}")))
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.roots, &self.name)? {
            roots.add(root).map_err(|source| Error::Tls { name: self.name.to_string(), source })?;
        }
        Ok(roots)
    }
}

fn certificates(pem: &[u8], name: &Name) -> Result<Vec<CertificateDer<'static>>, Error> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| Error::certificate(name, format!("a certificate is not PEM: {error}")))
}
