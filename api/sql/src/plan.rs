//! From a query to operators: DataFusion's logical plan, in which what streams need is recognised ([`rank`]) before it is
//! optimised, is lowered ([`lower`]) to a tree of our operators ([`stream`]) that knows what is only ever added, what
//! tells rows apart, and which columns follow the watermark.

mod as_of;
mod group_windows;
mod lower;
mod marker;
mod nodes;
mod rank;
mod relations;
pub(crate) mod stream;

pub(crate) use lower::Lowering;
pub(crate) use marker::markers;
pub(crate) use nodes::{StreamNode, WindowKind};
pub(crate) use relations::StreamRelations;

use crate::catalog::Catalog;
use crate::error::SqlError;
use crate::functions::TextCasts;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::{Expr, LogicalPlan};
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext, OptimizerRule};
use sqlparser::ast;
use std::sync::Arc;

/// The optimiser's rules that are right for streams too. Left out: what splits a distinct aggregate into two levels of
/// state, what turns queries around on the ground that sets end, and what only serves DataFusion's own execution.
const RULES: [&str; 20] = [
    "rewrite_set_comparison",
    "optimize_unions",
    "simplify_expressions",
    "replace_distinct_aggregate",
    "eliminate_join",
    "decorrelate_predicate_subquery",
    "scalar_subquery_to_join",
    "decorrelate_lateral_join",
    "extract_equijoin_predicate",
    "eliminate_duplicated_expr",
    "eliminate_filter",
    "eliminate_cross_join",
    "eliminate_limit",
    "propagate_empty_relation",
    "eliminate_outer_join",
    "push_down_limit",
    "push_down_filter",
    "eliminate_group_by_constant",
    "common_sub_expression_eliminate",
    "optimize_projections",
];

/// The optimised logical plan of a query.
pub(crate) fn plan_query(catalog: &Catalog, query: ast::Query) -> Result<LogicalPlan, SqlError> {
    let statement = ast::Statement::Query(Box::new(query));
    Ok(catalog.planner().sql_statement_to_plan(statement)?)
}

/// A plan with all that streams need recognised, and optimised.
pub(crate) fn optimise(catalog: &Catalog, plan: LogicalPlan) -> Result<LogicalPlan, SqlError> {
    let plan = group_windows::recognise(plan)?;
    let plan = as_of::recognise(plan)?;
    let plan = rank::recognise(plan)?;
    let config = catalog.config();
    let mut analyzer = Analyzer::new();
    analyzer.rules.push(Arc::new(TextCasts::new()));
    let plan = analyzer.execute_and_check(plan, config, |_, _| {})?;
    let rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
        Optimizer::new().rules.into_iter().filter(|rule| RULES.contains(&rule.name())).collect();
    let context = OptimizerContext::new_with_config_options(Arc::new(config.clone()));
    let plan = Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})?;
    check_no_subquery(&plan)?;
    Ok(plan)
}

/// Subqueries that no rule has made a join of cannot be run.
fn check_no_subquery(plan: &LogicalPlan) -> Result<(), SqlError> {
    let mut found = None;
    plan.apply(|plan| {
        plan.apply_expressions(|expr| {
            expr.apply(|expr| {
                if matches!(
                    expr,
                    Expr::Exists(_) | Expr::InSubquery(_) | Expr::ScalarSubquery(_) | Expr::SetComparison(_)
                ) {
                    found.get_or_insert_with(|| expr.to_string());
                }
                Ok(datafusion_common::tree_node::TreeNodeRecursion::Continue)
            })
        })
    })?;
    match found {
        Some(_) => Err(SqlError::unsupported("a subquery in this place cannot be turned into a join")
            .with_hint("write it as a JOIN")),
        None => Ok(()),
    }
}

/// Rewrites a plan from its leaves up.
fn transform(
    plan: LogicalPlan,
    change: impl FnMut(LogicalPlan) -> datafusion_common::Result<Transformed<LogicalPlan>>,
) -> datafusion_common::Result<LogicalPlan> {
    Ok(plan.transform_up_with_subqueries(change)?.data)
}
