//! Compressed payloads: the length when decompressed as u32, then one LZ4 block.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::FrameError;

const LENGTH_BYTES: usize = 4;
/// No LZ4 block grows by more than this factor (a byte of a match's length stands for 255 bytes).
const MAX_RATIO: usize = 255;

/// The payload compressed by LZ4, or none if that saves less than an eighth and is not worth the peer's time.
pub fn compress(payload: &[u8]) -> Option<Bytes> {
    let length = u32::try_from(payload.len()).ok()?;
    let worth = payload.len() - payload.len() / 8;
    let most = LENGTH_BYTES + lz4_flex::block::get_maximum_output_size(payload.len());
    let mut out = BytesMut::zeroed(most);
    (&mut out[..]).put_u32_le(length);
    let written = lz4_flex::block::compress_into(payload, &mut out[LENGTH_BYTES..]).ok()?;
    out.truncate(LENGTH_BYTES + written);
    // a copy of its own size: the payload may wait in a queue, counted by its length
    (out.len() < worth).then(|| Bytes::copy_from_slice(&out))
}

pub(super) fn decompress(mut payload: &[u8], limit: u32, channel: u32) -> Result<Bytes, FrameError> {
    if payload.len() < LENGTH_BYTES {
        return Err(FrameError::Compression { channel });
    }
    let length = payload.get_u32_le();
    if length > limit {
        return Err(FrameError::TooLong { length, channel, limit });
    }
    if length as usize > payload.len().saturating_mul(MAX_RATIO) {
        return Err(FrameError::Compression { channel });
    }
    let mut out = BytesMut::zeroed(length as usize);
    match lz4_flex::block::decompress_into(payload, &mut out) {
        Ok(written) if written == out.len() => Ok(out.freeze()),
        _ => Err(FrameError::Compression { channel }),
    }
}
