//! Rows as MessagePack values one after the other, with named fields and in the form made for people, which is what
//! types that take what comes (untagged enums, flattened structs, JSON values) can read.

use super::error::{DecodeError, EncodeError, Reason};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Arrays and maps within each other at most. Checked on the bytes by both ends before a type sees them: the reader of
/// MessagePack counts some levels only, and those of enums not at all.
const MAX_DEPTH: usize = 128;

/// Rows are allocated for at once up to so many bytes per byte read; more as they come.
const AMPLIFICATION: usize = 8;

/// Appends rows.
pub(super) fn encode_rows<T: Serialize>(rows: &[T], out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let (type_name, start) = (std::any::type_name::<T>(), out.len());
    let mut serializer = rmp_serde::Serializer::new(&mut *out).with_struct_map().with_human_readable();
    for row in rows {
        row.serialize(&mut serializer)
            .map_err(|source| EncodeError::Serialize { type_name, source: source.into() })?;
    }
    check_depth(&out[start..]).map_err(|_| EncodeError::TooDeep { type_name, limit: MAX_DEPTH })
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
    check_depth(part).map_err(|(reason, offset)| DecodeError::at(reason, start + offset))?;
    let most = (part.len().saturating_mul(AMPLIFICATION) / size_of::<T>().max(1)).max(16);
    let mut all = Vec::with_capacity(rows.min(most));
    let mut rest = part;
    for row in 0..rows {
        let mut reader = rmp_serde::Deserializer::new(&mut rest).with_human_readable();
        // Above what the check lets through.
        reader.set_max_depth(MAX_DEPTH + 2);
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

/// Refuses values nested deeper than allowed, and values that end early, with the place.
fn check_depth(bytes: &[u8]) -> Result<(), (Reason, usize)> {
    // Values still to come in each array or map that is open.
    let mut open: Vec<u64> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let at = bytes.len() - rest.len();
        let (inside, after) = head(rest).ok_or((Reason::Truncated, at))?;
        rest = after;
        if inside > 0 {
            if open.len() == MAX_DEPTH {
                return Err((Reason::TooDeep(MAX_DEPTH), at));
            }
            open.push(inside);
            continue;
        }
        while let Some(left) = open.last_mut() {
            *left -= 1;
            if *left > 0 {
                break;
            }
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err((Reason::Truncated, bytes.len())) }
}

/// Number of values inside the first value, and what follows its head (MessagePack specification, "Formats").
fn head(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (&marker, rest) = bytes.split_first()?;
    let number = |width: usize| -> Option<(u64, &[u8])> {
        let (number, rest) = rest.split_at_checked(width)?;
        Some((number.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte)), rest))
    };
    let inside = |width, times: u64| number(width).map(|(count, rest)| (count * times, rest));
    let skip = |length: usize| rest.get(length..).map(|rest| (0, rest));
    let text = |width, more: usize| {
        let (length, rest) = number(width)?;
        rest.get(usize::try_from(length).ok()?.checked_add(more)?..).map(|rest| (0, rest))
    };
    match marker {
        0x80..=0x8f => Some((u64::from(marker & 15) * 2, rest)),
        0x90..=0x9f => Some((u64::from(marker & 15), rest)),
        0xa0..=0xbf => skip(usize::from(marker & 31)),
        0xc4 | 0xd9 => text(1, 0),
        0xc5 | 0xda => text(2, 0),
        0xc6 | 0xdb => text(4, 0),
        0xc7 => text(1, 1),
        0xc8 => text(2, 1),
        0xc9 => text(4, 1),
        0xcc | 0xd0 => skip(1),
        0xcd | 0xd1 | 0xd4 => skip(2),
        0xd5 => skip(3),
        0xca | 0xce | 0xd2 => skip(4),
        0xd6 => skip(5),
        0xcb | 0xcf | 0xd3 => skip(8),
        0xd7 => skip(9),
        0xd8 => skip(17),
        0xdc => inside(2, 1),
        0xdd => inside(4, 1),
        0xde => inside(2, 2),
        0xdf => inside(4, 2),
        _ => skip(0),
    }
}
