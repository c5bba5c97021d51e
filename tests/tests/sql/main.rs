//! SQL from text to results, on embedded clusters.

mod nexmark;
mod queries;

use hurtig::Config;
use hurtig::prelude::*;
use hurtig::sql::{Outcome, TableCollector, TableEnvironment};
use hurtig_tests::faults::Crashes;
use hurtig_tests::jobs;
use std::sync::Arc;

/// Runs statements, the last of which is a query; returns the table that it makes, its rows as CSV lines, sorted.
fn lines_of(sql: &str, config: &Config) -> Vec<String> {
    lines_after_crashes(sql, config, None).0
}

/// The same with crashes; also how often the job was restarted.
fn lines_after_crashes(sql: &str, config: &Config, crashes: Option<Crashes>) -> (Vec<String>, u32) {
    let env = Environment::new();
    let tables = TableEnvironment::new(&env);
    let collector = collector_of(&tables, sql);
    let faults = crashes.map(|crashes| Arc::new(crashes) as _);
    let status =
        jobs::run(jobs::execute(&env, config, faults)).unwrap_or_else(|error| panic!("{sql}: {error}"));
    (csv(&collector), status.restarts)
}

fn collector_of(tables: &TableEnvironment, sql: &str) -> TableCollector {
    let outcomes = tables.execute_script(sql).unwrap_or_else(|error| panic!("{sql}\n{error}"));
    match outcomes.into_iter().next_back() {
        Some(Outcome::Query(table)) => table.collect().unwrap_or_else(|error| panic!("{sql}\n{error}")),
        _ => panic!("no query comes last: {sql}"),
    }
}

fn csv(collector: &TableCollector) -> Vec<String> {
    let rows = collector.take_table().expect("a table");
    let cell = |cell: &Option<String>| match cell {
        None => String::new(),
        Some(text) if text.is_empty() || text.contains([',', '"', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        Some(text) => text.clone(),
    };
    let mut lines: Vec<String> =
        rows.iter().map(|row| row.iter().map(cell).collect::<Vec<_>>().join(",")).collect();
    lines.sort_unstable();
    lines
}
