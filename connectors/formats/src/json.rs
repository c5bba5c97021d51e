//! JSON lines: one JSON value per line. Blank lines are skipped.

use crate::decode::{Block, DecodeFormat, Decoded, Decoder, decode_lines};
use crate::encode::{EncodeFormat, Encoder};
use crate::error::Error;
use hurtig_dataflow::Record;
use serde::Serialize;
use std::marker::PhantomData;

mod plain;

pub use plain::read_json;

/// One JSON value per line, read and written with serde.
///
/// ```
/// use hurtig_formats::{Block, DecodeFormat, Decoder, JsonLines};
/// let mut numbers = Vec::new();
/// let block = Block { bytes: b"[1,2]\n[3]\n", limit: usize::MAX, last: true };
/// JsonLines::<Vec<u32>>::new().decoder().decode(block, 100, &mut numbers);
/// assert_eq!(numbers, [vec![1, 2], vec![3]]);
/// ```
pub struct JsonLines<T>(PhantomData<fn() -> T>);

impl<T> JsonLines<T> {
    /// The format.
    pub fn new() -> Self {
        JsonLines(PhantomData)
    }
}

impl<T> Default for JsonLines<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Clone for JsonLines<T> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<T: Record> DecodeFormat for JsonLines<T> {
    type Out = T;
    type Decoder = Self;

    fn decoder(&self) -> Self {
        Self::new()
    }

    fn is_splittable(&self) -> bool {
        true
    }
}

impl<T: Record> Decoder for JsonLines<T> {
    type Out = T;

    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<T>) -> Decoded {
        decode_lines(block, max, out, |line| match from_line(line) {
            Ok(record) => Ok(Some(record)),
            Err(_) if line.iter().all(u8::is_ascii_whitespace) => Ok(None),
            Err(error) => Err((error.column() as u64, reason(&error))),
        })
    }
}

fn from_line<T: Record>(line: &[u8]) -> Result<T, serde_json::Error> {
    match std::str::from_utf8(line) {
        Ok(text) => plain::plain(text).or_else(|_| serde_json::from_slice(line)),
        Err(_) => serde_json::from_slice(line),
    }
}

/// The error's text without its position, which is that in the line.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    text.strip_suffix(&position).unwrap_or(&text).to_string()
}

impl<T: Serialize + 'static> EncodeFormat<T> for JsonLines<T> {
    type Encoder = Self;

    fn encoder(&self, _from_start: bool) -> Self {
        Self::new()
    }

    fn extension(&self) -> &str {
        "jsonl"
    }
}

impl<T: Serialize> Encoder<T> for JsonLines<T> {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        let before = out.len();
        if let Err(error) = serde_json::to_writer(&mut *out, record) {
            out.truncate(before);
            return Err(Error::encode("JSON", error));
        }
        out.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Stop;
    use serde::Deserialize;

    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Event {
        id: u32,
        name: String,
    }

    #[test]
    fn what_was_written_is_read_back_and_blank_lines_are_skipped() {
        let events = vec![Event { id: 1, name: "a\nb".into() }, Event { id: 2, name: "ü".into() }];
        let format = JsonLines::<Event>::new();
        let mut bytes = b"\n".to_vec();
        for event in &events {
            format.encoder(true).encode(event, &mut bytes).unwrap();
            bytes.extend(b" \r\n");
        }
        let mut read = Vec::new();
        let decoded =
            format.decoder().decode(Block { bytes: &bytes, limit: usize::MAX, last: true }, 100, &mut read);
        assert!(matches!(decoded.stop, Stop::End), "{decoded:?}");
        assert_eq!((decoded.used, decoded.lines), (bytes.len(), 5));
        assert_eq!(read, events);
    }

    #[test]
    fn a_malformed_line_is_named_and_the_rest_is_read() {
        let bytes = b"{\"id\":1,\"name\":\"a\"}\n{\"id\":x}\n{\"id\":2,\"name\":\"b\"}";
        let mut decoder = JsonLines::<Event>::new().decoder();
        let mut read = Vec::new();
        let block = |from: usize| Block { bytes: &bytes[from..], limit: usize::MAX, last: true };
        let decoded = decoder.decode(block(0), 100, &mut read);
        let Stop::Malformed(bad) = decoded.stop else { panic!("{decoded:?}") };
        assert_eq!((bad.lines_before, bad.column, bad.reason.as_str()), (1, 7, "expected value"));
        assert_eq!(&bytes[bad.start..bad.end], b"{\"id\":x}\n");
        decoder.decode(block(decoded.used), 100, &mut read);
        assert_eq!(read.iter().map(|event| event.id).collect::<Vec<_>>(), [1, 2]);
    }
}
