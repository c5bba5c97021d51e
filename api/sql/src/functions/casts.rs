//! Values as text, as Flink's CAST writes them: `2024-02-29 13:05:09.042`, `TRUE`, `1.0E10`, `[1, 2]`, `(1, a)`,
//! `{k=1}`. DataFusion's casts write other forms, so a rule of the analyzer puts this function in their place, also
//! where a function or `||` takes text and is given something else.

use super::calendar::{Date, Moment};
use super::columns::Times;
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use super::pattern::Pattern;
use arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Float64Type, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, Result};
use datafusion_expr::expr_rewriter::NamePreserver;
use datafusion_expr::utils::merge_schema;
use datafusion_expr::{Cast, Expr, ExprSchemable, LogicalPlan, ScalarUDF};
use datafusion_optimizer::AnalyzerRule;
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    vec![Function::new("to_text", &[Kind::Any], returns::text, to_text)]
}

/// The rule. It follows the one that adds casts, and comes before constants are computed.
#[derive(Debug)]
pub(crate) struct TextCasts {
    to_text: Arc<ScalarUDF>,
}

impl TextCasts {
    pub(crate) fn new() -> Self {
        TextCasts { to_text: all().remove(0).build().1 }
    }

    /// An expression with the function in the place of casts to text.
    pub(crate) fn rewrite(&self, expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
        expr.transform_up(|expr| match expr {
            Expr::Cast(Cast { expr, field })
                if field.data_type() == &DataType::Utf8 && is_ours(&expr.get_type(schema)?) =>
            {
                Ok(Transformed::yes(self.to_text.call(vec![*expr])))
            }
            other => Ok(Transformed::no(other)),
        })
    }
}

impl AnalyzerRule for TextCasts {
    fn name(&self) -> &str {
        "text_casts"
    }

    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|plan| {
            let schema = merge_schema(&plan.inputs());
            let names = NamePreserver::new(&plan);
            let plan = plan.map_expressions(|expr| {
                let name = names.save(&expr);
                Ok(self.rewrite(expr, &schema)?.update_data(|expr| name.restore(expr)))
            })?;
            // The type is the same, but not whether there may be NULL.
            if plan.transformed { plan.map_data(LogicalPlan::recompute_schema) } else { Ok(plan) }
        })?;
        Ok(rewritten.data)
    }
}

/// Whether Flink writes such values in another way than Arrow.
fn is_ours(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Float32
            | DataType::Float64
            | DataType::Timestamp(..)
            | DataType::Time32(_)
            | DataType::Time64(_)
            | DataType::List(_)
            | DataType::Struct(_)
            | DataType::Map(..)
    )
}

fn to_text(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let writer = Writer::new(&array)?;
    let mut out = StringBuilder::with_capacity(call.rows, call.rows * 16);
    let mut text = String::new();
    for row in 0..call.rows {
        text.clear();
        if writer.write(row, &mut text) {
            out.append_value(&text);
        } else {
            out.append_null();
        }
    }
    Ok(Arc::new(out.finish()))
}

/// Writes values of a column.
enum Writer {
    Bools(ArrayRef),
    Floats(ArrayRef),
    Doubles(ArrayRef),
    Times(Times, Pattern),
    List(ArrayRef, Box<Writer>),
    Row(ArrayRef, Vec<Writer>),
    Map(ArrayRef, Box<Writer>, Box<Writer>),
    /// What Arrow writes as Flink does.
    Texts(ArrayRef),
}

impl Writer {
    fn new(array: &ArrayRef) -> Result<Writer> {
        let own = Arc::clone(array);
        let times =
            |pattern: &str| Ok(Writer::Times(Times::of(&Arc::clone(array).into())?, Pattern::read(pattern)?));
        Ok(match array.data_type() {
            DataType::Boolean => Writer::Bools(own),
            DataType::Float32 => Writer::Floats(own),
            DataType::Float64 => Writer::Doubles(own),
            DataType::Timestamp(unit, _) => {
                return times(match unit {
                    TimeUnit::Second => "yyyy-MM-dd HH:mm:ss",
                    TimeUnit::Millisecond => "yyyy-MM-dd HH:mm:ss.SSS",
                    TimeUnit::Microsecond => "yyyy-MM-dd HH:mm:ss.SSSSSS",
                    TimeUnit::Nanosecond => "yyyy-MM-dd HH:mm:ss.SSSSSSSSS",
                });
            }
            DataType::Time32(TimeUnit::Second) => return times("HH:mm:ss"),
            DataType::Time32(_) => return times("HH:mm:ss.SSS"),
            DataType::Time64(TimeUnit::Microsecond) => return times("HH:mm:ss.SSSSSS"),
            DataType::Time64(_) => return times("HH:mm:ss.SSSSSSSSS"),
            DataType::List(_) => {
                let items = Writer::new(array.as_list::<i32>().values())?;
                Writer::List(own, Box::new(items))
            }
            DataType::Struct(_) => {
                let fields = array.as_struct().columns().iter().map(Writer::new).collect::<Result<_>>()?;
                Writer::Row(own, fields)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                Writer::Map(own, Box::new(Writer::new(map.keys())?), Box::new(Writer::new(map.values())?))
            }
            _ => Writer::Texts(cast(array, &DataType::Utf8)?),
        })
    }

    /// Writes a value, unless it is NULL.
    fn write(&self, row: usize, out: &mut String) -> bool {
        let is_null = |array: &ArrayRef| array.is_null(row);
        match self {
            Writer::Bools(array) | Writer::Floats(array) | Writer::Doubles(array) if is_null(array) => {
                return false;
            }
            Writer::List(array, _) | Writer::Row(array, _) | Writer::Map(array, ..) if is_null(array) => {
                return false;
            }
            Writer::Bools(array) => {
                out.push_str(if array.as_boolean().value(row) { "TRUE" } else { "FALSE" })
            }
            Writer::Floats(array) => {
                let value = array.as_primitive::<Float32Type>().value(row);
                write_double(&format!("{value:e}"), f64::from(value), out);
            }
            Writer::Doubles(array) => {
                let value = array.as_primitive::<Float64Type>().value(row);
                write_double(&format!("{value:e}"), value, out);
            }
            Writer::Times(times, pattern) => {
                let Some(moment) = times.moment(row) else { return false };
                let Moment { days, .. } = moment;
                pattern.write(moment, Date::from_days(days), out);
            }
            Writer::List(array, items) => {
                let offsets = array.as_list::<i32>().value_offsets();
                out.push('[');
                for (i, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    items.write_or_null(item as usize, out);
                }
                out.push(']');
            }
            Writer::Row(_, fields) => {
                out.push('(');
                for (i, field) in fields.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    field.write_or_null(row, out);
                }
                out.push(')');
            }
            Writer::Map(array, keys, values) => {
                let offsets = array.as_map().value_offsets();
                out.push('{');
                for (i, entry) in (offsets[row]..offsets[row + 1]).enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    keys.write_or_null(entry as usize, out);
                    out.push('=');
                    values.write_or_null(entry as usize, out);
                }
                out.push('}');
            }
            Writer::Texts(array) => {
                let texts = array.as_string::<i32>();
                if texts.is_null(row) {
                    return false;
                }
                out.push_str(texts.value(row));
            }
        }
        true
    }

    fn write_or_null(&self, row: usize, out: &mut String) {
        if !self.write(row, out) {
            out.push_str("NULL");
        }
    }
}

/// Writes a number as Java does, from its shortest digits in scientific form, such as `1.25e-4`.
fn write_double(scientific: &str, value: f64, out: &mut String) {
    if !value.is_finite() {
        out.push_str(if value.is_nan() {
            "NaN"
        } else if value > 0.0 {
            "Infinity"
        } else {
            "-Infinity"
        });
        return;
    }
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let digits = digits.replace('.', "");
    out.push_str(sign);
    // Writing to text cannot fail.
    _ = match exponent {
        0..=6 => {
            let whole = exponent as usize + 1;
            if digits.len() > whole {
                write!(out, "{}.{}", &digits[..whole], &digits[whole..])
            } else {
                write!(out, "{digits:0<whole$}.0")
            }
        }
        -3..=-1 => write!(out, "0.{}{digits}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        _ => {
            let fraction = if digits.len() > 1 { &digits[1..] } else { "0" };
            write!(out, "{}.{fraction}E{exponent}", &digits[..1])
        }
    };
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bools, call, check, column, decimals, doubles, text, times_ms};
    use super::*;
    use arrow::array::{Float32Array, ListArray};
    use arrow::datatypes::Int64Type;
    use datafusion_common::ScalarValue;

    #[test]
    fn doubles_are_written_as_java_writes_them() {
        for (value, expected) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (123.456, "123.456"),
            (1e6, "1000000.0"),
            (1e7, "1.0E7"),
            (12_345_678.9, "1.23456789E7"),
            (0.001, "0.001"),
            (0.0125, "0.0125"),
            (0.0001, "1.0E-4"),
            (-1.5e300, "-1.5E300"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ] {
            check("to_text", vec![doubles([Some(value)]).into()], text([Some(expected)]));
        }
        check("to_text", vec![column(Float32Array::from(vec![0.1_f32]))], text([Some("0.1")]));
    }

    #[test]
    fn other_values_are_written_as_flink_writes_them() {
        check("to_text", vec![bools([Some(true), None]).into()], text([Some("TRUE"), None]));
        check(
            "to_text",
            vec![times_ms([Some(1_709_211_909_000), None]).into()],
            text([Some("2024-02-29 13:05:09.000"), None]),
        );
        check("to_text", vec![decimals([Some(150)], 5, 2).into()], text([Some("1.50")]));
        let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(7), None]),
            Some(vec![]),
            None,
        ]);
        check("to_text", vec![column(lists)], text([Some("[7, NULL]"), Some("[]"), None]));
        let maps = call("str_to_map", vec![text([Some("a=1,b")]).into()], 1).unwrap();
        check("to_text", vec![Arc::clone(&maps).into()], text([Some("{a=1, b=NULL}")]));
        let rows = call("row", vec![ScalarValue::from(true).into(), maps.into()], 1).unwrap();
        check("to_text", vec![rows.into()], text([Some("(TRUE, {a=1, b=NULL})")]));
    }
}
