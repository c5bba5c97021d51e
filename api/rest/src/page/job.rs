//! A job: its graph, its vertices, its rates, and what may be done with it.

use super::{Page, PageResult, Region, badge, chart, graph, job_badge, job_head, words};
use crate::app::{App, Shared};
use crate::operations::{Kind, Operation};
use crate::view::{View, subtask_state};
use axum::extract::Path;
use maud::{Markup, html};

/// GET `/web/jobs/:job`.
pub async fn page(app: Shared, Path(id): Path<String>) -> PageResult {
    make(&app, &id).await
}

pub(super) async fn make(app: &App, id: &str) -> PageResult {
    let view = app.view(id).await?;
    let operations = app.operations.of(view.job.status.id);
    Ok(Page {
        title: view.job.status.name.clone(),
        head: job_head(&view, ""),
        regions: vec![
            Region { id: "state", content: state(&view, &operations) },
            Region { id: "graph", content: graph::graph(&view) },
            Region { id: "charts", content: charts(&view) },
            Region { id: "vertices", content: vertices(&view) },
            Region { id: "rescales", content: rescales(&view) },
            Region { id: "autoscaler", content: autoscaler(&view) },
        ],
        foot: html! { @if !view.job.status.state.is_terminal() { (actions(&view)) } },
        is_live: true,
    })
}

fn state(view: &View, operations: &[Operation]) -> Markup {
    let status = &view.job.status;
    let last = status.last_checkpoint.as_ref();
    html! {
        dl.numbers {
            div { dt { "State" } dd { (job_badge(view)) } }
            div { dt { "Duration" } dd { (words::duration(view.duration_ms())) } }
            div { dt { "Restarts" } dd { (status.restarts) } }
            div { dt { "Checkpoints" } dd {
                (status.checkpoints_completed)
                @if status.checkpoints_failed > 0 { small { ", " (status.checkpoints_failed) " failed" } }
            } }
            @if let Some(last) = last {
                div { dt { "Last checkpoint" } dd { (words::bytes(last.bytes)) small { " in " (words::duration(last.duration_ms)) } } }
            }
            @if let Some(last) = status.rescales.last() {
                div { dt { "Pause of the last rescale" } dd { (words::duration(last.pause_ms)) } }
            }
            @if status.late_dropped() > 0 {
                div { dt { "Late, dropped" } dd { (words::count(status.late_dropped() as f64)) } }
            }
        }
        @if let Some(failure) = &status.failure {
            p.notice.bad role="alert" {
                strong { "Last failure: " } (failure) " "
                a href={ "/web/jobs/" (status.id) "/exceptions" } { "All failures" }
            }
        }
        @for operation in operations {
            @match (operation.kind, &operation.outcome) {
                (Kind::Savepoint, None) => { p.notice { "A savepoint is being taken." } }
                (Kind::Savepoint, Some(Ok(location))) => { p.notice.good { "Savepoint: " code { (location) } } }
                (Kind::Savepoint, Some(Err(sentence))) => { p.notice.bad { "No savepoint: " (sentence) } }
                (Kind::Rescale, None) => { p.notice { "The job is being rescaled." } }
                (Kind::Rescale, Some(Ok(parallelism))) => { p.notice.good { "Rescaled to parallelism " (parallelism) "." } }
                (Kind::Rescale, Some(Err(sentence))) => { p.notice.bad { "Not rescaled: " (sentence) } }
            }
        }
    }
}

fn charts(view: &View) -> Markup {
    let samples = &view.job.seen.samples;
    if samples.is_empty() {
        return html! {};
    }
    let edges = &view.job.graph.edges;
    let is_source = |vertex: usize| !edges.iter().any(|(_, to, _)| *to == vertex);
    let series = |of: &dyn Fn(&[hurtig_runtime::observe::rates::VertexRates]) -> f64| -> Vec<(i64, f64)> {
        samples.iter().map(|sample| (sample.at, of(&sample.vertices))).collect()
    };
    let read = series(&|vertices| {
        let sources = vertices.iter().enumerate().filter(|(vertex, _)| is_source(*vertex));
        sources.map(|(_, rates)| f64::from(rates.records_in)).sum()
    });
    let busy = series(&|vertices| vertices.iter().map(|rates| f64::from(rates.busy)).fold(0.0, f64::max));
    let pressed =
        series(&|vertices| vertices.iter().map(|rates| f64::from(rates.backpressured)).fold(0.0, f64::max));
    html! {
        div.charts {
            (chart::chart("Records read per second", &read, None, words::rate))
            (chart::chart("Busiest subtask", &busy, Some(1.0), words::percent))
            (chart::chart("Most backpressured subtask", &pressed, Some(1.0), words::percent))
        }
    }
}

fn vertices(view: &View) -> Markup {
    html! {
        h2 { "Vertices" }
        div.scroll { table {
            thead { tr {
                th scope="col" { "Vertex" } th scope="col" { "State" } th.number scope="col" { "Subtasks" }
                th scope="col" { "Busy, backpressured" } th.number scope="col" { "Records in" }
                th.number scope="col" { "Records out" } th.number scope="col" { "In/s" }
                th.number scope="col" { "Out/s" } th scope="col" { "Watermark (UTC)" }
            } }
            tbody { @for vertex in 0..view.job.graph.vertices.len() { (row(view, vertex)) } }
        } }
    }
}

fn row(view: &View, vertex: usize) -> Markup {
    let (summary, rates) = (view.summary(vertex), view.rates(vertex));
    let reports: Vec<_> = view.subtasks(vertex).filter_map(|subtask| Some(&subtask.seen?.report)).collect();
    let records_in: u64 = reports.iter().map(|report| report.records_in() + report.records_read()).sum();
    let records_out: u64 = reports.iter().map(|report| report.records_out).sum();
    let watermark = reports.iter().map(|report| report.input_watermark).min();
    html! {
        tr {
            th scope="row" {
                a href={ "/web/jobs/" (view.job.status.id) "/vertices/" (view.vertex_id(vertex)) } { (words::name(&summary.name)) }
            }
            td { (badge(subtask_state(view.state(vertex)))) }
            td.number { (summary.parallelism) }
            td.share { (chart::bar(rates.busy, rates.backpressured)) span { (words::percent(rates.busy)) ", " (words::percent(rates.backpressured)) } }
            td.number { (words::count(records_in as f64)) }
            td.number { (words::count(records_out as f64)) }
            td.number { (words::rate(rates.records_in + rates.records_read)) }
            td.number { (words::rate(rates.records_out)) }
            td { (watermark.map_or_else(|| "–".into(), words::watermark)) }
        }
    }
}

fn rescales(view: &View) -> Markup {
    let rescales = &view.job.status.rescales;
    html! {
        @if !rescales.is_empty() {
            h2 { "Rescaled" }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Done (UTC)" } th scope="col" { "Subtasks" } th.number scope="col" { "Pause" }
                    th.number scope="col" { "Workers kept" } th.number scope="col" { "Subtasks whose state stayed" }
                } }
                tbody { @for rescale in rescales.iter().rev() {
                    tr {
                        th scope="row" { (words::time(rescale.at)) }
                        td.text {
                            @for (at, (name, former, now)) in rescale.vertices.iter().enumerate() {
                                @if at > 0 { ", " }
                                (words::name(name)) " " (former) " → " (now)
                            }
                        }
                        td.number { (words::duration(rescale.pause_ms)) }
                        td.number { (rescale.workers.0) " of " (rescale.workers.1) }
                        td.number { (rescale.subtasks.0) " of " (rescale.subtasks.1) }
                    }
                } }
            } }
        }
    }
}

fn autoscaler(view: &View) -> Markup {
    let advice = &view.job.advice;
    html! {
        @if !advice.is_empty() {
            h2 { "Autoscaler" }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Looked (UTC)" } th scope="col" { "Vertex" } th.number scope="col" { "Subtasks" }
                    th.number scope="col" { "Wanted" } th.number scope="col" { "To process" }
                    th.number scope="col" { "Would be busy" } th scope="col" { "Outcome" }
                } }
                tbody { @for advice in advice { @for (at, vertex) in advice.vertices.iter().enumerate() {
                    tr {
                        @if at == 0 {
                            th scope="rowgroup" rowspan=(advice.vertices.len()) { (words::time(advice.at)) }
                        }
                        td { (words::name(&vertex.name)) }
                        td.number { (vertex.parallelism) }
                        td.number { @if vertex.wanted == vertex.parallelism { (vertex.wanted) } @else { strong { (vertex.wanted) } } }
                        td.number { (words::rate(vertex.demand)) }
                        td.number { (words::percent(vertex.utilization)) }
                        @if at == 0 { td.text rowspan=(advice.vertices.len()) { (advice.outcome) } }
                    }
                } } }
            } }
        }
    }
}

fn actions(view: &View) -> Markup {
    let to = |what: &str| format!("/web/jobs/{}/{what}", view.job.status.id);
    let folder = |id: &str| {
        html! {
            label for=(id) { "Folder " small { "(empty: the one of 'savepoint.dir')" } }
            input id=(id) name="target" type="text" autocomplete="off" spellcheck="false";
        }
    };
    html! {
        section.actions aria-label="What may be done" {
            details {
                summary { "Take a savepoint" }
                form method="post" action=(to("savepoint")) {
                    p { "State and positions of the job are stored, and the job goes on." }
                    (folder("savepoint-folder"))
                    button type="submit" { "Take a savepoint" }
                }
            }
            @if view.job.call.is_some() {
                details {
                    summary { "Rescale" }
                    form method="post" action=(to("rescale")) {
                        p { "The job takes a checkpoint and goes on from there with another number of subtasks, in all vertices for which its program says nothing else." }
                        label for="parallelism" { "Parallelism" }
                        input id="parallelism" name="parallelism" type="number" min="1" max=(view.job.graph.max_parallelism) required;
                        button type="submit" { "Rescale the job" }
                    }
                }
            }
            details {
                summary { "Stop with a savepoint" }
                form method="post" action=(to("stop")) {
                    p { "All output up to the savepoint is published, then the job ends. It goes on where it is run from the savepoint." }
                    (folder("stop-folder"))
                    button type="submit" { "Stop the job" }
                }
            }
            details {
                summary { "Cancel" }
                form method="post" action=(to("cancel")) {
                    p { "The job ends at once. What is not yet published is lost." }
                    button.danger type="submit" { "Cancel the job" }
                }
            }
        }
    }
}
