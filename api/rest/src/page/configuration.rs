//! Configuration: of the JobManager, of a job.

use super::{Page, PageResult, job_head};
use crate::app::Shared;
use crate::handlers::cluster::shown;
use axum::extract::Path;
use maud::{Markup, html};

/// GET `/web/configuration`.
pub async fn of_cluster(app: Shared) -> PageResult {
    let settings = app.client.config().await?;
    let head = html! { h1 { "Configuration" } (table(&settings)) };
    Ok(Page { title: "Configuration".into(), head, regions: Vec::new(), foot: html! {}, is_live: false })
}

/// GET `/web/jobs/:job/configuration`.
pub async fn of_job(app: Shared, Path(id): Path<String>) -> PageResult {
    let view = app.view(&id).await?;
    let head = html! {
        (job_head(&view, "/configuration"))
        @if let Some(call) = &view.job.call {
            h2 { "Program" }
            dl.plain {
                dt { "File" } dd { code { (call.file_name) } }
                dt { "SHA-256" } dd { code { (call.program) } }
                dt { "Arguments" } dd {
                    @if call.args.is_empty() { span.quiet { "none" } } @else { code { (call.args.join(" ")) } }
                }
            }
        }
        h2 { "Settings" }
        (table(&view.job.seen.settings))
        h2 { "Graph" }
        p { (view.job.graph.max_parallelism) " key groups, " (view.job.graph.slots) " slots." }
    };
    let title = format!("Configuration of {}", view.job.status.name);
    Ok(Page { title, head, regions: Vec::new(), foot: html! {}, is_live: false })
}

fn table(settings: &[(String, String)]) -> Markup {
    html! {
        @if settings.is_empty() { p.quiet { "All keys have their defaults: " code { "hurtig config" } " lists them." } } @else {
            p.quiet { "What is not as by default; " code { "hurtig config" } " lists all keys." }
            div.scroll { table {
                thead { tr { th scope="col" { "Key" } th scope="col" { "Value" } } }
                tbody { @for (key, value) in settings {
                    tr { th scope="row" { code { (key) } } td { code { (shown(key, value.clone())) } } }
                } }
            } }
        }
    }
}
