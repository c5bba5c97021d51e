//! Keeps the rows of each partition whose number in its order lies within bounds. Keeps, where rows are only ever added, as
//! many rows of each partition as the upper bound says, otherwise all; of a window until it is over.

use super::groups::Groups;
use super::sort_key::SortKeys;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::SortKey;
use crate::rows::{RowKey, RowReader, RowWriter};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable, NamespacedTable};
use hurtig_dataflow::{OpResult, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A row with its place in the order.
#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    order: Box<[u8]>,
    /// Rows that are equal in the order come in that of their arrival.
    arrival: u64,
    row: Box<[u8]>,
}

/// The rows of a partition, in order.
#[derive(Default, Serialize, Deserialize)]
struct Ranked {
    arrivals: u64,
    entries: Vec<Entry>,
    /// Rows that were taken away before they came.
    owed: Vec<Box<[u8]>>,
}

impl Ranked {
    fn add(&mut self, order: &[u8], row: &[u8], most: usize, removed: &mut Vec<Entry>) {
        if let Some(at) = self.owed.iter().position(|owed| **owed == *row) {
            self.owed.swap_remove(at);
            return;
        }
        let arrival = self.arrivals;
        let place = self.entries.partition_point(|entry| *entry.order <= *order);
        if place >= most {
            return;
        }
        self.arrivals += 1;
        self.entries.insert(place, Entry { order: order.into(), arrival, row: row.into() });
        if self.entries.len() > most {
            removed.extend(self.entries.pop());
        }
    }

    fn remove(&mut self, order: &[u8], row: &[u8], removed: &mut Vec<Entry>) {
        let from = self.entries.partition_point(|entry| *entry.order < *order);
        let to = self.entries.partition_point(|entry| *entry.order <= *order);
        match self.entries[from..to].iter().rposition(|entry| *entry.row == *row) {
            Some(at) => removed.push(self.entries.remove(from + at)),
            None => self.owed.push(row.into()),
        }
    }
}

/// See the module.
pub(crate) struct Rank {
    partition: Vec<usize>,
    order: Vec<SortKey>,
    /// Numbers that are let through, from 0, the upper one excluded.
    from: usize,
    to: usize,
    has_number: bool,
    window_end: Option<usize>,
    /// Rows above the upper bound are of no use once they are.
    most: usize,
    input: SchemaRef,
    schema: SchemaRef,
    ranked: Handle<KeyedTable<RowKey, Ranked>>,
    windows: Handle<NamespacedTable<RowKey, Ranked>>,
    closing: Option<Box<dyn Iterator<Item = (RowKey, Ranked)> + Send>>,
}

impl Rank {
    #[expect(clippy::too_many_arguments, reason = "the parts of one operation of the plan")]
    pub(crate) fn new(
        partition: Vec<usize>,
        order: Vec<SortKey>,
        (from, to): (u64, u64),
        has_number: bool,
        window_end: Option<usize>,
        is_append_only: bool,
        input: SchemaRef,
        schema: SchemaRef,
    ) -> Self {
        let to = usize::try_from(to).unwrap_or(usize::MAX);
        Rank {
            partition,
            order,
            from: usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX),
            to,
            has_number,
            window_end,
            most: if is_append_only { to } else { usize::MAX },
            input,
            schema,
            ranked: Handle::default(),
            windows: Handle::default(),
            closing: None,
        }
    }

    fn visible<'r>(&self, ranked: &'r Ranked) -> &'r [Entry] {
        let end = ranked.entries.len().min(self.to);
        &ranked.entries[self.from.min(end)..end]
    }

    /// Rows with their numbers as changes.
    fn changes(&self, rows: RowWriter, numbers: Vec<i64>, weights: Vec<i64>) -> OpResult<Changes> {
        let count = rows.len();
        let mut columns = rows.into_arrays()?;
        if columns.len() < self.schema.fields().len() {
            let numbers: ArrayRef = match self.has_number {
                true => Arc::new(Int64Array::from(numbers)),
                false => Arc::new(Int64Array::new_null(count)),
            };
            debug_assert_eq!(self.schema.field(columns.len()).data_type(), &DataType::Int64);
            columns.push(numbers);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Changes::weighted(batch, weights)?)
    }

    /// Puts out the rows of windows that are over.
    fn close_until(&mut self, time: Timestamp, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let most = ctx.batch_size().max(1);
        let mut rows = RowWriter::of_schema(&self.input)?;
        let mut numbers = Vec::new();
        let is_done = loop {
            if rows.len() >= most {
                break false;
            }
            if let Some((_, ranked)) = self.closing.as_mut().and_then(Iterator::next) {
                for (at, entry) in self.visible(&ranked).iter().enumerate() {
                    rows.push(&entry.row)?;
                    numbers.push((self.from + at) as i64 + 1);
                }
                continue;
            }
            let windows = ctx.states().get_mut(self.windows);
            match windows.first().filter(|end| *end <= time) {
                Some(end) => {
                    self.closing = windows.take(end).map(|table| Box::new(table.into_rows()) as _);
                }
                None => break true,
            }
        };
        if rows.len() > 0 {
            let weights = vec![1; rows.len()];
            emit(ctx, self.changes(rows, numbers, weights)?)?;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }

    /// Takes the rows of one partition in.
    fn apply(
        &self,
        ranked: &mut Ranked,
        rows: &[u32],
        changes: &Changes,
        keys: &SortKeys,
        reader: &RowReader<'_>,
        removed: &mut Vec<Entry>,
    ) {
        let mut bytes = Vec::new();
        for row in rows.iter().map(|row| *row as usize) {
            let order = keys.key(row);
            bytes.clear();
            reader.write(row, &mut bytes);
            let weight = changes.weight(row);
            for _ in 0..weight.unsigned_abs() {
                match weight > 0 {
                    true => ranked.add(&order, &bytes, self.most, removed),
                    false => ranked.remove(&order, &bytes, removed),
                }
            }
        }
    }
}

impl Operator for Rank {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        match self.window_end {
            None => self.ranked = ctx.states.keyed("ranked")?,
            Some(_) => self.windows = ctx.states.namespaced("windows")?,
        }
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = SortKeys::of(&changes.batch, &self.order)?;
        let reader = RowReader::of_batch(&changes.batch)?;
        let mut removed = Vec::new();
        if let Some(end) = self.window_end {
            let ends = changes.batch.column(end).as_primitive::<TimestampMillisecondType>();
            let passed = ctx.watermark();
            let is_late = |row: usize| ends.is_null(row) || ends.value(row) - 1 <= passed;
            let groups = Groups::of(&changes, &self.partition, |row| !is_late(row))?;
            let late = (0..ends.len()).filter(|row| is_late(*row)).count();
            ctx.count_late_dropped(late as u64);
            let windows = ctx.states().get_mut(self.windows);
            for at in 0..groups.len() {
                let rows = groups.rows(at);
                let part = windows.namespace(ends.value(rows[0] as usize));
                let ranked =
                    part.get_or_insert_with(groups.hashes[at], groups.keys[at].clone(), Ranked::default);
                self.apply(ranked, rows, &changes, &keys, &reader, &mut removed);
            }
            return Ok(Progress::Done);
        }
        let groups = Groups::of(&changes, &self.partition, |_| true)?;
        let mut out = RowWriter::of_schema(&self.input)?;
        let (mut numbers, mut weights) = (Vec::new(), Vec::new());
        let table = ctx.states().get_mut(self.ranked);
        let (mut before, mut after) = (Vec::new(), Vec::new());
        for at in 0..groups.len() {
            let (key, hash) = (&groups.keys[at], groups.hashes[at]);
            let ranked = table.get_or_insert_with(hash, key.clone(), Ranked::default);
            let arrivals = |ranked: &Ranked, into: &mut Vec<u64>| {
                into.clear();
                into.extend(self.visible(ranked).iter().map(|entry| entry.arrival));
            };
            arrivals(ranked, &mut before);
            removed.clear();
            self.apply(ranked, groups.rows(at), &changes, &keys, &reader, &mut removed);
            arrivals(ranked, &mut after);
            let mut put = |arrival: u64, place: usize, weight: i64| -> OpResult {
                let known = removed.iter().chain(&ranked.entries);
                if let Some(entry) = known.into_iter().find(|entry| entry.arrival == arrival) {
                    out.push(&entry.row)?;
                    numbers.push((self.from + place) as i64 + 1);
                    weights.push(weight);
                }
                Ok(())
            };
            if self.has_number {
                for place in 0..before.len().max(after.len()) {
                    let (old, new) = (before.get(place), after.get(place));
                    if old != new {
                        old.map(|old| put(*old, place, -1)).transpose()?;
                        new.map(|new| put(*new, place, 1)).transpose()?;
                    }
                }
            } else {
                for old in before.iter().filter(|old| !after.contains(old)) {
                    put(*old, 0, -1)?;
                }
                for new in after.iter().filter(|new| !before.contains(new)) {
                    put(*new, 0, 1)?;
                }
            }
            if ranked.entries.is_empty() && ranked.owed.is_empty() {
                table.remove(hash, key);
            }
        }
        if out.len() > 0 {
            emit(ctx, self.changes(out, numbers, weights)?)?;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        match self.window_end {
            Some(_) => {
                let time = ctx.watermark().saturating_add(1);
                self.close_until(time, ctx)
            }
            None => Ok(Progress::Done),
        }
    }
}
