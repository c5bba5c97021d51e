//! Values as text: columns of a batch, ready to be written value by value.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes as types;
use arrow::datatypes::{DataType, Fields, TimeUnit};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use std::io::Write as _;

/// One column, ready to be written as text.
pub(super) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) values: Values<'a>,
}

/// The values of a column.
pub(super) enum Values<'a> {
    Null,
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    U8(&'a [u8]),
    U16(&'a [u16]),
    U32(&'a [u32]),
    U64(&'a [u64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Decimal {
        values: &'a [i128],
        scale: i8,
    },
    Text {
        offsets: &'a [i32],
        bytes: &'a [u8],
    },
    Bytes {
        offsets: &'a [i32],
        bytes: &'a [u8],
    },
    Date(&'a [i32]),
    Time {
        values: &'a [i64],
        unit: TimeUnit,
    },
    Timestamp {
        values: &'a [i64],
        unit: TimeUnit,
        is_local: bool,
    },
    Struct {
        names: &'a Fields,
        fields: Vec<Cells<'a>>,
    },
    List {
        offsets: &'a [i32],
        items: Box<Cells<'a>>,
    },
    Map {
        offsets: &'a [i32],
        keys: Box<Cells<'a>>,
        items: Box<Cells<'a>>,
    },
    /// Types without a form of their own.
    Other(ArrayFormatter<'a>),
}

/// How times are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TimeStyle {
    /// `2024-01-01 10:00:00.000`
    Sql,
    /// `2024-01-01T10:00:00.000`
    Iso,
    /// As Flink prints rows: `2024-01-01T10:00`, with no more than there is to say.
    Short,
}

impl<'a> Cells<'a> {
    pub(super) fn of(array: &'a ArrayRef) -> Result<Self, ArrowError> {
        macro_rules! values {
            ($arrow:ident) => {
                array.as_primitive::<types::$arrow>().values()
            };
        }
        let values = match array.data_type() {
            DataType::Null => Values::Null,
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::I8(values!(Int8Type)),
            DataType::Int16 => Values::I16(values!(Int16Type)),
            DataType::Int32 => Values::I32(values!(Int32Type)),
            DataType::Int64 => Values::I64(values!(Int64Type)),
            DataType::UInt8 => Values::U8(values!(UInt8Type)),
            DataType::UInt16 => Values::U16(values!(UInt16Type)),
            DataType::UInt32 => Values::U32(values!(UInt32Type)),
            DataType::UInt64 => Values::U64(values!(UInt64Type)),
            DataType::Float32 => Values::F32(values!(Float32Type)),
            DataType::Float64 => Values::F64(values!(Float64Type)),
            DataType::Decimal128(_, scale) => {
                Values::Decimal { values: values!(Decimal128Type), scale: *scale }
            }
            DataType::Utf8 => {
                let array = array.as_string::<i32>();
                Values::Text { offsets: array.value_offsets(), bytes: array.value_data() }
            }
            DataType::Binary => {
                let array = array.as_binary::<i32>();
                Values::Bytes { offsets: array.value_offsets(), bytes: array.value_data() }
            }
            DataType::Date32 => Values::Date(values!(Date32Type)),
            DataType::Time64(unit) => {
                let values = match unit {
                    TimeUnit::Microsecond => values!(Time64MicrosecondType),
                    _ => values!(Time64NanosecondType),
                };
                Values::Time { values, unit: *unit }
            }
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => values!(TimestampSecondType),
                    TimeUnit::Millisecond => values!(TimestampMillisecondType),
                    TimeUnit::Microsecond => values!(TimestampMicrosecondType),
                    TimeUnit::Nanosecond => values!(TimestampNanosecondType),
                };
                Values::Timestamp { values, unit: *unit, is_local: zone.is_some() }
            }
            DataType::Struct(names) => {
                let fields = array.as_struct().columns().iter().map(Cells::of);
                Values::Struct { names, fields: fields.collect::<Result<_, _>>()? }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let items = Box::new(Cells::of(list.values())?);
                Values::List { offsets: list.value_offsets(), items }
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (keys, items) = (Cells::of(map.keys())?, Cells::of(map.values())?);
                Values::Map { offsets: map.value_offsets(), keys: Box::new(keys), items: Box::new(items) }
            }
            _ => Values::Other(ArrayFormatter::try_new(array, &FormatOptions::default())?),
        };
        Ok(Cells { nulls: array.nulls(), values })
    }

    /// The columns of a batch.
    pub(super) fn of_columns(columns: &'a [ArrayRef]) -> Result<Vec<Self>, ArrowError> {
        columns.iter().map(Cells::of).collect()
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        matches!(self.values, Values::Null) || self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }

    /// The bytes of a text.
    #[inline]
    pub(super) fn text(&self, row: usize) -> Option<&'a [u8]> {
        match self.values {
            Values::Text { offsets, bytes } | Values::Bytes { offsets, bytes } => {
                Some(&bytes[offsets[row] as usize..offsets[row + 1] as usize])
            }
            _ => None,
        }
    }

    /// Writes a value that is not null and has no parts.
    pub(super) fn write(&self, row: usize, style: TimeStyle, out: &mut Vec<u8>) {
        match &self.values {
            Values::Bool(array) => {
                out.extend_from_slice(if array.value(row) { b"true" as &[u8] } else { b"false" });
            }
            Values::I8(values) => integer(values[row], out),
            Values::I16(values) => integer(values[row], out),
            Values::I32(values) => integer(values[row], out),
            Values::I64(values) => integer(values[row], out),
            Values::U8(values) => integer(values[row], out),
            Values::U16(values) => integer(values[row], out),
            Values::U32(values) => integer(values[row], out),
            Values::U64(values) => integer(values[row], out),
            Values::F32(values) => shown(&Float(format!("{:?}", values[row])), out),
            Values::F64(values) => shown(&Float(format!("{:?}", values[row])), out),
            Values::Decimal { values, scale } => decimal(values[row], *scale, out),
            Values::Text { offsets, bytes } | Values::Bytes { offsets, bytes } => {
                out.extend_from_slice(&bytes[offsets[row] as usize..offsets[row + 1] as usize]);
            }
            Values::Date(values) => date(i64::from(values[row]), out),
            Values::Time { values, unit } => time_of_day(values[row], *unit, style, out),
            Values::Timestamp { values, unit, is_local } => {
                let per_day = 86_400 * per_second(*unit);
                date(values[row].div_euclid(per_day), out);
                out.push(if style == TimeStyle::Sql { b' ' } else { b'T' });
                time_of_day(values[row].rem_euclid(per_day), *unit, style, out);
                if *is_local {
                    out.push(b'Z');
                }
            }
            Values::Other(formatter) => shown(&formatter.value(row), out),
            Values::Null | Values::Struct { .. } | Values::List { .. } | Values::Map { .. } => {}
        }
    }
}

/// A number as Java names it where it is none.
struct Float(String);

impl std::fmt::Display for Float {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0.as_str() {
            "inf" => "Infinity",
            "-inf" => "-Infinity",
            number => number,
        })
    }
}

fn shown(value: &impl std::fmt::Display, out: &mut Vec<u8>) {
    // Writing to memory does not fail.
    let _ = write!(out, "{value}");
}

fn integer(value: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Ticks of a second.
pub(super) fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn decimal(value: i128, scale: i8, out: &mut Vec<u8>) {
    if value < 0 {
        out.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    let digits = buffer.format(value.unsigned_abs()).as_bytes();
    let Ok(scale) = usize::try_from(scale) else {
        out.extend_from_slice(digits);
        return out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
    };
    let whole = digits.len().saturating_sub(scale);
    out.extend_from_slice(if whole == 0 { b"0" } else { &digits[..whole] });
    if scale > 0 {
        out.push(b'.');
        out.extend(std::iter::repeat_n(b'0', scale.saturating_sub(digits.len())));
        out.extend_from_slice(&digits[whole..]);
    }
}

/// Writes a number with leading zeros.
fn padded(value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    let mut left = value;
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + (left % 10) as u8;
        left /= 10;
    }
}

/// Writes a day, given in days since 1970-01-01.
pub(super) fn date(days: i64, out: &mut Vec<u8>) {
    // Howard Hinnant's algorithm: years begin in March, so that the leap day is their last.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    match year {
        0..=9_999 => padded(year as u64, 4, out),
        _ => shown(&format_args!("{year:+05}"), out),
    }
    out.push(b'-');
    padded(month as u64, 2, out);
    out.push(b'-');
    padded(day as u64, 2, out);
}

fn time_of_day(ticks: i64, unit: TimeUnit, style: TimeStyle, out: &mut Vec<u8>) {
    let (seconds, mut fraction) = (ticks / per_second(unit), (ticks % per_second(unit)) as u64);
    let mut digits = match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    };
    padded((seconds / 3_600) as u64, 2, out);
    out.push(b':');
    padded((seconds / 60 % 60) as u64, 2, out);
    if style == TimeStyle::Short {
        if seconds % 60 == 0 && fraction == 0 {
            return;
        }
        while digits > 0 && fraction.is_multiple_of(1_000) {
            fraction /= 1_000;
            digits -= 3;
        }
    }
    out.push(b':');
    padded((seconds % 60) as u64, 2, out);
    if digits > 0 {
        out.push(b'.');
        padded(fraction, digits, out);
    }
}

#[cfg(test)]
mod tests;
