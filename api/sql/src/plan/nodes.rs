//! What streams need beside DataFusion's logical plan, as extension nodes of it.

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, Result, plan_err};
use datafusion_expr::{Expr, Extension, LogicalPlan, SortExpr, UserDefinedLogicalNodeCore};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

/// Columns that a windowing table function adds.
pub(crate) const WINDOW_COLUMNS: [&str; 3] = ["window_start", "window_end", "window_time"];

/// What a node does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Says that a column is the event time that watermarks are of. The source makes them.
    Rowtime { column: usize },
    /// Puts each row into its windows.
    Window { window: WindowKind, time: usize, partition: Vec<usize> },
    /// The side of a join that is looked up as of the other side's time, which is named.
    AsOf { time: String },
    /// Numbers the rows of each partition in their order and keeps some.
    Rank { partition: Vec<usize>, from: u64, to: u64 },
}

/// A windowing table function; lengths in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum WindowKind {
    Tumble { size: i64, offset: i64 },
    Hop { slide: i64, size: i64, offset: i64 },
    Cumulate { step: i64, size: i64, offset: i64 },
    Session { gap: i64 },
}

/// A node of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct StreamNode {
    pub(crate) kind: Kind,
    pub(crate) input: LogicalPlan,
    /// The order of [`Kind::Rank`].
    pub(crate) order: Vec<SortExpr>,
    pub(crate) schema: DFSchemaRef,
}

impl StreamNode {
    pub(crate) fn into_plan(self) -> LogicalPlan {
        LogicalPlan::Extension(Extension { node: Arc::new(self) })
    }

    /// The stream node in a plan, if it is one.
    pub(crate) fn of(plan: &LogicalPlan) -> Option<&StreamNode> {
        match plan {
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    pub(crate) fn rowtime(input: LogicalPlan, column: usize) -> Self {
        let schema = Arc::clone(input.schema());
        StreamNode { kind: Kind::Rowtime { column }, input, order: Vec::new(), schema }
    }

    pub(crate) fn window(
        input: LogicalPlan,
        window: WindowKind,
        time: usize,
        partition: Vec<usize>,
    ) -> Result<Self> {
        let data_type = input.schema().field(time).data_type();
        if !matches!(data_type, DataType::Timestamp(TimeUnit::Millisecond, _)) {
            let name = crate::types::name_of(data_type);
            return plan_err!(
                "windows need a column of type TIMESTAMP(3) or TIMESTAMP_LTZ(3), '{}' is {name}",
                input.schema().field(time).name()
            );
        }
        let schema = window_schema(input.schema(), time)?;
        Ok(StreamNode { kind: Kind::Window { window, time, partition }, input, order: Vec::new(), schema })
    }

    pub(crate) fn as_of(input: LogicalPlan, time: String) -> Self {
        let schema = Arc::clone(input.schema());
        StreamNode { kind: Kind::AsOf { time }, input, order: Vec::new(), schema }
    }
}

/// The input's columns and those of its windows.
fn window_schema(input: &DFSchemaRef, time: usize) -> Result<DFSchemaRef> {
    let mut fields: Vec<_> = input.iter().map(|(table, field)| (table.cloned(), Arc::clone(field))).collect();
    let plain = DataType::Timestamp(TimeUnit::Millisecond, None);
    for name in WINDOW_COLUMNS {
        let data_type = if name == "window_time" { input.field(time).data_type() } else { &plain };
        fields.push((None, Arc::new(Field::new(name, data_type.clone(), false))));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, input.metadata().clone())?))
}

/// Plans do not compare but where they are equal.
impl PartialOrd for StreamNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for StreamNode {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Rowtime { .. } => "Rowtime",
            Kind::Window { .. } => "Window",
            Kind::AsOf { .. } => "AsOf",
            Kind::Rank { .. } => "Rank",
        }
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.order.iter().map(|sort| sort.expr.clone()).collect()
    }

    /// A filter may go below what leaves its rows as they are.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        let named =
            |places: &[usize]| places.iter().map(|at| self.schema.field(*at).name().clone()).collect();
        let all = || self.schema.fields().iter().map(|field| field.name().clone()).collect();
        match &self.kind {
            Kind::Rowtime { .. } => HashSet::new(),
            Kind::Window { window: WindowKind::Session { .. }, .. } | Kind::AsOf { .. } => all(),
            Kind::Window { .. } => WINDOW_COLUMNS.map(str::to_string).into(),
            Kind::Rank { partition, .. } => {
                let kept: HashSet<String> = named(partition);
                let others = self.schema.fields().iter().map(|field| field.name().clone());
                others.filter(|name| !kept.contains(name)).collect()
            }
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", UserDefinedLogicalNodeCore::name(self), self.kind)
    }

    /// The input may have become narrower: columns are found again by name.
    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        let lost = || DataFusionError::Internal("a stream node lost its input".into());
        let input = inputs.pop().ok_or_else(lost)?;
        let (old, new) = (self.input.schema(), input.schema());
        let moved = |at: &usize| -> Result<usize> {
            let (table, field) = old.qualified_field(*at);
            let found = new.index_of_column_by_name(table, field.name());
            found.or_else(|| new.index_of_column_by_name(None, field.name())).ok_or_else(lost)
        };
        let all_moved = |places: &[usize]| places.iter().map(moved).collect::<Result<Vec<_>>>();
        let (kind, schema) = match &self.kind {
            Kind::Rowtime { column } => (Kind::Rowtime { column: moved(column)? }, Arc::clone(new)),
            Kind::Window { window, time, partition } => {
                let time = moved(time)?;
                let kind = Kind::Window { window: *window, time, partition: all_moved(partition)? };
                (kind, window_schema(new, time)?)
            }
            Kind::AsOf { time } => (Kind::AsOf { time: time.clone() }, Arc::clone(new)),
            Kind::Rank { partition, from, to } => {
                let number = self.schema.iter().last().ok_or_else(lost)?;
                let kind = Kind::Rank { partition: all_moved(partition)?, from: *from, to: *to };
                (kind, rank_schema(new, (number.0.cloned(), Arc::clone(number.1)))?)
            }
        };
        let order = self.order.iter().zip(exprs);
        let order = order.map(|(sort, expr)| SortExpr::new(expr, sort.asc, sort.nulls_first)).collect();
        Ok(StreamNode { kind, input, order, schema })
    }

    fn necessary_children_exprs(&self, output: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output.iter().copied().filter(|at| *at < width).collect();
        match &self.kind {
            Kind::Rowtime { column } => needed.push(*column),
            Kind::Window { time, partition, .. } => {
                needed.push(*time);
                needed.extend(partition);
            }
            Kind::AsOf { .. } => {}
            Kind::Rank { partition, .. } => {
                needed.extend(partition);
                for sort in &self.order {
                    for column in sort.expr.column_refs() {
                        needed.push(self.input.schema().maybe_index_of_column(column)?);
                    }
                }
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

type QualifiedField = (Option<datafusion_common::TableReference>, arrow::datatypes::FieldRef);

/// The input's columns and the row's number.
pub(crate) fn rank_schema(input: &DFSchemaRef, number: QualifiedField) -> Result<DFSchemaRef> {
    let mut fields: Vec<_> = input.iter().map(|(table, field)| (table.cloned(), Arc::clone(field))).collect();
    fields.push(number);
    Ok(Arc::new(DFSchema::new_with_metadata(fields, input.metadata().clone())?))
}
