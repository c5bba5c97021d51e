//! Connector `filesystem`: tables in files of a folder.
//!
//! A file, a folder or a pattern such as `logs/*.csv.gz` is read; a folder is written to, and what is written appears
//! with the checkpoint that covers it. Columns of `PARTITIONED BY` are not in the files but in the names of their
//! folders, as in `day=2024-01-01`.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `path` | where the files are | |
//! | `format` | `csv`, `json`, `debezium-json` or `raw` | |
//! | `source.monitor-interval` | looks for new files, for ever; not in a job that is to end | |
//! | `sink.rolling-policy.file-size` | a file is closed when it has this size | `128MB` |
//! | `sink.rolling-policy.rollover-interval` | and when it has this age | |
//! | `partition.default-name` | stands for null in the name of a folder | `__DEFAULT_PARTITION__` |
//! | `csv.field-delimiter`, `csv.quote-character` | | `,` and `"` |
//! | `csv.disable-quote-character` | quotes mean nothing | false |
//! | `csv.header` | the first line names the columns, which may then be in another order | false |
//! | `csv.ignore-first-line` | the first line says nothing | false |
//! | `csv.null-literal` | a field like that, not in quotes, is null | empty |
//! | `csv.splittable` | no field holds a line break, so that big files may be read by several subtasks | false |
//! | `json.timestamp-format.standard` | `SQL` or `ISO-8601`; both are read | `SQL` |
//! | `csv.ignore-parse-errors`, `json.ignore-parse-errors` | leaves malformed lines out | false |

mod partitions;
mod sink;

#[cfg(test)]
mod tests;

use super::formats::{self, Reading};
use crate::connector::{Connector, Scan, ScanRequest, SinkInput, TableDefinition, TableSink};
use crate::error::SqlError;
use hurtig_files::{FileSink, FileSource, Skip};
use partitions::{FromPaths, Partitions};
use sink::Pieces;
use std::sync::Arc;

/// The connector.
pub(super) struct Filesystem;

impl Connector for Filesystem {
    fn name(&self) -> &'static str {
        "filesystem"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "path",
            "format",
            "source.monitor-interval",
            "sink.rolling-policy.file-size",
            "sink.rolling-policy.rollover-interval",
            "partition.default-name",
            "csv.field-delimiter",
            "csv.quote-character",
            "csv.disable-quote-character",
            "csv.ignore-first-line",
            "csv.header",
            "csv.null-literal",
            "csv.ignore-parse-errors",
            "csv.splittable",
            "json.ignore-parse-errors",
            "json.timestamp-format.standard",
            "debezium-json.ignore-parse-errors",
            "debezium-json.timestamp-format.standard",
        ]
    }

    fn is_append_only(&self, table: &TableDefinition) -> bool {
        table.options.get("format") != Some("debezium-json")
    }

    fn scan(&self, table: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        let source = source(table, &request)?;
        let ignores_errors = formats::ignores_errors(table.options.required("format")?, &table.options)?;
        let scan = match ignores_errors {
            true => Scan::of(source.on_error(Skip), request),
            false => Scan::of(source, request),
        };
        Ok(scan)
    }

    fn sink(&self, table: &TableDefinition, input: SinkInput) -> Result<TableSink, SqlError> {
        let options = &table.options;
        let format = options.required("format")?;
        let partitions = Partitions::of(table)?;
        let encoding = formats::writing(format, options, &partitions.file_schema())?;
        if !input.is_append_only && !encoding.takes_updates {
            let message = format!(
                "table '{}' takes only rows that are added, but the query also updates or deletes rows",
                table.name
            );
            return Err(SqlError::connector(message).with_hint(
                "set 'format' = 'debezium-json', or write to a table whose connector takes updates",
            ));
        }
        let mut sink = FileSink::new(path(table)?, encoding);
        if let Some(size) = options.get("sink.rolling-policy.file-size") {
            sink = sink.roll_at_bytes(memory_size(size).ok_or_else(|| {
                SqlError::connector(format!("option 'sink.rolling-policy.file-size' cannot be '{size}'"))
                    .with_hint("it takes a number and a unit: B, KB, MB, GB")
            })?);
        }
        if let Some(interval) = options.duration("sink.rolling-policy.rollover-interval")? {
            sink = sink.roll_every(interval);
        }
        if !table.partitioned_by.is_empty() {
            sink = sink.bucket_by(|piece| piece.folder.clone());
        }
        Ok(TableSink::of(Pieces::new(sink, partitions, input)))
    }
}

/// The source of a table, and whether its rows are only ever added.
fn source(table: &TableDefinition, request: &ScanRequest) -> Result<FileSource<FromPaths>, SqlError> {
    let options = &table.options;
    let partitions = Partitions::of(table)?;
    let (in_files, in_paths) = partitions.divide(&request.columns);
    let wanted = Arc::new(table.schema.project(&in_files)?);
    let reading = Reading { all: partitions.file_schema(), wanted };
    let decoding = formats::reading(options.required("format")?, options, &reading)?;
    let format = FromPaths::new(decoding, partitions, &request.columns, &in_files, in_paths)?;
    let mut source = FileSource::new(path(table)?, format);
    if let Some(interval) = options.duration("source.monitor-interval")?
        && !table.is_bounded
    {
        source = source.monitor(interval);
    }
    Ok(source)
}

fn path(table: &TableDefinition) -> Result<&str, SqlError> {
    let path = table.options.required("path")?;
    match path.strip_prefix("file:") {
        // file:///x and file:/x
        Some(rest) => Ok(rest.strip_prefix("//").unwrap_or(rest)),
        None if path.contains("://") => {
            Err(SqlError::unsupported(format!("files cannot be read from or written to '{path}'"))
                .with_hint("give a path of a local or mounted file system"))
        }
        None => Ok(path),
    }
}

/// A size such as `128MB`, in bytes.
fn memory_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim().to_ascii_lowercase().as_str() {
        "" | "b" | "bytes" => 1,
        "k" | "kb" | "kibibytes" => 1 << 10,
        "m" | "mb" | "mebibytes" => 1 << 20,
        "g" | "gb" | "gibibytes" => 1 << 30,
        _ => return None,
    };
    text[..digits].parse::<u64>().ok()?.checked_mul(unit)
}
