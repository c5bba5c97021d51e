//! Columns whose values are in the names of folders: `day=2024-01-01/country=DE`.

use crate::changes::Changes;
use crate::connector::TableDefinition;
use crate::connectors::formats::{AnyDecoder, Decoding, constant};
use crate::connectors::text::{Cells, TimeStyle};
use crate::error::SqlError;
use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use hurtig_formats::{Block, DecodeFormat, Decoded, Decoder, Malformed};
use std::path::Path;
use std::sync::Arc;

const DEFAULT_NAME: &str = "__DEFAULT_PARTITION__";

/// Which columns of a table are in the names of folders.
#[derive(Clone)]
pub(super) struct Partitions {
    schema: SchemaRef,
    /// Columns in the names of folders, the outermost first.
    pub(super) columns: Vec<usize>,
    default_name: String,
}

impl Partitions {
    pub(super) fn of(table: &TableDefinition) -> Result<Self, SqlError> {
        let place = |name: &String| {
            let place = table.schema.index_of(name);
            let place = place
                .map_err(|_| SqlError::statement(format!("there is no column '{name}' to partition by")))?;
            match table.schema.field(place).data_type() {
                DataType::Struct(_) | DataType::List(_) | DataType::Map(..) | DataType::Binary => {
                    Err(SqlError::unsupported(format!(
                        "column '{name}' cannot be part of a folder's name: it is no plain value"
                    )))
                }
                _ => Ok(place),
            }
        };
        let columns = table.partitioned_by.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        if columns.len() == table.schema.fields().len() && !columns.is_empty() {
            return Err(SqlError::statement("a table cannot be partitioned by all of its columns"));
        }
        let default_name = table.options.get("partition.default-name").unwrap_or(DEFAULT_NAME).to_string();
        Ok(Partitions { schema: Arc::clone(&table.schema), columns, default_name })
    }

    /// Columns that are in the files.
    pub(super) fn in_files(&self) -> Vec<usize> {
        (0..self.schema.fields().len()).filter(|column| !self.columns.contains(column)).collect()
    }

    pub(super) fn file_schema(&self) -> SchemaRef {
        let fields = self.in_files().into_iter().map(|column| Arc::clone(&self.schema.fields()[column]));
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    /// Divides columns into those in the files and those in the names of folders.
    pub(super) fn divide(&self, columns: &[usize]) -> (Vec<usize>, Vec<usize>) {
        columns.iter().partition(|column| !self.columns.contains(column))
    }

    /// The columns that folders are named after, ready to be written.
    pub(super) fn cells<'a>(&self, batch: &'a RecordBatch) -> Result<Vec<Cells<'a>>, ArrowError> {
        self.columns.iter().map(|column| Cells::of(batch.column(*column))).collect()
    }

    /// Writes the name of a row's folder.
    pub(super) fn folder(&self, cells: &[Cells<'_>], row: usize, value: &mut Vec<u8>, folder: &mut String) {
        folder.clear();
        for (column, cell) in self.columns.iter().zip(cells) {
            if !folder.is_empty() {
                folder.push('/');
            }
            escape(self.schema.field(*column).name().as_bytes(), folder);
            folder.push('=');
            value.clear();
            cell.write(row, TimeStyle::Sql, value);
            // An empty text has no other name.
            match cell.is_null(row) || value.is_empty() {
                true => folder.push_str(&self.default_name),
                false => escape(value, folder),
            }
        }
    }

    /// What a path says about a column: nothing for null.
    fn value(&self, path: &Path, column: usize) -> Result<Option<Vec<u8>>, String> {
        let name = self.schema.field(column).name();
        for part in path.iter().rev().filter_map(|part| part.to_str()) {
            let Some((key, value)) = part.split_once('=') else { continue };
            if unescape(key) == name.as_bytes() {
                return Ok((value != self.default_name).then(|| unescape(value)));
            }
        }
        Err(format!("no folder of the path is named '{name}=…'"))
    }
}

/// Writes what may stand in a folder's name as it is, all else as `%` and two digits.
fn escape(text: &[u8], out: &mut String) {
    for byte in text {
        let is_special = byte.is_ascii_control() || b"\"#%'*/:=?\\{[]^".contains(byte) || !byte.is_ascii();
        if is_special {
            out.push_str(&format!("%{byte:02X}"));
        } else {
            out.push(char::from(*byte));
        }
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escaped = text.get(at + 1..at + 3).filter(|_| *byte == b'%');
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(escaped) => {
                out.push(escaped);
                at += 3;
            }
            None => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// A format that takes some columns from the files' paths.
#[derive(Clone)]
pub(super) struct FromPaths {
    decoding: Decoding,
    partitions: Partitions,
    wanted: SchemaRef,
    /// For each wanted column, whether it is in the path, and its place among the columns of that kind.
    sources: Arc<[(bool, usize)]>,
    in_paths: Vec<usize>,
}

impl FromPaths {
    pub(super) fn new(
        decoding: Decoding,
        partitions: Partitions,
        columns: &[usize],
        in_files: &[usize],
        in_paths: Vec<usize>,
    ) -> Result<Self, SqlError> {
        let wanted = Arc::new(partitions.schema.project(columns)?);
        let source = |column: &usize| match in_files.iter().position(|other| other == column) {
            Some(place) => (false, place),
            None => (true, in_paths.iter().position(|other| other == column).unwrap_or(0)),
        };
        let sources = columns.iter().map(source).collect();
        Ok(FromPaths { decoding, partitions, wanted, sources, in_paths })
    }
}

impl DecodeFormat for FromPaths {
    type Out = Changes;
    type Decoder = PathDecoder;

    fn decoder(&self) -> PathDecoder {
        self.decoder_of(Path::new(""))
    }

    fn decoder_of(&self, path: &Path) -> PathDecoder {
        let value = |column: &usize| {
            let value = self.partitions.value(path, *column)?;
            constant(self.partitions.schema.field(*column).data_type(), value.as_deref())
        };
        PathDecoder {
            inner: self.decoding.decoder(),
            values: self.in_paths.iter().map(value).collect(),
            wanted: Arc::clone(&self.wanted),
            sources: Arc::clone(&self.sources),
        }
    }

    fn is_splittable(&self) -> bool {
        self.decoding.is_splittable()
    }

    fn has_head(&self) -> bool {
        self.decoding.has_head() || !self.in_paths.is_empty()
    }
}

/// Decodes one file and adds what its path says.
pub(super) struct PathDecoder {
    inner: AnyDecoder,
    /// Columns of one row, or what is wrong with the path.
    values: Result<Vec<ArrayRef>, String>,
    wanted: SchemaRef,
    sources: Arc<[(bool, usize)]>,
}

impl PathDecoder {
    fn add(&self, values: &[ArrayRef], changes: Changes) -> Result<Changes, ArrowError> {
        let rows = changes.batch.num_rows();
        let zeros = UInt32Array::from(vec![0; rows]);
        let column = |(is_in_path, place): &(bool, usize)| match is_in_path {
            true => take(&values[*place], &zeros, None),
            false => Ok(Arc::clone(changes.batch.column(*place))),
        };
        let columns = self.sources.iter().map(column).collect::<Result<_, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.wanted), columns, &options)?;
        Ok(Changes { batch, weights: changes.weights })
    }
}

impl Decoder for PathDecoder {
    type Out = Changes;

    fn read_head(&mut self, bytes: &[u8], last: bool) -> Result<Option<(usize, u64)>, Malformed> {
        match &self.values {
            Ok(_) => self.inner.read_head(bytes, last),
            Err(reason) => {
                let reason = reason.clone();
                Err(Malformed { start: 0, end: 0, lines_before: 0, column: 0, field: None, reason })
            }
        }
    }

    fn decode(&mut self, block: Block<'_>, max: usize, out: &mut Vec<Changes>) -> Decoded {
        let from = out.len();
        let mut decoded = self.inner.decode(block, max, out);
        if let Ok(values) = &self.values
            && !values.is_empty()
        {
            for at in from..out.len() {
                match self.add(values, std::mem::take(&mut out[at])) {
                    Ok(changes) => out[at] = changes,
                    Err(error) => {
                        out.truncate(at);
                        decoded.stop = hurtig_formats::Stop::Malformed(Malformed {
                            start: 0,
                            end: decoded.used,
                            lines_before: 0,
                            column: 0,
                            field: None,
                            reason: error.to_string(),
                        });
                        break;
                    }
                }
            }
        }
        decoded
    }
}
