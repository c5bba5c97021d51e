//! Tables, views and functions by name: what the planner looks names up in.

use crate::connector::{Connector, TableDefinition, TableOptions};
use crate::error::{SqlError, nearest};
use crate::parse::{ColumnKind, CreateTable};
use crate::plan::{StreamNode, StreamRelations, markers};
use crate::types::FlinkTypes;
use crate::{connectors, functions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, TableReference, plan_err};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, Expr, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use sqlparser::ast;
use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A table that a connector reads or writes, or a stream that was registered.
pub(crate) struct Table {
    pub(crate) definition: TableDefinition,
    pub(crate) connector: Arc<dyn Connector>,
    /// The expression of the watermark, over the columns of the definition.
    pub(crate) watermark: Option<Expr>,
    /// All columns, computed ones too, for INSERT and DESCRIBE: name, type, and whether it can be written.
    pub(crate) columns: Vec<(String, DataType, bool)>,
    pub(crate) statement: String,
}

/// What the planner scans: the data of a table.
pub(crate) struct TableScanSource(pub(crate) Arc<Table>);

impl TableSource for TableScanSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0.definition.schema)
    }
}

impl TableScanSource {
    /// The table of a scan.
    pub(crate) fn of(source: &Arc<dyn TableSource>) -> Option<&Arc<Table>> {
        let any: &dyn Any = &**source;
        any.downcast_ref::<TableScanSource>().map(|source| &source.0)
    }
}

/// What a name in FROM stands for: a table with its computed columns and event time, or a view.
struct Relation {
    plan: LogicalPlan,
    schema: SchemaRef,
    table: Option<Arc<Table>>,
}

impl TableSource for Relation {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn get_logical_plan(&self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

/// Names and what they stand for.
pub(crate) struct Catalog {
    relations: BTreeMap<String, Arc<Relation>>,
    connectors: Vec<Arc<dyn Connector>>,
    config: ConfigOptions,
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    types: Arc<dyn TypePlanner>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        let mut config = ConfigOptions::default();
        // Flink's: names are case-sensitive, numbers with a point are decimals, NULL is the smallest value.
        config.sql_parser.enable_ident_normalization = false;
        config.sql_parser.parse_float_as_decimal = true;
        config.sql_parser.map_string_types_to_utf8view = false;
        config.sql_parser.default_null_ordering = "nulls_min".into();
        config.sql_parser.collect_spans = true;
        // A subquery within an expression cannot be run by our operators: it has to become a join.
        config.optimizer.enable_physical_uncorrelated_scalar_subquery = false;

        let mut scalar: HashMap<String, Arc<ScalarUDF>> = HashMap::new();
        for function in datafusion_functions::all_default_functions() {
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
            {
                scalar.insert(name.to_string(), Arc::clone(&function));
            }
        }
        scalar.extend(markers().into_iter().map(|(name, function)| (name.to_string(), function)));
        scalar.extend(functions::scalar().into_iter().map(|(name, function)| (name.to_string(), function)));
        let aggregate = functions::aggregate().into_iter().map(|(name, f)| (name.to_string(), f)).collect();
        let window = functions::window().into_iter().map(|(name, f)| (name.to_string(), f)).collect();
        Catalog {
            relations: BTreeMap::new(),
            connectors: connectors::all(),
            config,
            scalar,
            aggregate,
            window,
            expr_planners: functions::planners(),
            relation_planners: vec![Arc::new(StreamRelations)],
            types: Arc::new(FlinkTypes),
        }
    }

    pub(crate) fn config(&self) -> &ConfigOptions {
        &self.config
    }

    pub(crate) fn add_connector(&mut self, connector: Arc<dyn Connector>) {
        self.connectors.push(connector);
    }

    /// DataFusion's planner over this catalog.
    pub(crate) fn planner(&self) -> SqlToRel<'_, Catalog> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.config.sql_parser))
    }

    /// Names of tables and of views.
    pub(crate) fn names(&self, views: bool) -> Vec<&str> {
        let wanted = self.relations.iter().filter(|(_, relation)| relation.table.is_none() == views);
        wanted.map(|(name, _)| name.as_str()).collect()
    }

    /// Names of functions, in order.
    pub(crate) fn function_names(&self) -> Vec<&str> {
        let names = self.scalar.keys().chain(self.aggregate.keys()).chain(self.window.keys());
        let mut names: Vec<&str> = names.map(String::as_str).filter(|name| !name.starts_with('$')).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// A table that a connector serves.
    pub(crate) fn table(&self, name: &str) -> Result<&Arc<Table>, SqlError> {
        match self.relations.get(name).map(|relation| relation.table.as_ref()) {
            Some(Some(table)) => Ok(table),
            Some(None) => {
                Err(SqlError::statement(format!("'{name}' is a view: nothing can be written to it")))
            }
            None => Err(self.not_found(name)),
        }
    }

    /// Columns of a table or view: name and type.
    pub(crate) fn columns(&self, name: &str) -> Result<Vec<(String, DataType)>, SqlError> {
        let relation = self.relations.get(name).ok_or_else(|| self.not_found(name))?;
        let fields = relation.schema.fields().iter();
        Ok(fields.map(|field| (field.name().clone(), field.data_type().clone())).collect())
    }

    fn not_found(&self, name: &str) -> SqlError {
        let error = SqlError::statement(format!("there is no table or view '{name}'"));
        match nearest(name, self.relations.keys().map(String::as_str)) {
            Some(other) => error.with_hint(format!("did you mean '{other}'?")),
            None => error.with_hint("SHOW TABLES lists those that there are; names are case-sensitive"),
        }
    }

    pub(crate) fn drop(&mut self, name: &str, view: bool, if_exists: bool) -> Result<(), SqlError> {
        match self.relations.get(name) {
            Some(relation) if relation.table.is_none() == view => {
                self.relations.remove(name);
                Ok(())
            }
            None if if_exists => Ok(()),
            None => Err(self.not_found(name)),
            Some(_) => {
                let (is, not) = if view { ("table", "view") } else { ("view", "table") };
                Err(SqlError::statement(format!("'{name}' is a {is}, not a {not}")))
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.relations.contains_key(name)
    }

    fn check_free(&self, name: &str) -> Result<(), SqlError> {
        match self.has(name) {
            true => Err(SqlError::statement(format!("there is a table or view '{name}' already"))
                .with_hint("DROP it first, or say IF NOT EXISTS")),
            false => Ok(()),
        }
    }

    pub(crate) fn add_view(&mut self, name: &str, plan: LogicalPlan, replace: bool) -> Result<(), SqlError> {
        if !replace {
            self.check_free(name)?;
        }
        let schema = Arc::clone(plan.schema().inner());
        self.relations.insert(name.into(), Arc::new(Relation { plan, schema, table: None }));
        Ok(())
    }

    /// `CREATE TABLE`.
    pub(crate) fn create_table(&mut self, statement: &CreateTable, is_bounded: bool) -> Result<(), SqlError> {
        if statement.if_not_exists && self.has(&statement.name) {
            return Ok(());
        }
        self.check_free(&statement.name)?;
        let mut options: BTreeMap<String, String> = statement.options.iter().cloned().collect();
        let name = options.remove("connector").ok_or_else(|| {
            SqlError::connector(format!("table '{}' has no connector", statement.name)).with_hint(format!(
                "add WITH ('connector' = '…'): there are {}",
                self.connector_names().join(", ")
            ))
        })?;
        let connector = self.connectors.iter().find(|connector| connector.name() == name).cloned();
        let connector = connector.ok_or_else(|| {
            let error = SqlError::connector(format!("there is no connector '{name}'"));
            match nearest(&name, self.connector_names()) {
                Some(other) => error.with_hint(format!("did you mean '{other}'?")),
                None => error.with_hint(format!("there are {}", self.connector_names().join(", "))),
            }
        })?;
        let options = TableOptions::new(options);
        options.check_known(&name, connector.options())?;
        self.add_table(statement, connector, options, is_bounded)
    }

    fn connector_names(&self) -> Vec<&'static str> {
        self.connectors.iter().map(|connector| connector.name()).collect()
    }

    /// Adds a table of a connector.
    pub(crate) fn add_table(
        &mut self,
        statement: &CreateTable,
        connector: Arc<dyn Connector>,
        options: TableOptions,
        is_bounded: bool,
    ) -> Result<(), SqlError> {
        let mut fields = Vec::new();
        for column in &statement.columns {
            let (data_type, nullable) = match &column.kind {
                ColumnKind::Physical { data_type, nullable } => (data_type, *nullable),
                ColumnKind::Metadata { data_type, .. } => (data_type, true),
                ColumnKind::Computed(_) => continue,
            };
            if fields.iter().any(|field: &Field| *field.name() == column.name) {
                return Err(SqlError::statement(format!("column '{}' is there twice", column.name)));
            }
            fields.push(Field::new(&column.name, self.data_type(data_type)?, nullable));
        }
        if fields.is_empty() {
            return Err(SqlError::statement(format!("table '{}' has no columns", statement.name)));
        }
        let schema = Arc::new(Schema::new(fields));
        self.add_table_of_schema(statement, schema, connector, options, is_bounded, None)
    }

    /// As [`Catalog::add_table`], for a table whose columns are known as a schema, and whose rows may come with watermarks
    /// of the given column already.
    pub(crate) fn add_table_of_schema(
        &mut self,
        statement: &CreateTable,
        schema: SchemaRef,
        connector: Arc<dyn Connector>,
        options: TableOptions,
        is_bounded: bool,
        time: Option<&str>,
    ) -> Result<(), SqlError> {
        let name = &statement.name;
        for column in statement.primary_key.iter().chain(&statement.partitioned_by) {
            if schema.index_of(column).is_err() {
                return Err(SqlError::statement(format!("table '{name}' has no column '{column}'")));
            }
        }
        let definition = TableDefinition {
            name: name.clone(),
            schema: Arc::clone(&schema),
            options,
            primary_key: statement.primary_key.clone(),
            partitioned_by: statement.partitioned_by.clone(),
            is_bounded,
        };
        let mut table = Table {
            definition,
            connector,
            watermark: None,
            columns: Vec::new(),
            statement: show_create_table(statement),
        };
        // The scan itself only lends its columns to the expressions: it is made again once the table is known.
        let plan = self.scan_plan(name, schema)?;
        let exprs = self.column_exprs(statement, &plan)?;
        let watermark = self.watermark_expr(statement, &plan, &exprs)?;
        let with_columns = LogicalPlanBuilder::from(plan).project(exprs.clone())?.build()?;
        let fields = with_columns.schema().fields().iter();
        let is_written = |name: &str| {
            let computed = |kind: &ColumnKind| {
                matches!(kind, ColumnKind::Computed(_) | ColumnKind::Metadata { is_virtual: true, .. })
            };
            !statement.columns.iter().any(|column| column.name == name && computed(&column.kind))
        };
        table.columns = fields
            .map(|field| (field.name().clone(), field.data_type().clone(), is_written(field.name())))
            .collect();
        let given = time.and_then(|time| with_columns.schema().index_of_column_by_name(None, time));
        let rowtime = watermark.as_ref().map(|(column, _)| *column).or(given);
        table.watermark = watermark.map(|(_, expr)| expr);
        let table = Arc::new(table);
        let source: Arc<dyn TableSource> = Arc::new(TableScanSource(Arc::clone(&table)));
        let mut plan = LogicalPlanBuilder::scan(TableReference::bare(name.as_str()), source, None)?;
        if exprs.iter().any(|expr| !matches!(expr, Expr::Column(_))) {
            plan = plan.project(exprs)?;
        }
        let mut plan = plan.build()?;
        if let Some(column) = rowtime {
            plan = StreamNode::rowtime(plan, column).into_plan();
        }
        let schema = Arc::clone(plan.schema().inner());
        self.relations.insert(name.clone(), Arc::new(Relation { plan, schema, table: Some(table) }));
        Ok(())
    }

    fn scan_plan(&self, name: &str, schema: SchemaRef) -> Result<LogicalPlan, SqlError> {
        struct Columns(SchemaRef);
        impl TableSource for Columns {
            fn schema(&self) -> SchemaRef {
                Arc::clone(&self.0)
            }
        }
        let source: Arc<dyn TableSource> = Arc::new(Columns(schema));
        Ok(LogicalPlanBuilder::scan(TableReference::bare(name), source, None)?.build()?)
    }

    fn column_exprs(&self, statement: &CreateTable, scan: &LogicalPlan) -> Result<Vec<Expr>, SqlError> {
        let planner = self.planner();
        let table = TableReference::bare(statement.name.as_str());
        let expr = |(name, kind): (&str, Option<&ColumnKind>)| -> Result<Expr> {
            let column = Expr::Column(Column::new(Some(table.clone()), name));
            match kind {
                Some(ColumnKind::Computed(computed)) => {
                    let expr =
                        planner.sql_to_expr((**computed).clone(), scan.schema(), &mut Default::default())?;
                    Ok(expr.alias_qualified(Some(table.clone()), name))
                }
                _ => Ok(column),
            }
        };
        if statement.columns.is_empty() {
            let names = scan.schema().fields().iter().map(|field| field.name().as_str());
            return Ok(names.map(|name| expr((name, None))).collect::<Result<_>>()?);
        }
        let columns = statement.columns.iter().map(|column| (column.name.as_str(), Some(&column.kind)));
        Ok(columns.map(expr).collect::<Result<_>>()?)
    }

    /// The place of the event-time column, and the watermark's expression over the scan's columns.
    fn watermark_expr(
        &self,
        statement: &CreateTable,
        scan: &LogicalPlan,
        columns: &[Expr],
    ) -> Result<Option<(usize, Expr)>, SqlError> {
        let Some((name, expr)) = &statement.watermark else { return Ok(None) };
        let with_columns = LogicalPlanBuilder::from(scan.clone()).project(columns.to_vec())?.build()?;
        let schema = with_columns.schema();
        let Some(column) = schema.index_of_column_by_name(None, name) else {
            return Err(SqlError::statement(format!("WATERMARK FOR '{name}': there is no such column")));
        };
        if !matches!(schema.field(column).data_type(), DataType::Timestamp(..)) {
            let found = crate::types::name_of(schema.field(column).data_type());
            let message = format!("WATERMARK FOR '{name}': the column is of type {found}");
            return Err(
                SqlError::statement(message).with_hint("event time is a TIMESTAMP(3) or TIMESTAMP_LTZ(3)")
            );
        }
        let expr = self.planner().sql_to_expr(expr.clone(), schema, &mut Default::default())?;
        let expr = expr.transform(|expr| match &expr {
            Expr::Column(column) => {
                let place = schema.index_of_column(column)?;
                Ok(Transformed::yes(columns[place].clone().unalias()))
            }
            _ => Ok(Transformed::no(expr)),
        })?;
        Ok(Some((column, expr.data)))
    }

    /// A type as it is written in SQL.
    pub(crate) fn data_type(&self, data_type: &ast::DataType) -> Result<DataType, SqlError> {
        let column =
            ast::ColumnDef { name: ast::Ident::new("c"), data_type: data_type.clone(), options: Vec::new() };
        let schema = self.planner().build_schema(vec![column])?;
        Ok(schema.field(0).data_type().clone())
    }
}

/// The statement as SHOW CREATE TABLE tells it.
fn show_create_table(statement: &CreateTable) -> String {
    let columns = statement.columns.iter().map(|column| {
        let name = format!("`{}`", column.name.replace('`', "``"));
        match &column.kind {
            ColumnKind::Physical { data_type, nullable } => {
                format!("{name} {data_type}{}", if *nullable { "" } else { " NOT NULL" })
            }
            ColumnKind::Computed(expr) => format!("{name} AS {expr}"),
            ColumnKind::Metadata { data_type, key, is_virtual } => {
                let from = key.as_ref().map(|key| format!(" FROM '{key}'")).unwrap_or_default();
                format!("{name} {data_type} METADATA{from}{}", if *is_virtual { " VIRTUAL" } else { "" })
            }
        }
    });
    let watermark =
        statement.watermark.iter().map(|(column, expr)| format!("WATERMARK FOR `{column}` AS {expr}"));
    let quoted =
        |names: &[String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let key = (!statement.primary_key.is_empty())
        .then(|| format!("PRIMARY KEY ({}) NOT ENFORCED", quoted(&statement.primary_key)));
    let elements: Vec<_> =
        columns.chain(watermark).chain(key).map(|element| format!("  {element}")).collect();
    let mut text = format!("CREATE TABLE `{}` (\n{}\n)", statement.name, elements.join(",\n"));
    if !statement.partitioned_by.is_empty() {
        text.push_str(&format!(" PARTITIONED BY ({})", quoted(&statement.partitioned_by)));
    }
    let secret = |name: &str| ["password", "secret", "token"].iter().any(|word| name.contains(word));
    let options: Vec<_> = statement
        .options
        .iter()
        .map(|(name, value)| match secret(name) {
            true => format!("  '{name}' = '******'"),
            false => format!("  '{name}' = '{}'", value.replace('\'', "''")),
        })
        .collect();
    text.push_str(&format!(" WITH (\n{}\n)", options.join(",\n")));
    text
}

impl ContextProvider for Catalog {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        match self.relations.get(name.table()) {
            Some(relation) => Ok(Arc::clone(relation) as Arc<dyn TableSource>),
            None => plan_err!("{}", self.not_found(name.table())),
        }
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.window.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::clone(&self.types))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn udf_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.aggregate.keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.window.keys().cloned().collect()
    }
}
