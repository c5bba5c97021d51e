//! Programs' files, named by their content.
//!
//! ```text
//! <directory>/<sha256>             a program, complete, executable, never changed
//! <directory>/upload-<number>.tmp  one on its way; deleted when the directory is opened
//! ```
//!
//! A file comes to its name by a rename after all of it is on disk, so what has a name is whole. Uploads do not know
//! of each other: of two with the same content, the second finds the name taken and drops its copy.

use crate::error::Error;
use crate::hash::ProgramHash;
use crate::lock::DirectoryLock;
use crate::open::publish;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Programs' files in a directory of their own. Belongs to one process at a time; clones are cheap and share it.
///
/// ```
/// use hurtig_metadata::{ProgramHash, ProgramStore};
/// # fn main() -> Result<(), hurtig_metadata::Error> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let directory = directory.path().join("programs");
/// let programs = ProgramStore::open(&directory, 1 << 30)?;
/// let hash = ProgramHash::of(b"#!/bin/true\n");
/// let mut upload = programs.begin(12, hash)?;
/// upload.write(b"#!/bin")?;
/// upload.write(b"/true\n")?;
/// upload.finish(|_| Ok(()))?;
/// assert!(programs.has(hash));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct ProgramStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    limit_bytes: u64,
    next_upload: AtomicU64,
    /// Held while names appear or go, with their rows.
    names: Mutex<()>,
    _lock: DirectoryLock,
}

/// A program that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredProgram {
    /// Its hash.
    pub hash: ProgramHash,
    /// Size of its file.
    pub size_bytes: u64,
    /// Its file.
    pub path: PathBuf,
}

/// A program on its way. Dropped before it is finished, it leaves nothing.
#[derive(Debug)]
pub struct Upload {
    shared: Arc<Shared>,
    path: PathBuf,
    file: File,
    hasher: Sha256,
    expected: ProgramHash,
    announced_bytes: u64,
    written_bytes: u64,
}

impl ProgramStore {
    /// Opens the store in a directory, and makes that if it is not there. Programs of more than `limit_bytes` are
    /// refused. What uploads left that were cut off is deleted.
    ///
    /// # Errors
    /// Another process has the directory; the disk failed.
    pub fn open(directory: &Path, limit_bytes: u64) -> Result<Self, Error> {
        fs::create_dir_all(directory).map_err(|error| Error::of_io("create", directory, error))?;
        let lock = DirectoryLock::take(directory)?;
        let shared = Shared {
            directory: directory.to_path_buf(),
            limit_bytes,
            next_upload: AtomicU64::new(0),
            names: Mutex::new(()),
            _lock: lock,
        };
        for name in shared.names()?.iter().filter(|name| is_upload(name)) {
            remove(&shared.directory.join(name))?;
        }
        Ok(ProgramStore { shared: Arc::new(shared) })
    }

    /// Begins to take in a program of an announced size and content. One that is there already may come again.
    ///
    /// # Errors
    /// The program is larger than this store's limit; the disk failed.
    pub fn begin(&self, size_bytes: u64, expected: ProgramHash) -> Result<Upload, Error> {
        let shared = &self.shared;
        if size_bytes > shared.limit_bytes {
            return Err(Error::TooLarge { what: "a program", size: size_bytes, limit: shared.limit_bytes });
        }
        let number = shared.next_upload.fetch_add(1, Ordering::Relaxed);
        let path = shared.directory.join(format!("upload-{number}.tmp"));
        // The owner's only until it is what it was announced to be, and not to be executed.
        let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = opened.map_err(|error| Error::of_io("create", &path, error))?;
        Ok(Upload {
            shared: shared.clone(),
            path,
            file,
            hasher: Sha256::new(),
            expected,
            announced_bytes: size_bytes,
            written_bytes: 0,
        })
    }

    /// Whether a program is stored.
    pub fn has(&self, hash: ProgramHash) -> bool {
        self.path(hash).is_some()
    }

    /// The file of a stored program, executable.
    ///
    /// A process that is just being started elsewhere in this one may still hold the file open from its upload: then
    /// the system refuses to execute it for a moment (`ErrorKind::ExecutableFileBusy`), and the caller tries again.
    pub fn path(&self, hash: ProgramHash) -> Option<PathBuf> {
        let path = self.shared.path(hash);
        path.is_file().then_some(path)
    }

    /// All stored programs, in the order of their hashes.
    ///
    /// # Errors
    /// The disk failed.
    pub fn list(&self) -> Result<Vec<ProgramHash>, Error> {
        let mut found: Vec<ProgramHash> =
            self.shared.names()?.iter().filter_map(|name| name.parse().ok()).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// Deletes all programs but those that `keep` names, and returns the deleted ones. No upload is finished
    /// meanwhile, so `keep` is the place to forget what is not needed:
    ///
    /// ```
    /// # use hurtig_metadata::{MetadataStore, ProgramStore, Retention};
    /// # fn main() -> Result<(), hurtig_metadata::Error> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let metadata = MetadataStore::open(directory.path(), Retention::default())?;
    /// # let programs = ProgramStore::open(&directory.path().join("programs"), 1 << 30)?;
    /// # let a_day_ago = 0;
    /// programs.collect(|| metadata.forget_unused_programs(a_day_ago))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `keep` failed, and nothing is deleted; the disk failed.
    pub fn collect(
        &self,
        keep: impl FnOnce() -> Result<Vec<ProgramHash>, Error>,
    ) -> Result<Vec<ProgramHash>, Error> {
        let _names = self.shared.names.lock();
        let keep = keep()?;
        let mut gone = self.list()?;
        gone.retain(|hash| !keep.contains(hash));
        for hash in &gone {
            remove(&self.shared.path(*hash))?;
        }
        Ok(gone)
    }
}

impl Upload {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// There are more than announced; the disk failed. The upload is of no use then: drop it.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), Error> {
        let total = self.written_bytes.saturating_add(chunk.len() as u64);
        if total > self.announced_bytes {
            return Err(self.wrong_size(total));
        }
        self.file.write_all(chunk).map_err(|error| Error::of_io("write", &self.path, error))?;
        self.hasher.update(chunk);
        self.written_bytes = total;
        Ok(())
    }

    /// Checks the size and content, stores the program and registers it: `register` runs once the file has its name,
    /// and no collection comes between the two. If it fails, the file waits for the next collection.
    ///
    /// # Errors
    /// Size or content are not as announced, and nothing is left of the upload; `register` failed; the disk failed.
    pub fn finish(
        mut self,
        register: impl FnOnce(&StoredProgram) -> Result<(), Error>,
    ) -> Result<StoredProgram, Error> {
        if self.written_bytes != self.announced_bytes {
            return Err(self.wrong_size(self.written_bytes));
        }
        let found = ProgramHash(std::mem::take(&mut self.hasher).finalize().into());
        if found != self.expected {
            return Err(Error::UploadHash { announced: self.expected, found });
        }
        let permitted = self.file.set_permissions(Permissions::from_mode(0o755));
        permitted
            .and_then(|()| self.file.sync_all())
            .map_err(|error| Error::of_io("write", &self.path, error))?;
        let program =
            StoredProgram { hash: found, size_bytes: self.written_bytes, path: self.shared.path(found) };
        let shared = self.shared.clone();
        let _names = shared.names.lock();
        if !program.path.is_file() {
            publish(&self.path, &program.path)?;
        }
        register(&program)?;
        Ok(program)
    }

    fn wrong_size(&self, found: u64) -> Error {
        Error::UploadSize { hash: self.expected, announced: self.announced_bytes, found }
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        // Gone already if the file has taken its name.
        if let Err(error) = remove(&self.path) {
            tracing::warn!("an upload's file is left behind until the next start: {error}");
        }
    }
}

impl Shared {
    fn path(&self, hash: ProgramHash) -> PathBuf {
        self.directory.join(hash.to_string())
    }

    /// Names of all files; those that are not text are not ours.
    fn names(&self) -> Result<Vec<String>, Error> {
        let failed = |error| Error::of_io("list", &self.directory, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }
}

fn is_upload(name: &str) -> bool {
    let number = name.strip_prefix("upload-").and_then(|rest| rest.strip_suffix(".tmp"));
    number.is_some_and(|number| number.parse::<u64>().is_ok())
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(Error::of_io("delete", path, error)),
        _ => Ok(()),
    }
}
