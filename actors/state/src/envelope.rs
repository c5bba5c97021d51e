//! The frame that all files share: magic, version, LZ4 blocks, checksum. [`crate::snapshot_file`] documents it.

use crate::error::Error;
use bytes::{BufMut, Bytes, BytesMut};
use lz4_flex::block;
use serde::{Serialize, de::DeserializeOwned};
use std::io::{self, Read, Write};

/// Bytes before compression per block; only the last block holds fewer.
pub(crate) const BLOCK_BYTES: usize = 256 * 1024;

const HEADER_BYTES: usize = 16;
const TRAILER_BYTES: usize = 24;
const END: &[u8; 4] = b"hEND";

/// What tells one kind of file from another.
pub(crate) struct Format {
    pub(crate) magic: &'static [u8; 8],
    /// The version written, and the newest one read.
    pub(crate) version: u16,
    /// Most bytes a file may have, before compression as well as after.
    pub(crate) limit_bytes: u64,
    /// Name for people.
    pub(crate) what: &'static str,
}

/// Turns a value into the chunks of its file.
pub(crate) fn encode<T: Serialize>(format: &Format, value: &T) -> Result<Vec<Bytes>, Error> {
    let mut writer = BlockWriter::new(format);
    let result = value.serialize(&mut rmp_serde::Serializer::new(&mut writer).with_struct_map());
    if writer.too_large {
        return Err(Error::TooLarge { what: format.what, limit_bytes: format.limit_bytes });
    }
    result.map_err(|source| Error::Internal {
        action: "serialise",
        what: format.what,
        source: source.into(),
    })?;
    Ok(writer.finish())
}

/// Reads a value back from its whole file, and says which version it had.
pub(crate) fn decode<T: DeserializeOwned>(
    format: &Format,
    file: &[u8],
    path: &str,
) -> Result<(T, u16), Error> {
    let corrupt = |reason: &str| Error::corrupt(path, reason);
    let (header, rest) = file.split_at_checked(HEADER_BYTES).ok_or_else(|| corrupt("it is cut off"))?;
    if header[..8] != format.magic[..] {
        return Err(Error::corrupt(path, format!("it does not start like a {}", format.what)));
    }
    // The header has a checksum of its own, so that a flipped bit does not pass for a newer version.
    if crc32fast::hash(&header[..12]) != u32_at(header, 12) {
        return Err(corrupt("the checksum of its header is wrong"));
    }
    let version = u16::from_le_bytes([header[8], header[9]]);
    Error::check_version(path, version, format.version)?;
    let blocks = rest.len().checked_sub(TRAILER_BYTES).ok_or_else(|| corrupt("it is cut off"))?;
    let (blocks, trailer) = rest.split_at(blocks);
    if trailer[20..] != END[..] || u64_at(trailer, 8) != file.len() as u64 {
        return Err(corrupt("it is cut off"));
    }
    if crc32fast::hash(&file[..file.len() - 8]) != u32_at(trailer, 16) {
        return Err(corrupt("its checksum is wrong"));
    }
    let raw_bytes = u64_at(trailer, 0);
    if raw_bytes > format.limit_bytes {
        return Err(corrupt("it claims to hold more than any valid file"));
    }
    let mut reader = BlockReader { blocks, left: raw_bytes, block: Vec::new(), at: 0 };
    let value = rmp_serde::from_read(&mut reader)
        .map_err(|error| Error::corrupt(path, format!("its content cannot be read: {error}")))?;
    if reader.at < reader.block.len() || reader.left > 0 || !reader.blocks.is_empty() {
        return Err(corrupt("it holds more than it should"));
    }
    Ok((value, version))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

/// Compresses block after block, so that the uncompressed whole never lies in memory.
struct BlockWriter {
    limit_bytes: u64,
    too_large: bool,
    chunks: Vec<Bytes>,
    raw: Vec<u8>,
    raw_bytes: u64,
    file_bytes: u64,
    crc: crc32fast::Hasher,
}

impl BlockWriter {
    fn new(format: &Format) -> Self {
        let mut header = BytesMut::with_capacity(HEADER_BYTES);
        header.put_slice(format.magic);
        header.put_u16_le(format.version);
        header.put_u16_le(0);
        header.put_u32_le(crc32fast::hash(&header));
        let mut writer = BlockWriter {
            limit_bytes: format.limit_bytes,
            too_large: false,
            chunks: Vec::new(),
            raw: Vec::new(),
            raw_bytes: 0,
            file_bytes: 0,
            crc: crc32fast::Hasher::new(),
        };
        writer.push(header);
        writer
    }

    fn push(&mut self, chunk: BytesMut) {
        self.crc.update(&chunk);
        self.file_bytes += chunk.len() as u64;
        self.chunks.push(chunk.freeze());
    }

    fn end_block(&mut self) {
        if self.raw.is_empty() {
            return;
        }
        let mut chunk = BytesMut::zeroed(4 + block::get_maximum_output_size(self.raw.len()));
        let stored = match block::compress_into(&self.raw, &mut chunk[4..]) {
            Ok(stored) if stored < self.raw.len() => stored,
            _ => {
                // A block that does not shrink is stored as it is; readers tell by its length.
                chunk[4..4 + self.raw.len()].copy_from_slice(&self.raw);
                self.raw.len()
            }
        };
        chunk[..4].copy_from_slice(&(stored as u32).to_le_bytes());
        chunk.truncate(4 + stored);
        self.raw.clear();
        // Most of the space reserved for the worst case would otherwise stay in use until the file is written.
        self.push(BytesMut::from(&chunk[..]));
    }

    fn finish(mut self) -> Vec<Bytes> {
        self.end_block();
        let mut trailer = BytesMut::with_capacity(TRAILER_BYTES);
        trailer.put_u64_le(self.raw_bytes);
        trailer.put_u64_le(self.file_bytes + TRAILER_BYTES as u64);
        self.crc.update(&trailer);
        trailer.put_u32_le(self.crc.clone().finalize());
        trailer.put_slice(END);
        self.chunks.push(trailer.freeze());
        self.chunks
    }
}

impl Write for BlockWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(BLOCK_BYTES - self.raw.len());
        self.raw_bytes += taken as u64;
        // Framing is far below a hundredth, so the file stays within what a reader accepts.
        if self.raw_bytes > self.limit_bytes - self.limit_bytes / 100 {
            self.too_large = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.raw.extend_from_slice(&bytes[..taken]);
        if self.raw.len() == BLOCK_BYTES {
            self.end_block();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decompresses block after block. Its only allocation is one block, whatever the file claims.
struct BlockReader<'a> {
    blocks: &'a [u8],
    left: u64,
    block: Vec<u8>,
    at: usize,
}

impl BlockReader<'_> {
    fn next_block(&mut self) -> io::Result<()> {
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a block is damaged");
        let raw = self.left.min(BLOCK_BYTES as u64) as usize;
        let (length, rest) = self.blocks.split_at_checked(4).ok_or_else(damaged)?;
        let stored = u32_at(length, 0) as usize;
        if stored > raw {
            return Err(damaged());
        }
        let (stored, rest) = rest.split_at_checked(stored).ok_or_else(damaged)?;
        self.block.resize(raw, 0);
        if stored.len() == raw {
            self.block.copy_from_slice(stored);
        } else if block::decompress_into(stored, &mut self.block).map_err(|_| damaged())? != raw {
            return Err(damaged());
        }
        self.blocks = rest;
        self.left -= raw as u64;
        self.at = 0;
        Ok(())
    }
}

impl Read for BlockReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.block.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.next_block()?;
        }
        let taken = out.len().min(self.block.len() - self.at);
        out[..taken].copy_from_slice(&self.block[self.at..self.at + taken]);
        self.at += taken;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use proptest::prelude::*;
    use serde_bytes::ByteBuf;

    const FORMAT: Format = Format { magic: b"hurtigTT", version: 3, limit_bytes: 1 << 30, what: "test file" };

    /// A file whose frame is sound, whatever it holds.
    fn sealed(version: u16, blocks: &[u8], raw_bytes: u64) -> Vec<u8> {
        let mut file = FORMAT.magic.to_vec();
        file.put_u16_le(version);
        file.put_u16_le(0);
        file.put_u32_le(crc32fast::hash(&file));
        file.put_slice(blocks);
        file.put_u64_le(raw_bytes);
        file.put_u64_le(file.len() as u64 + 16);
        file.put_u32_le(crc32fast::hash(&file));
        file.put_slice(END);
        file
    }

    fn block_of(stored: &[u8]) -> Vec<u8> {
        let mut block = (stored.len() as u32).to_le_bytes().to_vec();
        block.extend(stored);
        block
    }

    fn refusal<T: DeserializeOwned + std::fmt::Debug>(file: &[u8]) -> ErrorKind {
        decode::<T>(&FORMAT, file, "file").unwrap_err().kind()
    }

    #[test]
    fn a_newer_version_is_told_from_a_flipped_bit() {
        let mut file = sealed(4, &[], 0);
        assert_eq!(refusal::<u8>(&file), ErrorKind::NewerVersion);
        file[8] ^= 1;
        assert_eq!(refusal::<u8>(&file), ErrorKind::Corrupt);
        assert_eq!(refusal::<u8>(&sealed(0, &[], 0)), ErrorKind::Corrupt);
    }

    #[test]
    fn hostile_lengths_are_refused_without_taking_memory() {
        // A string, a byte string, an array and a map of four billion entries each, in a sound frame.
        for marker in [0xdb, 0xc6, 0xdd, 0xdf] {
            let raw = [marker, 0xff, 0xff, 0xff, 0xff, 0x01];
            let file = sealed(3, &block_of(&raw), raw.len() as u64);
            assert_eq!(refusal::<String>(&file), ErrorKind::Corrupt);
            assert_eq!(refusal::<ByteBuf>(&file), ErrorKind::Corrupt);
            assert_eq!(refusal::<Vec<[u64; 4]>>(&file), ErrorKind::Corrupt);
            assert_eq!(refusal::<std::collections::BTreeMap<u64, u64>>(&file), ErrorKind::Corrupt);
        }
        // A block longer than the file; more content than blocks; more than any file may hold.
        assert_eq!(refusal::<ByteBuf>(&sealed(3, &u32::MAX.to_le_bytes(), 9)), ErrorKind::Corrupt);
        assert_eq!(refusal::<ByteBuf>(&sealed(3, &block_of(&[1]), 1 << 29)), ErrorKind::Corrupt);
        assert_eq!(refusal::<ByteBuf>(&sealed(3, &block_of(&[1]), u64::MAX)), ErrorKind::Corrupt);
        // Bytes after the value, in its block or behind it.
        assert_eq!(refusal::<u8>(&sealed(3, &block_of(&[1, 1]), 2)), ErrorKind::Corrupt);
        assert_eq!(
            refusal::<u8>(&sealed(3, &[block_of(&[1]), block_of(&[1])].concat(), 1)),
            ErrorKind::Corrupt
        );
    }

    #[test]
    fn a_block_that_unpacks_to_more_than_it_may_is_refused() {
        let bomb = block::compress(&vec![0u8; 16 << 20]);
        for raw_bytes in [bomb.len() as u64 + 1, BLOCK_BYTES as u64, 16 << 20] {
            assert_eq!(refusal::<ByteBuf>(&sealed(3, &block_of(&bomb), raw_bytes)), ErrorKind::Corrupt);
        }
    }

    #[test]
    fn what_exceeds_the_limit_is_not_written() {
        let small = Format { limit_bytes: 1000, ..FORMAT };
        let error = encode(&small, &ByteBuf::from(vec![0; 1000])).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit_bytes: 1000, .. }));
    }

    proptest! {
        #[test]
        fn any_length_comes_back(length in 0usize..4 * BLOCK_BYTES, step in 0usize..7) {
            let value = ByteBuf::from((0..length).map(|i| (i * step / 3) as u8).collect::<Vec<_>>());
            let file = encode(&FORMAT, &value).unwrap().concat();
            prop_assert_eq!(decode::<ByteBuf>(&FORMAT, &file, "file").unwrap(), (value, 3));
        }

        #[test]
        fn random_blocks_in_a_sound_frame_never_panic(blocks: Vec<u8>, raw_bytes in 0u64..10_000) {
            let _ = decode::<Vec<(String, ByteBuf)>>(&FORMAT, &sealed(3, &blocks, raw_bytes), "file");
            let _ = decode::<Vec<(String, ByteBuf)>>(&FORMAT, &blocks, "file");
        }
    }
}
