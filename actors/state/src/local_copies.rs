//! Copies of snapshot files on the machine that has written them, so that a subtask which starts anew there reads its
//! state from its own disk. A file never changes and its name is used once, so that a copy is as good as the file; what
//! cannot be read as a copy is read from the store.
//!
//! They belong to a process and are deleted with it: what is restored in another one may be on another machine.

use crate::directory::Directory;
use crate::error::Error;
use crate::reader::read_layer;
use crate::snapshot_file::Layer;
use hurtig_dataflow::ids::SubtaskId;
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::snapshot::SubtaskSnapshot;
use object_store::local::LocalFileSystem;
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// What folders of copies are called, before the number of their process.
const PREFIX: &str = "hurtig-copies-";

/// A folder of copies, deleted when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct LocalCopies {
    folder: Arc<TempDir>,
    directory: Directory,
}

impl LocalCopies {
    /// A new folder in a given one.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(parent: &Path) -> Result<Self, Error> {
        let at = parent.display().to_string();
        let failed = |error: std::io::Error| Error::of_io("write", at.clone(), &error);
        std::fs::create_dir_all(parent).map_err(failed)?;
        remove_dead(parent);
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let folder = tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).map_err(failed)?;
        // A copy need not survive a power cut.
        let store = LocalFileSystem::new_with_prefix(folder.path());
        let store = store.map_err(|error| Error::of_store("write", &at, error))?;
        let url = folder.path().display().to_string();
        let directory =
            Directory { store: Arc::new(store), root: object_store::path::Path::ROOT, url, is_local: true };
        Ok(LocalCopies { folder: Arc::new(folder), directory })
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Reads the copy of a layer, if there is one that can be read.
    pub(crate) async fn read(
        &self,
        layer: &Layer,
        groups: Option<KeyGroupRange>,
        unkeyed: bool,
    ) -> Option<SubtaskSnapshot> {
        let Layer::File { name, .. } = layer else { return None };
        match read_layer(&self.directory, &self.directory.url, layer, groups, unkeyed).await {
            Ok(read) => Some(read),
            Err(Error::NotFound { .. }) => None,
            Err(error) => {
                tracing::warn!("the copy of '{name}' is not used: {error}");
                None
            }
        }
    }

    /// Deletes the copies of a subtask's snapshots but for some.
    pub async fn keep(&self, subtask: SubtaskId, files: HashSet<String>) {
        let of_subtask = format!("-v{}-s{}-", subtask.vertex, subtask.index);
        let folder = Arc::clone(&self.folder);
        let delete = move || {
            for entry in folder.path().read_dir().into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.contains(&of_subtask) && !files.contains(&name) {
                    // One that stays costs room and nothing else.
                    let _ = std::fs::remove_file(entry.path());
                }
            }
        };
        let _ = tokio::task::spawn_blocking(delete).await;
    }
}

/// Deletes folders of processes that were killed.
fn remove_dead(parent: &Path) {
    for entry in parent.read_dir().into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')?.0.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new(&format!("/proc/{process}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
