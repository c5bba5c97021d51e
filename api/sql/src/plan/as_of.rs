//! `JOIN t FOR SYSTEM_TIME AS OF o.time`: what the period refers to lies on the other side of the join, so it is bound
//! here, where both are known, as a condition that no optimiser rule takes apart.

use super::marker::marker;
use super::nodes::{Kind, StreamNode};
use super::transform;
use arrow::datatypes::DataType;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column, Result, plan_datafusion_err, plan_err};
use datafusion_expr::logical_plan::Join;
use datafusion_expr::{Expr, LogicalPlan};
use std::sync::Arc;

/// The condition's name.
pub(super) const AS_OF: &str = "$as_of";

/// Binds periods to the other side of their joins.
pub(super) fn recognise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let plan = transform(plan, |plan| match plan {
        LogicalPlan::Join(join) => bind(join),
        other => Ok(Transformed::no(other)),
    })?;
    plan.apply(|plan| match StreamNode::of(plan).map(|node| &node.kind) {
        Some(Kind::AsOf { time }) => {
            plan_err!("FOR SYSTEM_TIME AS OF {time} stands on the right side of a JOIN")
        }
        _ => Ok(TreeNodeRecursion::Continue),
    })?;
    Ok(plan)
}

fn bind(mut join: Join) -> Result<Transformed<LogicalPlan>> {
    let mut period = None;
    let right =
        Arc::unwrap_or_clone(Arc::clone(&join.right)).transform_down(|plan| {
            match StreamNode::of(&plan).map(|node| (&node.kind, &node.input)) {
                Some((Kind::AsOf { time }, input)) if period.is_none() => {
                    period = Some(time.clone());
                    let input = input.clone();
                    Ok(Transformed::new(input, true, TreeNodeRecursion::Stop))
                }
                _ => Ok(Transformed::no(plan)),
            }
        })?;
    let Some(period) = period else { return Ok(Transformed::no(LogicalPlan::Join(join))) };
    let right = right.data;
    let left = join.left.schema();
    let named = Column::from_qualified_name_ignore_case(period.replace('`', ""));
    let time = left.maybe_index_of_column(&named).ok_or_else(|| {
        plan_datafusion_err!("FOR SYSTEM_TIME AS OF {period}: the left side has no such column")
    })?;
    // The right side's event time, or whatever it has.
    let mut rowtime = None;
    right.apply(|plan| {
        if let Some(StreamNode { kind: Kind::Rowtime { column }, schema, .. }) = StreamNode::of(plan) {
            rowtime = right.schema().index_of_column_by_name(None, schema.field(*column).name());
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    let column =
        |plan: &LogicalPlan, at: usize| Expr::Column(Column::from(plan.schema().qualified_field(at)));
    // Left time and a column of the right side: its event time if it has one.
    let function = marker(AS_OF, Some(DataType::Boolean));
    let condition = function.call(vec![column(&join.left, time), column(&right, rowtime.unwrap_or(0))]);
    join.filter = Some(match join.filter.take() {
        Some(filter) => filter.and(condition),
        None => condition,
    });
    join.right = Arc::new(right);
    Ok(Transformed::yes(LogicalPlan::Join(join)))
}
