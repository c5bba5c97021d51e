//! Lines as they are: a table of one STRING column.

use super::rows::{Bad, RowsBuilder, Valid};
use super::{Decoding, Encoding, Piece, Reading, cells};
use crate::changes::Changes;
use crate::error::SqlError;
use arrow::datatypes::{DataType, SchemaRef};
use hurtig_formats::{Block, Decoded, Decoder, Encoder, Malformed, Stop};
use std::sync::Arc;

fn check(schema: &SchemaRef) -> Result<(), SqlError> {
    match &schema.fields()[..] {
        [field] if *field.data_type() == DataType::Utf8 => Ok(()),
        _ => Err(SqlError::connector("a table of 'format' = 'raw' has one column of type STRING")),
    }
}

/// How tables of lines are read.
pub(super) fn reading(reading: &Reading) -> Result<Decoding, SqlError> {
    check(&reading.all)?;
    let rows = RowsBuilder::new(Arc::clone(&reading.wanted), false)?;
    let decoder = move || -> Box<dyn Decoder<Out = Changes>> { Box::new(RawDecoder { rows: rows.empty() }) };
    Ok(Decoding { decoder: Arc::new(decoder), is_splittable: true, has_head: false })
}

struct RawDecoder {
    rows: RowsBuilder,
}

impl Decoder for RawDecoder {
    type Out = Changes;

    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<Changes>) -> Decoded {
        let Block { bytes, limit, last } = block;
        let (mut used, mut lines) = (0, 0);
        let mut valid = Valid::default();
        let stop = loop {
            if self.rows.is_full(max) {
                break Stop::Full;
            }
            if used >= limit {
                break Stop::End;
            }
            let (start, lines_before) = (used, lines);
            let end = match memchr::memchr(b'\n', &bytes[start..]) {
                Some(length) => {
                    used = start + length + 1;
                    lines += 1;
                    start + length
                }
                None if last && start < bytes.len() => {
                    used = bytes.len();
                    used
                }
                None => break if last { Stop::End } else { Stop::NeedsMore },
            };
            if !valid.is_text(bytes, start, end) {
                let Bad { column, field, reason } =
                    Bad { column: 0, field: None, reason: "not UTF-8".to_string() };
                break Stop::Malformed(Malformed { start, end: used, lines_before, column, field, reason });
            }
            let line = &bytes[start..end];
            for column in &mut self.rows.columns {
                column.push_text(line.strip_suffix(b"\r").unwrap_or(line));
            }
            self.rows.added(1, line.len());
        };
        self.rows.decoded(used, lines, stop, out)
    }
}

/// How tables of lines are written.
pub(super) fn writing(schema: &SchemaRef) -> Result<Encoding, SqlError> {
    check(schema)?;
    Ok(Encoding { encoder: Arc::new(|_| Box::new(RawEncoder)), extension: "txt", takes_updates: false })
}

struct RawEncoder;

impl Encoder<Piece> for RawEncoder {
    /// A null is an empty line.
    fn encode(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), hurtig_formats::Error> {
        let columns = cells(&piece.changes.batch, "text")?;
        for row in piece.inserted() {
            for column in columns.iter().filter(|column| !column.is_null(row)) {
                out.extend_from_slice(column.text(row).unwrap_or_default());
            }
            out.push(b'\n');
        }
        Ok(())
    }
}
