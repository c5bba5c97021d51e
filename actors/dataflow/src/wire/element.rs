//! Whole elements of a channel: batches by their edge's codec, all others as a few bytes.

use super::batch::{BatchCodec, BatchEncoder};
use super::error::{DecodeError, EncodeError, Reason};
use super::{Limits, opaque};
use crate::element::{Barrier, Element};
use crate::time::Timestamp;

const BATCH: u8 = 0;
const WATERMARK: u8 = 1;
const BARRIER: u8 = 2;
const IDLE: u8 = 3;
const ACTIVE: u8 = 4;
const END: u8 = 5;

/// Appends an element to `out`.
///
/// # Errors
/// A batch that cannot be encoded. `out` is then as before.
pub fn encode(
    element: &Element,
    encoder: &mut dyn BatchEncoder,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let start = out.len();
    let result = match element {
        Element::Batch(batch) => {
            out.push(BATCH);
            encoder.encode(&**batch, out)
        }
        Element::Watermark(time) => {
            out.push(WATERMARK);
            out.extend_from_slice(&time.to_le_bytes());
            Ok(())
        }
        Element::Barrier(barrier) => {
            out.push(BARRIER);
            opaque::encode_rows(std::slice::from_ref(barrier), out)
        }
        Element::Idle => {
            out.push(IDLE);
            Ok(())
        }
        Element::Active => {
            out.push(ACTIVE);
            Ok(())
        }
        Element::End => {
            out.push(END);
            Ok(())
        }
    };
    if result.is_err() {
        out.truncate(start);
    }
    result
}

/// Whether what is to be read as an element is a batch, if it is an element at all.
pub fn is_batch(bytes: &[u8]) -> bool {
    bytes.first() == Some(&BATCH)
}

/// Reads an element from all of `bytes`.
///
/// # Errors
/// Bytes that are not such an element. Offsets count from the byte after the kind.
pub fn decode(bytes: &[u8], codec: &dyn BatchCodec, limits: Limits) -> Result<Element, DecodeError> {
    let Some((&kind, rest)) = bytes.split_first() else {
        return Err(DecodeError::at(Reason::Truncated, 0));
    };
    let element = match kind {
        BATCH => return codec.decode(rest, limits).map(Element::Batch),
        BARRIER => {
            let barrier = opaque::decode_rows::<Barrier>(1, rest, rest)?.pop();
            return barrier.map(Element::Barrier).ok_or_else(|| DecodeError::at(Reason::Truncated, 0));
        }
        WATERMARK => {
            let time = rest.first_chunk().ok_or_else(|| DecodeError::at(Reason::Truncated, rest.len()))?;
            return match rest.len() {
                8 => Ok(Element::Watermark(Timestamp::from_le_bytes(*time))),
                more => Err(DecodeError::at(Reason::Trailing(more - 8), 8)),
            };
        }
        IDLE => Element::Idle,
        ACTIVE => Element::Active,
        END => Element::End,
        other => {
            return Err(DecodeError::at(Reason::Tag { what: "kind of element", value: other.into() }, 0));
        }
    };
    match rest.len() {
        0 => Ok(element),
        more => Err(DecodeError::at(Reason::Trailing(more), 0)),
    }
}
