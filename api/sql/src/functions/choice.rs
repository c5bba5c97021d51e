//! Functions that choose among their arguments: IF, IFNULL, NULLIF, GREATEST, LEAST.

use super::columns::array_of;
use super::definition::{Call, Function, returns};
use super::kinds::{Kind, common_type};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Scalar};
use arrow::compute::kernels::{cmp, nullif::nullif, zip::zip};
use arrow::compute::{cast, is_null, or};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_datafusion_err, plan_err};
use datafusion_expr::expr::Case;
use datafusion_expr::{ColumnarValue, Expr};

pub(super) fn all() -> Vec<Function> {
    use Kind::{Any, Bool, Same};
    vec![
        Function::new("if", &[Bool, Same, Same], second_type, choose).simplified(case_of_if),
        Function::new("ifnull", &[Same, Same], common, first_known).simplified(case_of_ifnull),
        Function::new("nullif", &[Any, Any], returns::first, null_if_equal),
        Function::new("greatest", &[Same], common, |call| outermost(call, true)).repeated(),
        Function::new("least", &[Same], common, |call| outermost(call, false)).repeated(),
    ]
}

fn common(arguments: &[DataType]) -> Result<DataType> {
    common_type(arguments).ok_or_else(|| plan_datafusion_err!("arguments have no common type"))
}

fn second_type(arguments: &[DataType]) -> Result<DataType> {
    common(arguments.get(1..).unwrap_or_default())
}

/// CASE computes just the argument that is chosen, so that `IF(b = 0, 0, a / b)` is no error.
fn case_of_if(args: Vec<Expr>) -> std::result::Result<Expr, Vec<Expr>> {
    let [condition, then, otherwise] = <[Expr; 3]>::try_from(args)?;
    let when = vec![(Box::new(condition), Box::new(then))];
    Ok(Expr::Case(Case::new(None, when, Some(Box::new(otherwise)))))
}

fn case_of_ifnull(args: Vec<Expr>) -> std::result::Result<Expr, Vec<Expr>> {
    let [value, otherwise] = <[Expr; 2]>::try_from(args)?;
    let when = vec![(Box::new(Expr::IsNull(Box::new(value.clone()))), Box::new(otherwise))];
    Ok(Expr::Case(Case::new(None, when, Some(Box::new(value)))))
}

/// NULL is not true.
fn choose(call: &Call) -> Result<ArrayRef> {
    let condition = call.array(0)?;
    let condition = condition.as_boolean();
    let condition = BooleanArray::new(
        match condition.nulls() {
            Some(nulls) => condition.values() & nulls.inner(),
            None => condition.values().clone(),
        },
        None,
    );
    select(&condition, call.value(1)?, call.value(2)?, call.rows)
}

fn first_known(call: &Call) -> Result<ArrayRef> {
    let condition = is_null(&call.array(0)?)?;
    select(&condition, call.value(1)?, call.value(0)?, call.rows)
}

/// The first argument with its type, unless it equals the second one.
fn null_if_equal(call: &Call) -> Result<ArrayRef> {
    let (value, other) = (call.array(0)?, call.array(1)?);
    let types = [value.data_type().clone(), other.data_type().clone()];
    let Some(common) = common_type(&types) else {
        return plan_err!("NULLIF takes values that can be compared");
    };
    let is_equal = cmp::eq(&cast(&value, &common)?, &cast(&other, &common)?)?;
    Ok(nullif(&value, &is_equal)?)
}

fn select(
    condition: &BooleanArray,
    then: &ColumnarValue,
    otherwise: &ColumnarValue,
    rows: usize,
) -> Result<ArrayRef> {
    let ((then, is_one_then), (otherwise, is_one_otherwise)) = (array_of(then)?, array_of(otherwise)?);
    Ok(match (is_one_then, is_one_otherwise) {
        (true, true) => zip(condition, &Scalar::new(then), &Scalar::new(otherwise))?,
        (true, false) => zip(condition, &Scalar::new(then), &otherwise)?,
        (false, true) => zip(condition, &then, &Scalar::new(otherwise))?,
        (false, false) => {
            debug_assert_eq!(then.len(), rows);
            zip(condition, &then, &otherwise)?
        }
    })
}

/// NULL if any argument is.
fn outermost(call: &Call, is_greatest: bool) -> Result<ArrayRef> {
    let mut best = call.array(0)?;
    for i in 1..call.len() {
        let other = call.array(i)?;
        let is_better = if is_greatest { cmp::gt(&other, &best)? } else { cmp::lt(&other, &best)? };
        let has_null = or(&is_null(&best)?, &is_null(&other)?)?;
        best = nullif(&zip(&is_better, &other, &best)?, &has_null)?;
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bools, check, decimals, doubles, longs, refused, text};
    use datafusion_common::ScalarValue;

    #[test]
    fn conditions_choose() {
        let condition = || bools([Some(true), Some(false), None]).into();
        check(
            "if",
            vec![condition(), longs([Some(1), Some(2), Some(3)]).into(), ScalarValue::from(0_i64).into()],
            longs([Some(1), Some(0), Some(0)]),
        );
        check(
            "if",
            vec![condition(), ScalarValue::from("a").into(), ScalarValue::Null.into()],
            text([Some("a"), None, None]),
        );
        refused(
            "if",
            vec![ScalarValue::from(1).into(), ScalarValue::from(1).into(), ScalarValue::from(1).into()],
            "IF takes (BOOLEAN, any, any)",
        );
    }

    #[test]
    fn null_is_replaced() {
        check(
            "ifnull",
            vec![longs([Some(1), None]).into(), ScalarValue::from(5_i64).into()],
            longs([Some(1), Some(5)]),
        );
        check("ifnull", vec![ScalarValue::Null.into(), ScalarValue::from(5_i64).into()], longs([Some(5)]));
    }

    #[test]
    fn equal_values_become_null() {
        check(
            "nullif",
            vec![longs([Some(1), Some(2), None]).into(), ScalarValue::from(2).into()],
            longs([Some(1), None, None]),
        );
        check("nullif", vec![longs([Some(1)]).into(), ScalarValue::Null.into()], longs([Some(1)]));
    }

    #[test]
    fn the_greatest_of_null_is_null() {
        let a = || longs([Some(1), Some(5), None]).into();
        let b = || longs([Some(3), Some(2), Some(1)]).into();
        check("greatest", vec![a(), b()], longs([Some(3), Some(5), None]));
        check("least", vec![a(), b()], longs([Some(1), Some(2), None]));
        check(
            "greatest",
            vec![a(), b(), ScalarValue::from(4.5).into()],
            doubles([Some(4.5), Some(5.0), None]),
        );
        check(
            "least",
            vec![longs([Some(2)]).into(), decimals([Some(15)], 3, 1).into()],
            decimals([Some(15)], 20, 1),
        );
        check(
            "greatest",
            vec![text([Some("a"), None]).into(), ScalarValue::from("b").into()],
            text([Some("b"), None]),
        );
        check("greatest", vec![a()], longs([Some(1), Some(5), None]));
    }
}
