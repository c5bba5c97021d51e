//! A directory in an object store: what checkpoints need of a store, with errors that say what to do.

use crate::error::Error;
use crate::location;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use std::ops::Range;
use std::sync::Arc;

/// Most requests to the store that one call has under way.
pub(crate) const PARALLEL_REQUESTS: usize = 16;

/// Work on up to this many bytes is done where the caller runs; more goes to a thread that may block.
const IN_PLACE_BYTES: usize = 64 * 1024;

/// A directory in an object store. It need not exist.
#[derive(Clone, Debug)]
pub(crate) struct Directory {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) root: Path,
    /// The directory in its one absolute spelling.
    pub(crate) url: String,
    /// Whether it lies in this machine's file system.
    pub(crate) is_local: bool,
}

impl Directory {
    /// A directory below this one. The path must be [plain](is_plain).
    pub(crate) fn below(&self, path: &str) -> Directory {
        let mut below = self.clone();
        below.root.extend(path.split('/'));
        below.url = join(&self.url, path);
        below
    }

    /// The directory that this one is in.
    pub(crate) fn parent(&self) -> Option<Directory> {
        let (url, _) = self.url.rsplit_once('/')?;
        let mut parts: Vec<_> = self.root.parts().collect();
        parts.pop()?;
        let url = if url.is_empty() { "/" } else { url };
        Some(Directory { root: parts.into_iter().collect(), url: url.to_string(), ..self.clone() })
    }

    /// The directory at a location: in the same store if it lies below this one, else in its own.
    pub(crate) fn at(&self, location: &str) -> Result<Directory, Error> {
        match location.strip_prefix(self.url.trim_end_matches('/')) {
            Some("") => Ok(self.clone()),
            Some(rest) if rest.strip_prefix('/').is_some_and(is_plain) => Ok(self.below(&rest[1..])),
            _ => location::parse(location),
        }
    }

    pub(crate) async fn put(&self, name: &str, chunks: Vec<Bytes>, mode: PutMode) -> Result<(), Error> {
        let path = join(&self.url, name);
        let payload: PutPayload = chunks.into_iter().collect();
        match self.store.put_opts(&self.below(name).root, payload, mode.into()).await {
            Ok(_) => Ok(()),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => {
                Err(Error::Conflict { path })
            }
            Err(error) => Err(Error::of_store("write", &path, error)),
        }
    }

    pub(crate) async fn get(&self, name: &str, limit_bytes: u64) -> Result<Bytes, Error> {
        let path = join(&self.url, name);
        let failed = |error| Error::of_store("read", &path, error);
        let found = self.store.get(&self.below(name).root).await.map_err(failed)?;
        if found.meta.size > limit_bytes {
            return Err(Error::corrupt(&path, "it is longer than any valid file"));
        }
        found.bytes().await.map_err(failed)
    }

    /// Parts of a file of a known length, in the order asked for.
    pub(crate) async fn get_ranges(&self, name: &str, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Error> {
        let failed = |error| self.failed("read", name, error);
        let found = self.store.get_ranges(&self.below(name).root, ranges).await.map_err(failed)?;
        let cut_off = || Error::corrupt(&join(&self.url, name), "it is cut off");
        let is_whole =
            found.iter().zip(ranges).all(|(part, range)| part.len() as u64 == range.end - range.start);
        if is_whole && found.len() == ranges.len() { Ok(found) } else { Err(cut_off()) }
    }

    /// Length of a file.
    pub(crate) async fn length(&self, name: &str) -> Result<u64, Error> {
        let found = self.store.head(&self.below(name).root).await;
        Ok(found.map_err(|error| self.failed("read", name, error))?.size)
    }

    pub(crate) async fn start_upload(
        &self,
        name: &str,
    ) -> Result<Box<dyn MultipartUpload>, object_store::Error> {
        self.store.put_multipart(&self.below(name).root).await
    }

    pub(crate) fn failed(&self, action: &'static str, name: &str, error: object_store::Error) -> Error {
        Error::of_store(action, &join(&self.url, name), error)
    }

    /// Removes files that a killed process was writing, which the store does not show, if they are old by their names. To be
    /// called when nobody writes such.
    pub(crate) async fn remove_unfinished(
        &self,
        is_old: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<(), Error> {
        if !self.is_local {
            return Ok(());
        }
        let path = self.url.clone();
        let removed = blocking("delete", "directory", move || {
            let failed = |error: std::io::Error| Error::of_io("delete", path.clone(), &error);
            for entry in std::fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.contains('#') && is_old(&name) {
                    std::fs::remove_file(entry.path()).map_err(failed)?;
                }
            }
            Ok(())
        });
        removed.await.or_else(|error| absent((), error))
    }

    pub(crate) async fn has(&self, name: &str) -> Result<bool, Error> {
        match self.store.head(&self.below(name).root).await {
            Ok(_) => Ok(true),
            Err(error) => absent(false, Error::of_store("read", &join(&self.url, name), error)),
        }
    }

    /// Everything below, at any depth.
    pub(crate) async fn files(&self) -> Result<Vec<ObjectMeta>, Error> {
        let files = self.store.list(Some(&self.root)).try_collect().await;
        files.or_else(|error| absent(Vec::new(), Error::of_store("list", &self.url, error)))
    }

    /// Names of the directories directly below.
    pub(crate) async fn directories(&self) -> Result<Vec<String>, Error> {
        match self.store.list_with_delimiter(Some(&self.root)).await {
            Ok(found) => {
                let names = found.common_prefixes.iter().filter_map(Path::filename);
                Ok(names.map(str::to_string).collect())
            }
            Err(error) => absent(Vec::new(), Error::of_store("list", &self.url, error)),
        }
    }

    pub(crate) async fn remove_file(&self, name: &str) -> Result<(), Error> {
        self.remove_object(&self.below(name).root).await
    }

    async fn remove_object(&self, object: &Path) -> Result<(), Error> {
        let removed = self.store.delete(object).await;
        removed.or_else(|error| absent((), Error::of_store("delete", &self.url, error)))
    }

    /// Removes everything below, and the directory itself where directories are things.
    pub(crate) async fn remove_all(&self) -> Result<(), Error> {
        if self.is_local {
            // The store does not show files that a killed process was writing, and leaves directories behind.
            let path = self.url.clone();
            let removed = blocking("delete", "directory", move || {
                std::fs::remove_dir_all(&path).map_err(|error| Error::of_io("delete", path, &error))
            });
            return removed.await.or_else(|error| absent((), error));
        }
        let removals = self.files().await?.into_iter().map(|file| {
            let directory = self.clone();
            async move { directory.remove_object(&file.location).await }
        });
        let removed: Result<(), Error> =
            stream::iter(removals).buffer_unordered(PARALLEL_REQUESTS).try_collect().await;
        removed?;
        self.remove_if_empty().await;
        Ok(())
    }

    /// Removes the directory if there is nothing in it.
    pub(crate) async fn remove_if_empty(&self) {
        if self.url.starts_with("hdfs:") {
            // Directories are things there too. It is deleted only if nothing is in it.
            let _ = self.remove_object(&self.root).await;
        }
        if self.is_local {
            let path = self.url.clone();
            // Fails while something is in it, as it should; an empty directory left behind harms nobody.
            let _ = blocking("delete", "directory", move || {
                std::fs::remove_dir(&path).map_err(|error| Error::of_io("delete", path, &error))
            })
            .await;
        }
    }
}

/// A place below another one, in its absolute spelling.
pub(crate) fn join(url: &str, below: &str) -> String {
    format!("{}/{below}", url.trim_end_matches('/'))
}

/// Whether a relative path stays below where it starts and means the same in every store. The paths we make are of
/// this kind.
pub(crate) fn is_plain(path: &str) -> bool {
    path.split('/').all(is_file_name)
}

/// Whether a name is a plain one of a file: no other is followed when a file's content gives it.
pub(crate) fn is_file_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !matches!(name, "" | "." | "..") && name.chars().all(is_plain)
}

/// Runs work on bytes: little of it here and now, much of it on a thread that may block.
pub(crate) async fn off_the_loop<T, F>(
    bytes: usize,
    action: &'static str,
    what: &'static str,
    work: F,
) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    if bytes <= IN_PLACE_BYTES { work() } else { blocking(action, what, work).await }
}

async fn blocking<T, F>(action: &'static str, what: &'static str, work: F) -> Result<T, Error>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, Error> + Send + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Internal { action, what, source: error.into() }),
    }
}

/// What is not there counts as `value`.
fn absent<T>(value: T, error: Error) -> Result<T, Error> {
    match error {
        Error::NotFound { .. } => Ok(value),
        error => Err(error),
    }
}
