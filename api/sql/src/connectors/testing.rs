//! What tests of connectors share.

use crate::changes::Changes;
use crate::connector::{ScanRequest, TableDefinition, TableOptions};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Field, Schema, SchemaRef};
use hurtig_dataflow::Timestamp;
pub(crate) use hurtig_dataflow::harness::place;
use hurtig_dataflow::source::{Assignment, Polled, Source};
use hurtig_dataflow::watermark::WatermarkStrategy;
use std::sync::Arc;

/// Rows of a number and a text, one a line: `1, a`. No text is null.
pub(crate) fn table(lines: &str) -> Changes {
    let rows = lines.lines().map(|line| line.split_once(',').unwrap());
    let (numbers, texts): (Vec<i64>, Vec<Option<&str>>) = rows
        .map(|(number, text)| {
            (number.trim().parse::<i64>().unwrap(), Some(text.trim()).filter(|t| !t.is_empty()))
        })
        .unzip();
    let columns: [(_, ArrayRef, _); 2] =
        [("n", Arc::new(Int64Array::from(numbers)), true), ("t", Arc::new(StringArray::from(texts)), true)];
    Changes::append_only(RecordBatch::try_from_iter_with_nullable(columns).unwrap())
}

/// A table with the given columns and options.
pub(crate) fn definition(fields: Vec<Field>, options: &[(&str, &str)]) -> TableDefinition {
    TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(fields)),
        options: TableOptions::new(options.iter().map(|(name, value)| (name.to_string(), value.to_string()))),
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        is_bounded: true,
    }
}

pub(crate) fn request(schema: &SchemaRef) -> ScanRequest {
    ScanRequest { columns: (0..schema.fields().len()).collect(), watermarks: WatermarkStrategy::none() }
}

/// Reads one batch of each split of `parallelism`, restarts everything from the positions, and reads to the end.
pub(crate) fn read_all<S: Source<Out = Changes>>(source: &S, parallelism: usize) -> Vec<Changes> {
    let mut enumerator = source.enumerator(None).unwrap();
    let mut batches = Vec::new();
    let mut positions = Vec::new();
    if let Assignment::Splits(splits) = enumerator.next(0, parallelism).unwrap() {
        for split in splits {
            let mut reader = source.open(split, &place()).unwrap();
            if let Polled::Rows(rows) = reader.poll(5, 0).unwrap() {
                batches.extend(rows.records);
            }
            positions.push(reader.position());
        }
    }
    let bytes = enumerator.snapshot().unwrap();
    let mut enumerator = source.enumerator(Some(&bytes)).unwrap();
    // The parallelism has changed meanwhile.
    while let Assignment::Splits(splits) = enumerator.next(0, parallelism + 1).unwrap() {
        positions.extend(splits);
    }
    for split in positions {
        // Times at which what is paced is due.
        let (mut reader, mut now) = (source.open(split, &place()).unwrap(), 0 as Timestamp);
        loop {
            match reader.poll(7, now).unwrap() {
                Polled::Rows(rows) => batches.extend(rows.records),
                Polled::Until(next) => now = next,
                Polled::Pending | Polled::End => break,
            }
        }
    }
    batches
}
