//! Programs: uploading them, listing them, running them as jobs.

use crate::app::{App, Shared};
use crate::error::{ApiError, Result};
use crate::handlers::checkpoints::read_body;
use axum::body::Bytes;
use axum::extract::multipart::Field;
use axum::extract::{Multipart, Path, Query};
use axum::http::StatusCode;
use hurtig_runtime::protocol::{Call, Submitted};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Seek, SeekFrom, Write};

/// The longest file name that is kept.
const MAX_NAME_CHARS: usize = 128;

/// Number of arguments and their length that are accepted.
const MAX_ARGUMENTS: usize = 1_000;
const MAX_ARGUMENT_BYTES: usize = 64 << 10;

/// A program that can be run.
#[derive(Clone, Debug)]
pub struct Program {
    /// Its hash.
    pub hash: String,
    /// Its file's name, as far as that is known.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it came.
    pub uploaded_at: i64,
}

impl Program {
    /// By which it is asked for: Flink's tools want a name in it.
    pub fn id(&self) -> String {
        format!("{}_{}", self.hash, self.name)
    }
}

/// The programs there are, the newest first.
///
/// # Errors
/// The JobManager does not answer.
pub async fn list(app: &App) -> Result<Vec<Program>> {
    let found = app.client.programs().await?;
    let mut programs = Vec::new();
    for program in found {
        let name = app.names.lock().get(&program.program).cloned();
        programs.push(Program {
            name: name.unwrap_or_else(|| "program".into()),
            hash: program.program,
            size_bytes: program.size_bytes,
            uploaded_at: program.uploaded_at,
        });
    }
    programs.sort_by_key(|program| std::cmp::Reverse(program.uploaded_at));
    Ok(programs)
}

/// GET `/jars`, `/programs`.
pub async fn programs(app: Shared) -> Result {
    let row = |program: Program| {
        json!({
            "id": program.id(),
            "name": program.name,
            "uploaded": program.uploaded_at,
            "size": program.size_bytes,
            "entry": [{ "name": program.name, "description": null }],
        })
    };
    let files: Vec<Value> = list(&app).await?.into_iter().map(row).collect();
    let address = format!("http://{}:{}", app.config.rest.address, app.config.rest.port.unwrap_or(0));
    Ok(json!({ "address": address, "files": files }).into())
}

/// POST `/jars/upload`, `/programs/upload`.
pub async fn upload(app: Shared, mut form: Multipart) -> Result {
    while let Some(field) = form.next_field().await.map_err(unreadable)? {
        if field.file_name().is_some() {
            let program = store(&app, field).await?;
            return Ok(json!({ "filename": format!("/{}", program.id()), "status": "success" }).into());
        }
    }
    Err(ApiError::bad_request("no file came: send the program as a field of a multipart form"))
}

fn unreadable(error: axum::extract::multipart::MultipartError) -> ApiError {
    ApiError::new(error.status(), format!("the upload cannot be read: {}", error.body_text()))
}

/// The last part of a name that may come from another system, without what has a meaning in a path.
fn file_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let good = |c: &char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
    let name: String = last.chars().filter(good).take(MAX_NAME_CHARS).collect();
    if name.trim_matches('.').is_empty() { "program".into() } else { name }
}

/// Takes a program's file, which lies on disk meanwhile, and gives it to the JobManager.
///
/// # Errors
/// It is too large, cannot be written, or is refused.
pub async fn store(app: &App, mut field: Field<'_>) -> Result<Program> {
    let name = file_name(field.file_name().unwrap_or_default());
    let most = app.config.rest.max_upload.0;
    let failed = |error: std::io::Error| {
        ApiError::new(
            StatusCode::INSUFFICIENT_STORAGE,
            format!("the program cannot be written down: {error}"),
        )
    };
    let mut file = tempfile::tempfile().map_err(failed)?;
    let (mut size_bytes, mut hash) = (0u64, Sha256::new());
    while let Some(chunk) = field.chunk().await.map_err(unreadable)? {
        size_bytes += chunk.len() as u64;
        if size_bytes > most {
            let sentence = format!("the program is larger than {most} bytes: raise 'rest.max-upload'");
            return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, sentence));
        }
        hash.update(&chunk);
        file.write_all(&chunk).map_err(failed)?;
    }
    if size_bytes == 0 {
        return Err(ApiError::bad_request("the file is empty: choose a program"));
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    file.seek(SeekFrom::Start(0)).map_err(failed)?;
    app.client.upload(&hash, size_bytes, file, |_| {}).await?;
    app.names.lock().insert(hash.clone(), name.clone());
    Ok(Program { hash, name, size_bytes, uploaded_at: app.clock.now() })
}

/// How a program is to be run.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RunBody {
    /// Its own arguments.
    pub program_args_list: Vec<String>,
    /// The same in one line, parted by blanks.
    pub program_args: Option<String>,
    /// Subtasks of each vertex for which the program says nothing else.
    pub parallelism: Option<usize>,
    /// What to start from.
    pub savepoint_path: Option<String>,
    /// Whether state that nobody claims is left behind.
    pub allow_non_restored_state: Option<bool>,
    /// Configuration.
    pub flink_configuration: BTreeMap<String, String>,
    /// The same, in hurtig's words.
    pub configuration: BTreeMap<String, String>,
}

/// Of POST `/jars/:id/run`, by those who send no body.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunQuery {
    program_args: Option<String>,
    #[serde(rename = "programArg")]
    program_arg: Option<String>,
    parallelism: Option<usize>,
    savepoint_path: Option<String>,
    allow_non_restored_state: Option<bool>,
}

/// POST `/jars/:id/run`, `/programs/:id/run`.
pub async fn run(app: Shared, Path(id): Path<String>, Query(query): Query<RunQuery>, body: Bytes) -> Result {
    let mut body: RunBody = read_body(&body)?;
    body.program_args = body.program_args.or(query.program_args);
    if let Some(list) = query.program_arg.filter(|_| body.program_args_list.is_empty()) {
        body.program_args_list = list.split(',').map(str::to_string).collect();
    }
    body.parallelism = body.parallelism.or(query.parallelism);
    body.savepoint_path = body.savepoint_path.or(query.savepoint_path);
    body.allow_non_restored_state = body.allow_non_restored_state.or(query.allow_non_restored_state);
    let Submitted { job, .. } = submit(&app, &id, body).await?;
    Ok(json!({ "jobid": job.to_string() }).into())
}

/// Runs a program.
///
/// # Errors
/// There is none, its arguments are too many, or it builds no job.
pub async fn submit(app: &App, id: &str, body: RunBody) -> Result<Submitted> {
    let hash = id.split('_').next().unwrap_or_default();
    let programs = list(app).await?;
    let program = programs.iter().find(|program| program.hash == hash);
    let program = program.ok_or_else(|| ApiError::not_found("there is no such program: upload it first"))?;
    let mut args: Vec<String> = Vec::new();
    if let Some(parallelism) = body.parallelism {
        args.extend(["--parallelism".into(), parallelism.to_string()]);
    }
    if let Some(path) = body.savepoint_path.filter(|path| !path.is_empty()) {
        args.extend(["--from".into(), path]);
    }
    if body.allow_non_restored_state == Some(true) {
        args.push("--allow-non-restored".into());
    }
    let line = body.program_args.unwrap_or_default();
    let own: Vec<String> =
        line.split_whitespace().map(str::to_string).chain(body.program_args_list).collect();
    if !own.is_empty() {
        args.push("--".into());
        args.extend(own);
    }
    if args.len() > MAX_ARGUMENTS || args.iter().any(|arg| arg.len() > MAX_ARGUMENT_BYTES) {
        return Err(ApiError::bad_request("the arguments are too many or too long"));
    }
    let settings = body.flink_configuration.into_iter().chain(body.configuration);
    let call = Call {
        program: program.hash.clone(),
        file_name: program.name.clone(),
        args,
        defines: settings.map(|(key, value)| format!("{key}={value}")).collect(),
        folder: std::env::current_dir().unwrap_or_else(|_| "/".into()),
        rescaled: None,
    };
    Ok(app.client.submit(call).await?)
}

/// GET or POST `/jars/:id/plan`, and DELETE `/jars/:id`.
pub async fn not_done(_: Shared) -> Result {
    Err(ApiError::not_supported(
        "a program is planned when it is run, and goes when no job needs it: POST /jars/:id/run",
    ))
}

/// Reads settings of a form, one a line.
///
/// # Errors
/// A line that is none.
pub fn pairs(text: &str) -> std::result::Result<BTreeMap<String, String>, String> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| match line.split_once('=') {
            Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
            None => Err(format!("'{line}' is no setting: expected key=value")),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_no_path() {
        let check = |from: &str, to: &str| assert_eq!(file_name(from), to, "{from}");
        check("flights", "flights");
        check("C:\\tmp\\flights.exe", "flights.exe");
        check("../../etc/passwd", "passwd");
        check("..", "program");
        check("a b;c", "abc");
        check("", "program");
    }
}
