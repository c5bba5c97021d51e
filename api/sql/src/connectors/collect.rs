//! Gathers a query's result in the program that runs the job, each change exactly once.

use crate::changes::{Changes, kinds};
use crate::connector::{ChangeKind, TableSink};
use crate::connectors::print;
use crate::connectors::text::{Cells, TimeStyle};
use crate::error::SqlError;
use arrow::array::RecordBatch;
use hurtig_datastream::Collected;
use std::collections::HashMap;

/// A batch, with what happened to which of its rows.
pub type BatchOfKinds = (RecordBatch, Vec<(ChangeKind, usize)>);

/// The values of a row as text, nulls as nothing.
pub type TextRow = Vec<Option<String>>;

/// The result of a query so far. Changes appear when a checkpoint is complete and at the end of the job; in a job
/// without checkpoints at once, and after a failure again.
#[derive(Clone)]
pub struct TableCollector {
    collected: Collected<Changes>,
    key: Option<Vec<usize>>,
}

impl TableCollector {
    /// A collector of rows that are told apart by the given columns, if they are.
    pub(crate) fn new(key: Option<Vec<usize>>) -> Self {
        TableCollector { collected: Collected::new(), key }
    }

    /// The sink that fills it.
    pub(crate) fn sink(&self) -> TableSink {
        TableSink::of(self.collected.sink())
    }

    /// Takes out what has come: batches of changes; those of one subtask are in order.
    pub fn take(&self) -> Vec<Changes> {
        self.collected.take()
    }

    /// Takes out what has come: each batch with what happened to which of its rows.
    ///
    /// # Errors
    /// Rows of a type that cannot be compared.
    pub fn take_kinds(&self) -> Result<Vec<BatchOfKinds>, SqlError> {
        let told = |changes: Changes| {
            let kinds = kinds(&changes, self.key.as_deref());
            let kinds = kinds.map_err(|error| SqlError::unsupported(error.to_string()))?;
            Ok((changes.batch, kinds))
        };
        self.collected.take().into_iter().map(told).collect()
    }

    /// Takes out what has come: what happened to which row, its values as text, nulls as nothing.
    ///
    /// # Errors
    /// Rows of a type that cannot be compared.
    pub fn take_rows(&self) -> Result<Vec<(ChangeKind, TextRow)>, SqlError> {
        let mut rows = Vec::new();
        for (batch, kinds) in self.take_kinds()? {
            let columns = Cells::of_columns(batch.columns())?;
            rows.extend(kinds.into_iter().map(|(kind, row)| (kind, cells(&columns, row))));
        }
        Ok(rows)
    }

    /// Takes out what has come, as the table that it makes: each row as often as it is there, its values as text, nulls as
    /// nothing, in no order.
    ///
    /// # Errors
    /// Rows of a type that cannot be compared, and rows that were taken away more often than they came.
    pub fn take_table(&self) -> Result<Vec<TextRow>, SqlError> {
        let mut counts: HashMap<Vec<Option<String>>, i64> = HashMap::new();
        let mut order = Vec::new();
        for changes in self.collected.take() {
            let columns = Cells::of_columns(changes.batch.columns())?;
            for row in 0..changes.batch.num_rows() {
                let cells = cells(&columns, row);
                let weight = changes.weight(row);
                match counts.get_mut(&cells) {
                    Some(count) => *count += weight,
                    None => {
                        order.push(cells.clone());
                        counts.insert(cells, weight);
                    }
                }
            }
        }
        if let Some((row, _)) = counts.iter().find(|(_, count)| **count < 0) {
            return Err(SqlError::statement(format!(
                "the row {row:?} was taken away more often than it came"
            )));
        }
        let times = |row: Vec<Option<String>>| {
            let count = counts.get(&row).copied().unwrap_or(0);
            std::iter::repeat_n(row, count.max(0) as usize)
        };
        Ok(order.into_iter().flat_map(times).collect())
    }
}

/// The values of a row as text.
fn cells(columns: &[Cells<'_>], row: usize) -> Vec<Option<String>> {
    let cell = |column: &Cells<'_>| {
        let mut text = Vec::new();
        print::value(column, row, TimeStyle::Sql, &mut text);
        (!column.is_null(row)).then(|| String::from_utf8_lossy(&text).into_owned())
    };
    columns.iter().map(cell).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connectors::testing::table;
    use hurtig_dataflow::harness::Harness;

    #[test]
    fn changes_appear_with_their_checkpoint_and_only_once() {
        let collector = TableCollector::new(None);
        let sink = collector.sink();
        let mut harness = Harness::<Changes>::of(sink.operator);
        let mut committer = (sink.committer)().unwrap();
        harness.push([(table("1, a"), 0)]);
        let snapshot = harness.snapshot();
        assert!(collector.take().is_empty());
        let committables: Vec<Vec<u8>> = snapshot.committables.iter().map(|c| c.to_vec()).collect();
        committer.commit(committables.clone()).unwrap();
        committer.commit(committables).unwrap();
        assert_eq!(collector.take(), [table("1, a")]);
    }
}
