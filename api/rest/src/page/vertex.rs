//! A vertex: its subtasks beside each other, so that one that has more to do than others is seen.

use super::{Page, PageResult, Region, badge, chart, job_head, words};
use crate::app::{App, Shared};
use crate::error::ApiError;
use crate::view::{SubtaskView, View, subtask_state};
use axum::extract::Path;
use hurtig_runtime::report::SubtaskReport;
use maud::{Markup, html};

/// GET `/web/jobs/:job/vertices/:vertex`.
pub async fn page(app: Shared, Path((job, vertex)): Path<(String, String)>) -> PageResult {
    make(&app, &job, &vertex).await
}

pub(super) async fn make(app: &App, job: &str, vertex: &str) -> PageResult {
    let view = app.view(job).await?;
    let at = view.vertex(vertex).ok_or_else(|| ApiError::not_found("the job has no such vertex"))?;
    let name = words::name(&view.summary(at).name);
    Ok(Page {
        head: html! { (job_head(&view, "/vertices")) h2.wrap { (name) } },
        title: name,
        regions: vec![
            Region { id: "numbers", content: numbers(&view, at) },
            Region { id: "subtasks", content: subtasks(&view, at) },
        ],
        foot: html! {},
        is_live: true,
    })
}

/// Columns that have something to tell.
#[derive(Clone, Copy)]
struct Shown {
    bytes: bool,
    late: bool,
}

fn taken(subtask: &SubtaskView<'_>) -> u64 {
    subtask.seen.map_or(0, |seen| seen.report.records_in() + seen.report.records_read())
}

fn numbers(view: &View, vertex: usize) -> Markup {
    let rates = view.rates(vertex);
    let all: Vec<f64> = view.subtasks(vertex).map(|subtask| taken(&subtask) as f64).collect();
    let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
    let most = all.iter().copied().fold(0.0, f64::max);
    html! {
        dl.numbers {
            div { dt { "State" } dd { (badge(subtask_state(view.state(vertex)))) } }
            div { dt { "Subtasks" } dd { (view.summary(vertex).parallelism) } }
            div { dt { "Busiest" } dd { (words::percent(rates.busy)) } }
            div { dt { "Backpressured most" } dd { (words::percent(rates.backpressured)) } }
            div { dt { "Taken in" } dd { (words::rate(rates.records_in + rates.records_read)) small { "/s" } } }
            @if mean > 0.0 && all.len() > 1 {
                div { dt { "Skew" } dd { (format!("{:.2}", most / mean)) small { " × the mean" } } }
            }
        }
    }
}

fn subtasks(view: &View, vertex: usize) -> Markup {
    let most = view.subtasks(vertex).map(|subtask| taken(&subtask)).max().unwrap_or_default().max(1);
    let any = |of: fn(&SubtaskReport) -> u64| {
        view.subtasks(vertex).any(|subtask| subtask.seen.is_some_and(|seen| of(&seen.report) > 0))
    };
    let shown = Shown {
        bytes: any(|report| report.bytes_in + report.bytes_out),
        late: any(SubtaskReport::late_dropped),
    };
    html! {
        h3 { "Subtasks" }
        div.scroll { table {
            thead { tr {
                th.number scope="col" { "No." } th scope="col" { "State" } th scope="col" { "Busy, backpressured" }
                th scope="col" { "Records in" } th.number scope="col" { "In/s" } th.number scope="col" { "Records out" }
                th.number scope="col" { "Out/s" } @if shown.bytes { th.number scope="col" { "Bytes in" } th.number scope="col" { "Bytes out" } }
                th.number scope="col" { "Queued" } @if shown.late { th.number scope="col" { "Late" } }
                th scope="col" { "Watermark (UTC)" }
                th.number scope="col" { "Attempt" } th scope="col" { "TaskManager" }
            } }
            tbody { @for subtask in view.subtasks(vertex) { (row(view, &subtask, most, shown)) } }
        } }
    }
}

fn row(view: &View, subtask: &SubtaskView<'_>, most: u64, shown: Shown) -> Markup {
    let (rates, records) = (subtask.rates, taken(subtask));
    let Some(seen) = subtask.seen else {
        return html! { tr { th.number scope="row" { (subtask.index) } td colspan="13" { (badge(subtask_state(subtask.state))) } } };
    };
    let report = &seen.report;
    html! {
        tr {
            th.number scope="row" { (subtask.index) }
            td { (badge(subtask_state(subtask.state))) }
            td.share { (chart::bar(rates.busy, rates.backpressured)) span { (words::percent(rates.busy)) ", " (words::percent(rates.backpressured)) } }
            td.share {
                svg.bar viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true" {
                    rect.idle x="0" y="0" width="100" height="8" {}
                    rect.amount x="0" y="0" width=(format!("{:.1}", records as f64 / most as f64 * 100.0)) height="8" {}
                }
                span { (words::count(records as f64)) }
            }
            td.number { (words::rate(rates.records_in + rates.records_read)) }
            td.number { (words::count(report.records_out as f64)) }
            td.number { (words::rate(rates.records_out)) }
            @if shown.bytes {
                td.number { (words::bytes(report.bytes_in)) }
                td.number { (words::bytes(report.bytes_out)) }
            }
            td.number { (report.queued_batches) }
            @if shown.late { td.number { (words::count(report.late_dropped() as f64)) } }
            td { (words::watermark(report.input_watermark)) }
            td.number { (seen.attempt.0) }
            td { (view.place(seen).1) }
        }
    }
}
