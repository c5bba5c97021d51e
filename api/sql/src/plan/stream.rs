//! The plan of a stream: our operators, with what is known of their output.

use super::nodes::WindowKind;
use crate::catalog::Table;
use crate::types::name_of;
use arrow::array::RecordBatch;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_physical_expr::PhysicalExpr;
use std::fmt::Write;
use std::sync::Arc;

/// An expression over the columns of an operator's input.
pub(crate) type Physical = Arc<dyn PhysicalExpr>;

/// An operator and those that it reads.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) op: Op,
    pub(crate) inputs: Vec<Node>,
    pub(crate) schema: SchemaRef,
    pub(crate) properties: Properties,
}

/// What is known of an operator's output.
#[derive(Clone, Debug, Default)]
pub(crate) struct Properties {
    /// Whether rows are only ever added.
    pub(crate) is_append_only: bool,
    /// Sets of columns each of which tells rows apart: no two that are there at one time are equal in them.
    pub(crate) keys: Vec<Vec<usize>>,
    /// Columns that follow the watermark.
    pub(crate) times: Vec<TimeColumn>,
    /// Columns that hold the beginning and the end of the row's window.
    pub(crate) window: Option<Window>,
    /// Columns that hold the machine's time.
    pub(crate) processing_times: Vec<usize>,
}

/// A column of which the watermark tells: behind a watermark `w` come only rows in which it is above `w - delay`, but for
/// late ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimeColumn {
    pub(crate) column: usize,
    pub(crate) delay: i64,
}

/// Where a row's window lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: usize,
    pub(crate) end: usize,
    /// Whether windows end by the machine's time.
    pub(crate) is_processing_time: bool,
}

/// What an operator does.
#[derive(Clone)]
pub(crate) enum Op {
    /// Reads a table's columns; the watermark is an expression over them.
    Scan { table: Arc<Table>, columns: Vec<usize>, watermark: Option<Physical> },
    /// Rows that the statement holds.
    Values(RecordBatch),
    /// Keeps rows and computes columns.
    Calc { predicate: Option<Physical>, columns: Option<Vec<Physical>> },
    /// Puts rows into windows, but for sessions, which only an aggregate makes.
    Window { window: WindowKind, time: usize },
    /// Groups rows. `emit` says when results are put out.
    Aggregate { groups: Vec<usize>, calls: Vec<Call>, emit: Emit },
    /// Joins two inputs.
    Join(Box<Join>),
    /// Keeps rows by their number in an order.
    Rank {
        partition: Vec<usize>,
        order: Vec<SortKey>,
        from: u64,
        to: u64,
        has_number: bool,
        /// The end of the rows' window: they are put out once it is over.
        window_end: Option<usize>,
    },
    /// Computes functions of each row's neighbours.
    Over { partition: Vec<usize>, order: Vec<SortKey>, calls: Vec<OverCall>, time: Option<usize> },
    /// All rows of all inputs.
    Union,
    /// Puts rows into order once all are there.
    Sort { order: Vec<SortKey>, skip: usize, fetch: Option<usize> },
    /// Puts rows into the order of a time column as the watermark passes them.
    TimeSort { time: usize, order: Vec<SortKey> },
}

/// When an aggregate puts out results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Emit {
    /// Each change.
    Changes,
    /// Once, when the input has ended.
    AtEnd,
    /// When the window in these columns of the input, which are among the groups, is over.
    WindowEnd { end: usize, is_processing_time: bool },
    /// When a session is over: rows of one group, of which each comes at most `gap` after another. Three columns, the
    /// session's bounds and its time, come behind the groups.
    Session { time: usize, gap: i64, is_processing_time: bool },
}

/// An aggregate function of some columns.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    pub(crate) function: Function,
    pub(crate) args: Vec<usize>,
    /// The type of the first argument.
    pub(crate) input: DataType,
    pub(crate) output: DataType,
    /// A column of truth values: rows in which it is not true do not count.
    pub(crate) filter: Option<usize>,
    pub(crate) is_distinct: bool,
    pub(crate) name: String,
}

/// Aggregate functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Count,
    Sum,
    /// The sum, or 0 of nothing.
    Sum0,
    Avg,
    Min,
    Max,
    First,
    Last,
    ListAgg {
        separator: String,
    },
    Variance {
        is_sample: bool,
        is_root: bool,
    },
    BoolAnd,
    BoolOr,
}

/// A join of two inputs.
#[derive(Clone)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    /// Columns that must be equal, left and right.
    pub(crate) keys: Vec<(usize, usize)>,
    /// Whether two nulls are equal.
    pub(crate) nulls_equal: bool,
    /// What pairs must satisfy beside, over the columns of both.
    pub(crate) filter: Option<Physical>,
    /// How long rows are kept.
    pub(crate) bounds: Bounds,
}

/// What a join puts out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JoinKind {
    /// Pairs; rows of the sides marked that have no partner, with nulls.
    Pairs { left: bool, right: bool },
    /// Rows of the left side that have a partner, or have none.
    Semi { anti: bool },
    /// Rows of the left side and whether they have a partner.
    Mark,
    /// For each row of the left side the row of the right that was valid at its time; outer if rows without one stay.
    AsOf { left_time: usize, right_time: usize, outer: bool },
    /// For each row of the left side the rows of the right that are there now, which are looked up.
    Lookup { outer: bool },
}

/// How long a join keeps rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// For ever.
    None,
    /// Until the watermark has passed a pair of columns that must be equal.
    Equal { left: usize, right: usize, delay: i64 },
    /// `right - before <= left <= right + after`, in milliseconds.
    Within { left: usize, right: usize, before: i64, after: i64 },
}

/// A column to sort by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SortKey {
    pub(crate) column: usize,
    pub(crate) options: SortOptions,
}

/// A function of a row's neighbours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OverCall {
    pub(crate) function: OverFunction,
    pub(crate) frame: Frame,
    pub(crate) output: DataType,
    pub(crate) name: String,
}

/// Functions of a row's neighbours.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OverFunction {
    Aggregate(Call),
    RowNumber,
    Rank,
    DenseRank,
    /// The value some rows before, or, below zero, after.
    Lag {
        column: usize,
        by: i64,
    },
}

/// Which neighbours count: all before and with the row, or a limited number of rows or milliseconds before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// All rows of the partition.
    All,
    /// Rows up to the row itself: so many before it, or all.
    Rows { before: Option<u64> },
    /// Rows whose first order column is at most this far before, or all, with those that are equal.
    Range { before: Option<i64> },
}

impl Node {
    /// The plan as a tree of lines.
    pub(crate) fn explain(&self, changelog: bool, advice: bool) -> String {
        let mut text = String::new();
        self.write(0, changelog, &mut text);
        if advice {
            let mut advices = Vec::new();
            self.advise(&mut advices);
            let advices = if advices.is_empty() { vec!["no advice".to_string()] } else { advices };
            let _ = write!(text, "\n== Advice ==\n{}\n", advices.join("\n"));
        }
        text
    }

    fn write(&self, depth: usize, changelog: bool, text: &mut String) {
        let columns = |at: &usize| self.schema.field(*at).name().clone();
        let _ = write!(text, "{}{}", "  ".repeat(depth), self.op.describe(&self.inputs));
        if changelog {
            let kinds = if self.properties.is_append_only { "I" } else { "I,UB,UA,D" };
            let _ = write!(text, ", changelogMode=[{kinds}]");
            let keys = self.properties.keys.iter();
            let keys: Vec<_> =
                keys.map(|key| key.iter().map(columns).collect::<Vec<_>>().join(", ")).collect();
            if !keys.is_empty() {
                let _ = write!(text, ", upsertKeys=[{}]", keys.join(" | "));
            }
        }
        text.push('\n');
        self.inputs.iter().for_each(|input| input.write(depth + 1, changelog, text));
    }

    /// Says where state grows for ever.
    fn advise(&self, advices: &mut Vec<String>) {
        let grows = match &self.op {
            Op::Aggregate { emit: Emit::Changes, groups, .. } => !groups.is_empty(),
            Op::Join(join) => join.bounds == Bounds::None && !matches!(join.kind, JoinKind::Lookup { .. }),
            Op::Rank { partition, .. } => !partition.is_empty(),
            Op::Over { time: None, .. } => true,
            _ => false,
        };
        if grows {
            advices.push(format!(
                "warning: the state of '{}' grows for ever: bound it by time, with windows or conditions on event time",
                self.op.describe(&self.inputs)
            ));
        }
        self.inputs.iter().for_each(|input| input.advise(advices));
    }

    /// What tells this operator from another: what it does and what it reads.
    pub(crate) fn lineage(&self) -> String {
        let inputs: Vec<_> = self.inputs.iter().map(Node::lineage).collect();
        format!("{}({})", self.op.describe(&self.inputs), inputs.join(","))
    }
}

impl Op {
    /// What the operator is called.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Op::Scan { .. } => "Source",
            Op::Values(_) => "Values",
            Op::Calc { .. } => "Calc",
            Op::Window { .. } => "WindowTableFunction",
            Op::Aggregate { emit: Emit::WindowEnd { .. }, .. } => "WindowAggregate",
            Op::Aggregate { emit: Emit::Session { .. }, .. } => "SessionAggregate",
            Op::Aggregate { .. } => "GroupAggregate",
            Op::Join(join) => match (join.kind, join.bounds) {
                (JoinKind::AsOf { .. }, _) => "TemporalJoin",
                (JoinKind::Lookup { .. }, _) => "LookupJoin",
                (_, Bounds::None) => "Join",
                (_, Bounds::Equal { .. }) => "WindowJoin",
                (_, Bounds::Within { .. }) => "IntervalJoin",
            },
            Op::Rank { .. } => "Rank",
            Op::Over { .. } => "OverAggregate",
            Op::Union => "Union",
            Op::Sort { .. } => "Sort",
            Op::TimeSort { .. } => "TemporalSort",
        }
    }

    fn describe(&self, inputs: &[Node]) -> String {
        let column = |input: usize, at: usize| inputs[input].schema.field(at).name().clone();
        let columns = |input: usize, places: &[usize]| {
            places.iter().map(|at| column(input, *at)).collect::<Vec<_>>().join(", ")
        };
        let order = |order: &[SortKey]| {
            let keys = order.iter().map(|key| {
                format!("{} {}", column(0, key.column), if key.options.descending { "DESC" } else { "ASC" })
            });
            keys.collect::<Vec<_>>().join(", ")
        };
        let about = match self {
            Op::Scan { table, columns, .. } => {
                let names = columns.iter().map(|at| table.definition.schema.field(*at).name().clone());
                format!("table={}, columns=[{}]", table.definition.name, names.collect::<Vec<_>>().join(", "))
            }
            Op::Values(batch) => format!("rows={}", batch.num_rows()),
            Op::Calc { predicate, columns } => {
                let select = columns.iter().map(|columns| {
                    let columns: Vec<_> = columns.iter().map(|expr| expr.to_string()).collect();
                    format!("select=[{}]", columns.join(", "))
                });
                let predicate = predicate.iter().map(|predicate| format!("where=[{predicate}]"));
                select.chain(predicate).collect::<Vec<_>>().join(", ")
            }
            Op::Window { window, time } => format!("window=[{window:?}], time={}", column(0, *time)),
            Op::Aggregate { groups, calls, emit } => {
                let calls: Vec<_> = calls.iter().map(|call| call.name.clone()).collect();
                let emit = match emit {
                    Emit::Changes => "changes".into(),
                    Emit::AtEnd => "at the end".into(),
                    Emit::WindowEnd { end, .. } => format!("at {}", column(0, *end)),
                    Emit::Session { gap, .. } => format!("session of gap {gap} ms"),
                };
                format!("groupBy=[{}], select=[{}], emit=[{emit}]", columns(0, groups), calls.join(", "))
            }
            Op::Join(join) => {
                let keys = join.keys.iter().map(|(l, r)| format!("{} = {}", column(0, *l), column(1, *r)));
                let filter = join.filter.iter().map(|filter| format!("{filter}"));
                let on: Vec<_> = keys.chain(filter).collect();
                format!("type={:?}, on=[{}], bounds={:?}", join.kind, on.join(" AND "), join.bounds)
            }
            Op::Rank { partition, order: keys, from, to, has_number, .. } => {
                let to = if *to == u64::MAX { "end".to_string() } else { to.to_string() };
                format!(
                    "partitionBy=[{}], orderBy=[{}], rows={from}..{to}, number={has_number}",
                    columns(0, partition),
                    order(keys)
                )
            }
            Op::Over { partition, order: keys, calls, .. } => {
                let calls: Vec<_> = calls.iter().map(|call| call.name.clone()).collect();
                let (partition, order) = (columns(0, partition), order(keys));
                format!("partitionBy=[{partition}], orderBy=[{order}], select=[{}]", calls.join(", "))
            }
            Op::Union => String::new(),
            Op::Sort { order: keys, skip, fetch } => {
                format!("orderBy=[{}], offset={skip}, fetch={fetch:?}", order(keys))
            }
            Op::TimeSort { order: keys, .. } => format!("orderBy=[{}]", order(keys)),
        };
        format!("{}({about})", self.name())
    }
}

/// The columns of a schema, as a table has them.
pub(crate) fn describe_schema(schema: &SchemaRef) -> Vec<(String, String)> {
    schema.fields().iter().map(|field| (field.name().clone(), name_of(field.data_type()))).collect()
}
