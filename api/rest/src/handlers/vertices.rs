//! Vertices and their subtasks: times, numbers, backpressure, watermarks.

use crate::app::{App, Shared};
use crate::error::{ApiError, Result};
use crate::handlers::jobs::by_state;
use crate::view::{Level, SubtaskView, View, subtask_state};
use axum::extract::Path;
use hurtig_runtime::observe::subtasks::SubtaskState;
use hurtig_runtime::report::SubtaskReport;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

async fn find(app: &App, job: &str, vertex: &str) -> Result<(View, usize)> {
    let view = app.view(job).await?;
    let found = view.vertex(vertex);
    let shown: String = vertex.chars().take(64).collect();
    found
        .map(|at| (view, at))
        .ok_or_else(|| ApiError::not_found(format!("job {job} has no vertex '{shown}'")))
}

/// What subtasks have read and written, and how they have spent their time. Bytes are those that went over links: what
/// subtasks of one process exchange is never bytes.
pub fn io_metrics(reports: &[&SubtaskReport]) -> Value {
    let sum = |of: fn(&SubtaskReport) -> u64| reports.iter().map(|report| of(report)).sum::<u64>();
    json!({
        "read-bytes": sum(|report| report.bytes_in),
        "read-bytes-complete": true,
        "write-bytes": sum(|report| report.bytes_out),
        "write-bytes-complete": true,
        "read-records": sum(SubtaskReport::records_in),
        "read-records-complete": true,
        "write-records": sum(|report| report.records_out),
        "write-records-complete": true,
        "accumulated-backpressured-time": sum(|report| report.backpressured_ns) / 1_000_000,
        "accumulated-idle-time": sum(SubtaskReport::idle_ns) / 1_000_000,
        "accumulated-busy-time": (sum(|report| report.busy_ns) / 1_000_000) as f64,
    })
}

/// What is aggregated of whole numbers.
fn aggregate(mut values: Vec<i64>) -> Value {
    values.sort_unstable();
    let at = |share: f64| match values.len() {
        0 => 0,
        count => values[((count as f64 * share).ceil() as usize).clamp(1, count) - 1],
    };
    let sum: i64 = values.iter().sum();
    let avg = sum.checked_div(values.len() as i64).unwrap_or(0);
    json!({
        "min": at(0.0), "max": at(1.0), "avg": avg, "sum": sum,
        "p25": at(0.25), "median": at(0.5), "p75": at(0.75), "p95": at(0.95),
    })
}

/// Aggregates over subtasks: their numbers, and how long they were in each state.
fn aggregated(view: &View, subtasks: &[SubtaskView<'_>]) -> Value {
    let reports: Vec<&SubtaskReport> =
        subtasks.iter().filter_map(|subtask| Some(&subtask.seen?.report)).collect();
    let column =
        |of: fn(&SubtaskReport) -> u64| aggregate(reports.iter().map(|report| of(report) as i64).collect());
    let mut durations: BTreeMap<SubtaskState, Vec<i64>> = BTreeMap::new();
    for (state, ms) in
        subtasks.iter().filter_map(|subtask| subtask.seen).flat_map(|seen| seen.durations_ms(view.now))
    {
        durations.entry(state).or_default().push(ms);
    }
    let durations: Map<String, Value> = durations
        .into_iter()
        .map(|(state, values)| (subtask_state(state).to_string(), aggregate(values)))
        .collect();
    json!({
        "metrics": {
            "read-bytes": column(|report| report.bytes_in),
            "write-bytes": column(|report| report.bytes_out),
            "read-records": column(SubtaskReport::records_in),
            "write-records": column(|report| report.records_out),
            "accumulated-backpressured-time": column(|report| report.backpressured_ns / 1_000_000),
            "accumulated-idle-time": column(|report| report.idle_ns() / 1_000_000),
            "accumulated-busy-time": column(|report| report.busy_ns / 1_000_000),
        },
        "status-duration": durations,
    })
}

fn subtask_row(view: &View, subtask: &SubtaskView<'_>) -> Value {
    let seen = subtask.seen;
    let place = seen.map(|seen| view.place(seen));
    let (endpoint, manager) = place.unwrap_or_else(|| ("(unassigned)".into(), "(unassigned)".into()));
    let (began, ended) = (seen.map_or(-1, |seen| seen.started_at()), seen.and_then(|seen| seen.ended_at()));
    let duration = if began < 0 { -1 } else { ended.unwrap_or(view.now) - began };
    let durations: Map<String, Value> = seen
        .into_iter()
        .flat_map(|seen| seen.durations_ms(view.now))
        .map(|(state, ms)| (subtask_state(state).to_string(), ms.into()))
        .collect();
    let reports: Vec<_> = seen.into_iter().map(|seen| &seen.report).collect();
    json!({
        "subtask": subtask.index,
        "status": subtask_state(subtask.state),
        "attempt": seen.map_or(0, |seen| seen.attempt.0.saturating_sub(1)),
        "endpoint": endpoint,
        "start-time": began,
        "end-time": ended.unwrap_or(-1),
        "duration": duration,
        "metrics": io_metrics(&reports),
        "taskmanager-id": manager,
        "status-duration": durations,
        "start_time": began,
    })
}

/// GET `/jobs/:job/vertices/:vertex`.
pub async fn vertex(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let subtasks: Vec<_> = view.subtasks(at).collect();
    let answer = json!({
        "id": vertex,
        "name": view.summary(at).name,
        "parallelism": view.summary(at).parallelism,
        "maxParallelism": view.job.graph.max_parallelism,
        "now": view.now,
        "subtasks": subtasks.iter().map(|subtask| subtask_row(&view, subtask)).collect::<Vec<_>>(),
        "aggregated": aggregated(&view, &subtasks),
    });
    Ok(answer.into())
}

/// GET `/jobs/:job/vertices/:vertex/subtasks/:index`.
pub async fn subtask(app: Shared, Path((job, vertex, index)): Path<(String, String, usize)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let found = view.subtasks(at).find(|subtask| subtask.index == index);
    let found = found.ok_or_else(|| ApiError::not_found(format!("the vertex has no subtask {index}")))?;
    Ok(subtask_row(&view, &found).into())
}

/// GET `/jobs/:job/vertices/:vertex/subtasks/:index/attempts/:attempt`.
pub async fn attempt(
    app: Shared,
    Path((job, vertex, index, attempt)): Path<(String, String, usize, u32)>,
) -> Result {
    let answer = subtask(app, Path((job, vertex, index))).await?;
    if answer.1["attempt"] != attempt {
        return Err(ApiError::not_found(format!(
            "attempt {attempt} is over: only the last one, {}, is known in detail",
            answer.1["attempt"]
        )));
    }
    Ok(answer)
}

/// GET `/jobs/:job/vertices/:vertex/subtasktimes`.
pub async fn subtask_times(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let row = |subtask: SubtaskView<'_>| {
        let mut times: Map<String, Value> = SubtaskState::ALL
            .into_iter()
            .map(|state| {
                let entered = subtask.seen.and_then(|seen| seen.entered(state)).unwrap_or(0);
                (subtask_state(state).to_string(), entered.into())
            })
            .collect();
        times.insert("RECONCILING".into(), 0.into());
        let row = subtask_row(&view, &subtask);
        json!({
            "subtask": subtask.index, "endpoint": row["endpoint"], "duration": row["duration"], "timestamps": times,
        })
    };
    let rows: Vec<Value> = view.subtasks(at).map(row).collect();
    Ok(json!({ "id": vertex, "name": view.summary(at).name, "now": view.now, "subtasks": rows }).into())
}

/// GET `/jobs/:job/vertices/:vertex/taskmanagers`.
pub async fn taskmanagers(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let mut by_place: BTreeMap<(String, String), Vec<SubtaskView<'_>>> = BTreeMap::new();
    for subtask in view.subtasks(at) {
        if let Some(seen) = subtask.seen {
            by_place.entry(view.place(seen)).or_default().push(subtask);
        }
    }
    let row = |((endpoint, manager), subtasks): ((String, String), Vec<SubtaskView<'_>>)| {
        let began =
            subtasks.iter().filter_map(|subtask| Some(subtask.seen?.started_at())).min().unwrap_or(-1);
        let ends: Option<Vec<i64>> = subtasks.iter().map(|subtask| subtask.seen?.ended_at()).collect();
        let ended = ends.and_then(|ends| ends.into_iter().max());
        let mut counts: BTreeMap<_, _> = SubtaskState::ALL.into_iter().map(|state| (state, 0)).collect();
        for subtask in &subtasks {
            *counts.entry(subtask.state).or_default() += 1;
        }
        let reports: Vec<_> = subtasks.iter().filter_map(|subtask| Some(&subtask.seen?.report)).collect();
        json!({
            "endpoint": endpoint,
            "status": subtask_state(view.state(at)),
            "start-time": began,
            "end-time": ended.unwrap_or(-1),
            "duration": ended.unwrap_or(view.now) - began,
            "metrics": io_metrics(&reports),
            "status-counts": by_state(&counts),
            "taskmanager-id": manager,
            "aggregated": aggregated(&view, &subtasks),
        })
    };
    let rows: Vec<Value> = by_place.into_iter().map(row).collect();
    Ok(json!({ "id": vertex, "name": view.summary(at).name, "now": view.now, "taskmanagers": rows }).into())
}

/// GET `/jobs/:job/vertices/:vertex/accumulators`.
pub async fn accumulators(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    find(&app, &job, &vertex).await?;
    Ok(json!({ "id": vertex, "user-accumulators": [] }).into())
}

/// GET `/jobs/:job/vertices/:vertex/subtasks/accumulators`.
pub async fn subtask_accumulators(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    Ok(json!({ "id": vertex, "parallelism": view.summary(at).parallelism, "subtasks": [] }).into())
}

/// GET `/jobs/:job/vertices/:vertex/backpressure`.
pub async fn backpressure(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let row = |subtask: SubtaskView<'_>| {
        let level = Level::of(subtask.rates.backpressured).as_str();
        json!({
            "subtask": subtask.index,
            "backpressureLevel": level,
            "ratio": subtask.rates.backpressured,
            "idleRatio": subtask.rates.idle,
            "busyRatio": subtask.rates.busy,
            "backpressure-level": level,
        })
    };
    let reported = view.subtasks(at).filter_map(|subtask| subtask.seen?.reported_at).max();
    let level = Level::of(view.rates(at).backpressured).as_str();
    let answer = json!({
        "status": if reported.is_some() { "ok" } else { "deprecated" },
        "backpressureLevel": level,
        "end-timestamp": reported.unwrap_or(view.now),
        "subtasks": view.subtasks(at).map(row).collect::<Vec<_>>(),
        "backpressure-level": level,
    });
    Ok(answer.into())
}

/// GET `/jobs/:job/vertices/:vertex/watermarks`.
pub async fn watermarks(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let (view, at) = find(&app, &job, &vertex).await?;
    let row = |subtask: SubtaskView<'_>| {
        let watermark = subtask.seen?.report.input_watermark;
        subtask.seen?.reported_at?;
        let id = format!("{}.currentInputWatermark", subtask.index);
        Some(json!({ "id": id, "value": watermark.to_string() }))
    };
    Ok(Value::from(view.subtasks(at).filter_map(row).collect::<Vec<_>>()).into())
}
