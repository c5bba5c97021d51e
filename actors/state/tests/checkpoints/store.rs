//! Writing, moving, listing, deleting.

use crate::samples::*;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_state::{CheckpointMetadata, CheckpointStore, ErrorKind, Layer, RestorePlan, SnapshotDir};
use std::path::Path;
use tempfile::tempdir;

fn open(directory: &Path) -> CheckpointStore {
    CheckpointStore::open(directory.to_str().unwrap()).unwrap()
}

/// Loads a checkpoint and checks that all its state is there.
async fn check_content(location: &str, checkpoint: u64, bytes: usize) -> CheckpointMetadata {
    let (store, metadata) = CheckpointStore::load(location).await.unwrap();
    for (index, subtask) in metadata.vertices[0].subtasks.iter().enumerate() {
        let found = read(&store, &metadata, &subtask.snapshot).await.unwrap();
        assert_eq!(found, snapshot(checkpoint, &["source", "count"], index, 2, bytes));
    }
    metadata
}

#[tokio::test]
async fn a_checkpoint_comes_back_as_it_was_taken() {
    let directory = tempdir().unwrap();
    for (location, bytes) in [
        (directory.path().to_str().unwrap(), LARGE),
        (directory.path().join("not/yet/there").to_str().unwrap(), SMALL),
        ("memory:round-trip", LARGE),
        ("memory:", SMALL),
    ] {
        let store = CheckpointStore::open(location).unwrap();
        let taken = take(&store, &SnapshotDir::of_checkpoint(7), bytes).await;
        assert_eq!(taken.location, format!("{}/{JOB}/chk-7", store.location()));
        let is_inline = matches!(taken.vertices[0].subtasks[0].snapshot.layers[..], [Layer::Inline(_)]);
        assert_eq!(is_inline, bytes == SMALL);
        assert_eq!(check_content(&taken.location, 7, bytes).await, taken);
        assert_eq!(check_content(&format!("{}/_metadata", taken.location), 7, bytes).await, taken);
        assert_eq!(store.list(JOB).await.unwrap(), vec![taken]);
    }
}

#[tokio::test]
async fn directories_with_odd_names_work_like_others() {
    let directory = tempdir().unwrap();
    for name in ["a b", "100%", "run#1", "~x", "[y]", "größe", "%41", "q?x=1&y", "back\\slash", "a:b"] {
        let place = directory.path().join(name);
        let store = open(&place);
        let dir = SnapshotDir::of_checkpoint(1);
        let taken = take(&store, &dir, LARGE).await;
        assert!(place.join(JOB.to_string()).join("chk-1/_metadata").is_file(), "{name}");
        check_content(&taken.location, 1, LARGE).await;
        // A savepoint below the checkpoints, below a name that the store writes in another way.
        let below = SnapshotDir::of_savepoint(2, place.join(name).to_str().unwrap());
        check_content(&take(&store, &below, LARGE).await.location, 2, LARGE).await;
        assert_eq!(store.list(JOB).await.unwrap(), std::slice::from_ref(&taken));
        store.delete(&taken).await.unwrap();
        assert!(store.list(JOB).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_moved_checkpoint_and_a_moved_savepoint_are_read_where_they_now_lie() {
    let directory = tempdir().unwrap();
    let (checkpoints, savepoints) =
        (directory.path().join("checkpoints"), directory.path().join("savepoints"));
    let store = open(&checkpoints);
    let checkpoint = take(&store, &SnapshotDir::of_checkpoint(3), LARGE).await;
    let savepoint = SnapshotDir::of_savepoint(4, savepoints.to_str().unwrap());
    let savepoint = take(&store, &savepoint, LARGE).await;
    assert_eq!(savepoint.location, savepoints.join("savepoint-01234567-4").to_str().unwrap());

    let moved = directory.path().join("elsewhere");
    let job = Path::new(&checkpoint.location).parent().unwrap();
    // A checkpoint goes with its job's folder, a savepoint by itself.
    for (from, to, id) in [(job, moved.join("chk-3"), 3), (Path::new(&savepoint.location), moved.clone(), 4)]
    {
        std::fs::rename(from, &moved).unwrap();
        let loaded = check_content(to.to_str().unwrap(), id, LARGE).await;
        assert_eq!(loaded.location, to.to_str().unwrap());
        // Another process may read it through a store of another location.
        read(&store, &loaded, &loaded.vertices[0].subtasks[1].snapshot).await.unwrap();
        std::fs::remove_dir_all(&moved).unwrap();
    }
}

#[tokio::test]
async fn a_savepoint_is_not_among_the_checkpoints_and_is_never_deleted() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let savepoint = SnapshotDir::of_savepoint(1, store.location());
    let savepoint = take(&store, &savepoint, LARGE).await;
    assert!(store.list(JOB).await.unwrap().is_empty());
    let error = store.delete(&savepoint).await.unwrap_err();
    assert!(error.to_string().contains("savepoints belong to the user"), "{error}");
    store.delete_job(JOB, Attempt(u32::MAX)).await.unwrap();
    check_content(&savepoint.location, 1, LARGE).await;
}

#[tokio::test]
async fn the_list_has_the_newest_first_and_nothing_unpublished() {
    for location in [tempdir().unwrap().path().to_str().unwrap(), "memory:list"] {
        let store = CheckpointStore::open(location).unwrap();
        assert!(store.list(JOB).await.unwrap().is_empty());
        for id in [9, 10, 2] {
            take(&store, &SnapshotDir::of_checkpoint(id), SMALL).await;
        }
        prepare(&store, &SnapshotDir::of_checkpoint(11), LARGE).await;
        let ids: Vec<u64> = store.list(JOB).await.unwrap().iter().map(|found| found.checkpoint).collect();
        assert_eq!(ids, [10, 9, 2]);
        assert!(store.list(JobId(1)).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn the_list_falls_back_to_checkpoints_that_are_sound() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    let mut places = Vec::new();
    for id in 1..=6 {
        let taken = take(&store, &SnapshotDir::of_checkpoint(id), LARGE).await;
        places.push(Path::new(&taken.location).to_path_buf());
    }
    let cut = |path: std::path::PathBuf, bytes: usize| {
        let content = std::fs::read(&path).unwrap();
        std::fs::write(&path, &content[..bytes]).unwrap();
    };
    cut(places[5].join("_metadata"), 100);
    cut(places[4].join("_metadata"), 0);
    std::fs::remove_file(places[3].join("../shared/c4-v0-s1-a1.state")).unwrap();
    cut(places[2].join("../shared/c3-v0-s0-a1.state"), LARGE);
    // The metadata of another checkpoint.
    std::fs::copy(places[0].join("_metadata"), places[1].join("_metadata")).unwrap();
    let ids: Vec<u64> = store.list(JOB).await.unwrap().iter().map(|found| found.checkpoint).collect();
    assert_eq!(ids, [1]);
}

#[tokio::test]
async fn deletion_takes_one_checkpoint_and_leaves_the_others() {
    let directory = tempdir().unwrap();
    for location in [directory.path().to_str().unwrap(), "memory:delete"] {
        let store = CheckpointStore::open(location).unwrap();
        let first = take(&store, &SnapshotDir::of_checkpoint(1), LARGE).await;
        let second = take(&store, &SnapshotDir::of_checkpoint(2), LARGE).await;
        store.delete(&first).await.unwrap();
        store.delete(&first).await.unwrap();
        assert_eq!(CheckpointStore::load(&first.location).await.unwrap_err().kind(), ErrorKind::NotFound);
        check_content(&second.location, 2, LARGE).await;
    }
    let job = directory.path().join(JOB.to_string());
    assert!(!job.join("chk-1").exists() && job.join("chk-2").exists());
}

#[tokio::test]
async fn a_copy_made_by_the_user_is_not_deleted() {
    let (mine, yours) = (tempdir().unwrap(), tempdir().unwrap());
    let taken = take(&open(yours.path()), &SnapshotDir::of_checkpoint(1), LARGE).await;
    let error = open(mine.path()).delete(&taken).await.unwrap_err();
    assert!(error.to_string().contains("does not lie where this job keeps its checkpoints"), "{error}");
    check_content(&taken.location, 1, LARGE).await;
}

#[tokio::test]
async fn what_was_never_published_goes_with_the_job() {
    let directory = tempdir().unwrap();
    for location in [directory.path().to_str().unwrap(), "memory:leftovers"] {
        let store = CheckpointStore::open(location).unwrap();
        let published = take(&store, &SnapshotDir::of_checkpoint(1), LARGE).await;
        let unpublished = prepare(&store, &SnapshotDir::of_checkpoint(2), LARGE).await;
        store.delete_job(JOB, Attempt(u32::MAX)).await.unwrap();
        check_content(&published.location, 1, LARGE).await;
        let location = store.directory(JOB, &SnapshotDir::of_checkpoint(2)).unwrap();
        let unpublished = CheckpointMetadata { location, ..unpublished };
        let handle = &unpublished.vertices[0].subtasks[0].snapshot;
        assert_eq!(read(&store, &unpublished, handle).await.unwrap_err().kind(), ErrorKind::NotFound);
        store.delete(&published).await.unwrap();
        store.delete_job(JOB, Attempt(u32::MAX)).await.unwrap();
        store.delete_job(JOB, Attempt(u32::MAX)).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn publishing_may_be_repeated_but_not_with_another_content() {
    let directory = tempdir().unwrap();
    for location in [directory.path().to_str().unwrap(), "memory:publish"] {
        let store = CheckpointStore::open(location).unwrap();
        let mut taken = take(&store, &SnapshotDir::of_checkpoint(1), SMALL).await;
        assert_eq!(store.publish(&taken).await.unwrap(), taken.location);
        taken.completed_at += 1;
        let error = store.publish(&taken).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let kept = check_content(&taken.location, 1, SMALL).await;
        assert_eq!(kept.completed_at, taken.completed_at - 1);
    }
}

#[tokio::test]
async fn a_late_subtask_of_a_former_attempt_writes_beside_not_over() {
    let store = CheckpointStore::open("memory:attempts").unwrap();
    let (dir, subtask) = (SnapshotDir::of_checkpoint(1), SubtaskId { vertex: 2, index: 3 });
    let mut paths = Vec::new();
    for attempt in [1, 2] {
        let snapshot = snapshot(1, &["x"], 0, 1, LARGE);
        let handle = write(&store, &dir, subtask, Attempt(attempt), snapshot).await;
        paths.extend(handle.files().map(str::to_string));
    }
    assert_eq!(paths, ["c1-v2-s3-a1.state", "c1-v2-s3-a2.state"]);
}

#[tokio::test]
async fn a_place_without_a_checkpoint_is_answered_with_what_to_name_instead() {
    let directory = tempdir().unwrap();
    let store = open(directory.path());
    for id in [9, 10] {
        take(&store, &SnapshotDir::of_checkpoint(id), SMALL).await;
    }
    let check = async |place: &Path, words: &str| {
        let error = CheckpointStore::load(place.to_str().unwrap()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(describe(&error).contains(words), "{error}");
    };
    let job = directory.path().join(JOB.to_string());
    check(&job, job.join("chk-10").to_str().unwrap()).await;
    check(&directory.path().join("nowhere"), "name the directory of a completed checkpoint").await;
}

#[tokio::test]
async fn a_file_where_a_directory_should_be_is_named() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "").unwrap();
    let store = open(&file);
    let metadata = prepare(&store, &SnapshotDir::of_checkpoint(1), SMALL).await;
    let error = store.publish(&metadata).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(describe(&error).contains("a part of the path is a file"), "{}", describe(&error));
}

#[tokio::test]
async fn calls_can_be_made_from_tasks_that_move_between_threads() {
    fn check<T: Send>(value: T) -> T {
        value
    }
    let store = CheckpointStore::open("memory:send").unwrap();
    let dir = SnapshotDir::of_checkpoint(1);
    let taken = take(&store, &dir, LARGE).await;
    let program = [vec![operator("source", 2), operator("count", 2)]];
    check(store.read_snapshot(&taken, &taken.vertices[0].subtasks[0].snapshot, None, true)).await.unwrap();
    check(store.publish(&taken)).await.unwrap();
    check(CheckpointStore::load(&taken.location)).await.unwrap();
    let plan = RestorePlan::new(&taken, &program, MAX_PARALLELISM, false).unwrap();
    let heads = check(RestorePlan::heads(&taken, &store)).await.unwrap();
    check(plan.read((&taken, &store), &heads, &program[0], 0, 2)).await.unwrap();
    check(store.list(JOB)).await.unwrap();
    check(store.delete(&taken)).await.unwrap();
    check(store.delete_job(JOB, Attempt(u32::MAX))).await.unwrap();
    let (subtask, snapshot) = (SubtaskId { vertex: 0, index: 0 }, snapshot(1, &["x"], 0, 1, LARGE));
    check(write(&store, &dir, subtask, Attempt(1), snapshot)).await;
}
