//! Where SQL is run: a catalog of tables, and statements that become operations of a job.

use crate::catalog::Catalog;
use crate::changes::Changes;
use crate::connector::{Connector, TableOptions};
use crate::connectors::{BatchesConnector, TableCollector};
use crate::error::SqlError;
use crate::graph::GraphBuilder;
use crate::parse::{self, CreateTable, Insert, Object, Shown, Statement};
use crate::plan::stream::{Node, describe_schema};
use crate::plan::{Lowering, optimise, plan_query};
use crate::table::Table;
use arrow::datatypes::SchemaRef;
use datafusion_common::Column;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use hurtig_datastream::Environment;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// Whether a job puts out each change of its results, or the results once, at its end.
const RUNTIME_MODE: &str = "execution.runtime-mode";
/// How long a source may be silent before it holds no watermark back any more.
const IDLE_TIMEOUT: &str = "table.exec.source.idle-timeout";

/// A catalog of tables, and the job that statements add operations to. Clones share both.
///
/// ```
/// use hurtig_datastream::Environment;
/// use hurtig_sql::TableEnvironment;
///
/// let env = Environment::new();
/// let tables = TableEnvironment::new(&env);
/// tables.execute_sql("CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '10')")?;
/// tables.execute_sql("CREATE TABLE nowhere (n BIGINT) WITH ('connector' = 'blackhole')")?;
/// tables.execute_sql("INSERT INTO nowhere SELECT n * 2 FROM numbers WHERE n > 0")?;
/// assert!(env.graph().nodes.len() > 2);
/// # Ok::<(), hurtig_sql::SqlError>(())
/// ```
#[derive(Clone)]
pub struct TableEnvironment {
    env: Environment,
    shared: Arc<Mutex<Shared>>,
}

struct Shared {
    catalog: Catalog,
    settings: BTreeMap<String, String>,
    uids: HashMap<String, usize>,
}

/// What plans are made on: the planner walks them by recursion, and threads may have little room for that.
const STACK_BYTES: usize = 64 << 20;

fn with_stack<R>(plan: impl FnOnce() -> R) -> R {
    stacker::maybe_grow(STACK_BYTES / 2, STACK_BYTES, plan)
}

/// What a statement came to.
pub enum Outcome {
    /// It changed the catalog or the settings.
    Done,
    /// What it shows: names of columns, and rows of text.
    Rows {
        /// Names of the columns.
        columns: Vec<String>,
        /// The rows.
        rows: Vec<Vec<String>>,
    },
    /// A text, such as a plan.
    Text(String),
    /// A query, still to be given a sink.
    Query(Table),
    /// Operations that write to this many tables were added to the job.
    Inserted(usize),
}

impl TableEnvironment {
    /// An empty catalog over a program.
    pub fn new(env: &Environment) -> Self {
        let shared = Shared { catalog: Catalog::new(), settings: BTreeMap::new(), uids: HashMap::new() };
        TableEnvironment { env: env.clone(), shared: Arc::new(Mutex::new(shared)) }
    }

    /// The same catalog and settings over another program.
    pub fn with_program(&self, env: &Environment) -> Self {
        self.shared.lock().uids.clear();
        TableEnvironment { env: env.clone(), shared: Arc::clone(&self.shared) }
    }

    /// The program that operations are added to.
    pub fn environment(&self) -> &Environment {
        &self.env
    }

    /// What was set.
    pub fn settings(&self) -> BTreeMap<String, String> {
        self.shared.lock().settings.clone()
    }

    /// Sets a key, as `SET` does.
    ///
    /// # Errors
    /// A value that the key cannot have.
    pub fn set(&self, key: &str, value: &str) -> Result<(), SqlError> {
        match key {
            RUNTIME_MODE if !["streaming", "batch"].contains(&value.to_lowercase().as_str()) => {
                return Err(SqlError::statement(format!("'{key}' cannot be '{value}'"))
                    .with_hint("it is 'streaming' or 'batch'"));
            }
            IDLE_TIMEOUT => {
                TableOptions::new([(key.to_string(), value.to_string())]).duration(key)?;
            }
            _ => {}
        }
        self.shared.lock().settings.insert(key.to_string(), value.to_string());
        Ok(())
    }

    /// Adds a connector.
    pub fn add_connector(&self, connector: impl Connector + 'static) {
        self.shared.lock().catalog.add_connector(Arc::new(connector));
    }

    /// Whether results are put out once, at the end of the job.
    pub fn is_batch(&self) -> bool {
        let shared = self.shared.lock();
        shared.settings.get(RUNTIME_MODE).is_some_and(|mode| mode.eq_ignore_ascii_case("batch"))
    }

    /// Names of tables and views, for completion.
    pub fn table_names(&self) -> Vec<String> {
        let shared = self.shared.lock();
        let both = [false, true].map(|views| shared.catalog.names(views));
        both.into_iter().flatten().map(str::to_string).collect()
    }

    /// Runs all statements of a text, which semicolons part.
    ///
    /// # Errors
    /// A statement that cannot be run; those before it have been.
    pub fn execute_script(&self, sql: &str) -> Result<Vec<Outcome>, SqlError> {
        let statements = parse::parse(sql)?;
        let outcomes = statements.into_iter().map(|statement| self.execute(statement));
        outcomes.collect::<Result<_, _>>().map_err(|error| error.in_text(sql))
    }

    /// Runs one statement.
    ///
    /// # Errors
    /// The statement cannot be run, or there is not exactly one.
    pub fn execute_sql(&self, sql: &str) -> Result<Outcome, SqlError> {
        let mut statements = parse::parse(sql)?;
        match (statements.pop(), statements.is_empty()) {
            (Some(statement), true) => self.execute(statement).map_err(|error| error.in_text(sql)),
            _ => Err(SqlError::statement("execute_sql takes one statement")
                .with_hint("execute_script takes several")),
        }
    }

    /// A query as a table.
    ///
    /// # Errors
    /// The statement is no query, or cannot be planned.
    pub fn sql(&self, query: &str) -> Result<Table, SqlError> {
        match self.execute_sql(query)? {
            Outcome::Query(table) => Ok(table),
            _ => Err(SqlError::statement("this is no query").with_hint("execute_sql takes other statements")),
        }
    }

    /// A table or view by its name.
    ///
    /// # Errors
    /// There is none.
    pub fn table(&self, name: &str) -> Result<Table, SqlError> {
        self.sql(&format!("SELECT * FROM `{}`", name.replace('`', "``")))
    }

    /// Gives a table a name, by which queries can read it.
    ///
    /// # Errors
    /// The name is taken.
    pub fn create_view(&self, name: &str, table: &Table) -> Result<(), SqlError> {
        self.shared.lock().catalog.add_view(name, table.plan().clone(), false)
    }

    /// A table of batches that the program holds: for tests and small side tables.
    ///
    /// # Errors
    /// The name is taken, or batches have different columns.
    pub fn create_table_of(&self, name: &str, batches: Vec<Changes>) -> Result<(), SqlError> {
        let schema = batches.first().map(Changes::schema);
        let schema = schema.ok_or_else(|| SqlError::statement("a table of no batches has no columns"))?;
        let statement = CreateTable { name: name.to_string(), ..CreateTable::default() };
        self.add_table(&statement, schema, Arc::new(BatchesConnector::new(batches)), None)
    }

    pub(crate) fn add_table(
        &self,
        statement: &CreateTable,
        schema: SchemaRef,
        connector: Arc<dyn Connector>,
        time: Option<&str>,
    ) -> Result<(), SqlError> {
        let is_bounded = self.is_batch();
        let catalog = &mut self.shared.lock().catalog;
        catalog.add_table_of_schema(statement, schema, connector, TableOptions::default(), is_bounded, time)
    }

    /// Statements come from anywhere: one that makes the planner panic has failed, and nothing else has.
    fn execute(&self, statement: Statement) -> Result<Outcome, SqlError> {
        let execute = AssertUnwindSafe(|| with_stack(|| self.execute_unguarded(statement)));
        catch_unwind(execute).unwrap_or_else(|_| {
            Err(SqlError::unsupported("the planner has failed on this statement")
                .with_hint("write it in another way; what it said is on standard error"))
        })
    }

    fn execute_unguarded(&self, statement: Statement) -> Result<Outcome, SqlError> {
        match statement {
            Statement::CreateTable(table) => {
                let table = self.with_like(*table)?;
                let is_bounded = self.is_batch();
                self.shared.lock().catalog.create_table(&table, is_bounded)?;
                Ok(Outcome::Done)
            }
            Statement::CreateView(view) => {
                let mut shared = self.shared.lock();
                if view.if_not_exists && shared.catalog.has(&view.name) {
                    return Ok(Outcome::Done);
                }
                let mut plan = plan_query(&shared.catalog, view.query)?;
                if !view.columns.is_empty() {
                    let names = plan.schema().columns();
                    if names.len() != view.columns.len() {
                        let message =
                            format!("the view has {} names for {} columns", view.columns.len(), names.len());
                        return Err(SqlError::statement(message));
                    }
                    let renamed = names.into_iter().zip(&view.columns);
                    let exprs = renamed.map(|(column, name)| Expr::Column(column).alias(name));
                    plan = LogicalPlanBuilder::from(plan).project(exprs)?.build()?;
                }
                shared.catalog.add_view(&view.name, plan, view.or_replace)?;
                Ok(Outcome::Done)
            }
            Statement::Drop { what, name, if_exists } => {
                self.shared.lock().catalog.drop(&name, what == Object::View, if_exists)?;
                Ok(Outcome::Done)
            }
            Statement::Query(query) => {
                let plan = plan_query(&self.shared.lock().catalog, *query)?;
                Ok(Outcome::Query(Table::new(self.clone(), plan)))
            }
            Statement::Insert(insert) => {
                self.insert(*insert)?;
                Ok(Outcome::Inserted(1))
            }
            Statement::Inserts(inserts) => {
                let count = inserts.len();
                inserts.into_iter().try_for_each(|insert| self.insert(insert))?;
                Ok(Outcome::Inserted(count))
            }
            Statement::Explain { details, statement } => {
                self.explain(&details, *statement).map(Outcome::Text)
            }
            Statement::Describe(name) => {
                let columns = self.shared.lock().catalog.columns(&name)?;
                let row = |(name, data_type)| vec![name, crate::types::name_of(&data_type)];
                let rows = columns.into_iter().map(row).collect();
                Ok(Outcome::Rows { columns: vec!["name".into(), "type".into()], rows })
            }
            Statement::Show(shown) => self.show(&shown),
            Statement::Set(None) => {
                let rows = self.settings().into_iter().map(|(key, value)| vec![key, value]).collect();
                Ok(Outcome::Rows { columns: vec!["key".into(), "value".into()], rows })
            }
            Statement::Set(Some((key, value))) => {
                self.set(&key, &value)?;
                Ok(Outcome::Done)
            }
            Statement::Reset(key) => {
                let settings = &mut self.shared.lock().settings;
                match key {
                    Some(key) => {
                        settings.remove(&key);
                    }
                    None => settings.clear(),
                }
                Ok(Outcome::Done)
            }
        }
    }

    /// The columns and options of `LIKE`'s table before the statement's own.
    fn with_like(&self, mut table: CreateTable) -> Result<CreateTable, SqlError> {
        let Some(like) = table.like.take() else { return Ok(table) };
        let text = self.shared.lock().catalog.table(&like)?.statement.clone();
        let Some(Statement::CreateTable(base)) = parse::parse(&text)?.pop() else {
            return Err(SqlError::unsupported(format!("LIKE '{like}': it was not made by CREATE TABLE")));
        };
        let mut columns = base.columns;
        columns.retain(|column| !table.columns.iter().any(|own| own.name == column.name));
        columns.append(&mut table.columns);
        let mut options: BTreeMap<String, String> = base.options.into_iter().collect();
        options.extend(table.options);
        let or = |own: Vec<String>, base: Vec<String>| if own.is_empty() { base } else { own };
        Ok(CreateTable {
            columns,
            options: options.into_iter().collect(),
            watermark: table.watermark.or(base.watermark),
            primary_key: or(table.primary_key, base.primary_key),
            partitioned_by: or(table.partitioned_by, base.partitioned_by),
            ..table
        })
    }

    fn show(&self, shown: &Shown) -> Result<Outcome, SqlError> {
        let shared = self.shared.lock();
        let list = |column: &str, names: Vec<&str>| Outcome::Rows {
            columns: vec![column.to_string()],
            rows: names.into_iter().map(|name| vec![name.to_string()]).collect(),
        };
        Ok(match shown {
            Shown::Tables => {
                let mut names = [shared.catalog.names(false), shared.catalog.names(true)].concat();
                names.sort_unstable();
                list("table name", names)
            }
            Shown::Views => list("view name", shared.catalog.names(true)),
            Shown::Functions => list("function name", shared.catalog.function_names()),
            Shown::CreateTable(name) => Outcome::Text(shared.catalog.table(name)?.statement.clone()),
        })
    }

    /// The operators of a query.
    pub(crate) fn lower(&self, plan: &LogicalPlan) -> Result<Node, SqlError> {
        let is_batch = self.is_batch();
        with_stack(|| {
            let plan = optimise(&self.shared.lock().catalog, plan.clone())?;
            Lowering::new(is_batch).lower(&plan)
        })
    }

    /// A query's plan with the columns that a table takes.
    fn insert_plan(&self, insert: &Insert) -> Result<LogicalPlan, SqlError> {
        let shared = self.shared.lock();
        let table = Arc::clone(shared.catalog.table(&insert.table)?);
        let plan = plan_query(&shared.catalog, insert.query.clone())?;
        drop(shared);
        let written: Vec<_> = table.columns.iter().filter(|(_, _, is_written)| *is_written).collect();
        let names: Vec<&str> = match insert.columns.is_empty() {
            true => written.iter().map(|(name, _, _)| name.as_str()).collect(),
            false => insert.columns.iter().map(String::as_str).collect(),
        };
        if let Some(unknown) = names.iter().find(|name| !written.iter().any(|(known, _, _)| known == *name)) {
            let message = format!("table '{}' has no column '{unknown}' that can be written", insert.table);
            return Err(SqlError::statement(message));
        }
        let given = plan.schema().columns();
        if given.len() != names.len() {
            let message = format!(
                "table '{}' takes {} columns ({}), the query has {}",
                insert.table,
                names.len(),
                names.join(", "),
                given.len()
            );
            return Err(SqlError::statement(message));
        }
        let exprs = written.iter().map(|(name, data_type, _)| {
            let expr = match names.iter().position(|given| given == name) {
                Some(at) => {
                    let column = Expr::Column(given[at].clone());
                    match plan.schema().field(at).data_type() == data_type {
                        true => column,
                        false => cast(column, data_type.clone()),
                    }
                }
                None => cast(lit(datafusion_common::ScalarValue::Null), data_type.clone()),
            };
            expr.alias(name)
        });
        let exprs: Vec<Expr> = exprs.collect();
        Ok(LogicalPlanBuilder::from(plan).project(exprs)?.build()?)
    }

    fn insert(&self, insert: Insert) -> Result<(), SqlError> {
        let node = self.lower(&self.insert_plan(&insert)?)?;
        let table = Arc::clone(self.shared.lock().catalog.table(&insert.table)?);
        self.with_builder(|builder| {
            builder.sink(&insert.table, &node, |input| table.connector.sink(&table.definition, input))
        })
    }

    pub(crate) fn with_builder<R>(
        &self,
        build: impl FnOnce(&mut GraphBuilder<'_>) -> Result<R, SqlError>,
    ) -> Result<R, SqlError> {
        let is_batch = self.is_batch();
        let settings = self.settings();
        let idle = settings.get(IDLE_TIMEOUT).map(|text| (IDLE_TIMEOUT.to_string(), text.clone()));
        let idle_after: Option<Duration> = TableOptions::new(idle).duration(IDLE_TIMEOUT)?;
        let uids = std::mem::take(&mut self.shared.lock().uids);
        let mut builder = GraphBuilder { env: &self.env, is_batch, idle_after, uids };
        let built = build(&mut builder);
        self.shared.lock().uids = builder.uids;
        built
    }

    /// Adds a sink that gathers a query's result in this program.
    pub(crate) fn collect(&self, plan: &LogicalPlan) -> Result<TableCollector, SqlError> {
        let node = self.lower(plan)?;
        let collector = TableCollector::new(node.properties.keys.first().cloned());
        self.with_builder(|builder| builder.sink("collect", &node, |_| Ok(collector.sink())))?;
        Ok(collector)
    }

    fn explain(&self, details: &[String], statement: Statement) -> Result<String, SqlError> {
        let plans = match statement {
            Statement::Query(query) => vec![plan_query(&self.shared.lock().catalog, *query)?],
            Statement::Insert(insert) => vec![self.insert_plan(&insert)?],
            Statement::Inserts(inserts) => {
                inserts.iter().map(|insert| self.insert_plan(insert)).collect::<Result<_, _>>()?
            }
            _ => return Err(SqlError::statement("EXPLAIN takes a query, an INSERT or a statement set")),
        };
        let has = |detail: &str| details.iter().any(|other| other == detail);
        let mut text = String::new();
        for plan in plans {
            text.push_str("== Logical plan ==\n");
            let optimised = optimise(&self.shared.lock().catalog, plan)?;
            text.push_str(&optimised.display_indent().to_string());
            let node = Lowering::new(self.is_batch()).lower(&optimised)?;
            text.push_str("\n\n== Operators ==\n");
            text.push_str(&node.explain(has("CHANGELOG_MODE"), true));
        }
        Ok(text)
    }

    /// Names and types of a query's columns.
    pub(crate) fn schema_of(&self, plan: &LogicalPlan) -> Vec<(String, String)> {
        describe_schema(plan.schema().inner())
    }

    pub(crate) fn column(plan: &LogicalPlan, name: &str) -> Option<Expr> {
        let at = plan.schema().index_of_column_by_name(None, name)?;
        Some(Expr::Column(Column::from(plan.schema().qualified_field(at))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tables() -> TableEnvironment {
        let tables = TableEnvironment::new(&Environment::new());
        let statement = "CREATE TABLE t (id BIGINT, name STRING, price DECIMAL(10, 2), at TIMESTAMP(3),
                WATERMARK FOR at AS at - INTERVAL '1' SECOND) WITH ('connector' = 'datagen')";
        tables.execute_sql(statement).unwrap();
        tables
    }

    fn planned(tables: &TableEnvironment, sql: &str) -> Result<(), SqlError> {
        match tables.execute_sql(sql)? {
            Outcome::Query(table) => table.explain().map(drop),
            _ => Ok(()),
        }
    }

    #[test]
    fn long_statements_are_planned_or_refused() {
        let tables = tables();
        planned(&tables, &format!("SELECT id{} FROM t", " + 1".repeat(450))).unwrap();
        planned(&tables, &format!("SELECT id FROM t WHERE {}", vec!["id = 7"; 200].join(" OR "))).unwrap();
        for long in [
            format!("SELECT id{} FROM t", " + 1".repeat(100_000)),
            format!("SELECT id FROM t WHERE {}", vec!["id = 7"; 100_000].join(" OR ")),
            vec!["SELECT id FROM t"; 10_000].join(" UNION ALL "),
            format!("SELECT {}id FROM t", "NOT ".repeat(10_000)),
        ] {
            let error = planned(&tables, &long).unwrap_err().to_string();
            assert!(error.contains("more than 500 operators"), "{error}");
        }
    }

    #[test]
    fn what_does_not_exist_is_told_by_name() {
        let tables = tables();
        for (sql, words) in [
            ("SELECT nmae FROM t", "nmae"),
            ("SELECT NO_SUCH(id) FROM t", "NO_SUCH"),
            ("SELECT * FROM u", "no table or view 'u'"),
            ("SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(id), INTERVAL '1' SECOND))", "'id' is BIGINT"),
            (
                "SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(at), INTERVAL '0' SECOND))",
                "longer than nothing",
            ),
            ("SELECT * FROM t ORDER BY id", "event time, ascending, only"),
            ("INSERT INTO t SELECT 1", "takes 4 columns"),
        ] {
            let error = planned(&tables, sql).unwrap_err().to_string();
            assert!(error.to_lowercase().contains(&words.to_lowercase()), "{sql}: {error}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_hostile(words in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "FROM", "WHERE", "GROUP BY", "ORDER BY", "JOIN", "ON", "t", "id", "name", "price", "at", "*", ",", "(", ")",
            "=", "+", "-", "/", "1", "0", "'x'", "NULL", "AS", "a", "COUNT", "SUM", "OVER", "PARTITION BY", "UNION", "ALL",
            "TABLE", "TUMBLE", "DESCRIPTOR", "INTERVAL", "SECOND", "CASE", "WHEN", "THEN", "END", "IN", "EXISTS", "LIMIT",
            "99999999999999999999", "CAST", "BIGINT", ".", ";", "`", "[", "ROW", "<", "MAP", "DISTINCT", "FILTER", "NOT",
        ]), 0..24)) {
            // An error or a plan, but no panic.
            let _ = planned(&tables(), &words.join(" "));
            let _ = planned(&tables(), &format!("SELECT {} FROM t", words.join(" ")));
        }
    }
}
