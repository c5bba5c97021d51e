//! Programs as a shell sees them: what they say of input, folders and settings that are wrong, and what a killed one
//! leaves behind. Nothing that was there is overwritten.

use hurtig::prelude::*;
use hurtig_tests::events::KEYS;
use hurtig_tests::programs::{failure, says, sentence};
use hurtig_tests::{folders, jobs};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::{TempDir, tempdir};

const HEADER: &str = "year,month,day,dep_time,sched_dep_time,dep_delay,carrier,flight,origin,dest";

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_program"));
    command.args(args);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// What a program says that must fail, without checkpoints and with them: what nobody mends is not tried again either
/// way.
fn refused(args: &[&str]) -> String {
    // One subtask: of two, either may be the one that says it.
    let run = |flags: &[&str]| sentence(&mut program(&[&["-p1"], flags, &["--"], args].concat()));
    let (said, checkpoints) = (run(&[]), folder());
    let again = run(&["--checkpoint-interval", "10ms", "--checkpoint-dir", text(checkpoints.path())]);
    assert_eq!(again, said, "with checkpoints");
    said
}

#[test]
fn a_malformed_line_is_told_with_file_line_and_column() {
    let (data, out) = (folder(), folder());
    let good = "2013,1,1,517,515,2,UA,1545,EWR,IAH\n";
    let bad = "2013,1,1,517,5x5,2,UA,1545,EWR,IAH\n";
    std::fs::write(data.path().join("2013-01.csv"), format!("{HEADER}\n{good}{good}{bad}{good}"))
        .expect("data");
    let said = refused(&["flights", "--data", text(data.path()), "--out", text(out.path())]);
    says(&said, &["2013-01.csv line 4 column 5 (sched_dep_time)", "invalid digit", "on_error(Skip)"]);
    assert_eq!(folders::sorted_lines(&out.path().join("hourly")), Vec::<String>::new());
}

#[test]
fn a_malformed_line_of_json_is_told_with_file_line_and_column() {
    let (data, out) = (folder(), folder());
    let file = data.path().join("names.jsonl");
    let cases = [
        (r#"{"id":2,"name":"b"#, "column 17: EOF while parsing a string"),
        (r#"{"id":2,"name":x}"#, "column 16: expected value"),
        (r#"{"id":"two","name":"b"}"#, "column 11: invalid type: string \"two\", expected u32"),
        (r#"{"id":2}"#, "column 8: missing field `name`"),
        ("2,b", "column 1: invalid type: integer `2`"),
    ];
    for (line, reason) in cases {
        std::fs::write(&file, format!("{{\"id\":1,\"name\":\"a\"}}\n\n{line}\n")).expect("data");
        let said = refused(&["names", text(&file), text(out.path())]);
        says(&said, &["names.jsonl line 3", reason, "fix the line, or set on_error(Skip)"]);
        assert_eq!(folders::published_files(out.path()), Vec::<PathBuf>::new());
    }
}

#[test]
fn late_records_that_are_dropped_are_counted_in_the_status() {
    for lateness in [0, 5] {
        let env = Environment::new();
        let times = WatermarkStrategy::monotonous().with_timestamps(|time: &i64| *time);
        let counts = env
            .from_collection(vec![0i64, 9, 30, 5, 31, 60, 3, 30, 61])
            .assign_timestamps_and_watermarks(times)
            .key_by(|_| 0u8)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(10)))
            .allowed_lateness(Duration::from_millis(lateness))
            .aggregate_with(Count::new(), |_, window, count| (window.start, count))
            .collect();
        // Watermarks come once a batch.
        let mut config = jobs::config(1, None);
        config.execution.batch_size = 1;
        let status = jobs::run(jobs::execute(&env, &config, None)).expect("the job finishes");
        assert_eq!(counts.take(), [(0, 2), (30, 2), (60, 2)]);
        assert_eq!(status.late_dropped(), 3);
    }
}

#[test]
fn how_far_a_job_has_come_counts_files_that_are_not_begun() {
    let data = folder();
    let mut total = 0;
    for file in ["a", "b", "c"] {
        let text = "to be or not to be\n".repeat(100_000);
        total += text.len() as u64;
        std::fs::write(data.path().join(file), text).expect("a file");
    }
    let env = Environment::new();
    env.from_source(FileSource::text(data.path()), WatermarkStrategy::none(), "text").discard();
    let seen = progress_of(&env, 1);
    assert_eq!((seen.first(), seen.last()), (Some(&(0, total)), Some(&(total, total))));
    assert!(seen.is_sorted_by_key(|(read, _)| *read), "{seen:?}");
}

#[test]
fn how_far_a_job_has_come_is_known_of_counted_records() {
    let env = Environment::new();
    env.from_range(0..200_000).discard();
    let numbers = GeneratorSource::new(|n| (n, n)).with_count(100_000);
    env.generate(numbers, WatermarkStrategy::none()).discard();
    let (seen, total) = (progress_of(&env, 2), 200_000 * 8 + 100_000 * 16);
    assert_eq!(seen.last(), Some(&(total, total)));
    assert!(seen.is_sorted_by_key(|(read, _)| *read), "{seen:?}");
}

/// How far a job has come, in bytes of all, each time that is told.
fn progress_of(env: &Environment, parallelism: usize) -> Vec<(u64, u64)> {
    let mut config = jobs::config(parallelism, None);
    config.execution.batch_size = 64;
    jobs::run(async {
        let job = jobs::start(env, &config, None).await.expect("the job starts");
        let mut status = job.client.subscribe();
        let mut seen = Vec::new();
        loop {
            let now = status.borrow_and_update().clone();
            seen.extend(now.progress());
            if now.state.is_terminal() {
                break;
            }
            status.changed().await.expect("the job is watched to its end");
        }
        job.cluster.shutdown().await;
        seen
    })
}

#[test]
fn missing_input_is_told_with_its_path() {
    let out = folder();
    let said = refused(&["word_count", "/nowhere/book.txt", "--out", text(out.path())]);
    says(&said, &["there is no file or folder '/nowhere/book.txt'", "correct the path"]);
    let said = refused(&["flights", "--data", "/nowhere", "--out", text(out.path())]);
    says(&said, &["'/nowhere'"]);
}

#[test]
fn a_wrong_key_is_refused_with_a_suggestion() {
    let said = failure(2, &mut program(&["-D", "checkpoint.intervall=1s", "--", "word_count"]));
    says(&said, &["checkpoint.intervall", "checkpoint.interval"]);
    says(
        &failure(2, &mut program(&["-D", "checkpoint.interval=soon", "--", "word_count"])),
        &["checkpoint.interval", "soon"],
    );
    says(&failure(2, &mut program(&["--parallelsm", "2"])), &["--parallelism"]);
}

#[test]
fn a_checkpoint_that_is_not_there_is_told() {
    let out = folder();
    let args = ["--from", "/nowhere/chk-7", "--", "events", text(out.path()), "100", "1000"];
    says(&sentence(&mut program(&args)), &["/nowhere/chk-7"]);
    assert!(folders::published_files(out.path()).is_empty());
}

/// A program that goes on until it is killed.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits for something that another process does.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    jobs::run(async {
        for _ in 0..6_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{what} never came");
    });
}

fn newest_checkpoint(dir: &Path) -> Option<PathBuf> {
    let jobs = dir.read_dir().ok()?.flatten();
    let checkpoints = jobs.flat_map(|job| job.path().read_dir().into_iter().flatten().flatten());
    let complete = checkpoints.map(|entry| entry.path()).filter(|path| path.join("_metadata").is_file());
    complete.max_by_key(|path| {
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_prefix("chk-")?.parse::<u64>().ok());
        (path.metadata().and_then(|meta| meta.modified()).ok(), number)
    })
}

fn expected_counts(events: u64) -> Vec<String> {
    let mut rows: Vec<_> = (0..events).map(|n| format!("{},{}", n % KEYS, n / KEYS + 1)).collect();
    rows.sort_unstable();
    rows
}

fn start_events(out: &Path, checkpoints: &Path) -> Running {
    let dir = text(checkpoints);
    let args = ["--checkpoint-dir", dir, "--checkpoint-interval", "20ms", "--parallelism", "2", "--"];
    let mut command = program(&args);
    command.args(["events", text(out), "30000", "10000"]);
    Running(command.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("the program starts"))
}

#[test]
fn an_output_folder_in_use_is_refused_and_left_alone() {
    let (out, checkpoints) = (folder(), folder());
    let _running = start_events(out.path(), checkpoints.path());
    wait_until("a file", || !folders::published_files(out.path()).is_empty());
    let said = refused(&["events", text(out.path()), "100", "1000"]);
    says(&said, &[text(out.path()), "is in use by job", "choose another folder"]);
}

#[test]
fn a_checkpoint_of_another_program_or_of_other_state_is_refused_and_nothing_is_written() {
    let (out, checkpoints, other) = (folder(), folder(), folder());
    let mut running = start_events(out.path(), checkpoints.path());
    wait_until("a checkpoint", || newest_checkpoint(checkpoints.path()).is_some());
    running.0.kill().expect("it runs");
    running.0.wait().expect("it ends");
    let from = newest_checkpoint(checkpoints.path()).expect("a checkpoint");
    let input = other.path().join("names.jsonl");
    std::fs::write(&input, "{\"id\":1,\"name\":\"a\"}\n").expect("data");
    let target = other.path().join("out");
    let cases: [(&[&str], &[&str]); 2] = [
        (&["names", text(&input), text(&target)], &["checkpoint of another program", "counts"]),
        (
            &["latest", text(&target), "30000", "10000"],
            &[
                "state 'accumulators' of the checkpoint",
                "the type has changed",
                "giving the operator a new uid",
            ],
        ),
    ];
    for (args, words) in cases {
        for interval in [None, Some("10ms")] {
            let interval = interval.map(|interval| ["--checkpoint-interval", interval]);
            let mut flags = vec!["--from", text(&from), "--checkpoint-dir", text(other.path())];
            flags.extend(interval.iter().flatten());
            says(&sentence(&mut program(&[&flags[..], &["--"], args].concat())), words);
            assert!(!target.exists() || folders::published_files(&target).is_empty());
        }
    }
    assert!(from.join("_metadata").is_file(), "the checkpoint is left alone");
}

#[test]
fn a_killed_program_goes_on_from_its_checkpoint_as_if_nothing_had_been() {
    let (out, checkpoints) = (folder(), folder());
    let (mut kills, mut published) = (0, 0);
    let mut from: Option<PathBuf> = None;
    while kills < 2 {
        let mut running = match &from {
            None => start_events(out.path(), checkpoints.path()),
            Some(from) => {
                let dir = text(checkpoints.path());
                let mut command = program(&["--checkpoint-dir", dir, "--checkpoint-interval", "20ms"]);
                command.args(["--parallelism", "2", "--from", text(from), "--"]);
                command.args(["events", text(out.path()), "30000", "10000"]);
                Running(command.stderr(Stdio::null()).spawn().expect("the program starts"))
            }
        };
        wait_until("more files", || folders::published_files(out.path()).len() > published + 4);
        running.0.kill().expect("it runs");
        running.0.wait().expect("it ends");
        kills += 1;
        published = folders::published_files(out.path()).len();
        from = newest_checkpoint(checkpoints.path());
        assert!(from.is_some());
    }
    let from = from.expect("a checkpoint");
    let mut command = program(&["--from", text(&from), "--parallelism", "3", "--"]);
    let ended =
        command.args(["events", text(out.path()), "30000", "10000"]).output().expect("the program starts");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    if let Err(difference) = folders::compare(&expected_counts(30_000), &folders::sorted_lines(out.path())) {
        panic!("{difference}");
    }
    assert_eq!(folders::unpublished_files(out.path()), Vec::<PathBuf>::new());
}

#[test]
fn files_that_were_there_are_not_touched() {
    let out = folder();
    for _ in 0..2 {
        let ended = program(&["--", "events", text(out.path()), "1200", "1000000"]).output();
        assert!(ended.expect("the program starts").status.success());
    }
    let lines = folders::sorted_lines(out.path());
    let mut expected = [expected_counts(1_200), expected_counts(1_200)].concat();
    expected.sort_unstable();
    assert!(folders::compare(&expected, &lines).is_ok());
}

#[test]
fn counts_are_printed_when_no_folder_is_named() {
    let book = folder();
    let path = book.path().join("book.txt");
    std::fs::write(&path, "to be or not to be").expect("a book");
    let printed = program(&["--", "word_count", text(&path)]).output().expect("the program starts");
    let lines: Vec<_> = BufReader::new(&printed.stdout[..]).lines().map_while(Result::ok).collect();
    assert_eq!(lines.len(), 6, "{lines:?}");
    assert!(lines.iter().any(|line| line.contains("to") && line.contains('2')), "{lines:?}");
}
