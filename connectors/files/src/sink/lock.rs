//! Keeps two jobs from writing to one folder.
//!
//! Every writer holds a shared lock of the operating system on the file `.hurtig-lock`, which says whose it is. Who
//! gets it alone finds no other job alive, whatever the file says, and writes himself into it. The last to leave
//! deletes it.

use crate::error::{Error, failed, shown};
use hurtig_dataflow::operator::Place;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
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
            let alone = match file.try_lock() {
                Ok(()) => true,
                Err(TryLockError::WouldBlock) => false,
                Err(TryLockError::Error(error)) => granted(Err(error), &path).map(|()| true)?,
            };
            if alone && is_at(&file, &path) {
                let text = format!("{owner}process {}\njob {}\n", std::process::id(), place.job_name);
                let written = file.set_len(0).and_then(|()| file.write_all(text.as_bytes()));
                written.map_err(failed("write", &path))?;
            }
            // Waits for nothing long: nobody stays alone. Others may come between, so whose the folder is, is read.
            granted(file.lock_shared(), &path)?;
            holder.clear();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut holder));
            read.map_err(failed("read", &path))?;
            if holder.starts_with(&owner) && is_at(&file, &path) {
                return Ok(FolderLock { file, path });
            }
            // Somebody else's, unless he is just leaving.
            drop(file);
            std::thread::yield_now();
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

/// Not every file system knows locks; there nobody is refused.
fn granted(result: io::Result<()>, path: &Path) -> Result<(), Error> {
    match result {
        Err(error) if error.kind() != io::ErrorKind::Unsupported => Err(Error::io("lock", path, error)),
        _ => Ok(()),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sink::tests::place;

    #[test]
    fn subtasks_of_one_job_share_a_folder_and_others_are_refused_until_it_ends() {
        let folder = tempfile::tempdir().unwrap();
        let first = FolderLock::acquire(folder.path(), &place(1, 0, 2, 1)).unwrap();
        let second = FolderLock::acquire(folder.path(), &place(1, 1, 2, 1)).unwrap();
        drop(first);
        let refused = FolderLock::acquire(folder.path(), &place(2, 0, 1, 1)).err().unwrap().to_string();
        assert!(refused.contains("is in use by job 00000000 'test' (process "), "{refused}");
        assert!(refused.ends_with("cancel that job, or choose another folder"), "{refused}");
        let mut sibling = place(1, 0, 1, 1);
        sibling.uid = "another".into();
        let refused = FolderLock::acquire(folder.path(), &sibling).err().unwrap().to_string();
        assert!(refused.contains("another sink of this job ('sink')"), "{refused}");
        drop(second);
        assert!(!folder.path().join(NAME).exists());
        FolderLock::acquire(folder.path(), &place(2, 0, 1, 1)).unwrap();
    }

    #[test]
    fn a_lock_file_whose_process_is_dead_is_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(NAME), "somebody else\nprocess 1\njob old\n").unwrap();
        FolderLock::acquire(folder.path(), &place(2, 0, 1, 1)).unwrap();
    }

    #[test]
    fn of_many_that_come_at_once_only_one_job_gets_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        for _ in 0..50 {
            let taken: Vec<(u128, FolderLock)> = std::thread::scope(|scope| {
                let path = folder.path();
                let threads: Vec<_> = (0..6u128)
                    .map(|i| {
                        scope.spawn(move || {
                            Some((i % 2, FolderLock::acquire(path, &place(i % 2, 0, 1, 1)).ok()?))
                        })
                    })
                    .collect();
                threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
            });
            assert!(!taken.is_empty());
            assert!(taken.iter().all(|(job, _)| *job == taken[0].0));
            assert_eq!(taken.len(), 3, "all subtasks of the job that got it");
        }
    }
}
