//! Arguments as functions read them: a column, or one value for all rows. Reading a row costs a branch that is always
//! the same, and no allocation.

use super::calendar::Moment;
use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, Int64Array, PrimitiveArray, StringArray, StringBuilder,
};
use arrow::datatypes::{
    DataType, Date32Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use datafusion_common::{Result, ScalarValue, internal_datafusion_err, internal_err};
use datafusion_expr::ColumnarValue;
use std::sync::Arc;

/// Text.
pub(super) enum Texts<'a> {
    Constant(Option<&'a str>),
    Column(&'a StringArray),
}

impl<'a> Texts<'a> {
    pub(super) fn of(value: &'a ColumnarValue) -> Result<Self> {
        match value {
            ColumnarValue::Scalar(ScalarValue::Utf8(text)) => Ok(Texts::Constant(text.as_deref())),
            ColumnarValue::Scalar(value) if value.is_null() => Ok(Texts::Constant(None)),
            ColumnarValue::Array(array) => match array.as_string_opt::<i32>() {
                Some(column) => Ok(Texts::Column(column)),
                None => internal_err!("text expected, not {}", array.data_type()),
            },
            ColumnarValue::Scalar(value) => internal_err!("text expected, not {}", value.data_type()),
        }
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<&'a str> {
        match self {
            Texts::Constant(text) => *text,
            Texts::Column(column) => column.is_valid(row).then(|| column.value(row)),
        }
    }

    /// The text if it is one for all rows.
    pub(super) fn constant(&self) -> Option<&'a str> {
        match self {
            Texts::Constant(text) => *text,
            Texts::Column(_) => None,
        }
    }

    /// Bytes of text, for a guess of the result's size.
    pub(super) fn bytes(&self, rows: usize) -> usize {
        match self {
            Texts::Constant(text) => text.map_or(0, str::len) * rows,
            Texts::Column(column) => {
                let offsets = column.value_offsets();
                (offsets[offsets.len() - 1] - offsets[0]) as usize
            }
        }
    }
}

/// Numbers, and all else that Arrow keeps as numbers.
pub(super) struct Numbers<T: ArrowPrimitiveType> {
    values: PrimitiveArray<T>,
    is_constant: bool,
}

impl<T: ArrowPrimitiveType> Numbers<T> {
    pub(super) fn of(value: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = array_of(value)?;
        let values = array.as_primitive_opt::<T>().cloned();
        let values = values.ok_or_else(|| {
            internal_datafusion_err!("{} expected, not {}", T::DATA_TYPE, array.data_type())
        })?;
        Ok(Numbers { values, is_constant })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<T::Native> {
        let row = if self.is_constant { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }
}

/// A value as an array, and whether that array has one value for all rows.
pub(super) fn array_of(value: &ColumnarValue) -> Result<(ArrayRef, bool)> {
    match value {
        ColumnarValue::Array(array) => Ok((Arc::clone(array), false)),
        ColumnarValue::Scalar(value) => Ok((value.to_array_of_size(1)?, true)),
    }
}

/// Times as counts of a unit since 1970, or since midnight.
pub(super) struct Times {
    values: Int64Array,
    is_constant: bool,
    /// How many units a second has.
    pub(super) per_second: i64,
}

impl Times {
    pub(super) fn of(value: &ColumnarValue) -> Result<Self> {
        let (array, is_constant) = array_of(value)?;
        let (values, per_second) = counts(&array)?;
        Ok(Times { values, is_constant, per_second })
    }

    /// Numbers that count seconds.
    pub(super) fn seconds(value: &ColumnarValue) -> Result<Self> {
        let Numbers { values, is_constant } = Numbers::<Int64Type>::of(value)?;
        Ok(Times { values, is_constant, per_second: 1 })
    }

    #[inline]
    pub(super) fn get(&self, row: usize) -> Option<i64> {
        let row = if self.is_constant { 0 } else { row };
        self.values.is_valid(row).then(|| self.values.value(row))
    }

    /// Numbers made of the times, without a look at which are NULL.
    pub(super) fn longs(&self, rows: usize, mut make: impl FnMut(i64) -> i64) -> ArrayRef {
        if self.is_constant {
            return number_column::<Int64Type>(rows, |row| self.get(row).map(&mut make));
        }
        let values = self.values.values().iter().map(|value| make(*value)).collect();
        Arc::new(Int64Array::new(values, self.values.nulls().cloned()))
    }

    #[inline]
    pub(super) fn moment(&self, row: usize) -> Option<Moment> {
        self.get(row).map(|value| Moment::of(value, self.per_second))
    }
}

fn counts(array: &ArrayRef) -> Result<(Int64Array, i64)> {
    const MS: i64 = 1_000;
    let widened = |array: &PrimitiveArray<Int32Type>, factor: i64| {
        array.unary::<_, Int64Type>(|value| i64::from(value) * factor)
    };
    Ok(match array.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => {
            (array.as_primitive::<TimestampSecondType>().reinterpret_cast(), 1)
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            (array.as_primitive::<TimestampMillisecondType>().reinterpret_cast(), MS)
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            (array.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(), 1_000_000)
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            (array.as_primitive::<TimestampNanosecondType>().reinterpret_cast(), 1_000_000_000)
        }
        DataType::Date32 => (widened(&array.as_primitive::<Date32Type>().reinterpret_cast(), 86_400_000), MS),
        DataType::Time32(TimeUnit::Second) => {
            (widened(&array.as_primitive::<Time32SecondType>().reinterpret_cast(), 1), 1)
        }
        DataType::Time32(_) => {
            (widened(&array.as_primitive::<Time32MillisecondType>().reinterpret_cast(), 1), MS)
        }
        DataType::Time64(TimeUnit::Microsecond) => {
            (array.as_primitive::<Time64MicrosecondType>().reinterpret_cast(), 1_000_000)
        }
        DataType::Time64(_) => {
            (array.as_primitive::<Time64NanosecondType>().reinterpret_cast(), 1_000_000_000)
        }
        DataType::Utf8 => {
            let texts = array.as_string::<i32>();
            (texts.iter().map(|text| Moment::parse(text?)?.count(MS)).collect(), MS)
        }
        other => return internal_err!("a time expected, not {other}"),
    })
}

/// What was made last, for arguments that are mostly the same from row to row.
pub(super) struct Latest<V> {
    last: Option<(String, V)>,
}

impl<V> Latest<V> {
    pub(super) fn new() -> Self {
        Latest { last: None }
    }

    /// What is made of the text, anew if it is not the last one.
    pub(super) fn of(&mut self, text: &str, make: impl FnOnce(&str) -> Result<V>) -> Result<&mut V> {
        let is_same = self.last.as_ref().is_some_and(|(last, _)| last == text);
        let made = match self.last.take() {
            Some(last) if is_same => last,
            _ => (text.to_string(), make(text)?),
        };
        Ok(&mut self.last.insert(made).1)
    }
}

/// A column of text made row by row.
pub(super) fn text_column<S: AsRef<str>>(
    rows: usize,
    bytes: usize,
    mut row: impl FnMut(usize) -> Option<S>,
) -> ArrayRef {
    let mut out = StringBuilder::with_capacity(rows, bytes);
    for i in 0..rows {
        out.append_option(row(i));
    }
    Arc::new(out.finish())
}

/// A column of numbers made row by row.
pub(super) fn number_column<T: ArrowPrimitiveType>(
    rows: usize,
    row: impl FnMut(usize) -> Option<T::Native>,
) -> ArrayRef {
    Arc::new((0..rows).map(row).collect::<PrimitiveArray<T>>())
}

/// A column of truth values made row by row.
pub(super) fn bool_column(rows: usize, row: impl FnMut(usize) -> Option<bool>) -> ArrayRef {
    Arc::new((0..rows).map(row).collect::<arrow::array::BooleanArray>())
}
