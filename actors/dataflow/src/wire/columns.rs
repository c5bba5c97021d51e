//! Rows as columns, driven by what serde shows of their type.
//!
//! Each position of the type is a column: numbers, booleans and characters as little-endian bytes; strings and byte
//! strings as lengths and one run of bytes; an option as a byte that says whether there is a value, with the value's
//! column below; sequences and maps as lengths with the elements' columns below; enums as a tag with the columns of
//! each variant seen below; structs and tuples as the columns of their fields. Newtypes leave no trace.
//!
//! Columns are written depth first, each as `kind, bytes of values, bytes of text, fields or variants`, with the names
//! of fields and variants. So the bytes describe themselves: a type may read its fields in another order, by alias, or
//! without knowing what comes. Every value takes a byte at least, a unit one too, so that no count can exceed what the
//! bytes hold.

mod deserialize;
mod kind;
mod read;
mod serialize;
mod write;

pub use write::{Columns, Refusal};

use crate::wire::error::DecodeError;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Columns of a type at most: trees of types that contain themselves have a column per place in the tree.
const MAX_COLUMNS: usize = 2048;

/// Nesting of a type at most.
const MAX_DEPTH: usize = 64;

/// Appends rows to `out`. To write many batches of a type, keep a [`Columns`], which spares allocations.
///
/// # Errors
/// See [`Refusal`].
pub fn encode_rows<T: Serialize>(rows: &[T], out: &mut Vec<u8>) -> Result<(), Refusal> {
    let mut columns = Columns::default();
    columns.gather(rows)?;
    columns.write(out);
    Ok(())
}

/// Reads exactly `rows` rows from all of `bytes`.
///
/// # Errors
/// Bytes that are not columns of such rows.
pub fn decode_rows<T: DeserializeOwned>(rows: usize, bytes: &[u8]) -> Result<Vec<T>, DecodeError> {
    read::rows(rows, bytes, bytes)
}

/// As [`decode_rows`], of a part of a frame, so that errors tell the place in the frame.
pub(super) fn decode_part<T: DeserializeOwned>(
    rows: usize,
    part: &[u8],
    frame: &[u8],
) -> Result<Vec<T>, DecodeError> {
    read::rows(rows, part, frame)
}
