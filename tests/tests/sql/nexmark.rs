//! The queries of Nexmark over 100,000 recorded events: their results equal those that Flink 2.3 gave.

use crate::{lines_after_crashes, lines_of};
use hurtig_tests::faults::{Crashes, seeds};
use hurtig_tests::jobs;
use std::path::PathBuf;
use std::time::Duration;

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/nexmark"))
}

fn text(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn expected(query: &str) -> Vec<String> {
    let path = folder().join("expected").join(format!("{query}.csv.zst"));
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let text = String::from_utf8(zstd::decode_all(&*bytes).expect("zstd")).expect("UTF-8");
    let mut lines: Vec<String> = text.lines().skip(1).map(str::to_string).collect();
    lines.sort_unstable();
    lines
}

/// The statements before each query: tables and views over the recorded events.
fn tables() -> String {
    let options = format!(
        "'connector' = 'filesystem', 'format' = 'json', 'path' = '{}'",
        folder().join("events.jsonl.zst").display()
    );
    let side =
        "CREATE TABLE side_numbers (n BIGINT) WITH ('connector' = 'datagen', 'fields.n.kind' = 'sequence',
            'fields.n.start' = '0', 'fields.n.end' = '9999', 'rows-per-second' = '0');
        CREATE VIEW side_input AS SELECT n AS key, CAST(n AS STRING) AS `value` FROM side_numbers;";
    text("tables.sql").replace("${options}", &options) + side
}

fn check(query: &str, parallelism: usize, checkpoints: bool, mode: &str) {
    let mode = format!("SET 'execution.runtime-mode' = '{mode}';");
    let sql = mode + &tables() + &text(&format!("queries/{query}.sql"));
    let interval = checkpoints.then(|| Duration::from_millis(100));
    let found = lines_of(&sql, &jobs::config(parallelism, interval));
    let expected = expected(query);
    let missing: Vec<_> = expected.iter().filter(|line| found.binary_search(line).is_err()).take(3).collect();
    let surplus: Vec<_> = found.iter().filter(|line| expected.binary_search(line).is_err()).take(3).collect();
    assert!(
        found == expected,
        "{query} at parallelism {parallelism}: {} rows, {} expected\nmissing: {missing:#?}\nsurplus: {surplus:#?}",
        found.len(),
        expected.len()
    );
}

macro_rules! queries {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            check(stringify!($name), 1, false, "streaming");
            // The order of arrival decides what of equal prices has which rank.
            if stringify!($name) != "q19" {
                check(stringify!($name), 2, true, "streaming");
            }
            check(stringify!($name), 1, false, "batch");
        }
    )*};
}

queries!(q0, q1, q2, q3, q4, q5, q7, q8, q9, q10, q11, q13, q14, q15, q16, q17, q18, q19, q20, q21, q22);

#[test]
fn q6() {
    // Flink answers it in batch mode only.
    check("q6", 1, false, "batch");
}

#[test]
fn results_are_the_same_after_crashes() {
    let mut restarts = 0;
    for query in ["q4", "q5", "q7", "q8", "q9", "q11", "q16", "q18", "q20"] {
        let sql = tables() + &text(&format!("queries/{query}.sql"));
        let expected = expected(query);
        for seed in seeds(2) {
            let config = jobs::config(2, Some(Duration::from_millis(30)));
            let crashes = Crashes { seed, attempts: 2, within: 40_000 };
            let (found, restarted) = lines_after_crashes(&sql, &config, Some(crashes));
            assert!(
                found == expected,
                "{query} with seed {seed}: {} rows, {} expected",
                found.len(),
                expected.len()
            );
            restarts += restarted;
        }
    }
    assert!(restarts > 0, "nothing crashed");
}
