//! Records to bytes: what every format that can be written implements.

use crate::error::Error;

/// How records become bytes.
pub trait EncodeFormat<T>: Clone + Send + Sync + 'static {
    /// Encodes one file.
    type Encoder: Encoder<T>;

    /// An encoder for one file. `from_start` says whether the file is empty, rather than to be continued.
    fn encoder(&self, from_start: bool) -> Self::Encoder;

    /// Ending of the names of such files.
    fn extension(&self) -> &str;
}

/// Encodes one file.
pub trait Encoder<T>: Send {
    /// Adds a record to `out`, preceded by the file's head if it is the first.
    ///
    /// # Errors
    /// The record has no representation in this format. `out` is as it was.
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), Error>;
}
