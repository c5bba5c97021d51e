//! CSV as batches: fields go straight into columns of their types, and back.

use super::base64;
use super::columns::Values;
use super::rows::{Bad, RowsBuilder, Valid};
use super::{Decoding, Encoding, Piece, Reading};
use crate::changes::Changes;
use crate::connector::TableOptions;
use crate::connectors::text::{self, Cells, TimeStyle};
use crate::error::SqlError;
use arrow::datatypes::{DataType, SchemaRef};
use hurtig_formats::{
    Block, CsvFound, CsvScanner, Decoded, Decoder, Encoder, Malformed, Stop, byte_order_mark,
};
use std::sync::Arc;

#[derive(Clone, Debug)]
struct Settings {
    delimiter: u8,
    quote: Option<u8>,
    /// Whether the first line is there, and whether it names the columns.
    first_line: FirstLine,
    null_literal: Vec<u8>,
    is_splittable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstLine {
    Record,
    Ignored,
    Names,
}

impl Settings {
    fn of(options: &TableOptions) -> Result<Self, SqlError> {
        let byte = |name: &str, default: u8| match options.get(name).map(unescaped) {
            None => Ok(default),
            Some(text) => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
                _ => Err(SqlError::connector(format!("option '{name}' must be one ASCII character"))),
            },
        };
        let is_set = |name| options.parse::<bool>(name).map(|value| value.unwrap_or(false));
        let quote = byte("csv.quote-character", b'"')?;
        let quote = (!is_set("csv.disable-quote-character")?).then_some(quote);
        let first_line = match (is_set("csv.header")?, is_set("csv.ignore-first-line")?) {
            (true, _) => FirstLine::Names,
            (false, true) => FirstLine::Ignored,
            (false, false) => FirstLine::Record,
        };
        let settings = Settings {
            delimiter: byte("csv.field-delimiter", b',')?,
            quote,
            first_line,
            null_literal: options.get("csv.null-literal").unwrap_or_default().as_bytes().to_vec(),
            is_splittable: quote.is_none() || is_set("csv.splittable")?,
        };
        if settings.quote == Some(settings.delimiter) {
            return Err(SqlError::connector("fields cannot be separated by the quote character"));
        }
        Ok(settings)
    }
}

/// `\t` and the like, as users write them in an option.
fn unescaped(text: &str) -> &str {
    match text {
        "\\t" => "\t",
        "\\\\" => "\\",
        text => text,
    }
}

/// How tables in CSV are read.
pub(super) fn reading(options: &TableOptions, reading: &Reading) -> Result<Decoding, SqlError> {
    let settings = Arc::new(Settings::of(options)?);
    refuse_nested(&reading.wanted)?;
    let rows = RowsBuilder::new(Arc::clone(&reading.wanted), false)?;
    let names: Arc<[String]> = reading.all.fields().iter().map(|field| field.name().clone()).collect();
    let wanted = |name: &String| names.iter().position(|other| other == name);
    let fields = reading.wanted.fields().iter().filter_map(|field| wanted(field.name()));
    let places: Vec<usize> = fields.collect();
    let (is_splittable, has_head) = (settings.is_splittable, settings.first_line != FirstLine::Record);
    let decoder = move || -> Box<dyn Decoder<Out = Changes>> {
        Box::new(CsvDecoder {
            scanner: CsvScanner::new(settings.delimiter, settings.quote),
            settings: Arc::clone(&settings),
            names: names.to_vec(),
            places: places.clone(),
            rows: rows.empty(),
        })
    };
    Ok(Decoding { decoder: Arc::new(decoder), is_splittable, has_head })
}

fn refuse_nested(schema: &SchemaRef) -> Result<(), SqlError> {
    let is_nested = |data_type: &DataType| {
        matches!(data_type, DataType::Struct(_) | DataType::List(_) | DataType::Map(..))
    };
    match schema.fields().iter().find(|field| is_nested(field.data_type())) {
        None => Ok(()),
        Some(field) => {
            let message =
                format!("column '{}' is a ROW, ARRAY or MAP, which CSV does not have", field.name());
            Err(SqlError::unsupported(message).with_hint("use 'format' = 'json', or select its parts"))
        }
    }
}

struct CsvDecoder {
    settings: Arc<Settings>,
    scanner: CsvScanner,
    /// Names of a record's fields.
    names: Vec<String>,
    /// Which field of a record goes to each column.
    places: Vec<usize>,
    rows: RowsBuilder,
}

impl Decoder for CsvDecoder {
    type Out = Changes;

    fn read_head(&mut self, bytes: &[u8], last: bool) -> Result<Option<(usize, u64)>, Malformed> {
        let Some(mut used) = byte_order_mark(bytes, last) else { return Ok(None) };
        let mut lines = 0;
        while self.settings.first_line != FirstLine::Record && !(bytes.len() == used && last) {
            let malformed = |end: usize, column: u64, reason: String| Malformed {
                start: used,
                end: used + end,
                lines_before: lines,
                column,
                field: None,
                reason,
            };
            let rest = &bytes[used..];
            match self.scanner.scan(rest, last) {
                CsvFound::CutOff => return Ok(None),
                CsvFound::Broken { end, column, reason, .. } => {
                    return Err(malformed(end, column, reason.to_string()));
                }
                CsvFound::Record { end, lines: broken } => {
                    let is_blank = self.scanner.is_blank();
                    if !is_blank && self.settings.first_line == FirstLine::Names {
                        self.take_names(rest).map_err(|reason| malformed(end, 0, reason))?;
                    }
                    used += end;
                    lines += broken;
                    if !is_blank {
                        break;
                    }
                }
            }
        }
        Ok(Some((used, lines)))
    }

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
            let rest = &bytes[used..];
            if rest.is_empty() {
                break if last { Stop::End } else { Stop::NeedsMore };
            }
            let (start, lines_before) = (used, lines);
            let bad = match self.scanner.scan(rest, last) {
                CsvFound::CutOff => break Stop::NeedsMore,
                CsvFound::Broken { end, lines: broken, column, reason } => {
                    used += end;
                    lines += broken;
                    Bad { column, field: None, reason: reason.to_string() }
                }
                CsvFound::Record { end, lines: broken } => {
                    used += end;
                    lines += broken;
                    // Of a table of one column, a blank line is a null.
                    if self.scanner.is_blank() && self.names.len() > 1 {
                        continue;
                    }
                    let is_text = valid.is_text(bytes, start, used);
                    match self.row(&bytes[start..used], is_text) {
                        Ok(()) => {
                            self.rows.added(1, end);
                            continue;
                        }
                        Err(bad) => bad,
                    }
                }
            };
            self.rows.take_back();
            let Bad { column, field, reason } = bad;
            break Stop::Malformed(Malformed { start, end: used, lines_before, column, field, reason });
        };
        self.rows.decoded(used, lines, stop, out)
    }
}

impl CsvDecoder {
    /// Takes the names of columns from the fields found.
    fn take_names(&mut self, bytes: &[u8]) -> Result<(), String> {
        let names = (0..self.scanner.len()).filter_map(|at| self.scanner.raw(bytes, at));
        let names = names.map(|(name, _)| String::from_utf8_lossy(name).into_owned());
        self.names = names.collect();
        let place = |name: &String| {
            let place = self.names.iter().position(|other| other == name);
            place.ok_or_else(|| format!("the first line does not name the column '{name}'"))
        };
        let fields = self.rows.schema().fields();
        self.places = fields.iter().map(|field| place(field.name())).collect::<Result<_, _>>()?;
        Ok(())
    }

    #[inline]
    fn row(&mut self, bytes: &[u8], is_text: bool) -> Result<(), Bad> {
        let (fields, columns) = (self.scanner.len(), self.names.len());
        if fields != columns || !is_text {
            let reason = match is_text {
                true => format!("{fields} fields where there are {columns} columns"),
                false => "not UTF-8".to_string(),
            };
            let column = if is_text { fields.min(columns) as u64 } else { 0 };
            return Err(Bad { column, field: None, reason });
        }
        for (column, place) in self.rows.columns.iter_mut().zip(&self.places) {
            let (text, is_quoted) = self.scanner.raw(bytes, *place).unwrap_or_default();
            if !is_quoted && text == self.settings.null_literal {
                column.push_null();
                continue;
            }
            let is_value = match column.values {
                Values::Text { .. } | Values::Bytes { .. } => column.push_text(text),
                _ => match text.trim_ascii() {
                    // There is no number, time or truth value without a character.
                    [] => {
                        column.push_null();
                        true
                    }
                    text => column.push_text(text),
                },
            };
            if !is_value {
                let shown: String = String::from_utf8_lossy(text).chars().take(60).collect();
                return Err(Bad {
                    column: *place as u64 + 1,
                    field: self.names.get(*place).cloned(),
                    reason: format!("'{shown}' is not {}", column.type_name()),
                });
            }
        }
        Ok(())
    }
}

/// How tables are written in CSV.
pub(super) fn writing(options: &TableOptions, schema: &SchemaRef) -> Result<Encoding, SqlError> {
    let settings = Settings::of(options)?;
    refuse_nested(schema)?;
    let encoder = move |from_start: bool| -> Box<dyn Encoder<Piece>> {
        let has_head = from_start && settings.first_line == FirstLine::Names;
        Box::new(CsvEncoder { settings: settings.clone(), has_head, cell: Vec::new() })
    };
    Ok(Encoding { encoder: Arc::new(encoder), extension: "csv", takes_updates: false })
}

struct CsvEncoder {
    settings: Settings,
    /// Whether the names of the columns are still to be written.
    has_head: bool,
    cell: Vec<u8>,
}

impl CsvEncoder {
    /// Writes a field, in quotes if it would not be read as it is.
    fn field(&self, text: &[u8], out: &mut Vec<u8>) {
        let Settings { delimiter, quote, null_literal, .. } = &self.settings;
        let is_special =
            |byte: &u8| byte == delimiter || Some(*byte) == *quote || matches!(byte, b'\n' | b'\r');
        match quote {
            Some(quote) if text == null_literal || text.is_empty() || text.iter().any(is_special) => {
                out.push(*quote);
                for byte in text {
                    if byte == quote {
                        out.push(*quote);
                    }
                    out.push(*byte);
                }
                out.push(*quote);
            }
            _ => out.extend_from_slice(text),
        }
    }

    fn head(&mut self, schema: &SchemaRef, out: &mut Vec<u8>) {
        for (at, field) in schema.fields().iter().enumerate() {
            if at > 0 {
                out.push(self.settings.delimiter);
            }
            self.field(field.name().as_bytes(), out);
        }
        out.push(b'\n');
    }
}

impl Encoder<Piece> for CsvEncoder {
    fn encode(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), hurtig_formats::Error> {
        let batch = &piece.changes.batch;
        let columns = super::cells(batch, "CSV")?;
        if std::mem::take(&mut self.has_head) {
            self.head(batch.schema_ref(), out);
        }
        let mut cell = std::mem::take(&mut self.cell);
        for row in piece.inserted() {
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    out.push(self.settings.delimiter);
                }
                if column.is_null(row) {
                    out.extend_from_slice(&self.settings.null_literal);
                    continue;
                }
                match &column.values {
                    text::Values::Text { .. } => self.field(column.text(row).unwrap_or_default(), out),
                    text::Values::Bytes { .. } => {
                        cell.clear();
                        base64::encode(column.text(row).unwrap_or_default(), &mut cell);
                        self.field(&cell, out);
                    }
                    _ => number(self, column, row, &mut cell, out),
                }
            }
            out.push(b'\n');
        }
        self.cell = cell;
        Ok(())
    }
}

fn number(encoder: &CsvEncoder, column: &Cells<'_>, row: usize, cell: &mut Vec<u8>, out: &mut Vec<u8>) {
    cell.clear();
    column.write(row, TimeStyle::Sql, cell);
    encoder.field(cell, out);
}
