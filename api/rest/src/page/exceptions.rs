//! What has failed in a job, and when.

use super::{Page, PageResult, Region, job_head, words};
use crate::app::{App, Shared};
use crate::view::View;
use axum::extract::Path;
use maud::{Markup, html};

/// GET `/web/jobs/:job/exceptions`.
pub async fn page(app: Shared, Path(id): Path<String>) -> PageResult {
    make(&app, &id).await
}

pub(super) async fn make(app: &App, id: &str) -> PageResult {
    let view = app.view(id).await?;
    Ok(Page {
        title: format!("Exceptions of {}", view.job.status.name),
        head: job_head(&view, "/exceptions"),
        regions: vec![Region { id: "failures", content: failures(&view) }],
        foot: html! {},
        is_live: true,
    })
}

fn failures(view: &View) -> Markup {
    let seen = &view.job.seen;
    html! {
        h2 { "Failures" }
        @if seen.failures.is_empty() {
            @match &view.job.status.failure {
                Some(failure) => { p.notice.bad { (failure) } }
                None => { p.quiet { "Nothing has failed." } }
            }
        }
        @for record in &seen.failures {
            article.failure {
                h3 { (words::name(&record.failure.place)) }
                p.quiet {
                    (words::time(record.at)) " UTC, attempt " (record.attempt.0)
                    @if let Some(manager) = record.worker.and_then(|worker| view.job.placed.get(&worker)) { ", on " (manager) }
                    @if record.failure.fatal { ", not to be tried again" }
                }
                pre { (record.failure.message) }
            }
        }
        @if seen.forgotten_failures > 0 { p.quiet { (seen.forgotten_failures) " older ones are forgotten." } }
    }
}
