//! Reads one JSON object into columns. Nesting is that of the columns' types.

use super::Shape;
use super::scan::{Read, Reader, Wrong};
use crate::connectors::formats::columns::{Column, Values};
use crate::connectors::formats::rows::{Bad, RowsBuilder};
use arrow::datatypes::{DataType, Fields};

/// Names of an object's members, in the order of columns.
pub(super) struct Object {
    names: Vec<Box<[u8]>>,
    /// Members that are objects, or lists of some.
    inner: Vec<Option<Object>>,
}

impl Object {
    pub(super) fn of(fields: &Fields) -> Self {
        let names = fields.iter().map(|field| field.name().as_bytes().into()).collect();
        Object { names, inner: fields.iter().map(|field| Object::within(field.data_type())).collect() }
    }

    fn within(data_type: &DataType) -> Option<Self> {
        match data_type {
            DataType::Struct(fields) => Some(Object::of(fields)),
            DataType::List(item) => Object::within(item.data_type()),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(fields) => Object::within(fields.get(1)?.data_type()),
                _ => None,
            },
            _ => None,
        }
    }

    /// Adds what a line says; returns the number of rows.
    pub(super) fn read_line(&self, line: &[u8], rows: &mut RowsBuilder, shape: Shape) -> Result<usize, Bad> {
        let mut reader = Reader::new(line);
        let read = match shape {
            Shape::Rows => reader.object(self, &mut rows.columns).map(|()| 1),
            Shape::Debezium => reader.change(self, rows),
        };
        let read = read.and_then(|rows| match reader.peek() {
            None => Ok(rows),
            Some(_) => Err(reader.wrong("text behind the end of the object")),
        });
        read.map_err(|Wrong { at, field, reason }| Bad { column: at as u64 + 1, field, reason })
    }

    /// The place of a member, which most often is that behind the one before.
    #[inline]
    fn place(&self, name: &[u8], expected: usize) -> Option<usize> {
        let is_named = |place: &usize| &*self.names[*place] == name;
        (expected..self.names.len()).find(is_named).or_else(|| (0..expected).find(is_named))
    }
}

impl Reader<'_> {
    /// Reads an object into columns: a value for each.
    fn object(&mut self, object: &Object, columns: &mut [Column]) -> Read<()> {
        let rows = columns.iter().map(Column::len).min().unwrap_or(0);
        let mut expected = 0;
        self.members(|reader, name| {
            let Some(place) = object.place(name, expected) else { return reader.skip() };
            expected = place + 1;
            let column = &mut columns[place];
            if column.len() > rows {
                // Of two members of one name the last one counts.
                column.truncate(rows);
            }
            reader.value(object.inner[place].as_ref(), column).map_err(|wrong| within(name, wrong))
        })?;
        for column in columns.iter_mut().filter(|column| column.len() == rows) {
            column.push_null();
        }
        Ok(())
    }

    /// Reads a value into a column.
    fn value(&mut self, object: Option<&Object>, column: &mut Column) -> Read<()> {
        let next = self.peek();
        if next == Some(b'n') {
            self.word(b"null")?;
            column.push_null();
            return Ok(());
        }
        let Column { values, nulls, .. } = column;
        match (values, object, next) {
            (Values::Text { offsets, bytes }, _, Some(b'"')) => {
                self.at += 1;
                let (text, is_plain) = self.text()?;
                if is_plain {
                    bytes.extend_from_slice(text);
                } else {
                    self.unescape(text, bytes)?;
                }
                offsets.push(bytes.len() as i32);
            }
            (Values::Text { offsets, bytes }, ..) => {
                // Whatever else there is, as it is written.
                let start = self.at;
                self.skip()?;
                bytes.extend_from_slice(self.bytes[start..self.at].trim_ascii_end());
                offsets.push(bytes.len() as i32);
            }
            (Values::Struct { columns, .. }, Some(object), Some(b'{')) => self.object(object, columns)?,
            (Values::List { offsets, items, .. }, object, Some(b'[')) => {
                self.at += 1;
                if !self.takes(b']') {
                    loop {
                        self.value(object, items)?;
                        if !self.takes(b',') {
                            break self.expect(b']')?;
                        }
                    }
                }
                offsets.push(items.len() as i32);
            }
            (Values::Map { offsets, keys, items, .. }, object, Some(b'{')) => {
                self.members(|reader, name| {
                    if !keys.push_text(name) {
                        return Err(reader.wrong(format!("the key is not {}", keys.type_name())));
                    }
                    reader.value(object, items)
                })?;
                offsets.push(items.len() as i32);
            }
            _ => return self.scalar(column),
        }
        nulls.append_non_null();
        Ok(())
    }

    /// Reads a number, a truth value or a text that stands for a value of another type.
    #[inline]
    fn scalar(&mut self, column: &mut Column) -> Read<()> {
        let start = self.at;
        let is_value = if self.takes(b'"') {
            let (text, is_plain) = self.text()?;
            if is_plain {
                column.push_text(text)
            } else {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear();
                self.unescape(text, &mut scratch)?;
                let is_value = column.push_text(&scratch);
                self.scratch = scratch;
                is_value
            }
        } else {
            let rest = &self.bytes[self.at..];
            let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            let length = rest.iter().position(ends).unwrap_or(rest.len());
            self.at += length;
            column.push_text(&rest[..length])
        };
        if is_value {
            return Ok(());
        }
        let shown: String = String::from_utf8_lossy(&self.bytes[start..self.at]).chars().take(60).collect();
        let reason = match shown.as_str() {
            "" => "expected a value".to_string(),
            shown => format!("{shown} is not {}", column.type_name()),
        };
        Err(Wrong { at: start, field: None, reason })
    }

    /// Reads what happened to a row, in Debezium's words. Where it lies in an envelope, that is in `payload`.
    fn change(&mut self, object: &Object, rows: &mut RowsBuilder) -> Read<usize> {
        let mut change = Change::default();
        let start = self.at;
        self.change_members(object, rows, &mut change)?;
        let RowsBuilder { columns, weights, .. } = rows;
        let weights = weights.get_or_insert_default();
        let (goes, comes) = match change.op {
            Some(b'c' | b'r') => (false, true),
            Some(b'u') => (true, true),
            Some(b'd') => (true, false),
            _ => {
                self.at = start;
                return Err(self.wrong("'op' is none of c, r, u and d"));
            }
        };
        let missing = |what: &str| format!("'{what}' is missing: a change of this kind needs it");
        if goes && change.before.is_none() {
            return Err(self.wrong(missing("before")));
        }
        if comes && change.after.is_none() {
            return Err(self.wrong(missing("after")));
        }
        let mut images: Vec<(usize, i64)> = Vec::with_capacity(2);
        images.extend(change.before.map(|at| (at, -i64::from(goes))));
        images.extend(change.after.map(|at| (at, i64::from(comes))));
        images.sort_unstable();
        weights.extend(images.iter().map(|(_, weight)| weight));
        debug_assert!(columns.iter().all(|column| column.len() == weights.len()));
        Ok(images.len())
    }

    fn change_members(&mut self, object: &Object, rows: &mut RowsBuilder, change: &mut Change) -> Read<()> {
        self.members(|reader, name| match name {
            b"before" | b"after" => {
                if reader.peek() == Some(b'n') {
                    return reader.word(b"null");
                }
                let image = if name == b"before" { &mut change.before } else { &mut change.after };
                if image.is_some() {
                    return Err(reader.wrong("a row is given twice"));
                }
                *image = Some(change.images);
                change.images += 1;
                reader.object(object, &mut rows.columns).map_err(|wrong| within(name, wrong))
            }
            b"op" => {
                reader.expect(b'"')?;
                change.op = match reader.text()? {
                    ([op], true) => Some(*op),
                    _ => None,
                };
                Ok(())
            }
            b"payload" if change.images == 0 && !change.is_wrapped => {
                change.is_wrapped = true;
                reader.change_members(object, rows, change)
            }
            _ => reader.skip(),
        })
    }
}

/// What a line says happened.
#[derive(Default)]
struct Change {
    /// Which of the rows added are the one before and the one after.
    before: Option<usize>,
    after: Option<usize>,
    images: usize,
    op: Option<u8>,
    is_wrapped: bool,
}

#[cold]
fn within(name: &[u8], mut wrong: Wrong) -> Wrong {
    let name = String::from_utf8_lossy(name);
    wrong.field = Some(match wrong.field {
        Some(inner) => format!("{name}.{inner}"),
        None => name.into_owned(),
    });
    wrong
}
