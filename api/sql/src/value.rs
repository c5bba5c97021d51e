//! Single values: what aggregates keep, compare and put out.

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryBuilder, BooleanArray, BooleanBuilder, Decimal128Builder, Float64Builder,
    Int64Builder, StringArray, StringBuilder, new_empty_array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int64Type};
use arrow::error::ArrowError;
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::hash::{Hash, Hasher};

use crate::rows::{RowReader, RowWriter};

/// A value of any type. Those of one column are all of one kind; they order as SQL orders them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Value {
    Bool(bool),
    /// Whole numbers, and dates and times as those.
    Int(i64),
    /// Decimals without their point.
    Decimal(i128),
    Float(f64),
    Text(CompactString),
    Bytes(Vec<u8>),
    /// What has parts, as rows are kept.
    Row(Box<[u8]>),
}

impl Value {
    fn rank(&self) -> u8 {
        match self {
            Value::Bool(_) => 0,
            Value::Int(_) => 1,
            Value::Decimal(_) => 2,
            Value::Float(_) => 3,
            Value::Text(_) => 4,
            Value::Bytes(_) => 5,
            Value::Row(_) => 6,
        }
    }
}

impl Ord for Value {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => a.cmp(b),
            (Value::Text(a), Value::Text(b)) => a.cmp(b),
            (Value::Decimal(a), Value::Decimal(b)) => a.cmp(b),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Bytes(a), Value::Bytes(b)) => a.cmp(b),
            (Value::Row(a), Value::Row(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Value {}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        match self {
            Value::Bool(value) => state.write_u8(u8::from(*value)),
            Value::Int(value) => state.write_i64(*value),
            Value::Decimal(value) => state.write_i128(*value),
            Value::Float(value) => state.write_u64(value.to_bits()),
            Value::Text(value) => state.write(value.as_bytes()),
            Value::Bytes(value) => state.write(value),
            Value::Row(value) => state.write(value),
        }
    }
}

/// Hashes values for maps that live in one state: fast, and of no meaning outside.
#[derive(Clone, Copy, Default)]
pub(crate) struct ValueHasher(u64);

impl ValueHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word ^ 0x243f_6a88_85a3_08d3) * 0x9e37_79b9_7f4a_7c15_u128;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for ValueHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    #[inline]
    fn write_i64(&mut self, value: i64) {
        self.word(value as u64);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.word(value);
    }
}

/// How values of a type are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Bool,
    Int,
    Decimal,
    Float,
    Text,
    Bytes,
    Row,
}

/// How values of a type are held.
pub(crate) fn form_of(data_type: &DataType) -> Form {
    match data_type {
        DataType::Boolean => Form::Bool,
        DataType::Decimal128(..) => Form::Decimal,
        DataType::Float16 | DataType::Float32 | DataType::Float64 => Form::Float,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Form::Text,
        DataType::Binary => Form::Bytes,
        DataType::UInt64 => Form::Row,
        other if other.is_integer() || is_time(other) => Form::Int,
        _ => Form::Row,
    }
}

fn is_time(data_type: &DataType) -> bool {
    use DataType::{Date32, Date64, Duration, Time32, Time64, Timestamp};
    matches!(data_type, Date32 | Date64 | Time32(_) | Time64(_) | Timestamp(..) | Duration(_))
}

/// The type through which 32-bit values become 64-bit ones.
fn as_int64(array: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let narrow = matches!(array.data_type(), DataType::Date32 | DataType::Time32(_));
    if narrow {
        return cast(&cast(array, &DataType::Int32)?, &DataType::Int64);
    }
    cast(array, &DataType::Int64)
}

/// A column, ready to be read value by value.
pub(crate) enum Values {
    Bool(BooleanArray),
    Int(arrow::buffer::ScalarBuffer<i64>, Option<NullBuffer>),
    Decimal(arrow::buffer::ScalarBuffer<i128>, Option<NullBuffer>),
    Float(arrow::buffer::ScalarBuffer<f64>, Option<NullBuffer>),
    Text(StringArray),
    Bytes(arrow::array::BinaryArray),
    Row(ArrayRef),
}

impl Values {
    /// Of a column.
    pub(crate) fn of(array: &ArrayRef) -> Result<Self, ArrowError> {
        let nulls = array.nulls().cloned();
        Ok(match form_of(array.data_type()) {
            Form::Bool => Values::Bool(array.as_boolean().clone()),
            Form::Int => {
                let array = as_int64(array)?;
                Values::Int(array.as_primitive::<Int64Type>().values().clone(), nulls)
            }
            Form::Decimal => Values::Decimal(array.as_primitive::<Decimal128Type>().values().clone(), nulls),
            Form::Float => {
                let array = cast(array, &DataType::Float64)?;
                Values::Float(array.as_primitive::<Float64Type>().values().clone(), nulls)
            }
            Form::Text => Values::Text(cast(array, &DataType::Utf8)?.as_string::<i32>().clone()),
            Form::Bytes => Values::Bytes(array.as_binary::<i32>().clone()),
            Form::Row => Values::Row(array.clone()),
        })
    }

    /// Whether there is no value in a row.
    #[inline]
    pub(crate) fn is_null(&self, row: usize) -> bool {
        let nulls = match self {
            Values::Int(_, nulls) | Values::Decimal(_, nulls) | Values::Float(_, nulls) => nulls.as_ref(),
            Values::Bool(array) => array.nulls(),
            Values::Text(array) => array.nulls(),
            Values::Bytes(array) => array.nulls(),
            Values::Row(array) => array.nulls(),
        };
        nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The value in a row.
    #[inline]
    pub(crate) fn get(&self, row: usize) -> Option<Value> {
        if self.is_null(row) {
            return None;
        }
        Some(match self {
            Values::Bool(array) => Value::Bool(array.value(row)),
            Values::Int(values, _) => Value::Int(values[row]),
            Values::Decimal(values, _) => Value::Decimal(values[row]),
            Values::Float(values, _) => Value::Float(values[row]),
            Values::Text(array) => Value::Text(CompactString::new(array.value(row))),
            Values::Bytes(array) => Value::Bytes(array.value(row).to_vec()),
            Values::Row(array) => {
                let one = [array.slice(row, 1)];
                Value::Row(RowReader::of_arrays(&one).ok()?.row(0))
            }
        })
    }
}

/// Makes a column of values.
pub(crate) struct ValueBuilder {
    data_type: DataType,
    column: Building,
}

enum Building {
    Bool(BooleanBuilder),
    Int(Int64Builder),
    Decimal(Decimal128Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Row(RowWriter),
}

impl ValueBuilder {
    /// A column of this type.
    pub(crate) fn new(data_type: &DataType) -> Result<Self, ArrowError> {
        let column = match form_of(data_type) {
            Form::Bool => Building::Bool(BooleanBuilder::new()),
            Form::Int => Building::Int(Int64Builder::new()),
            Form::Decimal => Building::Decimal(Decimal128Builder::new()),
            Form::Float => Building::Float(Float64Builder::new()),
            Form::Text => Building::Text(StringBuilder::new()),
            Form::Bytes => Building::Bytes(BinaryBuilder::new()),
            Form::Row => Building::Row(
                RowWriter::new([data_type]).map_err(|error| ArrowError::ExternalError(error.into()))?,
            ),
        };
        Ok(ValueBuilder { data_type: data_type.clone(), column })
    }

    /// Adds a value; one of another kind, which only state of another program can hold, counts as null.
    pub(crate) fn push(&mut self, value: Option<&Value>) -> Result<(), ArrowError> {
        match (&mut self.column, value) {
            (Building::Bool(column), Some(Value::Bool(value))) => column.append_value(*value),
            (Building::Int(column), Some(Value::Int(value))) => column.append_value(*value),
            (Building::Decimal(column), Some(Value::Decimal(value))) => column.append_value(*value),
            (Building::Float(column), Some(Value::Float(value))) => column.append_value(*value),
            (Building::Text(column), Some(Value::Text(value))) => column.append_value(value),
            (Building::Bytes(column), Some(Value::Bytes(value))) => column.append_value(value),
            (Building::Row(rows), Some(Value::Row(row))) => rows.push(row)?,
            (Building::Row(rows), _) => rows.push_nulls(),
            (Building::Bool(column), _) => column.append_null(),
            (Building::Int(column), _) => column.append_null(),
            (Building::Decimal(column), _) => column.append_null(),
            (Building::Float(column), _) => column.append_null(),
            (Building::Text(column), _) => column.append_null(),
            (Building::Bytes(column), _) => column.append_null(),
        }
        Ok(())
    }

    /// The column.
    pub(crate) fn finish(self) -> Result<ArrayRef, ArrowError> {
        use std::sync::Arc;
        let array: ArrayRef = match self.column {
            Building::Bool(mut column) => Arc::new(column.finish()),
            Building::Int(mut column) => {
                let array: ArrayRef = Arc::new(column.finish());
                match &self.data_type {
                    DataType::Int64 => array,
                    DataType::Date32 | DataType::Time32(_) => {
                        cast(&cast(&array, &DataType::Int32)?, &self.data_type)?
                    }
                    other => cast(&array, other)?,
                }
            }
            Building::Decimal(mut column) => {
                let DataType::Decimal128(precision, scale) = self.data_type else {
                    return Ok(new_empty_array(&self.data_type));
                };
                Arc::new(column.finish().with_precision_and_scale(precision, scale)?)
            }
            Building::Float(mut column) => {
                let array: ArrayRef = Arc::new(column.finish());
                cast(&array, &self.data_type)?
            }
            Building::Text(mut column) => Arc::new(column.finish()),
            Building::Bytes(mut column) => Arc::new(column.finish()),
            Building::Row(rows) => rows.into_arrays()?.remove(0),
        };
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Date32Array, Float32Array, Int16Array, TimestampMicrosecondArray, UInt64Array};
    use std::sync::Arc;

    #[test]
    fn values_of_every_form_come_back_as_they_were() {
        let arrays: [ArrayRef; 8] = [
            Arc::new(BooleanArray::from(vec![Some(true), None])),
            Arc::new(Int16Array::from(vec![Some(-3), None])),
            Arc::new(Date32Array::from(vec![Some(19_000), None])),
            Arc::new(TimestampMicrosecondArray::from(vec![Some(5), None])),
            Arc::new(Float32Array::from(vec![Some(0.5), None])),
            Arc::new(StringArray::from(vec![Some("ä"), None])),
            Arc::new(UInt64Array::from(vec![Some(u64::MAX), None])),
            Arc::new(
                arrow::array::Decimal128Array::from(vec![Some(123), None])
                    .with_precision_and_scale(7, 2)
                    .unwrap(),
            ),
        ];
        for array in arrays {
            let values = Values::of(&array).unwrap();
            let mut builder = ValueBuilder::new(array.data_type()).unwrap();
            (0..2).for_each(|row| builder.push(values.get(row).as_ref()).unwrap());
            assert_eq!(&builder.finish().unwrap(), &array);
        }
    }
}
