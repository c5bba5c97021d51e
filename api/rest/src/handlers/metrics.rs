//! Metrics by name, as Flink's tools ask for them, and all at once in the text form that Prometheus reads.

use crate::app::Shared;
use crate::error::{ApiError, Result};
use crate::reporters::gather;
use crate::view::View;
use axum::extract::{Path, Query};
use axum::http::header;
use axum::response::IntoResponse;
use hurtig_runtime::metrics::names::{CLUSTER, JOB, TASK};
use hurtig_runtime::metrics::registry::Registry;
use hurtig_runtime::metrics::sight::{ClusterSight, JobSight, TaskSight};
use serde::Deserialize;
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeSet;

/// Which metrics are asked for, by name, and which aggregates of them.
#[derive(Deserialize)]
pub struct MetricsQuery {
    get: Option<String>,
    agg: Option<String>,
}

impl MetricsQuery {
    /// The names, unless all are asked for.
    fn names(&self) -> Option<Vec<&str>> {
        self.get.as_ref().map(|names| names.split(',').collect())
    }
}

fn number(value: f64) -> Value {
    let text =
        if value.fract() == 0.0 && value.abs() < 9e15 { format!("{value:.0}") } else { value.to_string() };
    text.into()
}

/// Rows of names, or of names with values for those that are asked for.
fn rows(query: &MetricsQuery, all: Vec<(String, f64)>) -> Value {
    let rows: Vec<Value> = match query.names() {
        None => all.into_iter().map(|(id, _)| json!({ "id": id })).collect(),
        Some(names) => all
            .into_iter()
            .filter(|(id, _)| names.contains(&id.as_str()))
            .map(|(id, value)| json!({ "id": id, "value": number(value) }))
            .collect(),
    };
    rows.into()
}

/// Metrics of a vertex's subtasks. A user's has its labels in its name, as there is no other place for them.
fn task_metrics(view: &View, vertex: usize) -> Vec<(usize, Cow<'static, str>, f64)> {
    let mut all = Vec::new();
    for subtask in view.subtasks(vertex) {
        let Some(seen) = subtask.seen else { continue };
        let sight = TaskSight { seen, rates: subtask.rates, now: view.now };
        all.extend(TASK.iter().map(|metric| (subtask.index, metric.name.into(), (metric.of)(&sight))));
        all.extend(seen.report.users.iter().map(|read| (subtask.index, read.full_name().into(), read.value)));
    }
    all
}

async fn find(app: &Shared, job: &str, vertex: &str) -> Result<(View, usize)> {
    let view = app.view(job).await?;
    let at =
        view.vertex(vertex).ok_or_else(|| ApiError::not_found(format!("job {job} has no such vertex")))?;
    Ok((view, at))
}

/// GET `/jobs/:job/metrics`.
pub async fn job(app: Shared, Path(id): Path<String>, Query(query): Query<MetricsQuery>) -> Result {
    let view = app.view(&id).await?;
    let sight = JobSight { job: &view.job, now: view.now };
    let all = JOB.iter().map(|metric| (metric.name.to_string(), (metric.of)(&sight))).collect();
    Ok(rows(&query, all).into())
}

/// GET `/jobs/:job/vertices/:vertex/metrics`.
pub async fn vertex(
    app: Shared,
    Path((job, vertex)): Path<(String, String)>,
    Query(query): Query<MetricsQuery>,
) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let all = task_metrics(&view, at).into_iter();
    let all = all.map(|(index, name, value)| (format!("{index}.{name}"), value)).collect();
    Ok(rows(&query, all).into())
}

/// GET `/jobs/:job/vertices/:vertex/subtasks/:index/metrics`.
pub async fn subtask(
    app: Shared,
    Path((job, vertex, wanted)): Path<(String, String, usize)>,
    Query(query): Query<MetricsQuery>,
) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let all = task_metrics(&view, at).into_iter().filter(|(index, ..)| *index == wanted);
    Ok(rows(&query, all.map(|(_, name, value)| (name.to_string(), value)).collect()).into())
}

/// GET `/jobs/:job/vertices/:vertex/subtasks/metrics`.
pub async fn subtasks(
    app: Shared,
    Path((job, vertex)): Path<(String, String)>,
    Query(query): Query<MetricsQuery>,
) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let all = task_metrics(&view, at);
    let Some(names) = query.names() else {
        let own = TASK.iter().map(|metric| Cow::from(metric.name));
        let names: BTreeSet<_> = own.chain(all.into_iter().map(|(_, name, _)| name)).collect();
        let names = names.into_iter().map(|name| json!({ "id": name }));
        return Ok(names.collect::<Value>().into());
    };
    let wanted: Option<Vec<&str>> = query.agg.as_ref().map(|agg| agg.split(',').collect());
    let row = |name: &&str| {
        let values: Vec<f64> =
            all.iter().filter(|(_, other, _)| other == name).map(|(_, _, value)| *value).collect();
        (!values.is_empty()).then(|| aggregate(name, &values, wanted.as_deref()))
    };
    Ok(Value::from(names.iter().filter_map(row).collect::<Vec<_>>()).into())
}

fn aggregate(name: &str, values: &[f64], wanted: Option<&[&str]>) -> Value {
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let (min, max) =
        values.iter().fold((f64::MAX, f64::MIN), |(min, max), value| (min.min(*value), max.max(*value)));
    let avg = sum / count;
    let off = values.iter().map(|value| (value - avg).abs()).sum::<f64>() / 2.0;
    // The share of all that would have to move for each to have as much, in percent.
    let skew = if sum > 0.0 { off / sum * 100.0 } else { 0.0 };
    let mut row = json!({ "id": name });
    for (aggregate, value) in [("min", min), ("max", max), ("avg", avg), ("sum", sum), ("skew", skew)] {
        if wanted.is_none_or(|wanted| wanted.contains(&aggregate)) {
            row[aggregate] = value.into();
        }
    }
    row
}

/// GET `/jobmanager/metrics`.
pub async fn jobmanager(app: Shared, Query(query): Query<MetricsQuery>) -> Result {
    let (overview, jobs) = (app.client.overview().await?, app.client.list().await?);
    let sight = ClusterSight { overview: &overview, jobs: &jobs };
    let all = CLUSTER.iter().map(|metric| (metric.name.to_string(), (metric.of)(&sight))).collect();
    Ok(rows(&query, all).into())
}

/// GET `/taskmanagers/:id/metrics`.
pub async fn taskmanager(app: Shared, Path(id): Path<String>, Query(query): Query<MetricsQuery>) -> Result {
    let overview = app.client.overview().await?;
    let manager = overview.task_managers.iter().find(|manager| manager.name == id);
    let manager = manager.ok_or_else(|| ApiError::not_found(format!("there is no TaskManager '{id}'")))?;
    let all = vec![
        ("Status.Slots.Total".to_string(), manager.slots as f64),
        ("Status.Slots.Used".to_string(), manager.used as f64),
    ];
    Ok(rows(&query, all).into())
}

/// GET `/metrics`: everything, as text that Prometheus reads.
pub async fn prometheus(app: Shared) -> Result<impl IntoResponse> {
    let registry = Registry::default();
    gather(&app.client, &app.clock, &registry).await?;
    let text = registry.prometheus();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text))
}
