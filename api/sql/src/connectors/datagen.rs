//! Connector `datagen`: rows made up. Each is a function of its number and the seed.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `number-of-rows` | ends after so many | no end |
//! | `rows-per-second` | most rows in a second of processing time; 0 for as many as can be | 10000 |
//! | `seed` | what randomness comes from | 0 |
//! | `base-time` | time of the first row, from which on it goes by with `rows-per-second`; else times are processing time | |
//! | `fields.X.kind` | `random` or `sequence` | `random` |
//! | `fields.X.min`, `fields.X.max` | bounds of random numbers, both included | those of the type |
//! | `fields.X.length` | characters of random text, bytes of random bytes | 100 |
//! | `fields.X.max-past` | how far random times and days lie behind | 0 s |
//! | `fields.X.null-rate` | share of nulls, from 0 to 1 | 0 |
//! | `fields.X.start`, `fields.X.end` | bounds of a sequence, both included; the source ends with it | |
//!
//! Fields of a ROW are named like `fields.X.Y`.

mod field;

#[cfg(test)]
mod tests;

use super::parse;
use super::random::paced;
use crate::changes::Changes;
use crate::connector::{Connector, Scan, ScanRequest, TableDefinition};
use crate::error::SqlError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use field::Field;
use hurtig_datastream::GeneratorSource;
use std::sync::Arc;

const DEFAULT_RATE: u64 = 10_000;

/// The connector.
pub(super) struct Datagen;

impl Connector for Datagen {
    fn name(&self) -> &'static str {
        "datagen"
    }

    fn options(&self) -> &'static [&'static str] {
        &["number-of-rows", "rows-per-second", "seed", "base-time", "fields.*"]
    }

    fn scan(&self, table: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        Ok(Scan::of(source(table, &request)?, request))
    }
}

/// When the rows of a table happen.
#[derive(Clone, Copy)]
enum Time {
    Processing,
    /// Rows in a second since a time in milliseconds.
    Since {
        base_ms: i64,
        rate: u64,
    },
}

impl Time {
    fn of(self, row: u64, now: i64) -> i64 {
        match self {
            Time::Processing => now,
            Time::Since { base_ms, rate } => {
                base_ms.saturating_add((row.saturating_mul(1_000) / rate) as i64)
            }
        }
    }
}

fn source(table: &TableDefinition, request: &ScanRequest) -> Result<GeneratorSource<Changes>, SqlError> {
    let options = &table.options;
    let fields = table.schema.fields();
    let mut taken = Vec::new();
    let all = fields.iter().map(|field| Field::of(field.name(), field.data_type(), options, &mut taken));
    let all = all.collect::<Result<Vec<Field>, _>>()?;
    let unknown = options.iter().map(|(name, _)| name);
    if let Some(unknown) =
        unknown.filter(|name| name.starts_with("fields.")).find(|name| !taken.iter().any(|t| t == name))
    {
        let error = SqlError::connector(format!(
            "option '{unknown}' says nothing about a column of table '{}'",
            table.name
        ));
        return Err(match crate::error::nearest(unknown, taken.iter().map(String::as_str)) {
            Some(other) => error.with_hint(format!("did you mean '{other}'?")),
            None => error,
        });
    }
    let rate = options.parse::<u64>("rows-per-second")?.unwrap_or(DEFAULT_RATE);
    let time = match options.get("base-time") {
        None => Time::Processing,
        Some(text) => {
            let base = parse::timestamp(text.trim().as_bytes()).ok_or_else(|| {
                SqlError::connector(format!("option 'base-time' cannot be '{text}'"))
                    .with_hint("it takes a time such as 2024-01-01 00:00:00")
            })?;
            Time::Since { base_ms: base.millis(), rate: rate.max(1) }
        }
    };
    let rows = options.parse::<u64>("number-of-rows")?.into_iter();
    let rows = rows.chain(all.iter().filter_map(Field::rows)).min();
    if rows.is_none() && table.is_bounded {
        return Err(SqlError::connector(format!("table '{}' has no end, but the job is to end", table.name))
            .with_hint("set 'number-of-rows'"));
    }
    let seed = options.parse("seed")?.unwrap_or(0);
    let schema = Arc::new(table.schema.project(&request.columns)?);
    let columns = request.columns.clone();
    let source = GeneratorSource::in_batches(move |numbers| {
        let column = |column: &usize| all[*column].make(numbers, seed, *column, time);
        let arrays = columns.iter().map(column).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(numbers.count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&schema), arrays, &options)?;
        Ok(Changes::append_only(batch))
    });
    paced(source, rows, options, DEFAULT_RATE)
}
