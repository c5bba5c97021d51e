//! Writes one subtask's snapshot while the subtask is still handing it out: compressed block after block, in parts once
//! it is large, so that never all of it is in memory.

use crate::directory::{Directory, off_the_loop};
use crate::error::Error;
use crate::snapshot_file::{Encoder, INLINE_BYTES, Layer, WHAT};
use bytes::Bytes;
use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::snapshot::SubtaskSnapshot;
use object_store::{MultipartUpload, PutMode, PutPayload};

/// A file that grows beyond this is uploaded in parts of this size.
const PART_BYTES: u64 = 8 << 20;

/// A snapshot that is being written; made by [`CheckpointStore::writer`](crate::CheckpointStore::writer). A file that is
/// not finished never appears.
pub struct SnapshotWriter {
    directory: Directory,
    name: String,
    encoder: Option<Encoder>,
    upload: Option<Box<dyn MultipartUpload>>,
    uploaded: u64,
}

impl SnapshotWriter {
    pub(crate) fn new(directory: Directory, name: String, snapshot: SubtaskSnapshot) -> Self {
        let encoder = Some(Encoder::new(snapshot));
        SnapshotWriter { directory, name, encoder, upload: None, uploaded: 0 }
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

    /// Writes what is left. A small snapshot is handed back inside the layer instead.
    ///
    /// # Errors
    /// The store failed.
    pub async fn finish(mut self) -> Result<Layer, Error> {
        self.encode(0, Encoder::finish).await?;
        let bytes = self.encoder.as_ref().map_or(0, |encoder| encoder.bytes);
        if self.upload.is_some() {
            self.upload_part().await?;
            let failed = |error| self.directory.failed("write", &self.name, error);
            if let Some(upload) = &mut self.upload {
                upload.complete().await.map_err(failed)?;
            }
            return Ok(Layer::File { name: self.name, bytes });
        }
        let done = self.take_done();
        if (bytes as usize) < INLINE_BYTES {
            return Ok(Layer::Inline(done.concat().into()));
        }
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
