//! What the buttons of a job's page do. Each leads back to the page, which shows what comes of it.

use super::PageError;
use crate::app::{App, Shared};
use crate::handlers::checkpoints::request_savepoint;
use crate::operations::Kind;
use axum::extract::{Form, Path};
use axum::response::Redirect;
use hurtig_dataflow::error::describe;
use serde::Deserialize;
use std::sync::Arc;

/// Where a savepoint goes.
#[derive(Deserialize)]
pub struct Target {
    #[serde(default)]
    target: String,
}

fn back(job: &str) -> Redirect {
    Redirect::to(&format!("/web/jobs/{job}"))
}

/// POST `/web/jobs/:job/cancel`.
pub async fn cancel(app: Shared, Path(job): Path<String>) -> Result<Redirect, PageError> {
    app.client.cancel(App::job_id(&job)?).await?;
    Ok(back(&job))
}

/// POST `/web/jobs/:job/savepoint`.
pub async fn savepoint(
    app: Shared,
    Path(job): Path<String>,
    Form(target): Form<Target>,
) -> Result<Redirect, PageError> {
    request_savepoint(&app, App::job_id(&job)?, Some(target.target.trim().into()), false, None);
    Ok(back(&job))
}

/// The parallelism that is wanted.
#[derive(Deserialize)]
pub struct Parallelism {
    parallelism: usize,
}

/// POST `/web/jobs/:job/rescale`.
pub async fn rescale(
    app: Shared,
    Path(job): Path<String>,
    Form(Parallelism { parallelism }): Form<Parallelism>,
) -> Result<Redirect, PageError> {
    let id = App::job_id(&job)?;
    let (request, _) = app.operations.begin(Kind::Rescale, id, None);
    let (app, tasks) = (Arc::clone(&app.0), app.tasks.clone());
    tasks.spawn(async move {
        let done = app.client.rescale(id, Some(parallelism), Vec::new()).await;
        let outcome = done.map(|_| parallelism.to_string()).map_err(|error| describe(&error));
        app.operations.end(id, &request, outcome);
    });
    Ok(back(&job))
}

/// POST `/web/jobs/:job/stop`.
pub async fn stop(
    app: Shared,
    Path(job): Path<String>,
    Form(target): Form<Target>,
) -> Result<Redirect, PageError> {
    request_savepoint(&app, App::job_id(&job)?, Some(target.target.trim().into()), true, None);
    Ok(back(&job))
}
