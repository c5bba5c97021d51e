//! The Table API: queries put together by calls.

use crate::changes::Changes;
use crate::connectors::TableCollector;
use crate::error::SqlError;
use crate::expression::Expression;
use crate::plan::stream::Node;
use crate::tables::TableEnvironment;
use datafusion_common::JoinType;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder};
use hurtig_datastream::DataStream;

/// A query. Nothing runs before it is given a sink and the job is run.
///
/// ```
/// use hurtig_datastream::Environment;
/// use hurtig_sql::{TableEnvironment, col};
///
/// let env = Environment::new();
/// let tables = TableEnvironment::new(&env);
/// tables.execute_sql("CREATE TABLE sales (product STRING, price BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '9')")?;
/// let dear = tables
///     .table("sales")?
///     .filter(col("price").gt(17))?
///     .group_by([col("product")])?
///     .select([col("product"), col("price").sum().alias("total")])?;
/// let results = dear.collect()?;
/// // … once the job has run:
/// assert!(results.take().is_empty());
/// # Ok::<(), hurtig_sql::SqlError>(())
/// ```
#[derive(Clone)]
pub struct Table {
    env: TableEnvironment,
    plan: LogicalPlan,
}

impl Table {
    pub(crate) fn new(env: TableEnvironment, plan: LogicalPlan) -> Self {
        Table { env, plan }
    }

    pub(crate) fn plan(&self) -> &LogicalPlan {
        &self.plan
    }

    fn with(&self, plan: LogicalPlan) -> Self {
        Table { env: self.env.clone(), plan }
    }

    fn builder(&self) -> LogicalPlanBuilder {
        LogicalPlanBuilder::from(self.plan.clone())
    }

    fn resolved(&self, exprs: impl IntoIterator<Item = Expression>) -> Result<Vec<Expr>, SqlError> {
        exprs.into_iter().map(|expr| expr.resolved(&self.plan)).collect()
    }

    /// Names and types of the columns.
    pub fn columns(&self) -> Vec<(String, String)> {
        self.env.schema_of(&self.plan)
    }

    /// The rows for which a condition is true.
    ///
    /// # Errors
    /// The condition names columns that do not exist, or is none.
    pub fn filter(&self, condition: Expression) -> Result<Table, SqlError> {
        let condition = condition.resolved(&self.plan)?;
        Ok(self.with(self.builder().filter(condition)?.build()?))
    }

    /// Columns computed of each row; with aggregate functions, of all rows.
    ///
    /// # Errors
    /// An expression names columns that do not exist, or mixes types that do not fit.
    pub fn select(&self, columns: impl IntoIterator<Item = Expression>) -> Result<Table, SqlError> {
        let columns = self.resolved(columns)?;
        if columns.iter().any(Expression::is_aggregate) {
            return self.aggregated(Vec::new(), columns);
        }
        Ok(self.with(self.builder().project(columns)?.build()?))
    }

    /// Groups rows, to be followed by [`GroupedTable::select`].
    ///
    /// # Errors
    /// An expression names columns that do not exist.
    pub fn group_by(&self, columns: impl IntoIterator<Item = Expression>) -> Result<GroupedTable, SqlError> {
        Ok(GroupedTable { table: self.clone(), groups: self.resolved(columns)? })
    }

    fn aggregated(&self, groups: Vec<Expr>, columns: Vec<Expr>) -> Result<Table, SqlError> {
        let aggregates = Expression::aggregates_of(&columns);
        let plan = self.builder().aggregate(groups.clone(), aggregates.clone())?.build()?;
        let known: Vec<Expr> = groups.into_iter().chain(aggregates).collect();
        let columns = columns.into_iter().map(|column| Expression::over(column, &known, &plan));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        Ok(self.with(LogicalPlanBuilder::from(plan).project(columns)?.build()?))
    }

    /// The pairs of both tables' rows for which a condition is true.
    ///
    /// # Errors
    /// The condition names columns that do not exist or that both tables have.
    pub fn join(&self, other: &Table, on: Expression) -> Result<Table, SqlError> {
        self.joined(other, JoinType::Inner, on)
    }

    /// As [`Table::join`]; rows of this table without partner come with nulls.
    ///
    /// # Errors
    /// As [`Table::join`].
    pub fn left_outer_join(&self, other: &Table, on: Expression) -> Result<Table, SqlError> {
        self.joined(other, JoinType::Left, on)
    }

    /// As [`Table::join`]; rows of both tables without partner come with nulls.
    ///
    /// # Errors
    /// As [`Table::join`].
    pub fn full_outer_join(&self, other: &Table, on: Expression) -> Result<Table, SqlError> {
        self.joined(other, JoinType::Full, on)
    }

    fn joined(&self, other: &Table, kind: JoinType, on: Expression) -> Result<Table, SqlError> {
        let both = self.builder().cross_join(other.plan.clone())?.build()?;
        let on = on.resolved(&both)?;
        Ok(self.with(self.builder().join_on(other.plan.clone(), kind, [on])?.build()?))
    }

    /// The rows of both tables.
    ///
    /// # Errors
    /// The tables have different columns.
    pub fn union_all(&self, other: &Table) -> Result<Table, SqlError> {
        Ok(self.with(self.builder().union(other.plan.clone())?.build()?))
    }

    /// Each row once.
    ///
    /// # Errors
    /// Rows of a type that cannot be compared.
    pub fn distinct(&self) -> Result<Table, SqlError> {
        Ok(self.with(self.builder().distinct()?.build()?))
    }

    /// The first rows.
    ///
    /// # Errors
    /// None that this version knows.
    pub fn limit(&self, rows: usize) -> Result<Table, SqlError> {
        Ok(self.with(self.builder().limit(0, Some(rows))?.build()?))
    }

    /// Rows in an order: see [`Expression::asc`] and [`Expression::desc`].
    ///
    /// # Errors
    /// An expression names columns that do not exist.
    pub fn order_by(&self, columns: impl IntoIterator<Item = Expression>) -> Result<Table, SqlError> {
        let keys = columns.into_iter().map(|column| column.sort_key(&self.plan));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        Ok(self.with(self.builder().sort(keys)?.build()?))
    }

    /// The operators that the query becomes.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn explain(&self) -> Result<String, SqlError> {
        Ok(self.lower()?.explain(true, true))
    }

    /// The query's operators.
    pub(crate) fn lower(&self) -> Result<Node, SqlError> {
        self.env.lower(&self.plan)
    }

    /// Gathers the result in this program once the job is run.
    ///
    /// # Errors
    /// The query cannot be run.
    pub fn collect(&self) -> Result<TableCollector, SqlError> {
        self.env.collect(&self.plan)
    }

    /// The query's changes as a stream of batches.
    ///
    /// # Errors
    /// The query cannot be run.
    pub fn to_changelog_stream(&self) -> Result<DataStream<Changes>, SqlError> {
        self.stream_of(&self.lower()?)
    }

    /// The changes that the query's operators put out.
    pub(crate) fn stream_of(&self, node: &Node) -> Result<DataStream<Changes>, SqlError> {
        let id = self.env.with_builder(|builder| builder.stream(node))?;
        Ok(DataStream::of_node(self.env.environment(), id))
    }
}

/// A table whose rows are grouped.
pub struct GroupedTable {
    table: Table,
    groups: Vec<Expr>,
}

impl GroupedTable {
    /// Columns computed of each group.
    ///
    /// # Errors
    /// An expression is neither an aggregate nor made of what is grouped by.
    pub fn select(&self, columns: impl IntoIterator<Item = Expression>) -> Result<Table, SqlError> {
        let columns = self.table.resolved(columns)?;
        self.table.aggregated(self.groups.clone(), columns)
    }
}
