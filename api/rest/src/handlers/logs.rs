//! Log files of the JobManager, of TaskManagers, and of the processes of jobs that they have started.

use crate::app::{App, Shared};
use crate::error::{ApiError, Result};
use axum::extract::{Path, Query};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hurtig_dataflow::ids::JobId;
use hurtig_runtime::protocol::LogFile;
use serde::Deserialize;
use serde_json::{Value, json};

/// Files whose end is shown where "standard output" is asked for.
const MOST_OUTPUTS: usize = 20;

/// Where a part of a file begins.
#[derive(Deserialize)]
pub struct Begin {
    /// In bytes; unset: such that the part is the file's end.
    from: Option<u64>,
}

/// The log file of a daemon itself.
fn own(of: Option<&str>) -> &'static str {
    if of.is_none() { "jobmanager.log" } else { "taskmanager.log" }
}

async fn list(app: &App, of: Option<&str>) -> Result {
    let row =
        |file: LogFile| json!({ "name": file.name, "size": file.size_bytes, "mtime": file.modified_at });
    let files: Vec<Value> = app.client.logs(of, "").await?.into_iter().map(row).collect();
    Ok(json!({ "logs": files }).into())
}

/// A part of a file as text. Its bytes are whatever a program has printed.
async fn part(app: &App, of: Option<&str>, name: &str, from: Option<u64>) -> Result<Response> {
    let part = app.client.log(of, name, from).await?;
    let headers =
        [(header::CONTENT_TYPE, "text/plain; charset=UTF-8"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let (length, size) = (part.bytes.len() as u64, part.size_bytes);
    let mut answer = (headers, String::from_utf8_lossy(&part.bytes).into_owned()).into_response();
    if from.is_some() && length > 0 {
        *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
        let range = format!("bytes {}-{}/{size}", part.offset, part.offset + length - 1);
        answer.headers_mut().extend(range.parse().map(|range| (header::CONTENT_RANGE, range)));
    }
    Ok(answer)
}

/// What the processes of jobs have printed last.
async fn outputs(app: &App, of: Option<&str>) -> Result<Response> {
    let files = app.client.logs(of, "").await?;
    let outputs = files.iter().filter(|file| file.name.ends_with(".out") && file.size_bytes > 0);
    let mut all = String::new();
    for LogFile { name, .. } in outputs.take(MOST_OUTPUTS) {
        // It may have been deleted meanwhile.
        let Ok(part) = app.client.log(of, name, None).await else { continue };
        all += &format!("==> {name} <==\n{}\n", String::from_utf8_lossy(&part.bytes));
    }
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=UTF-8")], all).into_response())
}

/// GET `/jobmanager/logs`.
pub async fn of_jobmanager(app: Shared) -> Result {
    list(&app, None).await
}

/// GET `/jobmanager/logs/:name`.
pub async fn part_of_jobmanager(
    app: Shared,
    Path(name): Path<String>,
    Query(Begin { from }): Query<Begin>,
) -> Result<Response> {
    part(&app, None, &name, from).await
}

/// GET `/jobmanager/log`.
pub async fn jobmanagers_own(app: Shared) -> Result<Response> {
    part(&app, None, own(None), None).await
}

/// GET `/jobmanager/stdout`.
pub async fn jobmanager_outputs(app: Shared) -> Result<Response> {
    outputs(&app, None).await
}

/// GET `/taskmanagers/:id/logs`.
pub async fn of_taskmanager(app: Shared, Path(id): Path<String>) -> Result {
    list(&app, Some(&id)).await
}

/// GET `/taskmanagers/:id/logs/:name`.
pub async fn part_of_taskmanager(
    app: Shared,
    Path((id, name)): Path<(String, String)>,
    Query(Begin { from }): Query<Begin>,
) -> Result<Response> {
    part(&app, Some(&id), &name, from).await
}

/// GET `/taskmanagers/:id/log`.
pub async fn taskmanagers_own(app: Shared, Path(id): Path<String>) -> Result<Response> {
    part(&app, Some(&id), own(Some(&id)), None).await
}

/// GET `/taskmanagers/:id/stdout`.
pub async fn taskmanager_outputs(app: Shared, Path(id): Path<String>) -> Result<Response> {
    outputs(&app, Some(&id)).await
}

/// Log files of a job's processes, each with the TaskManager that has it, or none for the JobManager. What is on a
/// TaskManager that is gone is not there.
///
/// # Errors
/// The JobManager does not answer.
pub async fn of_job(app: &App, job: JobId) -> std::result::Result<Vec<(Option<String>, LogFile)>, ApiError> {
    let task_managers = app.client.overview().await?.task_managers;
    let folder = format!("jobs/{job}/");
    let daemons = [None].into_iter().chain(task_managers.into_iter().map(|found| Some(found.name)));
    let asked = daemons.map(|of| async {
        let files = app.client.logs(of.as_deref(), &folder).await;
        (of, files)
    });
    let mut all = Vec::new();
    for (of, files) in futures::future::join_all(asked).await {
        match files {
            Ok(files) => all.extend(files.into_iter().map(|file| (of.clone(), file))),
            Err(error) if of.is_none() => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(all)
}
