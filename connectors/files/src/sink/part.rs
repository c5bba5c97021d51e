//! Names of part files, and what a checkpoint keeps of them.
//!
//! A part file is `part-<job>-<subtask>-<counter>.<ending>`; until it is published it is called the same with a dot
//! before it and `.inprogress.<operator>.<attempt>` behind it, in the same folder, so that publishing is a rename.

use hurtig_dataflow::ids::Attempt;
use hurtig_dataflow::operator::Place;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const IN_PROGRESS: &str = "inprogress";

/// What names of a writer's files are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) job: String,
    /// Tells the files of two sinks of one job apart.
    pub(super) operator: String,
    pub(super) subtask: usize,
    pub(super) attempt: Attempt,
}

impl Names {
    pub(super) fn of(place: &Place) -> Self {
        Names {
            job: place.job.short(),
            operator: format!("{:08x}", fnv(place.uid.as_bytes())),
            subtask: place.subtask,
            attempt: place.attempt,
        }
    }

    /// The published file.
    pub(super) fn published(&self, folder: &Path, counter: u64, extension: &str) -> PathBuf {
        folder.join(format!("part-{}-{}-{counter}.{extension}", self.job, self.subtask))
    }

    /// The file before it is published.
    pub(super) fn in_progress(&self, folder: &Path, counter: u64, extension: &str) -> PathBuf {
        let Names { job, operator, subtask, attempt } = self;
        let attempt = attempt.0;
        folder.join(format!(".part-{job}-{subtask}-{counter}.{extension}.{IN_PROGRESS}.{operator}.{attempt}"))
    }

    /// Reads the name of a file that is not published; nothing for all others.
    pub(super) fn parse(name: &str) -> Option<Names> {
        let mut parts = name.strip_prefix(".part-")?.splitn(3, '-');
        let (job, subtask, rest) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        let (rest, attempt) = rest.rsplit_once('.')?;
        let (rest, operator) = rest.rsplit_once('.')?;
        rest.strip_suffix(IN_PROGRESS)?;
        let attempt = Attempt(attempt.parse().ok()?);
        Some(Names { job: job.to_string(), operator: operator.to_string(), subtask, attempt })
    }

    /// Whether the file may have been left over by a predecessor of this writer: same operator, no later attempt of
    /// the same job or any of the job whose checkpoint is restored, and a subtask that this one follows. In the same
    /// attempt no other writer has such files.
    pub(super) fn follows(&self, other: &Names, restored_job: &str, parallelism: usize) -> bool {
        let is_before = match self.job == other.job {
            true => other.attempt <= self.attempt,
            false => other.job == restored_job,
        };
        is_before && self.operator == other.operator && other.subtask % parallelism == self.subtask
    }
}

/// The 32 bit FNV-1a hash, here to shorten names.
fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A closed file that is to be published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Closed {
    pub(super) from: PathBuf,
    pub(super) to: PathBuf,
    pub(super) bytes: u64,
}

/// A file that stays open across a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub(super) path: PathBuf,
    pub(super) bucket: String,
    pub(super) bytes: u64,
    /// Processing time of its first record.
    pub(super) since: i64,
}

/// What a writer asks of the committer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Committable {
    /// Give the file its name.
    Publish(Closed),
    /// Delete the file: its content is in another since this checkpoint.
    Delete(PathBuf),
}

/// What a writer keeps in a checkpoint.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct WriterState {
    /// The job that took the checkpoint, as in the names of its files.
    #[serde(default)]
    pub(super) job: String,
    /// Number of the next file; larger than any of this writer before.
    pub(super) counter: u64,
    /// Files that stay open.
    pub(super) kept: Vec<Kept>,
    /// Files that are to be published with this checkpoint or before.
    pub(super) closed: Vec<Closed>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_other_names_are_not() {
        let names =
            Names { job: "0a1b2c3d".into(), operator: "deadbeef".into(), subtask: 3, attempt: Attempt(2) };
        let path = names.in_progress(Path::new("out"), 17, "tar.csv");
        assert_eq!(path, Path::new("out/.part-0a1b2c3d-3-17.tar.csv.inprogress.deadbeef.2"));
        assert_eq!(Names::parse(path.file_name().unwrap().to_str().unwrap()), Some(names.clone()));
        assert_eq!(names.published(Path::new("out"), 17, "csv"), Path::new("out/part-0a1b2c3d-3-17.csv"));
        for other in [
            "part-0a1b2c3d-3-17.csv",
            ".part-0a1b2c3d-3-17.csv",
            ".hurtig-lock",
            ".part-a-b-c.inprogress.d.1",
        ] {
            assert_eq!(Names::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_writer_follows_earlier_attempts_of_its_own_subtasks_only() {
        let names = |subtask, attempt| Names {
            job: "j".into(),
            operator: "o".into(),
            subtask,
            attempt: Attempt(attempt),
        };
        assert!(names(1, 2).follows(&names(1, 1), "", 2));
        assert!(names(1, 2).follows(&names(3, 1), "", 2));
        assert!(!names(1, 2).follows(&names(0, 1), "", 2));
        assert!(!names(1, 2).follows(&names(1, 3), "", 2));
        assert!(!names(1, 2).follows(&Names { operator: "p".into(), ..names(1, 1) }, "", 2));
        let earlier = Names { job: "i".into(), ..names(1, 7) };
        assert!(names(1, 1).follows(&earlier, "i", 2));
        assert!(!names(1, 1).follows(&earlier, "j", 2));
    }
}
