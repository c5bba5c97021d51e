//! What `hurtig state` tells of savepoints and checkpoints is what the job that took them has written.

use hurtig::JobClient;
use hurtig::prelude::*;
use hurtig_tests::events::{Event, KEYS, event_time, events};
use hurtig_tests::jobs;
use hurtig_tests::programs::{failure, says};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const HURTIG: &str = env!("CARGO_BIN_EXE_command");

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn state(args: &[&str]) -> String {
    let output = Command::new(HURTIG).arg("state").args(args).output().expect("the command starts");
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

async fn under_way(client: &JobClient, records: u64) {
    let read = client.wait_until(|status| status.records_read() > records).await;
    read.expect("the job runs");
}

/// Counts per key, of all events and of windows that are still open; at the first parallelism. Returns the counts that
/// were put out up to the savepoint, and where that lies.
fn counted_to_savepoint(folder: &Path) -> (BTreeMap<u64, u64>, String) {
    let env = Environment::new();
    let keyed = events(&env, "numbers", u64::MAX / 2, 20_000.0).key_by(|event: &Event| event.key);
    let counts = keyed.count().uid("counts").collect();
    keyed
        .window(TumblingEventTimeWindows::of(Duration::from_secs(1_000_000)))
        .count()
        .uid("windows")
        .discard()
        .uid("nowhere");
    let mut config = jobs::config(3, Some(Duration::from_millis(20)));
    config.checkpoint.dir = Some(folder.join("checkpoints"));
    let savepoint = jobs::run(async {
        let job = jobs::start(&env, &config, None).await.expect("a job");
        under_way(&job.client, 5_000).await;
        let savepoint = job.client.stop(folder.to_str()).await.expect("a savepoint");
        job.cluster.shutdown().await;
        savepoint
    });
    let mut last = BTreeMap::new();
    for (key, count) in counts.take() {
        let most = last.entry(key).or_default();
        *most = count.max(*most);
    }
    (last, savepoint)
}

#[test]
fn a_savepoint_is_listed_shown_and_exported_without_its_program() {
    let folder = folder();
    let (counts, savepoint) = counted_to_savepoint(folder.path());
    assert_eq!(counts.len() as u64, KEYS);

    let rows = json_lines(&state(&["export", &savepoint, "--operator", "counts"]));
    let found: BTreeMap<u64, u64> = rows
        .iter()
        .map(|row| (row["key"].as_u64().expect("a key"), row["value"].as_u64().expect("a count")))
        .collect();
    assert_eq!(found, counts);
    for row in &rows {
        assert_eq!((&row["operator"], &row["state"]), (&json!("counts"), &json!("accumulators")));
        let key = row["key"].as_u64().expect("a key");
        let group = hurtig::dataflow::key::key_group(hurtig::dataflow::key::hash_key(&key), 128);
        assert_eq!(row["group"], json!(group), "{row}");
    }

    let listed: Value = serde_json::from_str(&state(&["ls", &savepoint, "--json"])).expect("JSON");
    assert_eq!((&listed["savepoint"], &listed["max_parallelism"]), (&json!(true), &json!(128)));
    let operators = listed["operators"].as_array().expect("operators");
    let of = |uid: &str| operators.iter().find(|operator| operator["uid"] == uid).expect("the operator");
    assert_eq!(of("counts")["parallelism"], json!(3));
    let accumulators = &of("counts")["states"][0];
    assert_eq!((&accumulators["rows"], &accumulators["kind"]), (&json!(KEYS), &json!("keyed")));
    assert_eq!(listed["sources"][0]["uid"], json!("numbers"));

    // All events are in the one window that is open.
    let mut by_window = of("windows")["states"].as_array().into_iter().flatten();
    let panes = by_window.find(|state| state["kind"] == "keyed, by window").expect("a state");
    let name = panes["name"].as_str().expect("a name");
    let rows = json_lines(&state(&["export", &savepoint, "--operator", "windows", "--state", name]));
    let in_windows: BTreeMap<u64, u64> = rows
        .iter()
        .filter(|row| row.get("value").is_some_and(Value::is_u64))
        .map(|row| (row["key"].as_u64().expect("a key"), row["value"].as_u64().expect("a count")))
        .collect();
    assert_eq!(in_windows, counts);
    assert!(rows.iter().all(|row| row["time"].is_i64()), "{rows:?}");

    says(&state(&["ls", &savepoint]), &["savepoint", "128 key groups", "accumulators", "keyed, by window"]);
    let shown = state(&["show", &savepoint, "counts", "accumulators", "--limit", "2"]);
    says(&shown, &["keyed, 12 rows", "KEY GROUP", "and 10 more"]);
    let shown: Value =
        serde_json::from_str(&state(&["show", &savepoint, "counts", "accumulators", "--json"]))
            .expect("JSON");
    let of_groups: u64 =
        shown["groups"].as_array().expect("groups").iter().filter_map(|group| group["rows"].as_u64()).sum();
    assert_eq!((of_groups, shown["first"].as_array().expect("rows").len() as u64), (KEYS, KEYS));
}

#[test]
fn an_incremental_checkpoint_is_read_with_all_its_layers() {
    let folder = folder();
    let env = Environment::new();
    let source = GeneratorSource::new(Event::of).with_count(40_000).with_rate(80_000.0);
    // Many keys, of which each checkpoint finds some changed.
    let counts = env
        .generate(source, event_time())
        .key_by(|event| event.n / 4 % 3_000)
        .count()
        .uid("latest")
        .collect();
    let mut config = jobs::config(2, Some(Duration::from_millis(10)));
    config.checkpoint.dir = Some(folder.path().join("checkpoints"));
    let status = jobs::run(jobs::execute(&env, &config, None)).expect("the job ends");
    let checkpoint = status.last_checkpoint.expect("a checkpoint").location;
    let rows = json_lines(&state(&["export", &checkpoint, "--operator", "latest"]));
    let found: BTreeMap<u64, u64> =
        rows.iter().filter_map(|row| Some((row["key"].as_u64()?, row["value"].as_u64()?))).collect();
    let mut expected = BTreeMap::new();
    for (key, count) in counts.take() {
        let most = expected.entry(key).or_default();
        *most = count.max(*most);
    }
    assert_eq!(expected.len(), 3_000);
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_there_is_told() {
    let folder = folder();
    let (_, savepoint) = counted_to_savepoint(folder.path());
    let refused = |args: &[&str], words: &[&str]| {
        says(&failure(1, Command::new(HURTIG).arg("state").args(args)), words);
    };
    refused(&["ls", "/nowhere"], &["/nowhere"]);
    refused(&["show", &savepoint, "cuonts", "x"], &["no operator 'cuonts'", "counts"]);
    refused(&["show", &savepoint, "counts", "x"], &["no state 'x'", "accumulators"]);
    refused(&["show", &savepoint, "nowhere", "x"], &["has no state"]);
    refused(&["export", &savepoint, "--operator", "cuonts"], &["no operator 'cuonts'"]);
    let metadata = Path::new(&savepoint).join("_metadata");
    let mut bytes = std::fs::read(&metadata).expect("metadata");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&metadata, bytes).expect("metadata");
    refused(&["ls", &savepoint], &["_metadata", "checksum"]);
}
