//! Uploads: whole or not at all, many at once, collected when no job needs them.

use hurtig_dataflow::ids::{Attempt, JobId};
use hurtig_metadata::*;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::tempdir;

const LIMIT: u64 = 1 << 20;

fn upload(programs: &ProgramStore, content: &[u8]) -> Result<StoredProgram, Error> {
    let mut upload = programs.begin(content.len() as u64, ProgramHash::of(content))?;
    content.chunks(1000).try_for_each(|chunk| upload.write(chunk))?;
    upload.finish(|_| Ok(()))
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name != "lock");
    names.sort();
    names
}

#[test]
fn a_stored_program_can_be_executed() {
    let directory = tempdir().unwrap();
    let programs = ProgramStore::open(directory.path(), LIMIT).unwrap();
    let script = b"#!/bin/sh\nexit 7\n";
    let stored = upload(&programs, script).unwrap();
    assert_eq!(programs.path(stored.hash), Some(stored.path.clone()));
    assert_eq!(std::fs::metadata(&stored.path).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(std::fs::read(&stored.path).unwrap(), script);
    // Through the shell, since another test may be starting a process just now.
    let status = std::process::Command::new("/bin/sh").arg(&stored.path).status().unwrap();
    assert_eq!(status.code(), Some(7));
    drop(programs);
    assert!(ProgramStore::open(directory.path(), LIMIT).unwrap().has(stored.hash));
}

#[test]
fn an_upload_that_is_not_what_was_announced_leaves_nothing() {
    let directory = tempdir().unwrap();
    let programs = ProgramStore::open(directory.path(), LIMIT).unwrap();
    let hash = ProgramHash::of(b"right");

    assert!(matches!(programs.begin(LIMIT + 1, hash), Err(Error::TooLarge { .. })));
    let mut long = programs.begin(5, hash).unwrap();
    long.write(b"rig").unwrap();
    assert!(matches!(long.write(b"ht or more"), Err(Error::UploadSize { found: 13, .. })));
    drop(long);
    let mut short = programs.begin(5, hash).unwrap();
    short.write(b"rig").unwrap();
    assert!(matches!(short.finish(|_| Ok(())), Err(Error::UploadSize { found: 3, .. })));
    let mut wrong = programs.begin(5, hash).unwrap();
    wrong.write(b"wrong").unwrap();
    let error = wrong.finish(|_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("upload it again"), "{error}");

    assert_eq!(names(directory.path()), [""; 0]);
}

#[test]
fn uploads_that_were_cut_off_are_gone_after_a_restart() {
    let directory = tempdir().unwrap();
    let programs = ProgramStore::open(directory.path(), LIMIT).unwrap();
    let stored = upload(&programs, b"program").unwrap();
    let mut cut_off = programs.begin(100, ProgramHash::of(b"other")).unwrap();
    cut_off.write(b"oth").unwrap();
    assert_eq!(names(directory.path()).len(), 2);
    let refused = ProgramStore::open(directory.path(), LIMIT).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unusable);
    // As a kill leaves it: the file is there, and nobody is behind it.
    let left = directory.path().join("upload-0.tmp");
    drop((cut_off, programs));
    std::fs::write(left, b"oth").unwrap();
    std::fs::write(directory.path().join("a file of the user"), b"not ours").unwrap();

    let programs = ProgramStore::open(directory.path(), LIMIT).unwrap();
    assert_eq!(names(directory.path()), [stored.hash.to_string(), "a file of the user".to_string()]);
    assert_eq!(programs.list().unwrap(), [stored.hash]);
}

#[test]
#[allow(clippy::disallowed_methods, reason = "the threads end with the test")]
fn many_may_upload_the_same_and_other_programs_at_once() {
    let directory = tempdir().unwrap();
    let programs = ProgramStore::open(directory.path(), LIMIT).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..8u8 {
            let programs = &programs;
            scope.spawn(move || {
                for turn in 0..10u8 {
                    upload(programs, &[7; 50_000]).unwrap();
                    upload(programs, &[thread, turn]).unwrap();
                }
            });
        }
    });
    assert_eq!(programs.list().unwrap().len(), 81);
    assert_eq!(names(directory.path()).len(), 81);
    for hash in programs.list().unwrap() {
        assert_eq!(ProgramHash::of(&std::fs::read(programs.path(hash).unwrap()).unwrap()), hash);
    }
}

#[test]
fn programs_that_no_retained_job_names_are_collected() {
    let directory = tempdir().unwrap();
    let metadata = MetadataStore::open(directory.path(), Retention { ended_jobs: 0 }).unwrap();
    let programs = ProgramStore::open(&directory.path().join("programs"), LIMIT).unwrap();
    let store = |content: &[u8], time| {
        let mut upload = programs.begin(content.len() as u64, ProgramHash::of(content)).unwrap();
        upload.write(content).unwrap();
        let register =
            |program: &StoredProgram| metadata.add_program(program.hash, "p", program.size_bytes, time);
        upload.finish(register).unwrap().hash
    };
    let (used, unused, fresh) = (store(b"used", 1), store(b"unused", 1), store(b"fresh", 10));
    let orphan = upload(&programs, b"without a row").unwrap().hash;
    let job = JobRecord { program: Some(used), ..JobRecord::new(JobId(1), "job", "running", 2) };
    metadata.add_job(&job).unwrap();

    let mut gone = programs.collect(|| metadata.forget_unused_programs(5)).unwrap();
    gone.sort();
    let mut expected = vec![unused, orphan];
    expected.sort();
    assert_eq!(gone, expected);
    assert!(programs.has(used) && programs.has(fresh));
    assert_eq!(metadata.programs().unwrap().len(), 2);

    let end = JobChange { ended_at: Some(3), ..JobChange::to("finished", Attempt(1)) };
    metadata.change_job(job.id, Seen { state: "running", attempt: Attempt(1) }, &end).unwrap();
    assert_eq!(programs.collect(|| metadata.forget_unused_programs(5)).unwrap(), [used]);

    let refused = programs.collect(|| Err(Error::UnknownJob(JobId(1)))).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unknown);
    assert_eq!(programs.list().unwrap(), [fresh]);
}
