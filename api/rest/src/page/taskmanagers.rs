//! TaskManagers: where they are, what they offer, what runs on them.

use super::{Page, PageResult, Region, words};
use crate::app::{App, Shared};
use crate::view::View;
use hurtig_runtime::protocol::TaskManagerSummary;
use maud::{Markup, html};

/// GET `/web/taskmanagers`.
pub async fn page(app: Shared) -> PageResult {
    make(&app).await
}

pub(super) async fn make(app: &App) -> PageResult {
    let (mut overview, views) = (app.client.overview().await?, app.views().await?);
    overview.task_managers.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(Page {
        title: "TaskManagers".into(),
        head: html! {
            h1 { "TaskManagers" }
            @if !app.is_embedded { p.quiet { "Names lead to logs; " a href="/web/logs/jobmanager" { "those of the JobManager" } "." } }
        },
        regions: vec![Region { id: "managers", content: table(&overview.task_managers, &views) }],
        foot: html! {},
        is_live: true,
    })
}

fn table(managers: &[TaskManagerSummary], views: &[View]) -> Markup {
    if managers.is_empty() {
        return html! { p.notice { "There is none, so that no job can run: start one with " code { "hurtig taskmanager" } "." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th scope="col" { "Name" } th scope="col" { "Address" } th scope="col" { "Slots used" }
                th.number scope="col" { "Cores" } th.number scope="col" { "Memory" } th scope="col" { "Jobs" }
            } }
            tbody { @for manager in managers { (row(manager, views)) } }
        } }
    }
}

fn row(manager: &TaskManagerSummary, views: &[View]) -> Markup {
    let jobs: Vec<_> = views
        .iter()
        .filter(|view| manager.workers.iter().any(|(job, _)| *job == view.job.status.id))
        .map(|view| (&view.job.status.name, view.job.status.id))
        .collect();
    let share = manager.used as f64 / manager.slots.max(1) as f64 * 100.0;
    html! {
        tr {
            th scope="row" {
                @if manager.address.is_empty() { (manager.name) }
                @else { a href={ "/web/logs/" (manager.name) } title="Logs" { (manager.name) } }
            }
            td { @if manager.address.is_empty() { "this process" } @else { (manager.address) } }
            td.share {
                svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    rect.idle x="0" y="0" width="100" height="8" {}
                    rect.amount x="0" y="0" width=(format!("{share:.0}")) height="8" {}
                }
                span { (manager.used) " of " (manager.slots) }
            }
            td.number { (manager.hardware.cores) }
            td.number { (words::bytes(manager.hardware.memory_bytes)) }
            td.text {
                @if jobs.is_empty() { span.quiet { "none" } }
                @for (at, (name, id)) in jobs.iter().enumerate() {
                    @if at > 0 { ", " }
                    a href={ "/web/jobs/" (id) } { (name) }
                }
            }
        }
    }
}
