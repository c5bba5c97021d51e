//! Puts each row into the windows that its time falls into, once for each. No state.

use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::WindowKind;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::cast;
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::operator::{Operator, Progress};
use std::sync::Arc;

/// See the module.
pub(crate) struct WindowAssigner {
    pub(crate) window: WindowKind,
    pub(crate) time: usize,
    pub(crate) schema: SchemaRef,
}

/// The largest multiple of `step`, moved by `offset`, that is not after `time`.
fn floor(time: i64, step: i64, offset: i64) -> i64 {
    time - (time - offset).rem_euclid(step)
}

/// Calls `each` with the bounds of the windows that a time falls into, last first.
fn windows_of(window: WindowKind, time: i64, mut each: impl FnMut(i64, i64)) {
    match window {
        WindowKind::Tumble { size, offset } => {
            let start = floor(time, size, offset);
            each(start, start + size);
        }
        WindowKind::Hop { slide, size, offset } => {
            let mut start = floor(time, slide, offset);
            while start > time - size {
                each(start, start + size);
                start -= slide;
            }
        }
        WindowKind::Cumulate { step, size, offset } => {
            let start = floor(time, size, offset);
            let mut end = floor(time, step, offset) + step;
            while end <= start + size {
                each(start, end);
                end += step;
            }
        }
        // Sessions are made where rows are grouped.
        WindowKind::Session { .. } => each(time, time),
    }
}

impl Operator for WindowAssigner {
    type In = Changes;
    type Out = Changes;

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let times = changes.batch.column(self.time).as_primitive::<TimestampMillisecondType>();
        let mut rows = Vec::with_capacity(times.len());
        let (mut starts, mut ends) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        for row in (0..times.len()).filter(|row| times.is_valid(*row)) {
            windows_of(self.window, times.value(row), |start, end| {
                rows.push(row as u32);
                starts.push(start);
                ends.push(end);
            });
        }
        // Where each row has one window, rows stay as they are.
        let is_one_each = rows.len() == times.len()
            && matches!(self.window, WindowKind::Tumble { .. } | WindowKind::Session { .. });
        let Changes { batch, weights } =
            if is_one_each { changes } else { changes.take(&UInt32Array::from(rows))? };
        let last: TimestampMillisecondArray = ends.iter().map(|end| Some(end - 1)).collect();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        columns.push(Arc::new(TimestampMillisecondArray::from(starts)));
        columns.push(Arc::new(TimestampMillisecondArray::from(ends)));
        let last: ArrayRef = Arc::new(last);
        columns.push(cast(&last, self.schema.field(columns.len()).data_type())?);
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        emit(ctx, Changes { batch, weights })?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(window: WindowKind, time: i64) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        windows_of(window, time, |start, end| found.push((start, end)));
        found
    }

    #[test]
    fn a_time_falls_into_the_windows_that_hold_it() {
        assert_eq!(of(WindowKind::Tumble { size: 10, offset: 0 }, 19), [(10, 20)]);
        assert_eq!(of(WindowKind::Tumble { size: 10, offset: 3 }, 12), [(3, 13)]);
        assert_eq!(of(WindowKind::Tumble { size: 10, offset: 0 }, -1), [(-10, 0)]);
        assert_eq!(of(WindowKind::Hop { slide: 5, size: 10, offset: 0 }, 12), [(10, 20), (5, 15)]);
        assert_eq!(of(WindowKind::Cumulate { step: 5, size: 15, offset: 0 }, 7), [(0, 10), (0, 15)]);
    }
}
