//! Finds the fields of one CSV record in a block of bytes.

use crate::decode::{first_line, without_return};

/// Finds the fields of CSV records; keeps those of the record found last. For decoders that know their fields' types.
///
/// ```
/// use hurtig_formats::{CsvFound, CsvScanner};
/// let (mut scanner, bytes) = (CsvScanner::new(b',', Some(b'"')), b"one,\"\",\nnext");
/// assert!(matches!(scanner.scan(bytes, true), CsvFound::Record { end: 8, lines: 1 }));
/// let fields: Vec<_> = (0..scanner.len()).filter_map(|at| scanner.raw(bytes, at)).collect();
/// assert_eq!(fields, [(b"one" as &[u8], false), (b"", true), (b"", false)]);
/// ```
pub struct Scanner {
    delimiter: u8,
    quote: Option<u8>,
    fields: Vec<Field>,
    /// Fields that held doubled quotes, with single ones.
    unescaped: Vec<u8>,
}

/// Where a field lies: in the record, or among the unescaped.
#[derive(Clone, Copy)]
struct Field {
    start: usize,
    end: usize,
    unescaped: bool,
}

/// What a block of bytes begins with.
#[derive(Debug)]
pub enum Found {
    /// A record.
    Record {
        /// Its bytes, with the line break.
        end: usize,
        /// Its line breaks.
        lines: u64,
    },
    /// A record whose end is not in the block.
    CutOff,
    /// Something else, to be left out.
    Broken {
        /// Bytes to be left out.
        end: usize,
        /// Line breaks in them.
        lines: u64,
        /// The field, from 1.
        column: u64,
        /// What is wrong.
        reason: &'static str,
    },
}

const NOT_CLOSED: &str = "the quote that begins the field is not closed";
const BEHIND_QUOTE: &str = "text behind the closing quote";

impl Scanner {
    /// A scanner for fields that are separated by one byte and may be put in a pair of another.
    pub fn new(delimiter: u8, quote: Option<u8>) -> Self {
        Scanner { delimiter, quote, fields: Vec::new(), unescaped: Vec::new() }
    }

    /// Number of fields found.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the record found was a blank line.
    pub fn is_blank(&self) -> bool {
        matches!(self.fields[..], [Field { start: 0, end: 0, unescaped: false }])
    }

    /// The fields found in `text`.
    pub(super) fn fields<'a>(&'a self, text: &'a str) -> impl Iterator<Item = &'a str> {
        (0..self.fields.len()).map(|at| self.field(text, at).unwrap_or_default())
    }

    /// A field found in `text`.
    #[inline]
    pub(super) fn field<'a>(&'a self, text: &'a str, at: usize) -> Option<&'a str> {
        let field = self.fields.get(at)?;
        if field.unescaped {
            // A part of valid text between ASCII bytes is valid.
            std::str::from_utf8(self.unescaped.get(field.start..field.end)?).ok()
        } else {
            text.get(field.start..field.end)
        }
    }

    /// A field found in `bytes`, and whether it was in quotes.
    #[inline]
    pub fn raw<'a>(&'a self, bytes: &'a [u8], at: usize) -> Option<(&'a [u8], bool)> {
        let field = self.fields.get(at)?;
        if field.unescaped {
            return Some((self.unescaped.get(field.start..field.end)?, true));
        }
        let before = field.start.checked_sub(1).and_then(|before| bytes.get(before));
        Some((bytes.get(field.start..field.end)?, self.quote.is_some() && before == self.quote.as_ref()))
    }

    /// Finds the record that `bytes` begin with.
    pub fn scan(&mut self, bytes: &[u8], last: bool) -> Found {
        self.fields.clear();
        self.unescaped.clear();
        // Without quotes the delimiter takes their part in the search.
        let quote = self.quote.unwrap_or(self.delimiter);
        let mut marks = Marks::new(bytes, [self.delimiter, b'\n', quote]);
        let mut start = 0;
        let mut lines = 0;
        while let Some(at) = marks.next() {
            let byte = bytes[at];
            if byte == self.delimiter {
                self.push(start, at);
                start = at + 1;
            } else if byte == b'\n' {
                self.push(start, without_return(bytes, at).max(start));
                return Found::Record { end: at + 1, lines: lines + 1 };
            } else if at == start {
                match self.quoted_field(bytes, at, last) {
                    Quoted::Field { next, lines: within } => {
                        lines += within;
                        start = next;
                        marks.go_to(next);
                    }
                    Quoted::Last { end, lines: within } => {
                        return Found::Record { end, lines: lines + within };
                    }
                    Quoted::Other(found) => return found,
                }
            }
        }
        if !last {
            return Found::CutOff;
        }
        self.push(start, bytes.len());
        Found::Record { end: bytes.len(), lines }
    }

    #[inline]
    fn push(&mut self, start: usize, end: usize) {
        self.fields.push(Field { start, end, unescaped: false });
    }

    /// Takes the field in quotes that begins at `open`.
    fn quoted_field(&mut self, bytes: &[u8], open: usize, last: bool) -> Quoted {
        let quote = bytes[open];
        let start = open + 1;
        let mut from = start;
        let mut doubled = false;
        let close = loop {
            let Some(hit) = memchr::memchr(quote, &bytes[from..]) else {
                return Quoted::Other(if last { self.not_closed(bytes) } else { Found::CutOff });
            };
            let at = from + hit;
            match bytes.get(at + 1) {
                Some(&next) if next == quote => {
                    doubled = true;
                    from = at + 2;
                }
                None if !last => return Quoted::Other(Found::CutOff),
                _ => break at,
            }
        };
        let content = &bytes[start..close];
        if doubled {
            let begin = self.unescaped.len();
            let mut skip = false;
            for &byte in content {
                skip = byte == quote && !skip;
                if !skip {
                    self.unescaped.push(byte);
                }
            }
            self.fields.push(Field { start: begin, end: self.unescaped.len(), unescaped: true });
        } else {
            self.push(start, close);
        }
        let lines = memchr::memchr_iter(b'\n', content).count() as u64;
        let next = close + 1;
        match bytes[next..] {
            [byte, ..] if byte == self.delimiter => Quoted::Field { next: next + 1, lines },
            [b'\n', ..] => Quoted::Last { end: next + 1, lines: lines + 1 },
            [b'\r', b'\n', ..] => Quoted::Last { end: next + 2, lines: lines + 1 },
            [] | [b'\r'] if !last => Quoted::Other(Found::CutOff),
            [] | [b'\r'] => Quoted::Last { end: bytes.len(), lines },
            _ => Quoted::Other(self.broken(bytes, next, last)),
        }
    }

    /// A record whose quote is not closed. Only its first line is given up: the quote may be a slip.
    fn not_closed(&self, bytes: &[u8]) -> Found {
        let column = self.fields.len() as u64 + 1;
        let (length, end) = first_line(bytes, true).unwrap_or((bytes.len(), bytes.len()));
        Found::Broken { end, lines: u64::from(end > length), column, reason: NOT_CLOSED }
    }

    /// A record with text behind a closing quote, at `at`; it is given up to the end of that line.
    fn broken(&self, bytes: &[u8], at: usize, last: bool) -> Found {
        let column = self.fields.len() as u64;
        match first_line(&bytes[at..], last) {
            None => Found::CutOff,
            Some((_, next)) => {
                let end = at + next;
                let lines = memchr::memchr_iter(b'\n', &bytes[..end]).count() as u64;
                Found::Broken { end, lines, column, reason: BEHIND_QUOTE }
            }
        }
    }
}

/// What a quote at the beginning of a field turned out to be.
enum Quoted {
    /// A field, behind which the next one begins.
    Field { next: usize, lines: u64 },
    /// The record's last field.
    Last { end: usize, lines: u64 },
    /// No field.
    Other(Found),
}

/// Where any of three bytes stands, found eight bytes at a time: fields are so short that a search for each of them
/// costs more than it saves.
struct Marks<'a> {
    bytes: &'a [u8],
    /// Eight times each byte searched for.
    wanted: [u64; 3],
    /// Where the word being looked at begins.
    base: usize,
    /// The high bit of each of its bytes that is wanted and was not returned.
    hits: u64,
    /// Where the next word begins.
    next: usize,
}

impl<'a> Marks<'a> {
    #[inline]
    fn new(bytes: &'a [u8], wanted: [u8; 3]) -> Self {
        let wanted = wanted.map(|byte| u64::from_ne_bytes([byte; 8]));
        Marks { bytes, wanted, base: 0, hits: 0, next: 0 }
    }

    /// Goes on at `position`.
    fn go_to(&mut self, position: usize) {
        (self.hits, self.next) = (0, position);
    }

    #[inline]
    fn next(&mut self) -> Option<usize> {
        while self.hits == 0 {
            let rest = self.bytes.get(self.next..)?;
            let word = match rest.first_chunk() {
                Some(word) => {
                    let word = u64::from_le_bytes(*word);
                    self.hits = self.hits_in(word);
                    8
                }
                None if rest.is_empty() => return None,
                None => {
                    let mut word = [0; 8];
                    word[..rest.len()].copy_from_slice(rest);
                    let inside = (1 << (8 * rest.len())) - 1;
                    self.hits = self.hits_in(u64::from_le_bytes(word)) & inside;
                    rest.len()
                }
            };
            self.base = self.next;
            self.next += word;
        }
        let at = self.base + (self.hits.trailing_zeros() / 8) as usize;
        self.hits &= self.hits - 1;
        Some(at)
    }

    #[inline]
    fn hits_in(&self, word: u64) -> u64 {
        const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
        // A byte is zero if neither its high bit is set nor its low bits carry into it.
        let differs = |wanted: u64| {
            let word = word ^ wanted;
            ((word & LOW) + LOW) | word
        };
        let [a, b, c] = self.wanted;
        !(differs(a) & differs(b) & differs(c)) & !LOW
    }
}
