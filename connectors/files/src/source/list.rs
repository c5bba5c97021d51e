//! Finds files and cuts them into splits: the split enumerator.

use super::FileSplit;
use super::input::Compression;
use crate::error::{Error, failed, shown, told};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::source::{Assignment, SplitEnumerator};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Hands out splits one by one, in the order of paths.
pub(super) struct Enumerator {
    path: PathBuf,
    monitor: Option<Duration>,
    /// Size of splits, or nothing if the format does not allow any.
    split_bytes: Option<u64>,
    left: Left,
    /// Bytes of the splits that are left, where none are added.
    unread: u64,
}

/// What a checkpoint keeps.
#[derive(Default, Serialize, Deserialize)]
struct Left {
    splits: VecDeque<FileSplit>,
    /// Files taken so far, where new ones are looked for.
    taken: BTreeSet<PathBuf>,
}

impl Enumerator {
    pub(super) fn new(
        path: PathBuf,
        monitor: Option<Duration>,
        split_bytes: Option<u64>,
        restored: Option<&[u8]>,
    ) -> OpResult<Self> {
        let mut this = Enumerator { path, monitor, split_bytes, left: Left::default(), unread: 0 };
        match restored {
            Some(bytes) => this.left = rmp_serde::from_slice(bytes)?,
            None => this.look().map_err(told)?,
        }
        this.unread = this.left.splits.iter().map(FileSplit::bytes).sum();
        Ok(this)
    }

    /// Takes the files that are there and were not taken before.
    fn look(&mut self) -> Result<(), Error> {
        for (file, bytes) in files(&self.path, self.monitor.is_some())? {
            if self.monitor.is_none() || self.left.taken.insert(file.clone()) {
                self.left.splits.extend(splits(file, bytes, self.split_bytes));
            }
        }
        Ok(())
    }
}

impl SplitEnumerator<FileSplit> for Enumerator {
    fn next(&mut self, _subtask: usize, _parallelism: usize) -> OpResult<Assignment<FileSplit>> {
        if self.left.splits.is_empty() && self.monitor.is_some() {
            self.look().map_err(told)?;
        }
        Ok(match (self.left.splits.pop_front(), self.monitor) {
            (Some(split), _) => {
                self.unread = self.unread.saturating_sub(split.bytes());
                Assignment::Splits(vec![split])
            }
            (None, Some(interval)) => Assignment::Later(interval),
            (None, None) => Assignment::Finished,
        })
    }

    fn snapshot(&self) -> OpResult<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(&self.left)?)
    }

    fn unread(&self) -> Option<u64> {
        self.monitor.is_none().then_some(self.unread)
    }
}

/// Cuts a file into splits. A compressed one cannot be cut, and is as long as it turns out to be.
fn splits(path: PathBuf, bytes: u64, split_bytes: Option<u64>) -> Vec<FileSplit> {
    let split = |start: u64, end: Option<u64>| FileSplit {
        path: path.clone(),
        start,
        end,
        file_bytes: bytes,
        position: start,
        line: (start == 0).then_some(1),
    };
    match (Compression::of(&path), split_bytes) {
        (Some(_), _) => vec![split(0, None)],
        (None, None) => vec![split(0, Some(bytes))],
        (None, Some(size)) => (0..bytes.div_ceil(size))
            .map(|at| split(at * size, Some(bytes.min((at + 1).saturating_mul(size)))))
            .collect(),
    }
}

/// The files that a path means, by path, with their lengths.
fn files(path: &Path, may_be_none: bool) -> Result<BTreeMap<PathBuf, u64>, Error> {
    let mut found = BTreeMap::new();
    if let Ok(meta) = path.metadata() {
        if meta.is_dir() {
            walk(path, &mut found)?;
            if found.is_empty() && !may_be_none {
                return Err(Error::EmptyFolder(shown(path)));
            }
        } else {
            found.insert(path.to_path_buf(), meta.len());
        }
        return Ok(found);
    }
    let pattern = path.to_string_lossy();
    if !pattern.contains(['*', '?', '[']) {
        // Says why there is none: nothing there, or no permission to look.
        path.metadata().map_err(failed("read", path))?;
    }
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let matches = glob::glob_with(&pattern, options)
        .map_err(|error| Error::Pattern { pattern: shown(path), reason: error.msg.to_string() })?;
    let fixed = fixed_part(path);
    fixed.metadata().map_err(failed("read", fixed))?;
    for file in matches {
        let file = file.map_err(|error| {
            let path = error.path().to_path_buf();
            Error::io("read", &path, error.into())
        })?;
        let hidden = file.strip_prefix(fixed).is_ok_and(|inner| inner.iter().any(is_hidden));
        // A file that is gone between being listed and being looked at was not there.
        if let (false, Ok(meta)) = (hidden, file.metadata())
            && meta.is_file()
        {
            found.insert(file, meta.len());
        }
    }
    if found.is_empty() && !may_be_none {
        return Err(Error::NoMatch(shown(path)));
    }
    Ok(found)
}

/// The folder that a pattern's matches lie in or below.
fn fixed_part(pattern: &Path) -> &Path {
    let is_pattern = |part: &Path| part.to_string_lossy().contains(['*', '?', '[']);
    pattern.ancestors().find(|ancestor| !is_pattern(ancestor)).unwrap_or(Path::new("/"))
}

fn is_hidden(name: &std::ffi::OsStr) -> bool {
    matches!(name.as_encoded_bytes().first(), Some(b'.' | b'_'))
}

fn walk(folder: &Path, found: &mut BTreeMap<PathBuf, u64>) -> Result<(), Error> {
    for entry in folder.read_dir().map_err(failed("read", folder))? {
        let entry = entry.map_err(failed("read", folder))?;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        // Follows links; what is gone meanwhile was not there.
        let Ok(meta) = path.metadata() else { continue };
        if meta.is_dir() {
            walk(&path, found)?;
        } else if meta.is_file() {
            found.insert(path, meta.len());
        }
    }
    Ok(())
}
