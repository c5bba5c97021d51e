//! Grouping lowered: which columns are grouped by, what is computed of the others, and when results are put out.

use super::{Lowering, calc, column, schema_of, selected};
use crate::error::SqlError;
use crate::plan::nodes::WindowKind;
use crate::plan::stream::{Call, Emit, Function, Node, Op, Physical, Properties, TimeColumn, Window};
use crate::types::name_of;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::logical_plan::Aggregate;
use datafusion_expr::utils::{enumerate_grouping_sets, grouping_set_to_exprlist};
use datafusion_expr::{Expr, GroupingSet};
use datafusion_physical_expr::expressions::Literal;
use std::sync::Arc;

/// The aggregate function of an expression, below its names.
fn function_of(expr: &Expr) -> Option<&AggregateFunction> {
    match expr {
        Expr::AggregateFunction(function) => Some(function),
        Expr::Alias(alias) => function_of(&alias.expr),
        _ => None,
    }
}

/// An aggregate call before its arguments have places.
struct Wanted {
    function: Function,
    args: Vec<Expr>,
    filter: Option<Expr>,
    is_distinct: bool,
    output: DataType,
    name: String,
}

impl Lowering {
    pub(super) fn aggregate(&self, aggregate: &Aggregate) -> Result<Node, SqlError> {
        let input_schema = aggregate.input.schema();
        let input = self.lower(&aggregate.input)?;
        let schema = schema_of(&aggregate.schema);
        let groups = schema.fields().len() - aggregate.aggr_expr.len();
        let wanted = aggregate
            .aggr_expr
            .iter()
            .enumerate()
            .map(|(at, expr)| wanted(expr, schema.field(groups + at).data_type()));
        let wanted = wanted.collect::<Result<Vec<_>, SqlError>>()?;
        let args: Vec<Expr> =
            wanted.iter().flat_map(|call| call.args.iter().chain(&call.filter).cloned()).collect();

        let (input, group_places, arg_places) = if matches!(&aggregate.group_expr[..], [Expr::GroupingSet(_)])
            || has_sets(&aggregate.group_expr)
        {
            self.grouping_sets(input, aggregate, &args)?
        } else {
            let exprs: Vec<Expr> = aggregate.group_expr.iter().chain(&args).cloned().collect();
            let (input, mut places) = self.with_columns(input, input_schema, &exprs)?;
            let arg_places = places.split_off(aggregate.group_expr.len());
            (input, places, arg_places)
        };
        let mut arg_places = arg_places.into_iter();
        let mut calls = Vec::with_capacity(wanted.len());
        for call in wanted {
            let args: Vec<usize> = arg_places.by_ref().take(call.args.len()).collect();
            let filter = call.filter.as_ref().and_then(|_| arg_places.next());
            let input = args.first().map_or(DataType::Null, |at| input.schema.field(*at).data_type().clone());
            let call = Call {
                function: call.function,
                args,
                input,
                output: call.output,
                filter,
                is_distinct: call.is_distinct,
                name: call.name,
            };
            check_types(&call)?;
            calls.push(call);
        }
        self.grouped(input, group_places, calls, schema)
    }

    /// An aggregate whose groups and arguments are columns.
    fn grouped(
        &self,
        input: Node,
        groups: Vec<usize>,
        calls: Vec<Call>,
        schema: Arc<Schema>,
    ) -> Result<Node, SqlError> {
        let window = input.properties.window.filter(|window| groups.contains(&window.end));
        if let Some(window) = window
            && let Some(gap) = session_of(&input)
        {
            return self.sessions(input, groups, calls, schema, window, gap);
        }
        if let Op::Window { window: WindowKind::Session { .. }, .. } = &input.op {
            return Err(SqlError::unsupported("SESSION has to be grouped by window_start and window_end"));
        }
        let moved: Vec<Option<usize>> =
            groups.iter().copied().map(Some).chain(calls.iter().map(|_| None)).collect();
        let below = input.properties.moved(&moved);
        let key: Vec<usize> = (0..groups.len()).collect();
        // Windows end by the watermark, or, where there is none, with the input.
        let closes = window
            .filter(|window| window.is_processing_time || input.properties.delay_of(window.end).is_some());
        let emit = match closes {
            Some(window) => {
                Emit::WindowEnd { end: window.end, is_processing_time: window.is_processing_time }
            }
            None if self.is_batch => Emit::AtEnd,
            None => Emit::Changes,
        };
        let properties = Properties {
            is_append_only: emit != Emit::Changes,
            keys: vec![key],
            times: if closes.is_some() { below.times } else { Vec::new() },
            window: below.window.filter(|_| closes.is_some()),
            processing_times: Vec::new(),
        };
        Ok(Node { op: Op::Aggregate { groups, calls, emit }, inputs: vec![input], schema, properties })
    }

    /// Before they are grouped, the bounds of a row's session are both the row's time.
    fn sessions(
        &self,
        input: Node,
        groups: Vec<usize>,
        calls: Vec<Call>,
        schema: Arc<Schema>,
        window: Window,
        gap: i64,
    ) -> Result<Node, SqlError> {
        let time = window.end;
        // The columns of the session's window come of the aggregate, behind its own groups.
        let window_columns = window_columns_of(&input);
        let own: Vec<usize> =
            groups.iter().copied().filter(|at| !window_columns.contains(&Some(*at))).collect();
        let stamp = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut fields: Vec<Field> = own.iter().map(|at| input.schema.field(*at).clone()).collect();
        fields.push(Field::new("window_start", stamp.clone(), true));
        fields.push(Field::new("window_end", stamp.clone(), true));
        fields.push(Field::new("window_time", stamp, true));
        let made = schema.fields().iter().skip(groups.len()).map(|field| (**field).clone());
        fields.extend(made);
        let is_processing_time = window.is_processing_time;
        let delay = input.properties.delay_of(time).unwrap_or(0);
        let width = own.len();
        let properties = Properties {
            is_append_only: true,
            keys: vec![(0..width + 2).collect()],
            times: (!is_processing_time)
                .then(|| [width + 1, width + 2].map(|column| TimeColumn { column, delay }))
                .into_iter()
                .flatten()
                .collect(),
            window: Some(Window { start: width, end: width + 1, is_processing_time }),
            processing_times: Vec::new(),
        };
        let emit = Emit::Session { time, gap, is_processing_time };
        let op = Op::Aggregate { groups: own.clone(), calls: calls.clone(), emit };
        let node = Node { op, inputs: vec![input], schema: Arc::new(Schema::new(fields)), properties };
        let place = |at: &usize| match own.iter().position(|own| own == at) {
            Some(place) => place,
            None => width + window_columns.iter().position(|column| *column == Some(*at)).unwrap_or(0),
        };
        let order: Vec<usize> =
            groups.iter().map(place).chain((0..calls.len()).map(|call| width + 3 + call)).collect();
        let mut node = selected(node, &order);
        node.schema = schema;
        Ok(node)
    }

    /// Rows once per grouping set, with nulls in the columns that it leaves out and its number behind.
    fn grouping_sets(
        &self,
        input: Node,
        aggregate: &Aggregate,
        args: &[Expr],
    ) -> Result<(Node, Vec<usize>, Vec<usize>), SqlError> {
        let input_schema = aggregate.input.schema();
        let sets = enumerate_grouping_sets(aggregate.group_expr.clone())?;
        let all: Vec<Expr> = grouping_set_to_exprlist(&sets)?.into_iter().cloned().collect();
        let [Expr::GroupingSet(GroupingSet::GroupingSets(sets))] = &sets[..] else {
            return Err(SqlError::unsupported("GROUP BY with these grouping sets"));
        };
        let exprs: Vec<Expr> = all.iter().chain(args).cloned().collect();
        let (input, places) = self.with_columns(input, input_schema, &exprs)?;
        // The number's type is the planner's: it has a bit per column.
        let number_field = aggregate.schema.field(all.len()).clone();
        let mut fields: Vec<Field> = places.iter().map(|at| input.schema.field(*at).clone()).collect();
        fields.push(Field::new(number_field.name(), number_field.data_type().clone(), true));
        let schema = Arc::new(Schema::new(fields));
        let mut inputs = Vec::with_capacity(sets.len());
        for set in sets {
            let mut number = 0u64;
            let mut columns: Vec<Physical> = Vec::with_capacity(places.len() + 1);
            for (at, place) in places.iter().enumerate() {
                let is_group = at < all.len();
                let is_left_out = is_group && !set.contains(&all[at]);
                if is_group {
                    number = number << 1 | u64::from(is_left_out);
                }
                columns.push(match is_left_out {
                    true => {
                        let null = ScalarValue::try_new_null(input.schema.field(*place).data_type())?;
                        Arc::new(Literal::new(null))
                    }
                    false => column(&input.schema, *place),
                });
            }
            let number = ScalarValue::UInt64(Some(number)).cast_to(number_field.data_type())?;
            columns.push(Arc::new(Literal::new(number)));
            let properties =
                Properties { is_append_only: input.properties.is_append_only, ..Properties::default() };
            inputs.push(calc(input.clone(), None, Some(columns), Arc::clone(&schema), properties));
        }
        let union = self.union(inputs, schema)?;
        let groups = (0..all.len()).chain([places.len()]).collect();
        Ok((union, groups, (all.len()..places.len()).collect()))
    }
}

fn has_sets(groups: &[Expr]) -> bool {
    groups.iter().any(|expr| matches!(expr, Expr::GroupingSet(_)))
}

/// The gap of the sessions that a node makes windows of.
fn session_of(node: &Node) -> Option<i64> {
    match &node.op {
        Op::Window { window: WindowKind::Session { gap }, .. } => Some(*gap),
        Op::Calc { predicate: None, columns: Some(_) } => session_of(&node.inputs[0]),
        _ => None,
    }
}

/// Where the three columns of the window are in a node's output.
fn window_columns_of(node: &Node) -> [Option<usize>; 3] {
    match &node.op {
        Op::Calc { columns: Some(columns), .. } => {
            window_columns_of(&node.inputs[0]).map(|at| at.and_then(|at| place_of(columns, at)))
        }
        _ => {
            let width = node.schema.fields().len();
            [width - 3, width - 2, width - 1].map(Some)
        }
    }
}

fn place_of(columns: &[Physical], at: usize) -> Option<usize> {
    use datafusion_physical_expr::expressions::Column;
    columns.iter().position(|expr| expr.downcast_ref::<Column>().is_some_and(|column| column.index() == at))
}

fn wanted(expr: &Expr, output: &DataType) -> Result<Wanted, SqlError> {
    let Some(call) = function_of(expr) else {
        return Err(SqlError::unsupported(format!("{expr} is no aggregate function")));
    };
    let (function, args) = function(call)?;
    let params = &call.params;
    if !params.order_by.is_empty() {
        return Err(SqlError::unsupported(format!("ORDER BY within {}", call.func.name()))
            .with_hint("rows are taken in the order of their arrival"));
    }
    Ok(Wanted {
        function,
        args,
        filter: params.filter.as_deref().cloned(),
        is_distinct: params.distinct,
        output: output.clone(),
        name: expr.schema_name().to_string(),
    })
}

/// An aggregate function and its arguments.
pub(super) fn function(call: &AggregateFunction) -> Result<(Function, Vec<Expr>), SqlError> {
    let mut args = call.params.args.clone();
    let variance = |is_sample, is_root| Function::Variance { is_sample, is_root };
    let function = match call.func.name() {
        "count" => {
            // What is never null needs no column.
            args.retain(|arg| !matches!(arg, Expr::Literal(value, _) if !value.is_null()));
            if args.len() > 1 {
                return Err(SqlError::unsupported("COUNT of several columns")
                    .with_hint("count the rows of a SELECT DISTINCT, or concatenate the columns"));
            }
            Function::Count
        }
        "sum" => Function::Sum,
        "sum0" => Function::Sum0,
        "avg" | "mean" => Function::Avg,
        "min" => Function::Min,
        "max" => Function::Max,
        "first_value" => Function::First,
        "last_value" => Function::Last,
        "listagg" | "string_agg" => {
            let separator = match args.get(1) {
                None => ",".to_string(),
                Some(Expr::Literal(value, _)) => value.try_as_str().flatten().unwrap_or(",").to_string(),
                Some(other) => {
                    return Err(SqlError::unsupported(format!("LISTAGG with the separator {other}"))
                        .with_hint("write the separator out"));
                }
            };
            args.truncate(1);
            Function::ListAgg { separator }
        }
        "stddev_pop" => variance(false, true),
        "stddev" | "stddev_samp" => variance(true, true),
        "var_pop" => variance(false, false),
        "var" | "var_samp" | "variance" => variance(true, false),
        "bool_and" | "every" => Function::BoolAnd,
        "bool_or" | "some" => Function::BoolOr,
        "approx_count_distinct" | "approx_distinct" => {
            return Err(SqlError::unsupported("APPROX_COUNT_DISTINCT")
                .with_hint("COUNT(DISTINCT …) is exact, and its state spills to disk"));
        }
        other => return Err(SqlError::unsupported(format!("the aggregate function {other}"))),
    };
    Ok((function, args))
}

/// Refuses functions of types that they cannot take.
pub(super) fn check_types(call: &Call) -> Result<(), SqlError> {
    let wrong = matches!(
        (&call.function, &call.input),
        (Function::Sum | Function::Sum0 | Function::Avg | Function::Variance { .. }, input) if !input.is_numeric()
    );
    match wrong {
        true => Err(SqlError::statement(format!("{} of {}", call.name, name_of(&call.input)))),
        false => Ok(()),
    }
}
