//! Bytes to records: what every format that can be read implements.

use hurtig_dataflow::Record;
use std::path::Path;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How bytes become records.
pub trait DecodeFormat: Clone + Send + Sync + 'static {
    /// Records made.
    type Out: Record;
    /// Decodes one file.
    type Decoder: Decoder<Out = Self::Out>;

    /// A decoder for one file, or for a piece of one.
    fn decoder(&self) -> Self::Decoder;

    /// A decoder for a file of this path, for formats that also take something from it.
    fn decoder_of(&self, path: &Path) -> Self::Decoder {
        let _ = path;
        self.decoder()
    }

    /// Whether every line break ends a record, so that a big file can be read in pieces.
    fn is_splittable(&self) -> bool;

    /// Whether the head of a file must be read before any piece of it.
    fn has_head(&self) -> bool {
        false
    }
}

/// A stretch of a file that begins where a record begins.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// The bytes.
    pub bytes: &'a [u8],
    /// Records that begin here or behind belong to somebody else.
    pub limit: usize,
    /// Whether the file ends with the block.
    pub last: bool,
}

/// Decodes one file.
pub trait Decoder: Send {
    /// Records made.
    type Out;

    /// Reads what precedes the first record, from the file's first bytes. Returns its length and its lines, or
    /// nothing if it needs more bytes. The default takes a byte order mark off.
    ///
    /// # Errors
    /// The head does not parse.
    fn read_head(&mut self, bytes: &[u8], last: bool) -> Result<Option<(usize, u64)>, Malformed> {
        Ok(byte_order_mark(bytes, last).map(|length| (length, 0)))
    }

    /// Adds records to `out` until there are `max` more, the block is used up, or a record is malformed.
    ///
    /// A decoder of batches adds one that holds `max` records, and keeps those of an unfinished batch to itself for as
    /// long as it stops with [`Stop::NeedsMore`] or [`Stop::Malformed`].
    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<Self::Out>) -> Decoded;
}

/// Length of the byte order mark, or nothing if it takes more bytes to tell.
pub fn byte_order_mark(bytes: &[u8], last: bool) -> Option<usize> {
    if bytes.starts_with(BYTE_ORDER_MARK) {
        Some(BYTE_ORDER_MARK.len())
    } else if bytes.len() < BYTE_ORDER_MARK.len() && BYTE_ORDER_MARK.starts_with(bytes) && !last {
        None
    } else {
        Some(0)
    }
}

/// How far a decoder has come.
#[derive(Debug)]
pub struct Decoded {
    /// Bytes used, including those of a malformed record.
    pub used: usize,
    /// Line breaks in them.
    pub lines: u64,
    /// Why it stopped.
    pub stop: Stop,
}

/// Why a decoder stopped.
#[derive(Debug)]
pub enum Stop {
    /// There are as many records as asked for.
    Full,
    /// The next record is cut off: call again with more bytes.
    NeedsMore,
    /// There is no further record before the limit.
    End,
    /// A record does not parse. What precedes it was put out; the next call goes on behind it.
    Malformed(Malformed),
}

/// Where and why a record does not parse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed {
    /// Where in the block the record begins.
    pub start: usize,
    /// Where in the block it ends.
    pub end: usize,
    /// Line breaks of the block before it.
    pub lines_before: u64,
    /// Column from 1: of fields where the format has fields, else of bytes. 0 where there is none.
    pub column: u64,
    /// The field's name, if it has one.
    pub field: Option<String>,
    /// What is wrong.
    pub reason: String,
}

/// The line that `bytes` begin with: its length without and with its line break. Nothing if it is cut off.
#[inline]
pub(crate) fn first_line(bytes: &[u8], last: bool) -> Option<(usize, usize)> {
    match memchr::memchr(b'\n', bytes) {
        Some(at) => Some((without_return(bytes, at), at + 1)),
        None if last && !bytes.is_empty() => Some((bytes.len(), bytes.len())),
        None => None,
    }
}

/// Where a line ends that is followed by a line feed at `end`: before the carriage return if there is one.
#[inline]
pub(crate) fn without_return(bytes: &[u8], end: usize) -> usize {
    if end > 0 && bytes[end - 1] == b'\r' { end - 1 } else { end }
}

/// Decodes blocks of lines; `parse` gets each line without its line break and says column and reason if it is bad,
/// or puts out nothing for a line that holds no record.
pub(crate) fn decode_lines<T>(
    block: Block<'_>,
    max: usize,
    out: &mut Vec<T>,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, (u64, String)>,
) -> Decoded {
    let full = out.len().saturating_add(max);
    let (mut used, mut lines) = (0, 0);
    let stop = loop {
        if out.len() >= full {
            break Stop::Full;
        }
        if used >= block.limit {
            break Stop::End;
        }
        let Some((length, next)) = first_line(&block.bytes[used..], block.last) else {
            break if block.last { Stop::End } else { Stop::NeedsMore };
        };
        let (start, lines_before) = (used, lines);
        let line = &block.bytes[start..start + length];
        used += next;
        lines += u64::from(next > length);
        match parse(line) {
            Ok(record) => out.extend(record),
            Err((column, reason)) => {
                let end = used;
                break Stop::Malformed(Malformed { start, end, lines_before, column, field: None, reason });
            }
        }
    };
    Decoded { used, lines, stop }
}
