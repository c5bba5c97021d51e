//! Jobs and what belongs to them, across reopening.

use hurtig_dataflow::ids::{Attempt, JobId, LeaderEpoch};
use hurtig_metadata::*;
use tempfile::tempdir;

fn seen(state: &str, attempt: u32) -> Seen<'_> {
    Seen { state, attempt: Attempt(attempt) }
}

fn to(state: &str, attempt: u32) -> JobChange {
    JobChange::to(state, Attempt(attempt))
}

fn end(attempt: u32, time: i64) -> JobChange {
    JobChange { ended_at: Some(time), ..to("finished", attempt) }
}

fn checkpoint(id: u64, kind: CheckpointKind) -> CheckpointRecord {
    let location = format!("/checkpoints/chk-{id}");
    CheckpointRecord { id, kind, location, triggered_at: 5, completed_at: 6, size_bytes: 1 << 40 }
}

#[test]
fn everything_comes_back_after_a_restart() {
    let directory = tempdir().unwrap();
    let program = ProgramHash::of(b"program");
    let job = JobRecord {
        program: Some(program),
        arguments: vec!["--rate".into(), "0".into(), "ein Wört\n\"'\0".into()],
        configuration: [("parallelism".into(), "4".into())].into(),
        failure: Some("x".repeat(100_000)),
        ..JobRecord::new(JobId(u128::MAX), "flights", "created", -1)
    };
    {
        let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
        let unknown = store.add_job(&job).unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::Unknown);
        assert!(unknown.to_string().contains("upload it"), "{unknown}");
        store.add_program(program, "flights", 7, -9).unwrap();
        store.add_job(&job).unwrap();
        assert!(matches!(store.add_job(&job), Err(Error::JobExists(_))));
        store.change_job(job.id, seen("created", 1), &to("running", 1)).unwrap();
        store.set_graph(job.id, Attempt(1), "{}").unwrap();
        store.add_checkpoint(job.id, Attempt(1), &checkpoint(3, CheckpointKind::Checkpoint), &[]).unwrap();
        store.begin_epoch(LeaderEpoch(4), "node-1", 8).unwrap();
    }
    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    let cut = job.failure.as_deref().map(|text| text[..64 * 1024].to_string());
    let expected = JobRecord { state: "running".into(), failure: cut, ..job };
    assert_eq!(store.jobs().unwrap(), std::slice::from_ref(&expected));
    assert_eq!(store.running_jobs().unwrap(), std::slice::from_ref(&expected));
    assert_eq!(store.graph(expected.id).unwrap().as_deref(), Some("{}"));
    assert_eq!(store.last_checkpoint(expected.id).unwrap(), Some(checkpoint(3, CheckpointKind::Checkpoint)));
    let program = store.program(program).unwrap().unwrap();
    assert_eq!((program.uploaded_at, program.last_used_at), (-9, -1));
    let leader = Leadership { epoch: LeaderEpoch(4), holder: "node-1".into(), since: 8 };
    assert_eq!(store.leadership().unwrap(), Some(leader));
}

#[test]
fn an_older_attempt_cannot_write() {
    let directory = tempdir().unwrap();
    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    let id = JobId(1);
    store.add_job(&JobRecord::new(id, "job", "running", 0)).unwrap();
    store.change_job(id, seen("running", 1), &to("restarting", 2)).unwrap();

    let stale = [
        store.change_job(id, seen("restarting", 1), &to("running", 1)).unwrap_err(),
        store.change_job(id, seen("restarting", 2), &to("running", 1)).unwrap_err(),
        store.set_graph(id, Attempt(1), "{}").unwrap_err(),
        store.add_checkpoint(id, Attempt(1), &checkpoint(1, CheckpointKind::Checkpoint), &[]).unwrap_err(),
    ];
    for error in stale {
        assert_eq!(error.kind(), ErrorKind::Stale);
        assert!(error.to_string().contains("attempt 1 of job"), "{error}");
        assert!(error.to_string().contains("attempt 2 is the current one"), "{error}");
    }
    let raced = store.change_job(id, seen("running", 2), &end(2, 9)).unwrap_err();
    assert!(raced.to_string().contains("is restarting, not running"), "{raced}");
    assert_eq!(
        store.job(id).unwrap().unwrap(),
        JobRecord { attempt: Attempt(2), ..JobRecord::new(id, "job", "restarting", 0) }
    );

    store.change_job(id, seen("restarting", 2), &end(2, 9)).unwrap();
    let late = store.change_job(id, seen("finished", 2), &to("running", 3)).unwrap_err();
    assert!(matches!(late, Error::JobEnded { .. }), "{late}");
}

#[test]
fn a_new_leader_shuts_out_the_former() {
    let directory = tempdir().unwrap();
    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    store.begin_epoch(LeaderEpoch(2), "b", 0).unwrap();
    store.begin_epoch(LeaderEpoch(2), "b", 5).unwrap();
    for (epoch, holder) in [(1, "a"), (2, "a"), (1, "b")] {
        let error = store.begin_epoch(LeaderEpoch(epoch), holder, 1).unwrap_err();
        assert_eq!(error.to_string(), format!("epoch {epoch} is over: b leads in epoch 2"));
    }
    store.begin_epoch(LeaderEpoch(3), "a", 1).unwrap();
}

#[test]
fn the_jobs_that_ended_first_are_forgotten_first() {
    let directory = tempdir().unwrap();
    let store = MetadataStore::open(directory.path(), Retention { ended_jobs: 2 }).unwrap();
    let program = ProgramHash::of(b"program");
    store.add_program(program, "program", 7, 0).unwrap();
    for id in 1..=5 {
        let job =
            JobRecord { program: Some(program), ..JobRecord::new(JobId(id), "job", "running", id as i64) };
        store.add_job(&job).unwrap();
        store.add_checkpoint(job.id, Attempt(1), &checkpoint(1, CheckpointKind::Savepoint), &[]).unwrap();
    }
    let ends = |id, time| store.change_job(JobId(id), seen("running", 1), &end(1, time)).unwrap();
    assert_eq!(ends(2, 20), []);
    assert_eq!(ends(1, 30), []);
    assert_eq!(ends(3, 40), [JobId(2)]);
    // The clock was set back: the job that has just ended is nevertheless there for the user to see.
    assert_eq!(ends(4, 1), [JobId(1)]);
    let ids: Vec<u128> = store.jobs().unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(ids, [3, 4, 5]);
    assert_eq!(store.checkpoints(JobId(1)).unwrap(), []);
    assert_eq!(store.forget_unused_programs(i64::MAX).unwrap(), [program]);
    drop(store);

    let store = MetadataStore::open(directory.path(), Retention { ended_jobs: 0 }).unwrap();
    let ids: Vec<u128> = store.jobs().unwrap().iter().map(|job| job.id.0).collect();
    assert_eq!(ids, [5], "a job that has not ended is never forgotten");
    store.change_job(JobId(5), seen("running", 1), &end(1, 50)).unwrap();
    assert_eq!(store.forget_unused_programs(0).unwrap(), [program], "it was used lately");
    assert_eq!(store.forget_unused_programs(i64::MAX).unwrap(), []);
}

#[test]
fn a_checkpoint_takes_the_place_of_older_ones_but_not_of_savepoints() {
    let directory = tempdir().unwrap();
    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    let id = JobId(1);
    store.add_job(&JobRecord::new(id, "job", "running", 0)).unwrap();
    let add = |checkpoint: &CheckpointRecord, subsumed: &[u64]| {
        store.add_checkpoint(id, Attempt(1), checkpoint, subsumed)
    };
    add(&checkpoint(1, CheckpointKind::Checkpoint), &[]).unwrap();
    add(&checkpoint(2, CheckpointKind::Savepoint), &[]).unwrap();
    add(&checkpoint(10, CheckpointKind::Checkpoint), &[1, 2, 99, u64::MAX]).unwrap();
    add(&checkpoint(10, CheckpointKind::Checkpoint), &[]).unwrap();
    let other = CheckpointRecord { size_bytes: 1, ..checkpoint(10, CheckpointKind::Checkpoint) };
    assert!(matches!(add(&other, &[2]), Err(Error::CheckpointExists { checkpoint: 10, .. })));
    assert!(matches!(
        add(&checkpoint(u64::MAX, CheckpointKind::Checkpoint), &[]),
        Err(Error::TooLarge { .. })
    ));
    let ids: Vec<u64> = store.checkpoints(id).unwrap().iter().map(|checkpoint| checkpoint.id).collect();
    assert_eq!(ids, [10, 2]);
}

#[test]
fn what_is_too_large_is_refused_before_it_is_kept() {
    let directory = tempdir().unwrap();
    let store = MetadataStore::open(directory.path(), Retention::default()).unwrap();
    let job = JobRecord::new(JobId(1), &"n".repeat(5000), "created", 0);
    let error = store.add_job(&job).unwrap_err();
    assert_eq!(error.to_string(), "a job's name of 5000 is too large: at most 4096 is kept");
    let job = JobRecord { name: "job".into(), arguments: vec!["a".repeat(1 << 20)], ..job };
    assert_eq!(store.add_job(&job).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(store.jobs().unwrap(), []);
}
