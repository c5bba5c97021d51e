//! How the values of one field are made.

use super::Time;
use crate::connector::TableOptions;
use crate::connectors::parse;
use crate::connectors::random::{Draws, Origin, longs};
use crate::error::SqlError;
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, StringArray, StructArray,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use hurtig_datastream::Numbers;
use std::ops::RangeInclusive;
use std::sync::Arc;

const DEFAULT_LENGTH: usize = 100;

/// One field.
pub(super) struct Field {
    data_type: DataType,
    values: Values,
    /// Share of nulls.
    null_rate: f64,
}

enum Values {
    Sequence {
        start: i64,
        end: i64,
    },
    Boolean,
    Integers(RangeInclusive<i128>),
    Floats(RangeInclusive<f64>),
    Text {
        length: usize,
    },
    Bytes {
        length: usize,
    },
    /// Times so many milliseconds behind at most.
    Times {
        max_past: u64,
    },
    Row(Fields, Vec<Field>),
}

impl Field {
    /// Reads a field's options; `name` is its path. Names of options that mean something are added to `known`.
    pub(super) fn of(
        name: &str,
        data_type: &DataType,
        options: &TableOptions,
        known: &mut Vec<String>,
    ) -> Result<Self, SqlError> {
        let mut option = |what: &str| {
            known.push(format!("fields.{name}.{what}"));
            format!("fields.{name}.{what}")
        };
        let (kind, null_rate) = (option("kind"), option("null-rate"));
        let null_rate = match options.parse::<f64>(&null_rate)?.unwrap_or(0.0) {
            rate if (0.0..=1.0).contains(&rate) => rate,
            _ => return Err(SqlError::connector(format!("option '{null_rate}' must be from 0 to 1"))),
        };
        let values = match options.get(&kind).unwrap_or("random") {
            "sequence" => {
                let bound = |name: String| {
                    options.required(&name)?;
                    Ok::<_, SqlError>(options.parse::<i64>(&name)?.unwrap_or(0))
                };
                let (start, end) = (bound(option("start"))?, bound(option("end"))?);
                let is_numeric = data_type.is_numeric() || *data_type == DataType::Utf8;
                if !is_numeric {
                    return Err(SqlError::connector(format!(
                        "field '{name}' cannot be a sequence: it is no number"
                    )));
                }
                let fits = bounds(data_type)
                    .is_none_or(|all| all.contains(&start.into()) && all.contains(&end.into()));
                if !fits {
                    return Err(SqlError::connector(format!(
                        "the sequence of field '{name}' does not fit its type"
                    )));
                }
                Values::Sequence { start, end }
            }
            "random" => match data_type {
                DataType::Boolean => Values::Boolean,
                DataType::Utf8 => Values::Text { length: length(options, &option("length"))? },
                DataType::Binary => Values::Bytes { length: length(options, &option("length"))? },
                DataType::Timestamp(..) | DataType::Date32 => {
                    let past = options.duration(&option("max-past"))?.unwrap_or_default();
                    Values::Times { max_past: past.as_millis() as u64 }
                }
                DataType::Float32 | DataType::Float64 => {
                    let (min, max) = (option("min"), option("max"));
                    let most = if *data_type == DataType::Float32 { f32::MAX.into() } else { f64::MAX };
                    let min_value = options.parse::<f64>(&min)?.unwrap_or(-most);
                    let range = min_value..=options.parse::<f64>(&max)?.unwrap_or(most);
                    if range.is_empty() {
                        return Err(SqlError::connector(format!("option '{max}' is smaller than '{min}'")));
                    }
                    Values::Floats(range)
                }
                DataType::Struct(fields) => {
                    let field = |field: &arrow::datatypes::FieldRef| {
                        Field::of(&format!("{name}.{}", field.name()), field.data_type(), options, known)
                    };
                    Values::Row(fields.clone(), fields.iter().map(field).collect::<Result<_, _>>()?)
                }
                other => {
                    let Some(all) = bounds(other) else {
                        return Err(SqlError::unsupported(format!(
                            "field '{name}' of type {other} cannot be made up"
                        )));
                    };
                    let scale = if let DataType::Decimal128(_, scale) = other { *scale } else { 0 };
                    let bound = |name: &str, default: i128| match options.get(name) {
                        None => Ok(default),
                        Some(text) => parse::decimal(text.trim().as_bytes(), 38, scale).ok_or_else(|| {
                            SqlError::connector(format!("option '{name}' cannot be '{text}'"))
                        }),
                    };
                    let (min, max) = (option("min"), option("max"));
                    let range = bound(&min, *all.start())?..=bound(&max, *all.end())?;
                    if range.is_empty() {
                        return Err(SqlError::connector(format!("option '{max}' is smaller than '{min}'")));
                    }
                    if !all.contains(range.start()) || !all.contains(range.end()) {
                        return Err(SqlError::connector(format!(
                            "options '{min}' and '{max}' do not fit the field's type"
                        )));
                    }
                    Values::Integers(range)
                }
            },
            other => {
                return Err(SqlError::connector(format!("option '{kind}' cannot be '{other}'"))
                    .with_hint("it takes random or sequence"));
            }
        };
        Ok(Field { data_type: data_type.clone(), values, null_rate })
    }

    /// How many rows there can be, if a sequence says so.
    pub(super) fn rows(&self) -> Option<u64> {
        match &self.values {
            Values::Sequence { start, end } => {
                Some(u64::try_from(i128::from(*end) - i128::from(*start) + 1).unwrap_or(0))
            }
            Values::Row(_, fields) => fields.iter().filter_map(Field::rows).min(),
            _ => None,
        }
    }

    /// Makes the values of some rows. `place` tells the field apart from others.
    pub(super) fn make(
        &self,
        rows: Numbers,
        seed: u64,
        place: usize,
        time: Time,
    ) -> Result<ArrayRef, ArrowError> {
        let draws = |row: u64| Origin::of(seed, row).field(place);
        let nulls = (self.null_rate > 0.0).then(|| {
            let limit = (self.null_rate * u32::MAX as f64) as u64;
            let seed = seed ^ 0x6e75_6c6c;
            let is_valid = |row: u64| Origin::of(seed, row).field(place).number() >> 32 >= limit;
            NullBuffer::new(rows.iter().map(is_valid).collect::<BooleanBuffer>())
        });
        let integers = || -> Vec<i128> {
            match &self.values {
                Values::Sequence { start, .. } => {
                    rows.iter().map(|row| i128::from(*start) + i128::from(row)).collect()
                }
                Values::Integers(range) => rows.iter().map(|row| between(&mut draws(row), range)).collect(),
                _ => Vec::new(),
            }
        };
        macro_rules! integers {
            ($array:ident, $native:ty) => {
                Arc::new($array::new(integers().into_iter().map(|value| value as $native).collect(), nulls))
            };
        }
        macro_rules! floats {
            ($array:ident, $native:ty) => {{
                let values: Vec<$native> = match &self.values {
                    Values::Floats(range) => rows
                        .iter()
                        .map(|row| {
                            let lot = (draws(row).number() >> 11) as f64 / (1u64 << 53) as f64;
                            (range.start() * (1.0 - lot) + range.end() * lot) as $native
                        })
                        .collect(),
                    _ => integers().into_iter().map(|value| value as $native).collect(),
                };
                Arc::new($array::new(values.into(), nulls))
            }};
        }
        Ok(match (&self.data_type, &self.values) {
            (DataType::Int8, _) => integers!(Int8Array, i8),
            (DataType::Int16, _) => integers!(Int16Array, i16),
            (DataType::Int32, _) => integers!(Int32Array, i32),
            (DataType::Int64, _) => integers!(Int64Array, i64),
            (DataType::Float32, _) => floats!(Float32Array, f32),
            (DataType::Float64, _) => floats!(Float64Array, f64),
            (DataType::Decimal128(precision, scale), values) => {
                let unit = match values {
                    Values::Sequence { .. } => 10i128.pow(u32::try_from(*scale).unwrap_or(0)),
                    _ => 1,
                };
                let values: Vec<i128> = integers().into_iter().map(|value| value * unit).collect();
                Arc::new(
                    Decimal128Array::new(values.into(), nulls)
                        .with_precision_and_scale(*precision, *scale)?,
                )
            }
            (_, Values::Boolean) => {
                let values = rows.iter().map(|row| draws(row).number() >> 63 == 1);
                Arc::new(BooleanArray::new(values.collect::<BooleanBuffer>(), nulls))
            }
            (DataType::Date32, Values::Times { max_past }) => {
                let day = |row| {
                    past(&mut draws(row), time.of(row, rows.now), *max_past).div_euclid(86_400_000) as i32
                };
                Arc::new(Date32Array::new(rows.iter().map(day).collect(), nulls))
            }
            (data_type, Values::Times { max_past }) => {
                let at = |row| past(&mut draws(row), time.of(row, rows.now), *max_past);
                longs(rows.iter().map(at).collect(), nulls, data_type)
            }
            (_, Values::Text { length }) => {
                let (offsets, mut bytes) = strings(rows, *length, &draws);
                // Text is hexadecimal, as Flink's is.
                bytes.iter_mut().for_each(|byte| *byte = b"0123456789abcdef"[usize::from(*byte & 15)]);
                Arc::new(StringArray::try_new(offsets, bytes.into(), nulls)?)
            }
            (_, Values::Bytes { length }) => {
                let (offsets, bytes) = strings(rows, *length, &draws);
                Arc::new(BinaryArray::try_new(offsets, bytes.into(), nulls)?)
            }
            (_, Values::Row(names, fields)) => {
                let column = |(at, field): (usize, &Field)| {
                    // Fields of a row are counted from a place of its own.
                    field.make(rows, seed, (place + 1) * 1_000 + at, time)
                };
                let columns = fields.iter().enumerate().map(column).collect::<Result<_, _>>()?;
                Arc::new(StructArray::try_new_with_length(names.clone(), columns, nulls, rows.count)?)
            }
            _ => {
                let texts = integers().into_iter().map(|value| value.to_string());
                let texts = StringArray::from_iter_values(texts);
                let (offsets, bytes, _) = texts.into_parts();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
        })
    }
}

fn length(options: &TableOptions, name: &str) -> Result<usize, SqlError> {
    match options.parse::<usize>(name)?.unwrap_or(DEFAULT_LENGTH) {
        length if length > 1 << 20 => {
            Err(SqlError::connector(format!("option '{name}' cannot be more than 1048576")))
        }
        length => Ok(length),
    }
}

/// All values of an integer type; of decimals, in units of their last place.
fn bounds(data_type: &DataType) -> Option<RangeInclusive<i128>> {
    Some(match data_type {
        DataType::Int8 => i8::MIN.into()..=i8::MAX.into(),
        DataType::Int16 => i16::MIN.into()..=i16::MAX.into(),
        DataType::Int32 => i32::MIN.into()..=i32::MAX.into(),
        DataType::Int64 => i64::MIN.into()..=i64::MAX.into(),
        DataType::Decimal128(precision, _) => {
            let most = 10i128.checked_pow(u32::from(*precision))? - 1;
            -most..=most
        }
        _ => return None,
    })
}

fn between(draws: &mut Draws, range: &RangeInclusive<i128>) -> i128 {
    let span = range.end().abs_diff(*range.start());
    let lot = match u64::try_from(span) {
        Ok(u64::MAX) => u128::from(draws.number()),
        Ok(span) => u128::from(draws.below(span + 1)),
        Err(_) => (u128::from(draws.number()) << 64 | u128::from(draws.number())) % (span + 1),
    };
    range.start().wrapping_add_unsigned(lot)
}

fn past(draws: &mut Draws, now: i64, max_past: u64) -> i64 {
    match max_past {
        0 => now,
        max_past => now.saturating_sub(draws.below(max_past) as i64),
    }
}

/// Random bytes, as many for each row.
fn strings(rows: Numbers, length: usize, draws: &dyn Fn(u64) -> Draws) -> (OffsetBuffer<i32>, Vec<u8>) {
    let mut bytes = Vec::with_capacity(rows.count * length + 8);
    for row in rows.iter() {
        let (mut draws, end) = (draws(row), bytes.len() + length);
        while bytes.len() < end {
            bytes.extend_from_slice(&draws.number().to_le_bytes());
        }
        bytes.truncate(end);
    }
    (OffsetBuffer::from_repeated_length(length, rows.count), bytes)
}
