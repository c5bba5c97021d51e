//! Top-N: `WHERE n <= 10` over `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …) AS n` keeps ten rows of each partition
//! rather than numbering all. Recognised before optimisation, which drops columns that prove it.

use super::nodes::{Kind, StreamNode, rank_schema};
use super::transform;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr::WindowFunction;
use datafusion_expr::logical_plan::Window;
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator, SortExpr};
use std::sync::Arc;

/// Turns such filters into [`Kind::Rank`].
pub(super) fn recognise(plan: LogicalPlan) -> Result<LogicalPlan> {
    transform(plan, |plan| match plan {
        LogicalPlan::Filter(filter) => recognise_filter(filter),
        other => Ok(Transformed::no(other)),
    })
}

fn recognise_filter(filter: Filter) -> Result<Transformed<LogicalPlan>> {
    let unchanged = |filter| Ok(Transformed::no(LogicalPlan::Filter(filter)));
    let mut bounds = (1, u64::MAX);
    let mut number = None;
    let mut others = Vec::new();
    for condition in split_conjunction_owned(filter.predicate.clone()) {
        match bound(&condition, &filter.input) {
            Some((column, from, to)) if number.is_none_or(|other| other == column) => {
                number = Some(column);
                bounds = (bounds.0.max(from), bounds.1.min(to));
            }
            _ => others.push(condition),
        }
    }
    let Some(number) = number.filter(|_| bounds.1 < u64::MAX) else { return unchanged(filter) };
    let Some(input) = with_rank(&filter.input, number, bounds)? else { return unchanged(filter) };
    Ok(Transformed::yes(match conjunction(others) {
        Some(predicate) => LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(input))?),
        None => input,
    }))
}

/// The column that a condition bounds, and the smallest and largest value it lets through.
fn bound(condition: &Expr, input: &LogicalPlan) -> Option<(usize, u64, u64)> {
    let column = |expr: &Expr| match expr {
        Expr::Column(column) => input.schema().maybe_index_of_column(column),
        _ => None,
    };
    let number = |expr: &Expr| match expr {
        Expr::Literal(ScalarValue::Int64(Some(n)), _) => u64::try_from(*n).ok(),
        Expr::Literal(ScalarValue::UInt64(Some(n)), _) => Some(*n),
        _ => None,
    };
    match condition {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (at, op, n) = match (column(left), number(right)) {
                (Some(at), Some(n)) => (at, *op, n),
                _ => (column(right)?, op.swap()?, number(left)?),
            };
            match op {
                Operator::LtEq => Some((at, 1, n)),
                Operator::Lt => Some((at, 1, n.checked_sub(1)?)),
                Operator::Eq => Some((at, n, n)),
                Operator::GtEq => Some((at, n, u64::MAX)),
                Operator::Gt => Some((at, n.checked_add(1)?, u64::MAX)),
                _ => None,
            }
        }
        Expr::Between(between) if !between.negated => {
            Some((column(&between.expr)?, number(&between.low)?, number(&between.high)?))
        }
        _ => None,
    }
}

/// The plan with the window function that makes column `at` turned into a rank, if it is one.
fn with_rank(plan: &LogicalPlan, at: usize, bounds: (u64, u64)) -> Result<Option<LogicalPlan>> {
    let below = match plan {
        LogicalPlan::SubqueryAlias(alias) => with_rank(&alias.input, at, bounds)?,
        LogicalPlan::Projection(projection) => {
            let column = match &projection.expr[at] {
                Expr::Alias(alias) => match &*alias.expr {
                    Expr::Column(column) => column,
                    _ => return Ok(None),
                },
                Expr::Column(column) => column,
                _ => return Ok(None),
            };
            with_rank(&projection.input, projection.input.schema().index_of_column(column)?, bounds)?
        }
        LogicalPlan::Window(window) => return rank(window, at, bounds),
        _ => None,
    };
    below.map(|input| plan.with_new_exprs(plan.expressions(), vec![input])).transpose()
}

/// The expression of a window function, below its names.
fn function_of(expr: &Expr) -> Option<&WindowFunction> {
    match expr {
        Expr::WindowFunction(function) => Some(function),
        Expr::Alias(alias) => function_of(&alias.expr),
        _ => None,
    }
}

fn rank(window: &Window, at: usize, (from, to): (u64, u64)) -> Result<Option<LogicalPlan>> {
    let schema = window.input.schema();
    let [expr] = &window.window_expr[..] else { return Ok(None) };
    let Some(function) = function_of(expr) else { return Ok(None) };
    if function.fun.name() != "row_number" || at != schema.fields().len() {
        return Ok(None);
    }
    let partition = function.params.partition_by.iter().map(|expr| match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        _ => None,
    });
    let Some(partition) = partition.collect() else { return Ok(None) };
    let order: Vec<SortExpr> = function.params.order_by.clone();
    let (table, field) = window.schema.qualified_field(at);
    Ok(Some(
        StreamNode {
            kind: Kind::Rank { partition, from, to },
            input: (*window.input).clone(),
            order,
            schema: rank_schema(schema, (table.cloned(), Arc::clone(field)))?,
        }
        .into_plan(),
    ))
}
