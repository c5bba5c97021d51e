//! Log files: of a daemon, of a job's processes; and the end of one, as it grows.

use super::{Page, PageResult, Region, job_head, words};
use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::handlers::logs;
use axum::extract::Path;
use hurtig_runtime::protocol::LogFile;
use maud::{Markup, html};

/// What stands for the JobManager where a TaskManager is named.
const JOB_MANAGER: &str = "jobmanager";

/// Lines of a file's end that are shown.
const LINES: usize = 500;

/// GET `/web/logs/:daemon`.
pub async fn of_daemon(app: Shared, Path(daemon): Path<String>) -> PageResult {
    make(&app, &daemon).await
}

pub(super) async fn make(app: &App, daemon: &str) -> PageResult {
    let files = app.client.logs(of(daemon), "").await?;
    let files: Vec<_> = files.into_iter().map(|file| (of(daemon).map(str::to_owned), file)).collect();
    Ok(Page {
        title: format!("Logs of {daemon}"),
        head: html! { h1 { "Logs of " (daemon) } },
        regions: vec![Region { id: "files", content: table(&files, app.clock.now()) }],
        foot: html! {},
        is_live: true,
    })
}

/// GET `/web/jobs/:job/logs`.
pub async fn of_job(app: Shared, Path(id): Path<String>) -> PageResult {
    make_of_job(&app, &id).await
}

pub(super) async fn make_of_job(app: &App, id: &str) -> PageResult {
    let view = app.view(id).await?;
    let files = match app.is_embedded {
        true => Vec::new(),
        false => logs::of_job(app, view.job.status.id).await?,
    };
    Ok(Page {
        title: format!("Logs of {}", view.job.status.name),
        head: html! {
            (job_head(&view, "/logs"))
            @if app.is_embedded {
                p.notice { "This program runs its job itself, and logs to its own standard error." }
            }
        },
        regions: vec![Region { id: "files", content: table(&files, app.clock.now()) }],
        foot: html! {},
        is_live: true,
    })
}

/// GET `/web/logs/:daemon/:name`.
pub async fn file(app: Shared, Path((daemon, name)): Path<(String, String)>) -> PageResult {
    make_of_file(&app, &daemon, &name).await
}

pub(super) async fn make_of_file(app: &App, daemon: &str, name: &str) -> PageResult {
    let part = app.client.log(of(daemon), name, None).await?;
    let text = String::from_utf8_lossy(&part.bytes);
    let all: Vec<&str> = text.lines().collect();
    let shown = &all[all.len().saturating_sub(LINES)..];
    let is_whole = part.offset == 0 && shown.len() == all.len();
    let route = match of(daemon) {
        None => format!("/jobmanager/logs/{name}"),
        Some(id) => format!("/taskmanagers/{id}/logs/{name}"),
    };
    let end = html! {
        p.quiet {
            (words::bytes(part.size_bytes))
            @if !is_whole { ", the last " (shown.len()) " lines" }
            ". " a href={ (route) "?from=0" } { "From the beginning, as text" }
        }
        @if shown.is_empty() { p.quiet { "Nothing yet." } }
        @else { pre.log tabindex="0" { (shown.join("\n")) } }
    };
    Ok(Page {
        title: name.to_owned(),
        head: html! { h1 { (name) } p { "On " a href={ "/web/logs/" (daemon) } { (daemon) } "." } },
        regions: vec![Region { id: "end", content: end }],
        foot: html! {},
        is_live: true,
    })
}

fn of(daemon: &str) -> Option<&str> {
    Some(daemon).filter(|daemon| *daemon != JOB_MANAGER)
}

fn table(files: &[(Option<String>, LogFile)], now: i64) -> Markup {
    if files.is_empty() {
        return html! { p.quiet { "There are none." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "File" } th scope="col" { "On" } th.number scope="col" { "Size" }
                th.number scope="col" { "Written last" }
            } }
            tbody { @for (of, file) in files { (row(of.as_deref().unwrap_or(JOB_MANAGER), file, now)) } }
        } }
    }
}

fn row(daemon: &str, file: &LogFile, now: i64) -> Markup {
    html! {
        tr {
            th scope="row" { a href={ "/web/logs/" (daemon) "/" (file.name) } { (file.name) } }
            td { (daemon) }
            td.number { (words::bytes(file.size_bytes)) }
            td.number { (words::duration((now - file.modified_at).max(0))) " ago" }
        }
    }
}

/// Whether a page of log files is meant by these parts of a path.
pub(super) async fn live(app: &App, parts: &[&str]) -> PageResult {
    match parts {
        [daemon] => make(app, daemon).await,
        [daemon, name @ ..] => make_of_file(app, daemon, &name.join("/")).await,
        [] => Err(ApiError::not_found("there is no such page").into()),
    }
}
