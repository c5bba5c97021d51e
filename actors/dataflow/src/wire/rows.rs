//! Rows of one type as columns or, where those do not fit, as MessagePack.

use super::columns::{self, Columns};
use super::error::{DecodeError, EncodeError, Reason};
use super::opaque;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::marker::PhantomData;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsFormat {
    /// As columns.
    Columns,
    /// As MessagePack.
    Opaque,
}

impl RowsFormat {
    /// The byte that stands for it.
    pub(super) fn to_byte(self) -> u8 {
        match self {
            RowsFormat::Columns => 0,
            RowsFormat::Opaque => 1,
        }
    }

    pub(super) fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            0 => Some(RowsFormat::Columns),
            1 => Some(RowsFormat::Opaque),
            _ => None,
        }
    }
}

/// Writes the batches of one channel, and remembers what their type allows.
pub struct RowsEncoder<T> {
    columns: Columns,
    /// Whether the type has shown that columns do not fit it.
    opaque: bool,
    /// Whether MessagePack has been read back once.
    proven: bool,
    rows: PhantomData<fn(T)>,
}

impl<T> Default for RowsEncoder<T> {
    fn default() -> Self {
        RowsEncoder { columns: Columns::default(), opaque: false, proven: false, rows: PhantomData }
    }
}

impl<T: Serialize + DeserializeOwned> RowsEncoder<T> {
    /// Appends rows, and says in which format.
    ///
    /// # Errors
    /// A row cannot be serialised, or not be read back. What was appended is taken away again.
    pub fn encode(&mut self, rows: &[T], out: &mut Vec<u8>) -> Result<RowsFormat, EncodeError> {
        let start = out.len();
        if !self.opaque {
            if self.try_columns(rows, out, start) {
                return Ok(RowsFormat::Columns);
            }
            out.truncate(start);
            self.opaque = true;
            self.columns = Columns::default();
        }
        let result = self.encode_opaque(rows, out, start);
        if result.is_err() {
            out.truncate(start);
        }
        result.map(|()| RowsFormat::Opaque)
    }

    fn try_columns(&mut self, rows: &[T], out: &mut Vec<u8>, start: usize) -> bool {
        let Ok(grown) = self.columns.gather(rows) else { return false };
        self.columns.write(out);
        // Positions not seen before may need what columns cannot give: seen here, the channel can still do without
        // columns; seen at the other end, it fails the job.
        !grown || columns::decode_rows::<T>(rows.len(), &out[start..]).is_ok()
    }

    fn encode_opaque(&mut self, rows: &[T], out: &mut Vec<u8>, start: usize) -> Result<(), EncodeError> {
        opaque::encode_rows(rows, out)?;
        if !self.proven && !rows.is_empty() {
            let bytes = &out[start..];
            opaque::decode_rows::<T>(rows.len(), bytes, bytes).map_err(|source| EncodeError::Unreadable {
                type_name: std::any::type_name::<T>(),
                source,
            })?;
            self.proven = true;
        }
        Ok(())
    }
}

/// Reads exactly `rows` rows from all of `part`, which is the end of `frame`.
pub(super) fn decode_rows<T: DeserializeOwned>(
    format: RowsFormat,
    rows: usize,
    part: &[u8],
    frame: &[u8],
) -> Result<Vec<T>, DecodeError> {
    if rows == 0 && part.is_empty() {
        return Ok(Vec::new());
    }
    if part.is_empty() {
        return Err(DecodeError::at(Reason::Truncated, frame.len()));
    }
    match format {
        RowsFormat::Columns => columns::decode_part(rows, part, frame),
        RowsFormat::Opaque => opaque::decode_rows(rows, part, frame),
    }
}
