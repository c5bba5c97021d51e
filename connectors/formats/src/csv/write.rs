//! Writes CSV.

use crate::encode::Encoder;
use crate::error::Error;
use csv::{Writer, WriterBuilder};
use serde::Serialize;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// Encodes one CSV file.
pub struct CsvEncoder {
    writer: Writer<Shared>,
    bytes: Shared,
}

/// Where the writer leaves its bytes; it does not lend what it writes to.
#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl CsvEncoder {
    pub(super) fn new(header: bool, delimiter: u8, quote: Option<u8>) -> Self {
        let bytes = Shared::default();
        let writer = WriterBuilder::new()
            .has_headers(header)
            .delimiter(delimiter)
            .quote(quote.unwrap_or(b'"'))
            .from_writer(bytes.clone());
        CsvEncoder { writer, bytes }
    }
}

impl<T: Serialize> Encoder<T> for CsvEncoder {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        let written = self.writer.serialize(record);
        let flushed = self.writer.flush();
        let mut bytes = self.bytes.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = written {
            bytes.clear();
            return Err(Error::encode("CSV", error));
        }
        flushed.map_err(|error| Error::encode("CSV", error))?;
        out.append(&mut bytes);
        Ok(())
    }
}
