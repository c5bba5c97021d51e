//! JSON as batches: each line is an object whose members go straight into columns of their types, and back. Members
//! that nobody asked for are skipped, those that are missing are null.

mod read;
mod scan;
mod write;

use super::rows::{Bad, RowsBuilder, Valid};
use super::{Decoding, Encoding, Reading};
use crate::changes::Changes;
use crate::connector::TableOptions;
use crate::connectors::text::TimeStyle;
use crate::error::SqlError;
use arrow::datatypes::SchemaRef;
use hurtig_formats::{Block, Decoded, Decoder, Malformed, Stop};
use read::Object;
use std::sync::Arc;
use write::JsonEncoder;

/// Whether lines are rows, or say what happened to rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Rows,
    /// `{"before": …, "after": …, "op": "u"}`
    Debezium,
}

/// How tables in JSON are read.
pub(super) fn reading(reading: &Reading, shape: Shape) -> Result<Decoding, SqlError> {
    let rows = RowsBuilder::new(Arc::clone(&reading.wanted), shape == Shape::Debezium)?;
    let decoder = move || -> Box<dyn Decoder<Out = Changes>> {
        let rows = rows.empty();
        let object = Object::of(rows.schema().fields());
        Box::new(JsonDecoder { rows, object, shape })
    };
    Ok(Decoding { decoder: Arc::new(decoder), is_splittable: true, has_head: false })
}

/// How tables are written in JSON.
pub(super) fn writing(
    options: &TableOptions,
    schema: &SchemaRef,
    shape: Shape,
) -> Result<Encoding, SqlError> {
    let name = match shape {
        Shape::Rows => "json.timestamp-format.standard",
        Shape::Debezium => "debezium-json.timestamp-format.standard",
    };
    let style = match options.get(name) {
        None | Some("SQL") => TimeStyle::Sql,
        Some("ISO-8601") => TimeStyle::Iso,
        Some(other) => {
            return Err(SqlError::connector(format!("option '{name}' cannot be '{other}'"))
                .with_hint("it takes SQL or ISO-8601"));
        }
    };
    let _ = schema;
    Ok(Encoding {
        encoder: Arc::new(move |_| Box::new(JsonEncoder { style, shape })),
        extension: "json",
        takes_updates: shape == Shape::Debezium,
    })
}

struct JsonDecoder {
    rows: RowsBuilder,
    object: Object,
    shape: Shape,
}

impl Decoder for JsonDecoder {
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
            let line = &bytes[start..end];
            let read = match valid.is_text(bytes, start, end) {
                _ if line.trim_ascii().is_empty() => Ok(0),
                true => self.object.read_line(line, &mut self.rows, self.shape),
                false => Err(Bad { column: 0, field: None, reason: "not UTF-8".to_string() }),
            };
            match read {
                Ok(rows) => self.rows.added(rows, line.len()),
                Err(Bad { column, field, reason }) => {
                    self.rows.take_back();
                    break Stop::Malformed(Malformed {
                        start,
                        end: used,
                        lines_before,
                        column,
                        field,
                        reason,
                    });
                }
            }
        };
        self.rows.decoded(used, lines, stop, out)
    }
}
