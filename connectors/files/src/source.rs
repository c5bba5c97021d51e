//! Reads files: one, a folder of them, or those that match a pattern; once, or on and on.

mod input;
mod list;
mod reader;

#[cfg(test)]
mod tests;

use crate::error::{absolute, told};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::Record;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{Source, SplitEnumerator, SplitReader};
use hurtig_formats::{Csv, DecodeFormat, Fail, JsonLines, OnError, TextLines};
use list::Enumerator;
use reader::Reader;
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Duration;

const DEFAULT_SPLIT_BYTES: u64 = 64 << 20;
const DEFAULT_MAX_RECORD_BYTES: usize = 64 << 20;

/// A source of records in files.
///
/// The path is a file, a folder, of which all files are read, or a pattern with `*`, `?`, `[…]` and `**`. Files and
/// folders whose names begin with a dot or an underscore are left out. Files ending in `.gz` and `.zst` are
/// decompressed. Files are read in the order of their paths; big ones are read in splits, by several subtasks at a
/// time, where the format and the compression allow it.
///
/// ```
/// use hurtig_files::{FileSource, Skip};
/// use serde::{Deserialize, Serialize};
/// use std::time::Duration;
///
/// #[derive(Clone, Serialize, Deserialize)]
/// struct Flight { carrier: String, delay: Option<f64> }
///
/// let lines = FileSource::text("logs/*.txt.gz");
/// let flights = FileSource::csv::<Flight>("flights.csv").splittable();
/// let events = FileSource::json_lines::<Flight>("incoming").monitor(Duration::from_secs(1)).on_error(Skip);
/// ```
#[derive(Clone)]
pub struct FileSource<F, P = Fail> {
    format: F,
    path: PathBuf,
    monitor: Option<Duration>,
    split_bytes: u64,
    max_record_bytes: usize,
    policy: PhantomData<fn() -> P>,
}

impl FileSource<TextLines> {
    /// Lines of text.
    pub fn text(path: impl AsRef<Path>) -> Self {
        FileSource::new(path, TextLines)
    }

    /// CSV with a header, separated by commas. Fields in quotes may hold line breaks, so a file is not read in splits
    /// unless [`splittable`](FileSource::splittable) says that none does.
    pub fn csv<T: Record>(path: impl AsRef<Path>) -> FileSource<Csv<T>> {
        FileSource::new(path, Csv::new())
    }

    /// One JSON value per line.
    pub fn json_lines<T: Record>(path: impl AsRef<Path>) -> FileSource<JsonLines<T>> {
        FileSource::new(path, JsonLines::new())
    }
}

impl<F: DecodeFormat> FileSource<F> {
    /// Files of any format.
    pub fn new(path: impl AsRef<Path>, format: F) -> Self {
        FileSource {
            format,
            path: path.as_ref().to_path_buf(),
            monitor: None,
            split_bytes: DEFAULT_SPLIT_BYTES,
            max_record_bytes: DEFAULT_MAX_RECORD_BYTES,
            policy: PhantomData,
        }
    }
}

impl<F: DecodeFormat, P: OnError> FileSource<F, P> {
    /// Looks for new files in such intervals, for as long as the job runs. Each path is taken once, with the content
    /// it has then: write a file under a name that begins with a dot and rename it when it is complete.
    ///
    /// The job remembers every path it took, for ever, and every checkpoint holds them all: some 200 bytes of memory
    /// and 100 bytes of a checkpoint for a path of 100 bytes, so 200 MB and 100 MB for a million files. Each look also
    /// lists the whole folder, whatever is known of it. Where files come for years, have them moved away when they are
    /// done and start the job afresh from time to time, or let fewer and larger files come.
    pub fn monitor(mut self, interval: Duration) -> Self {
        self.monitor = Some(interval);
        self
    }

    /// Files are read in splits of so many bytes where that is possible; 64 MiB unless said otherwise.
    pub fn split_bytes(mut self, bytes: u64) -> Self {
        self.split_bytes = bytes.max(1);
        self
    }

    /// A longer record fails the job; 64 MiB unless said otherwise. It keeps a quote that is not closed from taking
    /// the whole file into memory.
    pub fn max_record_bytes(mut self, bytes: usize) -> Self {
        self.max_record_bytes = bytes.max(1);
        self
    }

    /// What happens to a line that does not parse: [`Fail`] (the default), [`Skip`](hurtig_formats::Skip), or
    /// [`SideOutput`](hurtig_formats::SideOutput), which makes the records `Result<T, BadLine>`.
    pub fn on_error<Q: OnError>(self, policy: Q) -> FileSource<F, Q> {
        let _ = policy;
        FileSource {
            format: self.format,
            path: self.path,
            monitor: self.monitor,
            split_bytes: self.split_bytes,
            max_record_bytes: self.max_record_bytes,
            policy: PhantomData,
        }
    }

    /// The format, to be changed.
    fn with_format(mut self, change: impl FnOnce(F) -> F) -> Self {
        self.format = change(self.format);
        self
    }
}

impl<T: Record, P: OnError> FileSource<Csv<T>, P> {
    /// There is no line that names the columns: they go to fields by position.
    pub fn without_header(self) -> Self {
        self.with_format(Csv::without_header)
    }

    /// Fields are separated by this byte, for example `b';'` or `b'\t'`.
    pub fn delimiter(self, delimiter: u8) -> Self {
        self.with_format(|csv| csv.delimiter(delimiter))
    }

    /// Fields may be put in a pair of this byte rather than double quotes.
    pub fn quote(self, quote: u8) -> Self {
        self.with_format(|csv| csv.quote(quote))
    }

    /// Quotes mean nothing.
    pub fn without_quotes(self) -> Self {
        self.with_format(Csv::without_quotes)
    }

    /// No field in quotes holds a line break, so big files may be read in splits. Where this is not true, records are
    /// torn.
    pub fn splittable(self) -> Self {
        self.with_format(Csv::splittable)
    }
}

/// A stretch of a file, with the position reading has come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileSplit {
    /// The file.
    pub path: PathBuf,
    /// Where the split begins.
    pub start: u64,
    /// Records that begin here or behind belong to another split; nothing if the split goes to the file's end, in
    /// whatever number of bytes.
    pub end: Option<u64>,
    /// Length of the file as it lies on disk.
    pub file_bytes: u64,
    /// Where reading goes on; of compressed files, in decompressed bytes.
    pub position: u64,
    /// Number of the line there, from 1, where it is known.
    pub line: Option<u64>,
}

impl FileSplit {
    /// Its length, or that of the file as it lies there where only reading tells where it ends.
    fn bytes(&self) -> u64 {
        self.end.unwrap_or(self.file_bytes).saturating_sub(self.start)
    }
}

impl<F: DecodeFormat, P: OnError> Source for FileSource<F, P> {
    type Out = P::Out<F::Out>;
    type Split = FileSplit;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<FileSplit>>> {
        let split_bytes = self.format.is_splittable().then_some(self.split_bytes);
        let path = absolute(&self.path).map_err(told)?;
        Ok(Box::new(Enumerator::new(path, self.monitor, split_bytes, restored)?))
    }

    fn open(
        &self,
        split: FileSplit,
        _place: &Place,
    ) -> OpResult<Box<dyn SplitReader<Out = Self::Out, Split = FileSplit>>> {
        Ok(Box::new(Reader::<F, P>::open(&self.format, split, self.max_record_bytes)?))
    }

    fn is_bounded(&self) -> bool {
        self.monitor.is_none()
    }
}
