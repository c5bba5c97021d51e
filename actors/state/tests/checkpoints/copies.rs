//! Copies of snapshot files on the machine that has written them.

use crate::samples::*;
use hurtig_dataflow::ids::SubtaskId;
use hurtig_state::{CheckpointStore, LocalCopies, SnapshotDir};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files of a folder and those within it, by name.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect();
    files.sort();
    files
}

struct Place {
    folder: TempDir,
    copies: TempDir,
}

impl Place {
    fn new() -> Self {
        Place { folder: tempfile::tempdir().unwrap(), copies: tempfile::tempdir().unwrap() }
    }

    fn store(&self) -> CheckpointStore {
        let store = CheckpointStore::open(self.folder.path().to_str().unwrap()).unwrap();
        store.with_copies(Some(LocalCopies::new(self.copies.path()).unwrap()))
    }

    fn stored(&self) -> Vec<PathBuf> {
        files(self.folder.path()).into_iter().filter(|file| !file.ends_with("_metadata")).collect()
    }
}

#[tokio::test]
async fn what_was_written_here_is_read_here_whatever_its_size_and_however_the_copy_is_damaged() {
    // Written at once, and in parts.
    for bytes in [LARGE, 10 << 20] {
        let place = Place::new();
        let store = place.store();
        let taken = take(&store, &SnapshotDir::of_checkpoint(1), bytes).await;
        let handle = &taken.vertices[0].subtasks[1].snapshot;
        let expected = snapshot(1, &["source", "count"], 1, 2, bytes);
        // Files of the store are not needed.
        let hidden: Vec<_> =
            place.stored().into_iter().map(|file| (file.clone(), file.with_extension("x"))).collect();
        hidden.iter().for_each(|(file, hidden)| std::fs::rename(file, hidden).unwrap());
        assert_eq!(read(&store, &taken, handle).await.unwrap(), expected);
        hidden.iter().for_each(|(file, hidden)| std::fs::rename(hidden, file).unwrap());
        // Nor are the copies.
        let copies = files(place.copies.path());
        assert_eq!(copies.len(), 2);
        for copy in copies {
            let mut content = std::fs::read(&copy).unwrap();
            let middle = content.len() / 2;
            content[middle] ^= 1;
            std::fs::write(&copy, &content).unwrap();
            assert_eq!(read(&store, &taken, handle).await.unwrap(), expected);
            std::fs::write(&copy, &content[..middle]).unwrap();
            assert_eq!(read(&store, &taken, handle).await.unwrap(), expected);
            std::fs::remove_file(&copy).unwrap();
        }
        assert_eq!(read(&store, &taken, handle).await.unwrap(), expected);
    }
}

#[tokio::test]
async fn copies_go_with_what_names_them_and_with_their_process() {
    let place = Place::new();
    let store = place.store();
    let names = |taken: &hurtig_state::CheckpointMetadata| -> HashSet<String> {
        taken.vertices[0].subtasks[0].snapshot.files().map(str::to_owned).collect()
    };
    take(&store, &SnapshotDir::of_checkpoint(1), LARGE).await;
    let newer = take(&store, &SnapshotDir::of_checkpoint(2), LARGE).await;
    // A savepoint has none.
    let target = tempfile::tempdir().unwrap();
    take(&store, &SnapshotDir::of_savepoint(3, target.path().to_str().unwrap()), LARGE).await;
    assert_eq!(files(place.copies.path()).len(), 4);
    let subtask = SubtaskId { vertex: 0, index: 0 };
    store.copies().unwrap().keep(subtask, names(&newer)).await;
    // Those of the other subtask are not its business.
    assert_eq!(files(place.copies.path()).len(), 3);
    drop(store);
    assert_eq!(place.copies.path().read_dir().unwrap().count(), 0);
    // A process that was killed leaves them behind; no process has this number.
    let dead = place.copies.path().join("hurtig-copies-4194305-abc");
    std::fs::create_dir(&dead).unwrap();
    let other = place.copies.path().join("something-else");
    std::fs::create_dir(&other).unwrap();
    let _store = place.store();
    assert!(!dead.exists() && other.exists());
}
