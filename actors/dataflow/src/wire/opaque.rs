//! Rows as MessagePack values one after the other, with named fields and in the form made for people, which is what
//! types that take what comes (untagged enums, flattened structs, JSON values) can read.

use super::error::{DecodeError, EncodeError, Reason};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Nesting of a value at most, when it is written. Reading counts more levels for the same value.
const MAX_DEPTH: usize = 128;

/// Nesting when it is read: options, newtypes and variants count as levels of their own.
const MAX_READ_DEPTH: usize = 4 * MAX_DEPTH;

/// Rows are allocated for at once up to so many bytes per byte read; more as they come.
const AMPLIFICATION: usize = 8;

/// Appends rows.
pub(super) fn encode_rows<T: Serialize>(rows: &[T], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let mut serializer = rmp_serde::Serializer::new(out).with_struct_map().with_human_readable();
    serializer.unstable_set_max_depth(MAX_DEPTH);
    for row in rows {
        row.serialize(&mut serializer).map_err(|source| EncodeError::Serialize {
            type_name: std::any::type_name::<T>(),
            source: source.into(),
        })?;
    }
    Ok(())
}

/// Reads exactly `rows` rows from all of `part`, which is the end of `frame`.
pub(super) fn decode_rows<T: DeserializeOwned>(
    rows: usize,
    part: &[u8],
    frame: &[u8],
) -> Result<Vec<T>, DecodeError> {
    let start = frame.len().saturating_sub(part.len());
    if rows > part.len() {
        return Err(DecodeError::at(Reason::TooLong(rows), start));
    }
    let most = (part.len().saturating_mul(AMPLIFICATION) / size_of::<T>().max(1)).max(16);
    let mut all = Vec::with_capacity(rows.min(most));
    let mut rest = part;
    for row in 0..rows {
        let mut reader = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
        reader.set_max_depth(MAX_READ_DEPTH);
        match T::deserialize(&mut reader) {
            Ok(value) => all.push(value),
            Err(error) => {
                let offset = frame.len().saturating_sub(rest.len());
                return Err(DecodeError::at(Reason::Type(error.to_string()), offset).in_row(row));
            }
        }
    }
    if !rest.is_empty() {
        return Err(DecodeError::at(Reason::Trailing(rest.len()), frame.len().saturating_sub(rest.len())));
    }
    Ok(all)
}
