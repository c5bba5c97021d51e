//! The queries of Nexmark over generated events, into nothing: a line of JSON for each, and the geometric mean.

use crate::{Outcome, execute, round, usage};
use anyhow::{Context, bail};
use hurtig::prelude::*;
use hurtig::sql::{Outcome as Statement, TableEnvironment};
use std::path::PathBuf;
use std::time::Instant;

/// Flink 2.3's CPU microseconds for an event on a machine of two cores, and how many events they were measured over.
const PEER: [(&str, f64, u64); 20] = [
    ("q0", 1.39, 10_000_000),
    ("q1", 1.50, 10_000_000),
    ("q2", 1.44, 10_000_000),
    ("q3", 2.00, 10_000_000),
    ("q4", 7.84, 5_000_000),
    ("q5", 5.06, 5_000_000),
    ("q7", 12.60, 5_000_000),
    ("q8", 3.07, 10_000_000),
    ("q9", 13.18, 5_000_000),
    ("q10", 6.21, 10_000_000),
    ("q11", 5.30, 5_000_000),
    ("q13", 1.92, 10_000_000),
    ("q14", 1.81, 10_000_000),
    ("q15", 6.57, 10_000_000),
    ("q17", 3.07, 10_000_000),
    ("q18", 6.50, 5_000_000),
    ("q19", 7.94, 5_000_000),
    ("q20", 9.72, 5_000_000),
    ("q21", 5.15, 10_000_000),
    ("q22", 2.26, 10_000_000),
];

fn text(name: &str) -> anyhow::Result<String> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/nexmark")).join(name);
    std::fs::read_to_string(&path).with_context(|| format!("cannot read '{}'", path.display()))
}

/// Runs one query, or all.
pub(crate) fn run(config: &Config, query: Option<&str>, events: Option<u64>) -> anyhow::Result<Outcome> {
    let queries: Vec<_> = PEER.iter().filter(|(name, ..)| query.is_none_or(|query| query == *name)).collect();
    if queries.is_empty() {
        bail!("no query '{}': there are q0 to q22 without q6, q12 and q16", query.unwrap_or_default());
    }
    let (mut logs, mut ratios, mut records) = (0.0, 0.0, 0);
    for (name, peer_us, peer_events) in &queries {
        let events = events.unwrap_or(*peer_events);
        let (before, began) = (usage::cpu_seconds()?, Instant::now());
        one(config, name, events)?;
        let (cpu_s, wall_s) = (usage::cpu_seconds()? - before, began.elapsed().as_secs_f64());
        let us = cpu_s * 1e6 / events as f64;
        logs += us.ln();
        ratios += (us / peer_us).ln();
        records += events;
        let line = serde_json::json!({
            "query": name,
            "events": events,
            "wall_s": round(wall_s, 3),
            "cpu_s": round(cpu_s, 3),
            "us_cpu_per_event": round(us, 4),
            "share_of_flink": round(us / peer_us, 3),
            "max_rss_mb": usage::max_rss_mb()?,
        });
        println!("{line}");
    }
    let mut extra = serde_json::Map::new();
    let mean = |sum: f64| round((sum / queries.len() as f64).exp(), 4);
    extra.insert("geometric_mean_us_cpu_per_event".into(), mean(logs).into());
    extra.insert("geometric_mean_share_of_flink".into(), mean(ratios).into());
    Ok(Outcome { records, extra })
}

fn one(config: &Config, query: &str, events: u64) -> anyhow::Result<()> {
    let env = Environment::new();
    let tables = TableEnvironment::new(&env);
    let options = format!("'connector' = 'nexmark', 'events.num' = '{events}', 'next-event.rate' = '100000'");
    let side =
        "CREATE TABLE side_numbers (n BIGINT) WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence',
            'fields.n.start' = '0', 'fields.n.end' = '9999', 'rows-per-second' = '0');
        CREATE VIEW side_input AS SELECT n AS key, CAST(n AS STRING) AS `value` FROM side_numbers;";
    tables.execute_script(&(text("tables.sql")?.replace("${options}", &options) + side))?;
    let Statement::Query(table) = tables.execute_sql(&text(&format!("queries/{query}.sql"))?)? else {
        bail!("{query} is no query");
    };
    table.to_changelog_stream()?.discard();
    execute(query, &env, config)?;
    Ok(())
}
