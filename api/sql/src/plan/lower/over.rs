//! Functions of a row's neighbours lowered.

use super::aggregate::{check_types, function};
use super::{Lowering, schema_of, sort_key};
use crate::error::SqlError;
use crate::plan::relations::interval_ms;
use crate::plan::stream::{Call, Frame, Node, Op, OverCall, OverFunction};
use arrow::datatypes::DataType;
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{AggregateFunction, WindowFunction};
use datafusion_expr::logical_plan::Window;
use datafusion_expr::{
    Expr, LogicalPlan, SortExpr, WindowFrame, WindowFrameBound, WindowFrameUnits, WindowFunctionDefinition,
    lit,
};
use std::sync::Arc;

fn function_of(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => function_of(&alias.expr),
        _ => None,
    }
}

impl Lowering {
    pub(super) fn over(&self, window: &Window) -> Result<Node, SqlError> {
        let schema = window.input.schema();
        let functions: Option<Vec<&WindowFunction>> = window.window_expr.iter().map(function_of).collect();
        let functions = functions.filter(|functions| !functions.is_empty());
        let functions = functions.ok_or_else(|| super::unsupported(&LogicalPlan::Window(window.clone())))?;
        let (partition, order) = (&functions[0].params.partition_by, &functions[0].params.order_by);
        let other =
            functions.iter().any(|f| f.params.partition_by != *partition || f.params.order_by != *order);
        if other {
            return Err(SqlError::unsupported("OVER with different partitions or orders in one SELECT")
                .with_hint("nest one in a subquery"));
        }
        // Everything that the functions look at is a column of the input.
        let mut exprs: Vec<Expr> = partition.clone();
        exprs.extend(order.iter().map(|sort: &SortExpr| sort.expr.clone()));
        for function in &functions {
            exprs.extend(arguments(function)?);
            exprs.extend(function.params.filter.as_deref().cloned());
        }
        let width = schema.fields().len();
        let input = self.lower(&window.input)?;
        let (input, places) = self.with_columns(input, schema, &exprs)?;
        let wide = input.schema.fields().len();
        let mut places = places.into_iter();
        let partition: Vec<usize> = places.by_ref().take(partition.len()).collect();
        let order: Vec<_> =
            order.iter().zip(places.by_ref()).map(|(sort, column)| sort_key(sort, column)).collect();
        let mut calls = Vec::with_capacity(functions.len());
        for (at, function) in functions.iter().enumerate() {
            let args: Vec<usize> = places.by_ref().take(arguments(function)?.len()).collect();
            let filter = function.params.filter.as_ref().and_then(|_| places.next());
            let output = window.schema.field(width + at);
            calls.push(self.over_call(function, args, filter, output.name(), output.data_type(), &input)?);
        }
        let time = order
            .first()
            .filter(|key| !key.options.descending && input.properties.delay_of(key.column).is_some());
        let time = time.map(|key| key.column);
        if time.is_none() && !self.is_batch && order.is_empty() && calls.iter().any(|c| c.frame != Frame::All)
        {
            return Err(SqlError::statement("OVER needs ORDER BY"));
        }
        let moved: Vec<Option<usize>> = (0..wide).map(Some).chain(calls.iter().map(|_| None)).collect();
        let mut properties = input.properties.moved(&moved);
        // In order of event time each row's neighbours are known once the watermark has passed it.
        let is_final = time.is_some()
            && input.properties.is_append_only
            && calls.iter().all(|call| call.frame != Frame::All);
        let time = time.filter(|_| is_final && !self.is_batch);
        properties.is_append_only = is_final || self.is_batch;
        let mut fields: Vec<_> = input.schema.fields().iter().cloned().collect();
        let made = schema_of(&window.schema);
        fields.extend(made.fields().iter().skip(width).cloned());
        let wide_schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let count = calls.len();
        let op = Op::Over { partition, order, calls, time };
        let mut node = Node { op, inputs: vec![input], schema: wide_schema, properties };
        if wide > width {
            let kept: Vec<usize> = (0..width).chain(wide..wide + count).collect();
            node = super::selected(node, &kept);
        }
        node.schema = made;
        Ok(node)
    }

    fn over_call(
        &self,
        function: &WindowFunction,
        args: Vec<usize>,
        filter: Option<usize>,
        name: &str,
        output: &DataType,
        input: &Node,
    ) -> Result<OverCall, SqlError> {
        let over = match &function.fun {
            WindowFunctionDefinition::AggregateUDF(_) => {
                let (kind, _) = self::function(&as_aggregate(function)?)?;
                let data_type =
                    args.first().map_or(DataType::Null, |at| input.schema.field(*at).data_type().clone());
                let call = Call {
                    function: kind,
                    args,
                    input: data_type,
                    output: output.clone(),
                    filter,
                    is_distinct: function.params.distinct,
                    name: name.to_string(),
                };
                check_types(&call)?;
                OverFunction::Aggregate(call)
            }
            WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
                "row_number" => OverFunction::RowNumber,
                "rank" => OverFunction::Rank,
                "dense_rank" => OverFunction::DenseRank,
                "lag" | "lead" => {
                    let by = match function.params.args.get(1) {
                        None => 1,
                        Some(Expr::Literal(ScalarValue::Int64(Some(by)), _)) => *by,
                        Some(other) => {
                            return Err(SqlError::unsupported(format!("LAG or LEAD by {other}"))
                                .with_hint("write the number out"));
                        }
                    };
                    let by = if udf.name() == "lag" { by } else { -by };
                    OverFunction::Lag { column: args[0], by }
                }
                "first_value" | "last_value" => {
                    let kind = match udf.name() {
                        "first_value" => crate::plan::stream::Function::First,
                        _ => crate::plan::stream::Function::Last,
                    };
                    let data_type = input.schema.field(args[0]).data_type().clone();
                    OverFunction::Aggregate(Call {
                        function: kind,
                        args,
                        input: data_type,
                        output: output.clone(),
                        filter,
                        is_distinct: false,
                        name: name.to_string(),
                    })
                }
                other => return Err(SqlError::unsupported(format!("the function {other} with OVER"))),
            },
        };
        let frame = match over {
            OverFunction::Aggregate(_) => {
                frame(&function.params.window_frame, function.params.order_by.is_empty())?
            }
            OverFunction::Lag { by, .. } if by < 0 => Frame::All,
            _ => Frame::Rows { before: None },
        };
        Ok(OverCall { function: over, frame, output: output.clone(), name: name.to_string() })
    }
}

/// The function as one that aggregates a group.
fn as_aggregate(function: &WindowFunction) -> Result<AggregateFunction, SqlError> {
    let WindowFunctionDefinition::AggregateUDF(udf) = &function.fun else {
        return Err(SqlError::unsupported("this function with OVER"));
    };
    Ok(AggregateFunction::new_udf(
        Arc::clone(udf),
        function.params.args.clone(),
        function.params.distinct,
        None,
        Vec::new(),
        None,
    ))
}

/// What of a function's arguments has to be a column.
fn arguments(function: &WindowFunction) -> Result<Vec<Expr>, SqlError> {
    match &function.fun {
        WindowFunctionDefinition::AggregateUDF(_) => Ok(self::function(&as_aggregate(function)?)?.1),
        WindowFunctionDefinition::WindowUDF(udf) => Ok(match udf.name() {
            "row_number" | "rank" | "dense_rank" => Vec::new(),
            _ => vec![function.params.args.first().cloned().unwrap_or_else(|| lit(ScalarValue::Null))],
        }),
    }
}

fn frame(frame: &WindowFrame, is_unordered: bool) -> Result<Frame, SqlError> {
    let wrong = || {
        SqlError::unsupported(format!("the frame {frame}"))
            .with_hint("frames begin UNBOUNDED PRECEDING or so much PRECEDING, and end at CURRENT ROW")
    };
    let is_unbounded = |bound: &WindowFrameBound| match bound {
        WindowFrameBound::Preceding(value) | WindowFrameBound::Following(value) => value.is_null(),
        WindowFrameBound::CurrentRow => false,
    };
    if is_unordered || (is_unbounded(&frame.start_bound) && is_unbounded(&frame.end_bound)) {
        return Ok(Frame::All);
    }
    if frame.end_bound != WindowFrameBound::CurrentRow {
        return Err(wrong());
    }
    let value = match &frame.start_bound {
        WindowFrameBound::CurrentRow => Some(ScalarValue::Int64(Some(0))),
        bound if is_unbounded(bound) => None,
        WindowFrameBound::Preceding(value) => Some(value.clone()),
        WindowFrameBound::Following(_) => return Err(wrong()),
    };
    match frame.units {
        WindowFrameUnits::Rows => {
            let rows = |value: ScalarValue| match value.cast_to(&DataType::UInt64) {
                Ok(ScalarValue::UInt64(Some(rows))) => Ok(rows),
                _ => Err(wrong()),
            };
            Ok(Frame::Rows { before: value.map(rows).transpose()? })
        }
        WindowFrameUnits::Range => {
            let ms = |value: ScalarValue| match value {
                ScalarValue::Int64(Some(0)) => Ok(0),
                other => interval_ms(&lit(other)).ok_or_else(wrong),
            };
            Ok(Frame::Range { before: value.map(ms).transpose()? })
        }
        WindowFrameUnits::Groups => Err(wrong()),
    }
}
