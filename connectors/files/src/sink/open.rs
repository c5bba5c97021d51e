//! A part file being written.

use super::part::Closed;
use crate::error::{Error, failed, told};
use hurtig_formats::{EncodeFormat, Encoder};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

const BUFFER_BYTES: usize = 256 << 10;

/// A part file being written, with what is not yet on disk.
pub(super) struct OpenPart<C> {
    file: File,
    pub(super) path: PathBuf,
    /// Its name once it is published.
    pub(super) to: PathBuf,
    encoder: C,
    buffer: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    /// Processing time of its first record.
    pub(super) since: i64,
    /// Whether a checkpoint names it, so that it must stay when the writer ends.
    pub(super) in_checkpoint: bool,
}

impl<C> OpenPart<C> {
    /// Begins a file.
    pub(super) fn create<T, E: EncodeFormat<T, Encoder = C>>(
        format: &E,
        path: PathBuf,
        to: PathBuf,
        since: i64,
    ) -> Result<Self, Error> {
        let file =
            File::options().write(true).create_new(true).open(&path).map_err(failed("write", &path))?;
        let (encoder, buffer) = (format.encoder(true), Vec::new());
        Ok(OpenPart { file, path, to, encoder, buffer, written: 0, since, in_checkpoint: false })
    }

    /// Begins a file with the first `bytes` bytes of another, to be continued.
    pub(super) fn continued<T, E: EncodeFormat<T, Encoder = C>>(
        format: &E,
        path: PathBuf,
        to: PathBuf,
        since: i64,
        from: &Path,
        bytes: u64,
    ) -> Result<Self, Error> {
        let source = match File::open(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Error::Lost(crate::error::shown(from)));
            }
            source => source.map_err(failed("read", from))?,
        };
        let mut part = Self::create(format, path, to, since)?;
        let copied = io::copy(&mut source.take(bytes), &mut part.file);
        let found = copied.map_err(failed("write", &part.path))?;
        if found < bytes {
            return Err(Error::Length { path: crate::error::shown(from), found, expected: bytes });
        }
        part.written = bytes;
        part.encoder = format.encoder(bytes == 0);
        Ok(part)
    }

    /// Its length when all is on disk.
    pub(super) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a record.
    pub(super) fn write<T>(&mut self, record: &T) -> Result<(), hurtig_dataflow::BoxError>
    where
        C: Encoder<T>,
    {
        self.encoder.encode(record, &mut self.buffer)?;
        if self.buffer.len() >= BUFFER_BYTES {
            self.flush().map_err(told)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.file.write_all(&self.buffer).map_err(failed("write", &self.path))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Makes durable what was written.
    pub(super) fn sync(&mut self) -> Result<(), Error> {
        self.flush()?;
        self.file.sync_data().map_err(failed("write", &self.path))
    }

    /// Makes the file durable and closes it.
    pub(super) fn close(mut self) -> Result<Closed, Error> {
        self.sync()?;
        Ok(Closed { bytes: self.written, from: self.path, to: self.to })
    }
}

/// Makes durable which names a folder holds, where the file system can.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        Err(error) if !matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => {
            Err(Error::io("write", folder, error))
        }
        _ => Ok(()),
    }
}
