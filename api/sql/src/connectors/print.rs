//! Connector `print`: writes rows to standard output as Flink does, a line each: `+I[1, a]`.
//!
//! | option | meaning |
//! |---|---|
//! | `print-identifier` | begins every line |

use super::text::{Cells, TimeStyle, Values};
use crate::changes::{Changes, kinds};
use crate::connector::{Connector, SinkInput, TableDefinition, TableSink};
use crate::error::SqlError;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::sink::{Sink, SinkContext, SinkWriter};
use hurtig_dataflow::{OpResult, Rows};
use std::io::Write as _;

/// The connector.
pub(super) struct Print;

impl Connector for Print {
    fn name(&self) -> &'static str {
        "print"
    }

    fn options(&self) -> &'static [&'static str] {
        &["print-identifier"]
    }

    fn sink(&self, table: &TableDefinition, input: SinkInput) -> Result<TableSink, SqlError> {
        let identifier = table.options.get("print-identifier").unwrap_or_default().to_string();
        Ok(TableSink::of(PrintSink { identifier, key: input.key }))
    }
}

struct PrintSink {
    identifier: String,
    key: Option<Vec<usize>>,
}

impl Sink for PrintSink {
    type In = Changes;

    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<Changes>>> {
        let subtask = place.subtask + 1;
        let prefix = match (self.identifier.as_str(), place.parallelism) {
            ("", 1) => String::new(),
            ("", _) => format!("{subtask}> "),
            (identifier, 1) => format!("{identifier}> "),
            (identifier, _) => format!("{identifier}:{subtask}> "),
        };
        Ok(Box::new(Writer { prefix, key: self.key.clone(), lines: Vec::new() }))
    }
}

struct Writer {
    prefix: String,
    key: Option<Vec<usize>>,
    lines: Vec<u8>,
}

impl SinkWriter<Changes> for Writer {
    fn write(&mut self, batch: Rows<Changes>, _: &mut SinkContext<'_>) -> OpResult {
        self.lines.clear();
        for changes in &batch.records {
            print(changes, self.key.as_deref(), &self.prefix, &mut self.lines)?;
        }
        std::io::stdout().write_all(&self.lines)?;
        Ok(())
    }
}

/// Adds a line per change.
fn print(changes: &Changes, key: Option<&[usize]>, prefix: &str, out: &mut Vec<u8>) -> OpResult {
    let columns = Cells::of_columns(changes.batch.columns())?;
    for (kind, row) in kinds(changes, key)? {
        out.extend_from_slice(prefix.as_bytes());
        out.extend_from_slice(kind.symbol().as_bytes());
        list(columns.iter().map(|column| (column, row)), TimeStyle::Short, out);
        out.push(b'\n');
    }
    Ok(())
}

/// A row as Flink prints it: `+I[1, a]`.
#[cfg(test)]
pub(crate) fn row_text(changes: &Changes, key: Option<&[usize]>) -> OpResult<Vec<String>> {
    let mut lines = Vec::new();
    print(changes, key, "", &mut lines)?;
    Ok(String::from_utf8_lossy(&lines).lines().map(str::to_string).collect())
}

fn list<'a>(values: impl Iterator<Item = (&'a Cells<'a>, usize)>, style: TimeStyle, out: &mut Vec<u8>) {
    out.push(b'[');
    for (at, (column, row)) in values.enumerate() {
        if at > 0 {
            out.extend_from_slice(b", ");
        }
        value(column, row, style, out);
    }
    out.push(b']');
}

/// A value of any type.
pub(super) fn value(column: &Cells<'_>, row: usize, style: TimeStyle, out: &mut Vec<u8>) {
    if column.is_null(row) {
        return out.extend_from_slice(b"null");
    }
    match &column.values {
        Values::Struct { fields, .. } => {
            out.extend_from_slice(b"+I");
            list(fields.iter().map(|field| (field, row)), style, out);
        }
        Values::List { offsets, items } => {
            list((offsets[row]..offsets[row + 1]).map(|item| (&**items, item as usize)), style, out);
        }
        Values::Map { offsets, keys, items } => {
            out.push(b'{');
            for (at, item) in (offsets[row]..offsets[row + 1]).enumerate() {
                if at > 0 {
                    out.extend_from_slice(b", ");
                }
                value(keys, item as usize, style, out);
                out.push(b'=');
                value(items, item as usize, style, out);
            }
            out.push(b'}');
        }
        Values::Bytes { .. } => {
            // Java's bytes have signs.
            let bytes = column.text(row).unwrap_or_default();
            let _ = write!(out, "{:?}", bytes.iter().map(|byte| *byte as i8).collect::<Vec<_>>());
        }
        _ => column.write(row, style, out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::table;
    use arrow::array::{
        ArrayRef, Int64Array, ListArray, RecordBatch, StructArray, TimestampMillisecondArray,
    };
    use arrow::datatypes::{DataType, Field, Int32Type};
    use std::sync::Arc;

    #[test]
    fn rows_are_printed_with_what_happened_to_them() {
        let mut changes = table("1, a\n1, b\n2,\n3, d");
        changes.weights = Some(vec![-1, 1, 2, -1]);
        let lines = row_text(&changes, Some(&[0])).unwrap();
        assert_eq!(lines, ["-U[1, a]", "+U[1, b]", "+I[2, null]", "+I[2, null]", "-D[3, d]"]);
    }

    #[test]
    fn rows_within_rows_and_arrays_are_printed_as_flink_does() {
        let inner: [(_, ArrayRef); 1] = [(
            Arc::new(Field::new(
                "at",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, None),
                true,
            )),
            Arc::new(TimestampMillisecondArray::from(vec![Some(60_000), None])),
        )];
        let row: ArrayRef = Arc::new(StructArray::from(inner.to_vec()));
        let items = vec![Some(vec![Some(1), None]), None];
        let list: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(items));
        let n: ArrayRef = Arc::new(Int64Array::from(vec![7, 8]));
        let batch =
            RecordBatch::try_from_iter_with_nullable([("n", n, true), ("r", row, true), ("l", list, true)]);
        let lines = row_text(&Changes::append_only(batch.unwrap()), None).unwrap();
        assert_eq!(lines, ["+I[7, +I[1970-01-01T00:01], [1, null]]", "+I[8, +I[null], null]"]);
    }
}
