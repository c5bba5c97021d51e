//! The programs that tests run as processes of their own: the examples, those that write made-up events to files, and
//! those that misbehave.

use hurtig::dataflow::batch::Rows;
use hurtig::dataflow::operator::Place;
use hurtig::prelude::*;
use hurtig_examples::{enrichment, flights, late_data, session_windows, stock_alerts, word_count};
use hurtig_tests::benchmarks;
use hurtig_tests::events::{Event, events};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

fn main() -> ExitCode {
    hurtig::run("program", |env, args| match args.split_first() {
        Some((name, rest)) if name == "word_count" => word_count::build(env, rest),
        Some((name, rest)) if name == "flights" => flights::build(env, rest),
        Some((name, rest)) if name == "stock_alerts" => stock_alerts::build(env, rest),
        Some((name, rest)) if name == "late_data" => late_data::build(env, rest),
        Some((name, rest)) if name == "enrichment" => enrichment::build(env, rest),
        Some((name, rest)) if name == "events" => write_events(env, rest),
        Some((name, rest)) if name == "latest" => write_latest(env, rest),
        Some((name, rest)) if name == "names" => write_names(env, rest),
        Some((name, rest)) if name == "sessions" => write_sessions(env, rest),
        Some((name, rest)) if name == "marked" => write_marked(env, rest),
        Some((name, rest)) if name == "abort" => abort(env, rest),
        Some((name, rest)) if name == "slow" => write_slowly(env, rest),
        Some((name, rest)) if name == "groups" => write_from_two_groups(env, rest),
        Some((name, rest)) if name == "benchmark" => benchmark(env, rest),
        Some((name, rest)) if name == "resources" => write_with_resources(env, rest),
        Some((name, rest)) if name == "sleepy" => write_sleepily(env, rest),
        Some((name, rest)) if name == "in-memory" => stay_in_memory(env, rest),
        Some((name, _)) if name == "spin" => {
            spin(env);
            Ok(())
        }
        Some((name, _)) if name == "leak" => {
            leak(env);
            Ok(())
        }
        Some((name, rest)) if name == "disloyal" => differ_in(env, rest),
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

/// The same graph with other state: `latest FOLDER COUNT PER_SECOND`.
fn write_latest(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second] = args else { return Err("folder, count and events per second".into()) };
    events(env, "events", count.parse()?, per_second.parse()?)
        .key_by(|event: &Event| event.key)
        .aggregate(Max::of(|event: &Event| event.n.to_string()))
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

/// Writes the numbers of events, for each of which a subtask needs some time: `sleepy FOLDER PER_SECOND MILLISECONDS`.
fn write_sleepily(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, per_second, pause_ms] = args else {
        return Err("folder, events per second and milliseconds".into());
    };
    let pause = Duration::from_millis(pause_ms.parse()?);
    let slow = events(env, "events", u64::MAX / 2, per_second.parse()?).rebalance().map(move |event| {
        #[allow(clippy::disallowed_methods, reason = "it is to keep its subtask at work")]
        std::thread::sleep(pause);
        event.n.to_string()
    });
    slow.uid("sleepy").sink_to(FileSink::text(folder)).uid("files");
    Ok(())
}

/// Writes events whose snapshots take a while: `slow FOLDER COUNT PER_SECOND MILLISECONDS NOTES`. When a snapshot begins
/// there is a note of it, named after its attempt.
fn write_slowly(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second, pause_ms, notes] = args else {
        return Err("folder, count, events per second, milliseconds and a folder for notes".into());
    };
    std::fs::create_dir_all(notes)?;
    let stream = events(env, "events", count.parse()?, per_second.parse()?);
    stream.map(|event| event.n).uid("numbers").sink_to(FileSink::csv(folder)).uid("files");
    let slow = Slow { pause: Duration::from_millis(pause_ms.parse()?), notes: notes.into() };
    stream.filter(|_| false).uid("nothing").set_parallelism(1).sink_to(slow).uid("slow").set_parallelism(1);
    Ok(())
}

/// A sink that puts nothing anywhere, slowly.
struct Slow {
    pause: Duration,
    notes: PathBuf,
}

struct SlowWriter {
    pause: Duration,
    note: PathBuf,
    snapshots: u32,
}

impl Sink for Slow {
    type In = Event;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<Event>>> {
        let note = self.notes.join(place.attempt.0.to_string());
        Ok(Box::new(SlowWriter { pause: self.pause, note, snapshots: 0 }))
    }
}

impl SinkWriter<Event> for SlowWriter {
    fn write(&mut self, _: Rows<Event>, _: &mut SinkContext<'_>) -> OpResult {
        Ok(())
    }

    fn prepare_commit(&mut self, _: &mut SinkContext<'_>) -> OpResult<Vec<Vec<u8>>> {
        self.snapshots += 1;
        std::fs::write(self.note.with_extension(self.snapshots.to_string()), "")?;
        #[allow(clippy::disallowed_methods, reason = "it is to be slow")]
        std::thread::sleep(self.pause);
        Ok(Vec::new())
    }
}

/// As `events`, with the counting in slots of its own: `groups FOLDER COUNT PER_SECOND`.
fn write_from_two_groups(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second] = args else { return Err("folder, count and events per second".into()) };
    events(env, "events", count.parse()?, per_second.parse()?)
        .key_by(|event: &Event| event.key)
        .count()
        .uid("counts")
        .slot_sharing_group("counting")
        .sink_to(FileSink::csv(folder))
        .uid("files");
    Ok(())
}

/// The job of a benchmark, with its results in files: `benchmark NAME FOLDER RECORDS`.
fn benchmark(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [name, folder, records] = args else { return Err("name, folder and records".into()) };
    let (files, records) = (FileSink::text(folder), records.parse()?);
    let text = |result: &dyn std::fmt::Debug| format!("{result:?}");
    let lines = match name.as_str() {
        "wordcount" => {
            let file = benchmarks::text::file(Some(records))?;
            benchmarks::word_count(env, &file).map(move |result| text(&result))
        }
        "window" => benchmarks::window(env, records, 1_000).map(move |result| text(&result)),
        "ysb" => benchmarks::ysb::counts(env, records).map(move |result| text(&result)),
        "chain" => benchmarks::chain(env, records).map(move |number| text(&number)),
        "exchange" => benchmarks::exchange(env, records).map(move |number| text(&number)),
        other => return Err(format!("no benchmark '{other}'").into()),
    };
    lines.sink_to(files);
    Ok(())
}

/// The same with slots for the counting that ask for resources: `resources FOLDER COUNT PER_SECOND CORES BYTES`.
fn write_with_resources(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [folder, count, per_second, cores, bytes] = args else {
        return Err("folder, count, events per second, cores and bytes".into());
    };
    let group = SlotSharingGroup::new("counting").with_cpu_cores(cores.parse()?);
    events(env, "events", count.parse()?, per_second.parse()?)
        .key_by(|event: &Event| event.key)
        .count()
        .uid("counts")
        .slot_sharing_group(group.with_memory_bytes(bytes.parse()?))
        .sink_to(FileSink::csv(folder))
        .uid("files");
    Ok(())
}

/// A job without an end in one slot, which asks for memory if any is given: `in-memory FOLDER [BYTES]`.
fn stay_in_memory(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let (folder, bytes) = match args {
        [folder] => (folder, None),
        [folder, bytes] => (folder, Some(bytes.parse()?)),
        _ => return Err("a folder and bytes".into()),
    };
    let mut group = SlotSharingGroup::new("default");
    if let Some(bytes) = bytes {
        group = group.with_memory_bytes(bytes);
    }
    let numbers = events(env, "events", u64::MAX, 100.0).map(|event| event.n).slot_sharing_group(group);
    numbers.sink_to(FileSink::csv(folder)).uid("files");
    Ok(())
}

/// Works on one event for ever.
fn spin(env: &Environment) {
    events(env, "events", u64::MAX, 1_000.0).for_each(|event| {
        let mut seen = event.n;
        while seen > 100 {
            seen = std::hint::black_box(seen | 1 << 10);
        }
    });
}

/// Never gives memory back.
fn leak(env: &Environment) {
    events(env, "events", u64::MAX, 1_000.0).for_each(|event| {
        Box::leak(vec![event.n as u8 | 1; 4 << 20].into_boxed_slice());
    });
}

/// Builds another graph where the program is started as the role: `disloyal master` or `disloyal worker`.
fn differ_in(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let [role] = args else { return Err("a role".into()) };
    // What it prints goes to a file that is called after its role.
    let output = std::fs::read_link("/proc/self/fd/1").unwrap_or_default();
    let is_it = output.file_name().is_some_and(|name| name.to_string_lossy().starts_with(role.as_str()));
    let uid = if is_it { "other-numbers" } else { "numbers" };
    events(env, "events", 10, 1_000.0).map(|event| event.n).uid(uid).print();
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
