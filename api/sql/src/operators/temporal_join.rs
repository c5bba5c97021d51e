//! Joins each row of the left side with the version of the right that was valid at the row's event time. Keeps left rows
//! until the watermark has passed them, and of the right side's versions those that may still be asked for.

use super::calc::evaluate;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::Physical;
use crate::rows::{RowKey, RowReader, RowWriter};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Progress, TwoInputOperator};
use hurtig_dataflow::state::{Handle, KeyedTable, NamespacedTable};
use std::sync::Arc;

/// A row of the left side and its weight.
type Waiting = (Box<[u8]>, i64);

/// What a key's row was from a time on.
type Version = (i64, Box<[u8]>);

/// See the module.
pub(crate) struct TemporalJoin {
    pub(crate) left_keys: Vec<usize>,
    pub(crate) right_keys: Vec<usize>,
    pub(crate) left_time: usize,
    pub(crate) right_time: usize,
    pub(crate) outer: bool,
    pub(crate) filter: Option<Physical>,
    pub(crate) left: SchemaRef,
    pub(crate) right: SchemaRef,
    pub(crate) schema: SchemaRef,
    pub(crate) waiting: Handle<NamespacedTable<RowKey, Vec<Waiting>>>,
    pub(crate) versions: Handle<KeyedTable<RowKey, Vec<Version>>>,
}

impl TemporalJoin {
    fn put_out(&self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let watermark = ctx.watermark();
        let most = ctx.batch_size().max(1);
        let mut lefts = RowWriter::of_schema(&self.left)?;
        let mut rights = RowWriter::of_schema(&self.right)?;
        let (mut weights, mut matched) = (Vec::new(), Vec::new());
        let is_done = loop {
            if lefts.len() >= most {
                break false;
            }
            let (waiting, versions) = ctx.states().get_two_mut(self.waiting, self.versions);
            let Some(time) = waiting.first().filter(|time| *time <= watermark) else { break true };
            for (key, rows) in waiting.take(time).into_iter().flat_map(KeyedTable::into_rows) {
                let known = versions.get_mut(hash_key(&key), &key);
                let version = known.and_then(|versions| {
                    let valid = versions.partition_point(|(from, _)| *from <= time);
                    let version = valid.checked_sub(1).map(|at| versions[at].1.clone());
                    // Rows come in order of time: what was valid earlier is not asked for again.
                    versions.drain(..valid.saturating_sub(1));
                    version
                });
                for (row, weight) in rows {
                    if version.is_none() && !self.outer {
                        continue;
                    }
                    lefts.push(&row)?;
                    match &version {
                        Some(version) => rights.push(version)?,
                        None => rights.push_nulls(),
                    }
                    matched.push(version.is_some());
                    weights.push(weight);
                }
            }
        };
        if lefts.len() > 0 {
            let count = lefts.len();
            let (lefts, mut rights) = (lefts.into_arrays()?, rights.into_arrays()?);
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            let joined = |rights: &[ArrayRef]| {
                let columns = lefts.iter().chain(rights).cloned().collect();
                RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            };
            let mut batch = joined(&rights)?;
            if let Some(filter) = &self.filter {
                let mask = evaluate(filter, &batch)?;
                let mask = mask.as_boolean();
                let keeps = |row: usize| matched[row] && mask.is_valid(row) && mask.value(row);
                if self.outer {
                    // A version that does not satisfy the condition is none.
                    let empty: arrow::array::BooleanArray = (0..count).map(|row| Some(!keeps(row))).collect();
                    let nulled = rights.iter().map(|column| arrow::compute::nullif(column, &empty));
                    rights = nulled.collect::<Result<_, _>>()?;
                    batch = joined(&rights)?;
                } else {
                    weights.iter_mut().enumerate().filter(|(row, _)| !keeps(*row)).for_each(|(_, w)| *w = 0);
                }
            }
            emit(ctx, Changes::weighted(batch, weights)?)?;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }
}

impl TwoInputOperator for TemporalJoin {
    type In1 = Changes;
    type In2 = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.waiting = ctx.states.namespaced("waiting")?;
        self.versions = ctx.states.keyed("versions")?;
        Ok(())
    }

    fn process1(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = RowReader::of_columns(&changes.batch, &self.left_keys)?;
        let rows = RowReader::of_batch(&changes.batch)?;
        let times = changes.batch.column(self.left_time).as_primitive::<TimestampMillisecondType>();
        let passed = ctx.watermark();
        let mut late = 0;
        let waiting = ctx.states().get_mut(self.waiting);
        for row in 0..times.len() {
            if times.is_null(row) || times.value(row) <= passed {
                late += 1;
                continue;
            }
            let key = keys.key(row);
            let part = waiting.namespace(times.value(row));
            let rows_of = part.get_or_insert_with(hash_key(&key), key, Vec::new);
            rows_of.push((rows.row(row), changes.weight(row)));
        }
        ctx.count_late_dropped(late);
        Ok(Progress::Done)
    }

    fn process2(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = RowReader::of_columns(&changes.batch, &self.right_keys)?;
        let rows = RowReader::of_batch(&changes.batch)?;
        let times = changes.batch.column(self.right_time).as_primitive::<TimestampMillisecondType>();
        let table = ctx.states().get_mut(self.versions);
        for row in (0..times.len()).filter(|row| times.is_valid(*row) && !keys.has_null(*row)) {
            let key = keys.key(row);
            let versions = table.get_or_insert_with(hash_key(&key), key, Vec::new);
            let (from, bytes) = (times.value(row), rows.row(row));
            let place = versions.partition_point(|(other, _)| *other <= from);
            if changes.weight(row) > 0 {
                // Of two versions of one time the later one holds.
                match versions.get_mut(place.wrapping_sub(1)).filter(|(other, _)| *other == from) {
                    Some(same) => same.1 = bytes,
                    None => versions.insert(place, (from, bytes)),
                }
            } else {
                versions.retain(|version| *version != (from, bytes.clone()));
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        self.put_out(ctx)
    }
}
