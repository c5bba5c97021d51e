//! Checkpoints of a job: how many, how large, how long, and why some failed.

use super::{Page, PageResult, Region, badge, job_head, words};
use crate::app::{App, Shared};
use crate::view::View;
use axum::extract::Path;
use hurtig_runtime::observe::checkpoints::{
    CheckpointBook, CheckpointKind, CheckpointRecord, CheckpointState,
};
use maud::{Markup, html};

/// What a checkpoint that is over sooner consists of need not be shown while it is under way.
const LONG_MS: i64 = 2_000;

/// GET `/web/jobs/:job/checkpoints`.
pub async fn page(app: Shared, Path(id): Path<String>) -> PageResult {
    make(&app, &id).await
}

pub(super) async fn make(app: &App, id: &str) -> PageResult {
    let view = app.view(id).await?;
    let book = &view.job.seen.checkpoints;
    Ok(Page {
        title: format!("Checkpoints of {}", view.job.status.name),
        head: job_head(&view, "/checkpoints"),
        regions: vec![
            Region { id: "numbers", content: numbers(book) },
            Region { id: "progress", content: progress(&view) },
            Region { id: "summary", content: summary(book) },
            Region { id: "history", content: history(book, view.now) },
        ],
        foot: html! {},
        is_live: true,
    })
}

fn numbers(book: &CheckpointBook) -> Markup {
    html! {
        dl.numbers {
            div { dt { "Triggered" } dd { (book.triggered) } }
            div { dt { "Under way" } dd { (book.in_progress()) } }
            div { dt { "Completed" } dd { (book.completed) } }
            div { dt { "Failed" } dd { (book.failed) } }
            div { dt { "Restored" } dd { (book.restored) } }
        }
        @if let Some(restored) = &book.last_restored {
            p { "The present attempt began from checkpoint " (restored.id) " at " (words::time(restored.at)) ": " code { (restored.location) } }
        }
        @if let Some(savepoint) = &book.last_savepoint {
            @if let Some(location) = &savepoint.location {
                p { "Last savepoint, of " (words::time(savepoint.triggered_at)) ": " code { (location) } }
            }
        }
    }
}

/// Whether there is time to look at a checkpoint while it is under way.
fn takes_long(record: &CheckpointRecord, now: i64) -> bool {
    record.state == CheckpointState::InProgress && now - record.triggered_at > LONG_MS
}

fn progress(view: &View) -> Markup {
    let book = &view.job.seen.checkpoints;
    html! {
        @for record in book.records.iter().filter(|record| takes_long(record, view.now)) {
            h2 { "Under way: " (record.id) }
            ul.progress { @for (vertex, part) in &record.vertices {
                @if let Some(summary) = view.job.graph.vertices.get(*vertex) {
                    li {
                        label { span { (words::name(&summary.name)) } " "
                            progress max=(part.subtasks) value=(part.acknowledged) {}
                            " " (part.acknowledged) "/" (part.subtasks)
                        }
                    }
                }
            } }
        }
    }
}

fn summary(book: &CheckpointBook) -> Markup {
    if book.measures.is_empty() {
        return html! { p.quiet { "No checkpoint is complete yet." } };
    }
    let sorted = |of: fn(&hurtig_runtime::observe::checkpoints::Measures) -> i64| {
        let mut values: Vec<i64> = book.measures.iter().map(of).collect();
        values.sort_unstable();
        values
    };
    type Row = (&'static str, Vec<i64>, fn(i64) -> String);
    let rows: [Row; 4] = [
        ("Duration", sorted(|measures| measures.duration_ms), words::duration),
        ("Longest alignment", sorted(|measures| measures.alignment_ms), words::duration),
        ("Size", sorted(|measures| measures.bytes as i64), |bytes| words::bytes(bytes.max(0) as u64)),
        ("Written", sorted(|measures| measures.written_bytes as i64), |bytes| {
            words::bytes(bytes.max(0) as u64)
        }),
    ];
    let at = |values: &[i64], share: f64| {
        values[((values.len() as f64 * share).ceil() as usize).clamp(1, values.len()) - 1]
    };
    html! {
        h2 { "Summary of the last " (book.measures.len()) }
        div.scroll { table {
            thead { tr {
                th scope="col" { "" } th.number scope="col" { "Least" } th.number scope="col" { "Median" }
                th.number scope="col" { "90 %" } th.number scope="col" { "99 %" } th.number scope="col" { "Most" }
            } }
            tbody { @for (name, values, show) in &rows {
                tr {
                    th scope="row" { (name) }
                    @for share in [0.0, 0.5, 0.9, 0.99, 1.0] { td.number { (show(at(values, share))) } }
                }
            } }
        } }
    }
}

fn history(book: &CheckpointBook, now: i64) -> Markup {
    html! {
        h2 { "History" }
        @if book.records.is_empty() { p.quiet { "No checkpoint was triggered." } } @else {
            div.scroll { table {
                thead { tr {
                    th.number scope="col" { "No." } th scope="col" { "Kind" } th scope="col" { "State" }
                    th scope="col" { "Triggered (UTC)" } th.number scope="col" { "Duration" }
                    th.number scope="col" { "Subtasks" } th.number scope="col" { "Alignment" }
                    th.number scope="col" { "Overtaken" }
                    th.number scope="col" { "Size" } th.number scope="col" { "Written" } th scope="col" { "Where, or why not" }
                } }
                tbody { @for record in &book.records { (row(record, now)) } }
            } }
        }
    }
}

fn row(record: &CheckpointRecord, now: i64) -> Markup {
    let (kind, state) = (
        match record.kind {
            CheckpointKind::Checkpoint => "checkpoint",
            CheckpointKind::Savepoint => "savepoint",
            CheckpointKind::StoppingSavepoint => "stopping savepoint",
        },
        match record.state {
            CheckpointState::InProgress => "UNDER WAY",
            CheckpointState::Completed => "COMPLETED",
            CheckpointState::Failed => "FAILED",
        },
    );
    let is_open = record.state == CheckpointState::InProgress;
    let duration = if is_open { now - record.triggered_at } else { record.duration_ms() };
    html! {
        tr {
            th.number scope="row" { (record.id) }
            td { (kind) }
            td { (badge(state)) }
            td { (words::time(record.triggered_at)) }
            td.number { (words::duration(duration)) }
            td.number { (record.acknowledged()) "/" (record.subtasks()) }
            td.number { (words::duration(record.alignment_ms)) }
            td.number { (words::bytes(record.in_flight_bytes)) }
            td.number { (words::bytes(record.bytes)) }
            td.number { (words::bytes(record.written_bytes)) }
            td.text {
                @if let Some(failure) = &record.failure { (failure) }
                @if record.is_discarded { span.quiet { "deleted: newer ones took its place" } }
                @else if let Some(location) = &record.location { code { (location) } }
            }
        }
    }
}
