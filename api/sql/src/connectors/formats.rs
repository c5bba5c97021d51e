//! Formats of tables: bytes to batches and back. Any connector that moves bytes can use them.

mod base64;
mod columns;
mod csv;
mod json;
mod raw;
mod rows;

#[cfg(test)]
mod tests;

use super::text::Cells;
use crate::changes::Changes;
use crate::connector::TableOptions;
use crate::error::{SqlError, nearest};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use columns::Column;
use hurtig_dataflow::BoxError;
use hurtig_formats::{DecodeFormat, Decoder, EncodeFormat, Encoder};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

const NAMES: [&str; 4] = ["csv", "json", "debezium-json", "raw"];

/// What of a table is read.
pub(super) struct Reading {
    /// The columns that the bytes have.
    pub(super) all: SchemaRef,
    /// Those that are wanted, in the wanted order.
    pub(super) wanted: SchemaRef,
}

/// How a table's bytes are read.
#[derive(Clone)]
pub(super) struct Decoding {
    decoder: Arc<dyn Fn() -> Box<dyn Decoder<Out = Changes>> + Send + Sync>,
    is_splittable: bool,
    has_head: bool,
}

/// How a table's bytes are written.
#[derive(Clone)]
pub(super) struct Encoding {
    encoder: Arc<dyn Fn(bool) -> Box<dyn Encoder<Piece>> + Send + Sync>,
    extension: &'static str,
    /// Whether rows may be taken away.
    pub(super) takes_updates: bool,
}

/// Rows to be written to one folder.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Piece {
    pub(super) folder: String,
    pub(super) changes: Changes,
    /// Columns that tell rows apart, for formats with updates.
    pub(super) key: Option<Vec<usize>>,
}

impl Piece {
    /// The rows to be added, each as often as its weight says.
    fn inserted(&self) -> impl Iterator<Item = usize> {
        (0..self.changes.batch.num_rows()).flat_map(|row| {
            let times = usize::try_from(self.changes.weight(row)).unwrap_or(0);
            std::iter::repeat_n(row, times)
        })
    }
}

fn unknown(name: &str) -> SqlError {
    let hint = match nearest(name, NAMES) {
        Some(other) => format!("did you mean '{other}'?"),
        None => format!("there are: {}", NAMES.join(", ")),
    };
    SqlError::connector(format!("there is no format '{name}'")).with_hint(hint)
}

/// Refuses options that belong to another format than the table's.
fn check_options(name: &str, options: &TableOptions) -> Result<(), SqlError> {
    let is_of_format = |option: &str| {
        NAMES.iter().find(|format| option.strip_prefix(**format).is_some_and(|rest| rest.starts_with('.')))
    };
    for (option, _) in options.iter() {
        match is_of_format(option) {
            Some(format) if *format != name => {
                let message = format!("option '{option}' says nothing about a table of 'format' = '{name}'");
                return Err(SqlError::connector(message)
                    .with_hint(format!("take it out, or set 'format' = '{format}'")));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Whether malformed records are to be left out.
pub(super) fn ignores_errors(name: &str, options: &TableOptions) -> Result<bool, SqlError> {
    let option = format!("{name}.ignore-parse-errors");
    Ok(NAMES[..3].contains(&name) && options.parse::<bool>(&option)?.unwrap_or(false))
}

/// How tables of a format are read.
pub(super) fn reading(name: &str, options: &TableOptions, reading: &Reading) -> Result<Decoding, SqlError> {
    check_options(name, options)?;
    match name {
        "csv" => csv::reading(options, reading),
        "json" => json::reading(reading, json::Shape::Rows),
        "debezium-json" => json::reading(reading, json::Shape::Debezium),
        "raw" => raw::reading(reading),
        _ => Err(unknown(name)),
    }
}

/// How tables of a format are written.
pub(super) fn writing(name: &str, options: &TableOptions, schema: &SchemaRef) -> Result<Encoding, SqlError> {
    check_options(name, options)?;
    match name {
        "csv" => csv::writing(options, schema),
        "json" => json::writing(options, schema, json::Shape::Rows),
        "debezium-json" => json::writing(options, schema, json::Shape::Debezium),
        "raw" => raw::writing(schema),
        _ => Err(unknown(name)),
    }
}

/// A column of one row: a value given as text, or null.
pub(super) fn constant(data_type: &DataType, text: Option<&[u8]>) -> Result<ArrayRef, String> {
    let mut column =
        Column::new(data_type).ok_or_else(|| format!("values of type {data_type} have no form as text"))?;
    match text {
        None => column.push_null(),
        Some(text) if column.push_text(text) => {}
        Some(text) => {
            return Err(format!("'{}' is not {}", String::from_utf8_lossy(text), column.type_name()));
        }
    }
    column.take().map_err(|error| error.to_string())
}

/// The columns of a batch, to be written in a format.
fn cells<'a>(batch: &'a RecordBatch, format: &'static str) -> Result<Vec<Cells<'a>>, hurtig_formats::Error> {
    Cells::of_columns(batch.columns()).map_err(|error| encode_error(format, error))
}

fn encode_error(format: &'static str, source: impl Into<BoxError>) -> hurtig_formats::Error {
    hurtig_formats::Error::Encode { format, source: source.into() }
}

/// A decoder of whatever format.
pub(super) struct AnyDecoder(Box<dyn Decoder<Out = Changes>>);

impl Decoder for AnyDecoder {
    type Out = Changes;

    fn read_head(
        &mut self,
        bytes: &[u8],
        last: bool,
    ) -> Result<Option<(usize, u64)>, hurtig_formats::Malformed> {
        self.0.read_head(bytes, last)
    }

    fn decode(
        &mut self,
        block: hurtig_formats::Block<'_>,
        max: usize,
        out: &mut Vec<Changes>,
    ) -> hurtig_formats::Decoded {
        self.0.decode(block, max, out)
    }
}

impl DecodeFormat for Decoding {
    type Out = Changes;
    type Decoder = AnyDecoder;

    fn decoder(&self) -> AnyDecoder {
        AnyDecoder((self.decoder)())
    }

    fn is_splittable(&self) -> bool {
        self.is_splittable
    }

    fn has_head(&self) -> bool {
        self.has_head
    }
}

/// An encoder of whatever format.
pub(super) struct AnyEncoder(Box<dyn Encoder<Piece>>);

impl Encoder<Piece> for AnyEncoder {
    fn encode(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), hurtig_formats::Error> {
        self.0.encode(piece, out)
    }
}

impl EncodeFormat<Piece> for Encoding {
    type Encoder = AnyEncoder;

    fn encoder(&self, from_start: bool) -> AnyEncoder {
        AnyEncoder((self.encoder)(from_start))
    }

    fn extension(&self) -> &str {
        self.extension
    }
}
