//! Joins lowered: keys, what pairs must satisfy beside, and how long rows are kept.

use super::{Lowering, schema_of, selected};
use crate::error::SqlError;
use crate::plan::as_of::AS_OF;
use crate::plan::relations::interval_ms;
use crate::plan::stream::{Bounds, Join, JoinKind, Node, Op, Properties, TimeColumn};
use arrow::datatypes::DataType;
use datafusion_common::{DFSchema, JoinType, NullEquality};
use datafusion_expr::logical_plan::Join as LogicalJoin;
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, Operator};
use std::sync::Arc;

impl Lowering {
    pub(super) fn join(&self, join: &LogicalJoin) -> Result<Node, SqlError> {
        if matches!(join.join_type, JoinType::RightSemi | JoinType::RightAnti | JoinType::RightMark) {
            return self.join(&swapped(join)?);
        }
        let (left, right) = (self.lower(&join.left)?, self.lower(&join.right)?);
        let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
        let (width, right_width) = (left_schema.fields().len(), right_schema.fields().len());
        let (own_width, own_right) = (left.schema.fields().len(), right.schema.fields().len());
        let (left_exprs, right_exprs): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = self.with_columns(left, left_schema, &left_exprs)?;
        let (right, right_keys) = self.with_columns(right, right_schema, &right_exprs)?;
        let (wide, right_wide) = (left.schema.fields().len(), right.schema.fields().len());

        let conditions: Vec<&Expr> = join.filter.iter().flat_map(split_conjunction).collect();
        let (as_of, conditions): (Vec<&Expr>, Vec<&Expr>) =
            conditions.into_iter().partition(|expr| as_of_args(expr).is_some());
        let both = left_schema.join(right_schema)?;
        let filter = conjunction(conditions.iter().map(|expr| (*expr).clone()));
        let filter = filter.map(|filter| self.physical(&filter, &both)).transpose()?;
        if filter.is_some() && (own_width > width || own_right > right_width) {
            return Err(SqlError::unsupported("a join of rows without columns on a condition")
                .with_hint("select a column of each side"));
        }
        if filter.is_some() && (wide > width || right_wide > right_width) {
            // The filter names columns by their places without those that keys were computed into.
            return self.join_by_filter(join);
        }
        let keys: Vec<(usize, usize)> = left_keys.into_iter().zip(right_keys).collect();
        let kind = match as_of.first().and_then(|expr| as_of_args(expr)) {
            Some((time, version)) => as_of_kind(join, time, version, &left, &right)?,
            None => match join.join_type {
                JoinType::Inner => JoinKind::Pairs { left: false, right: false },
                JoinType::Left => JoinKind::Pairs { left: true, right: false },
                JoinType::Right => JoinKind::Pairs { left: false, right: true },
                JoinType::Full => JoinKind::Pairs { left: true, right: true },
                JoinType::LeftSemi => JoinKind::Semi { anti: false },
                JoinType::LeftAnti => JoinKind::Semi { anti: true },
                JoinType::LeftMark => JoinKind::Mark,
                other => return Err(SqlError::unsupported(format!("{other} join"))),
            },
        };
        let bounds = bounds(&left, &right, &keys, &conditions, &both, width, kind);
        let schema = schema_of(&join.schema);
        let mut fields: Vec<_> = left.schema.fields().iter().cloned().collect();
        let (left_only, marks) = (matches!(kind, JoinKind::Semi { .. }), kind == JoinKind::Mark);
        if marks {
            let mark = schema.field(schema.fields().len() - 1);
            fields.push(Arc::new(mark.clone()));
        } else if !left_only {
            fields.extend(right.schema.fields().iter().cloned());
        }
        let properties = properties(&left, &right, &keys, kind, bounds, self.is_batch);
        let joined = Join {
            kind,
            keys,
            nulls_equal: join.null_equality == NullEquality::NullEqualsNull,
            filter,
            bounds,
        };
        let wide_schema = Arc::new(arrow::datatypes::Schema::new(fields));
        let mut node = Node {
            op: Op::Join(Box::new(joined)),
            inputs: vec![left, right],
            schema: wide_schema,
            properties,
        };
        // Columns that keys were computed into are dropped again.
        if wide > width || (right_wide > right_width && !left_only && !marks) {
            let right_columns = (!left_only && !marks).then_some(wide..wide + right_width);
            let mark = marks.then_some(wide);
            let mut kept: Vec<usize> =
                (0..width).chain(right_columns.into_iter().flatten()).chain(mark).collect();
            if kept.is_empty() {
                // A batch needs a column to have rows.
                kept.push(0);
            }
            node = selected(node, &kept);
        }
        if node.schema.fields().len() == schema.fields().len() {
            node.schema = schema;
        }
        Ok(node)
    }

    /// A join whose keys are computed and whose filter is over the inputs' own columns: keys are computed below first.
    fn join_by_filter(&self, join: &LogicalJoin) -> Result<Node, SqlError> {
        let side = |plan: &Arc<LogicalPlan>, keys: Vec<Expr>, prefix: &str| -> Result<_, SqlError> {
            let mut exprs: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
            let mut named = Vec::new();
            for (at, key) in keys.into_iter().enumerate() {
                if matches!(key, Expr::Column(_)) {
                    named.push(key);
                    continue;
                }
                let name = format!("$key_{prefix}{at}");
                exprs.push(key.alias(&name));
                named.push(Expr::Column(datafusion_common::Column::new_unqualified(name)));
            }
            let plan = LogicalPlanBuilder::from((**plan).clone()).project(exprs)?.build()?;
            Ok((Arc::new(plan), named))
        };
        let (left_keys, right_keys): (Vec<Expr>, Vec<Expr>) = join.on.iter().cloned().unzip();
        let (left, left_keys) = side(&join.left, left_keys, "l")?;
        let (right, right_keys) = side(&join.right, right_keys, "r")?;
        let on = left_keys.into_iter().zip(right_keys).collect();
        let wide = LogicalJoin::try_new(
            left,
            right,
            on,
            join.filter.clone(),
            join.join_type,
            join.join_constraint,
            join.null_equality,
            join.null_aware,
        )?;
        let kept: Vec<usize> = join
            .schema
            .columns()
            .iter()
            .enumerate()
            .filter_map(|(at, column)| match join.join_type {
                // The mark has no name of its own to be found by.
                JoinType::LeftMark if at + 1 == join.schema.fields().len() => {
                    Some(wide.schema.fields().len() - 1)
                }
                _ => wide.schema.maybe_index_of_column(column),
            })
            .collect();
        let mut node = selected(self.join(&wide)?, &kept);
        node.schema = schema_of(&join.schema);
        Ok(node)
    }
}

fn swapped(join: &LogicalJoin) -> Result<LogicalJoin, SqlError> {
    let on = join.on.iter().map(|(left, right)| (right.clone(), left.clone())).collect();
    Ok(LogicalJoin::try_new(
        Arc::clone(&join.right),
        Arc::clone(&join.left),
        on,
        join.filter.clone(),
        join.join_type.swap(),
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )?)
}

/// The arguments of the condition that a period became.
fn as_of_args(expr: &Expr) -> Option<(&Expr, &Expr)> {
    match expr {
        Expr::ScalarFunction(function) if function.name() == AS_OF => match &function.args[..] {
            [time, version] => Some((time, version)),
            _ => None,
        },
        _ => None,
    }
}

fn as_of_kind(
    join: &LogicalJoin,
    time: &Expr,
    version: &Expr,
    left: &Node,
    right: &Node,
) -> Result<JoinKind, SqlError> {
    let outer = match join.join_type {
        JoinType::Inner => false,
        JoinType::Left => true,
        other => {
            let message = format!("{other} join with FOR SYSTEM_TIME AS OF");
            return Err(SqlError::unsupported(message).with_hint("it can be JOIN or LEFT JOIN"));
        }
    };
    if join.on.is_empty() {
        return Err(SqlError::statement(
            "FOR SYSTEM_TIME AS OF needs a condition that columns of both sides be equal",
        ));
    }
    let place = |expr: &Expr, schema: &DFSchema| super::column_of(expr, schema);
    let (left_time, right_time) = (place(time, join.left.schema()), place(version, join.right.schema()));
    let is_event_time =
        |node: &Node, at: Option<usize>| at.filter(|at| node.properties.delay_of(*at).is_some());
    match (is_event_time(left, left_time), is_event_time(right, right_time)) {
        (Some(left_time), Some(right_time)) => Ok(JoinKind::AsOf { left_time, right_time, outer }),
        (Some(_), None) => Err(SqlError::statement(format!(
            "the table that is joined as of {time} has no event time: declare WATERMARK FOR a column of it, and PRIMARY KEY"
        ))),
        _ => Ok(JoinKind::Lookup { outer }),
    }
}

/// What limits how long rows are kept.
fn bounds(
    left: &Node,
    right: &Node,
    keys: &[(usize, usize)],
    conditions: &[&Expr],
    both: &DFSchema,
    width: usize,
    kind: JoinKind,
) -> Bounds {
    if matches!(kind, JoinKind::AsOf { .. } | JoinKind::Lookup { .. }) {
        return Bounds::None;
    }
    let equal = keys.iter().filter_map(|&(l, r)| {
        let delay = left.properties.delay_of(l)?.max(right.properties.delay_of(r)?);
        Some((delay, l, r))
    });
    if let Some((delay, left, right)) = equal.min() {
        return Bounds::Equal { left, right, delay };
    }
    if !left.properties.is_append_only || !right.properties.is_append_only {
        return Bounds::None;
    }
    // Differences of one pair of time columns.
    let mut found: Option<(usize, usize)> = None;
    let (mut before, mut after) = (None::<i64>, None::<i64>);
    for condition in conditions {
        let Expr::BinaryExpr(binary) = condition else { continue };
        let (Some(a), Some(b)) = (moment(&binary.left, both), moment(&binary.right, both)) else { continue };
        // As `left - right <= most` or `left - right >= least`, in milliseconds.
        let (l, r, op, difference) = match (a.0 < width, b.0 < width) {
            (true, false) => (a.0, b.0 - width, binary.op, b.1 - a.1),
            (false, true) => match binary.op.swap() {
                Some(op) => (b.0, a.0 - width, op, a.1 - b.1),
                None => continue,
            },
            _ => continue,
        };
        let follow = left.properties.delay_of(l) == Some(0) && right.properties.delay_of(r) == Some(0);
        if !follow || found.is_some_and(|pair| pair != (l, r)) {
            continue;
        }
        found = Some((l, r));
        if matches!(op, Operator::LtEq | Operator::Lt | Operator::Eq) {
            after = Some(after.map_or(difference, |after| after.min(difference)));
        }
        if matches!(op, Operator::GtEq | Operator::Gt | Operator::Eq) {
            before = Some(before.map_or(-difference, |before| before.min(-difference)));
        }
    }
    match (found, before, after) {
        (Some((left, right)), Some(before), Some(after)) => Bounds::Within { left, right, before, after },
        _ => Bounds::None,
    }
}

/// A time column and the milliseconds that an expression adds to it.
fn moment(expr: &Expr, schema: &DFSchema) -> Option<(usize, i64)> {
    match expr {
        Expr::Column(column) => Some((schema.maybe_index_of_column(column)?, 0)),
        Expr::Cast(cast) if matches!(cast.field.data_type(), DataType::Timestamp(..)) => {
            moment(&cast.expr, schema)
        }
        Expr::BinaryExpr(binary) => {
            let (column, ms) = moment(&binary.left, schema)?;
            match binary.op {
                Operator::Plus => Some((column, ms + interval_ms(&binary.right)?)),
                Operator::Minus => Some((column, ms - interval_ms(&binary.right)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn properties(
    left: &Node,
    right: &Node,
    keys: &[(usize, usize)],
    kind: JoinKind,
    bounds: Bounds,
    is_batch: bool,
) -> Properties {
    let (l, r) = (&left.properties, &right.properties);
    let width = left.schema.fields().len();
    let both_append = l.is_append_only && r.is_append_only;
    let mut properties = Properties::default();
    let shifted = |key: &Vec<usize>| key.iter().map(|at| at + width).collect::<Vec<_>>();
    match kind {
        JoinKind::Pairs { left: keep_left, right: keep_right } => {
            properties.is_append_only = (both_append && !keep_left && !keep_right) || is_batch;
            // A row of one side that meets at most one of the other keeps its key.
            let unique = |keys_of: &[Vec<usize>], side: &dyn Fn(&(usize, usize)) -> usize| {
                keys_of.iter().any(|key| key.iter().all(|at| keys.iter().any(|pair| side(pair) == *at)))
            };
            if unique(&r.keys, &|pair| pair.1) && !keep_right {
                properties.keys.extend(l.keys.iter().cloned());
            }
            if unique(&l.keys, &|pair| pair.0) && !keep_left {
                properties.keys.extend(r.keys.iter().map(shifted));
            }
            for a in &l.keys {
                properties.keys.extend(r.keys.iter().map(|b| [a.clone(), shifted(b)].concat()));
            }
            // Nulls of missing partners, and rows that outer joins hold back, do not follow the watermark.
            if !keep_left && !keep_right {
                match bounds {
                    Bounds::Equal { .. } => {
                        let late = |time: &TimeColumn| keys.iter().any(|pair| pair.0 == time.column);
                        properties.times.extend(l.times.iter().filter(|time| late(time)));
                        let late = |time: &&TimeColumn| keys.iter().any(|pair| pair.1 == time.column);
                        properties.times.extend(
                            r.times
                                .iter()
                                .filter(late)
                                .map(|time| TimeColumn { column: time.column + width, ..*time }),
                        );
                        properties.window = l.window;
                    }
                    Bounds::Within { left, right, before, after } => {
                        // A pair comes when the later of its rows does, so either time may lag by the other's bound.
                        let delay = |a: Option<i64>, lag: i64| a.unwrap_or(0).saturating_add(lag.max(0));
                        let of_left = delay(l.delay_of(left), before.max(0));
                        let of_right = delay(r.delay_of(right), after.max(0));
                        properties.times.push(TimeColumn { column: left, delay: of_left.max(before) });
                        properties
                            .times
                            .push(TimeColumn { column: right + width, delay: of_right.max(after) });
                    }
                    Bounds::None => {}
                }
            }
        }
        JoinKind::Semi { anti } => {
            properties.is_append_only = (l.is_append_only && r.is_append_only && !anti) || is_batch;
            properties.keys = l.keys.clone();
            if matches!(bounds, Bounds::Equal { .. }) {
                let late = |time: &&TimeColumn| keys.iter().any(|pair| pair.0 == time.column);
                properties.times.extend(l.times.iter().filter(late));
                properties.window = l.window;
            }
        }
        JoinKind::Mark => {
            properties.is_append_only = is_batch;
            properties.keys = l.keys.clone();
        }
        JoinKind::AsOf { .. } | JoinKind::Lookup { .. } => {
            properties = l.clone();
            properties.keys.clear();
            if matches!(kind, JoinKind::AsOf { .. }) {
                properties.keys = l.keys.clone();
                // Rows wait for the watermark and are put out before it passes on.
                properties.is_append_only = true;
            }
        }
    }
    properties
}
