//! ROUND and TRUNCATE to a number of digits behind the point, or before it. They go by the digits that a DOUBLE is
//! written with, as Java's BigDecimal does: 1.005 is rounded to 1.01, though the binary number lies below.

use super::columns::Numbers;
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use super::numbers::half_up;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Decimal128Type, Float64Type, Int32Type, Int64Type};
use datafusion_common::{Result, ScalarValue};
use std::sync::Arc;

/// Digits that a number has at most: behind them there is nothing to round.
const MOST_DIGITS: i32 = 38;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Number, Whole};
    vec![
        Function::new("round", &[Number, Whole], returns::first, |call| shorten(call, true))
            .optional(1)
            .returns_by_value(shortened_type),
        Function::new("truncate", &[Number, Whole], returns::first, |call| shorten(call, false))
            .optional(1)
            .returns_by_value(shortened_type),
    ]
}

/// A DECIMAL has the digits that are asked for, if they are a constant.
fn shortened_type(arguments: &[DataType], values: &[Option<&ScalarValue>]) -> Result<DataType> {
    let first = returns::first(arguments)?;
    let constant = values.get(1).copied().flatten();
    let digits = match (arguments.len(), constant) {
        (1, _) => Some(0),
        (_, Some(value)) => match value.cast_to(&DataType::Int32)? {
            ScalarValue::Int32(digits) => digits,
            _ => None,
        },
        _ => None,
    };
    Ok(match (first, digits) {
        (DataType::Decimal128(precision, scale), Some(digits)) if digits < i32::from(scale) => {
            let kept = digits.max(0) as i8;
            // Rounding up may need one more digit.
            let precision = (1 + i16::from(precision) - i16::from(scale) + i16::from(kept)).min(38);
            DataType::Decimal128(precision as u8, kept)
        }
        (first, _) => first,
    })
}

fn shorten(call: &Call, is_rounded: bool) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let digits = if call.len() > 1 { Some(whole(call, 1)?) } else { None };
    let of_row = |row| digits.as_ref().map_or(Some(0), |digits: &Numbers<Int32Type>| digits.get(row));
    Ok(match array.data_type() {
        DataType::Decimal128(_, scale) => {
            let column = array.as_primitive::<Decimal128Type>();
            let DataType::Decimal128(precision, to_scale) = *call.returns else { return Ok(array) };
            let most = 10_i128.pow(u32::from(precision));
            let short = |row| {
                let value = column.is_valid(row).then(|| column.value(row))?;
                decimal(value, i32::from(*scale), i32::from(to_scale), of_row(row)?, is_rounded)
                    .filter(|value| value.abs() < most)
            };
            let values: Decimal128Array = (0..call.rows).map(short).collect();
            Arc::new(values.with_data_type(call.returns.clone()))
        }
        DataType::Float64 | DataType::Float32 => {
            let wide = cast(&array, &DataType::Float64)?;
            let column = wide.as_primitive::<Float64Type>();
            let short = |row| {
                let value = column.is_valid(row).then(|| column.value(row))?;
                Some(double(value, of_row(row)?, is_rounded))
            };
            let values: Float64Array = (0..call.rows).map(short).collect();
            cast(&values, call.returns)?
        }
        _ => {
            let wide = cast(&array, &DataType::Int64)?;
            let column = wide.as_primitive::<Int64Type>();
            let short = |row| {
                let value = column.is_valid(row).then(|| column.value(row))?;
                Some(decimal(i128::from(value), 0, 0, of_row(row)?, is_rounded)? as i64)
            };
            let values: Int64Array = (0..call.rows).map(short).collect();
            // Out of the type's range means NULL.
            cast(&values, call.returns)?
        }
    })
}

/// An argument of any whole number as INT.
fn whole(call: &Call, i: usize) -> Result<Numbers<Int32Type>> {
    Numbers::of(&call.value(i)?.cast_to(&DataType::Int32, None)?)
}

/// A DECIMAL with so many digits, and with another scale.
fn decimal(value: i128, scale: i32, to_scale: i32, digits: i32, is_rounded: bool) -> Option<i128> {
    let dropped = (scale - digits).clamp(0, MOST_DIGITS) as u32;
    let unit = 10_i128.pow(dropped);
    let kept = if is_rounded { half_up(value, unit) } else { value / unit };
    // What is kept counts units; the result counts those of its own scale.
    let shift = to_scale - scale + dropped as i32;
    match u32::try_from(shift) {
        Ok(shift) => kept.checked_mul(10_i128.checked_pow(shift)?),
        Err(_) => Some(kept / 10_i128.checked_pow(shift.unsigned_abs())?),
    }
}

fn double(value: f64, digits: i32, is_rounded: bool) -> f64 {
    if !value.is_finite() || digits > 300 {
        return value;
    }
    if digits < -300 {
        return 0.0;
    }
    let unit = 10_f64.powi(digits.abs());
    let scaled = if digits < 0 { value / unit } else { value * unit };
    let near =
        if is_rounded { scaled - scaled.trunc() - 0.5_f64.copysign(value) } else { scaled - scaled.round() };
    if near.abs() < 1e-6 || scaled.abs() > 1e15 {
        // The last bit may decide, and the multiplication may have changed it.
        return by_digits(value, digits, is_rounded);
    }
    let kept = if is_rounded { scaled.round() } else { scaled.trunc() };
    if digits < 0 { kept * unit } else { kept / unit }
}

/// The same by the digits of the number's shortest form.
fn by_digits(value: f64, digits: i32, is_rounded: bool) -> f64 {
    let text = value.abs().to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let written: Vec<u8> = whole.bytes().chain(fraction.bytes()).map(|b| b - b'0').collect();
    let kept = whole.len() as i64 + i64::from(digits);
    if kept >= written.len() as i64 {
        return value;
    }
    let Ok(kept) = usize::try_from(kept) else { return 0.0_f64.copysign(value) };
    let mut short = written[..kept].to_vec();
    if is_rounded && written[kept] >= 5 {
        let nines = short.iter().rev().take_while(|digit| **digit == 9).count();
        short.truncate(kept - nines);
        match short.last_mut() {
            Some(digit) => *digit += 1,
            None => short.push(1),
        }
        // Zeros follow where nines were; a digit more than before goes in front.
        let length = short.len() + nines;
        short.resize(length, 0);
    }
    let text: String = short.iter().map(|digit| (b'0' + digit) as char).collect();
    let text = format!("{}{text}e{}", if value < 0.0 { "-0" } else { "0" }, -digits);
    text.parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, decimals, doubles, longs};
    use super::*;
    use arrow::array::Float32Array;

    fn n(digits: i32) -> datafusion_expr::ColumnarValue {
        ScalarValue::from(digits).into()
    }

    #[test]
    fn doubles_are_rounded_by_their_digits() {
        for (value, digits, rounded, truncated) in [
            (1.005, 2, 1.01, 1.0),
            (2.5, 0, 3.0, 2.0),
            (-2.5, 0, -3.0, -2.0),
            (0.29, 2, 0.29, 0.29),
            (42.345, 2, 42.35, 42.34),
            (9.995, 2, 10.0, 9.99),
            (1250.0, -2, 1300.0, 1200.0),
            (49.0, -2, 0.0, 0.0),
            (1e300, 2, 1e300, 1e300),
            (1.5, 400, 1.5, 1.5),
            (1e-20, 3, 0.0, 0.0),
            (99.5, 0, 100.0, 99.0),
            (f64::INFINITY, 1, f64::INFINITY, f64::INFINITY),
        ] {
            check(
                "round",
                vec![doubles([Some(value), None]).into(), n(digits)],
                doubles([Some(rounded), None]),
            );
            check(
                "truncate",
                vec![doubles([Some(value), None]).into(), n(digits)],
                doubles([Some(truncated), None]),
            );
        }
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![1.25_f32, 0.1]));
        check("round", vec![floats.into(), n(1)], Arc::new(Float32Array::from(vec![1.3_f32, 0.1])));
    }

    #[test]
    fn decimals_have_the_digits_asked_for() {
        let value = || decimals([Some(12_345), Some(-12_345), None], 7, 3).into();
        check("round", vec![value(), n(2)], decimals([Some(1_235), Some(-1_235), None], 7, 2));
        check("truncate", vec![value(), n(2)], decimals([Some(1_234), Some(-1_234), None], 7, 2));
        check("round", vec![value()], decimals([Some(12), Some(-12), None], 5, 0));
        check("round", vec![value(), n(5)], decimals([Some(12_345), Some(-12_345), None], 7, 3));
        check("round", vec![value(), n(-1)], decimals([Some(10), Some(-10), None], 5, 0));
        let digits: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![Some(1), None, Some(0)]));
        check("round", vec![value(), digits.into()], decimals([Some(12_300), None, None], 7, 3));
    }

    #[test]
    fn whole_numbers_stay_whole() {
        check(
            "round",
            vec![longs([Some(15), Some(-15), None]).into(), n(-1)],
            longs([Some(20), Some(-20), None]),
        );
        check("truncate", vec![longs([Some(15)]).into(), n(-1)], longs([Some(10)]));
        check("round", vec![longs([Some(15)]).into(), n(3)], longs([Some(15)]));
        check("round", vec![longs([Some(i64::MAX)]).into(), n(-30)], longs([Some(0)]));
    }
}
