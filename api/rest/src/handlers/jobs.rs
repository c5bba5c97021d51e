//! Jobs: lists, details, plan, configuration, exceptions, the end.

use crate::app::{App, Shared};
use crate::error::{Answer, ApiError, Result};
use crate::handlers::checkpoints::read_body;
use crate::handlers::vertices::io_metrics;
use crate::view::{View, job_state, subtask_state};
use axum::body::Bytes;
use axum::extract::{Path, Query};
use axum::http::StatusCode;
use hurtig_runtime::JobState;
use hurtig_runtime::observe::subtasks::SubtaskState;
use hurtig_runtime::report::RescaleReport;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// GET `/jobs`.
pub async fn jobs(app: Shared) -> Result {
    let rows = app
        .client
        .list()
        .await?
        .into_iter()
        .map(|job| json!({ "id": job.id.to_string(), "status": job_state(job.state) }));
    Ok(json!({ "jobs": rows.collect::<Vec<_>>() }).into())
}

/// GET `/jobs/overview`.
pub async fn overview(app: Shared) -> Result {
    let rows: Vec<Value> = app.views().await?.iter().map(overview_row).collect();
    Ok(json!({ "jobs": rows }).into())
}

fn overview_row(view: &View) -> Value {
    let status = &view.job.status;
    let counts = view.counts(None);
    let mut tasks: Map<String, Value> =
        counts.iter().map(|(state, count)| (subtask_state(*state).to_lowercase(), (*count).into())).collect();
    tasks.insert("reconciling".into(), 0.into());
    tasks.insert("total".into(), counts.values().sum::<usize>().into());
    let modified = view.job.seen.entered.iter().map(|(_, at)| *at).max().unwrap_or(status.started_at);
    json!({
        "jid": status.id.to_string(),
        "name": status.name,
        "jobType": "STREAMING",
        "schedulerType": "Default",
        "start-time": status.started_at,
        "end-time": status.ended_at.unwrap_or(-1),
        "duration": view.duration_ms(),
        "state": job_state(status.state),
        "last-modification": status.ended_at.unwrap_or(modified),
        "tasks": tasks,
        "pending-operators": 0,
    })
}

/// GET `/jobs/:job`.
pub async fn job(app: Shared, Path(id): Path<String>) -> Result {
    let view = app.view(&id).await?;
    let status = &view.job.status;
    let states = [
        JobState::Created,
        JobState::Running,
        JobState::Failing,
        JobState::Restarting,
        JobState::Cancelling,
        JobState::Cancelled,
        JobState::Suspended,
        JobState::Finished,
        JobState::Failed,
    ];
    let mut timestamps: Map<String, Value> = states
        .into_iter()
        .map(|state| (job_state(state).to_string(), view.job.seen.entered(state).unwrap_or(0).into()))
        .collect();
    timestamps.insert("INITIALIZING".into(), status.started_at.into());
    timestamps.insert("RECONCILING".into(), 0.into());
    let vertices: Vec<Value> = (0..view.job.graph.vertices.len()).map(|at| vertex_row(&view, at)).collect();
    let answer = json!({
        "jid": status.id.to_string(),
        "application-id": status.id.to_string(),
        "name": status.name,
        "isStoppable": false,
        "state": job_state(status.state),
        "job-type": "STREAMING",
        "schedulerType": "Default",
        "start-time": status.started_at,
        "end-time": status.ended_at.unwrap_or(-1),
        "duration": view.duration_ms(),
        "maxParallelism": view.job.graph.max_parallelism,
        "now": view.now,
        "timestamps": timestamps,
        "vertices": vertices,
        "status-counts": vertex_counts(&view),
        "plan": plan_of(&view),
        "pending-operators": 0,
    });
    Ok(answer.into())
}

/// Numbers by state, with those states that only Flink has.
pub fn by_state(counts: &BTreeMap<SubtaskState, usize>) -> Value {
    let mut row: Map<String, Value> =
        counts.iter().map(|(state, count)| (subtask_state(*state).to_string(), (*count).into())).collect();
    row.insert("RECONCILING".into(), 0.into());
    row.into()
}

fn vertex_counts(view: &View) -> Value {
    let mut counts: BTreeMap<_, _> = SubtaskState::ALL.into_iter().map(|state| (state, 0)).collect();
    for vertex in 0..view.job.graph.vertices.len() {
        *counts.entry(view.state(vertex)).or_default() += 1;
    }
    by_state(&counts)
}

fn vertex_row(view: &View, vertex: usize) -> Value {
    let (began, ended) = (view.started_at(vertex), view.ended_at(vertex));
    let duration = if began < 0 { -1 } else { ended.unwrap_or(view.now) - began };
    let reports: Vec<_> = view.subtasks(vertex).filter_map(|subtask| Some(&subtask.seen?.report)).collect();
    json!({
        "id": view.vertex_id(vertex),
        "slotSharingGroupId": format!("{:032x}", 0),
        "name": view.summary(vertex).name,
        "maxParallelism": view.job.graph.max_parallelism,
        "parallelism": view.summary(vertex).parallelism,
        "status": subtask_state(view.state(vertex)),
        "start-time": began,
        "end-time": ended.unwrap_or(-1),
        "duration": duration,
        "tasks": by_state(&view.counts(Some(vertex))),
        "metrics": io_metrics(&reports),
    })
}

/// GET `/jobs/:job/plan`.
pub async fn plan(app: Shared, Path(id): Path<String>) -> Result {
    Ok(json!({ "plan": plan_of(&app.view(&id).await?) }).into())
}

/// The job graph, as Flink describes one.
pub fn plan_of(view: &View) -> Value {
    let graph = &view.job.graph;
    let node = |(at, vertex): (usize, &hurtig_runtime::protocol::VertexSummary)| {
        let mut node = json!({
            "id": view.vertex_id(at),
            "operator": "",
            "parallelism": vertex.parallelism,
            "operator_strategy": "",
            "description": vertex.name.replace('&', "&amp;").replace('<', "&lt;").replace(" -> ", "<br/>+- "),
            "optimizer_properties": {},
        });
        let inputs: Vec<Value> = graph
            .edges
            .iter()
            .filter(|(_, to, _)| *to == at)
            .enumerate()
            .map(|(num, (from, _, way))| {
                json!({
                    "id": view.vertex_id(*from), "num": num, "ship_strategy": way.to_uppercase(),
                    "exchange": "pipelined_bounded",
                })
            })
            .collect();
        if !inputs.is_empty() {
            node["inputs"] = inputs.into();
        }
        node
    };
    json!({
        "jid": view.job.status.id.to_string(),
        "name": view.job.status.name,
        "type": "STREAMING",
        "nodes": graph.vertices.iter().enumerate().map(node).collect::<Vec<_>>(),
    })
}

/// GET `/jobs/:job/status`.
pub async fn status(app: Shared, Path(id): Path<String>) -> Result {
    Ok(json!({ "status": job_state(app.view(&id).await?.job.status.state) }).into())
}

/// GET `/jobs/:job/config`.
pub async fn config(app: Shared, Path(id): Path<String>) -> Result {
    let view = app.view(&id).await?;
    let settings = &view.job.seen.settings;
    let find = |key: &str| settings.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
    let parallelism = view.job.graph.vertices.iter().map(|vertex| vertex.parallelism).max().unwrap_or(1);
    let user: Map<String, Value> = settings
        .iter()
        .map(|(key, value)| (key.clone(), super::cluster::shown(key, value.clone()).into()))
        .collect();
    let answer = json!({
        "jid": view.job.status.id.to_string(),
        "name": view.job.status.name,
        "execution-config": {
            "restart-strategy": find("restart.strategy").unwrap_or_else(|| "auto".into()),
            "job-parallelism": parallelism,
            "object-reuse-mode": true,
            "user-config": user,
        },
    });
    Ok(answer.into())
}

/// GET `/jobs/:job/accumulators`.
pub async fn accumulators(app: Shared, Path(id): Path<String>) -> Result {
    app.view(&id).await?;
    let answer = json!({
        "job-accumulators": [], "user-task-accumulators": [], "serialized-user-task-accumulators": {},
    });
    Ok(answer.into())
}

/// Of `/jobs/:job/exceptions`.
#[derive(Deserialize)]
pub struct ExceptionsQuery {
    #[serde(rename = "maxExceptions")]
    max: Option<usize>,
}

/// GET `/jobs/:job/exceptions`.
pub async fn exceptions(app: Shared, Path(id): Path<String>, Query(query): Query<ExceptionsQuery>) -> Result {
    let view = app.view(&id).await?;
    let (seen, most) = (&view.job.seen, query.max.unwrap_or(20));
    let entry = |record: &hurtig_runtime::observe::FailureRecord| {
        let worker = record.worker;
        json!({
            "exceptionName": record.failure.message,
            "stacktrace": record.failure.to_string(),
            "timestamp": record.at,
            "failureLabels": {},
            "taskName": record.failure.place,
            "endpoint": worker.and_then(|worker| seen.workers.get(&worker)),
            "taskManagerId": worker.and_then(|worker| view.job.placed.get(&worker)),
            "concurrentExceptions": [],
        })
    };
    let mut entries: Vec<Value> = seen.failures.iter().take(most).map(entry).collect();
    if let (true, Some(failure)) = (seen.failures.is_empty(), &view.job.status.failure) {
        let at = view.job.status.ended_at.unwrap_or(view.now);
        entries.push(json!({
            "exceptionName": failure, "stacktrace": failure, "timestamp": at, "failureLabels": {},
            "taskName": null, "endpoint": null, "taskManagerId": null, "concurrentExceptions": [],
        }));
    }
    let truncated = seen.failures.len() > most || seen.forgotten_failures > 0;
    Ok(json!({ "exceptionHistory": { "entries": entries, "truncated": truncated } }).into())
}

/// GET `/jobs/:job/resource-requirements`.
pub async fn resource_requirements(app: Shared, Path(id): Path<String>) -> Result {
    let view = app.view(&id).await?;
    let row = |at: usize| {
        let parallelism = view.summary(at).parallelism;
        (
            view.vertex_id(at),
            json!({ "parallelism": { "lowerBound": parallelism, "upperBound": parallelism } }),
        )
    };
    let rows: Map<String, Value> = (0..view.job.graph.vertices.len()).map(row).collect();
    Ok(Value::from(rows).into())
}

/// Of PUT `/jobs/:job/resource-requirements`, for a vertex.
#[derive(Deserialize)]
struct Requirements {
    parallelism: Bounds,
}

/// How many subtasks a vertex may have. There are as many as the upper bound.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bounds {
    lower_bound: usize,
    upper_bound: usize,
}

/// PUT `/jobs/:job/resource-requirements`: answers when the job starts again with the new parallelism.
pub async fn rescale(app: Shared, Path(id): Path<String>, body: Bytes) -> Result {
    let wanted: BTreeMap<String, Requirements> = read_body(&body)?;
    let view = app.view(&id).await?;
    let mut vertices = Vec::new();
    for (vertex, Requirements { parallelism: Bounds { lower_bound, upper_bound } }) in wanted {
        if lower_bound > upper_bound {
            let sentence =
                format!("lowerBound {lower_bound} of vertex {vertex} is above upperBound {upper_bound}");
            return Err(ApiError::bad_request(sentence));
        }
        let at = view.vertex(&vertex);
        let at = at.ok_or_else(|| ApiError::not_found(format!("job {id} has no vertex {vertex}")))?;
        vertices.extend(view.summary(at).operators.first().map(|uid| (uid.clone(), upper_bound)));
    }
    if vertices.is_empty() {
        return Err(ApiError::bad_request("name vertices with the parallelism that they are to have"));
    }
    app.client.rescale(view.job.status.id, None, vertices).await?;
    Ok(json!({}).into())
}

/// GET `/jobs/:job/rescales/…`.
pub async fn rescales_part(app: Shared, Path((id, part)): Path<(String, String)>) -> Result {
    let view = app.view(&id).await?;
    if part != "history" {
        return Err(ApiError::not_found("there is /jobs/:job/rescales/history"));
    }
    let row = |rescale: &RescaleReport| {
        let vertices = rescale.vertices.iter();
        let vertices = vertices.map(|(name, former, now)| json!({ "name": name, "from": former, "to": now }));
        json!({
            "timestamp": rescale.at,
            "pause": rescale.pause_ms,
            "vertices": vertices.collect::<Vec<_>>(),
            "workers": { "kept": rescale.workers.0, "total": rescale.workers.1 },
            "subtasks": { "state-kept": rescale.subtasks.0, "total": rescale.subtasks.1 },
        })
    };
    Ok(json!({ "rescales": view.job.status.rescales.iter().rev().map(row).collect::<Vec<_>>() }).into())
}

/// Of PATCH `/jobs/:job`.
#[derive(Deserialize)]
pub struct CancelQuery {
    mode: Option<String>,
}

/// PATCH `/jobs/:job`: ends a job.
pub async fn cancel(app: Shared, Path(id): Path<String>, Query(query): Query<CancelQuery>) -> Result {
    if let Some(mode) = query.mode.filter(|mode| mode != "cancel") {
        let shown: String = mode.chars().take(32).collect();
        return Err(ApiError::bad_request(format!(
            "mode '{shown}' is not known: 'cancel' ends a job, POST /jobs/{id}/stop stops it with a savepoint"
        )));
    }
    app.client.cancel(App::job_id(&id)?).await?;
    Ok(Answer(StatusCode::ACCEPTED, json!({})))
}
