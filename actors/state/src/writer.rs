//! Writes one subtask's snapshot while the subtask is still handing it out: compressed block after block, in parts once
//! it is large, so that never all of it is in memory.

use crate::directory::{Directory, off_the_loop};
use crate::error::Error;
use crate::snapshot_file::{Encoder, INLINE_BYTES, Layer, WHAT};
use bytes::Bytes;
use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::snapshot::{InFlight, SubtaskSnapshot};
use object_store::{MultipartUpload, PutMode, PutPayload};

/// A file that grows beyond this is uploaded in parts of this size.
const PART_BYTES: u64 = 8 << 20;

/// A snapshot that is being written; made by [`CheckpointStore::writer`](crate::CheckpointStore::writer). A file that is
/// not finished never appears.
pub struct SnapshotWriter {
    directory: Directory,
    name: String,
    /// Where a copy of it goes.
    copies: Option<Directory>,
    encoder: Option<Encoder>,
    upload: Option<Box<dyn MultipartUpload>>,
    copy: Option<Box<dyn MultipartUpload>>,
    uploaded: u64,
}

impl SnapshotWriter {
    pub(crate) fn new(
        directory: Directory,
        copies: Option<Directory>,
        name: String,
        snapshot: SubtaskSnapshot,
    ) -> Self {
        let encoder = Some(Encoder::new(snapshot));
        SnapshotWriter { directory, name, copies, encoder, upload: None, copy: None, uploaded: 0 }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// The store failed, or a single section is too large.
    pub async fn add(&mut self, chunks: Vec<Chunk>) -> Result<(), Error> {
        let bytes = chunks.iter().map(|chunk| chunk.rows.bytes.len()).sum();
        self.encode(bytes, move |encoder| chunks.iter().try_for_each(|chunk| encoder.add(chunk))).await?;
        let gathered = self.encoder.as_ref().map_or(0, |encoder| encoder.bytes) - self.uploaded;
        if gathered >= PART_BYTES { self.upload_part().await } else { Ok(()) }
    }

    async fn encode(
        &mut self,
        bytes: usize,
        work: impl FnOnce(&mut Encoder) -> Result<(), Error> + Send + 'static,
    ) -> Result<(), Error> {
        let Some(mut encoder) = self.encoder.take() else {
            return Err(Error::Internal { action: "write", what: WHAT, source: "it failed before".into() });
        };
        let work = move || work(&mut encoder).map(|()| encoder);
        self.encoder = Some(off_the_loop(bytes, "serialise", WHAT, work).await?);
        Ok(())
    }

    fn take_done(&mut self) -> Vec<Bytes> {
        let Some(encoder) = &mut self.encoder else { return Vec::new() };
        self.uploaded = encoder.bytes;
        std::mem::take(&mut encoder.done)
    }

    async fn upload_part(&mut self) -> Result<(), Error> {
        let part: PutPayload = self.take_done().into_iter().collect();
        self.copy_part(&part).await;
        let failed = |error| self.directory.failed("write", &self.name, error);
        let upload = match &mut self.upload {
            Some(upload) => upload,
            None => {
                let upload = self.directory.start_upload(&self.name).await.map_err(failed)?;
                self.upload.insert(upload)
            }
        };
        upload.put_part(part).await.map_err(failed)
    }

    /// A copy that fails is none; the snapshot goes on without it.
    async fn copy_part(&mut self, part: &PutPayload) {
        let Some(copies) = self.copies.take() else { return };
        let copied: Result<_, object_store::Error> = async {
            let mut copy = match self.copy.take() {
                Some(copy) => copy,
                None => copies.start_upload(&self.name).await?,
            };
            copy.put_part(part.clone()).await?;
            Ok(copy)
        }
        .await;
        match copied {
            Ok(copy) => (self.copies, self.copy) = (Some(copies), Some(copy)),
            Err(error) => tracing::warn!("no local copy of '{}' is kept: {error}", self.name),
        }
    }

    async fn finish_copy(&mut self, done: &[Bytes]) {
        let (Some(copies), copy) = (self.copies.take(), self.copy.take()) else { return };
        let copied = match copy {
            Some(mut copy) => copy.complete().await.map(drop).map_err(|error| error.to_string()),
            None => {
                let put = copies.put(&self.name, done.to_vec(), PutMode::Overwrite).await;
                put.map_err(|error| error.to_string())
            }
        };
        if let Err(error) = copied {
            tracing::warn!("no local copy of '{}' is kept: {error}", self.name);
        }
    }

    /// Writes what is left, and what the barrier has overtaken. A small snapshot is handed back inside the layer instead.
    ///
    /// # Errors
    /// The store failed, or too much was overtaken.
    pub async fn finish(mut self, in_flight: Vec<InFlight>) -> Result<Layer, Error> {
        let bytes = in_flight.iter().flat_map(|to| &to.batches).map(|batch| batch.len()).sum();
        self.encode(bytes, |encoder| encoder.finish(in_flight)).await?;
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.bytes);
        if self.upload.is_some() {
            self.upload_part().await?;
            let failed = |error| self.directory.failed("write", &self.name, error);
            if let Some(upload) = &mut self.upload {
                upload.complete().await.map_err(failed)?;
            }
            self.finish_copy(&[]).await;
            return Ok(Layer::File { name: self.name, bytes });
        }
        let done = self.take_done();
        if (bytes as usize) < INLINE_BYTES {
            return Ok(Layer::Inline(done.concat().into()));
        }
        self.finish_copy(&done).await;
        self.directory.put(&self.name, done, PutMode::Overwrite).await?;
        Ok(Layer::File { name: self.name, bytes })
    }

    /// Gives the snapshot up.
    pub async fn abort(mut self) {
        if let Some(upload) = &mut self.upload
            && let Err(error) = upload.abort().await
        {
            tracing::debug!(name = self.name, "left behind: {error}");
        }
    }
}
