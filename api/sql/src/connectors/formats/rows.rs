//! Rows being decoded: columns that grow together until they are a batch.

use super::columns::Column;
use crate::changes::Changes;
use crate::error::SqlError;
use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use hurtig_formats::{Decoded, Malformed, Stop};
use std::sync::Arc;

/// A batch takes no more bytes of text, so that places in it fit 32 bits.
const MOST_BYTES: usize = 256 << 20;

/// A stretch of a block that is known to be UTF-8, longer than a record, since many short ones cost more to validate.
const VALIDATED_AT_ONCE: usize = 8 << 10;

/// Rows that are not yet a batch.
pub(super) struct RowsBuilder {
    schema: SchemaRef,
    pub(super) columns: Vec<Column>,
    /// Weights, for formats that have some.
    pub(super) weights: Option<Vec<i64>>,
    rows: usize,
    bytes: usize,
}

/// What is wrong with a record, and where.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Bad {
    /// Column from 1: of fields, or of bytes. 0 where there is none.
    pub(super) column: u64,
    pub(super) field: Option<String>,
    pub(super) reason: String,
}

impl RowsBuilder {
    /// Refuses columns whose types a format cannot have.
    pub(super) fn new(schema: SchemaRef, has_weights: bool) -> Result<Self, SqlError> {
        let column = |field: &arrow::datatypes::FieldRef| {
            Column::new(field.data_type()).ok_or_else(|| {
                SqlError::unsupported(format!(
                    "column '{}' is of type {}, which has no form as text",
                    field.name(),
                    field.data_type()
                ))
            })
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_, _>>()?;
        Ok(RowsBuilder { schema, columns, weights: has_weights.then(Vec::new), rows: 0, bytes: 0 })
    }

    /// The same without any rows.
    pub(super) fn empty(&self) -> Self {
        let columns =
            self.schema.fields().iter().filter_map(|field| Column::new(field.data_type())).collect();
        let weights = self.weights.as_ref().map(|_| Vec::new());
        RowsBuilder { schema: Arc::clone(&self.schema), columns, weights, rows: 0, bytes: 0 }
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Rows were added whose text had so many bytes.
    #[inline]
    pub(super) fn added(&mut self, rows: usize, bytes: usize) {
        self.rows += rows;
        self.bytes += bytes;
    }

    /// Takes back what was added of a row that is malformed.
    pub(super) fn take_back(&mut self) {
        let rows = self.rows;
        self.columns.iter_mut().for_each(|column| column.truncate(rows));
        if let Some(weights) = &mut self.weights {
            weights.truncate(rows);
        }
    }

    #[inline]
    pub(super) fn is_full(&self, max: usize) -> bool {
        self.rows >= max || self.bytes >= MOST_BYTES
    }

    fn take(&mut self) -> Result<Changes, ArrowError> {
        let arrays = self.columns.iter_mut().map(Column::take).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        (self.rows, self.bytes) = (0, 0);
        match &mut self.weights {
            Some(weights) => Changes::weighted(batch, std::mem::take(weights)),
            None => Ok(Changes::append_only(batch)),
        }
    }

    /// What a decoder returns; puts the batch out if it is finished.
    pub(super) fn decoded(&mut self, used: usize, lines: u64, stop: Stop, out: &mut Vec<Changes>) -> Decoded {
        let stop = match stop {
            Stop::Full | Stop::End if self.rows > 0 => match self.take() {
                Ok(changes) => {
                    out.push(changes);
                    stop
                }
                // A value that a type has no room for.
                Err(error) => Stop::Malformed(Malformed {
                    start: 0,
                    end: used,
                    lines_before: 0,
                    column: 0,
                    field: None,
                    reason: error.to_string(),
                }),
            },
            stop => stop,
        };
        Decoded { used, lines, stop }
    }
}

/// Tells whether records are UTF-8, many at a time.
#[derive(Default)]
pub(super) struct Valid {
    until: usize,
}

impl Valid {
    /// Whether a part of a block is, of which all before was asked about already.
    #[inline]
    pub(super) fn is_text(&mut self, bytes: &[u8], start: usize, end: usize) -> bool {
        end <= self.until || self.validate(bytes, start, end)
    }

    fn validate(&mut self, bytes: &[u8], start: usize, end: usize) -> bool {
        let to = end.max(start + VALIDATED_AT_ONCE).min(bytes.len());
        self.until = start
            + match std::str::from_utf8(&bytes[start..to]) {
                Ok(text) => text.len(),
                Err(error) => error.valid_up_to(),
            };
        end <= self.until
    }
}
