//! Joins each row with the rows of a table that are there when it comes. The table is read when the operator opens, whole,
//! into memory. No state.

use super::calc::evaluate;
use super::{Output, emit};
use crate::changes::Changes;
use crate::connector::ReadAll;
use crate::plan::stream::Physical;
use crate::rows::{RowKey, RowReader, RowWriter};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{nullif, take};
use arrow::datatypes::SchemaRef;
use hurtig_dataflow::OpResult;
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use std::collections::HashMap;
use std::sync::Arc;

/// See the module.
pub(crate) struct LookupJoin {
    pub(crate) read_all: ReadAll,
    /// What becomes of the table's columns before it is joined.
    pub(crate) prepare: Vec<super::Calc>,
    pub(crate) left_keys: Vec<usize>,
    pub(crate) right_keys: Vec<usize>,
    pub(crate) outer: bool,
    pub(crate) filter: Option<Physical>,
    pub(crate) right: SchemaRef,
    pub(crate) schema: SchemaRef,
    pub(crate) rows: HashMap<RowKey, Vec<Box<[u8]>>>,
}

impl Operator for LookupJoin {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        for mut changes in (self.read_all)(ctx.place)? {
            for calc in &self.prepare {
                changes = calc.apply(changes)?;
            }
            if changes.batch.num_rows() == 0 {
                continue;
            }
            let keys = RowReader::of_columns(&changes.batch, &self.right_keys)?;
            let rows = RowReader::of_batch(&changes.batch)?;
            for row in (0..changes.batch.num_rows()).filter(|row| !keys.has_null(*row)) {
                self.rows.entry(keys.key(row)).or_default().push(rows.row(row));
            }
        }
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = RowReader::of_columns(&changes.batch, &self.left_keys)?;
        let mut indices = Vec::new();
        let mut rights = RowWriter::of_schema(&self.right)?;
        let mut matched = Vec::new();
        for row in 0..changes.batch.num_rows() {
            let found = self.rows.get(&keys.key(row)).filter(|_| !keys.has_null(row));
            for right in found.into_iter().flatten() {
                indices.push(row as u32);
                rights.push(right)?;
                matched.push(true);
            }
            if found.is_none() && self.outer {
                indices.push(row as u32);
                rights.push_nulls();
                matched.push(false);
            }
        }
        if indices.is_empty() {
            return Ok(Progress::Done);
        }
        let count = indices.len();
        let indices = UInt32Array::from(indices);
        let lefts = changes.batch.columns().iter().map(|column| take(column, &indices, None));
        let lefts = lefts.collect::<Result<Vec<ArrayRef>, _>>()?;
        let mut rights = rights.into_arrays()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let joined = |rights: &[ArrayRef]| {
            let columns = lefts.iter().chain(rights).cloned().collect();
            RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
        };
        let mut batch = joined(&rights)?;
        let mut weights: Vec<i64> =
            indices.values().iter().map(|row| changes.weight(*row as usize)).collect();
        if let Some(filter) = &self.filter {
            let mask = evaluate(filter, &batch)?;
            let mask = mask.as_boolean();
            let keeps = |row: usize| matched[row] && mask.is_valid(row) && mask.value(row);
            if self.outer {
                // Of the pairs of a row, those that do not satisfy the condition go, but for one if all of them do not.
                let mut is_last_chance = vec![false; count];
                let rows = indices.values();
                let mut start = 0;
                while start < count {
                    let end = (start..count).find(|at| rows[*at] != rows[start]).unwrap_or(count);
                    is_last_chance[start] = !(start..end).any(keeps);
                    start = end;
                }
                let empty: BooleanArray = (0..count).map(|row| Some(!keeps(row))).collect();
                rights = rights.iter().map(|column| nullif(column, &empty)).collect::<Result<_, _>>()?;
                batch = joined(&rights)?;
                let goes = |row: &usize| !keeps(*row) && !is_last_chance[*row];
                (0..count).filter(goes).for_each(|row| weights[row] = 0);
            } else {
                (0..count).filter(|row| !keeps(*row)).for_each(|row| weights[row] = 0);
            }
        }
        emit(ctx, Changes::weighted(batch, weights)?)?;
        Ok(Progress::Done)
    }
}
