//! Finds the fields of one CSV record in a block of bytes.

use crate::decode::{first_line, without_return};

/// Finds fields; keeps those of the record found last.
pub(super) struct Scanner {
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
pub(super) enum Found {
    /// A record of so many bytes and line breaks.
    Record { end: usize, lines: u64 },
    /// A record whose end is not in the block.
    CutOff,
    /// Something else, to be left out as far as `end`.
    Broken { end: usize, lines: u64, column: u64, reason: &'static str },
}

const NOT_CLOSED: &str = "the quote that begins the field is not closed";
const BEHIND_QUOTE: &str = "text behind the closing quote";

impl Scanner {
    pub(super) fn new(delimiter: u8, quote: Option<u8>) -> Self {
        Scanner { delimiter, quote, fields: Vec::new(), unescaped: Vec::new() }
    }

    /// Number of fields found.
    pub(super) fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether the record found was a blank line.
    pub(super) fn is_blank(&self) -> bool {
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

    /// Finds the record that `bytes` begin with.
    pub(super) fn scan(&mut self, bytes: &[u8], last: bool) -> Found {
        self.fields.clear();
        self.unescaped.clear();
        // Where the search goes on and where the field began.
        let (mut from, mut start) = (0, 0);
        let mut lines = 0;
        // Without quotes the delimiter takes their part in the search.
        let quote = self.quote.unwrap_or(self.delimiter);
        'quoted: loop {
            for hit in memchr::memchr3_iter(self.delimiter, b'\n', quote, &bytes[from..]) {
                let at = from + hit;
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
                            match bytes.get(next) {
                                Some(&byte) if byte == self.delimiter => (from, start) = (next + 1, next + 1),
                                Some(b'\n') => return Found::Record { end: next + 1, lines: lines + 1 },
                                Some(b'\r') if bytes.get(next + 1) == Some(&b'\n') => {
                                    return Found::Record { end: next + 2, lines: lines + 1 };
                                }
                                Some(b'\r') | None if next + 1 >= bytes.len() && !last => {
                                    return Found::CutOff;
                                }
                                None => return Found::Record { end: next, lines },
                                Some(b'\r') if next + 1 == bytes.len() => {
                                    return Found::Record { end: next + 1, lines };
                                }
                                Some(_) => return self.broken(bytes, next, last, BEHIND_QUOTE),
                            }
                            continue 'quoted;
                        }
                        Quoted::CutOff => return Found::CutOff,
                        // Only the first line is given up: the quote may be a slip.
                        Quoted::NotClosed => {
                            let column = self.fields.len() as u64 + 1;
                            let (length, end) = first_line(bytes, last).unwrap_or((bytes.len(), bytes.len()));
                            let lines = u64::from(end > length);
                            return Found::Broken { end, lines, column, reason: NOT_CLOSED };
                        }
                    }
                }
            }
            if !last {
                return Found::CutOff;
            }
            self.push(start, bytes.len());
            return Found::Record { end: bytes.len(), lines };
        }
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
                return if last { Quoted::NotClosed } else { Quoted::CutOff };
            };
            let at = from + hit;
            match bytes.get(at + 1) {
                Some(&next) if next == quote => {
                    doubled = true;
                    from = at + 2;
                }
                None if !last => return Quoted::CutOff,
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
        Quoted::Field { next: close + 1, lines: memchr::memchr_iter(b'\n', content).count() as u64 }
    }

    /// A record that is bad at `at`; it is given up to the end of that line.
    fn broken(&self, bytes: &[u8], at: usize, last: bool, reason: &'static str) -> Found {
        let column = self.fields.len() as u64;
        match first_line(&bytes[at..], last) {
            None => Found::CutOff,
            Some((_, next)) => {
                let end = at + next;
                let lines = memchr::memchr_iter(b'\n', &bytes[..end]).count() as u64;
                Found::Broken { end, lines, column, reason }
            }
        }
    }
}

enum Quoted {
    /// The field ends before `next`.
    Field {
        next: usize,
        lines: u64,
    },
    CutOff,
    NotClosed,
}
