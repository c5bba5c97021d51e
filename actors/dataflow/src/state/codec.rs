//! Rows of state as MessagePack with named fields, so that added fields take their serde defaults.

use crate::error::{BoxError, Error};
use crate::snapshot::{GroupRows, RowOp, StateSnapshot};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends one value.
pub(super) fn write<T: Serialize>(value: &T, out: &mut Vec<u8>) -> Result<(), BoxError> {
    Ok(rmp_serde::encode::write_named(out, value)?)
}

/// Appends one value of a state.
pub(super) fn encode<T: Serialize>(state: &str, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    write(value, out).map_err(|source| encode_error(state, source))
}

pub(super) fn encode_error(state: &str, source: BoxError) -> Error {
    Error::Encode { state: state.to_string(), source }
}

/// Reads `rows` values, one after the other, and calls `each` with every one.
pub(super) fn decode_rows<T: DeserializeOwned>(
    state: &str,
    rows: u32,
    bytes: &[u8],
    mut each: impl FnMut(T),
) -> Result<(), Error> {
    let fail = |source: rmp_serde::decode::Error| Error::Decode {
        state: state.to_string(),
        expected: std::any::type_name::<T>(),
        source: source.into(),
    };
    let mut rest = bytes;
    for _ in 0..rows {
        let mut decoder = rmp_serde::Deserializer::new(&mut rest);
        each(T::deserialize(&mut decoder).map_err(fail)?);
    }
    if !rest.is_empty() {
        let source = format!("{} bytes follow the last row", rest.len()).into();
        return Err(Error::Decode { state: state.to_string(), expected: std::any::type_name::<T>(), source });
    }
    Ok(())
}

/// Does to a state what the rows of a snapshot say, in their order.
pub(super) fn apply_rows<S, P: DeserializeOwned, D: DeserializeOwned, N: DeserializeOwned>(
    from: &StateSnapshot,
    state: &mut S,
    put: impl Fn(&mut S, P),
    delete: impl Fn(&mut S, D),
    drop: impl Fn(&mut S, N, (u16, u16)),
) -> Result<(), Error> {
    for GroupRows { op, first, last, rows, bytes } in &from.groups {
        match op {
            RowOp::Drop => decode_rows(&from.name, *rows, bytes, |row| drop(state, row, (*first, *last)))?,
            RowOp::Delete => decode_rows(&from.name, *rows, bytes, |row| delete(state, row))?,
            RowOp::Put => decode_rows(&from.name, *rows, bytes, |row| put(state, row))?,
        }
    }
    Ok(())
}
