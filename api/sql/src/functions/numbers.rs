//! Arithmetic: MOD, division of DECIMALs, CEIL, FLOOR, SIGN, and functions of DOUBLEs.

use super::columns::{array_of, number_column};
use super::definition::{Call, Function, returns};
use super::kinds::{Kind, decimal_digits};
use arrow::array::{Array, ArrayRef, AsArray, Datum, Decimal128Array, Scalar};
use arrow::compute::{cast, kernels::numeric};
use arrow::datatypes::{
    DataType, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, i256,
};
use datafusion_common::{Result, exec_err, plan_datafusion_err};
use datafusion_expr::ColumnarValue;
use std::sync::Arc;

/// Most digits of a DECIMAL.
pub(super) const MOST_DIGITS: i16 = 38;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Double, Number, SameNumber};
    macro_rules! of_double {
        ($($name:literal $body:expr),* $(,)?) => {
            vec![$(Function::new($name, &[Double], returns::double, |call| map_double(call, $body))),*]
        };
    }
    macro_rules! of_two_doubles {
        ($($name:literal $body:expr),* $(,)?) => {
            [$(Function::new($name, &[Double, Double], returns::double, |call| map_doubles(call, $body))),*]
        };
    }
    let mut all = of_double!(
        "sqrt" f64::sqrt,
        "exp" f64::exp,
        "ln" f64::ln,
        "log10" f64::log10,
        "log2" f64::log2,
        "sin" f64::sin,
        "cos" f64::cos,
        "tan" f64::tan,
        "cot" |x| 1.0 / x.tan(),
        "asin" f64::asin,
        "acos" f64::acos,
        "atan" f64::atan,
        "sinh" f64::sinh,
        "cosh" f64::cosh,
        "tanh" f64::tanh,
        "degrees" f64::to_degrees,
        "radians" f64::to_radians,
    );
    all.extend(of_two_doubles!("power" f64::powf, "pow" f64::powf, "atan2" f64::atan2));
    all.push(Function::new("log", &[Double, Double], returns::double, logarithm).optional(1));
    all.push(Function::new("pi", &[], returns::double, |call| constant(call, std::f64::consts::PI)));
    all.push(Function::new("e", &[], returns::double, |call| constant(call, std::f64::consts::E)));
    all.push(Function::new("mod", &[SameNumber, SameNumber], remainder_type, remainder));
    all.push(Function::new("divide", &[Number, Number], quotient_type, divide));
    all.push(Function::new("ceil", &[Number], whole_type, |call| {
        whole(call, f64::ceil, |rest| i128::from(rest > 0))
    }));
    all.push(Function::new("ceiling", &[Number], whole_type, |call| {
        whole(call, f64::ceil, |rest| i128::from(rest > 0))
    }));
    all.push(Function::new("floor", &[Number], whole_type, |call| {
        whole(call, f64::floor, |rest| -i128::from(rest < 0))
    }));
    all.push(Function::new("sign", &[Number], returns::first, sign));
    all
}

fn map_double(call: &Call, f: fn(f64) -> f64) -> Result<ArrayRef> {
    let array = call.array(0)?;
    Ok(Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(f)))
}

fn map_doubles(call: &Call, f: fn(f64, f64) -> f64) -> Result<ArrayRef> {
    let (a, b) = (call.numbers::<Float64Type>(0)?, call.numbers::<Float64Type>(1)?);
    Ok(number_column::<Float64Type>(call.rows, |row| Some(f(a.get(row)?, b.get(row)?))))
}

/// LOG(x) is the natural one, LOG(base, x) that to a base.
fn logarithm(call: &Call) -> Result<ArrayRef> {
    if call.len() == 1 { map_double(call, f64::ln) } else { map_doubles(call, |base, x| x.ln() / base.ln()) }
}

fn constant(call: &Call, value: f64) -> Result<ArrayRef> {
    Ok(number_column::<Float64Type>(call.rows, |_| Some(value)))
}

/// As `%`: of DECIMALs, the digits of the shorter one before the point and of the longer one behind it.
fn remainder_type(arguments: &[DataType]) -> Result<DataType> {
    returns::first(arguments)
}

/// The sign is that of the dividend. Division by zero is an error, except of floating-point numbers.
fn remainder(call: &Call) -> Result<ArrayRef> {
    let (a, b) = (operand(call, 0)?, operand(call, 1)?);
    let result = numeric::rem(a.as_ref(), b.as_ref())?;
    broadcast(call, cast(&result, call.returns)?)
}

/// An argument as Arrow's kernels take it.
fn operand(call: &Call, i: usize) -> Result<Box<dyn Datum>> {
    let value = call.value(i)?;
    Ok(match (value, array_of(value)?) {
        (ColumnarValue::Scalar(_), (array, _)) => Box::new(Scalar::new(array)),
        (ColumnarValue::Array(_), (array, _)) => Box::new(array),
    })
}

/// What kernels make of two constants is one value.
fn broadcast(call: &Call, result: ArrayRef) -> Result<ArrayRef> {
    if result.len() == call.rows { Ok(result) } else { ColumnarValue::Array(result).into_array(call.rows) }
}

/// Flink's rule for a DECIMAL that would have too many digits: those behind the point go first, down to six.
pub(super) fn fit(precision: i16, scale: i16) -> DataType {
    if precision <= MOST_DIGITS {
        return DataType::Decimal128(precision as u8, scale as i8);
    }
    let scale = (MOST_DIGITS - (precision - scale)).max(scale.min(6));
    DataType::Decimal128(MOST_DIGITS as u8, scale as i8)
}

fn digits(arguments: &[DataType], i: usize) -> Result<(i16, i16)> {
    let digits = arguments.get(i).and_then(decimal_digits);
    let (precision, scale) =
        digits.ok_or_else(|| plan_datafusion_err!("DIVIDE takes whole numbers and DECIMALs"))?;
    Ok((i16::from(precision), i16::from(scale)))
}

fn quotient_type(arguments: &[DataType]) -> Result<DataType> {
    let ((p1, s1), (p2, s2)) = (digits(arguments, 0)?, digits(arguments, 1)?);
    let scale = (s1 + p2 + 1).max(6);
    Ok(fit(p1 - s1 + s2 + scale, scale))
}

/// Division of exact numbers, rounded half up. A quotient of too many digits is NULL.
fn divide(call: &Call) -> Result<ArrayRef> {
    let DataType::Decimal128(precision, scale) = *call.returns else {
        return exec_err!("DIVIDE returns a DECIMAL");
    };
    let (a, s1) = decimals(call, 0)?;
    let (b, s2) = decimals(call, 1)?;
    let shift = u32::try_from(i16::from(scale) - i16::from(s1) + i16::from(s2)).unwrap_or(0);
    let factor = 10_i128.checked_pow(shift);
    let wide_factor = i256::from_i128(10).checked_pow(shift);
    let most = 10_i128.pow(u32::from(precision));
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let at = |column: &(Decimal128Array, bool)| {
            let row = if column.1 { 0 } else { row };
            column.0.is_valid(row).then(|| column.0.value(row))
        };
        let (Some(a), Some(b)) = (at(&a), at(&b)) else {
            values.push(None);
            continue;
        };
        if b == 0 {
            return exec_err!("division by zero");
        }
        let quotient = match factor.and_then(|factor| a.checked_mul(factor)) {
            Some(a) => Some(half_up(a, b)),
            None => wide_factor
                .and_then(|factor| half_up_wide(i256::from_i128(a).checked_mul(factor)?, i256::from_i128(b))),
        };
        values.push(quotient.filter(|quotient| -most < *quotient && *quotient < most));
    }
    Ok(Arc::new(Decimal128Array::from(values).with_data_type(call.returns.clone())))
}

/// A quotient rounded half away from zero.
pub(super) fn half_up(a: i128, b: i128) -> i128 {
    let (quotient, rest) = (a / b, a % b);
    let is_up = rest.unsigned_abs() >= b.unsigned_abs() - rest.unsigned_abs();
    if is_up && rest != 0 { quotient + if (a < 0) == (b < 0) { 1 } else { -1 } } else { quotient }
}

fn half_up_wide(a: i256, b: i256) -> Option<i128> {
    let (quotient, rest) = (a.checked_div(b)?, a.checked_rem(b)?);
    let is_up =
        rest != i256::ZERO && rest.wrapping_abs() >= b.wrapping_abs().wrapping_sub(rest.wrapping_abs());
    let is_positive = (a < i256::ZERO) == (b < i256::ZERO);
    let step = i256::from_i128(if is_positive { 1 } else { -1 });
    if is_up { quotient.checked_add(step)?.to_i128() } else { quotient.to_i128() }
}

/// An argument as DECIMALs: values, whether there is one for all rows, and digits behind the point.
fn decimals(call: &Call, i: usize) -> Result<((Decimal128Array, bool), i8)> {
    let (array, is_constant) = array_of(call.value(i)?)?;
    let (precision, scale) = decimal_digits(array.data_type())
        .ok_or_else(|| plan_datafusion_err!("DIVIDE takes whole numbers and DECIMALs"))?;
    let array = cast(&array, &DataType::Decimal128(precision, scale))?;
    Ok(((array.as_primitive::<Decimal128Type>().clone(), is_constant), scale))
}

/// A DECIMAL loses its digits behind the point; other types stay.
fn whole_type(arguments: &[DataType]) -> Result<DataType> {
    Ok(match returns::first(arguments)? {
        DataType::Decimal128(precision, _) => DataType::Decimal128(precision, 0),
        other => other,
    })
}

/// The next whole number. `step` says by how much a DECIMAL's whole part is off, from the sign of its rest.
fn whole(call: &Call, of_double: fn(f64) -> f64, step: fn(i128) -> i128) -> Result<ArrayRef> {
    let array = call.array(0)?;
    Ok(match array.data_type() {
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(of_double)),
        DataType::Float32 => Arc::new(
            array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|x| of_double(f64::from(x)) as f32),
        ),
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let values = array
                .as_primitive::<Decimal128Type>()
                .unary::<_, Decimal128Type>(|x| x / unit + step(x % unit));
            Arc::new(values.with_data_type(call.returns.clone()))
        }
        _ => array,
    })
}

/// -1, 0 or 1, of the argument's type.
fn sign(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    macro_rules! of {
        ($t:ty) => {
            Arc::new(array.as_primitive::<$t>().unary::<_, $t>(|x| x.signum()))
        };
    }
    fn sign(x: f64) -> f64 {
        if x == 0.0 { x } else { x.signum() }
    }
    Ok(match array.data_type() {
        DataType::Int8 => of!(Int8Type),
        DataType::Int16 => of!(Int16Type),
        DataType::Int32 => of!(Int32Type),
        DataType::Int64 => of!(Int64Type),
        DataType::Float64 => Arc::new(array.as_primitive::<Float64Type>().unary::<_, Float64Type>(sign)),
        DataType::Float32 => Arc::new(
            array.as_primitive::<Float32Type>().unary::<_, Float32Type>(|x| sign(f64::from(x)) as f32),
        ),
        DataType::Decimal128(_, scale) => {
            let unit = 10_i128.pow(u32::from(scale.unsigned_abs()));
            let values =
                array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(|x| x.signum() * unit);
            Arc::new(values.with_data_type(call.returns.clone()))
        }
        other => return exec_err!("SIGN takes a number, not {other}"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, decimals, doubles, longs, refused};
    use super::*;
    use arrow::array::{Float32Array, Int32Array};
    use datafusion_common::ScalarValue;

    #[test]
    fn remainders_have_the_dividends_sign() {
        let three = || ScalarValue::from(3_i64).into();
        check(
            "mod",
            vec![longs([Some(7), Some(-7), None]).into(), three()],
            longs([Some(1), Some(-1), None]),
        );
        check("mod", vec![ScalarValue::from(7_i64).into(), three()], longs([Some(1)]));
        let mixed: ArrayRef = Arc::new(Int32Array::from(vec![7, 8]));
        check("mod", vec![mixed.into(), three()], longs([Some(1), Some(2)]));
        check(
            "mod",
            vec![decimals([Some(725), None], 5, 2).into(), ScalarValue::Decimal128(Some(20), 2, 1).into()],
            decimals([Some(125), None], 5, 2),
        );
        refused("mod", vec![longs([Some(1)]).into(), ScalarValue::from(0_i64).into()], "ivide");
    }

    #[test]
    fn decimals_are_divided_half_up() {
        let ten_thirds = || {
            vec![
                decimals([Some(1000), Some(-1000), None], 6, 2).into(),
                ScalarValue::Decimal128(Some(3), 1, 0).into(),
            ]
        };
        check("divide", ten_thirds(), decimals([Some(3_333_333), Some(-3_333_333), None], 10, 6));
        let halves = vec![decimals([Some(1)], 1, 0).into(), ScalarValue::from(8_i64).into()];
        check("divide", halves, decimals([Some(125 * 10_i128.pow(17))], 21, 20));
        refused(
            "divide",
            vec![decimals([Some(1)], 1, 0).into(), decimals([Some(0)], 1, 0).into()],
            "division by zero",
        );
        assert_eq!(half_up(5, 2), 3);
        assert_eq!(half_up(-5, 2), -3);
        assert_eq!(half_up(7, -3), -2);
        assert_eq!(half_up_wide(i256::from_i128(-5), i256::from_i128(2)), Some(-3));
        let widest =
            vec![decimals([Some(10_i128.pow(37))], 38, 10).into(), decimals([Some(3)], 38, 10).into()];
        check("divide", widest, decimals([None], 38, 6));
    }

    #[test]
    fn numbers_become_whole() {
        check(
            "ceil",
            vec![doubles([Some(1.2), Some(-1.2), None]).into()],
            doubles([Some(2.0), Some(-1.0), None]),
        );
        check(
            "floor",
            vec![decimals([Some(125), Some(-125), Some(100)], 5, 2).into()],
            decimals([Some(1), Some(-2), Some(1)], 5, 0),
        );
        check(
            "ceil",
            vec![decimals([Some(125), Some(-125)], 5, 2).into()],
            decimals([Some(2), Some(-1)], 5, 0),
        );
        check("floor", vec![longs([Some(3)]).into()], longs([Some(3)]));
        check("sign", vec![longs([Some(-3), Some(0)]).into()], longs([Some(-1), Some(0)]));
        check("sign", vec![decimals([Some(-3)], 3, 1).into()], decimals([Some(-10)], 3, 1));
        let floats: ArrayRef = Arc::new(Float32Array::from(vec![0.5]));
        check("sign", vec![floats.into()], Arc::new(Float32Array::from(vec![1.0])));
    }

    #[test]
    fn functions_of_doubles_take_all_numbers() {
        check("sqrt", vec![longs([Some(9), None]).into()], doubles([Some(3.0), None]));
        check(
            "power",
            vec![decimals([Some(20)], 2, 1).into(), ScalarValue::from(3).into()],
            doubles([Some(8.0)]),
        );
        check("log", vec![ScalarValue::from(2).into(), longs([Some(8)]).into()], doubles([Some(3.0)]));
        check("ln", vec![longs([Some(1)]).into()], doubles([Some(0.0)]));
        check("log", vec![longs([Some(1)]).into()], doubles([Some(0.0)]));
        refused("sqrt", vec![ScalarValue::from(true).into()], "SQRT takes (DOUBLE), not (BOOLEAN)");
    }
}
