//! A folder of small and large files in the store of checkpoints, for those who share that store: what a JobManager
//! that leads leaves for the one that follows it.

use crate::directory::{Directory, is_file_name};
use crate::error::Error;
use crate::store::CheckpointStore;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::buffered::BufWriter;
use object_store::{ObjectStoreExt, PutMode};
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncWriteExt;

/// A folder of files. It need not exist. Clones are cheap.
#[derive(Clone, Debug)]
pub struct SharedFolder {
    directory: Directory,
}

impl CheckpointStore {
    /// A folder beside those of jobs. The name is made of letters, digits, `-`, `_` and `.`.
    pub fn folder(&self, name: &str) -> SharedFolder {
        SharedFolder { directory: self.below(name) }
    }
}

impl SharedFolder {
    /// Where it lies.
    pub fn location(&self) -> &str {
        &self.directory.url
    }

    /// Names of its files.
    ///
    /// # Errors
    /// The store failed.
    pub async fn names(&self) -> Result<Vec<String>, Error> {
        let files = self.directory.files().await?;
        let names = files.iter().filter_map(|file| file.location.filename());
        Ok(names.filter(|name| is_file_name(name)).map(str::to_string).collect())
    }

    /// Writes a file, whole or not at all, in the place of one that is there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn write(&self, name: &str, content: Bytes) -> Result<(), Error> {
        self.directory.put(name, vec![content], PutMode::Overwrite).await
    }

    /// Reads a file.
    ///
    /// # Errors
    /// There is none, it is longer than the limit, or the store failed.
    pub async fn read(&self, name: &str, limit_bytes: u64) -> Result<Bytes, Error> {
        self.directory.get(name, limit_bytes).await
    }

    /// Deletes a file, if it is there.
    ///
    /// # Errors
    /// The store failed.
    pub async fn delete(&self, name: &str) -> Result<(), Error> {
        self.directory.remove_file(name).await
    }

    /// Stores a local file under a name, whole or not at all. One that has the name already is taken for the same.
    ///
    /// # Errors
    /// The file cannot be read, or the store failed.
    pub async fn upload(&self, name: &str, from: &Path) -> Result<(), Error> {
        if self.directory.has(name).await? {
            return Ok(());
        }
        let path = self.directory.below(name);
        let failed = |error: &std::io::Error| Error::of_io("write", path.url.clone(), error);
        let mut file = tokio::fs::File::open(from)
            .await
            .map_err(|error| Error::of_io("read", from.display().to_string(), &error))?;
        let mut writer = BufWriter::new(Arc::clone(&path.store), path.root.clone());
        let copied = tokio::io::copy(&mut file, &mut writer).await.map_err(|error| failed(&error));
        match copied {
            Ok(_) => writer.shutdown().await.map_err(|error| failed(&error)),
            Err(error) => {
                // What is left of it is nobody's file.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    /// Reads a file in parts, each given to `sink`, which returns whether it wants more.
    ///
    /// # Errors
    /// There is none, or the store failed.
    pub async fn download(&self, name: &str, mut sink: impl FnMut(u64, Bytes) -> bool) -> Result<(), Error> {
        let path = self.directory.below(name);
        let failed = |error| Error::of_store("read", &path.url, error);
        let found = path.store.get(&path.root).await.map_err(failed)?;
        let size_bytes = found.meta.size;
        let mut parts = found.into_stream();
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            if !sink(size_bytes, part) {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_come_back_as_they_went() {
        let directory = tempfile::tempdir().unwrap();
        let store = CheckpointStore::open(directory.path().to_str().unwrap()).unwrap();
        let folder = store.folder("jobs");
        assert!(folder.names().await.unwrap().is_empty());
        folder.write("a", Bytes::from_static(b"1")).await.unwrap();
        folder.write("a", Bytes::from_static(b"2")).await.unwrap();
        assert_eq!(folder.read("a", 10).await.unwrap(), "2");
        assert!(folder.read("a", 0).await.is_err());

        // Longer than one part of it.
        let content: Vec<u8> = (0..25_000_000u32).map(|number| ((number * 31) >> 7) as u8).collect();
        let local = directory.path().join("local");
        std::fs::write(&local, &content).unwrap();
        folder.upload("large", &local).await.unwrap();
        let mut read = Vec::new();
        let all = |size_bytes, part: Bytes| {
            assert_eq!(size_bytes, content.len() as u64);
            read.extend_from_slice(&part);
            true
        };
        folder.download("large", all).await.unwrap();
        assert!(read == content);

        folder.delete("a").await.unwrap();
        folder.delete("a").await.unwrap();
        assert_eq!(folder.names().await.unwrap(), ["large"]);
        assert!(folder.download("a", |_, _| true).await.is_err());
    }
}
