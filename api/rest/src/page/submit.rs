//! Uploading a program and running it.

use super::{Page, PageError, PageResult, words};
use crate::app::Shared;
use crate::error::ApiError;
use crate::handlers::programs::{self, Program, RunBody};
use axum::extract::{Form, Multipart};
use axum::response::Redirect;
use maud::{Markup, html};
use serde::Deserialize;

/// GET `/web/submit`.
pub async fn page(app: Shared) -> PageResult {
    let programs = programs::list(&app).await?;
    let head = html! {
        h1 { "Submit a program" }
        @if app.is_embedded {
            p.notice { "This is a program that runs its own job and takes no others: start a cluster for that, with " code { "hurtig cluster" } "." }
        } @else {
            form.card method="post" action="/web/submit/upload" enctype="multipart/form-data" {
                h2 { "1. Upload" }
                label for="file" { "Program: a binary that calls " code { "hurtig::run" } ", built for the machines of the cluster" }
                input #file type="file" name="program" required;
                button type="submit" { "Upload" }
            }
            (run_form(&programs))
        }
    };
    Ok(Page { title: "Submit".into(), head, regions: Vec::new(), foot: html! {}, is_live: false })
}

fn run_form(programs: &[Program]) -> Markup {
    html! {
        form.card method="post" action="/web/submit/run" {
            h2 { "2. Run" }
            @if programs.is_empty() { p.quiet { "Nothing is uploaded yet." } } @else {
                label for="program" { "Program" }
                select #program name="program" {
                    @for program in programs {
                        option value=(program.id()) {
                            (program.name) " · " (words::bytes(program.size_bytes)) " · " (words::time(program.uploaded_at))
                            " · " (program.hash.get(..8).unwrap_or_default())
                        }
                    }
                }
                div.row {
                    div {
                        label for="parallelism" { "Parallelism" }
                        input #parallelism name="parallelism" type="number" min="1" max="32768" placeholder="as the program says";
                    }
                    div {
                        label for="interval" { "Checkpoint interval" }
                        input #interval name="interval" type="text" placeholder="10s";
                    }
                }
                label for="dir" { "Checkpoint folder, which all machines see" }
                input #dir name="dir" type="text" spellcheck="false";
                label for="arguments" { "Arguments of the program" }
                input #arguments name="arguments" type="text" spellcheck="false" autocomplete="off" placeholder="--rate 20000";
                label for="from" { "Restore from a checkpoint or savepoint" }
                input #from name="from" type="text" spellcheck="false";
                label.check { input type="checkbox" name="allow" value="true"; " leave behind state that no operator claims" }
                label for="settings" { "Further settings, one key=value a line" }
                textarea #settings name="settings" rows="3" spellcheck="false" {}
                button type="submit" { "Run" }
            }
        }
    }
}

/// POST `/web/submit/upload`.
pub async fn upload(app: Shared, form: Multipart) -> Result<Redirect, PageError> {
    programs::upload(app, form).await?;
    Ok(Redirect::to("/web/submit"))
}

/// The form of a program to run; what is empty is not said.
#[derive(Deserialize)]
pub struct RunForm {
    program: String,
    #[serde(default)]
    parallelism: String,
    #[serde(default)]
    interval: String,
    #[serde(default)]
    dir: String,
    #[serde(default)]
    arguments: String,
    #[serde(default)]
    from: String,
    allow: Option<String>,
    #[serde(default)]
    settings: String,
}

/// POST `/web/submit/run`.
pub async fn run(app: Shared, Form(form): Form<RunForm>) -> Result<Redirect, PageError> {
    let given = |text: &str| Some(text.trim().to_string()).filter(|text| !text.is_empty());
    let mut configuration = programs::pairs(&form.settings).map_err(ApiError::bad_request)?;
    let keys = [("checkpoint.interval", &form.interval), ("checkpoint.dir", &form.dir)];
    configuration.extend(keys.into_iter().filter_map(|(key, value)| Some((key.to_string(), given(value)?))));
    let parallelism = given(&form.parallelism).map(|text| text.parse::<usize>()).transpose();
    let body = RunBody {
        program_args: given(&form.arguments),
        parallelism: parallelism.map_err(|_| ApiError::bad_request("parallelism is a number"))?,
        savepoint_path: given(&form.from),
        allow_non_restored_state: Some(form.allow.is_some()),
        configuration,
        ..RunBody::default()
    };
    let submitted = programs::submit(&app, &form.program, body).await?;
    Ok(Redirect::to(&format!("/web/jobs/{}", submitted.job)))
}
