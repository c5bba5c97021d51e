//! One process at a time: a file in the directory that its user holds locked.
//!
//! The lock is the system's (`flock`), so it ends with the process however that ends, and the file stays. In it
//! stands the holder's process id, for the message to whoever comes second.

use crate::error::Error;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

const LOCK_FILE: &str = "lock";

/// Holds the directory until dropped.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    _file: File,
}

impl DirectoryLock {
    /// Locks a directory that exists.
    pub(crate) fn take(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(LOCK_FILE);
        let failed = |error| Error::of_io("lock", &path, error);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = holder(&mut file);
                return Err(Error::InUse { path: directory.display().to_string(), holder });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        file.set_len(0).and_then(|()| file.rewind()).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(DirectoryLock { _file: file })
    }
}

/// The process that holds the lock; `None` if it is about to write its id, or something else stands there.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_is_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::take(directory.path()).unwrap();
        let refused = DirectoryLock::take(directory.path()).unwrap_err().to_string();
        assert!(refused.contains(&format!("in use by process {}", std::process::id())), "{refused}");
        drop(first);
        DirectoryLock::take(directory.path()).unwrap();
    }

    #[test]
    fn what_a_dead_process_left_in_the_file_does_not_matter() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join(LOCK_FILE), "4194304 and more text than any process id has")
            .unwrap();
        let _first = DirectoryLock::take(directory.path()).unwrap();
        let text = std::fs::read_to_string(directory.path().join(LOCK_FILE)).unwrap();
        assert_eq!(text, format!("{}\n", std::process::id()));
    }
}
