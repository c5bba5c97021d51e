//! All routes, one a line.

use crate::app::App;
use crate::error::ApiError;
use crate::handlers::{checkpoints, cluster, jobs, logs, metrics, profile, programs, vertices};
use crate::{live, page, static_files};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::Method;
use axum::routing::{MethodRouter, delete, get, patch, post, put};
use std::sync::Arc;

type Route = MethodRouter<Arc<App>>;

/// The longest body of a request that is no upload.
const MAX_BODY_BYTES: usize = 1 << 20;

fn job_routes() -> Vec<(&'static str, Route)> {
    vec![
        ("/jobs", get(jobs::jobs)),
        ("/jobs/overview", get(jobs::overview)),
        ("/jobs/{job}", get(jobs::job).merge(patch(jobs::cancel))),
        ("/jobs/{job}/plan", get(jobs::plan)),
        ("/jobs/{job}/status", get(jobs::status)),
        ("/jobs/{job}/config", get(jobs::config)),
        ("/jobs/{job}/exceptions", get(jobs::exceptions)),
        ("/jobs/{job}/accumulators", get(jobs::accumulators)),
        ("/jobs/{job}/metrics", get(metrics::job)),
        ("/jobs/{job}/resource-requirements", get(jobs::resource_requirements).merge(put(jobs::rescale))),
        ("/jobs/{job}/rescales/{*part}", get(jobs::rescales_part)),
        ("/jobs/{job}/stop", post(checkpoints::stop)),
        ("/jobs/{job}/savepoints", post(checkpoints::trigger_savepoint)),
        ("/jobs/{job}/savepoints/{trigger}", get(checkpoints::savepoint_status)),
        ("/jobs/{job}/checkpoints", get(checkpoints::checkpoints).merge(post(checkpoints::not_by_hand))),
        ("/jobs/{job}/checkpoints/config", get(checkpoints::config)),
        ("/jobs/{job}/checkpoints/details/{checkpoint}", get(checkpoints::details)),
        ("/jobs/{job}/checkpoints/details/{checkpoint}/subtasks/{vertex}", get(checkpoints::subtasks)),
    ]
}

fn vertex_routes() -> Vec<(&'static str, Route)> {
    vec![
        ("/jobs/{job}/vertices/{vertex}", get(vertices::vertex)),
        ("/jobs/{job}/vertices/{vertex}/backpressure", get(vertices::backpressure)),
        ("/jobs/{job}/vertices/{vertex}/watermarks", get(vertices::watermarks)),
        ("/jobs/{job}/vertices/{vertex}/subtasktimes", get(vertices::subtask_times)),
        ("/jobs/{job}/vertices/{vertex}/taskmanagers", get(vertices::taskmanagers)),
        ("/jobs/{job}/vertices/{vertex}/accumulators", get(vertices::accumulators)),
        ("/jobs/{job}/vertices/{vertex}/flamegraph", get(profile::of_vertex)),
        ("/jobs/{job}/vertices/{vertex}/metrics", get(metrics::vertex)),
        ("/jobs/{job}/vertices/{vertex}/subtasks/metrics", get(metrics::subtasks)),
        ("/jobs/{job}/vertices/{vertex}/subtasks/accumulators", get(vertices::subtask_accumulators)),
        ("/jobs/{job}/vertices/{vertex}/subtasks/{index}", get(vertices::subtask)),
        ("/jobs/{job}/vertices/{vertex}/subtasks/{index}/metrics", get(metrics::subtask)),
        ("/jobs/{job}/vertices/{vertex}/subtasks/{index}/attempts/{attempt}", get(vertices::attempt)),
    ]
}

fn cluster_routes() -> Vec<(&'static str, Route)> {
    vec![
        ("/overview", get(cluster::overview)),
        ("/config", get(cluster::config)),
        ("/applications/overview", get(cluster::applications)),
        ("/taskmanagers", get(cluster::taskmanagers)),
        ("/taskmanagers/{id}", get(cluster::taskmanager)),
        ("/taskmanagers/{id}/metrics", get(metrics::taskmanager)),
        ("/jobmanager/config", get(cluster::jobmanager_config)),
        ("/jobmanager/environment", get(cluster::jobmanager_environment)),
        ("/jobmanager/metrics", get(metrics::jobmanager)),
        ("/jobmanager/logs", get(logs::of_jobmanager)),
        ("/jobmanager/logs/{*name}", get(logs::part_of_jobmanager)),
        ("/jobmanager/log", get(logs::jobmanagers_own)),
        ("/jobmanager/stdout", get(logs::jobmanager_outputs)),
        ("/taskmanagers/{id}/logs", get(logs::of_taskmanager)),
        ("/taskmanagers/{id}/logs/{*name}", get(logs::part_of_taskmanager)),
        ("/taskmanagers/{id}/log", get(logs::taskmanagers_own)),
        ("/taskmanagers/{id}/stdout", get(logs::taskmanager_outputs)),
        ("/metrics", get(metrics::prometheus)),
        ("/savepoint-disposal", post(checkpoints::not_by_hand)),
    ]
}

fn program_routes(under: &str) -> Vec<(String, Route)> {
    let upload = post(programs::upload).layer(DefaultBodyLimit::disable());
    let plan = get(programs::not_done).merge(post(programs::not_done));
    vec![
        (under.to_string(), get(programs::programs)),
        (format!("{under}/upload"), upload),
        (format!("{under}/{{id}}"), delete(programs::not_done)),
        (format!("{under}/{{id}}/run"), post(programs::run)),
        (format!("{under}/{{id}}/plan"), plan),
    ]
}

fn page_routes() -> Vec<(&'static str, Route)> {
    let upload = post(page::submit::upload).layer(DefaultBodyLimit::disable());
    vec![
        ("/web/jobs/{job}", get(page::job::page)),
        ("/web/jobs/{job}/vertices/{vertex}", get(page::vertex::page)),
        ("/web/jobs/{job}/checkpoints", get(page::checkpoints::page)),
        ("/web/jobs/{job}/exceptions", get(page::exceptions::page)),
        ("/web/jobs/{job}/logs", get(page::logs::of_job)),
        ("/web/jobs/{job}/profile", get(page::profile::page)),
        ("/web/logs/{daemon}", get(page::logs::of_daemon)),
        ("/web/logs/{daemon}/{*name}", get(page::logs::file)),
        ("/web/jobs/{job}/configuration", get(page::configuration::of_job)),
        ("/web/jobs/{job}/cancel", post(page::actions::cancel)),
        ("/web/jobs/{job}/savepoint", post(page::actions::savepoint)),
        ("/web/jobs/{job}/rescale", post(page::actions::rescale)),
        ("/web/jobs/{job}/stop", post(page::actions::stop)),
        ("/web/taskmanagers", get(page::taskmanagers::page)),
        ("/web/configuration", get(page::configuration::of_cluster)),
        ("/web/submit", get(page::submit::page)),
        ("/web/submit/upload", upload),
        ("/web/submit/run", post(page::submit::run)),
        ("/web/login", get(page::login::page).merge(post(page::login::enter))),
        ("/web/live", get(live::events)),
        ("/web/style.css", get(static_files::style)),
        ("/web/live.js", get(static_files::script)),
        ("/favicon.ico", get(static_files::icon)),
        ("/web/icon.svg", get(static_files::icon)),
    ]
}

/// The routes that answer in JSON.
fn api() -> Router<Arc<App>> {
    let mut router = Router::new();
    for (path, route) in job_routes().into_iter().chain(vertex_routes()).chain(cluster_routes()) {
        router = router.route(path, route);
    }
    for (path, route) in ["/jars", "/programs"].into_iter().flat_map(program_routes) {
        router = router.route(&path, route);
    }
    router
}

/// All routes.
pub fn all(app: Arc<App>) -> Router {
    let mut router = api().nest("/v1", api());
    for (path, route) in page_routes() {
        router = router.route(path, route);
    }
    router = match &app.web_dir {
        Some(_) => router.route("/", get(static_files::file)).fallback(static_files::file),
        None => router.route("/", get(page::overview::page)).fallback(nothing),
    };
    router
        .method_not_allowed_fallback(wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(app)
}

async fn nothing() -> ApiError {
    ApiError::not_found("there is nothing here")
}

async fn wrong_method(method: Method) -> ApiError {
    let status = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    ApiError::new(status, format!("{method} is not what this address takes"))
}
