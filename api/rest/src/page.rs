//! Pages, rendered here. A page is a frame with regions; [`live`](crate::live) sends a region again when it has changed.

pub mod actions;
pub mod chart;
pub mod checkpoints;
pub mod configuration;
pub mod exceptions;
pub mod graph;
pub mod job;
pub mod login;
pub mod logs;
pub mod overview;
pub mod profile;
pub mod submit;
pub mod taskmanagers;
pub mod vertex;
pub mod words;

use crate::app::App;
use crate::error::ApiError;
use crate::view::{View, job_state};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};

/// Part of a page that changes by itself.
pub struct Region {
    /// Its id within the page.
    pub id: &'static str,
    /// What is in it.
    pub content: Markup,
}

/// A page.
pub struct Page {
    /// What the browser's tab shows.
    pub title: String,
    /// What stands above the regions and does not change.
    pub head: Markup,
    /// What changes.
    pub regions: Vec<Region>,
    /// What stands below them and does not change.
    pub foot: Markup,
    /// Whether the regions are kept up to date.
    pub is_live: bool,
}

/// What a page's handler returns.
pub type PageResult = Result<Page, PageError>;

/// An error, shown as a page.
pub struct PageError(ApiError);

impl<E: Into<ApiError>> From<E> for PageError {
    fn from(error: E) -> Self {
        PageError(error.into())
    }
}

impl PageError {
    /// The sentence.
    pub fn into_api(self) -> ApiError {
        self.0
    }
}

impl IntoResponse for PageError {
    fn into_response(self) -> Response {
        let head = html! {
            h1 { "That did not work" }
            p.notice.bad role="alert" { (self.0.sentence) }
            p { a href="/" { "To the overview" } }
        };
        let page = Page { title: "Error".into(), head, regions: Vec::new(), foot: html! {}, is_live: false };
        (self.0.status, page).into_response()
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let headers =
            [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-store")];
        (StatusCode::OK, headers, frame(&self).into_string()).into_response()
    }
}

fn frame(page: &Page) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (page.title) " · hurtig" }
                link rel="icon" href="/web/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/web/style.css";
                @if page.is_live { script src="/web/live.js" defer {} }
            }
            body {
                a.skip href="#main" { "To the content" }
                header.top {
                    a.brand href="/" { "hurtig" }
                    nav aria-label="Main" {
                        a href="/" { "Overview" }
                        a href="/web/submit" { "Submit" }
                        a href="/web/taskmanagers" { "TaskManagers" }
                        a href="/web/configuration" { "Configuration" }
                    }
                    @if page.is_live { span #live-state .live role="status" { "as of when loaded" } }
                }
                main #main {
                    (page.head)
                    @for region in &page.regions { section id=(region.id) { (region.content) } }
                    (page.foot)
                }
            }
        }
    }
}

/// The heading of a job's pages, with links between them.
pub fn job_head(view: &View, here: &str) -> Markup {
    let id = view.job.status.id.to_string();
    let tab = |path: &str, name: &str| {
        let current = (path == here).then_some("page");
        html! { a href={ "/web/jobs/" (id) (path) } aria-current=[current] { (name) } }
    };
    html! {
        h1 { (view.job.status.name) }
        p.id { code { (id) } }
        nav.tabs aria-label="Job" {
            (tab("", "Graph")) (tab("/checkpoints", "Checkpoints")) (tab("/exceptions", "Exceptions"))
            (tab("/logs", "Logs")) (tab("/profile", "Flame graph")) (tab("/configuration", "Configuration"))
        }
    }
}

/// A state, as a badge.
pub fn badge(state: &str) -> Markup {
    let class = match state {
        "RUNNING" | "COMPLETED" => "good",
        "FINISHED" => "done",
        "FAILED" | "FAILING" => "bad",
        "CANCELED" | "CANCELLING" | "CANCELING" => "off",
        _ => "wait",
    };
    html! { span class={ "badge " (class) } { (state) } }
}

/// A job's state, as a badge.
pub fn job_badge(view: &View) -> Markup {
    badge(job_state(view.job.status.state))
}

/// Pages whose regions change by themselves, by their path.
///
/// # Errors
/// There is no such page, or it cannot be made.
pub async fn live_page(app: &App, path: &str) -> PageResult {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts.as_slice() {
        [""] => overview::make(app).await,
        ["web", "taskmanagers"] => taskmanagers::make(app).await,
        ["web", "jobs", job] => job::make(app, job).await,
        ["web", "jobs", job, "vertices", vertex] => vertex::make(app, job, vertex).await,
        ["web", "jobs", job, "checkpoints"] => checkpoints::make(app, job).await,
        ["web", "jobs", job, "logs"] => logs::make_of_job(app, job).await,
        ["web", "logs", daemon @ ..] => logs::live(app, daemon).await,
        ["web", "jobs", job, "exceptions"] => exceptions::make(app, job).await,
        _ => Err(ApiError::not_found("there is no such page").into()),
    }
}
