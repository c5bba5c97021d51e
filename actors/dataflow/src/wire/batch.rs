//! Batches as frames.

use super::error::{DecodeError, EncodeError, Reason};
use super::rows::{RowsEncoder, RowsFormat, decode_rows};
use super::{Limits, times};
use crate::batch::{AnyBatch, Batch, Record, Rows};
use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

/// Version of the frame's layout.
const VERSION: u8 = 1;

/// Flag in the format byte: the rows have event times.
const TIMED: u8 = 0x80;

/// Makes batches of one edge into bytes and back. Both ends of the edge hold the same.
pub trait BatchCodec: Send + Sync {
    /// What one sending channel encodes with. Keeping it spares allocations and decisions.
    fn encoder(&self, limits: Limits) -> Box<dyn BatchEncoder>;

    /// Reads a batch from all of `bytes`.
    ///
    /// # Errors
    /// Bytes that are not such a batch, or above the limits.
    fn decode(&self, bytes: &[u8], limits: Limits) -> Result<AnyBatch, DecodeError>;
}

/// Writes the batches of one channel.
pub trait BatchEncoder: Send {
    /// Appends a batch to `out`.
    ///
    /// # Errors
    /// A batch of another type, above the limits, or whose records cannot be serialised. `out` is then as before.
    fn encode(&mut self, batch: &dyn Batch, out: &mut Vec<u8>) -> Result<(), EncodeError>;
}

/// The codec of [`Rows`].
pub struct RowsCodec<T>(PhantomData<fn() -> T>);

impl<T: Record> RowsCodec<T> {
    /// As an edge holds it.
    pub fn shared() -> Arc<dyn BatchCodec> {
        Arc::new(RowsCodec::<T>(PhantomData))
    }
}

struct FrameEncoder<T> {
    limits: Limits,
    rows: RowsEncoder<T>,
}

impl<T: Record> BatchCodec for RowsCodec<T> {
    fn encoder(&self, limits: Limits) -> Box<dyn BatchEncoder> {
        Box::new(FrameEncoder { limits, rows: RowsEncoder::<T>::default() })
    }

    fn decode(&self, bytes: &[u8], limits: Limits) -> Result<AnyBatch, DecodeError> {
        Ok(Box::new(decode_batch::<T>(bytes, limits)?))
    }
}

impl<T: Record> BatchEncoder for FrameEncoder<T> {
    fn encode(&mut self, batch: &dyn Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let any: &dyn Any = batch;
        let Some(Rows { records, times, .. }) = any.downcast_ref::<Rows<T>>() else {
            return Err(EncodeError::BatchType {
                expected: std::any::type_name::<Rows<T>>(),
                found: batch.type_name(),
            });
        };
        if !times.is_empty() && times.len() != records.len() {
            return Err(EncodeError::Times { rows: records.len(), times: times.len() });
        }
        let too_many = EncodeError::TooManyRows { rows: records.len(), limit: self.limits.rows };
        let Some(count) = u32::try_from(records.len()).ok().filter(|_| records.len() <= self.limits.rows)
        else {
            return Err(too_many);
        };
        let start = out.len();
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&count.to_le_bytes());
        if !times.is_empty() {
            times::encode(times, out);
        }
        match self.rows.encode(records, out) {
            Ok(format) => {
                out[start + 1] = format.to_byte() | if times.is_empty() { 0 } else { TIMED };
                Ok(())
            }
            Err(error) => {
                out.truncate(start);
                Err(error)
            }
        }
    }
}

fn decode_batch<T: Record>(frame: &[u8], limits: Limits) -> Result<Rows<T>, DecodeError> {
    let Some((&[version, format, a, b, c, d], mut rest)) = frame.split_first_chunk::<6>() else {
        return Err(DecodeError::at(Reason::Truncated, frame.len()));
    };
    if version != VERSION {
        return Err(DecodeError::at(Reason::Version(version), 0));
    }
    let rows = u32::from_le_bytes([a, b, c, d]) as usize;
    if rows > limits.rows {
        return Err(DecodeError::at(Reason::TooManyRows { rows, limit: limits.rows }, 2));
    }
    // A row takes a byte at least.
    if rows > rest.len() {
        return Err(DecodeError::at(Reason::TooLong(rows), 2));
    }
    let unknown = || DecodeError::at(Reason::Tag { what: "format of rows", value: format.into() }, 1);
    let timed = format & TIMED != 0;
    let format = RowsFormat::from_byte(format & !TIMED).ok_or_else(unknown)?;
    let times = if timed { times::decode(rows, &mut rest, frame)? } else { Vec::new() };
    let records = decode_rows(format, rows, rest, frame)?;
    Ok(Rows::new(records, times))
}
