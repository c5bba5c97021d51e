//! Changes as bytes: the record batch as an Arrow IPC message (Arrow columnar format, "Serialization and Interprocess
//! Communication"), whose schema both ends of an edge know already, behind the rows' weights.

use super::Changes;
use arrow::array::RecordBatch;
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::reader::{StreamReader, read_record_batch};
use arrow::ipc::writer::{
    DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions, StreamWriter,
};
use arrow::ipc::{MetadataVersion, root_as_message};
use hurtig_dataflow::wire::{BatchCodec, BatchEncoder, DecodeError, EncodeError, Limits, Reason};
use hurtig_dataflow::{AnyBatch, Batch};
use std::any::Any;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const VERSION: u8 = 1;

/// The codec of an edge whose batches have these columns.
pub(crate) struct ChangesCodec {
    schema: SchemaRef,
}

impl ChangesCodec {
    /// As an edge holds it.
    pub(crate) fn shared(schema: SchemaRef) -> Arc<dyn BatchCodec> {
        Arc::new(ChangesCodec { schema })
    }
}

impl BatchCodec for ChangesCodec {
    fn encoder(&self, limits: Limits) -> Box<dyn BatchEncoder> {
        Box::new(ChangesEncoder { limits })
    }

    fn decode(&self, bytes: &[u8], limits: Limits) -> Result<AnyBatch, DecodeError> {
        // Arrow checks what it reads, but does not promise never to panic.
        let decoded = catch_unwind(AssertUnwindSafe(|| read(bytes, &self.schema, limits)));
        let changes = decoded
            .unwrap_or_else(|_| Err(DecodeError::at(Reason::Type("not an Arrow record batch".into()), 0)))?;
        Ok(Box::new(changes))
    }
}

struct ChangesEncoder {
    limits: Limits,
}

impl BatchEncoder for ChangesEncoder {
    fn encode(&mut self, batch: &dyn Batch, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        let any: &dyn Any = batch;
        let Some(changes) = any.downcast_ref::<Changes>() else {
            return Err(EncodeError::BatchType { expected: "Changes", found: batch.type_name() });
        };
        if changes.len() > self.limits.rows {
            return Err(EncodeError::TooManyRows { rows: changes.len(), limit: self.limits.rows });
        }
        let start = out.len();
        write(changes, out).map_err(|source| {
            out.truncate(start);
            EncodeError::Serialize { type_name: "Changes", source: source.into() }
        })
    }
}

fn write(changes: &Changes, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    write_weights(changes, out);
    let options = IpcWriteOptions::default();
    let mut dictionaries = DictionaryTracker::new(false);
    let (_, encoded) = IpcDataGenerator::default().encode(
        &changes.batch,
        &mut dictionaries,
        &options,
        &mut IpcWriteContext::default(),
    )?;
    out.extend_from_slice(&(encoded.ipc_message.len() as u32).to_le_bytes());
    out.extend_from_slice(&encoded.ipc_message);
    out.extend_from_slice(&encoded.arrow_data);
    Ok(())
}

/// Version, number of rows, whether there are weights, and the weights.
fn write_weights(changes: &Changes, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(u8::from(changes.weights.is_some()));
    out.extend_from_slice(&(changes.len() as u32).to_le_bytes());
    for weight in changes.weights.iter().flatten() {
        out.extend_from_slice(&weight.to_le_bytes());
    }
}

fn read(frame: &[u8], schema: &SchemaRef, limits: Limits) -> Result<Changes, DecodeError> {
    let (rows, weights, rest) = read_weights(frame, limits)?;
    let wrong = |error: ArrowError| DecodeError::at(Reason::Type(error.to_string()), 0);
    let cut = || DecodeError::at(Reason::Truncated, frame.len());
    let (length, rest) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
    let (message, data) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(cut)?;
    let message =
        root_as_message(message).map_err(|error| DecodeError::at(Reason::Type(error.to_string()), 0))?;
    let header = message
        .header_as_record_batch()
        .ok_or_else(|| DecodeError::at(Reason::Type("not a record batch".into()), 0))?;
    let batch = read_record_batch(
        &Buffer::from(data),
        header,
        Arc::clone(schema),
        &HashMap::new(),
        None,
        &MetadataVersion::V5,
    )
    .map_err(wrong)?;
    joined(batch, rows, weights)
}

/// Number of rows, their weights, and what follows.
type Head<'f> = (usize, Option<Vec<i64>>, &'f [u8]);

fn read_weights(frame: &[u8], limits: Limits) -> Result<Head<'_>, DecodeError> {
    let cut = || DecodeError::at(Reason::Truncated, frame.len());
    let (&[version, weighted, a, b, c, d], mut rest) = frame.split_first_chunk::<6>().ok_or_else(cut)?;
    if version != VERSION {
        return Err(DecodeError::at(Reason::Version(version), 0));
    }
    let rows = u32::from_le_bytes([a, b, c, d]) as usize;
    if rows > limits.rows {
        return Err(DecodeError::at(Reason::TooManyRows { rows, limit: limits.rows }, 2));
    }
    let weights = match weighted {
        0 => None,
        1 => {
            let (bytes, after) = rest.split_at_checked(rows * 8).ok_or_else(cut)?;
            rest = after;
            let (words, _) = bytes.as_chunks::<8>();
            Some(words.iter().map(|word| i64::from_le_bytes(*word)).collect())
        }
        other => return Err(DecodeError::at(Reason::Tag { what: "weights", value: other.into() }, 1)),
    };
    Ok((rows, weights, rest))
}

fn joined(batch: RecordBatch, rows: usize, weights: Option<Vec<i64>>) -> Result<Changes, DecodeError> {
    if batch.num_rows() != rows {
        return Err(DecodeError::at(Reason::Type("another number of rows than said".into()), 2));
    }
    Ok(Changes { batch, weights })
}

/// The same with the schema, for one batch alone.
pub(super) fn write_with_schema(changes: &Changes, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    write_weights(changes, out);
    let mut writer = StreamWriter::try_new(out, &changes.batch.schema())?;
    writer.write(&changes.batch)?;
    writer.finish()
}

pub(super) fn read_with_schema(bytes: &[u8]) -> Result<Changes, DecodeError> {
    let (rows, weights, rest) = read_weights(bytes, Limits::default())?;
    let wrong = |error: ArrowError| DecodeError::at(Reason::Type(error.to_string()), 0);
    let decoded = catch_unwind(AssertUnwindSafe(|| {
        let mut reader = StreamReader::try_new(rest, None)?;
        reader.next().unwrap_or_else(|| Err(ArrowError::IpcError("no record batch".into())))
    }));
    let batch =
        decoded.unwrap_or_else(|_| Err(ArrowError::IpcError("not an Arrow stream".into()))).map_err(wrong)?;
    joined(batch, rows, weights)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    fn sample() -> Changes {
        let names = StringArray::from(vec![Some("a"), None, Some("ccc")]);
        let batch = RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(vec![1, 2, 3])) as _, false),
            ("name", Arc::new(names) as _, true),
        ]);
        Changes::weighted(batch.unwrap(), vec![1, -1, 3]).unwrap()
    }

    #[test]
    fn a_batch_is_read_as_it_was_written() {
        let changes = sample();
        let codec = ChangesCodec::shared(changes.schema());
        let mut bytes = Vec::new();
        codec.encoder(Limits::default()).encode(&changes, &mut bytes).unwrap();
        let back = codec.decode(&bytes, Limits::default()).unwrap();
        let back = hurtig_dataflow::batch::downcast::<Changes>(back).unwrap();
        assert_eq!(back, changes);
        assert!(codec.encoder(Limits { rows: 2 }).encode(&changes, &mut Vec::new()).is_err());
    }

    proptest! {
        #[test]
        fn bytes_that_are_no_batch_are_refused(at in 0usize..400, byte in any::<u8>(), cut in 0usize..400) {
            let changes = sample();
            let codec = ChangesCodec::shared(changes.schema());
            let mut bytes = Vec::new();
            codec.encoder(Limits::default()).encode(&changes, &mut bytes).unwrap();
            let at = at % bytes.len();
            bytes[at] = byte;
            // Read or refused, but no panic.
            let _ = codec.decode(&bytes, Limits::default());
            bytes.truncate(cut % bytes.len());
            prop_assert!(codec.decode(&bytes, Limits::default()).is_err());
        }
    }
}
