//! Text lines: each line is a record.

use crate::decode::{Block, DecodeFormat, Decoded, Decoder, Stop, decode_lines, without_return};
use crate::encode::{EncodeFormat, Encoder};
use crate::error::Error;
use std::fmt::Display;
use std::io::Write;

/// Lines of UTF-8 text, without their line breaks (`\n` or `\r\n`). Written with [`Display`].
///
/// ```
/// use hurtig_formats::{Block, DecodeFormat, Decoder, TextLines};
/// let mut lines = Vec::new();
/// let block = Block { bytes: b"one\ntwo\r\nthree", limit: usize::MAX, last: true };
/// TextLines.decoder().decode(block, 100, &mut lines);
/// assert_eq!(lines, ["one", "two", "three"]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TextLines;

/// Decodes one file of text lines.
#[derive(Debug, Default)]
pub struct TextDecoder {
    /// Ends of the lines found, as (end of text, start of next); kept for its allocation.
    ends: Vec<(usize, usize)>,
}

impl DecodeFormat for TextLines {
    type Out = String;
    type Decoder = TextDecoder;

    fn decoder(&self) -> TextDecoder {
        TextDecoder::default()
    }

    fn is_splittable(&self) -> bool {
        true
    }
}

impl Decoder for TextDecoder {
    type Out = String;

    /// Finds many line ends in one sweep and validates them in another, which is far cheaper than line by line.
    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<String>) -> Decoded {
        let Block { bytes, limit, last } = block;
        self.ends.clear();
        let mut start = 0;
        if start < limit {
            for at in memchr::memchr_iter(b'\n', bytes) {
                if self.ends.len() >= max {
                    break;
                }
                self.ends.push((without_return(bytes, at), at + 1));
                start = at + 1;
                if start >= limit {
                    break;
                }
            }
        }
        let lines = self.ends.len() as u64;
        if self.ends.len() < max && start < limit && start < bytes.len() && last {
            self.ends.push((bytes.len(), bytes.len()));
            start = bytes.len();
        }
        let Ok(text) = std::str::from_utf8(&bytes[..start]) else {
            return decode_lines(block, max, out, line);
        };
        let mut from = 0;
        out.reserve(self.ends.len());
        for &(end, next) in &self.ends {
            out.push(text[from..end].to_owned());
            from = next;
        }
        let stop = if self.ends.len() >= max {
            Stop::Full
        } else if start >= limit || last {
            Stop::End
        } else {
            Stop::NeedsMore
        };
        Decoded { used: start, lines, stop }
    }
}

fn line(bytes: &[u8]) -> Result<Option<String>, (u64, String)> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(Some(text.to_owned())),
        Err(error) => Err((error.valid_up_to() as u64 + 1, "not UTF-8".to_string())),
    }
}

impl<T: Display + 'static> EncodeFormat<T> for TextLines {
    type Encoder = Self;

    fn encoder(&self, _from_start: bool) -> Self {
        TextLines
    }

    fn extension(&self) -> &str {
        "txt"
    }
}

impl<T: Display> Encoder<T> for TextLines {
    fn encode(&mut self, record: &T, out: &mut Vec<u8>) -> Result<(), Error> {
        let before = out.len();
        if let Err(error) = writeln!(out, "{record}") {
            out.truncate(before);
            return Err(Error::encode("text", error));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn one_sweep_equals_line_by_line(
            bytes in prop::collection::vec(prop::sample::select(b"ab\r\n\n\xc3\xa4".to_vec()), 0..40),
            limit in 0usize..45, max in 0usize..6, last: bool,
        ) {
            let block = Block { bytes: &bytes, limit, last };
            let (mut swept, mut single) = (Vec::new(), Vec::new());
            let a = TextLines.decoder().decode(block, max, &mut swept);
            let b = decode_lines(block, max, &mut single, line);
            prop_assert_eq!(swept, single);
            prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
        }
    }

    #[test]
    fn text_is_written_a_line_per_record() {
        let mut out = Vec::new();
        let mut encoder = EncodeFormat::<u32>::encoder(&TextLines, true);
        encoder.encode(&1u32, &mut out).unwrap();
        encoder.encode(&"two", &mut out).unwrap();
        assert_eq!(out, b"1\ntwo\n");
    }
}
