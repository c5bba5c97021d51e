//! Grouped windows, `GROUP BY TUMBLE(ts, INTERVAL '1' HOUR)`: the older way to say what windowing table functions say. They
//! become those, and `TUMBLE_START(…)` and its like the columns that those add.

use super::nodes::{StreamNode, WINDOW_COLUMNS, WindowKind};
use super::relations::interval_ms;
use super::transform;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, plan_err};
use datafusion_expr::expr::ScalarFunction;
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col};
use std::sync::Arc;

/// Turns them into windowing table functions.
pub(super) fn recognise(plan: LogicalPlan) -> Result<LogicalPlan> {
    transform(plan, |plan| match plan {
        LogicalPlan::Aggregate(aggregate) => recognise_aggregate(aggregate),
        plan => {
            // What is not grouped by has no windows, so `$window_start(…)` names columns of the input here.
            let exprs = plan.expressions();
            let named: Result<Vec<_>> = exprs.iter().map(|expr| with_columns(expr.clone())).collect();
            let named = named?;
            if named.iter().all(|expr| !expr.transformed) {
                return Ok(Transformed::no(plan));
            }
            // The columns keep the names that the functions gave them.
            let kept = named.into_iter().zip(&exprs).map(|(new, old)| match plan {
                LogicalPlan::Projection(_) => {
                    if new.transformed {
                        new.data.alias_if_changed(old.schema_name().to_string())
                    } else {
                        Ok(new.data)
                    }
                }
                _ => Ok(new.data),
            });
            let kept = kept.collect::<Result<Vec<_>>>()?;
            let inputs = plan.inputs().into_iter().cloned().collect();
            Ok(Transformed::yes(plan.with_new_exprs(kept, inputs)?))
        }
    })
}

/// `$window_start(x)` as the column that a window has.
fn with_columns(expr: Expr) -> Result<Transformed<Expr>> {
    expr.transform_up(|expr| {
        let name = match &expr {
            Expr::ScalarFunction(function) => match function.name() {
                "$window_start" => WINDOW_COLUMNS[0],
                "$window_end" => WINDOW_COLUMNS[1],
                "$window_rowtime" | "$window_proctime" => WINDOW_COLUMNS[2],
                _ => return Ok(Transformed::no(expr)),
            },
            _ => return Ok(Transformed::no(expr)),
        };
        Ok(Transformed::yes(Expr::Column(Column::new_unqualified(name))))
    })
}

fn marker(expr: &Expr) -> Option<&ScalarFunction> {
    match expr {
        Expr::ScalarFunction(function) if ["tumble", "hop", "session"].contains(&function.name()) => {
            Some(function)
        }
        Expr::Alias(alias) => marker(&alias.expr),
        _ => None,
    }
}

fn recognise_aggregate(aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
    let mut markers =
        aggregate.group_expr.iter().enumerate().filter_map(|(at, expr)| Some((at, marker(expr)?)));
    let Some((at, function)) = markers.next() else {
        return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
    };
    if markers.next().is_some() {
        return plan_err!("GROUP BY takes one window");
    }
    let schema = aggregate.input.schema();
    let Some(Expr::Column(time)) = function.args.first() else {
        return plan_err!("the window's first argument must be a column");
    };
    let time = schema.index_of_column(time)?;
    let lengths: Option<Vec<i64>> = function.args[1..].iter().map(interval_ms).collect();
    let window = match (function.name(), lengths.as_deref()) {
        ("tumble", Some([size])) => WindowKind::Tumble { size: *size, offset: 0 },
        ("hop", Some([slide, size])) if size % slide == 0 => {
            WindowKind::Hop { slide: *slide, size: *size, offset: 0 }
        }
        ("session", Some([gap])) => WindowKind::Session { gap: *gap },
        (name, _) => {
            return plan_err!("{name} takes a column and intervals such as INTERVAL '10' SECOND");
        }
    };
    let mut partition = Vec::new();
    for (place, expr) in aggregate.group_expr.iter().enumerate().filter(|(place, _)| *place != at) {
        match expr {
            Expr::Column(column) => partition.push(schema.index_of_column(column)?),
            _ if matches!(window, WindowKind::Session { .. }) => {
                return plan_err!(
                    "GROUP BY SESSION takes columns beside it, not {}",
                    aggregate.group_expr[place]
                );
            }
            _ => {}
        }
    }
    let name = aggregate.schema.field(at).name().clone();
    let input =
        StreamNode::window(Arc::unwrap_or_clone(aggregate.input), window, time, partition)?.into_plan();
    let mut groups = aggregate.group_expr;
    groups.remove(at);
    groups.extend(WINDOW_COLUMNS.map(col));
    let grouped = Aggregate::try_new(Arc::new(input), groups, aggregate.aggr_expr)?;
    // Above, the window's own column is still known under the name of its function.
    let mut exprs: Vec<Expr> = grouped.schema.columns().into_iter().map(Expr::Column).collect();
    exprs.push(col(WINDOW_COLUMNS[0]).alias(name));
    let plan = LogicalPlanBuilder::from(LogicalPlan::Aggregate(grouped)).project(exprs)?;
    Ok(Transformed::yes(plan.build()?))
}
