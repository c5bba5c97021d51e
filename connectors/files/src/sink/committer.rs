//! Publishes part files: the second phase. What was done before is done again without harm.

use super::open::sync_folder;
use super::part::{Closed, Committable};
use crate::error::{Error, failed, shown, told};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::sink::Committer;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Renames and deletes what writers ask for. What dead attempts left over is deleted by the writers that follow
/// them, see [`super::writer`].
pub(super) struct FileCommitter;

impl Committer for FileCommitter {
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> OpResult {
        let mut folders = BTreeSet::new();
        for committable in &committables {
            match rmp_serde::from_slice(committable)? {
                Committable::Publish(closed) => {
                    publish(&closed).map_err(told)?;
                    folders.extend(closed.to.parent().map(Path::to_path_buf));
                }
                Committable::Delete(path) => match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(told(Error::io("delete", &path, error)));
                    }
                    _ => {}
                },
            }
        }
        for folder in folders {
            sync_folder(&folder).map_err(told)?;
        }
        Ok(())
    }
}

/// Gives a file its name unless it has it already.
pub(super) fn publish(closed: &Closed) -> Result<(), Error> {
    let Closed { from, to, bytes } = closed;
    let (hidden, published) = (length(from)?, length(to)?);
    let right = |path: &Path, found: u64| match found == *bytes {
        true => Ok(()),
        false => Err(Error::Length { path: shown(path), found, expected: *bytes }),
    };
    match (hidden, published) {
        (None, Some(found)) => right(to, found),
        (None, None) => Err(Error::Lost(shown(to))),
        (Some(found), _) => {
            right(from, found)?;
            rename_to_free(from, to)
        }
    }
}

fn length(path: &Path) -> Result<Option<u64>, Error> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.len())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Renames without ever overwriting: a second name for the file cannot be given where there is one already, then the
/// first is taken away.
fn rename_to_free(from: &Path, to: &Path) -> Result<(), Error> {
    match fs::hard_link(from, to) {
        Ok(()) => fs::remove_file(from).map_err(failed("rename", from)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // An earlier try may have stopped half-way.
            let identity = |path: &Path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
            match (identity(from), identity(to)) {
                (Ok(a), Ok(b)) if a == b => fs::remove_file(from).map_err(failed("rename", from)),
                _ => Err(Error::Occupied(shown(to))),
            }
        }
        // Not every file system knows hard links.
        Err(_) if to.symlink_metadata().is_err() => fs::rename(from, to).map_err(failed("write", to)),
        Err(_) => Err(Error::Occupied(shown(to))),
    }
}
