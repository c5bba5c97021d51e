//! Opens a file for reading at a position, decompressed if need be.

use crate::error::{Error, failed, shown};
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How a file is compressed.
#[derive(Clone, Copy)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    /// What a file's name says.
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "gz" | "gzip" => Some(Compression::Gzip),
            "zst" | "zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }
}

/// A file being read.
pub(super) struct Input {
    bytes: Box<dyn Read + Send>,
    /// Bytes read from the disk.
    pub(super) raw: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file at a position in its, if need be decompressed, bytes.
    pub(super) fn open(path: &Path, position: u64) -> Result<Self, Error> {
        let mut file = File::open(path).map_err(failed("read", path))?;
        let raw = Arc::new(AtomicU64::new(0));
        let counted = |file| Counted { file, read: Arc::clone(&raw) };
        let bytes: Box<dyn Read + Send> = match Compression::of(path) {
            None => {
                let length = file.metadata().map_err(failed("read", path))?.len();
                if length < position {
                    return Err(Error::Replaced { path: shown(path), length, position });
                }
                file.seek(SeekFrom::Start(position)).map_err(failed("read", path))?;
                Box::new(file)
            }
            Some(compression) => {
                let mut bytes: Box<dyn Read + Send> = match compression {
                    Compression::Gzip => Box::new(flate2::read::MultiGzDecoder::new(counted(file))),
                    Compression::Zstd => {
                        Box::new(zstd::Decoder::new(counted(file)).map_err(failed("read", path))?)
                    }
                };
                let skipped = io::copy(&mut bytes.by_ref().take(position), &mut io::sink());
                let length = skipped.map_err(failed("decompress", path))?;
                if length < position {
                    return Err(Error::Replaced { path: shown(path), length, position });
                }
                bytes
            }
        };
        Ok(Input { bytes, raw })
    }

    /// Fills `buffer` from `at` on as far as the file goes; returns how far.
    pub(super) fn fill(&mut self, buffer: &mut [u8], mut at: usize, path: &Path) -> Result<usize, Error> {
        while at < buffer.len() {
            match self.bytes.read(&mut buffer[at..]) {
                Ok(0) => break,
                Ok(read) => at += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("read", path, error)),
            }
        }
        Ok(at)
    }
}

/// Counts what is read of a compressed file.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
