//! The programs that tests run as processes of their own: the examples, those that write made-up events to files, and
//! those that misbehave.

use hurtig::prelude::*;
use hurtig_examples::{flights, session_windows, word_count};
use hurtig_tests::events::{Event, events};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

fn main() -> ExitCode {
    hurtig::run("program", |env, args| match args.split_first() {
        Some((name, rest)) if name == "word_count" => word_count::build(env, rest),
        Some((name, rest)) if name == "flights" => flights::build(env, rest),
        Some((name, rest)) if name == "events" => write_events(env, rest),
        Some((name, rest)) if name == "names" => write_names(env, rest),
        Some((name, rest)) if name == "sessions" => write_sessions(env, rest),
        Some((name, rest)) if name == "marked" => write_marked(env, rest),
        Some((name, rest)) if name == "abort" => abort(env, rest),
        Some((name, _)) if name == "changing" => {
            change(env);
            Ok(())
        }
        Some((name, _)) if name == "nothing" => Ok(()),
        _ => Err("name a program".into()),
    })
}

/// Writes the running count of each key: `events FOLDER COUNT PER_SECOND`.
fn write_events(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second] = args else { return Err("folder, count and events per second".into()) };
    events(env, "events", count.parse()?, per_second.parse()?)
        .key_by(|event: &Event| event.key)
        .count()
        .uid("counts")
        .sink_to(FileSink::csv(folder))
        .uid("files");
    Ok(())
}

#[derive(Clone, Serialize, Deserialize)]
struct Named {
    id: u32,
    name: String,
}

/// Writes the names in JSON lines: `names INPUT FOLDER`.
fn write_names(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [input, folder] = args else { return Err("input and folder".into()) };
    env.from_source(FileSource::json_lines::<Named>(input), WatermarkStrategy::none(), "names")
        .map(|named| format!("{} {}", named.id, named.name))
        .sink_to(FileSink::text(folder));
    Ok(())
}

/// Writes the sessions of the example: `sessions FOLDER COUNT`.
fn write_sessions(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count] = args else { return Err("folder and count".into()) };
    session_windows::sessions(&session_windows::clicks(env, count.parse()?))
        .sink_to(FileSink::csv(folder))
        .uid("files");
    Ok(())
}

/// Writes texts with a word in each: `marked FOLDER COUNT PER_SECOND WORD`.
fn write_marked(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second, word] = args else {
        return Err("folder, count, events per second and word".into());
    };
    // Not one of the program's arguments, which the cluster is told as well.
    let word = word.to_uppercase();
    events(env, "events", count.parse()?, per_second.parse()?)
        .map(move |event| (event.key, format!("{word} {}", event.n)))
        .key_by(|(key, _)| *key)
        .reduce(|_, newer| newer)
        .uid("newest")
        .map(|(_, text)| text)
        .sink_to(FileSink::text(folder))
        .uid("files");
    Ok(())
}

/// Ends the process that sees a certain event: `abort NUMBER`.
fn abort(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [number] = args else { return Err("number of the event".into()) };
    let number: u64 = number.parse()?;
    events(env, "events", u64::MAX, 1_000.0).key_by(|event: &Event| event.key).count().for_each(
        move |(_, count)| {
            if count == number {
                std::process::abort()
            }
        },
    );
    Ok(())
}

/// Builds another graph in each process.
fn change(env: &Environment) {
    let uid = format!("process-{}", std::process::id());
    events(env, "events", 10, 1_000.0).map(|event| event.n).uid(&uid).print();
}
