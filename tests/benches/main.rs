//! Benchmarks: `scripts/bench NAME [--records N] [--parallelism P]`. The last line printed is one JSON object.
//!
//! | name | job | a record is |
//! |---|---|---|
//! | `wordcount` | 1 GB of text, cut into words, counted per word | a word |
//! | `window` | 10 s tumbling event-time count over 1,000,000 keys | an event |
//! | `ysb` | Yahoo Streaming Benchmark: JSON in memory, filter, project, join with campaigns, 10 s count per campaign | an event |
//! | `chain` | source, five maps, discard | a number |
//! | `exchange` | source, hash, discard, at parallelism 2 | a number |
//! | `link` | 64 KiB frames between two processes: over TLS, plain TCP, a bare socket | a frame |
//! | `checkpoint` | counts of 10,000,000 keys, 1 % of which change between checkpoints | a key |
//! | `state-heap` | counts of 10,000,000 keys: each is made, then looked up in random order | a look-up |
//! | `state-spill` | the same with memory for a tenth of the keys | a look-up |
//! | `restore` | 1 GB of state, 96 bytes a key, restored from a savepoint | a key |
//! | `nexmark` | the queries of Nexmark, or `--query` one of them, over generated events | an event |
//! | `latency` | the Yahoo job at 100,000 records a second with a checkpoint each second | an event |

#![allow(missing_docs, reason = "a program, not an interface")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time from outside")]

mod checkpoint;
mod latency;
mod link;
mod nexmark;
mod restore;
mod state;
mod usage;

use anyhow::{Context, bail};
use clap::Parser;
use hurtig::dataflow::chain::OperatorCounts;
use hurtig::prelude::*;
use hurtig::{Cluster, JobStatus, configured};
use hurtig_tests::benchmarks::{self, mix, text};
use std::time::Instant;
use usage::round;

#[derive(Parser, Debug)]
#[command(about = "Measures a job and prints one JSON object")]
struct Args {
    /// wordcount, window, ysb, chain, exchange, link, latency, checkpoint, state-heap, state-spill, restore or nexmark
    name: String,
    /// Records to process; for checkpoint, state and restore, keys
    #[arg(long, alias = "events")]
    records: Option<u64>,
    /// Of nexmark: the query to run, instead of all
    #[arg(long)]
    query: Option<String>,
    /// Subtasks of each vertex
    #[arg(long)]
    parallelism: Option<usize>,
    /// Any configuration key
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
}

/// What a benchmark has done.
struct Outcome {
    records: u64,
    extra: serde_json::Map<String, serde_json::Value>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.name == link::RECEIVER {
        return link::receive();
    }
    let mut builder = Config::builder();
    for assignment in &args.define {
        builder = builder.flag(assignment);
    }
    let mut config = builder.build()?;
    let parallelism = args.parallelism.unwrap_or(2);
    config.parallelism.default = Some(parallelism);
    let before = usage::cpu_seconds()?;
    let began = Instant::now();
    let outcome = match args.name.as_str() {
        "wordcount" => wordcount(&config, args.records)?,
        "window" => window(&config, args.records.unwrap_or(20_000_000))?,
        "ysb" => ysb(&config, args.records.unwrap_or(10_000_000))?,
        "chain" => chain(&config, args.records.unwrap_or(200_000_000))?,
        "exchange" => exchange(&config, args.records.unwrap_or(100_000_000))?,
        "link" => link::run(args.records.unwrap_or(50_000))?,
        "latency" => latency::run(config, args.records.unwrap_or(4_000_000))?,
        "checkpoint" => checkpoint::run(config, args.records.unwrap_or(10_000_000))?,
        "state-heap" => state::run(config, args.records.unwrap_or(10_000_000), false)?,
        "state-spill" => state::run(config, args.records.unwrap_or(10_000_000), true)?,
        "restore" => restore::run(config, args.records.unwrap_or(10_500_000))?,
        "nexmark" => nexmark::run(&config, args.query.as_deref(), args.records)?,
        other => bail!("no benchmark '{other}': `--help` names them"),
    };
    let text = outcome.extra.get("text_cpu_s").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    let text_wall = outcome.extra.get("text_wall_s").and_then(serde_json::Value::as_f64).unwrap_or(0.0);
    let wall_s = began.elapsed().as_secs_f64() - text_wall;
    let cpu_s = usage::cpu_seconds()? - before - text;
    let mut line = serde_json::json!({
        "name": args.name,
        "records": outcome.records,
        "wall_s": round(wall_s, 3),
        "cpu_s": round(cpu_s, 3),
        "records_per_cpu_s": (outcome.records as f64 / cpu_s) as u64,
        "max_rss_mb": usage::max_rss_mb()?,
        "ns_cpu_per_record": round(cpu_s * 1e9 / outcome.records as f64, 1),
        "parallelism": parallelism,
    });
    if let Some(object) = line.as_object_mut() {
        object.extend(outcome.extra);
    }
    println!("{line}");
    Ok(())
}

/// Runs a job to its end.
fn execute(name: &str, env: &Environment, config: &Config) -> anyhow::Result<JobStatus> {
    let runtime = hurtig::runtime()?;
    let config = configured(env, config);
    let status = runtime.block_on(async {
        let cluster = Cluster::start(&config).await?;
        let job = cluster.submit(name, &env.graph(), &config).await?;
        let status = job.wait().await?;
        cluster.shutdown().await;
        Ok::<_, anyhow::Error>(status)
    })?;
    for (id, report) in &status.subtasks {
        eprintln!(
            "  vertex {} subtask {}: busy {:>7.3} s, backpressured {:>7.3} s, records {:?}",
            id.vertex,
            id.index,
            report.busy_ns as f64 / 1e9,
            report.backpressured_ns as f64 / 1e9,
            report.operators.iter().map(|counts| counts.records_out).collect::<Vec<_>>(),
        );
    }
    Ok(status)
}

/// What the first operator of the last vertex, over all its subtasks, has read and written: in every job here the one
/// behind the exchange.
fn behind_exchange(status: &JobStatus) -> OperatorCounts {
    let last = status.subtasks.keys().map(|id| id.vertex).max().unwrap_or(0);
    let reports = status.subtasks.iter().filter(|(id, _)| id.vertex == last);
    let mut sum = OperatorCounts::default();
    for counts in reports.filter_map(|(_, report)| report.operators.first()) {
        sum.records_in += counts.records_in;
        sum.records_out += counts.records_out;
    }
    sum
}

/// The outcome of a job whose windows have put out results.
fn windows_outcome(records: u64, status: &JobStatus) -> Outcome {
    let mut extra = serde_json::Map::new();
    extra.insert("results".into(), behind_exchange(status).records_out.into());
    Outcome { records, extra }
}

fn wordcount(config: &Config, words: Option<u64>) -> anyhow::Result<Outcome> {
    let (before, began) = (usage::cpu_seconds()?, Instant::now());
    let file = text::file(words).context("cannot write the text")?;
    let mut extra = serde_json::Map::new();
    extra.insert("text_cpu_s".into(), round(usage::cpu_seconds()? - before, 3).into());
    extra.insert("text_wall_s".into(), round(began.elapsed().as_secs_f64(), 3).into());
    let env = Environment::new();
    benchmarks::word_count(&env, &file).discard();
    let status = execute("wordcount", &env, config)?;
    Ok(Outcome { records: behind_exchange(&status).records_in, extra })
}

fn window(config: &Config, records: u64) -> anyhow::Result<Outcome> {
    let env = Environment::new();
    benchmarks::window(&env, records, 1_000_000).discard();
    let status = execute("window", &env, config)?;
    Ok(windows_outcome(records, &status))
}

fn ysb(config: &Config, records: u64) -> anyhow::Result<Outcome> {
    let env = Environment::new();
    benchmarks::ysb::counts(&env, records).discard();
    let status = execute("ysb", &env, config)?;
    Ok(windows_outcome(records, &status))
}

fn chain(config: &Config, records: u64) -> anyhow::Result<Outcome> {
    let env = Environment::new();
    benchmarks::chain(&env, records).discard();
    execute("chain", &env, config)?;
    Ok(Outcome { records, extra: serde_json::Map::new() })
}

fn exchange(config: &Config, records: u64) -> anyhow::Result<Outcome> {
    let env = Environment::new();
    benchmarks::exchange(&env, records).discard();
    execute("exchange", &env, config)?;
    Ok(Outcome { records, extra: serde_json::Map::new() })
}
