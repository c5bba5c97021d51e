//! Puts rows into order: all of them once the input has ended, or, of a stream in order of event time, those that the
//! watermark has passed. Keeps the rows until then.

use super::sort_key::SortKeys;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::SortKey;
use crate::rows::{RowKey, RowReader, RowWriter};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, ItemList, KeyedTable, NamespacedTable};
use hurtig_dataflow::{OpResult, Timestamp};
use std::collections::HashMap;

/// A row with what it is sorted by.
type Row = (Box<[u8]>, Box<[u8]>);

/// Sorts everything, at the end.
pub(crate) struct Sort {
    pub(crate) order: Vec<SortKey>,
    pub(crate) skip: usize,
    pub(crate) fetch: Option<usize>,
    pub(crate) schema: SchemaRef,
    rows: Handle<ItemList<(Row, i64)>>,
    sorted: Option<std::vec::IntoIter<Box<[u8]>>>,
    ended: bool,
}

impl Sort {
    pub(crate) fn new(order: Vec<SortKey>, skip: usize, fetch: Option<usize>, schema: SchemaRef) -> Self {
        Sort { order, skip, fetch, schema, rows: Handle::default(), sorted: None, ended: false }
    }

    /// Rows that are there, as often as they are, in order; equal ones in that of their arrival.
    fn sorted(&self, rows: Vec<(Row, i64)>) -> Vec<Box<[u8]>> {
        let is_append_only = rows.iter().all(|(_, weight)| *weight == 1);
        let mut kept: Vec<(Row, i64)> = if is_append_only {
            rows
        } else {
            let mut counts: HashMap<Row, i64> = HashMap::new();
            let mut order = Vec::new();
            for (row, weight) in rows {
                let count = counts.entry(row.clone()).or_insert_with(|| {
                    order.push(row);
                    0
                });
                *count += weight;
            }
            order.into_iter().map(|row| (row.clone(), counts[&row])).filter(|(_, count)| *count > 0).collect()
        };
        kept.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0));
        let each =
            kept.into_iter().flat_map(|((_, row), count)| std::iter::repeat_n(row, count.max(0) as usize));
        each.skip(self.skip).take(self.fetch.unwrap_or(usize::MAX)).collect()
    }
}

impl Operator for Sort {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.rows = ctx.states.list("rows")?;
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = SortKeys::of(&changes.batch, &self.order)?;
        let reader = RowReader::of_batch(&changes.batch)?;
        let new =
            (0..changes.batch.num_rows()).map(|row| ((keys.key(row), reader.row(row)), changes.weight(row)));
        ctx.states().get_mut(self.rows).items.extend(new);
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        if !std::mem::replace(&mut self.ended, true) {
            let rows = std::mem::take(&mut ctx.states().get_mut(self.rows).items);
            self.sorted = Some(self.sorted(rows).into_iter());
        }
        let Some(sorted) = &mut self.sorted else { return Ok(Progress::Done) };
        let mut batch = RowWriter::of_schema(&self.schema)?;
        for row in sorted.by_ref().take(ctx.batch_size().max(1)) {
            batch.push(&row)?;
        }
        let is_done = sorted.len() == 0;
        if batch.len() > 0 {
            emit(ctx, Changes::append_only(batch.into_batch(self.schema.clone())?))?;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }
}

/// Sorts by event time, as far as the watermark has come.
pub(crate) struct TimeSort {
    pub(crate) time: usize,
    pub(crate) order: Vec<SortKey>,
    pub(crate) schema: SchemaRef,
    rows: Handle<NamespacedTable<RowKey, Vec<(Row, i64)>>>,
}

impl TimeSort {
    pub(crate) fn new(time: usize, order: Vec<SortKey>, schema: SchemaRef) -> Self {
        TimeSort { time, order, schema, rows: Handle::default() }
    }

    fn put_out(&mut self, until: Timestamp, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let most = ctx.batch_size().max(1);
        let mut batch = RowWriter::of_schema(&self.schema)?;
        let mut weights = Vec::new();
        let is_done = loop {
            if batch.len() >= most {
                break false;
            }
            let table = ctx.states().get_mut(self.rows);
            let Some(time) = table.first().filter(|time| *time <= until) else { break true };
            let taken: Option<KeyedTable<RowKey, Vec<(Row, i64)>>> = table.take(time);
            let mut rows: Vec<(Row, i64)> =
                taken.into_iter().flat_map(KeyedTable::into_rows).flat_map(|(_, rows)| rows).collect();
            rows.sort_by(|(a, _), (b, _)| a.0.cmp(&b.0));
            for ((_, row), weight) in rows {
                batch.push(&row)?;
                weights.push(weight);
            }
        };
        if batch.len() > 0 {
            emit(ctx, Changes::weighted(batch.into_batch(self.schema.clone())?, weights)?)?;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }
}

impl Operator for TimeSort {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.rows = ctx.states.namespaced("rows")?;
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = SortKeys::of(&changes.batch, &self.order)?;
        let reader = RowReader::of_batch(&changes.batch)?;
        let times = changes.batch.column(self.time).as_primitive::<TimestampMillisecondType>();
        let (passed, all) = (ctx.watermark(), RowKey::default());
        let hash = hash_key(&all);
        let mut late = 0;
        let table = ctx.states().get_mut(self.rows);
        for row in 0..times.len() {
            if times.is_null(row) || times.value(row) <= passed {
                late += 1;
                continue;
            }
            let rows = table.namespace(times.value(row)).get_or_insert_with(hash, all.clone(), Vec::new);
            rows.push(((keys.key(row), reader.row(row)), changes.weight(row)));
        }
        ctx.count_late_dropped(late);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let time = ctx.watermark();
        self.put_out(time, ctx)
    }
}
