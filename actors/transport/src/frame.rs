//! Frames: how messages of many channels lie one after another in a stream of bytes.
//!
//! ```text
//! length of payload u32 | channel u32 | kind u8 | flags u8 | payload
//! ```
//! All little-endian. What `channel` and `kind` mean is the business of the layer above; the flags are the link's:
//! bit 0, the payload is compressed (u32 length when decompressed, then an LZ4 block); bit 7, the frame belongs to
//! the link itself. A frame with another flag is refused.
//!
//! [`Decoder`] takes any bytes at all: it never panics, checks a length before it allocates for it, and then
//! allocates only with what has arrived.

use std::io;

use bytes::buf::Limit;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

mod compression;

pub use compression::compress;

/// Before each payload.
pub const HEADER_BYTES: usize = 10;

/// The payload is compressed.
pub const FLAG_COMPRESSED: u8 = 1;
/// The frame is the link's own, not a channel's.
pub(crate) const FLAG_LINK: u8 = 1 << 7;

/// Memory that a frame's header alone can claim; more only follows the bytes that arrive.
const FIRST_ALLOCATION_BYTES: usize = 256 << 10;

/// One message of one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Which of the link's channels.
    pub channel: u32,
    /// What the layer above uses it for.
    pub kind: u8,
    /// Decompressed.
    pub payload: Bytes,
}

/// What stands before a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Of the payload as it is sent, in bytes.
    pub length: u32,
    /// Which of the link's channels.
    pub channel: u32,
    /// What the layer above uses it for.
    pub kind: u8,
    /// How the payload is written.
    pub flags: u8,
}

impl Header {
    /// As it is sent.
    pub fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut out = &mut bytes[..];
        out.put_u32_le(self.length);
        out.put_u32_le(self.channel);
        out.put_u8(self.kind);
        out.put_u8(self.flags);
        bytes
    }

    fn decode(mut bytes: &[u8]) -> Self {
        Header {
            length: bytes.get_u32_le(),
            channel: bytes.get_u32_le(),
            kind: bytes.get_u8(),
            flags: bytes.get_u8(),
        }
    }
}

/// Bytes that no peer of this version sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The declared length is over the limit.
    #[error("a frame of {length} bytes on channel {channel} is over the limit of {limit} bytes")]
    TooLong {
        /// As declared, in bytes; after decompression, if the frame is compressed.
        length: u32,
        /// The frame's channel.
        channel: u32,
        /// The most that is accepted, in bytes.
        limit: u32,
    },
    /// A flag that this version does not know.
    #[error("a frame on channel {channel} has unknown flags {flags:#04x}")]
    UnknownFlags {
        /// The frame's channel.
        channel: u32,
        /// All its flags.
        flags: u8,
    },
    /// The compressed payload does not decompress to what it declares.
    #[error("a compressed frame on channel {channel} is damaged")]
    Compression {
        /// The frame's channel.
        channel: u32,
    },
}

/// Takes a stream of bytes apart into frames, however it is cut into pieces.
///
/// ```
/// use bytes::Buf;
/// use hurtig_transport::frame::{Decoder, Header};
///
/// let header = Header { length: 2, channel: 7, kind: 1, flags: 0 };
/// let bytes = [&header.encode()[..], b"hi"].concat();
/// let mut decoder = Decoder::new(1024);
/// assert_eq!(decoder.decode(&mut &bytes[..11])?, None);
/// let frame = decoder.decode(&mut &bytes[11..])?.expect("a frame is complete");
/// assert_eq!((frame.channel, &frame.payload[..]), (7, &b"hi"[..]));
/// # Ok::<(), hurtig_transport::frame::FrameError>(())
/// ```
#[derive(Debug)]
pub struct Decoder {
    limit: u32,
    /// None while the header itself is being read.
    header: Option<Header>,
    head: BytesMut,
    body: BytesMut,
}

impl Decoder {
    /// A decoder that refuses payloads of more than `max_payload_bytes`, compressed or decompressed.
    pub fn new(max_payload_bytes: u32) -> Self {
        let head = BytesMut::with_capacity(HEADER_BYTES);
        Decoder { limit: max_payload_bytes, header: None, head, body: BytesMut::new() }
    }

    /// Takes bytes from `input` until a frame is complete or the input is empty. After an error the stream has no
    /// frames any more: the decoder is not to be used again.
    ///
    /// # Errors
    /// [`FrameError`] if the bytes are no frames.
    pub fn decode(&mut self, input: &mut impl Buf) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some((_, frame)) = self.advance()? {
                return Ok(Some(frame));
            }
            if !input.has_remaining() {
                return Ok(None);
            }
            let mut space = self.space();
            let count = space.remaining_mut().min(input.remaining()).min(FIRST_ALLOCATION_BYTES);
            space.put(input.take(count));
        }
    }

    /// Reads once, at most to the end of the current header or payload; 0 at the end of the stream. Nothing is lost
    /// if the future is dropped. To be called when [`Decoder::advance`] has no frame.
    pub(crate) async fn fill<R: AsyncRead + Unpin>(&mut self, reader: &mut R) -> io::Result<usize> {
        reader.read_buf(&mut self.space()).await
    }

    /// Whether all bytes so far made whole frames.
    pub fn is_between_frames(&self) -> bool {
        self.header.is_none() && self.head.is_empty()
    }

    /// Where the next bytes go: never more than what the current header or payload lacks.
    fn space(&mut self) -> Limit<&mut BytesMut> {
        let Some(header) = self.header else {
            let missing = HEADER_BYTES - self.head.len();
            return (&mut self.head).limit(missing);
        };
        let missing = header.length as usize - self.body.len();
        if self.body.len() == self.body.capacity() {
            // full, yet not complete: twice as much, so that memory follows what has arrived
            self.body.reserve(missing.min(self.body.len().max(FIRST_ALLOCATION_BYTES)));
        }
        (&mut self.body).limit(missing)
    }

    /// The frame that is complete, if one is, and its header.
    pub(crate) fn advance(&mut self) -> Result<Option<(Header, Frame)>, FrameError> {
        let header = match self.header {
            Some(header) => header,
            None if self.head.len() < HEADER_BYTES => return Ok(None),
            None => {
                let header = Header::decode(&self.head);
                self.check(header)?;
                self.head.clear();
                self.body = BytesMut::with_capacity((header.length as usize).min(FIRST_ALLOCATION_BYTES));
                *self.header.insert(header)
            }
        };
        if self.body.len() < header.length as usize {
            return Ok(None);
        }
        self.header = None;
        let payload = std::mem::take(&mut self.body).freeze();
        let payload = match header.flags & FLAG_COMPRESSED {
            0 => payload,
            _ => compression::decompress(&payload, self.limit, header.channel)?,
        };
        Ok(Some((header, Frame { channel: header.channel, kind: header.kind, payload })))
    }

    fn check(&self, header: Header) -> Result<(), FrameError> {
        let Header { length, channel, flags, .. } = header;
        if length > self.limit {
            return Err(FrameError::TooLong { length, channel, limit: self.limit });
        }
        if flags & !(FLAG_COMPRESSED | FLAG_LINK) != 0 {
            return Err(FrameError::UnknownFlags { channel, flags });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
