//! The first page: slots, TaskManagers, jobs.

use super::{Page, PageResult, Region, job_badge, words};
use crate::app::{App, Shared};
use crate::view::View;
use hurtig_runtime::observe::subtasks::SubtaskState;
use hurtig_runtime::protocol::Overview;
use maud::{Markup, html};

/// GET `/`.
pub async fn page(app: Shared) -> PageResult {
    make(&app).await
}

pub(super) async fn make(app: &App) -> PageResult {
    let (overview, views) = (app.client.overview().await?, app.views().await?);
    let (ended, running): (Vec<_>, Vec<_>) =
        views.into_iter().partition(|view| view.job.status.state.is_terminal());
    Ok(Page {
        title: "Overview".into(),
        head: html! { h1 { "Overview" } },
        regions: vec![
            Region { id: "numbers", content: numbers(&overview, &running, &ended) },
            Region { id: "running", content: table("Running jobs", &running, "No job runs.") },
            Region { id: "ended", content: table("Ended jobs", &ended, "None yet.") },
        ],
        foot: html! {
            @if !app.is_embedded { p { a.button href="/web/submit" { "Submit a program" } } }
        },
        is_live: true,
    })
}

fn numbers(overview: &Overview, running: &[View], ended: &[View]) -> Markup {
    let slots: usize = overview.task_managers.iter().map(|manager| manager.slots).sum();
    let used: usize = overview.task_managers.iter().map(|manager| manager.used).sum();
    let failed =
        ended.iter().filter(|view| view.job.status.state == hurtig_runtime::JobState::Failed).count();
    let read: f64 = running
        .iter()
        .flat_map(|view| (0..view.job.graph.vertices.len()).map(|vertex| view.rates(vertex).records_read))
        .sum();
    html! {
        dl.numbers {
            div { dt { "Free slots" } dd { (slots - used) small { " of " (slots) } } }
            div { dt { "TaskManagers" } dd { (overview.task_managers.len()) } }
            div { dt { "Running jobs" } dd { (running.len()) } }
            div { dt { "Failed jobs" } dd { (failed) small { " of " (ended.len()) " ended" } } }
            div { dt { "Records read" } dd { (words::rate(read)) small { "/s" } } }
        }
    }
}

fn table(title: &str, views: &[View], none: &str) -> Markup {
    html! {
        h2 { (title) }
        @if views.is_empty() { p.quiet { (none) } } @else {
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Job" } th scope="col" { "State" } th scope="col" { "Started (UTC)" }
                    th.number scope="col" { "Duration" } th.number scope="col" { "Subtasks" }
                    th.number scope="col" { "Read" } th.number scope="col" { "Restarts" }
                    th.number scope="col" { "Checkpoints" }
                } }
                tbody { @for view in views { (row(view)) } }
            } }
        }
    }
}

fn row(view: &View) -> Markup {
    let status = &view.job.status;
    let counts = view.counts(None);
    let of = |state: SubtaskState| counts.get(&state).copied().unwrap_or_default();
    let all: usize = counts.values().sum();
    let now = of(SubtaskState::Running) + of(SubtaskState::Finished);
    let read: f64 = (0..view.job.graph.vertices.len()).map(|vertex| view.rates(vertex).records_read).sum();
    html! {
        tr {
            th scope="row" { a href={ "/web/jobs/" (status.id) } { (status.name) } }
            td { (job_badge(view)) }
            td { (words::time(status.started_at)) }
            td.number { (words::duration(view.duration_ms())) }
            td.number { @if status.state.is_terminal() { (all) } @else { (now) "/" (all) } }
            td.number { @if status.state.is_terminal() { "–" } @else { (words::rate(read)) "/s" } }
            td.number { (status.restarts) }
            td.number { (view.job.seen.checkpoints.completed.max(status.checkpoints_completed)) }
        }
    }
}
