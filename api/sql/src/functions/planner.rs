//! How expressions that are no calls become calls, where Flink's meaning is another than DataFusion's: fields of rows
//! are named after themselves, EXTRACT and its like are ours, numbers have Flink's types.

use super::kinds::decimal_digits;
use super::numbers::{MOST_DIGITS, fit};
use arrow::datatypes::{DataType, Field};
use datafusion_common::{Column, DFSchema, Result, ScalarValue, TableReference, plan_err};
use datafusion_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion_expr::{BinaryExpr, Cast, Expr, ExprSchemable, GetFieldAccess, Operator, ScalarUDF, lit};
use datafusion_functions::core::get_field;
use sqlparser::ast::BinaryOperator;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// All planners of expressions. The first that plans an expression wins.
pub(crate) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    let functions = super::scalar().into_iter().collect();
    vec![
        Arc::new(FlinkExpressions { functions }),
        Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
        Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
        Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
    ]
}

/// Plans expressions as Flink understands them.
struct FlinkExpressions {
    functions: HashMap<&'static str, Arc<ScalarUDF>>,
}

impl fmt::Debug for FlinkExpressions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FlinkExpressions")
    }
}

impl FlinkExpressions {
    fn call(&self, name: &str, args: Vec<Expr>) -> Result<Expr> {
        match self.functions.get(name) {
            Some(function) => Ok(function.call(args)),
            None => plan_err!("there is no function {name}"),
        }
    }

    fn planned<T>(&self, name: &str, args: Vec<Expr>) -> Result<PlannerResult<T>> {
        Ok(PlannerResult::Planned(self.call(name, args)?))
    }
}

impl ExprPlanner for FlinkExpressions {
    /// `person.address.city` is named `city`.
    fn plan_compound_identifier(
        &self,
        field: &Field,
        qualifier: Option<&TableReference>,
        nested_names: &[String],
    ) -> Result<PlannerResult<Vec<Expr>>> {
        let mut expr = Expr::Column(Column::from((qualifier, field)));
        let mut data_type = field.data_type();
        for name in nested_names {
            let DataType::Struct(fields) = data_type else {
                return plan_err!(
                    "'{name}' is asked of a {}, which has no fields",
                    crate::types::name_of(data_type)
                );
            };
            let Some(inner) = fields.iter().find(|inner| inner.name() == name) else {
                let known: Vec<&str> = fields.iter().map(|inner| inner.name().as_str()).collect();
                return plan_err!("there is no field '{name}' among {}", known.join(", "));
            };
            data_type = inner.data_type();
            expr = get_field().call(vec![expr, lit(name.clone())]);
        }
        Ok(PlannerResult::Planned(match nested_names.last() {
            Some(name) => expr.alias(name),
            None => expr,
        }))
    }

    fn plan_extract(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("extract", args)
    }

    fn plan_substring(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("substring", args)
    }

    /// `POSITION(wanted IN text)` comes as text and what is wanted.
    fn plan_position(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("instr", args)
    }

    fn plan_overlay(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("overlay", args)
    }

    /// Numbers between which DataFusion would choose other types than Flink.
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        use BinaryOperator::{Divide, Minus, Modulo, Multiply, Plus};
        let RawBinaryExpr { op, left, right } = expr;
        if !matches!(op, Divide | Minus | Modulo | Multiply | Plus) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let (left, right) = (narrow(left), narrow(right));
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        let digits = decimal_digits(&left_type).zip(decimal_digits(&right_type));
        if digits.is_none() || !(is_decimal(&left_type) || is_decimal(&right_type)) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        let (left, right) = (as_decimal(left, &left_type), as_decimal(right, &right_type));
        if op == Divide {
            return self.planned("divide", vec![left, right]);
        }
        let Some(((p1, s1), (p2, s2))) = digits else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let (p1, s1, p2, s2) = (i16::from(p1), i16::from(s1), i16::from(p2), i16::from(s2));
        let (operator, precision, scale) = match op {
            Multiply => (Operator::Multiply, p1 + p2 + 1, s1 + s2),
            Plus => (Operator::Plus, (p1 - s1).max(p2 - s2) + s1.max(s2) + 1, s1.max(s2)),
            Minus => (Operator::Minus, (p1 - s1).max(p2 - s2) + s1.max(s2) + 1, s1.max(s2)),
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        let expected = fit(precision, scale);
        if precision <= MOST_DIGITS || expected == DataType::Decimal128(MOST_DIGITS as u8, scale as i8) {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        }
        // DataFusion keeps the digits behind the point, Flink those before it.
        let computed = Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)));
        Ok(PlannerResult::Planned(Expr::Cast(Cast::new(Box::new(computed), expected))))
    }

    /// `array[1]`, `map['key']`
    fn plan_field_access(
        &self,
        expr: RawFieldAccessExpr,
        schema: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let RawFieldAccessExpr { field_access, expr } = expr;
        match field_access {
            // A row is the only thing that has a name in brackets or behind a point.
            GetFieldAccess::NamedStructField { name }
                if matches!(expr.get_type(schema)?, DataType::Struct(_)) =>
            {
                Ok(PlannerResult::Planned(get_field().call(vec![expr, lit(name)])))
            }
            GetFieldAccess::NamedStructField { name } => self.planned("item", vec![expr, lit(name)]),
            GetFieldAccess::ListIndex { key } => self.planned("item", vec![expr, *key]),
            GetFieldAccess::ListRange { .. } => plan_err!("an array is indexed by one number"),
        }
    }

    /// `ARRAY[1, 2]`
    fn plan_array_literal(&self, exprs: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        self.planned("array", exprs.into_iter().map(narrow).collect())
    }

    /// `MAP['a', 1, 'b', 2]`, which comes as its arguments.
    fn plan_make_map(&self, args: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        if !args.len().is_multiple_of(2) {
            return plan_err!("a MAP takes a value behind each key");
        }
        let (keys, values): (Vec<_>, Vec<_>) = args.into_iter().enumerate().partition(|(i, _)| i % 2 == 0);
        let array = |items: Vec<(usize, Expr)>| {
            self.call("array", items.into_iter().map(|(_, item)| narrow(item)).collect())
        };
        self.planned("map", vec![array(keys)?, array(values)?])
    }

    /// `(a, b)`, and `ROW(a, b)` where it comes as a literal.
    fn plan_struct_literal(&self, args: Vec<Expr>, is_named: bool) -> Result<PlannerResult<Vec<Expr>>> {
        if is_named {
            Ok(PlannerResult::Original(args))
        } else {
            self.planned("row", args.into_iter().map(narrow).collect())
        }
    }
}

/// A whole number in the statement is an INT if it fits, as in Flink.
fn narrow(expr: Expr) -> Expr {
    match expr {
        Expr::Literal(ScalarValue::Int64(Some(value)), metadata) => match i32::try_from(value) {
            Ok(value) => Expr::Literal(ScalarValue::Int32(Some(value)), metadata),
            Err(_) => Expr::Literal(ScalarValue::Int64(Some(value)), metadata),
        },
        other => other,
    }
}

/// A whole number as the DECIMAL that Flink makes of it: DataFusion's has a digit more for a BIGINT, and with it all
/// that is computed of it.
fn as_decimal(expr: Expr, data_type: &DataType) -> Expr {
    match (decimal_digits(data_type), &expr) {
        (_, _) if matches!(data_type, DataType::Decimal128(..)) => expr,
        (Some((precision, scale)), Expr::Literal(value, metadata)) if !value.is_null() => {
            let decimal = DataType::Decimal128(precision, scale);
            match value.cast_to(&decimal) {
                Ok(value) => Expr::Literal(value, metadata.clone()),
                Err(_) => Expr::Cast(Cast::new(Box::new(expr), decimal)),
            }
        }
        (Some((precision, scale)), _) => {
            Expr::Cast(Cast::new(Box::new(expr), DataType::Decimal128(precision, scale)))
        }
        (None, _) => expr,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::name_of;
    use arrow::datatypes::Schema;
    use datafusion_expr::col;

    fn schema() -> DFSchema {
        let fields = vec![
            Field::new("price", DataType::Int64, true),
            Field::new("small", DataType::Int32, true),
            Field::new("rate", DataType::Decimal128(5, 2), true),
        ];
        DFSchema::try_from(Schema::new(fields)).unwrap()
    }

    #[track_caller]
    fn check(op: BinaryOperator, left: Expr, right: Expr, expected: &str) {
        let planner = &planners()[0];
        let operator = match op {
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Modulo => Operator::Modulo,
            _ => Operator::Divide,
        };
        let planned = match planner.plan_binary_op(RawBinaryExpr { op, left, right }, &schema()).unwrap() {
            PlannerResult::Planned(expr) => expr,
            PlannerResult::Original(RawBinaryExpr { left, right, .. }) => {
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), operator, Box::new(right)))
            }
        };
        assert_eq!(name_of(&planned.get_type(&schema()).unwrap()), expected, "{planned}");
    }

    #[test]
    fn arithmetic_has_flinks_types() {
        let rate = || lit(ScalarValue::Decimal128(Some(908), 3, 3));
        check(BinaryOperator::Multiply, rate(), col("price"), "DECIMAL(23, 3)");
        check(BinaryOperator::Multiply, col("rate"), lit(2_i64), "DECIMAL(16, 2)");
        check(BinaryOperator::Plus, col("rate"), col("small"), "DECIMAL(13, 2)");
        check(BinaryOperator::Divide, col("rate"), col("small"), "DECIMAL(16, 13)");
        let wide = || lit(ScalarValue::Decimal128(Some(1), 30, 10));
        check(BinaryOperator::Multiply, wide(), col("rate"), "DECIMAL(36, 12)");
        check(BinaryOperator::Multiply, wide(), col("price"), "DECIMAL(38, 6)");
        check(BinaryOperator::Plus, col("small"), lit(1_i64), "INT");
        check(BinaryOperator::Plus, col("price"), lit(1_i64), "BIGINT");
        check(BinaryOperator::Plus, col("small"), lit(3_000_000_000_i64), "BIGINT");
        check(BinaryOperator::Divide, col("price"), lit(2_i64), "BIGINT");
        check(BinaryOperator::Modulo, col("small"), lit(2_i64), "INT");
        check(BinaryOperator::Plus, col("price"), lit(1.5_f64), "DOUBLE");
    }

    #[test]
    fn fields_are_named_after_themselves() {
        let city = Field::new("city", DataType::Utf8, true);
        let address = Field::new("address", DataType::Struct(vec![city].into()), true);
        let person = Field::new("person", DataType::Struct(vec![address].into()), true);
        let planned = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(ToString::to_string).collect();
            planners()[0].plan_compound_identifier(&person, Some(&TableReference::bare("t")), &names)
        };
        let PlannerResult::Planned(expr) = planned(&["address", "city"]).unwrap() else { panic!() };
        assert_eq!(expr.schema_name().to_string(), "city");
        assert!(planned(&["street"]).unwrap_err().to_string().contains("no field 'street' among address"));
        assert!(planned(&["address", "city", "x"]).unwrap_err().to_string().contains("asked of a STRING"));
    }
}
