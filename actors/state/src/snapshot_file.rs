//! A subtask's snapshot: what has changed since an earlier one, or everything, as one file that is never changed, or
//! inline in the checkpoint's metadata when it is small. What is restored is a base, which holds everything, and the
//! snapshots that were taken on top of it, in order: its layers ([`SnapshotHandle`]).
//!
//! # Format
//! Numbers are little endian.
//!
//! | bytes | |
//! |---|---|
//! | 8 | magic, `hurtigSN` |
//! | 2 | format version |
//! | 2 | zero |
//! | 4 | CRC-32 of the 12 bytes before; these 16 bytes stay as they are in every future version |
//! | … | blocks, one after the other |
//! | … | footer |
//! | 4, 4, 4 | footer: length before and after compression, CRC-32 of what is stored |
//! | 8 | length of the file |
//! | 4 | CRC-32 of the 20 bytes before |
//! | 4 | `hEND` |
//!
//! Blocks and footer are LZ4 block data, or as they are if they do not shrink: a reader tells by the length.
//!
//! # Blocks
//! A block has sections: rows of one state that do the same ([`RowOp`]) to the same key group. It is cut when it would
//! exceed 256 KiB, so that it holds a single section, of one key group, where there is much, and those of many key
//! groups where there is little.
//!
//! | bytes | |
//! |---|---|
//! | 2, 2 | place of the operator in the chain, of the state among the operator's |
//! | 1 | 0 dropped parts of the state, 1 deleted keys, 2 keys with values |
//! | 2, 2 | first and last key group; 65535 for state without key groups |
//! | 4, 4 | number of rows, their length |
//! | … | the rows, one MessagePack value after the other, opaque here |
//!
//! Whatever their order in the file, dropped parts come first, then deleted keys, then keys with values.
//!
//! # Footer
//! One MessagePack map: the snapshot but for its rows ([`SubtaskSnapshot`]), and for each block its first and last key
//! group, its length before and after compression, and the CRC-32 of what is stored. So a reader fetches the end of the
//! file, then the blocks of its key groups.
//!
//! # Limits
//! | | |
//! |---|---|
//! | inline snapshot | less than 16 KiB |
//! | footer before compression | 256 MiB |
//! | block before compression | 256 KiB, or the one section it holds, less than 2 GiB |
//! | memory a reader takes for a block or the footer | 256 times what is stored |

use crate::error::Error;
use bytes::{BufMut, Bytes, BytesMut};
use hurtig_dataflow::chain::Chunk;
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::snapshot::{GroupRows, InFlight, RowOp, SubtaskSnapshot, UNKEYED};
use lz4_flex::block;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use std::ops::Range;

/// Version of the snapshot format written and read.
pub const SNAPSHOT_VERSION: u16 = 2;

/// Snapshots with fewer bytes than this go into the metadata instead of a file of their own.
pub const INLINE_BYTES: usize = 16 * 1024;

/// Name of such a file for people.
pub(crate) const WHAT: &str = "subtask snapshot";

const MAGIC: &[u8; 8] = b"hurtigSN";
const END: &[u8; 4] = b"hEND";
pub(crate) const HEADER_BYTES: usize = 16;
pub(crate) const TRAILER_BYTES: usize = 28;
const SECTION_BYTES: usize = 17;
const BLOCK_BYTES: usize = 256 * 1024;
const LARGEST_BLOCK_BYTES: usize = i32::MAX as usize;
const LARGEST_FOOTER_BYTES: usize = 256 << 20;
/// No LZ4 data unpacks to more.
const LARGEST_RATIO: usize = 256;

/// Where the layers of one subtask's snapshot lie, the base first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHandle {
    /// The layers.
    pub layers: Vec<Layer>,
}

/// Where one layer of a snapshot lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Layer {
    /// Here.
    Inline(ByteBuf),
    /// In a file.
    File {
        /// Its name: among the files of a job's checkpoints, or beside a savepoint's metadata.
        name: String,
        /// Its length.
        bytes: u64,
    },
}

impl Layer {
    /// Bytes stored.
    pub fn stored_bytes(&self) -> u64 {
        match self {
            Layer::Inline(bytes) => bytes.len() as u64,
            Layer::File { bytes, .. } => *bytes,
        }
    }
}

impl SnapshotHandle {
    /// Bytes stored.
    pub fn stored_bytes(&self) -> u64 {
        self.layers.iter().map(Layer::stored_bytes).sum()
    }

    /// Names of its files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.layers.iter().filter_map(|layer| match layer {
            Layer::Inline(_) => None,
            Layer::File { name, .. } => Some(name.as_str()),
        })
    }
}

/// A block as the footer describes it: first and last key group, length before and after compression, checksum.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Block(u16, u16, u32, u32, u32);

/// The end of a file: all but its rows.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Footer {
    pub(crate) snapshot: SubtaskSnapshot,
    blocks: Vec<Block>,
}

/// Turns a snapshot into the bytes of its file.
pub(crate) struct Encoder {
    footer: Footer,
    block: BytesMut,
    /// Key groups of the block that is being filled.
    groups: Option<(u16, u16)>,
    /// What is done, and not yet taken.
    pub(crate) done: Vec<Bytes>,
    pub(crate) bytes: u64,
}

impl Encoder {
    /// An encoder for a snapshot whose rows follow.
    pub(crate) fn new(snapshot: SubtaskSnapshot) -> Self {
        let footer = Footer { snapshot, blocks: Vec::new() };
        let mut encoder =
            Encoder { footer, block: BytesMut::new(), groups: None, done: Vec::new(), bytes: 0 };
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_slice(MAGIC);
        header.put_u16_le(SNAPSHOT_VERSION);
        header.put_u16_le(0);
        header.put_u32_le(crc32fast::hash(&header));
        encoder.push(header.freeze());
        encoder
    }

    fn push(&mut self, bytes: Bytes) {
        self.bytes += bytes.len() as u64;
        self.done.push(bytes);
    }

    /// Adds rows.
    pub(crate) fn add(&mut self, chunk: &Chunk) -> Result<(), Error> {
        let Chunk { operator, state, rows } = chunk;
        let length = SECTION_BYTES + rows.bytes.len();
        let place = u16::try_from(*operator).ok().zip(u16::try_from(*state).ok());
        let (Some((operator, state)), true) = (place, length <= LARGEST_BLOCK_BYTES) else {
            let limit_bytes = LARGEST_BLOCK_BYTES as u64;
            return Err(Error::TooLarge { what: "section of a snapshot", limit_bytes });
        };
        let is_keyed = rows.last != UNKEYED;
        let fits = self.groups.is_none_or(|(_, last)| (last != UNKEYED) == is_keyed);
        if !fits || self.block.len() + length > BLOCK_BYTES {
            self.end_block();
        }
        let op = match rows.op {
            RowOp::Drop => 0,
            RowOp::Delete => 1,
            RowOp::Put => 2,
        };
        self.block.put_u16_le(operator);
        self.block.put_u16_le(state);
        self.block.put_u8(op);
        self.block.put_u16_le(rows.first);
        self.block.put_u16_le(rows.last);
        self.block.put_u32_le(rows.rows);
        self.block.put_u32_le(rows.bytes.len() as u32);
        self.block.put_slice(&rows.bytes);
        let (first, last) = self.groups.unwrap_or((rows.first, rows.last));
        self.groups = Some((first.min(rows.first), last.max(rows.last)));
        Ok(())
    }

    fn end_block(&mut self) {
        let Some((first, last)) = self.groups.take() else { return };
        let (stored, crc) = pack(&self.block);
        self.footer.blocks.push(Block(first, last, self.block.len() as u32, stored.len() as u32, crc));
        self.block.clear();
        self.push(stored);
    }

    /// Adds the footer: the file is whole.
    pub(crate) fn finish(&mut self, in_flight: Vec<InFlight>) -> Result<(), Error> {
        self.end_block();
        self.footer.snapshot.in_flight = in_flight;
        let footer = rmp_serde::to_vec_named(&self.footer).map_err(|source| Error::Internal {
            action: "serialise",
            what: WHAT,
            source: source.into(),
        })?;
        if footer.len() > LARGEST_FOOTER_BYTES {
            let limit_bytes = LARGEST_FOOTER_BYTES as u64;
            return Err(Error::TooLarge { what: "footer of a snapshot", limit_bytes });
        }
        let (stored, crc) = pack(&footer);
        let mut trailer = BytesMut::with_capacity(TRAILER_BYTES);
        trailer.put_u32_le(footer.len() as u32);
        trailer.put_u32_le(stored.len() as u32);
        trailer.put_u32_le(crc);
        self.push(stored);
        trailer.put_u64_le(self.bytes + TRAILER_BYTES as u64);
        trailer.put_u32_le(crc32fast::hash(&trailer));
        trailer.put_slice(END);
        self.push(trailer.freeze());
        Ok(())
    }
}

fn pack(raw: &[u8]) -> (Bytes, u32) {
    let packed = block::compress(raw);
    let stored = if packed.len() < raw.len() { Bytes::from(packed) } else { Bytes::copy_from_slice(raw) };
    let crc = crc32fast::hash(&stored);
    (stored, crc)
}

fn unpack(stored: &[u8], raw_bytes: usize, crc: u32, path: &str, what: &str) -> Result<Vec<u8>, Error> {
    let corrupt = |reason: &str| Error::corrupt(path, format!("{reason} of {what} is wrong"));
    if crc32fast::hash(stored) != crc {
        return Err(corrupt("the checksum"));
    }
    if stored.len() == raw_bytes {
        return Ok(stored.to_vec());
    }
    if raw_bytes > stored.len().saturating_mul(LARGEST_RATIO) {
        return Err(corrupt("the length"));
    }
    match block::decompress(stored, raw_bytes) {
        Ok(raw) if raw.len() == raw_bytes => Ok(raw),
        _ => Err(corrupt("the content")),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

/// Checks the first bytes of a file.
pub(crate) fn check_header(header: &[u8], path: &str) -> Result<(), Error> {
    if header.len() < HEADER_BYTES {
        return Err(Error::corrupt(path, "it is cut off"));
    }
    if header[..8] != MAGIC[..] {
        return Err(Error::corrupt(path, format!("it does not start like a {WHAT}")));
    }
    // The header has a checksum of its own, so that a flipped bit does not pass for another version.
    if crc32fast::hash(&header[..12]) != u32_at(header, 12) {
        return Err(Error::corrupt(path, "the checksum of its header is wrong"));
    }
    Error::check_version(path, u16_at(header, 8), SNAPSHOT_VERSION)
}

/// Where the footer lies, by the last bytes of a file of a known length.
pub(crate) fn footer_range(tail: &[u8], file_bytes: u64, path: &str) -> Result<Range<u64>, Error> {
    let cut_off = || Error::corrupt(path, "it is cut off");
    let (_, trailer) = tail.split_last_chunk::<TRAILER_BYTES>().ok_or_else(cut_off)?;
    let length = u64::from(u32_at(trailer, 12)) | u64::from(u32_at(trailer, 16)) << 32;
    if trailer[24..] != END[..] || length != file_bytes {
        return Err(cut_off());
    }
    if crc32fast::hash(&trailer[..20]) != u32_at(trailer, 20) {
        return Err(Error::corrupt(path, "the checksum of its end is wrong"));
    }
    let end = file_bytes - TRAILER_BYTES as u64;
    let start = end.checked_sub(u64::from(u32_at(trailer, 4))).ok_or_else(cut_off)?;
    Ok(start..end)
}

/// Reads the footer; `tail` are the last bytes of the file from the footer on, or more.
pub(crate) fn read_footer(tail: &[u8], file_bytes: u64, path: &str) -> Result<Footer, Error> {
    let corrupt = |reason: &str| Error::corrupt(path, reason);
    let range = footer_range(tail, file_bytes, path)?;
    let tail_start = file_bytes - tail.len() as u64;
    let start = range.start.checked_sub(tail_start).ok_or_else(|| corrupt("it is cut off"))? as usize;
    let end = tail.len() - TRAILER_BYTES;
    let trailer = &tail[end..];
    let raw_bytes = u32_at(trailer, 0) as usize;
    if raw_bytes > LARGEST_FOOTER_BYTES {
        return Err(corrupt("it claims to hold more than any valid file"));
    }
    let raw = unpack(&tail[start..end], raw_bytes, u32_at(trailer, 8), path, "its footer")?;
    let footer: Footer = rmp_serde::from_slice(&raw)
        .map_err(|error| Error::corrupt(path, format!("its footer cannot be read: {error}")))?;
    let blocks: u64 = footer.blocks.iter().map(|block| u64::from(block.3)).sum();
    if HEADER_BYTES as u64 + blocks != range.start {
        return Err(corrupt("its blocks and its footer do not fit"));
    }
    Ok(footer)
}

/// A block to read: where it lies, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) range: Range<u64>,
    block: Block,
}

impl Footer {
    /// The blocks that have rows of key groups in a range, and those without key groups if wanted.
    pub(crate) fn blocks(&self, groups: Option<KeyGroupRange>, unkeyed: bool) -> Vec<Wanted> {
        let mut at = HEADER_BYTES as u64;
        let blocks = self.blocks.iter().filter_map(|block| {
            let range = at..at + u64::from(block.3);
            at = range.end;
            let is_wanted = match block.1 {
                UNKEYED => unkeyed,
                last => groups.is_some_and(|groups| {
                    groups.count > 0
                        && block.0 < groups.first.saturating_add(groups.count)
                        && last >= groups.first
                }),
            };
            is_wanted.then_some(Wanted { range, block: *block })
        });
        blocks.collect()
    }

    /// Adds the rows of a block that are of the key groups wanted.
    pub(crate) fn add_block(
        &mut self,
        wanted: &Wanted,
        stored: &[u8],
        groups: Option<KeyGroupRange>,
        path: &str,
    ) -> Result<(), Error> {
        let corrupt = |reason: &str| Error::corrupt(path, format!("{reason} in one of its blocks"));
        let raw = unpack(stored, wanted.block.2 as usize, wanted.block.4, path, "one of its blocks")?;
        let mut rest = &raw[..];
        while !rest.is_empty() {
            let (head, after) =
                rest.split_first_chunk::<SECTION_BYTES>().ok_or_else(|| corrupt("a section is cut off"))?;
            let (operator, state) = (u16_at(head, 0), u16_at(head, 2));
            let op = match head[4] {
                0 => RowOp::Drop,
                1 => RowOp::Delete,
                2 => RowOp::Put,
                _ => return Err(corrupt("a section of an unknown kind is")),
            };
            let (first, last, rows) = (u16_at(head, 5), u16_at(head, 7), u32_at(head, 9));
            let length = u32_at(head, 13) as usize;
            let (bytes, after) =
                after.split_at_checked(length).ok_or_else(|| corrupt("a section is cut off"))?;
            rest = after;
            let operator = self.snapshot.operators.get_mut(usize::from(operator));
            let state = operator.and_then(|operator| operator.states.get_mut(usize::from(state)));
            let state = state.ok_or_else(|| corrupt("a section of an unknown state is"))?;
            let rows = GroupRows { op, first, last, rows, bytes: Vec::new() };
            let rows = match (last, groups) {
                (UNKEYED, _) => Some(rows),
                (_, Some(groups)) => rows.within(groups),
                (_, None) => None,
            };
            if let Some(rows) = rows {
                state.groups.push(GroupRows { bytes: bytes.to_vec(), ..rows });
            }
        }
        Ok(())
    }
}
