//! Checkpoints and savepoints: statistics, details, asking for one.

use crate::app::{App, Shared};
use crate::error::{Answer, ApiError, Result};
use crate::operations::Kind;
use axum::body::Bytes;
use axum::extract::Path;
use axum::http::StatusCode;
use hurtig_runtime::observe::checkpoints::{
    CheckpointBook, CheckpointKind, CheckpointRecord, CheckpointState, Part, VertexPart,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A summary of whole numbers, in Flink's form.
fn summary(mut values: Vec<i64>) -> Value {
    values.sort_unstable();
    let percentile = |share: f64| -> Value {
        match values.len() {
            0 => "NaN".into(),
            count => (values[((count as f64 * share).ceil() as usize).clamp(1, count) - 1] as f64).into(),
        }
    };
    let sum: i64 = values.iter().sum();
    json!({
        "min": values.first().copied().unwrap_or(0),
        "max": values.last().copied().unwrap_or(0),
        "avg": sum.checked_div(values.len() as i64).unwrap_or(0),
        "p50": percentile(0.5), "p90": percentile(0.9), "p95": percentile(0.95), "p99": percentile(0.99),
        "p999": percentile(0.999),
    })
}

fn kind(record: &CheckpointRecord) -> &'static str {
    match record.kind {
        CheckpointKind::Checkpoint if record.in_flight_bytes > 0 => "UNALIGNED_CHECKPOINT",
        CheckpointKind::Checkpoint => "CHECKPOINT",
        CheckpointKind::Savepoint => "SAVEPOINT",
        CheckpointKind::StoppingSavepoint => "SYNC_SAVEPOINT",
    }
}

/// A checkpoint; its vertices in `tasks`, by id, if they are asked for.
fn record_row(record: &CheckpointRecord, tasks: Map<String, Value>) -> Value {
    let (class, status) = match record.state {
        CheckpointState::InProgress => ("in_progress", "IN_PROGRESS"),
        CheckpointState::Completed => ("completed", "COMPLETED"),
        CheckpointState::Failed => ("failed", "FAILED"),
    };
    let mut row = json!({
        "className": class,
        "id": record.id,
        "status": status,
        "is_savepoint": record.kind.is_savepoint(),
        "savepointFormat": record.kind.is_savepoint().then_some("CANONICAL"),
        "trigger_timestamp": record.triggered_at,
        "latest_ack_timestamp": record.last_at,
        "checkpointed_size": record.written_bytes,
        "state_size": record.bytes,
        "end_to_end_duration": record.duration_ms(),
        "alignment_buffered": 0,
        "processed_data": 0,
        "persisted_data": record.in_flight_bytes,
        "num_subtasks": record.subtasks(),
        "num_acknowledged_subtasks": record.acknowledged(),
        "checkpoint_type": kind(record),
        "tasks": tasks,
    });
    match record.state {
        CheckpointState::InProgress => {}
        CheckpointState::Completed => {
            row["external_path"] = record.location.clone().unwrap_or_else(|| "<none>".into()).into();
            row["discarded"] = record.is_discarded.into();
        }
        CheckpointState::Failed => {
            row["failure_timestamp"] = record.ended_at.unwrap_or(record.last_at).into();
            row["failure_message"] = record.failure.clone().into();
        }
    }
    row
}

/// GET `/jobs/:job/checkpoints`.
pub async fn checkpoints(app: Shared, Path(id): Path<String>) -> Result {
    let view = app.view(&id).await?;
    Ok(statistics(&view.job.seen.checkpoints).into())
}

/// What there is to tell of all checkpoints.
pub fn statistics(book: &CheckpointBook) -> Value {
    let row = |record: &CheckpointRecord| record_row(record, Map::new());
    let completed = |savepoint: bool| {
        book.last(|record| {
            record.state == CheckpointState::Completed && record.kind.is_savepoint() == savepoint
        })
    };
    let column = |of: fn(&hurtig_runtime::observe::checkpoints::Measures) -> i64| {
        summary(book.measures.iter().map(of).collect())
    };
    let nothing = || summary(vec![0; book.measures.len()]);
    let restored = book.last_restored.as_ref().map(|restored| {
        json!({
            "id": restored.id, "restore_timestamp": restored.at, "is_savepoint": restored.is_savepoint,
            "external_path": restored.location,
        })
    });
    json!({
        "counts": {
            "restored": book.restored,
            "total": book.triggered,
            "in_progress": book.in_progress(),
            "completed": book.completed,
            "failed": book.failed,
        },
        "summary": {
            "checkpointed_size": column(|measures| measures.written_bytes as i64),
            "state_size": column(|measures| measures.bytes as i64),
            "end_to_end_duration": column(|measures| measures.duration_ms),
            "alignment_buffered": nothing(),
            "processed_data": nothing(),
            "persisted_data": nothing(),
        },
        "latest": {
            "completed": completed(false).map(row),
            "savepoint": completed(true).or(book.last_savepoint.as_ref()).map(row),
            "failed": book.last(|record| record.state == CheckpointState::Failed).map(row),
            "restored": restored,
        },
        "history": book.records.iter().map(row).collect::<Vec<_>>(),
    })
}

/// GET `/jobs/:job/checkpoints/config`.
pub async fn config(app: Shared, Path(id): Path<String>) -> Result {
    let view = app.view(&id).await?;
    let builder =
        view.job.seen.settings.iter().fold(hurtig_runtime::Config::builder(), |builder, (key, value)| {
            builder.flag(format!("{key}={value}"))
        });
    // What the job runs with was accepted once.
    let config = builder.build().unwrap_or_default();
    let checkpoint = &config.checkpoint;
    let ms = hurtig_dataflow::time::millis;
    let mode = match checkpoint.mode {
        hurtig_runtime::config::CheckpointMode::ExactlyOnce => "exactly_once",
        hurtig_runtime::config::CheckpointMode::AtLeastOnce => "at_least_once",
    };
    let in_files = checkpoint.dir.is_some();
    let answer = json!({
        "mode": mode,
        // What Flink says of a job that takes none.
        "interval": checkpoint.interval.map_or(i64::MAX, ms),
        "timeout": ms(checkpoint.timeout),
        "min_pause": ms(checkpoint.min_pause),
        "max_concurrent": checkpoint.max_concurrent,
        "externalization": { "enabled": in_files, "delete_on_cancellation": false },
        "state_backend": "memory",
        "checkpoint_storage": if in_files { "FileSystemCheckpointStorage" } else { "JobManagerCheckpointStorage" },
        "unaligned_checkpoints": checkpoint.alignment_timeout.is_some(),
        "tolerable_failed_checkpoints": checkpoint.tolerable_failures,
        "aligned_checkpoint_timeout": checkpoint.alignment_timeout.map_or(0, ms),
        "checkpoints_after_tasks_finish": true,
        "state_changelog_enabled": false,
        "changelog_periodic_materialization_interval": 0,
        "changelog_storage": "memory",
    });
    Ok(answer.into())
}

fn find(book: &CheckpointBook, id: u64) -> Result<&CheckpointRecord> {
    book.last(|record| record.id == id).ok_or_else(|| {
        ApiError::not_found(format!("checkpoint {id} is not known: only the last ones are remembered"))
    })
}

fn vertex_row(record: &CheckpointRecord, part: &VertexPart) -> Value {
    let is_done = part.acknowledged == part.subtasks;
    let status = match record.state {
        CheckpointState::Failed if !is_done => "FAILED",
        _ if is_done => "COMPLETED",
        _ => "IN_PROGRESS",
    };
    let last_at = if part.last_at == 0 { record.triggered_at } else { part.last_at };
    json!({
        "id": record.id,
        "status": status,
        "latest_ack_timestamp": last_at,
        "checkpointed_size": part.written_bytes,
        "state_size": part.bytes,
        "end_to_end_duration": last_at - record.triggered_at,
        "alignment_buffered": 0,
        "processed_data": 0,
        "persisted_data": part.in_flight_bytes,
        "num_subtasks": part.subtasks,
        "num_acknowledged_subtasks": part.acknowledged,
    })
}

/// GET `/jobs/:job/checkpoints/details/:checkpoint`.
pub async fn details(app: Shared, Path((job, checkpoint)): Path<(String, u64)>) -> Result {
    let view = app.view(&job).await?;
    let record = find(&view.job.seen.checkpoints, checkpoint)?;
    let tasks = record.vertices.iter().map(|(at, part)| (view.vertex_id(*at), vertex_row(record, part)));
    Ok(record_row(record, tasks.collect()).into())
}

/// GET `/jobs/:job/checkpoints/details/:checkpoint/subtasks/:vertex`.
pub async fn subtasks(app: Shared, Path((job, checkpoint, vertex)): Path<(String, u64, String)>) -> Result {
    let view = app.view_with(&job, Some(checkpoint)).await?;
    let record = find(&view.job.seen.checkpoints, checkpoint)?;
    let found = view.vertex(&vertex).and_then(|at| Some((at, record.vertices.get(&at)?)));
    let (at, part) = found.ok_or_else(|| ApiError::not_found("the checkpoint has no such vertex"))?;
    let parts: Vec<Part> =
        record.parts.iter().filter(|(id, _)| id.vertex == at).map(|(_, part)| *part).collect();
    let column = |of: &dyn Fn(&Part) -> i64| summary(parts.iter().map(of).collect());
    let nothing = || summary(vec![0; parts.len()]);
    let mut answer = vertex_row(record, part);
    answer["summary"] = json!({
        "checkpointed_size": column(&|part| part.written_bytes as i64),
        "state_size": column(&|part| part.bytes as i64),
        "end_to_end_duration": column(&|part| part.at - record.triggered_at),
        "checkpoint_duration": { "sync": column(&|part| part.synchronous_us as i64 / 1_000), "async": nothing() },
        "alignment": {
            "buffered": nothing(), "processed": nothing(),
            "persisted": column(&|part| part.in_flight_bytes as i64),
            "duration": column(&|part| part.alignment_ms),
        },
        "start_delay": nothing(),
    });
    let row = |index: usize| {
        let id = hurtig_dataflow::ids::SubtaskId { vertex: at, index };
        match record.parts.get(&id) {
            Some(part) => json!({
                "className": "completed",
                "index": index,
                "ack_timestamp": part.at,
                "end_to_end_duration": part.at - record.triggered_at,
                "checkpointed_size": part.written_bytes,
                "state_size": part.bytes,
                "checkpoint": { "sync": part.synchronous_us / 1_000, "async": 0 },
                "alignment": {
                    "buffered": 0, "processed": 0, "persisted": part.in_flight_bytes,
                    "duration": part.alignment_ms,
                },
                "start_delay": 0,
                "unaligned_checkpoint": part.in_flight_bytes > 0,
                "aborted": false,
                "status": "completed",
            }),
            None => json!({ "className": "pending", "index": index, "status": "pending_or_failed" }),
        }
    };
    answer["subtasks"] = (0..part.subtasks).map(row).collect::<Vec<_>>().into();
    Ok(answer.into())
}

/// Of a savepoint that is asked for; both spellings that Flink has for different routes are read.
#[derive(Debug, Default, Deserialize)]
pub struct SavepointBody {
    #[serde(rename = "target-directory", alias = "targetDirectory")]
    target: Option<String>,
    #[serde(rename = "cancel-job", default)]
    cancel_job: Option<bool>,
    #[serde(rename = "triggerId")]
    trigger: Option<String>,
}

/// Reads a body in JSON; an empty one says nothing.
///
/// # Errors
/// It is not what is expected.
pub fn read_body<T: Default + serde::de::DeserializeOwned>(body: &[u8]) -> Result<T> {
    if body.trim_ascii().is_empty() {
        return Ok(T::default());
    }
    serde_json::from_slice(body)
        .map_err(|error| ApiError::bad_request(format!("the body cannot be read: {error}")))
}

/// POST `/jobs/:job/savepoints`.
pub async fn trigger_savepoint(app: Shared, Path(job): Path<String>, body: Bytes) -> Result {
    let body: SavepointBody = read_body(&body)?;
    let stop = body.cancel_job.unwrap_or(false);
    begin_savepoint(&app.0, &job, body, stop).await
}

/// POST `/jobs/:job/stop`.
pub async fn stop(app: Shared, Path(job): Path<String>, body: Bytes) -> Result {
    begin_savepoint(&app.0, &job, read_body(&body)?, true).await
}

async fn begin_savepoint(app: &Arc<App>, job: &str, body: SavepointBody, stop: bool) -> Result {
    let view = app.view(job).await?;
    let (id, state) = (view.job.status.id, view.job.status.state);
    if state.is_terminal() {
        return Err(ApiError::new(StatusCode::CONFLICT, format!("job {id} is {state} already")));
    }
    if body.trigger.as_ref().is_some_and(|trigger| trigger.len() > 64) {
        return Err(ApiError::bad_request("triggerId is too long: 64 characters at most"));
    }
    let request = request_savepoint(app, id, body.target, stop, body.trigger);
    Ok(Answer(StatusCode::ACCEPTED, json!({ "request-id": request })))
}

/// Asks for a savepoint and does not wait for it. Returns the request's number.
pub fn request_savepoint(
    app: &Arc<App>,
    job: hurtig_dataflow::ids::JobId,
    target: Option<String>,
    stop: bool,
    trigger: Option<String>,
) -> String {
    let (request, is_new) = app.operations.begin(Kind::Savepoint, job, trigger);
    if is_new {
        let (app, request) = (Arc::clone(app), request.clone());
        let target = target.filter(|target| !target.is_empty());
        let tasks = app.tasks.clone();
        tasks.spawn(async move {
            let taken = app.client.savepoint(job, target, stop).await;
            let outcome = taken.map_err(|error| hurtig_dataflow::error::describe(&error));
            app.operations.end(job, &request, outcome);
        });
    }
    request
}

/// GET `/jobs/:job/savepoints/:trigger`.
pub async fn savepoint_status(app: Shared, Path((job, trigger)): Path<(String, String)>) -> Result {
    let found = app.operations.find(App::job_id(&job)?, &trigger);
    let found = found.filter(|found| found.kind == Kind::Savepoint).ok_or_else(|| {
        ApiError::not_found("no such request: those before a restart of the JobManager are forgotten")
    })?;
    let answer = match found.outcome {
        None => json!({ "status": { "id": "IN_PROGRESS" }, "operation": null }),
        Some(Ok(location)) => {
            json!({ "status": { "id": "COMPLETED" }, "operation": { "location": location } })
        }
        Some(Err(sentence)) => json!({
            "status": { "id": "COMPLETED" },
            "operation": { "failure-cause": { "class": "hurtig", "stack-trace": sentence } },
        }),
    };
    Ok(answer.into())
}

/// POST `/jobs/:job/checkpoints`, and the disposal of savepoints.
pub async fn not_by_hand(_: Shared) -> Result {
    Err(ApiError::not_supported(
        "hurtig takes checkpoints by the clock and deletes no savepoint: take a savepoint, or delete its folder",
    ))
}
