//! Writes rows as JSON objects, a line each.

use super::Shape;
use crate::changes::kinds;
use crate::connector::ChangeKind;
use crate::connectors::formats::{Piece, base64, cells, encode_error};
use crate::connectors::text::{Cells, TimeStyle, Values};
use arrow::datatypes::SchemaRef;
use hurtig_formats::Encoder;

pub(super) struct JsonEncoder {
    pub(super) style: TimeStyle,
    pub(super) shape: Shape,
}

impl Encoder<Piece> for JsonEncoder {
    fn encode(&mut self, piece: &Piece, out: &mut Vec<u8>) -> Result<(), hurtig_formats::Error> {
        let schema = piece.changes.schema();
        let columns = cells(&piece.changes.batch, "JSON")?;
        let row = |row: usize, out: &mut Vec<u8>| self.row(&schema, &columns, row, out);
        if self.shape == Shape::Rows {
            for at in piece.inserted() {
                row(at, out);
                out.push(b'\n');
            }
            return Ok(());
        }
        let kinds =
            kinds(&piece.changes, piece.key.as_deref()).map_err(|error| encode_error("JSON", error))?;
        let mut before = None;
        for (kind, at) in kinds {
            let (before, after, op) = match kind {
                ChangeKind::UpdateBefore => {
                    // Told with what it is updated to, which follows.
                    before = Some(at);
                    continue;
                }
                ChangeKind::UpdateAfter => (before.take(), Some(at), 'u'),
                ChangeKind::Insert => (None, Some(at), 'c'),
                ChangeKind::Delete => (Some(at), None, 'd'),
            };
            for (name, image) in [(r#"{"before":"#, before), (r#","after":"#, after)] {
                out.extend_from_slice(name.as_bytes());
                match image {
                    Some(at) => row(at, out),
                    None => out.extend_from_slice(b"null"),
                }
            }
            out.extend_from_slice(format!(r#","op":"{op}"}}"#).as_bytes());
            out.push(b'\n');
        }
        Ok(())
    }
}

impl JsonEncoder {
    fn row(&self, schema: &SchemaRef, columns: &[Cells<'_>], row: usize, out: &mut Vec<u8>) {
        let names = schema.fields().iter().map(|field| field.name().as_str());
        self.object(names.zip(columns), row, out);
    }

    fn object<'a, 'b: 'a>(
        &self,
        members: impl Iterator<Item = (&'a str, &'a Cells<'b>)>,
        row: usize,
        out: &mut Vec<u8>,
    ) {
        out.push(b'{');
        for (at, (name, column)) in members.enumerate() {
            if at > 0 {
                out.push(b',');
            }
            quoted(name.as_bytes(), out);
            out.push(b':');
            self.value(column, row, out);
        }
        out.push(b'}');
    }

    fn value(&self, column: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
        if column.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &column.values {
            Values::Text { .. } => quoted(column.text(row).unwrap_or_default(), out),
            Values::Bytes { .. } => {
                out.push(b'"');
                base64::encode(column.text(row).unwrap_or_default(), out);
                out.push(b'"');
            }
            Values::Struct { names, fields } => {
                let names = names.iter().map(|field| field.name().as_str());
                self.object(names.zip(fields), row, out);
            }
            Values::List { offsets, items } => {
                out.push(b'[');
                for item in offsets[row]..offsets[row + 1] {
                    if item > offsets[row] {
                        out.push(b',');
                    }
                    self.value(items, item as usize, out);
                }
                out.push(b']');
            }
            Values::Map { offsets, keys, items } => {
                out.push(b'{');
                let mut key = Vec::new();
                for item in offsets[row]..offsets[row + 1] {
                    if item > offsets[row] {
                        out.push(b',');
                    }
                    key.clear();
                    keys.write(item as usize, self.style, &mut key);
                    quoted(&key, out);
                    out.push(b':');
                    self.value(items, item as usize, out);
                }
                out.push(b'}');
            }
            // Numbers that JSON does not have are texts.
            Values::F32(values) if !values[row].is_finite() => self.in_quotes(column, row, out),
            Values::F64(values) if !values[row].is_finite() => self.in_quotes(column, row, out),
            Values::Date(_) | Values::Time { .. } | Values::Timestamp { .. } | Values::Other(_) => {
                self.in_quotes(column, row, out);
            }
            _ => column.write(row, self.style, out),
        }
    }

    fn in_quotes(&self, column: &Cells<'_>, row: usize, out: &mut Vec<u8>) {
        out.push(b'"');
        column.write(row, self.style, out);
        out.push(b'"');
    }
}

/// Writes a text with what JSON wants escaped.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut from = 0;
    for (at, byte) in text.iter().enumerate() {
        let escape: &[u8] = match byte {
            b'"' => b"\\\"",
            b'\\' => b"\\\\",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\t' => b"\\t",
            0..=0x1f => b"\\u00",
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(escape);
        if escape == b"\\u00" {
            let hex = b"0123456789abcdef";
            out.extend([hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
        }
        from = at + 1;
    }
    out.extend_from_slice(&text[from..]);
    out.push(b'"');
}
