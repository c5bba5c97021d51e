//! The logical plan lowered to our operators, with what is known of each one's output.

mod aggregate;
mod join;
mod over;

use super::nodes::{Kind, StreamNode, WindowKind};
use super::stream::{Node, Op, Physical, Properties, SortKey, TimeColumn, Window};
use crate::catalog::TableScanSource;
use crate::error::SqlError;
use arrow::array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::logical_plan::{
    FetchType, Filter, Limit, Projection, SkipType, Sort, TableScan, Values,
};
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, LogicalPlan, SortExpr};
use datafusion_physical_expr::create_physical_expr;
use datafusion_physical_expr::expressions::Column;
use std::sync::Arc;

/// Lowers plans.
#[derive(Default)]
pub(crate) struct Lowering {
    /// Whether the job is to put out results once, at its end, rather than each change.
    pub(crate) is_batch: bool,
    properties: ExecutionProps,
}

/// The columns of a plan: any may hold nulls, whatever the planner thinks.
fn schema_of(schema: &DFSchema) -> SchemaRef {
    let fields = schema.fields().iter();
    let fields: Vec<Field> =
        fields.map(|field| Field::new(field.name(), field.data_type().clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

/// Below its names, the column that an expression is.
fn column_of(expr: &Expr, schema: &DFSchema) -> Option<usize> {
    match expr {
        Expr::Column(column) => schema.maybe_index_of_column(column),
        Expr::Alias(alias) => column_of(&alias.expr, schema),
        _ => None,
    }
}

impl Lowering {
    pub(crate) fn new(is_batch: bool) -> Self {
        Lowering { is_batch, properties: ExecutionProps::new() }
    }

    fn physical(&self, expr: &Expr, schema: &DFSchema) -> Result<Physical, SqlError> {
        Ok(create_physical_expr(expr, schema, &self.properties, &PhysicalPlanningContext::default())?)
    }

    /// Lowers a plan.
    pub(crate) fn lower(&self, plan: &LogicalPlan) -> Result<Node, SqlError> {
        match plan {
            LogicalPlan::TableScan(scan) => self.scan(scan),
            LogicalPlan::SubqueryAlias(alias) => self.lower(&alias.input),
            LogicalPlan::Projection(projection) => self.projection(projection),
            LogicalPlan::Filter(filter) => self.filter(filter),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Join(join) => self.join(join),
            LogicalPlan::Window(window) => self.over(window),
            LogicalPlan::Union(union) => {
                let inputs = union.inputs.iter().map(|input| self.lower(input)).collect::<Result<_, _>>()?;
                self.union(inputs, schema_of(&union.schema))
            }
            LogicalPlan::Sort(sort) => self.sort(sort, 0, sort.fetch),
            LogicalPlan::Limit(limit) => self.limit(limit),
            LogicalPlan::Values(values) => self.values(values),
            LogicalPlan::EmptyRelation(empty) => {
                let schema = match empty.schema.fields().is_empty() {
                    true => Arc::new(Schema::new(vec![Field::new("$dummy", DataType::Int8, true)])),
                    false => schema_of(&empty.schema),
                };
                let rows = usize::from(empty.produce_one_row);
                let columns: Vec<ArrayRef> = schema
                    .fields()
                    .iter()
                    .map(|field| arrow::array::new_null_array(field.data_type(), rows))
                    .collect();
                Ok(values_node(RecordBatch::try_new(schema, columns)?))
            }
            LogicalPlan::Extension(_) => match StreamNode::of(plan) {
                Some(node) => self.stream_node(node),
                None => Err(unsupported(plan)),
            },
            other => Err(unsupported(other)),
        }
    }

    fn scan(&self, scan: &TableScan) -> Result<Node, SqlError> {
        let table = TableScanSource::of(&scan.source)
            .ok_or_else(|| SqlError::unsupported(format!("'{}' cannot be read", scan.table_name)))?;
        let all: Vec<usize> = (0..table.definition.schema.fields().len()).collect();
        let mut columns = scan.projection.clone().unwrap_or(all);
        let schema = if columns.is_empty() {
            // A batch needs a column to have rows.
            columns.push(0);
            let field = table.definition.schema.field(0);
            Arc::new(Schema::new(vec![Field::new(field.name(), field.data_type().clone(), true)]))
        } else {
            schema_of(&scan.projected_schema)
        };
        let watermark = table.watermark.as_ref();
        let watermark = watermark
            .filter(|expr| expr.column_refs().iter().all(|column| scan.projected_schema.has_column(column)));
        let watermark = watermark.map(|expr| self.physical(expr, &scan.projected_schema)).transpose()?;
        let key = table.definition.primary_key.iter().map(|name| schema.index_of(name).ok());
        let key: Option<Vec<usize>> = key.collect();
        // Whether rows are taken away too is known once the connector has made the source.
        let properties = Properties {
            is_append_only: table.connector.is_append_only(&table.definition),
            keys: key.into_iter().filter(|key| !key.is_empty()).collect(),
            ..Properties::default()
        };
        let op = Op::Scan { table: Arc::clone(table), columns, watermark };
        Ok(Node { op, inputs: Vec::new(), schema, properties })
    }

    fn projection(&self, projection: &Projection) -> Result<Node, SqlError> {
        let input = self.lower(&projection.input)?;
        self.project(input, projection.input.schema(), &projection.expr, schema_of(&projection.schema))
    }

    /// Columns computed of a node's.
    fn project(
        &self,
        mut input: Node,
        input_schema: &DFSchema,
        exprs: &[Expr],
        schema: SchemaRef,
    ) -> Result<Node, SqlError> {
        let places: Vec<Option<usize>> = exprs.iter().map(|expr| column_of(expr, input_schema)).collect();
        let mut columns =
            exprs.iter().map(|expr| self.physical(expr, input_schema)).collect::<Result<Vec<_>, _>>()?;
        let mut schema = schema;
        if columns.is_empty() {
            // A batch needs a column to have rows.
            columns.push(Arc::new(Column::new(input.schema.field(0).name(), 0)));
            schema = Arc::new(Schema::new(vec![input.schema.field(0).clone()]));
        }
        if let Op::Rank { has_number, .. } = &mut input.op {
            let number = input.schema.fields().len() - 1;
            let is_read = exprs
                .iter()
                .flat_map(|expr| expr.column_refs())
                .any(|column| input_schema.maybe_index_of_column(column) == Some(number));
            if *has_number && !is_read {
                *has_number = false;
                input.properties.keys.retain(|key| !key.contains(&number));
            }
        }
        let mut properties = input.properties.moved(&places);
        let is_now = |expr: &Expr| match expr {
            Expr::Alias(alias) => matches!(&*alias.expr, Expr::ScalarFunction(f) if f.name() == "proctime"),
            Expr::ScalarFunction(function) => function.name() == "proctime",
            _ => false,
        };
        properties.processing_times.extend((0..exprs.len()).filter(|at| is_now(&exprs[*at])));
        Ok(calc(input, None, Some(columns), schema, properties))
    }

    fn filter(&self, filter: &Filter) -> Result<Node, SqlError> {
        let input = self.lower(&filter.input)?;
        let predicate = self.physical(&filter.predicate, filter.input.schema())?;
        let (schema, properties) = (Arc::clone(&input.schema), input.properties.clone());
        Ok(calc(input, Some(predicate), None, schema, properties))
    }

    pub(super) fn union(&self, inputs: Vec<Node>, schema: SchemaRef) -> Result<Node, SqlError> {
        let mut properties = Properties {
            is_append_only: inputs.iter().all(|input| input.properties.is_append_only),
            ..Properties::default()
        };
        if let [first, others @ ..] = &inputs[..] {
            for time in &first.properties.times {
                let same = |node: &Node| node.properties.delay_of(time.column);
                let delays: Option<Vec<i64>> = others.iter().map(same).collect();
                if let Some(delays) = delays {
                    let delay = delays.into_iter().fold(time.delay, i64::max);
                    properties.times.push(TimeColumn { column: time.column, delay });
                }
            }
            let window = first.properties.window;
            properties.window = window.filter(|_| others.iter().all(|node| node.properties.window == window));
        }
        Ok(Node { op: Op::Union, inputs, schema, properties })
    }

    fn sort_keys(&self, order: &[SortExpr], schema: &DFSchema) -> Result<Vec<SortKey>, SqlError> {
        let key = |sort: &SortExpr| {
            let column = column_of(&sort.expr, schema).ok_or_else(|| {
                SqlError::unsupported(format!("rows cannot be ordered by the expression {}", sort.expr))
                    .with_hint("compute it as a column of a subquery and order by that")
            })?;
            Ok(sort_key(sort, column))
        };
        order.iter().map(key).collect()
    }

    fn sort(&self, sort: &Sort, skip: usize, fetch: Option<usize>) -> Result<Node, SqlError> {
        let input = self.lower(&sort.input)?;
        let order = self.sort_keys(&sort.expr, sort.input.schema());
        // What cannot be ordered by as it is, is computed as a column behind the others.
        let (input, order, width) = match order {
            Ok(order) => (input, order, None),
            Err(_) => {
                let width = input.schema.fields().len();
                let exprs = sort.expr.iter().map(|sort| sort.expr.clone()).collect::<Vec<_>>();
                let (input, places) = self.with_columns(input, sort.input.schema(), &exprs)?;
                let order =
                    sort.expr.iter().zip(places).map(|(sort, column)| sort_key(sort, column)).collect();
                (input, order, Some(width))
            }
        };
        let node = self.ordered(input, order, skip, fetch)?;
        Ok(match width {
            Some(width) => narrowed(node, width),
            None => node,
        })
    }

    fn ordered(
        &self,
        input: Node,
        order: Vec<SortKey>,
        skip: usize,
        fetch: Option<usize>,
    ) -> Result<Node, SqlError> {
        let schema = Arc::clone(&input.schema);
        let mut properties = input.properties.clone();
        if self.is_batch {
            properties.is_append_only = true;
            return Ok(Node { op: Op::Sort { order, skip, fetch }, inputs: vec![input], schema, properties });
        }
        let is_everything = fetch.is_none() && skip == 0;
        if is_everything {
            let first = order
                .first()
                .filter(|key| !key.options.descending && input.properties.delay_of(key.column).is_some());
            let Some(first) = first else {
                return Err(SqlError::unsupported("a stream can be ordered by its event time, ascending, only")
                    .with_hint(
                        "add LIMIT, or order by the column of WATERMARK FOR first, or SET 'execution.runtime-mode' = 'batch'",
                    ));
            };
            let op = Op::TimeSort { time: first.column, order };
            return Ok(Node { op, inputs: vec![input], schema, properties });
        }
        let from = skip as u64 + 1;
        let to = fetch.map_or(u64::MAX, |fetch| skip as u64 + fetch as u64);
        properties.is_append_only = false;
        let op = Op::Rank { partition: Vec::new(), order, from, to, has_number: false, window_end: None };
        Ok(Node { op, inputs: vec![input], schema, properties })
    }

    fn limit(&self, limit: &Limit) -> Result<Node, SqlError> {
        let wrong = || SqlError::unsupported("LIMIT and OFFSET take numbers that are written out");
        let SkipType::Literal(skip) = limit.get_skip_type()? else { return Err(wrong()) };
        let FetchType::Literal(fetch) = limit.get_fetch_type()? else { return Err(wrong()) };
        match &*limit.input {
            LogicalPlan::Sort(sort) => {
                self.sort(sort, skip, fetch.or(sort.fetch.map(|all| all.saturating_sub(skip))))
            }
            input => self.ordered(self.lower(input)?, Vec::new(), skip, fetch),
        }
    }

    fn values(&self, values: &Values) -> Result<Node, SqlError> {
        let schema = schema_of(&values.schema);
        let one = RecordBatch::try_new_with_options(
            Arc::new(Schema::empty()),
            Vec::new(),
            &RecordBatchOptions::new().with_row_count(Some(1)),
        )?;
        let empty = DFSchema::empty();
        let mut columns: Vec<Vec<ScalarValue>> = vec![Vec::new(); schema.fields().len()];
        for row in &values.values {
            for (column, expr) in columns.iter_mut().zip(row) {
                let array = self.physical(expr, &empty)?.evaluate(&one)?.into_array(1)?;
                column.push(ScalarValue::try_from_array(&array, 0)?);
            }
        }
        let arrays = columns.into_iter().zip(schema.fields()).map(|(column, field)| {
            let array = ScalarValue::iter_to_array(column)?;
            Ok(arrow::compute::cast(&array, field.data_type())?)
        });
        let arrays = arrays.collect::<Result<Vec<ArrayRef>, SqlError>>()?;
        Ok(values_node(RecordBatch::try_new(schema, arrays)?))
    }

    fn stream_node(&self, node: &StreamNode) -> Result<Node, SqlError> {
        let mut input = self.lower(&node.input)?;
        match &node.kind {
            Kind::Rowtime { column } => {
                input.properties.times.push(TimeColumn { column: *column, delay: 0 });
                Ok(input)
            }
            Kind::Window { window, time, .. } => self.window(input, *window, *time, schema_of(&node.schema)),
            Kind::Rank { partition, from, to } => {
                let (keys, input) = match self.sort_keys(&node.order, node.input.schema()) {
                    Ok(keys) => (keys, input),
                    Err(_) => return self.rank_by_expressions(node, input, partition, *from, *to),
                };
                Ok(self.rank(input, partition.clone(), keys, (*from, *to), schema_of(&node.schema)))
            }
            Kind::AsOf { time } => Err(SqlError::statement(format!(
                "FOR SYSTEM_TIME AS OF {time} stands on the right of a JOIN"
            ))),
        }
    }

    /// A rank whose order is computed: its columns go behind the input's, and are dropped again.
    fn rank_by_expressions(
        &self,
        node: &StreamNode,
        input: Node,
        partition: &[usize],
        from: u64,
        to: u64,
    ) -> Result<Node, SqlError> {
        let width = input.schema.fields().len();
        let exprs: Vec<Expr> = node.order.iter().map(|sort| sort.expr.clone()).collect();
        let (input, places) = self.with_columns(input, node.input.schema(), &exprs)?;
        let keys = node.order.iter().zip(places).map(|(sort, column)| sort_key(sort, column)).collect();
        let wide = input.schema.fields().len();
        let number = node.schema.field(width);
        let mut fields: Vec<Field> = input.schema.fields().iter().map(|field| (**field).clone()).collect();
        fields.push(Field::new(number.name(), number.data_type().clone(), true));
        let ranked = self.rank(input, partition.to_vec(), keys, (from, to), Arc::new(Schema::new(fields)));
        let kept: Vec<usize> = (0..width).chain([wide]).collect();
        Ok(selected(ranked, &kept))
    }

    fn rank(
        &self,
        input: Node,
        partition: Vec<usize>,
        order: Vec<SortKey>,
        (from, to): (u64, u64),
        schema: SchemaRef,
    ) -> Node {
        let number = input.schema.fields().len();
        let places: Vec<Option<usize>> = (0..number).map(Some).chain([None]).collect();
        let mut properties = input.properties.moved(&places);
        // Rows of a window are ranked once it is over, if none of them is taken back later.
        let window = properties.window.filter(|window| {
            properties.is_append_only && !window.is_processing_time && partition.contains(&window.end)
        });
        // Rows that come in order of event time and of which the first is kept never give way.
        properties.is_append_only = window.is_some();
        let mut key = partition.clone();
        if from != to {
            key.push(number);
        }
        properties.keys = vec![key];
        let window_end = window.map(|window| window.end);
        let op = Op::Rank { partition, order, from, to, has_number: true, window_end };
        Node { op, inputs: vec![input], schema, properties }
    }

    fn window(
        &self,
        input: Node,
        window: WindowKind,
        time: usize,
        schema: SchemaRef,
    ) -> Result<Node, SqlError> {
        let width = input.schema.fields().len();
        let places: Vec<Option<usize>> = (0..width).map(Some).chain([None; 3]).collect();
        let mut properties = input.properties.moved(&places);
        let is_processing_time = properties.processing_times.contains(&time);
        let delay = properties.delay_of(time);
        if delay.is_none() && !is_processing_time && !self.is_batch {
            let name = input.schema.field(time).name();
            return Err(SqlError::statement(format!("windows need a time attribute, '{name}' is none"))
                .with_hint(format!(
                    "declare WATERMARK FOR `{name}` AS … in CREATE TABLE and do not compute with the column before the window"
                )));
        }
        let size = match window {
            WindowKind::Tumble { size, .. }
            | WindowKind::Hop { size, .. }
            | WindowKind::Cumulate { size, .. } => size,
            WindowKind::Session { .. } => 0,
        };
        if !matches!(window, WindowKind::Tumble { .. }) {
            properties.keys.iter_mut().for_each(|key| key.push(width + 1));
        }
        if let Some(delay) = delay {
            properties.times.push(TimeColumn { column: width, delay: delay + size });
            properties.times.push(TimeColumn { column: width + 1, delay });
            properties.times.push(TimeColumn { column: width + 2, delay });
        }
        properties.window = Some(Window { start: width, end: width + 1, is_processing_time });
        Ok(Node { op: Op::Window { window, time }, inputs: vec![input], schema, properties })
    }

    /// The node with expressions as further columns, where they are not columns already, and their places.
    fn with_columns(
        &self,
        input: Node,
        schema: &DFSchema,
        exprs: &[Expr],
    ) -> Result<(Node, Vec<usize>), SqlError> {
        let width = input.schema.fields().len();
        let (mut places, mut added) = (Vec::with_capacity(exprs.len()), Vec::new());
        let mut fields: Vec<Field> = input.schema.fields().iter().map(|field| (**field).clone()).collect();
        for expr in exprs {
            if let Some(place) = column_of(expr, schema) {
                places.push(place);
                continue;
            }
            let physical = self.physical(expr, schema)?;
            let data_type = physical.data_type(schema.as_arrow())?;
            places.push(width + added.len());
            fields.push(Field::new(expr.schema_name().to_string(), data_type, true));
            added.push(physical);
        }
        if added.is_empty() {
            return Ok((input, places));
        }
        let kept = (0..width).map(|at| column(&input.schema, at));
        let columns: Vec<Physical> = kept.chain(added).collect();
        let moved: Vec<Option<usize>> = (0..columns.len()).map(|at| (at < width).then_some(at)).collect();
        let properties = input.properties.moved(&moved);
        Ok((calc(input, None, Some(columns), Arc::new(Schema::new(fields)), properties), places))
    }
}

fn unsupported(plan: &LogicalPlan) -> SqlError {
    let shown = plan.display().to_string();
    let shown: String = shown.chars().take(120).collect();
    SqlError::unsupported(format!("this part of the query cannot be run on a stream: {shown}"))
}

fn values_node(batch: RecordBatch) -> Node {
    let properties = Properties { is_append_only: true, ..Properties::default() };
    let schema = batch.schema();
    let batch = if batch.num_columns() == 0 {
        let dummy = Int8Array::from(vec![0; batch.num_rows()]);
        RecordBatch::try_from_iter([("$dummy", Arc::new(dummy) as ArrayRef)]).expect("one column")
    } else {
        batch
    };
    Node { op: Op::Values(batch), inputs: Vec::new(), schema, properties }
}

/// A sort key of the planner's, whose expression is this column.
fn sort_key(sort: &SortExpr, column: usize) -> SortKey {
    SortKey { column, options: SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first } }
}

/// A column of an operator's input.
pub(super) fn column(schema: &SchemaRef, at: usize) -> Physical {
    Arc::new(Column::new(schema.field(at).name(), at))
}

/// A calculation; one that only filters is made one with what computes columns of its output.
fn calc(
    input: Node,
    predicate: Option<Physical>,
    columns: Option<Vec<Physical>>,
    schema: SchemaRef,
    properties: Properties,
) -> Node {
    match (input.op, predicate) {
        (Op::Calc { predicate: below, columns: None }, None) => {
            Node { op: Op::Calc { predicate: below, columns }, inputs: input.inputs, schema, properties }
        }
        (op, predicate) => {
            let input = Node { op, ..input };
            Node { op: Op::Calc { predicate, columns }, inputs: vec![input], schema, properties }
        }
    }
}

/// Some columns of a node, in the given order.
fn selected(input: Node, places: &[usize]) -> Node {
    let columns = places.iter().map(|at| column(&input.schema, *at)).collect();
    let fields: Vec<Field> = places.iter().map(|at| input.schema.field(*at).clone()).collect();
    let moved: Vec<Option<usize>> = places.iter().copied().map(Some).collect();
    let properties = input.properties.moved(&moved);
    calc(input, None, Some(columns), Arc::new(Schema::new(fields)), properties)
}

/// The first columns of a node.
fn narrowed(input: Node, width: usize) -> Node {
    selected(input, &(0..width).collect::<Vec<_>>())
}

impl Properties {
    /// How far behind the watermark a column may be, if it follows it.
    pub(super) fn delay_of(&self, column: usize) -> Option<i64> {
        self.times.iter().find(|time| time.column == column).map(|time| time.delay)
    }

    /// What is known once columns have moved: `from` has for each new column the place it comes from, if it is one.
    pub(super) fn moved(&self, from: &[Option<usize>]) -> Properties {
        let to = |column: usize| from.iter().position(|place| *place == Some(column));
        let every = |column: usize| (0..from.len()).filter(move |at| from[*at] == Some(column));
        let keys = self.keys.iter().filter_map(|key| key.iter().map(|column| to(*column)).collect());
        let times = self
            .times
            .iter()
            .flat_map(|time| every(time.column).map(|column| TimeColumn { column, delay: time.delay }));
        let window = self.window.and_then(|window| {
            // Where only the end is left, it stands for the start, which nobody asks for.
            let end = to(window.end)?;
            Some(Window { start: to(window.start).unwrap_or(end), end, ..window })
        });
        Properties {
            is_append_only: self.is_append_only,
            keys: keys.collect(),
            times: times.collect(),
            window,
            processing_times: self.processing_times.iter().flat_map(|column| every(*column)).collect(),
        }
    }
}
