use super::*;
use crate::changes::Changes;
use crate::connector::TableOptions;
use crate::connectors::row_text;
use crate::connectors::testing::{definition, place, read_all, request, table};
use arrow::datatypes::{DataType, Field};
use hurtig_dataflow::harness::Harness;
use hurtig_dataflow::source::{Polled, Source};
use std::fs;
use std::path::Path;

const INSERTS: SinkInput = SinkInput { is_append_only: true, key: None };

/// A table of a number and a text in files below `folder`.
fn files(folder: &Path, options: &[(&str, &str)]) -> TableDefinition {
    let fields = vec![Field::new("n", DataType::Int64, true), Field::new("t", DataType::Utf8, true)];
    let mut table = definition(fields, options);
    let path = [("path".to_string(), folder.display().to_string())];
    let all = table.options.iter().map(|(name, value)| (name.to_string(), value.to_string()));
    table.options = TableOptions::new(all.chain(path).collect::<Vec<_>>());
    table
}

fn read(table: &TableDefinition) -> Vec<String> {
    let source = source(table, &request(&table.schema)).unwrap();
    let mut lines: Vec<String> =
        read_all(&source, 1).iter().flat_map(|changes| row_text(changes, Some(&[0])).unwrap()).collect();
    lines.sort_unstable();
    lines
}

/// Writes batches, with a checkpoint behind each, and a restart behind the first.
fn write(table: &TableDefinition, input: SinkInput, batches: &[Changes]) {
    let sink = Filesystem.sink(table, input).unwrap();
    let mut harness = Harness::<()>::of(sink.operator);
    let mut committer = (sink.committer)().unwrap();
    for (at, batch) in batches.iter().enumerate() {
        harness.push([(batch.clone(), 0)]);
        let snapshot = harness.snapshot();
        let committables = snapshot.committables.iter().map(|bytes| bytes.to_vec()).collect();
        if at == 0 {
            harness.push([(batch.clone(), 0)]);
            harness.restore(snapshot);
        }
        committer.commit(committables).unwrap();
    }
}

/// The files below a folder and what is in them, those that are not yet published left out.
fn contents(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_string();
        if name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            found.extend(contents(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
        } else {
            found.push((name, fs::read_to_string(&path).unwrap()));
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn what_was_written_appears_once_and_is_read_back() {
    for (format, first) in [("csv", "1,a\n2,\n"), ("json", "{\"n\":1,\"t\":\"a\"}\n{\"n\":2,\"t\":null}\n")] {
        let folder = tempfile::tempdir().unwrap();
        let table_in_files = files(folder.path(), &[("format", format)]);
        write(&table_in_files, INSERTS, &[table("1, a\n2,"), table("3, c")]);
        let contents = contents(folder.path());
        assert_eq!(contents.len(), 2);
        assert!(contents.iter().all(|(name, _)| name.ends_with(&format!(".{format}"))));
        assert!(contents.iter().any(|(_, text)| text == first), "{contents:?}");
        assert_eq!(read(&table_in_files), ["+I[1, a]", "+I[2, null]", "+I[3, c]"]);
    }
}

#[test]
fn partition_columns_are_in_the_names_of_folders() {
    let folder = tempfile::tempdir().unwrap();
    let mut written = files(folder.path(), &[("format", "csv")]);
    written.partitioned_by = vec!["t".into()];
    write(&written, INSERTS, &[table("1, a=b/c\n2,\n3, a=b/c"), table("4, x y")]);
    let folders: Vec<(String, String)> = contents(folder.path())
        .into_iter()
        .map(|(name, text)| (name.split('/').next().unwrap().to_string(), text))
        .collect();
    let expected = [("t=__DEFAULT_PARTITION__", "2\n"), ("t=a%3Db%2Fc", "1\n3\n"), ("t=x y", "4\n")];
    assert_eq!(folders, expected.map(|(name, text)| (name.to_string(), text.to_string())));
    assert_eq!(read(&written), ["+I[1, a=b/c]", "+I[2, null]", "+I[3, a=b/c]", "+I[4, x y]"]);
    let only = ScanRequest { columns: vec![1], ..request(&written.schema) };
    let source = source(&written, &only).unwrap();
    let rows: usize = read_all(&source, 1).iter().map(|changes| changes.batch.num_rows()).sum();
    assert_eq!(rows, 4);
    fs::write(folder.path().join("part.csv"), "7\n").unwrap();
    let all = request(&written.schema);
    let mut enumerator = super::source(&written, &all).unwrap().enumerator(None).unwrap();
    let hurtig_dataflow::source::Assignment::Splits(splits) = enumerator.next(0, 1).unwrap() else {
        panic!()
    };
    let error = super::source(&written, &all).unwrap().open(splits[0].clone(), &place()).err().unwrap();
    assert!(error.to_string().contains("no folder of the path is named 't=…'"), "{error}");
}

#[test]
fn updates_are_written_as_debezium_tells_them_and_refused_by_other_formats() {
    let folder = tempfile::tempdir().unwrap();
    let updates = SinkInput { is_append_only: false, key: Some(vec![0]) };
    let csv = files(folder.path(), &[("format", "csv")]);
    let error = Filesystem.sink(&csv, updates.clone()).err().unwrap().to_string();
    assert!(error.contains("takes only rows that are added") && error.contains("debezium-json"), "{error}");
    let debezium = files(folder.path(), &[("format", "debezium-json")]);
    let mut changed = table("1, a\n1, b");
    changed.weights = Some(vec![-1, 1]);
    write(&debezium, updates, &[table("1, a"), changed]);
    assert_eq!(read(&debezium), ["+I[1, a]", "+U[1, b]", "-U[1, a]"]);
    assert!(!Filesystem.is_append_only(&debezium));
    assert!(Filesystem.scan(&debezium, request(&debezium.schema)).is_ok());
}

#[test]
fn a_malformed_line_is_told_with_its_file_line_and_field_or_left_out() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.csv"), "1,a\n2,b\nx,c\n3,d\n").unwrap();
    let strict = files(folder.path(), &[("format", "csv")]);
    let source = source(&strict, &request(&strict.schema)).unwrap();
    let mut enumerator = source.enumerator(None).unwrap();
    let hurtig_dataflow::source::Assignment::Splits(splits) = enumerator.next(0, 1).unwrap() else {
        panic!()
    };
    let mut reader = source.clone().open(splits[0].clone(), &place()).unwrap();
    let error = hurtig_dataflow::error::describe(&*reader.poll(100, 0).err().unwrap());
    assert!(error.contains("a.csv line 3 column 1 (n): 'x' is not a BIGINT"), "{error}");
    let mut reader = source.on_error(Skip).open(splits[0].clone(), &place()).unwrap();
    let mut batches = Vec::new();
    while let Polled::Rows(rows) = reader.poll(2, 0).unwrap() {
        batches.extend(rows.records);
    }
    let rows: Vec<usize> = batches.iter().map(|changes| changes.batch.num_rows()).collect();
    assert_eq!(rows, [2, 1]);
}

#[test]
fn a_big_file_makes_full_batches_over_the_ends_of_buffers_and_is_restored_in_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    let line = |n: usize| format!("{n},{}\n", "x".repeat(n % 50));
    fs::write(folder.path().join("a.csv"), (0..20_000).map(line).collect::<String>()).unwrap();
    let table = files(folder.path(), &[("format", "csv")]);
    let source = source(&table, &request(&table.schema)).unwrap();
    let mut enumerator = source.enumerator(None).unwrap();
    let hurtig_dataflow::source::Assignment::Splits(splits) = enumerator.next(0, 1).unwrap() else {
        panic!()
    };
    let (mut position, mut all, mut sizes) = (splits[0].clone(), Vec::new(), Vec::new());
    loop {
        let mut reader = source.open(position, &place()).unwrap();
        let Polled::Rows(rows) = reader.poll(3_000, 0).unwrap() else { break };
        sizes.extend(rows.records.iter().map(|changes| changes.batch.num_rows()));
        all.extend(rows.records);
        position = reader.position();
    }
    assert_eq!(sizes, [3_000, 3_000, 3_000, 3_000, 3_000, 3_000, 2_000]);
    let lines = row_text(&Changes::concat(all).unwrap(), None).unwrap();
    assert_eq!(lines[19_999], format!("+I[19999, {}]", "x".repeat(49)));
}

#[test]
fn files_are_closed_at_their_size() {
    let folder = tempfile::tempdir().unwrap();
    let small = files(folder.path(), &[("format", "csv"), ("sink.rolling-policy.file-size", "8 b")]);
    let sink = Filesystem.sink(&small, INSERTS).unwrap();
    let mut harness = Harness::<()>::of(sink.operator);
    for n in 0..6 {
        harness.push([(table(&format!("{n}, a")), 0)]);
    }
    let committables = harness.snapshot().committables.iter().map(|bytes| bytes.to_vec()).collect();
    (sink.committer)().unwrap().commit(committables).unwrap();
    assert_eq!(contents(folder.path()).len(), 3);
    assert_eq!(
        [memory_size("128MB"), memory_size("1 gb"), memory_size("x")],
        [Some(128 << 20), Some(1 << 30), None]
    );
}
