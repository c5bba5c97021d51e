//! CSV: records of separated fields, read and written with serde.
//!
//! Fields are found by [`scan`], a struct gets them by [`row`]. A line break is `\n` or `\r\n`; blank lines are
//! skipped; a field in quotes may hold separators, line breaks and doubled quotes.

mod field;
mod row;
mod scan;
mod write;

pub use scan::{Found as CsvFound, Scanner as CsvScanner};

use crate::decode::{Block, DecodeFormat, Decoded, Decoder, Malformed, Stop, byte_order_mark};
use crate::encode::EncodeFormat;
use hurtig_dataflow::Record;
use row::{Plan, Row};
use scan::{Found, Scanner};
use serde::Serialize;
use std::marker::PhantomData;
use write::CsvEncoder;

/// Bytes to be validated as UTF-8 at once.
const VALIDATED_AT_ONCE: usize = 8 << 10;

/// Comma-separated values. By default the first line names the columns, fields are separated by commas and may be put
/// in double quotes.
///
/// Columns go to the fields of a struct by name, without a header by position. An empty field is `None` for an
/// `Option`. A file is read in pieces only if no field in quotes holds a line break: say so with
/// [`splittable`](Csv::splittable).
///
/// ```
/// use hurtig_formats::{Block, Csv, DecodeFormat, Decoder};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
/// struct City { name: String, inhabitants: Option<u32> }
///
/// let text = b"inhabitants,name\n38000,\"Weimar, Ilm\"\n,Atlantis\n";
/// let mut decoder = Csv::<City>::new().decoder();
/// let (head, _) = decoder.read_head(text, true).unwrap().unwrap();
/// let mut cities = Vec::new();
/// decoder.decode(Block { bytes: &text[head..], limit: usize::MAX, last: true }, 100, &mut cities);
/// assert_eq!(cities[0], City { name: "Weimar, Ilm".into(), inhabitants: Some(38000) });
/// assert_eq!(cities[1], City { name: "Atlantis".into(), inhabitants: None });
/// ```
pub struct Csv<T> {
    header: bool,
    delimiter: u8,
    quote: Option<u8>,
    splittable: bool,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for Csv<T> {
    fn clone(&self) -> Self {
        Csv { record: PhantomData, ..*self }
    }
}

impl<T> Default for Csv<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Csv<T> {
    /// The format with its defaults: header, commas, double quotes.
    pub fn new() -> Self {
        Csv { header: true, delimiter: b',', quote: Some(b'"'), splittable: false, record: PhantomData }
    }

    /// The first line of each file names the columns.
    pub fn with_header(mut self) -> Self {
        self.header = true;
        self
    }

    /// There is no line that names the columns: they go by position.
    pub fn without_header(mut self) -> Self {
        self.header = false;
        self
    }

    /// Fields are separated by this byte, for example `b';'` or `b'\t'`.
    pub fn delimiter(mut self, delimiter: u8) -> Self {
        self.delimiter = delimiter;
        self
    }

    /// Fields may be put in a pair of this byte.
    pub fn quote(mut self, quote: u8) -> Self {
        self.quote = Some(quote);
        self
    }

    /// Quotes mean nothing. Such files can be read in pieces. For reading only: what is written is quoted where
    /// needed.
    pub fn without_quotes(mut self) -> Self {
        self.quote = None;
        self
    }

    /// No field in quotes holds a line break, so big files may be read in pieces. Where this is not true, records are
    /// torn.
    pub fn splittable(mut self) -> Self {
        self.splittable = true;
        self
    }
}

impl<T: Record> DecodeFormat for Csv<T> {
    type Out = T;
    type Decoder = CsvDecoder<T>;

    fn decoder(&self) -> CsvDecoder<T> {
        CsvDecoder {
            scanner: Scanner::new(self.delimiter, self.quote),
            has_header: self.header,
            header: Vec::new(),
            plan: Plan::Undecided,
            record: PhantomData,
        }
    }

    fn is_splittable(&self) -> bool {
        self.splittable || self.quote.is_none()
    }

    fn has_head(&self) -> bool {
        self.header
    }
}

impl<T: Serialize + 'static> EncodeFormat<T> for Csv<T> {
    type Encoder = CsvEncoder;

    fn encoder(&self, from_start: bool) -> CsvEncoder {
        CsvEncoder::new(self.header && from_start, self.delimiter, self.quote)
    }

    fn extension(&self) -> &str {
        "csv"
    }
}

/// Decodes one CSV file.
pub struct CsvDecoder<T> {
    scanner: Scanner,
    has_header: bool,
    header: Vec<String>,
    plan: Plan,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Decoder for CsvDecoder<T> {
    type Out = T;

    fn read_head(&mut self, bytes: &[u8], last: bool) -> Result<Option<(usize, u64)>, Malformed> {
        let Some(mut used) = byte_order_mark(bytes, last) else { return Ok(None) };
        let mut lines = 0;
        while self.has_header {
            let rest = &bytes[used..];
            if rest.is_empty() && last {
                break;
            }
            let found = self.scanner.scan(rest, last);
            let malformed = |end: usize, column, reason: &str| Malformed {
                start: used,
                end: used + end,
                lines_before: lines,
                column,
                field: None,
                reason: reason.to_string(),
            };
            match found {
                Found::CutOff => return Ok(None),
                Found::Broken { end, column, reason, .. } => return Err(malformed(end, column, reason)),
                Found::Record { end, lines: broken } => {
                    let blank = self.scanner.is_blank();
                    if !blank {
                        let Ok(text) = std::str::from_utf8(&rest[..end]) else {
                            return Err(malformed(end, 0, "not UTF-8"));
                        };
                        self.header = self.scanner.fields(text).map(str::to_string).collect();
                    }
                    used += end;
                    lines += broken;
                    if !blank {
                        break;
                    }
                }
            }
        }
        Ok(Some((used, lines)))
    }

    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<T>) -> Decoded {
        let full = out.len().saturating_add(max);
        let (mut used, mut lines) = (0, 0);
        let mut valid = Valid { bytes: block.bytes, from: 0, text: "" };
        let stop = loop {
            if out.len() >= full {
                break Stop::Full;
            }
            if used >= block.limit {
                break Stop::End;
            }
            let rest = &block.bytes[used..];
            if rest.is_empty() {
                break if block.last { Stop::End } else { Stop::NeedsMore };
            }
            let (start, lines_before) = (used, lines);
            let bad = match self.scanner.scan(rest, block.last) {
                Found::CutOff => break Stop::NeedsMore,
                Found::Broken { end, lines: broken, column, reason } => {
                    used += end;
                    lines += broken;
                    (column, reason.to_string())
                }
                Found::Record { end, lines: broken } => {
                    used += end;
                    lines += broken;
                    if self.scanner.is_blank() {
                        continue;
                    }
                    match self.parse(valid.text(start, used)) {
                        Ok(record) => {
                            out.push(record);
                            continue;
                        }
                        Err(bad) => bad,
                    }
                }
            };
            let (column, reason) = bad;
            let field =
                usize::try_from(column).ok().and_then(|column| self.header.get(column.checked_sub(1)?));
            let (end, field) = (used, field.cloned());
            break Stop::Malformed(Malformed { start, end, lines_before, column, field, reason });
        };
        Decoded { used, lines, stop }
    }
}

/// A stretch of a block that is known to be UTF-8, longer than a record, since many short ones cost more to validate.
struct Valid<'a> {
    bytes: &'a [u8],
    from: usize,
    text: &'a str,
}

impl<'a> Valid<'a> {
    /// A part of the block as text, if it is.
    #[inline]
    fn text(&mut self, start: usize, end: usize) -> Option<&'a str> {
        if end > self.from + self.text.len() {
            self.validate(start, end);
        }
        self.text.get(start - self.from..end - self.from)
    }

    fn validate(&mut self, start: usize, end: usize) {
        let bytes = &self.bytes[start..end.max(start + VALIDATED_AT_ONCE).min(self.bytes.len())];
        self.text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default(),
        };
        self.from = start;
    }
}

impl<T: Record> CsvDecoder<T> {
    /// Makes a record of the fields found in a text, or says which column is bad and why.
    fn parse(&mut self, text: Option<&str>) -> Result<T, (u64, String)> {
        let Some(text) = text else {
            return Err((0, "not UTF-8".to_string()));
        };
        let (fields, columns) = (self.scanner.len(), self.header.len());
        if self.has_header && fields != columns {
            return Err((
                fields.min(columns) as u64,
                format!("{fields} fields where the header has {columns}"),
            ));
        }
        row::parse(
            &Row { text, scanner: &self.scanner, header: self.has_header.then_some(&self.header) },
            &mut self.plan,
        )
    }
}

#[cfg(test)]
mod tests;
