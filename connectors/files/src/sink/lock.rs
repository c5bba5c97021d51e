//! Keeps two jobs from writing to one folder.
//!
//! Every writer holds a shared lock of the operating system on the file `.hurtig-lock`, which says whose it is. Who
//! gets it alone finds no other job alive, whatever the file says, and writes himself into it. The last to leave
//! deletes it.

use crate::error::{Error, failed, shown};
use hurtig_dataflow::operator::Place;
use std::fs::{self, File, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const NAME: &str = ".hurtig-lock";

/// Tries before giving up on a folder that changes hands just now.
const TRIES: usize = 100;

/// A writer's share of a folder.
pub(super) struct FolderLock {
    file: File,
    path: PathBuf,
}

impl FolderLock {
    /// Takes a share of the folder for an operator of a job.
    pub(super) fn acquire(folder: &Path, place: &Place) -> Result<Self, Error> {
        let path = folder.join(NAME);
        let owner = format!("{} {}\n", place.job, place.uid);
        let mut holder = String::new();
        for _ in 0..TRIES {
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed("write", &path))?;
            let alone = try_lock(file.try_lock(), &path)?;
            if alone {
                if !is_at(&file, &path) {
                    continue;
                }
                let text = format!("{owner}process {}\njob {}\n", std::process::id(), place.job_name);
                let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
                written.map_err(failed("write", &path))?;
            }
            // Not at once, so somebody may come between: whose the folder is, is read again below.
            if !try_lock(file.try_lock_shared(), &path)? {
                holder = fs::read_to_string(&path).unwrap_or_default();
                if !holder.starts_with(&owner) && !holder.is_empty() {
                    break;
                }
                std::thread::yield_now();
                continue;
            }
            holder.clear();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            read.map_err(failed("read", &path))?;
            if holder.starts_with(&owner) && is_at(&file, &path) {
                return Ok(FolderLock { file, path });
            }
            if !holder.is_empty() && is_at(&file, &path) {
                break;
            }
        }
        Err(Error::InUse { folder: shown(folder), holder: describe(&holder, place) })
    }
}

impl Drop for FolderLock {
    fn drop(&mut self) {
        // Whoever came between finds that the file it locked has no name any more, and makes a new one.
        if self.file.try_lock().is_ok() && is_at(&self.file, &self.path) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the lock was given.
fn try_lock(result: Result<(), TryLockError>, path: &Path) -> Result<bool, Error> {
    match result {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(Error::io("lock", path, error)),
    }
}

/// Whether the file is still the one with this name.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Whom a lock file names.
fn describe(text: &str, place: &Place) -> String {
    let mut lines = text.lines();
    let (job, uid) = lines.next().and_then(|line| line.split_once(' ')).unwrap_or_default();
    let process = lines.next().unwrap_or("of unknown process");
    let name = lines.next().and_then(|line| line.strip_prefix("job ")).unwrap_or_default();
    if job == place.job.to_string() {
        return format!("another sink of this job ('{uid}')");
    }
    format!("job {} '{name}' ({process})", job.get(..8).unwrap_or("unknown"))
}
