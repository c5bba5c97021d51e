//! Relations of FROM that DataFusion does not know: windowing table functions, and tables as of another side's time.

use super::nodes::{StreamNode, WindowKind};
use crate::parse::TABLE_ARGUMENT;
use datafusion_common::{DFSchema, Result, ScalarValue, plan_datafusion_err, plan_err};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, LogicalPlan};
use sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArguments, TableFactor, TableFunctionArgs, TableVersion,
};
use std::collections::HashMap;

/// Plans them.
#[derive(Debug)]
pub(crate) struct StreamRelations;

/// Functions and the names of their arguments.
const WINDOWS: [(&str, &[&str]); 4] = [
    ("TUMBLE", &["DATA", "TIMECOL", "SIZE", "OFFSET"]),
    ("HOP", &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"]),
    ("CUMULATE", &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"]),
    ("SESSION", &["DATA", "TIMECOL", "GAP"]),
];

impl RelationPlanner for StreamRelations {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        match relation {
            TableFactor::TableFunction { expr: ast::Expr::Function(function), alias } => {
                let name = function.name.to_string().to_uppercase();
                let FunctionArguments::List(arguments) = &function.args else {
                    return plan_err!("{name} needs arguments in parentheses");
                };
                let plan = plan_window(&name, &arguments.args, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table {
                name,
                args: Some(TableFunctionArgs { args, settings: None }),
                alias,
                ..
            } if WINDOWS.iter().any(|(window, _)| name.to_string().eq_ignore_ascii_case(window)) => {
                let plan = plan_window(&name.to_string().to_uppercase(), &args, context)?;
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            TableFactor::Table { name, alias, version: Some(version), .. } => {
                let TableVersion::ForSystemTimeAsOf(time) = version else {
                    return plan_err!("of table versions only FOR SYSTEM_TIME AS OF is known");
                };
                let plan = StreamNode::as_of(plan_table(name, context)?, time.to_string()).into_plan();
                Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
            }
            other => Ok(RelationPlanning::Original(Box::new(other))),
        }
    }
}

fn plan_table(name: ast::ObjectName, context: &mut dyn RelationPlannerContext) -> Result<LogicalPlan> {
    context.plan(TableFactor::Table {
        name,
        alias: None,
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    })
}

/// Arguments by name, those without one by place.
fn arguments(
    function: &str,
    given: &[FunctionArg],
    names: &[&'static str],
) -> Result<HashMap<String, ast::Expr>> {
    let mut arguments = HashMap::new();
    for (place, argument) in given.iter().enumerate() {
        let (name, expr) = match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => {
                let Some(name) = names.get(place) else {
                    return plan_err!("{function} takes at most {} arguments", names.len());
                };
                ((*name).to_string(), expr)
            }
            FunctionArg::Named { name, arg: FunctionArgExpr::Expr(expr), .. } => {
                (name.value.to_uppercase(), expr)
            }
            other => return plan_err!("{function} cannot take the argument {other}"),
        };
        if !names.contains(&name.as_str()) {
            return plan_err!("{function} has no argument {name}: it takes {}", names.join(", "));
        }
        arguments.insert(name, expr.clone());
    }
    Ok(arguments)
}

/// The expressions within a call of a function of that name.
fn call_of<'a>(name: &str, expr: Option<&'a ast::Expr>) -> Option<Vec<&'a ast::Expr>> {
    let Some(ast::Expr::Function(function)) = expr else { return None };
    let FunctionArguments::List(list) = &function.args else { return None };
    let inner = list.args.iter().map(|argument| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => Some(expr),
        _ => None,
    });
    function.name.to_string().trim_matches('`').eq_ignore_ascii_case(name).then(|| inner.collect())?
}

fn plan_window(
    function: &str,
    given: &[FunctionArg],
    context: &mut dyn RelationPlannerContext,
) -> Result<LogicalPlan> {
    let Some((_, names)) = WINDOWS.iter().find(|(name, _)| *name == function) else {
        return plan_err!(
            "there is no table function {function}: there are TUMBLE, HOP, CUMULATE and SESSION"
        );
    };
    let arguments = arguments(function, given, names)?;
    let table = call_of(TABLE_ARGUMENT, arguments.get("DATA"))
        .ok_or_else(|| plan_datafusion_err!("the first argument of {function} is a table: TABLE t"))?;
    let Some((ast::Expr::CompoundIdentifier(name), partition)) = table.split_first() else {
        return plan_err!("the first argument of {function} is a table: TABLE t");
    };
    let input = plan_table(ast::ObjectName::from(name.clone()), context)?;
    let schema = input.schema().clone();
    let mut column = |expr: &ast::Expr| match context.sql_to_expr(expr.clone(), &schema)? {
        Expr::Column(column) => schema.index_of_column(&column),
        other => plan_err!("{function} needs the name of a column, not {other}"),
    };
    let descriptor = call_of("DESCRIPTOR", arguments.get("TIMECOL"))
        .ok_or_else(|| plan_datafusion_err!("the second argument of {function} is DESCRIPTOR(column)"))?;
    let [time] = descriptor[..] else {
        return plan_err!("DESCRIPTOR takes one column");
    };
    let time = column(time)?;
    let partition = partition.iter().map(|expr| column(expr)).collect::<Result<Vec<_>>>()?;
    let mut length = |name: &str| -> Result<Option<i64>> {
        let Some(expr) = arguments.get(name) else { return Ok(None) };
        let expr = context.sql_to_expr(expr.clone(), &DFSchema::empty())?;
        interval_ms(&expr).map(Some).ok_or_else(|| {
            plan_datafusion_err!("{name} of {function} is an interval such as INTERVAL '10' SECOND")
        })
    };
    let mut needed = |name: &str| -> Result<i64> {
        let found = length(name)?;
        let found = found.ok_or_else(|| plan_datafusion_err!("{function} needs {name}"))?;
        if found <= 0 { plan_err!("{name} of {function} must be longer than nothing") } else { Ok(found) }
    };
    let window = match function {
        "TUMBLE" => WindowKind::Tumble { size: needed("SIZE")?, offset: 0 },
        "HOP" => WindowKind::Hop { slide: needed("SLIDE")?, size: needed("SIZE")?, offset: 0 },
        "CUMULATE" => WindowKind::Cumulate { step: needed("STEP")?, size: needed("SIZE")?, offset: 0 },
        _ => WindowKind::Session { gap: needed("GAP")? },
    };
    let window = window.with_offset(length("OFFSET")?.unwrap_or(0))?;
    Ok(StreamNode::window(input, window, time, partition)?.into_plan())
}

impl WindowKind {
    fn with_offset(self, by: i64) -> Result<Self> {
        Ok(match self {
            WindowKind::Tumble { size, .. } => WindowKind::Tumble { size, offset: by.rem_euclid(size) },
            WindowKind::Hop { slide, size, .. } => {
                if size % slide != 0 {
                    return plan_err!("SIZE of HOP must be a multiple of SLIDE");
                }
                WindowKind::Hop { slide, size, offset: by.rem_euclid(slide) }
            }
            WindowKind::Cumulate { step, size, .. } => {
                if size % step != 0 {
                    return plan_err!("SIZE of CUMULATE must be a multiple of STEP");
                }
                WindowKind::Cumulate { step, size, offset: by.rem_euclid(size) }
            }
            session => session,
        })
    }
}

/// The milliseconds of an interval that is written out and has no months.
pub(crate) fn interval_ms(expr: &Expr) -> Option<i64> {
    const DAY: i64 = 86_400_000;
    match expr {
        Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(interval)), _) if interval.months == 0 => {
            Some(i64::from(interval.days) * DAY + interval.nanoseconds / 1_000_000)
        }
        Expr::Literal(ScalarValue::IntervalDayTime(Some(interval)), _) => {
            Some(i64::from(interval.days) * DAY + i64::from(interval.milliseconds))
        }
        Expr::Literal(ScalarValue::DurationMillisecond(Some(ms)), _) => Some(*ms),
        _ => None,
    }
}
