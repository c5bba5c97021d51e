//! A program that was started as part of a cluster: it builds the same job as when run by hand, and takes its part.

use crate::args::parse_onto;
use crate::program::{LogTo, configured, runtime, start_logging};
use hurtig_dataflow::BoxError;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::JobId;
use hurtig_datastream::Environment;
use hurtig_runtime::Config;
use hurtig_runtime::cluster::rescaled_job_graph;
use hurtig_runtime::machine::Machine;
use hurtig_runtime::process::{Built, allow_large_pages, child, master, worker};
use hurtig_runtime::protocol::{Assignment, GraphSummary, Plan, Rescaled, RoleSpec};
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// Takes the part that is assigned to this process.
pub(crate) fn take(
    assignment: Assignment,
    name: &str,
    build: impl FnOnce(&Environment, &[String]) -> Result<(), BoxError>,
) -> ExitCode {
    // The daemon that has started this process does without.
    allow_large_pages(true);
    let built = build_graph(&assignment, name, build);
    let result = match (&assignment.role, built) {
        (RoleSpec::Plan(path), built) => {
            let usable = |Built { graph, config, .. }: Built| {
                on_runtime(can_store_checkpoints(assignment.job, &config)).map(|()| GraphSummary::new(&graph))
            };
            let plan: Plan = built.and_then(usable);
            write_plan(path, &plan).map_err(|error| format!("{} cannot be written: {error}", path.display()))
        }
        (_, Err(reason)) => Err(reason),
        (RoleSpec::Master(spec), Ok(built)) => {
            on_runtime(master::run(&assignment, spec.clone(), built, Machine::Real))
        }
        (RoleSpec::Worker(spec), Ok(built)) => {
            // Nobody else would end this process.
            let watched = child::when_parent_dies(|| std::process::exit(1));
            watched.map_err(|error| error.to_string()).and_then(|()| {
                on_runtime(async {
                    let why = worker::run(&assignment, spec.clone(), built, Machine::Real).await?;
                    tracing::info!("the worker ends: {why}");
                    Ok(())
                })
            })
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn on_runtime(part: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = runtime().map_err(|error| error.to_string())?;
    let result = runtime.block_on(part);
    // A blocking read that never returns must not hold the process.
    runtime.shutdown_background();
    result
}

/// Whoever submits the job is to hear of a place that cannot be used, not its log.
async fn can_store_checkpoints(job: JobId, config: &Config) -> Result<(), String> {
    if config.checkpoint.interval.is_none() {
        return Ok(());
    }
    worker::store_of(config, job)?.probe().await.map_err(|error| describe(&error))
}

fn build_graph(
    assignment: &Assignment,
    name: &str,
    build: impl FnOnce(&Environment, &[String]) -> Result<(), BoxError>,
) -> Result<Built, String> {
    let call = &assignment.call;
    let sources = call.defines.iter().fold(Config::builder(), |builder, define| builder.flag(define));
    let args = std::iter::once(call.file_name.as_str()).chain(call.args.iter().map(String::as_str));
    let parsed = parse_onto(sources, args.map(OsString::from)).map_err(|error| error.sentence())?;
    let (config, own, _) = parsed;
    start_logging(&config.log, LogTo::StandardError).map_err(|error| error.to_string())?;
    let env = Environment::new();
    build(&env, &own).map_err(|error| describe(&*error))?;
    let config = configured(&env, &config);
    if config.checkpoint.interval.is_some() && config.checkpoint.dir.is_none() {
        return Err("the job takes checkpoints and 'checkpoint.dir' is not set: on a cluster they cannot lie in the memory of a process; name a folder that all machines share (--checkpoint-dir)".into());
    }
    let plan = {
        let (name, stream, config) = (name.to_string(), env.graph(), config.clone());
        move |rescaled: Option<&Rescaled>| {
            rescaled_job_graph(&name, &stream, &config, rescaled).map_err(|error| describe(&error))
        }
    };
    let graph = plan(call.rescaled.as_ref())?;
    Ok(Built { graph, config, replan: Arc::new(move |rescaled| plan(Some(rescaled))) })
}

/// The file is there whole or not at all.
fn write_plan(path: &Path, plan: &Plan) -> std::io::Result<()> {
    let unfinished = path.with_extension("unfinished");
    std::fs::write(&unfinished, rmp_serde::to_vec_named(plan).map_err(std::io::Error::other)?)?;
    std::fs::rename(&unfinished, path)
}
