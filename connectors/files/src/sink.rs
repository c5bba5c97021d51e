//! Writes part files: rolled by size, time and checkpoint, published in two phases.
//!
//! A writer writes to hidden files and makes them durable when a snapshot is taken; the committer renames them once
//! the checkpoint is complete. What the names look like is in [`part`], when files are rolled in [`rolling`].

mod committer;
mod lock;
mod open;
mod part;
mod rolling;
mod writer;

#[cfg(test)]
pub(crate) mod tests;

pub use rolling::RollingPolicy;

use crate::error::{absolute, told};
use committer::FileCommitter;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Committer, Sink, SinkWriter};
use hurtig_dataflow::{OpResult, Record};
use hurtig_formats::{Csv, EncodeFormat, JsonLines, TextLines};
use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use writer::Writer;

/// Which sub-folder a record goes to.
type BucketBy<T> = Arc<dyn Fn(&T) -> String + Send + Sync>;

/// A sink that writes records to files of a folder.
///
/// Each subtask writes part files named `part-<job>-<subtask>-<counter>.<ending>`. They appear when the checkpoint
/// that covers their records is complete, so every record appears exactly once, whatever fails meanwhile. In a job
/// without checkpoints they appear when its input has ended; a job whose input never ends needs checkpoints, or
/// [`publish_when_rolled`](FileSink::publish_when_rolled).
///
/// While a job writes to a folder no other may; a job may start in a folder that holds part files of earlier ones.
///
/// ```
/// use hurtig_files::FileSink;
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Delay { carrier: String, minutes: u32 }
///
/// let sink = FileSink::csv("out/delays")
///     .with_header()
///     .roll_at_bytes(64 << 20)
///     .roll_every(Duration::from_secs(60))
///     .bucket_by(|delay: &Delay| format!("carrier={}", delay.carrier));
/// ```
pub struct FileSink<T, E> {
    format: E,
    folder: PathBuf,
    rolling: RollingPolicy,
    bucket_by: Option<BucketBy<T>>,
    publish_when_rolled: bool,
}

impl<T: Record + Display> FileSink<T, TextLines> {
    /// A line of text per record.
    pub fn text(folder: impl AsRef<Path>) -> Self {
        FileSink::new(folder, TextLines)
    }
}

impl<T: Record> FileSink<T, Csv<T>> {
    /// CSV, separated by commas, without a header.
    pub fn csv(folder: impl AsRef<Path>) -> Self {
        FileSink::new(folder, Csv::new().without_header())
    }

    /// The first line of each file names the columns.
    pub fn with_header(mut self) -> Self {
        self.format = self.format.with_header();
        self
    }

    /// Fields are separated by this byte, for example `b';'` or `b'\t'`.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.format = self.format.delimiter(delimiter);
        self
    }
}

impl<T: Record> FileSink<T, JsonLines<T>> {
    /// A JSON value and a line break per record.
    pub fn json_lines(folder: impl AsRef<Path>) -> Self {
        FileSink::new(folder, JsonLines::new())
    }
}

impl<T: Record, E: EncodeFormat<T>> FileSink<T, E> {
    /// Files of any format.
    pub fn new(folder: impl AsRef<Path>, format: E) -> Self {
        FileSink {
            format,
            folder: folder.as_ref().to_path_buf(),
            rolling: RollingPolicy::default(),
            bucket_by: None,
            publish_when_rolled: false,
        }
    }

    /// When a file is closed and the next one begun.
    pub fn rolling(mut self, policy: RollingPolicy) -> Self {
        self.rolling = policy;
        self
    }

    /// A file is closed when it has this size; 128 MiB unless said otherwise.
    pub fn roll_at_bytes(mut self, bytes: u64) -> Self {
        self.rolling.bytes = bytes.max(1);
        self
    }

    /// A file is closed when this time has passed since its first record, in processing time.
    pub fn roll_every(mut self, interval: Duration) -> Self {
        self.rolling.every = Some(interval);
        self
    }

    /// Files stay open across checkpoints, until they have their size or age: fewer and larger files, but records
    /// appear later.
    pub fn keep_open_at_checkpoints(mut self) -> Self {
        self.rolling.on_checkpoint = false;
        self
    }

    /// Records go to the sub-folder that the function names, for example `day=2026-11-23`.
    pub fn bucket_by(mut self, bucket: impl Fn(&T) -> String + Send + Sync + 'static) -> Self {
        self.bucket_by = Some(Arc::new(bucket));
        self
    }

    /// In a job without checkpoints, files appear as soon as they are closed by size or time. If such a job fails and
    /// starts again, records appear again. Has no effect in a job with checkpoints.
    pub fn publish_when_rolled(mut self) -> Self {
        self.publish_when_rolled = true;
        self
    }
}

impl<T: Record, E: EncodeFormat<T>> Sink for FileSink<T, E> {
    type In = T;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<T>>> {
        let writer = absolute(&self.folder).and_then(|folder| Writer::new(self, folder, place));
        Ok(Box::new(writer.map_err(told)?))
    }

    fn committer(&self) -> Option<Box<dyn Committer>> {
        Some(Box::new(FileCommitter))
    }
}
