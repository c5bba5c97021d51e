//! The source as the runtime drives it: enumerator, readers, restores in the middle.

use super::*;
use crate::error::within;
use crate::sink::tests::place;
use crate::{BadLine, Error, SideOutput, Skip};
use hurtig_dataflow::source::{Assignment, Polled};
use proptest::prelude::*;
use std::fs;
use std::io::Write;

type Splits = Vec<FileSplit>;

fn splits<S: Source<Split = FileSplit>>(source: &S) -> Splits {
    let mut enumerator = source.enumerator(None).unwrap();
    let mut all = Vec::new();
    while let Assignment::Splits(splits) = enumerator.next(0, 1).unwrap() {
        all.extend(splits);
    }
    all
}

fn open<S: Source<Split = FileSplit>>(
    source: &S,
    split: FileSplit,
) -> Box<dyn SplitReader<Out = S::Out, Split = FileSplit>> {
    source.open(split, &place(0, 0, 1, 1)).unwrap()
}

/// Reads every split to its end, at some batch size, and starts again from the position after so many batches.
fn read_restoring<S: Source<Split = FileSplit>>(source: &S, max: usize, restore_after: usize) -> Vec<S::Out> {
    let mut out = Vec::new();
    for split in splits(source) {
        let mut reader = open(source, split);
        let mut batches = 0;
        let mut last = max;
        loop {
            if batches == restore_after {
                let position = rmp_serde::to_vec_named(&reader.position()).unwrap();
                reader = open(source, rmp_serde::from_slice(&position).unwrap());
            }
            batches += 1;
            match reader.poll(max, 0).unwrap() {
                Polled::Rows(rows) => {
                    assert!(!rows.is_empty() && last == max, "only the last batch of a split is short");
                    last = rows.len();
                    out.extend(rows.records);
                }
                Polled::End => break,
                _ => panic!("a file source never waits"),
            }
        }
        let (read, size) = reader.progress().unwrap();
        assert_eq!(read, size, "all is read at the end");
    }
    out
}

fn read<S: Source<Split = FileSplit>>(source: &S) -> Vec<S::Out> {
    read_restoring(source, 1000, usize::MAX)
}

fn failure<S: Source<Split = FileSplit>>(source: &S) -> String {
    for split in splits(source) {
        let mut reader = match source.open(split, &place(0, 0, 1, 1)) {
            Ok(reader) => reader,
            Err(error) => return error.to_string(),
        };
        loop {
            match reader.poll(3, 0) {
                Ok(Polled::End) => break,
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }
    panic!("it reads without failure")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    // Two members, as made by appending one compressed file to another.
    let (a, b) = bytes.split_at(bytes.len() / 2);
    let member = |part: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(part).unwrap();
        encoder.finish().unwrap()
    };
    [member(a), member(b)].concat()
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(
        prop::sample::select(vec!["a", "b\r", "ä", "\n", "\n", "\r\n", "long line "]),
        0..60,
    )
    .prop_map(|parts| parts.concat())
}

/// What `lines` makes of it, which likewise takes a carriage return off.
fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::to_string).collect()
}

proptest! {
    #[test]
    fn each_line_is_read_once_and_in_order_at_any_split_size_batch_size_and_restore(
        text in text(),
        split_bytes in 1u64..50,
        max in 1usize..10,
        restore_after in 0usize..6,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.txt");
        fs::write(&path, &text).unwrap();
        let source = FileSource::text(&path).split_bytes(split_bytes);
        prop_assert_eq!(read_restoring(&source, max, restore_after), lines(&text));
    }

    #[test]
    fn each_row_of_a_csv_file_in_splits_is_read_once(
        rows in prop::collection::vec((any::<u16>(), "[a-z]{0,12}"), 0..30),
        split_bytes in 1u64..50,
        max in 1usize..10,
        restore_after in 0usize..6,
        blank_lines in 0usize..3,
    ) {
        let mut text = format!("\u{feff}{}word,id\r\n", "\n".repeat(blank_lines));
        for (id, word) in &rows {
            text.push_str(&format!("{word},{id}\n"));
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        fs::write(&path, &text).unwrap();
        #[derive(Clone, Serialize, Deserialize)]
        struct Row {
            id: u16,
            word: String,
        }
        let source = FileSource::csv::<Row>(&path).splittable().split_bytes(split_bytes);
        let read: Vec<_> = read_restoring(&source, max, restore_after).into_iter().map(|row| (row.id, row.word)).collect();
        prop_assert_eq!(read, rows);
    }

    #[test]
    fn compressed_files_read_like_others(text in text(), max in 1usize..10, restore_after in 0usize..6) {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.gz"), gzip(text.as_bytes())).unwrap();
        fs::write(folder.path().join("b.zst"), zstd::encode_all(text.as_bytes(), 0).unwrap()).unwrap();
        let source = FileSource::text(folder.path()).split_bytes(5);
        prop_assert_eq!(splits(&source).len(), 2);
        prop_assert_eq!(read_restoring(&source, max, restore_after), [lines(&text), lines(&text)].concat());
    }
}

#[test]
fn records_longer_than_the_buffer_are_read_and_longer_than_the_limit_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.txt");
    let long = "x".repeat(700_000);
    fs::write(&path, format!("a\n{long}\nb\n")).unwrap();
    let source = FileSource::text(&path).split_bytes(100_000);
    assert_eq!(read(&source), ["a", &long, "b"]);
    let error = failure(&source.max_record_bytes(300_000));
    assert!(error.contains("the record at byte 2 is longer than 300000 bytes"), "{error}");
}

#[test]
fn a_quoted_line_break_is_read_whole_since_such_files_are_not_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quoted.csv");
    fs::write(&path, "1,\"a\nb\"\n2,c\n").unwrap();
    let source = FileSource::csv::<(u8, String)>(&path).without_header().split_bytes(4);
    assert_eq!(splits(&source).len(), 1);
    assert_eq!(read(&source), [(1, "a\nb".to_string()), (2, "c".to_string())]);
    assert_eq!(splits(&source.clone().without_quotes()).len(), 3);
}

#[test]
fn files_are_read_in_the_order_of_paths_without_hidden_ones() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for inner in ["b", "_tmp", ".git"] {
        fs::create_dir(at(inner)).unwrap();
    }
    for name in ["c.txt", "a.txt", "b/x.txt", "b/.y.txt", "_tmp/z.txt", ".git/z.txt", ".hidden.txt", "d.log"]
    {
        fs::write(at(name), name).unwrap();
    }
    assert_eq!(read(&FileSource::text(folder.path())), ["a.txt", "b/x.txt", "c.txt", "d.log"]);
    assert_eq!(read(&FileSource::text(at("*.txt"))), ["a.txt", "c.txt"]);
    assert_eq!(read(&FileSource::text(at("**/*.txt"))), ["a.txt", "b/x.txt", "c.txt"]);
    assert_eq!(read(&FileSource::text(at("d.log"))), ["d.log"]);
    // A file whose name looks like a pattern.
    fs::write(at("[1]"), "one").unwrap();
    assert_eq!(read(&FileSource::text(at("[1]"))), ["one"]);
}

#[test]
fn a_monitored_folder_gives_each_file_once_across_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let add = |name: &str| fs::write(folder.path().join(name), format!("{name}\n")).unwrap();
    add("b");
    let second = Duration::from_secs(1);
    let source = FileSource::text(folder.path().join("[a-z]")).monitor(second);
    assert!(!source.is_bounded());
    let mut enumerator = source.enumerator(None).unwrap();
    let names = |assignment: Assignment<FileSplit>| match assignment {
        Assignment::Splits(splits) => {
            let name = |split: &FileSplit| split.path.file_name().unwrap().to_str().unwrap().to_string();
            splits.iter().map(name).collect::<String>()
        }
        Assignment::Later(after) => format!("{after:?}"),
        Assignment::Finished => "finished".to_string(),
    };
    assert_eq!(names(enumerator.next(0, 2).unwrap()), "b");
    assert_eq!(names(enumerator.next(1, 2).unwrap()), "1s");
    add("c");
    add("a");
    assert_eq!(names(enumerator.next(1, 2).unwrap()), "a");
    let snapshot = enumerator.snapshot().unwrap();
    let mut enumerator = source.enumerator(Some(&snapshot)).unwrap();
    add("d");
    for expected in ["c", "d", "1s"] {
        assert_eq!(names(enumerator.next(0, 2).unwrap()), expected);
    }
}

#[test]
fn a_bounded_source_goes_on_with_the_files_there_were_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a"), "1\n2\n").unwrap();
    fs::write(folder.path().join("b"), "3\n").unwrap();
    let source = FileSource::text(folder.path());
    let mut enumerator = source.enumerator(None).unwrap();
    enumerator.next(0, 1).unwrap();
    let snapshot = enumerator.snapshot().unwrap();
    fs::write(folder.path().join("c"), "4\n").unwrap();
    let mut enumerator = source.enumerator(Some(&snapshot)).unwrap();
    assert!(
        matches!(enumerator.next(0, 1).unwrap(), Assignment::Splits(splits) if splits[0].path.ends_with("b"))
    );
    assert_eq!(enumerator.next(0, 1).unwrap(), Assignment::Finished);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Flight {
    carrier: String,
    dep_time: u32,
}

#[test]
fn malformed_input_fails_is_skipped_or_is_put_aside_with_its_line_in_every_split() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("flights.csv");
    let mut text = "carrier,dep_time\n".to_string();
    for line in 2..40 {
        match line % 10 {
            7 => text.push_str("LH,1x7\n"),
            _ => text.push_str(&format!("AF,{line}\n")),
        }
    }
    fs::write(&path, text).unwrap();
    for split_bytes in [1 << 20, 40] {
        let source = FileSource::csv::<Flight>(&path).splittable().split_bytes(split_bytes);
        assert_eq!(
            failure(&source),
            format!(
                "{} line 7 column 2 (dep_time): invalid digit found in string; fix the line, or set on_error(Skip)",
                path.display()
            )
        );
        let skipped = read_restoring(&source.clone().on_error(Skip), 3, 2);
        assert_eq!(skipped.len(), 38 - 4);
        let bad: Vec<BadLine> =
            read_restoring(&source.on_error(SideOutput), 3, 2).into_iter().filter_map(Result::err).collect();
        assert_eq!(bad.iter().map(|bad| bad.line).collect::<Vec<_>>(), [7, 17, 27, 37]);
        assert!(bad.iter().all(|bad| bad.text == "LH,1x7" && bad.field.as_deref() == Some("dep_time")));
    }
    let json = folder.path().join("events.jsonl");
    fs::write(&json, "{\"carrier\":\"LH\",\"dep_time\":1}\n\n{\"carrier\":3}\n").unwrap();
    assert_eq!(
        failure(&FileSource::json_lines::<Flight>(&json)),
        format!(
            "{} line 3 column 12: invalid type: integer `3`, expected a string; fix the line, or set on_error(Skip)",
            json.display()
        )
    );
}

#[test]
fn input_that_is_missing_or_changed_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let error =
        |path: &str| FileSource::text(folder.path().join(path)).enumerator(None).err().unwrap().to_string();
    let at = |path: &str| folder.path().join(path).display().to_string();
    let missing = |path: &str| {
        format!("there is no file or folder '{}': correct the path, or put the input there", at(path))
    };
    assert_eq!(error("flights.csv"), missing("flights.csv"));
    assert_eq!(error("no/*.csv"), missing("no"));
    assert!(error("*.csv").starts_with(&format!("no file matches '{}': ", at("*.csv"))));
    assert!(error("a[").contains("is not a file pattern"));
    fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(error("empty").starts_with(&format!("there is no file in the folder '{}': ", at("empty"))));
    let path = folder.path().join("shrunk");
    fs::write(&path, "one\ntwo\n").unwrap();
    let source = FileSource::text(&path);
    let mut reader = open(&source, splits(&source).remove(0));
    reader.poll(1, 0).unwrap();
    fs::write(&path, "x").unwrap();
    let error = source.open(reader.position(), &place(0, 0, 1, 1)).err().unwrap();
    assert!(matches!(within(&error), Some(Error::Replaced { length: 1, position: 4, .. })), "{error}");
    fs::write(folder.path().join("broken.gz"), "no gzip").unwrap();
    assert!(failure(&FileSource::text(folder.path().join("broken.gz"))).contains("broken.gz"));
}

#[test]
fn no_permission_is_named_with_the_remedy() {
    let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
    assert_eq!(
        Error::io("read", Path::new("/data/in"), denied).to_string(),
        "no permission to read '/data/in': give it to the user that runs the job, or choose another path"
    );
}
