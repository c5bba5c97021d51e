//! Keeps the rows that satisfy a condition and computes columns of them. No state.

use super::{Output, emit};
use crate::changes::Changes;
use crate::functions::at_time;
use crate::plan::stream::Physical;
use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use datafusion_common::DataFusionError;
use hurtig_dataflow::error::Fatal;
use hurtig_dataflow::operator::{Operator, Progress};
use hurtig_dataflow::{BoxError, OpResult};
use std::sync::Arc;

/// See the module.
pub(crate) struct Calc {
    pub(crate) predicate: Option<Physical>,
    pub(crate) columns: Option<Vec<Physical>>,
    pub(crate) schema: SchemaRef,
}

/// A calculation that fails, such as a division by zero, fails again when it is tried again.
fn fatal(error: DataFusionError) -> BoxError {
    Fatal(format!("a row cannot be computed: {}", error.strip_backtrace()).into()).into()
}

/// The column that an expression computes.
pub(super) fn evaluate(expr: &Physical, batch: &RecordBatch) -> OpResult<ArrayRef> {
    let value = expr.evaluate(batch).map_err(fatal)?;
    value.into_array(batch.num_rows()).map_err(fatal)
}

/// The rows of a batch for which a condition is true.
pub(super) fn filtered(predicate: &Physical, changes: Changes) -> OpResult<Changes> {
    let mask = evaluate(predicate, &changes.batch)?;
    let mask = mask.as_boolean();
    match mask.true_count() {
        all if all == changes.batch.num_rows() => Ok(changes),
        _ => Ok(changes.filter(mask)?),
    }
}

impl Calc {
    /// The rows that are kept, with the columns that are computed.
    pub(super) fn apply(&self, mut changes: Changes) -> OpResult<Changes> {
        if let Some(predicate) = &self.predicate {
            changes = filtered(predicate, changes)?;
        }
        if changes.batch.num_rows() == 0 {
            return Ok(Changes::default());
        }
        if let Some(columns) = &self.columns {
            let arrays = columns.iter().zip(self.schema.fields()).map(|(expr, field)| {
                let array = evaluate(expr, &changes.batch)?;
                // Functions may give text or lists in another of Arrow's forms.
                let fits = array.data_type() == field.data_type();
                OpResult::Ok(if fits { array } else { cast(&array, field.data_type())? })
            });
            let arrays = arrays.collect::<OpResult<Vec<_>>>()?;
            let options = RecordBatchOptions::new().with_row_count(Some(changes.batch.num_rows()));
            changes.batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), arrays, &options)?;
        }
        Ok(changes)
    }
}

impl Operator for Calc {
    type In = Changes;
    type Out = Changes;

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let changes = at_time(ctx.processing_time(), || self.apply(changes))?;
        emit(ctx, changes)?;
        Ok(Progress::Done)
    }
}
