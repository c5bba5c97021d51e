//! Columns that are made of text, value by value. A row that turns out malformed is taken back.

use super::base64;
use crate::connectors::parse;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray, NullBufferBuilder,
    PrimitiveArray, StringArray, StructArray, new_empty_array,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{self as types, ArrowPrimitiveType, DataType, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use std::sync::Arc;

/// A column being made.
pub(super) struct Column {
    pub(super) nulls: NullBufferBuilder,
    pub(super) values: Values,
    data_type: DataType,
}

/// The values of a column; nulls have some value too.
pub(super) enum Values {
    Bool(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: i8 },
    Text { offsets: Vec<i32>, bytes: Vec<u8> },
    Bytes { offsets: Vec<i32>, bytes: Vec<u8> },
    Date(Vec<i32>),
    Time { values: Vec<i64>, unit: TimeUnit },
    Timestamp { values: Vec<i64>, unit: TimeUnit },
    Struct { fields: Fields, columns: Vec<Column> },
    List { item: FieldRef, offsets: Vec<i32>, items: Box<Column> },
    Map { entries: FieldRef, offsets: Vec<i32>, keys: Box<Column>, items: Box<Column> },
}

impl Column {
    /// A column of a type; nothing if values of the type have no form as text.
    pub(super) fn new(data_type: &DataType) -> Option<Self> {
        let values = match data_type {
            DataType::Boolean => Values::Bool(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Values::I8(Vec::new()),
            DataType::Int16 => Values::I16(Vec::new()),
            DataType::Int32 => Values::I32(Vec::new()),
            DataType::Int64 => Values::I64(Vec::new()),
            DataType::Float32 => Values::F32(Vec::new()),
            DataType::Float64 => Values::F64(Vec::new()),
            DataType::Decimal128(precision, scale) => {
                Values::Decimal { values: Vec::new(), precision: *precision, scale: *scale }
            }
            DataType::Utf8 => Values::Text { offsets: vec![0], bytes: Vec::new() },
            DataType::Binary => Values::Bytes { offsets: vec![0], bytes: Vec::new() },
            DataType::Date32 => Values::Date(Vec::new()),
            DataType::Time64(unit) => Values::Time { values: Vec::new(), unit: *unit },
            DataType::Timestamp(unit, _) => Values::Timestamp { values: Vec::new(), unit: *unit },
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| Column::new(field.data_type()));
                Values::Struct { fields: fields.clone(), columns: columns.collect::<Option<_>>()? }
            }
            DataType::List(item) => {
                let items = Box::new(Column::new(item.data_type())?);
                Values::List { item: Arc::clone(item), offsets: vec![0], items }
            }
            DataType::Map(entries, _) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let [key, item] = &fields[..] else { return None };
                Values::Map {
                    entries: Arc::clone(entries),
                    offsets: vec![0],
                    keys: Box::new(Column::new(key.data_type())?),
                    items: Box::new(Column::new(item.data_type())?),
                }
            }
            _ => return None,
        };
        Some(Column { nulls: NullBufferBuilder::new(0), values, data_type: data_type.clone() })
    }

    /// Number of values.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// The SQL type, for messages.
    pub(super) fn type_name(&self) -> &'static str {
        match self.values {
            Values::Bool(_) => "a BOOLEAN",
            Values::I8(_) => "a TINYINT",
            Values::I16(_) => "a SMALLINT",
            Values::I32(_) => "an INT",
            Values::I64(_) => "a BIGINT",
            Values::F32(_) => "a FLOAT",
            Values::F64(_) => "a DOUBLE",
            Values::Decimal { .. } => "a DECIMAL of this precision",
            Values::Text { .. } => "a STRING",
            Values::Bytes { .. } => "BYTES in base64",
            Values::Date(_) => "a DATE",
            Values::Time { .. } => "a TIME",
            Values::Timestamp { .. } => "a TIMESTAMP",
            Values::Struct { .. } => "a ROW",
            Values::List { .. } => "an ARRAY",
            Values::Map { .. } => "a MAP",
        }
    }

    pub(super) fn push_null(&mut self) {
        self.nulls.append_null();
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::I8(values) => values.push(0),
            Values::I16(values) => values.push(0),
            Values::I32(values) | Values::Date(values) => values.push(0),
            Values::I64(values) | Values::Time { values, .. } | Values::Timestamp { values, .. } => {
                values.push(0);
            }
            Values::F32(values) => values.push(0.0),
            Values::F64(values) => values.push(0.0),
            Values::Decimal { values, .. } => values.push(0),
            Values::Text { offsets, bytes } | Values::Bytes { offsets, bytes } => {
                offsets.push(bytes.len() as i32);
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(Column::push_null),
            Values::List { offsets, .. } | Values::Map { offsets, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
            }
        }
    }

    /// Adds a value; says whether the text is one of the column's type.
    #[inline]
    pub(super) fn push_text(&mut self, text: &[u8]) -> bool {
        let is_value = self.values.push_text(text);
        if is_value {
            self.nulls.append_non_null();
        }
        is_value
    }

    /// Takes back what is behind the first `rows` values, also where a value was begun only.
    pub(super) fn truncate(&mut self, rows: usize) {
        self.nulls.truncate(rows);
        match &mut self.values {
            Values::Bool(values) => values.truncate(rows),
            Values::I8(values) => values.truncate(rows),
            Values::I16(values) => values.truncate(rows),
            Values::I32(values) | Values::Date(values) => values.truncate(rows),
            Values::I64(values) | Values::Time { values, .. } | Values::Timestamp { values, .. } => {
                values.truncate(rows);
            }
            Values::F32(values) => values.truncate(rows),
            Values::F64(values) => values.truncate(rows),
            Values::Decimal { values, .. } => values.truncate(rows),
            Values::Text { offsets, bytes } | Values::Bytes { offsets, bytes } => {
                offsets.truncate(rows + 1);
                bytes.truncate(last(offsets));
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.truncate(rows)),
            Values::List { offsets, items, .. } => {
                offsets.truncate(rows + 1);
                items.truncate(last(offsets));
            }
            Values::Map { offsets, keys, items, .. } => {
                offsets.truncate(rows + 1);
                keys.truncate(last(offsets));
                items.truncate(last(offsets));
            }
        }
    }

    /// The values so far; the column is empty then.
    pub(super) fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let empty = Column::new(&self.data_type);
        let full = match empty {
            Some(empty) => std::mem::replace(self, empty),
            None => return Ok(new_empty_array(&self.data_type)),
        };
        full.finish()
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let rows = self.len();
        let nulls = self.nulls.finish();
        Ok(match self.values {
            Values::Bool(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::I8(values) => array::<types::Int8Type>(values, nulls, &self.data_type),
            Values::I16(values) => array::<types::Int16Type>(values, nulls, &self.data_type),
            Values::I32(values) => array::<types::Int32Type>(values, nulls, &self.data_type),
            Values::I64(values) => array::<types::Int64Type>(values, nulls, &self.data_type),
            Values::F32(values) => array::<types::Float32Type>(values, nulls, &self.data_type),
            Values::F64(values) => array::<types::Float64Type>(values, nulls, &self.data_type),
            Values::Decimal { values, .. } => array::<types::Decimal128Type>(values, nulls, &self.data_type),
            Values::Date(values) => array::<types::Date32Type>(values, nulls, &self.data_type),
            Values::Time { values, unit: TimeUnit::Microsecond } => {
                array::<types::Time64MicrosecondType>(values, nulls, &self.data_type)
            }
            Values::Time { values, .. } => {
                array::<types::Time64NanosecondType>(values, nulls, &self.data_type)
            }
            Values::Timestamp { values, unit } => match unit {
                TimeUnit::Second => array::<types::TimestampSecondType>(values, nulls, &self.data_type),
                TimeUnit::Millisecond => {
                    array::<types::TimestampMillisecondType>(values, nulls, &self.data_type)
                }
                TimeUnit::Microsecond => {
                    array::<types::TimestampMicrosecondType>(values, nulls, &self.data_type)
                }
                TimeUnit::Nanosecond => {
                    array::<types::TimestampNanosecondType>(values, nulls, &self.data_type)
                }
            },
            Values::Text { offsets, bytes } => {
                Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls)?)
            }
            Values::Bytes { offsets, bytes } => {
                Arc::new(BinaryArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), nulls)?)
            }
            Values::Struct { fields, columns } => {
                let columns = columns.into_iter().map(Column::finish).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields, columns, nulls, rows)?)
            }
            Values::List { item, offsets, items } => {
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(ListArray::try_new(item, offsets, items.finish()?, nulls)?)
            }
            Values::Map { entries, offsets, keys, items } => {
                let DataType::Struct(fields) = entries.data_type() else {
                    return Err(ArrowError::SchemaError("a map without entries".into()));
                };
                let columns = vec![keys.finish()?, items.finish()?];
                let rows = StructArray::try_new(fields.clone(), columns, None)?;
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(MapArray::try_new(entries, offsets, rows, nulls, false)?)
            }
        })
    }
}

fn last(offsets: &[i32]) -> usize {
    offsets.last().map_or(0, |end| *end as usize)
}

fn array<T: ArrowPrimitiveType>(
    values: Vec<T::Native>,
    nulls: Option<NullBuffer>,
    data_type: &DataType,
) -> ArrayRef {
    // Only precision, scale and time zone may differ.
    Arc::new(PrimitiveArray::<T>::new(values.into(), nulls).with_data_type(data_type.clone()))
}

impl Values {
    #[inline]
    fn push_text(&mut self, text: &[u8]) -> bool {
        fn push<T>(values: &mut Vec<T>, value: Option<T>) -> bool {
            let is_value = value.is_some();
            values.extend(value);
            is_value
        }
        match self {
            Values::Text { offsets, bytes } => {
                bytes.extend_from_slice(text);
                offsets.push(bytes.len() as i32);
                true
            }
            Values::I64(values) => push(values, parse::integer(text)),
            Values::I32(values) => push(values, parse::integer(text).and_then(|n| i32::try_from(n).ok())),
            Values::I16(values) => push(values, parse::integer(text).and_then(|n| i16::try_from(n).ok())),
            Values::I8(values) => push(values, parse::integer(text).and_then(|n| i8::try_from(n).ok())),
            Values::F64(values) => push(values, parse::float(text)),
            Values::F32(values) => {
                push(values, std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()))
            }
            Values::Decimal { values, precision, scale } => {
                push(values, parse::decimal(text, *precision, *scale))
            }
            Values::Bool(values) => match parse::boolean(text) {
                Some(value) => {
                    values.append(value);
                    true
                }
                None => false,
            },
            Values::Date(values) => push(values, parse::date(text)),
            Values::Time { values, unit } => {
                push(values, parse::time(text).and_then(|moment| moment.in_unit(*unit)))
            }
            Values::Timestamp { values, unit } => {
                push(values, parse::timestamp(text).and_then(|moment| moment.in_unit(*unit)))
            }
            Values::Bytes { offsets, bytes } => {
                if !base64::decode(text, bytes) {
                    bytes.truncate(last(offsets));
                    return false;
                }
                offsets.push(bytes.len() as i32);
                true
            }
            Values::Struct { .. } | Values::List { .. } | Values::Map { .. } => false,
        }
    }
}
