//! Expressions as statements have them: parsed, planned with hurtig's planners and functions, and computed.

use super::{aggregate, planners, scalar, window};
use crate::types::{FlinkTypes, TIMESTAMP_3, name_of, timestamp_ltz_3};
use arrow::array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DFSchema, Result, TableReference, plan_err};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::logical_plan::builder::LogicalTableSource;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::planner::{ContextProvider, ExprPlanner, TypePlanner};
use datafusion_expr::simplify::SimplifyContext;
use datafusion_expr::{AggregateUDF, ExprSchemable, HigherOrderUDF, ScalarUDF, TableSource, WindowUDF};
use datafusion_optimizer::simplify_expressions::ExprSimplifier;
use datafusion_optimizer::{Analyzer, Optimizer, OptimizerContext};
use datafusion_physical_expr::planner::create_physical_expr;
use datafusion_sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use sqlparser::dialect::GenericDialect;
use sqlparser::parser::Parser;
use std::collections::HashMap;
use std::sync::Arc;

struct Functions {
    config: ConfigOptions,
    scalar: HashMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
}

impl ContextProvider for Functions {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        if name.table() == "t" {
            Ok(Arc::new(LogicalTableSource::new(row().schema())))
        } else {
            plan_err!("no table {name}")
        }
    }
    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(name).cloned()
    }
    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        aggregate().into_iter().find(|(known, _)| *known == name).map(|(_, function)| function)
    }
    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        window().into_iter().find(|(known, _)| *known == name).map(|(_, function)| function)
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
        Some(Arc::new(FlinkTypes))
    }
    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }
    fn udf_names(&self) -> Vec<String> {
        self.scalar.keys().cloned().collect()
    }
    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }
    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// One row: ts 2024-02-29 13:05:09.042, i 7, l 10, s 'text', n NULL.
fn row() -> RecordBatch {
    let at = TimestampMillisecondArray::from(vec![1_709_211_909_042]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("ts", Arc::new(at)),
        ("i", Arc::new(Int32Array::from(vec![7]))),
        ("l", Arc::new(Int64Array::from(vec![10]))),
        ("s", Arc::new(StringArray::from(vec!["text"]))),
        ("n", Arc::new(StringArray::from(vec![None::<&str>]))),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.into_iter().map(|(_, column)| column).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn functions() -> Functions {
    let mut config = ConfigOptions::default();
    config.sql_parser.enable_ident_normalization = false;
    config.sql_parser.parse_float_as_decimal = true;
    config.sql_parser.map_string_types_to_utf8view = false;
    let defaults = datafusion_functions::all_default_functions().into_iter();
    let mut known: HashMap<String, Arc<ScalarUDF>> = defaults
        .flat_map(|function| {
            let aliases = function.aliases().to_vec();
            aliases
                .into_iter()
                .chain([function.name().to_string()])
                .map(move |name| (name, Arc::clone(&function)))
        })
        .collect();
    known.extend(scalar().into_iter().map(|(name, function)| (name.to_string(), function)));
    Functions { config, scalar: known, planners: planners() }
}

fn computed(sql: &str) -> Result<(String, String)> {
    let functions = functions();
    let batch = row();
    let schema = DFSchema::try_from(batch.schema().as_ref().clone())?;
    let parsed = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_expr().unwrap();
    let planner = SqlToRel::new_with_options(&functions, ParserOptions::from(&functions.config.sql_parser));
    let expr = planner.sql_to_expr(parsed, &schema, &mut PlannerContext::new())?;
    let simplifier =
        ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(schema.clone())).build());
    let expr = super::TextCasts::new().rewrite(simplifier.coerce(expr, &schema)?, &schema)?.data;
    let expr = simplifier.simplify(expr)?;
    let data_type = expr.get_type(&schema)?;
    let context = PhysicalPlanningContext::default();
    let physical = create_physical_expr(&expr, &schema, &ExecutionProps::new(), &context)?;
    let result = super::at_time(86_400_000, || physical.evaluate(&batch))?.into_array(1)?;
    assert_eq!(result.data_type(), &data_type, "{sql}");
    let shown = if result.is_null(0) { "NULL".to_string() } else { array_value_to_string(&result, 0)? };
    Ok((name_of(&data_type), shown))
}

#[test]
fn expressions_have_flinks_types_and_values() {
    let mut wrong = Vec::new();
    for (sql, data_type, value) in [
        ("i + 1", "INT", "8"),
        ("l / 3", "BIGINT", "3"),
        ("-7 / 2", "INT", "-3"),
        ("MOD(l, 3)", "BIGINT", "1"),
        ("MOD(l, 10000)", "BIGINT", "10"),
        ("0.908 * l", "DECIMAL(23, 3)", "9.080"),
        ("1.0 / 3", "DECIMAL(13, 12)", "0.333333333333"),
        ("l * CAST(1 AS DOUBLE)", "DOUBLE", "10.0"),
        ("EXTRACT(YEAR FROM ts)", "BIGINT", "2024"),
        ("EXTRACT(DOW FROM ts)", "BIGINT", "5"),
        ("HOUR(ts)", "BIGINT", "13"),
        ("YEAR(DATE '2024-02-29')", "BIGINT", "2024"),
        ("DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm')", "STRING", "2024-02-29 13:05"),
        ("DATE_FORMAT('2024-02-29', 'dd')", "STRING", "29"),
        ("TO_TIMESTAMP('2024-02-29', 'yyyy-MM-dd')", "TIMESTAMP(3)", "2024-02-29T00:00:00"),
        ("TO_TIMESTAMP_LTZ(1000, 3)", "TIMESTAMP_LTZ(3)", "1970-01-01T00:00:01Z"),
        ("TIMESTAMPDIFF('DAY', TIMESTAMP '2024-02-01 00:00:00', ts)", "INT", "28"),
        ("TIMESTAMPADD('MONTH', 1, ts)", "TIMESTAMP(3)", "2024-03-29T13:05:09.042"),
        ("FLOOR_TO(ts, 'HOUR')", "TIMESTAMP(3)", "2024-02-29T13:00:00"),
        ("ts + INTERVAL '1' DAY", "TIMESTAMP(3)", "2024-03-01T13:05:09.042"),
        ("CURRENT_DATE", "DATE", "1970-01-02"),
        ("PROCTIME()", "TIMESTAMP_LTZ(3)", "1970-01-02T00:00:00Z"),
        ("CURRENT_TIMESTAMP", "TIMESTAMP_LTZ(3)", "1970-01-02T00:00:00Z"),
        ("LOCALTIMESTAMP", "TIMESTAMP(3)", "1970-01-02T00:00:00"),
        ("UNIX_TIMESTAMP()", "BIGINT", "86400"),
        ("SUBSTRING(s FROM 2 FOR 2)", "STRING", "ex"),
        ("SUBSTRING(s, 2)", "STRING", "ext"),
        ("SUBSTR(s, 2, 1)", "STRING", "e"),
        ("POSITION('x' IN s)", "INT", "3"),
        ("OVERLAY(s PLACING 'as' FROM 2 FOR 2)", "STRING", "tast"),
        ("TRIM(BOTH 't' FROM s)", "STRING", "ex"),
        ("TRIM(LEADING 't' FROM s)", "STRING", "ext"),
        ("TRIM('  a ')", "STRING", "a"),
        ("CHAR_LENGTH(s)", "INT", "4"),
        ("CHARACTER_LENGTH(s)", "INT", "4"),
        ("LOWER('ÄB')", "STRING", "äb"),
        ("UPPER(s)", "STRING", "TEXT"),
        ("INITCAP('hello wORLD')", "STRING", "Hello World"),
        ("s || '-' || i", "STRING", "text-7"),
        ("s || n", "STRING", "NULL"),
        ("CONCAT(s, n)", "STRING", "NULL"),
        ("CONCAT(s, i)", "STRING", "text7"),
        ("SPLIT_INDEX('a/b', '/', 1)", "STRING", "b"),
        ("REGEXP_EXTRACT('channel_id=4', '(&|^)channel_id=([^&]*)', 2)", "STRING", "4"),
        ("REGEXP_REPLACE(s, 't', '-')", "STRING", "-ex-"),
        ("LEFT(s, 2)", "STRING", "te"),
        ("ABS(i)", "INT", "7"),
        ("CEIL(1.5)", "DECIMAL(2, 0)", "2"),
        ("FLOOR(l)", "BIGINT", "10"),
        ("ROUND(2.345, 2)", "DECIMAL(4, 2)", "2.35"),
        ("ROUND(-15.5, -1)", "DECIMAL(3, 0)", "-20"),
        ("POWER(i, 2)", "DOUBLE", "49.0"),
        ("IF(i > 3, 'a', 'b')", "STRING", "a"),
        ("IF(i = 7, i, 1 / (i - 7))", "INT", "7"),
        ("IFNULL(n, 'x')", "STRING", "x"),
        ("COALESCE(n, s)", "STRING", "text"),
        ("NULLIF(i, 7)", "INT", "NULL"),
        ("GREATEST(i, l)", "BIGINT", "10"),
        ("LEAST(s, n)", "STRING", "NULL"),
        ("CASE WHEN i > 3 THEN 'many' ELSE 'few' END", "STRING", "many"),
        ("ARRAY[i, 2]", "ARRAY<INT>", "[7, 2]"),
        ("ARRAY['a', 'b'][2]", "STRING", "b"),
        ("CARDINALITY(ARRAY[1, 2, 3])", "INT", "3"),
        ("ARRAY_CONTAINS(ARRAY['a', s], 'text')", "BOOLEAN", "true"),
        ("MAKE_MAP('a', i, 'b', 2)['b']", "INT", "2"),
        ("MAP_KEYS(MAKE_MAP('a', 1))", "ARRAY<STRING>", "[a]"),
        ("ROW(i, s)", "ROW<`EXPR$0` INT, `EXPR$1` STRING>", "{EXPR$0: 7, EXPR$1: text}"),
        ("(i, s)", "ROW<`EXPR$0` INT, `EXPR$1` STRING>", "{EXPR$0: 7, EXPR$1: text}"),
        ("JSON_VALUE('{\"a\": [1, 2]}', '$.a[1]')", "STRING", "2"),
        ("CAST(l AS STRING)", "STRING", "10"),
        ("CAST(ts AS STRING)", "STRING", "2024-02-29 13:05:09.042"),
        ("CAST(i > 3 AS STRING)", "STRING", "TRUE"),
        ("CONCAT('at ', ts)", "STRING", "at 2024-02-29 13:05:09.042"),
        ("s || (i > 3)", "STRING", "textTRUE"),
        ("CAST(CAST(l AS DOUBLE) AS STRING)", "STRING", "10.0"),
        ("CAST('12' AS INT)", "INT", "12"),
        ("CAST(i AS DECIMAL(5, 2))", "DECIMAL(5, 2)", "7.00"),
        ("CAST(ts AS TIMESTAMP(6))", "TIMESTAMP(6)", "2024-02-29T13:05:09.042"),
        ("MD5('abc')", "STRING", "900150983cd24fb0d6963f7d28e17f72"),
        ("s IN ('a', 'text')", "BOOLEAN", "true"),
        ("s LIKE 'te%'", "BOOLEAN", "true"),
    ] {
        match computed(sql) {
            Ok((t, v)) if (t.as_str(), v.as_str()) == (data_type, value) => {}
            Ok((t, v)) => wrong.push(format!("{sql}: {v} of type {t}, not {value} of type {data_type}")),
            Err(error) => wrong.push(format!("{sql}: {}", error.strip_backtrace())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(name_of(&TIMESTAMP_3), "TIMESTAMP(3)");
    assert_eq!(name_of(&timestamp_ltz_3()), "TIMESTAMP_LTZ(3)");
}

#[test]
fn wrong_calls_are_refused_in_plain_words() {
    for (sql, part) in [
        ("HOUR(i)", "HOUR takes (time), not (INT)"),
        ("SPLIT_INDEX(s)", "SPLIT_INDEX takes (STRING, any, INT), not (STRING)"),
        ("SUBSTING(s, 1)", "Did you mean 'substring'"),
        ("i / 0", "ivide by zero"),
        ("MOD(i, 0)", "ivide by zero"),
        ("EXTRACT(FOO FROM ts)", "unknown unit of time FOO"),
        ("ARRAY[1]['a']", "indexed by a number"),
    ] {
        let error = computed(sql).unwrap_err().strip_backtrace();
        assert!(error.contains(part), "{sql}: {error}");
    }
}

/// Types of a query's columns, after all of DataFusion's rules.
fn columns_of(sql: &str) -> Result<String> {
    let functions = functions();
    let statement = Parser::new(&GenericDialect {}).try_with_sql(sql).unwrap().parse_statement().unwrap();
    let planner = SqlToRel::new_with_options(&functions, ParserOptions::from(&functions.config.sql_parser));
    let plan = planner.sql_statement_to_plan(statement)?;
    let mut rules = Analyzer::new().rules;
    rules.push(Arc::new(super::TextCasts::new()));
    let plan = Analyzer::with_rules(rules).execute_and_check(plan, &functions.config, |_, _| {})?;
    let plan = Optimizer::new().optimize(plan, &OptimizerContext::new(), |_, _| {})?;
    let types: Vec<String> = plan.schema().fields().iter().map(|field| name_of(field.data_type())).collect();
    Ok(types.join(", "))
}

#[test]
fn queries_keep_flinks_types_through_all_rules() {
    for (sql, expected) in [
        (
            "SELECT COUNT(*), SUM(i), AVG(l), MIN(s), MAX(ts) FROM t",
            "BIGINT, INT, BIGINT, STRING, TIMESTAMP(3)",
        ),
        ("SELECT s, COUNT(DISTINCT i), SUM(0.908 * l) FROM t GROUP BY s", "STRING, BIGINT, DECIMAL(38, 3)"),
        ("SELECT COUNT(*) FILTER (WHERE i > 3), AVG(i) FROM t HAVING COUNT(i) > 1", "BIGINT, INT"),
        ("SELECT LISTAGG(s), COLLECT(i), FIRST_VALUE(l) FROM t", "STRING, MAP<INT, INT>, BIGINT"),
        ("SELECT ROUND(0.25 * l, 1), IF(i > 1, s, n), IFNULL(n, s) FROM t", "DECIMAL(22, 1), STRING, STRING"),
        ("SELECT CAST(ts AS STRING), CONCAT(s, i), s || l FROM t", "STRING, STRING, STRING"),
        ("SELECT DATE_FORMAT(ts, 'yyyy'), HOUR(ts), MOD(l, 10) FROM t", "STRING, BIGINT, BIGINT"),
        (
            "SELECT ROW_NUMBER() OVER (PARTITION BY s ORDER BY ts), RANK() OVER (ORDER BY i), \
             LAG(s, 1) OVER (ORDER BY ts), SUM(i) OVER (ORDER BY ts), LAST_VALUE(l) OVER (ORDER BY ts) FROM t",
            "BIGINT, BIGINT, STRING, INT, BIGINT",
        ),
        (
            "SELECT * FROM (SELECT s, ROW_NUMBER() OVER (PARTITION BY s ORDER BY ts) AS r FROM t) WHERE r <= 10",
            "STRING, BIGINT",
        ),
        ("SELECT PROCTIME(), CURRENT_DATE, RAND() FROM t", "TIMESTAMP_LTZ(3), DATE, DOUBLE"),
        ("SELECT EXTRACT(HOUR FROM ts), FLOOR_TO(ts, 'DAY') FROM t GROUP BY ts", "BIGINT, TIMESTAMP(3)"),
    ] {
        match columns_of(sql) {
            Ok(types) => assert_eq!(types, expected, "{sql}"),
            Err(error) => panic!("{sql}: {}", error.strip_backtrace()),
        }
    }
}
