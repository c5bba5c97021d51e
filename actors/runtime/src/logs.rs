//! Log files of a daemon and of the processes that it has started: which there are, parts of them, and that they do not
//! grow for ever.
//!
//! # Decisions
//! * 2026-11: a file that has grown is copied and then made empty, by the daemon in whose folder it is. A job's process
//!   writes through a descriptor that it was given and may outlive the daemon, so nobody can tell it to open another
//!   file. What is written between the last look at the copy and the cut is lost: some microseconds' worth.

use crate::config::LogConfig;
use crate::process::child::is_running;
use crate::protocol::{Answer, LogAnswer, LogFile, LogPart, LogQuestion};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// The longest part of a file that is answered at once.
pub const MOST_BYTES: u64 = 256 << 10;

/// Files that are listed: the newest.
const MOST_FILES: usize = 2_000;

/// Folders within one another that are looked into.
const DEPTH: usize = 4;

/// Answers a question about the log files in a folder.
pub fn answer(folder: &Path, question: &LogQuestion) -> Answer<LogAnswer> {
    match question {
        LogQuestion::List { under } => Ok(LogAnswer::Files(list(folder, under))),
        LogQuestion::Read { name, from } => {
            let unread = |error: io::Error| format!("log '{name}' cannot be read: {error}");
            let path = path_of(folder, name).ok_or_else(|| format!("there is no log '{name}'"))?;
            read(&path, *from).map(LogAnswer::Part).map_err(unread)
        }
    }
}

/// The files of a folder whose names begin so, the newest first.
fn list(folder: &Path, under: &str) -> Vec<LogFile> {
    let file = |(path, metadata): (PathBuf, fs::Metadata)| {
        let name = path.strip_prefix(folder).ok()?.to_str()?.to_owned();
        let modified = metadata.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
        Some(LogFile { name, size_bytes: metadata.len(), modified_at: modified.as_millis() as i64 })
    };
    let all = files(folder, DEPTH).into_iter().filter_map(file);
    let mut all: Vec<_> = all.filter(|file| file.name.starts_with(under)).collect();
    all.sort_by(|a, b| (b.modified_at, &a.name).cmp(&(a.modified_at, &b.name)));
    all.truncate(MOST_FILES);
    all
}

/// Log files in a folder and those within it. Links are not followed.
fn files(folder: &Path, depth: usize) -> Vec<(PathBuf, fs::Metadata)> {
    let mut found = Vec::new();
    for entry in folder.read_dir().into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path();
        if metadata.is_dir() && depth > 0 {
            found.append(&mut files(&path, depth - 1));
        } else if metadata.is_file() && is_log(&path) {
            found.push((path, metadata));
        }
    }
    found
}

/// `x.log`, `x.out`, and what was copied from them: `x.log.1`.
fn is_log(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let base = match name.rsplit_once('.') {
        Some((base, number)) if number.bytes().all(|digit| digit.is_ascii_digit()) => base,
        _ => name,
    };
    base.ends_with(".log") || base.ends_with(".out")
}

/// The file of a name, if it is one of those that are listed: nothing else in the machine can be named.
fn path_of(folder: &Path, name: &str) -> Option<PathBuf> {
    let mut path = folder.to_path_buf();
    for part in Path::new(name).components() {
        let Component::Normal(part) = part else { return None };
        path.push(part);
        // No link leads out of the folder.
        let metadata = path.symlink_metadata().ok()?;
        if !metadata.is_dir() && !metadata.is_file() {
            return None;
        }
    }
    (is_log(&path) && path.is_file()).then_some(path)
}

/// A part of a file from a place on, or its end.
fn read(path: &Path, from: Option<u64>) -> io::Result<LogPart> {
    let mut file = File::open(path)?;
    let size_bytes = file.metadata()?.len();
    let offset = from.unwrap_or(size_bytes.saturating_sub(MOST_BYTES)).min(size_bytes);
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES).read_to_end(&mut bytes)?;
    Ok(LogPart { size_bytes, offset, bytes: bytes.into() })
}

/// Keeps the log files of a folder from growing for ever, as long as it is polled. `of_jobs` is the folder within it that
/// has a folder for each job, of nothing but logs.
pub async fn look_after(folder: PathBuf, of_jobs: Option<PathBuf>, config: LogConfig) {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let (folder, of_jobs, config) = (folder.clone(), of_jobs.clone(), config.clone());
        let looked = tokio::task::spawn_blocking(move || {
            for (path, metadata) in files(&folder, DEPTH) {
                let is_copy = path.extension().is_some_and(|ending| ending != "log" && ending != "out");
                if !is_copy
                    && metadata.len() > config.max_size.0
                    && let Err(error) = rotate(&path, config.files)
                {
                    tracing::warn!("log {} grows: {error}", path.display());
                }
            }
            of_jobs.iter().for_each(|of_jobs| forget_old(of_jobs, config.keep));
        });
        // It ends with the process.
        let _ = looked.await;
    }
}

/// Moves what a file holds to a copy, before which so many older ones are kept.
fn rotate(path: &Path, copies: usize) -> io::Result<()> {
    let numbered = |number: usize| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    let mut from = File::options().read(true).write(true).open(path)?;
    if copies > 0 {
        // Older copies stay where they are until the new one is whole.
        let mut unfinished = path.as_os_str().to_owned();
        unfinished.push(".unfinished");
        if let Err(error) = copy(&mut from, Path::new(&unfinished)) {
            let _ = fs::remove_file(&unfinished);
            return Err(error);
        }
        for number in (1..copies).rev().filter(|number| numbered(*number).exists()) {
            fs::rename(numbered(number), numbered(number + 1))?;
        }
        fs::rename(&unfinished, numbered(1))?;
    }
    from.set_len(0)
}

/// Copies what is there, then what has come meanwhile, but does not run after a program that writes without end.
fn copy(from: &mut File, to: &Path) -> io::Result<()> {
    let mut to = File::create(to)?;
    for _ in 0..2 {
        let left = from.metadata()?.len().saturating_sub(from.stream_position()?);
        io::copy(&mut from.take(left), &mut to)?;
    }
    Ok(())
}

/// Whether one of the processes still runs that write into a job's folder.
fn is_at_work(of_job: &Path) -> bool {
    let files = of_job.read_dir().into_iter().flatten().flatten();
    files
        .map(|file| file.path())
        .any(|file| file.extension().is_some_and(|e| e == "process") && is_running(&file))
}

/// Deletes the logs of jobs that have been silent for so long and of which no process runs.
fn forget_old(of_jobs: &Path, keep: Duration) {
    #[allow(clippy::disallowed_methods, reason = "compared with times of files")]
    let now = SystemTime::now();
    for job in of_jobs.read_dir().into_iter().flatten().flatten() {
        let times = job.path().read_dir().into_iter().flatten().flatten();
        let newest = times.filter_map(|file| file.metadata().ok()?.modified().ok()).max();
        if is_at_work(&job.path()) {
            continue;
        }
        let is_old = newest.is_some_and(|newest| now.duration_since(newest).is_ok_and(|age| age > keep));
        if is_old && let Err(error) = fs::remove_dir_all(job.path()) {
            tracing::warn!("old logs in {} are not deleted: {error}", job.path().display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("jobs/1")).unwrap();
        fs::write(folder.path().join("jobs/1/worker.log"), "0123456789").unwrap();
        fs::write(folder.path().join("jobs/1/worker.key"), "secret").unwrap();
        fs::write(folder.path().join("daemon.log"), "it runs").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("passwd.log")).unwrap();
        std::os::unix::fs::symlink("/var", folder.path().join("var")).unwrap();
        folder
    }

    #[test]
    fn logs_are_listed_and_nothing_else() {
        let mut names: Vec<_> = list(folder().path(), "").into_iter().map(|file| file.name).collect();
        names.sort();
        assert_eq!(names, ["daemon.log", "jobs/1/worker.log"]);
        assert_eq!(list(folder().path(), "jobs/").len(), 1);
    }

    #[test]
    fn parts_of_logs_are_read_and_of_nothing_else() {
        let folder = folder();
        let read =
            |name: &str, from| answer(folder.path(), &LogQuestion::Read { name: name.to_owned(), from });
        let part = LogPart { size_bytes: 10, offset: 7, bytes: b"789".to_vec().into() };
        assert_eq!(read("jobs/1/worker.log", Some(7)), Ok(LogAnswer::Part(part)));
        let end = LogPart { size_bytes: 10, offset: 10, bytes: Vec::new().into() };
        assert_eq!(read("jobs/1/worker.log", Some(u64::MAX)), Ok(LogAnswer::Part(end)));
        for name in [
            "jobs/1/worker.key",
            "passwd.log",
            "../daemon.log",
            "/etc/passwd",
            "jobs/../daemon.log",
            "var/log/dpkg.log",
            "jobs",
            "",
        ] {
            assert_eq!(read(name, None), Err(format!("there is no log '{name}'")), "{name}");
        }
    }

    #[test]
    fn a_log_that_has_grown_is_copied_and_goes_on_empty() {
        let folder = folder();
        let path = folder.path().join("daemon.log");
        let mut writer = File::options().append(true).open(&path).unwrap();
        for round in 0..4 {
            write!(writer, " {round}").unwrap();
            rotate(&path, 2).unwrap();
        }
        write!(writer, " and on").unwrap();
        let content = |name: &str| fs::read_to_string(folder.path().join(name)).ok();
        assert_eq!(content("daemon.log").unwrap(), " and on");
        assert_eq!([content("daemon.log.1"), content("daemon.log.2")], [" 3", " 2"].map(|s| Some(s.into())));
        assert_eq!(content("daemon.log.3"), None);
        rotate(&path, 0).unwrap();
        assert_eq!(content("daemon.log").unwrap(), "");
    }

    #[test]
    fn logs_of_jobs_that_are_long_over_are_deleted() {
        let folder = folder();
        let jobs = folder.path().join("jobs");
        forget_old(&jobs, Duration::from_secs(3_600));
        assert!(jobs.join("1").exists());
        forget_old(&jobs, Duration::ZERO);
        assert!(!jobs.join("1").exists());
    }
}
