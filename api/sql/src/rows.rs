//! Rows as bytes: keys of state, and rows that state keeps. The form is ours and frozen, since savepoints hold it: for
//! each column a byte that tells null (0) from a value (1), then the value: numbers in little-endian bytes, text and
//! bytes behind their length in four bytes, structs field by field, lists as their length and items. Equal values have
//! equal bytes: of floating-point numbers both zeros are written as the positive one, and all that are not numbers alike.

mod read;
mod write;

pub(crate) use read::RowWriter;
pub(crate) use write::{RowReader, Unsupported};

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smallvec::SmallVec;
use std::fmt;

/// The values of some columns of one row, as bytes. Short ones need no memory of their own.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RowKey(pub(crate) SmallVec<[u8; 24]>);

impl RowKey {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.bytes())
    }
}

impl Serialize for RowKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RowKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = RowKey;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<RowKey, E> {
                Ok(RowKey(SmallVec::from_slice(bytes)))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
