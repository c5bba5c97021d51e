//! `hurtig metrics`: the metrics of a job and of its subtasks, by name.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::process::ExitCode;

use hurtig::dataflow::ids::SubtaskId;
use hurtig::metrics::names::{JOB, TASK, Unit};
use hurtig::metrics::sight::{JobSight, TaskSight};
use hurtig::protocol::Observed;
use serde_json::{Map, Value, json};

use crate::jobs::with_client;
use crate::{daemons::Common, table::Column, table::Table};

/// Show the metrics of a job of the cluster and of its subtasks
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The job's id, or the beginning of it
    job: String,
    /// Only metrics in whose name this text is
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// As JSON, for scripts
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    common: Common,
}

/// A metric with its values, one for each subtask or one for the job.
struct Row {
    name: Cow<'static, str>,
    unit: Unit,
    values: Vec<f64>,
}

fn unit(unit: Unit) -> &'static str {
    match unit {
        Unit::Records | Unit::Batches | Unit::Count | Unit::Flag => "",
        Unit::RecordsPerSecond => "/s",
        Unit::Bytes => "B",
        Unit::BytesPerSecond => "B/s",
        Unit::Milliseconds => "ms",
        Unit::MillisecondsPerSecond => "ms/s",
        Unit::Nanoseconds => "ns",
        Unit::Time => "ms since 1970",
    }
}

fn job_rows(job: &Observed, now: i64, wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let sight = JobSight { job, now };
    let metrics = JOB.iter().filter(|metric| wanted(metric.name));
    metrics.map(|m| Row { name: m.name.into(), unit: m.unit, values: vec![(m.of)(&sight)] }).collect()
}

fn vertex_rows(job: &Observed, vertex: usize, now: i64, wanted: impl Fn(&str) -> bool) -> Vec<Row> {
    let all = SubtaskId { vertex, index: 0 }..SubtaskId { vertex: vertex + 1, index: 0 };
    let sights: Vec<_> = job
        .seen
        .subtasks
        .range(all)
        .map(|(_, seen)| TaskSight { seen, rates: seen.rates_at(now), now })
        .collect();
    let metrics = TASK.iter().filter(|metric| wanted(metric.name));
    let row = |m: &hurtig::metrics::names::Metric<_>| Row {
        name: m.name.into(),
        unit: m.unit,
        values: sights.iter().map(m.of).collect(),
    };
    let mut of_users = BTreeMap::<String, Vec<f64>>::new();
    for read in sights.iter().flat_map(|sight| &sight.seen.report.users) {
        of_users.entry(read.full_name()).or_default().push(read.value);
    }
    of_users.retain(|name, _| wanted(name));
    let of_users =
        of_users.into_iter().map(|(name, values)| Row { name: name.into(), unit: Unit::Count, values });
    metrics.map(row).chain(of_users).collect()
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn as_json(rows: &[Row]) -> Value {
    let value = |row: &Row| match &row.values[..] {
        [only] => json!(only),
        several => json!(several),
    };
    rows.iter().map(|row| (row.name.to_string(), value(row))).collect::<Map<_, _>>().into()
}

fn print(rows: &[Row]) {
    let mut table = Table::new(vec![
        Column::fixed("METRIC"),
        Column::filling("VALUE, OF EACH SUBTASK"),
        Column::fixed("UNIT"),
    ]);
    for row in rows.iter().filter(|row| !row.values.is_empty()) {
        let values: Vec<String> = row.values.iter().copied().map(shown).collect();
        table.row([&*row.name, &values.join("  "), unit(row.unit)]);
    }
    print!("{}", table.render(120));
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let config = args.common.config()?;
    let observed = with_client(&config, async |client| {
        let (status, _) = client.info(&args.job).await?;
        Ok(client.observe(status.id, None).await?)
    })?;
    let now = hurtig::clock::Clock::new().now();
    let wanted = |name: &str| args.name.as_ref().is_none_or(|text| name.contains(text.as_str()));
    let of_job = job_rows(&observed, now, wanted);
    let vertices = observed.graph.vertices.iter().enumerate();
    let of_vertices: BTreeMap<usize, (String, Vec<Row>)> = vertices
        .map(|(at, vertex)| (at, (vertex.name.clone(), vertex_rows(&observed, at, now, wanted))))
        .collect();
    if args.json {
        let vertex = |(name, rows): &(String, Vec<Row>)| json!({ "name": name, "metrics": as_json(rows) });
        let vertices: Vec<Value> = of_vertices.values().map(vertex).collect();
        println!(
            "{}",
            json!({
                "id": observed.status.id.to_string(), "name": observed.status.name, "state": observed.status.state,
                "metrics": as_json(&of_job), "vertices": vertices,
            })
        );
        return Ok(ExitCode::SUCCESS);
    }
    println!("{} '{}', {}\n", observed.status.id, observed.status.name, observed.status.state);
    print(&of_job);
    for (at, (name, rows)) in &of_vertices {
        println!("\n{at}: {name}\n");
        print(rows);
    }
    Ok(ExitCode::SUCCESS)
}
