//! Rows of state as MessagePack with named fields, so that added fields take their serde defaults.

use crate::error::Error;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Appends one value.
pub(super) fn encode<T: Serialize>(state: &str, value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    rmp_serde::encode::write_named(out, value)
        .map_err(|source| Error::Encode { state: state.to_string(), source: source.into() })
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
