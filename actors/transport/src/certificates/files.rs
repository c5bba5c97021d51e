//! Reading and writing small files of certificates and keys: bounded, whole or not at all, keys for the owner's eyes
//! only.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use crate::error::Error;

/// Far more than any chain of certificates needs.
pub(super) const MAX_FILE_BYTES: u64 = 1 << 20;

pub(super) const PUBLIC: u32 = 0o644;
pub(super) const SECRET: u32 = 0o600;

pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::File { action: "read", path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Error::certificate(path.display(), "is too long to hold certificates"));
    }
    Ok(bytes)
}

/// Replaces the file at once, so that a reader finds the old or the new.
pub(super) fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let inner = || -> io::Result<()> {
        let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
        let mut file =
            tempfile::Builder::new().permissions(Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        Ok(())
    };
    inner().map_err(|source| Error::File { action: "write", path: path.to_owned(), source })
}

/// For a folder that will hold keys; leaves one that exists as it is.
pub(super) fn create_folder(path: &Path) -> Result<(), Error> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| Error::File {
        action: "create",
        path: path.to_owned(),
        source,
    })
}
