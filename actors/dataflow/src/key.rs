//! Keys, their stable hash, and key groups.
//!
//! A key is hashed by walking it with serde: its shape, not its memory, feeds a frozen 64-bit function. The
//! function's version is part of every checkpoint; the test vectors below pin it.

use serde::ser::{self, Serialize};
use serde::{Deserialize, de::DeserializeOwned};
use std::fmt;
use std::hash::Hash;

/// What a stream may be keyed by: any type that can be hashed, compared, cloned, sent and (de)serialised.
/// Implemented for all such types.
pub trait Key: Hash + Eq + Clone + Send + Serialize + DeserializeOwned + 'static {}
impl<K: Hash + Eq + Clone + Send + Serialize + DeserializeOwned + 'static> Key for K {}

/// Version of the hash function below, written to checkpoints.
pub const KEY_HASH_VERSION: u16 = 1;

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
const FINISHER: u64 = 0xd6e8_feb8_6659_fd93;

#[inline(always)]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

/// The stable 64-bit hash of a key. Equal keys hash equally on every machine and in every version.
#[inline]
pub fn hash_key<K: Serialize + ?Sized>(key: &K) -> u64 {
    let mut hasher = KeyHasher { state: SEED };
    // The hasher accepts every shape, so only a key's own `Serialize` can fail; such keys all land together.
    if key.serialize(&mut hasher).is_err() {
        hasher.word(u64::MAX);
    }
    fold(hasher.state ^ FINISHER, MULTIPLIER)
}

/// The key group of a hash: a number from 0 to `max_parallelism` less one.
#[inline]
pub fn key_group(hash: u64, max_parallelism: u32) -> u16 {
    // The upper half picks the group, the lower half the slot within the group's table.
    (((hash >> 32) * u64::from(max_parallelism)) >> 32) as u16
}

/// The subtask that owns a key group.
#[inline]
pub fn owner_of_group(group: u16, max_parallelism: u32, parallelism: usize) -> usize {
    group as usize * parallelism / max_parallelism as usize
}

/// The contiguous key groups that one subtask owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, Deserialize)]
pub struct KeyGroupRange {
    /// First group owned.
    pub first: u16,
    /// Number of groups owned.
    pub count: u16,
    /// Number of groups of the job.
    pub max_parallelism: u32,
}

impl KeyGroupRange {
    /// The range of one subtask.
    pub fn of_subtask(index: usize, parallelism: usize, max_parallelism: u32) -> Self {
        let groups = max_parallelism as usize;
        let start = (index * groups).div_ceil(parallelism);
        let end = ((index + 1) * groups).div_ceil(parallelism);
        KeyGroupRange { first: start as u16, count: (end - start) as u16, max_parallelism }
    }

    /// All groups.
    pub fn all(max_parallelism: u32) -> Self {
        Self::of_subtask(0, 1, max_parallelism)
    }

    /// Whether the group is in the range.
    pub fn contains(&self, group: u16) -> bool {
        group >= self.first && group - self.first < self.count
    }

    /// Whether a group is in both.
    pub fn overlaps(&self, other: KeyGroupRange) -> bool {
        let end = |range: &KeyGroupRange| u32::from(range.first) + u32::from(range.count);
        self.count > 0
            && other.count > 0
            && u32::from(self.first) < end(&other)
            && u32::from(other.first) < end(self)
    }

    /// Index of a hash's group within this range; `None` if another subtask owns it.
    #[inline]
    pub fn index_of(&self, hash: u64) -> Option<usize> {
        let group = key_group(hash, self.max_parallelism);
        (group.wrapping_sub(self.first) < self.count).then(|| (group - self.first) as usize)
    }
}

struct KeyHasher {
    state: u64,
}

impl KeyHasher {
    #[inline(always)]
    fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word, MULTIPLIER).wrapping_add(word.rotate_left(32));
    }

    /// Whole words, then the last one to eight bytes as one word, which may overlap the one before.
    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.state = self.state.wrapping_add((bytes.len() as u64).wrapping_mul(FINISHER));
        // As few cases as there can be: keys are of many lengths, and a processor that guesses wrong which case comes next
        // loses more time than all of them take.
        if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
            if bytes.len() > 16 {
                return self.many_bytes(bytes);
            }
            if let (true, Some(first), Some(last)) =
                (bytes.len() > 8, bytes.first_chunk(), bytes.last_chunk())
            {
                self.word(u64::from_le_bytes(*first));
                return self.word(u64::from_le_bytes(*last));
            }
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            self.word(u64::from(first) | u64::from(last) << 32);
        } else if bytes.is_empty() {
            self.word(0);
        } else {
            let at = |index: usize| u64::from(bytes[index]);
            self.word(at(0) | at(bytes.len() / 2) << 8 | at(bytes.len() - 1) << 16);
        }
    }

    /// What is above for more than eight, in a loop.
    fn many_bytes(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        while let Some((chunk, after)) = rest.split_first_chunk()
            && !after.is_empty()
        {
            self.word(u64::from_le_bytes(*chunk));
            rest = after;
        }
        if let Some(last) = bytes.last_chunk() {
            self.word(u64::from_le_bytes(*last));
        }
    }
}

/// A key's own `Serialize` implementation failed.
#[derive(Debug)]
struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("key cannot be serialised")
    }
}
impl std::error::Error for KeyError {}
impl ser::Error for KeyError {
    fn custom<T: fmt::Display>(_: T) -> Self {
        KeyError
    }
}

macro_rules! words {
    ($($name:ident: $type:ty),*) => {$(
        #[inline(always)]
        fn $name(self, value: $type) -> Result<(), KeyError> {
            self.word(value as u64);
            Ok(())
        }
    )*};
}

impl ser::Serializer for &mut KeyHasher {
    type Ok = ();
    type Error = KeyError;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    words!(serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_char: char);

    fn serialize_i128(self, value: i128) -> Result<(), KeyError> {
        self.serialize_u128(value as u128)
    }
    fn serialize_u128(self, value: u128) -> Result<(), KeyError> {
        self.word(value as u64);
        self.word((value >> 64) as u64);
        Ok(())
    }
    fn serialize_f32(self, value: f32) -> Result<(), KeyError> {
        self.serialize_f64(f64::from(value))
    }
    fn serialize_f64(self, value: f64) -> Result<(), KeyError> {
        // The two zeros are equal, so they must hash equally.
        self.word(if value == 0.0 { 0 } else { value.to_bits() });
        Ok(())
    }
    #[inline(always)]
    fn serialize_str(self, value: &str) -> Result<(), KeyError> {
        self.bytes(value.as_bytes());
        Ok(())
    }
    fn serialize_bytes(self, value: &[u8]) -> Result<(), KeyError> {
        self.bytes(value);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), KeyError> {
        self.word(0);
        Ok(())
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), KeyError> {
        self.word(1);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), KeyError> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), KeyError> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), KeyError> {
        self.bytes(variant.as_bytes());
        Ok(())
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), KeyError> {
        self.bytes(variant.as_bytes());
        value.serialize(self)
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<Self, KeyError> {
        self.word(len.map_or(u64::MAX, |len| len as u64));
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, KeyError> {
        self.bytes(variant.as_bytes());
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, KeyError> {
        self.serialize_seq(len)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, KeyError> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Self, KeyError> {
        self.bytes(variant.as_bytes());
        Ok(self)
    }
    fn is_human_readable(&self) -> bool {
        false
    }
}

macro_rules! compounds {
    ($($trait:ident: $method:ident),*) => {$(
        impl ser::$trait for &mut KeyHasher {
            type Ok = ();
            type Error = KeyError;
            #[inline(always)]
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), KeyError> {
                Ok(())
            }
        }
    )*};
}
compounds!(SerializeSeq: serialize_element, SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field, SerializeTupleVariant: serialize_field);

impl ser::SerializeMap for &mut KeyHasher {
    type Ok = ();
    type Error = KeyError;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), KeyError> {
        key.serialize(&mut **self)
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), KeyError> {
        value.serialize(&mut **self)
    }
    fn end(self) -> Result<(), KeyError> {
        Ok(())
    }
}

macro_rules! structs {
    ($($trait:ident),*) => {$(
        impl ser::$trait for &mut KeyHasher {
            type Ok = ();
            type Error = KeyError;
            #[inline(always)]
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), KeyError> {
                value.serialize(&mut **self)
            }
            fn end(self) -> Result<(), KeyError> {
                Ok(())
            }
        }
    )*};
}
structs!(SerializeStruct, SerializeStructVariant);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_hash_is_frozen() {
        let found = [
            hash_key(&0u64),
            hash_key(&1u64),
            hash_key(&-1i64),
            hash_key("hurtig"),
            hash_key("a key of more than eight bytes"),
            hash_key(&("JFK", 17u32)),
            hash_key(&Some(true)),
        ];
        let frozen = [
            0xd014_def0_107b_3574,
            0xd4ee_f595_253e_07f0,
            0x8d34_0bdc_41bb_a14e,
            0x6b6f_3313_9a7a_5b92,
            0xd850_5a84_f98b_c484,
            0x832d_c8d3_5b24_ef27,
            0x045f_31a6_a144_98b2,
        ];
        assert_eq!(found, frozen, "{found:#x?}");
    }

    #[test]
    fn the_width_of_a_number_does_not_matter() {
        assert_eq!(hash_key(&5u8), hash_key(&5u64));
        assert_eq!(hash_key(&-5i8), hash_key(&-5i64));
    }

    #[test]
    fn consecutive_numbers_spread_over_groups_and_slots() {
        let mut groups = [0u32; 128];
        let mut low = std::collections::HashSet::new();
        for key in 0..128_000u64 {
            let hash = hash_key(&key);
            groups[key_group(hash, 128) as usize] += 1;
            low.insert(hash & 0xfffff);
        }
        assert!(groups.iter().all(|&n| (800..1200).contains(&n)), "{groups:?}");
        assert!(low.len() > 115_000, "{}", low.len());
    }

    proptest! {
        #[test]
        fn bytes_of_any_length_hash_as_was_frozen(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut hasher = KeyHasher { state: SEED };
            hasher.bytes(&bytes);
            let mut frozen = KeyHasher { state: SEED.wrapping_add((bytes.len() as u64).wrapping_mul(FINISHER)) };
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            let whole = bytes.len().saturating_sub(1) / 8 * 8;
            bytes[..whole].chunks(8).for_each(|chunk| frozen.word(number(chunk)));
            frozen.word(match bytes.len() {
                0 => 0,
                length @ 1..=3 => number(&[bytes[0], bytes[length / 2], bytes[length - 1]]),
                length @ 4..=7 => number(&bytes[..4]) | number(&bytes[length - 4..]) << 32,
                length => number(&bytes[length - 8..]),
            });
            prop_assert_eq!(hasher.state, frozen.state);
        }

        #[test]
        fn ranges_partition_the_groups(parallelism in 1usize..200, extra in 0u32..400) {
            let max_parallelism = parallelism as u32 + extra;
            let mut next = 0;
            for index in 0..parallelism {
                let range = KeyGroupRange::of_subtask(index, parallelism, max_parallelism);
                prop_assert_eq!(u32::from(range.first), next);
                prop_assert!(range.count > 0);
                for group in range.first..range.first + range.count {
                    prop_assert_eq!(owner_of_group(group, max_parallelism, parallelism), index);
                    prop_assert!(range.contains(group));
                }
                next += u32::from(range.count);
            }
            prop_assert_eq!(next, max_parallelism);
        }
    }
}
