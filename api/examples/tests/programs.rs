//! Every example runs by its own `main`, ends well, and prints what it should.

use std::path::Path;
use std::process::Command;

/// Runs a program at the top of the repository, as the README says, and returns what it printed.
fn run(program: &str, args: &[&str]) -> String {
    let mut command = Command::new(program);
    command.args(args).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let output = command.output().expect("the program starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Checks that the program prints a line that holds all of these.
fn prints(program: &str, args: &[&str], line: &[&str]) {
    let printed = run(program, args);
    let holds_all = |printed: &str| line.iter().all(|part| printed.contains(part));
    assert!(printed.lines().any(holds_all), "no line of {program} holds {line:?}:\n{printed}");
}

#[test]
fn word_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let book = folder.path().join("hamlet.txt");
    std::fs::write(&book, "To be, or not to be").expect("a book");
    prints(env!("CARGO_BIN_EXE_word_count"), &["--", &book.to_string_lossy()], &[r#"("be", 2)"#]);
}

#[test]
fn session_windows() {
    prints(env!("CARGO_BIN_EXE_session_windows"), &[], &[r#"Session { user: "user3", from: "#, "clicks: "]);
}

#[test]
fn stock_alerts() {
    let alert = r#"Alert { symbol: "EEE", at: 252250, price: "#;
    prints(env!("CARGO_BIN_EXE_stock_alerts"), &["--parallelism", "2"], &[alert]);
}

#[test]
fn actor_api() {
    prints(env!("CARGO_BIN_EXE_actor_api"), &[], &[r#"Alert { symbol: "AAA", at: 250000, price: 120.0, "#]);
}

#[test]
fn enrichment() {
    let order = ["number: 5, customer: 58", r#"customer_name: "customer 58""#];
    prints(env!("CARGO_BIN_EXE_enrichment"), &[], &order);
}

#[test]
fn late_data() {
    let args = ["--parallelism", "2"];
    prints(env!("CARGO_BIN_EXE_late_data"), &args, &["broken  ", "degrees: -400.0"]);
    prints(env!("CARGO_BIN_EXE_late_data"), &args, &["late    ", "sensor: "]);
    prints(env!("CARGO_BIN_EXE_late_data"), &args, &["mean    ", "sensor: "]);
}

#[test]
fn flights() {
    let out = tempfile::tempdir().expect("a folder");
    run(env!("CARGO_BIN_EXE_flights"), &["--parallelism", "2", "--", "--out", &out.path().to_string_lossy()]);
    let files = out.path().join("cancelled").read_dir().expect("a folder of results");
    let text = |file: std::io::Result<std::fs::DirEntry>| {
        std::fs::read_to_string(file.expect("a file").path()).expect("text")
    };
    let rows: usize = files.map(text).map(|text| text.lines().count().saturating_sub(1)).sum();
    // So many of the departures of 2013 were cancelled.
    assert_eq!(rows, 8_255);
}
