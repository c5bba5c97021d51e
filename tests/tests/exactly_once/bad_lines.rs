//! Input with malformed lines: what is left out and what goes to a side output does not depend on crashes either.

use super::{SEEDS, check};
use hurtig::prelude::*;
use hurtig_tests::faults::seeds;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

const FILES: u64 = 6;
const LINES: u64 = 30_000;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Row {
    n: u64,
    name: String,
}

/// A folder of files of which every 97th line is malformed.
fn files(ending: &str, head: &str, good: impl Fn(u64) -> String, bad: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for file in 0..FILES {
        let line = |n: u64| if n % 97 == 5 { format!("{bad}\n") } else { good(n) + "\n" };
        let lines: String = (file * LINES..(file + 1) * LINES).map(line).collect();
        let path = folder.path().join(format!("{file}.{ending}"));
        std::fs::write(path, format!("{head}{lines}")).expect("input");
    }
    folder
}

fn csv() -> (TempDir, FileSource<hurtig::formats::Csv<Row>>) {
    let folder = files("csv", "n,name\n", |n| format!("{n},name {n}"), "seven,x");
    let source = FileSource::csv(folder.path()).splittable().split_bytes(10_000);
    (folder, source)
}

fn json() -> (TempDir, FileSource<hurtig::formats::JsonLines<Row>>) {
    let folder = files("jsonl", "", |n| format!(r#"{{"n":{n},"name":"{n}"}}"#), r#"{"n":7,"name":x}"#);
    let source = FileSource::json_lines(folder.path()).split_bytes(10_000);
    (folder, source)
}

/// Checks a source that drops malformed lines.
fn check_skipped(source: &(impl Source<Out = Row> + Clone)) {
    check(FILES * LINES / 2, None, seeds(SEEDS), |env| {
        let rows = env.from_source(source.clone(), WatermarkStrategy::none(), "rows").uid("rows");
        rows.map(|row| format!("{row:?}")).uid("shown")
    });
}

/// Checks a source that puts malformed lines out.
fn check_side_output(source: &(impl Source<Out = Result<Row, BadLine>> + Clone)) {
    check(FILES * LINES / 2, None, seeds(SEEDS), |env| {
        let rows = env.from_source(source.clone(), WatermarkStrategy::none(), "rows").uid("rows");
        let good = rows.flat_map(|row, out: &mut Collector<'_, _>| out.extend(row.ok())).uid("good");
        let bad = rows.flat_map(|row, out: &mut Collector<'_, _>| out.extend(row.err())).uid("bad");
        let good = good.map(|row: Row| format!("{row:?}")).uid("shown-good");
        good.union(&bad.map(|line: BadLine| format!("{line}: {}", line.text)).uid("shown-bad"))
    });
}

#[test]
fn malformed_csv_lines_that_are_skipped() {
    let (_folder, source) = csv();
    check_skipped(&source.on_error(Skip));
}

#[test]
fn malformed_csv_lines_that_go_to_a_side_output() {
    let (_folder, source) = csv();
    check_side_output(&source.on_error(SideOutput));
}

#[test]
fn malformed_json_lines_that_are_skipped() {
    let (_folder, source) = json();
    check_skipped(&source.on_error(Skip));
}

#[test]
fn malformed_json_lines_that_go_to_a_side_output() {
    let (_folder, source) = json();
    check_side_output(&source.on_error(SideOutput));
}
