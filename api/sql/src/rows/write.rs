//! Rows of a batch, written as bytes.

use super::RowKey;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Float32Type, Float64Type};
use smallvec::SmallVec;
use thiserror::Error;

/// A type whose values cannot be kept.
#[derive(Debug, Error)]
#[error("values of type {0} cannot be keys or be kept in state: cast them to another type")]
pub(crate) struct Unsupported(pub(crate) DataType);

/// Bytes that rows of this type have of fixed width, if it has.
pub(super) fn width_of(data_type: &DataType) -> Option<usize> {
    data_type.primitive_width().filter(|_| !matches!(data_type, DataType::Float32 | DataType::Float64))
}

/// One column, ready to be written.
enum Column<'a> {
    Fixed { width: usize, bytes: &'a [u8], nulls: Option<&'a NullBuffer> },
    Bool(&'a BooleanArray),
    Float32 { values: &'a [f32], nulls: Option<&'a NullBuffer> },
    Float64 { values: &'a [f64], nulls: Option<&'a NullBuffer> },
    Bytes { offsets: &'a [i32], bytes: &'a [u8], nulls: Option<&'a NullBuffer> },
    Struct { fields: Vec<Column<'a>>, nulls: Option<&'a NullBuffer> },
    List { offsets: &'a [i32], items: Box<Column<'a>>, nulls: Option<&'a NullBuffer> },
    Null,
}

/// Writes rows of one batch.
pub(crate) struct RowReader<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> RowReader<'a> {
    /// Of some of the batch's columns, in the given order.
    pub(crate) fn of_columns(batch: &'a RecordBatch, columns: &[usize]) -> Result<Self, Unsupported> {
        let columns = columns.iter().map(|column| Column::of(batch.column(*column)));
        Ok(RowReader { columns: columns.collect::<Result<_, _>>()? })
    }

    /// Of all columns.
    pub(crate) fn of_batch(batch: &'a RecordBatch) -> Result<Self, Unsupported> {
        Self::of_arrays(batch.columns())
    }

    /// Of arrays of one length.
    pub(crate) fn of_arrays(arrays: &'a [ArrayRef]) -> Result<Self, Unsupported> {
        Ok(RowReader { columns: arrays.iter().map(Column::of).collect::<Result<_, _>>()? })
    }

    /// Appends a row.
    #[inline]
    pub(crate) fn write(&self, row: usize, out: &mut impl Out) {
        for column in &self.columns {
            column.write(row, out);
        }
    }

    /// A row as a key.
    #[inline]
    pub(crate) fn key(&self, row: usize) -> RowKey {
        let mut bytes = SmallVec::new();
        self.write(row, &mut bytes);
        RowKey(bytes)
    }

    /// A row as bytes of its own.
    pub(crate) fn row(&self, row: usize) -> Box<[u8]> {
        let mut bytes = Vec::with_capacity(64);
        self.write(row, &mut bytes);
        bytes.into_boxed_slice()
    }

    /// Whether one of the columns is null in a row.
    pub(crate) fn has_null(&self, row: usize) -> bool {
        self.columns.iter().any(|column| column.is_null(row))
    }
}

/// Where bytes of rows go.
pub(crate) trait Out {
    fn put(&mut self, bytes: &[u8]);
}

impl Out for Vec<u8> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Out for SmallVec<[u8; 24]> {
    #[inline(always)]
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

fn is_null(nulls: Option<&NullBuffer>, row: usize) -> bool {
    nulls.is_some_and(|nulls| nulls.is_null(row))
}

impl<'a> Column<'a> {
    fn of(array: &'a ArrayRef) -> Result<Self, Unsupported> {
        let nulls = array.nulls();
        Ok(match array.data_type() {
            DataType::Null => Column::Null,
            DataType::Boolean => Column::Bool(array.as_boolean()),
            DataType::Float32 => {
                Column::Float32 { values: array.as_primitive::<Float32Type>().values(), nulls }
            }
            DataType::Float64 => {
                Column::Float64 { values: array.as_primitive::<Float64Type>().values(), nulls }
            }
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Column::Bytes { offsets: array.value_offsets(), bytes: array.value_data(), nulls }
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Column::Bytes { offsets: array.value_offsets(), bytes: array.value_data(), nulls }
            }
            DataType::Struct(_) => {
                let fields = array.as_struct().columns().iter().map(Column::of);
                Column::Struct { fields: fields.collect::<Result<_, _>>()?, nulls }
            }
            DataType::List(_) => {
                let array = array.as_list::<i32>();
                let items = Box::new(Column::of(array.values())?);
                Column::List { offsets: array.value_offsets(), items, nulls }
            }
            DataType::Map(..) => {
                let array = array.as_map();
                let fields = array.entries().columns().iter().map(Column::of);
                let items = Column::Struct { fields: fields.collect::<Result<_, _>>()?, nulls: None };
                Column::List { offsets: array.value_offsets(), items: Box::new(items), nulls }
            }
            data_type => {
                let width = width_of(data_type).ok_or_else(|| Unsupported(data_type.clone()))?;
                let bytes = primitive_bytes(array, width);
                Column::Fixed { width, bytes, nulls }
            }
        })
    }

    fn is_null(&self, row: usize) -> bool {
        match self {
            Column::Fixed { nulls, .. }
            | Column::Float32 { nulls, .. }
            | Column::Float64 { nulls, .. }
            | Column::Bytes { nulls, .. }
            | Column::Struct { nulls, .. }
            | Column::List { nulls, .. } => is_null(*nulls, row),
            Column::Bool(array) => array.is_null(row),
            Column::Null => true,
        }
    }

    #[inline]
    fn write(&self, row: usize, out: &mut impl Out) {
        if self.is_null(row) {
            return out.put(&[0]);
        }
        match self {
            Column::Fixed { width: 8, bytes, .. } => {
                let mut value = [1; 9];
                value[1..].copy_from_slice(&bytes[row * 8..row * 8 + 8]);
                out.put(&value);
            }
            Column::Fixed { width, bytes, .. } => {
                out.put(&[1]);
                out.put(&bytes[row * width..][..*width]);
            }
            Column::Bool(array) => out.put(&[1, u8::from(array.value(row))]),
            Column::Float32 { values, .. } => {
                out.put(&[1]);
                out.put(&canonical(f64::from(values[row])).to_le_bytes());
            }
            Column::Float64 { values, .. } => {
                out.put(&[1]);
                out.put(&canonical(values[row]).to_le_bytes());
            }
            Column::Bytes { offsets, bytes, .. } => {
                let value = &bytes[offsets[row] as usize..offsets[row + 1] as usize];
                out.put(&[1]);
                out.put(&(value.len() as u32).to_le_bytes());
                out.put(value);
            }
            Column::Struct { fields, .. } => {
                out.put(&[1]);
                fields.iter().for_each(|field| field.write(row, out));
            }
            Column::List { offsets, items, .. } => {
                let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
                out.put(&[1]);
                out.put(&((to - from) as u32).to_le_bytes());
                (from..to).for_each(|item| items.write(item, out));
            }
            Column::Null => {}
        }
    }
}

fn canonical(value: f64) -> f64 {
    if value.is_nan() {
        f64::NAN
    } else if value == 0.0 {
        0.0
    } else {
        value
    }
}

/// The values of an array of fixed width, whatever their type.
fn primitive_bytes(array: &ArrayRef, width: usize) -> &[u8] {
    macro_rules! bytes {
        ($($data_type:pat => $arrow:ident),* $(,)?) => {
            match array.data_type() {
                $($data_type => array.as_primitive::<arrow::datatypes::$arrow>().values().inner().as_slice(),)*
                other => unreachable!("{other} has no fixed width"),
            }
        };
    }
    use arrow::datatypes::{IntervalUnit, TimeUnit};
    let bytes = bytes!(
        DataType::Int8 => Int8Type,
        DataType::Int16 => Int16Type,
        DataType::Int32 => Int32Type,
        DataType::Int64 => Int64Type,
        DataType::UInt8 => UInt8Type,
        DataType::UInt16 => UInt16Type,
        DataType::UInt32 => UInt32Type,
        DataType::UInt64 => UInt64Type,
        DataType::Float16 => Float16Type,
        DataType::Date32 => Date32Type,
        DataType::Date64 => Date64Type,
        DataType::Time32(TimeUnit::Second) => Time32SecondType,
        DataType::Time32(_) => Time32MillisecondType,
        DataType::Time64(TimeUnit::Microsecond) => Time64MicrosecondType,
        DataType::Time64(_) => Time64NanosecondType,
        DataType::Timestamp(TimeUnit::Second, _) => TimestampSecondType,
        DataType::Timestamp(TimeUnit::Millisecond, _) => TimestampMillisecondType,
        DataType::Timestamp(TimeUnit::Microsecond, _) => TimestampMicrosecondType,
        DataType::Timestamp(TimeUnit::Nanosecond, _) => TimestampNanosecondType,
        DataType::Duration(TimeUnit::Second) => DurationSecondType,
        DataType::Duration(TimeUnit::Millisecond) => DurationMillisecondType,
        DataType::Duration(TimeUnit::Microsecond) => DurationMicrosecondType,
        DataType::Duration(TimeUnit::Nanosecond) => DurationNanosecondType,
        DataType::Interval(IntervalUnit::YearMonth) => IntervalYearMonthType,
        DataType::Interval(IntervalUnit::DayTime) => IntervalDayTimeType,
        DataType::Interval(IntervalUnit::MonthDayNano) => IntervalMonthDayNanoType,
        DataType::Decimal32(..) => Decimal32Type,
        DataType::Decimal64(..) => Decimal64Type,
        DataType::Decimal128(..) => Decimal128Type,
        DataType::Decimal256(..) => Decimal256Type,
    );
    debug_assert_eq!(bytes.len(), array.len() * width);
    bytes
}
