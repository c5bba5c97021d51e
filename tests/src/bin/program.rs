//! The programs that tests run as processes of their own: the examples, and one that writes made-up events to files.

use hurtig::prelude::*;
use hurtig_examples::{flights, word_count};
use hurtig_tests::events::{Event, events};
use serde::{Deserialize, Serialize};
use std::process::ExitCode;

fn main() -> ExitCode {
    hurtig::run("program", |env, args| match args.split_first() {
        Some((name, rest)) if name == "word_count" => word_count::build(env, rest),
        Some((name, rest)) if name == "flights" => flights::build(env, rest),
        Some((name, rest)) if name == "events" => write_events(env, rest),
        Some((name, rest)) if name == "names" => write_names(env, rest),
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
