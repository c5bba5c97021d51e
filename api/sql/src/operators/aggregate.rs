//! Groups rows and computes functions of each group. Keeps what each function needs, per group, and per window where rows
//! are grouped by one: until it is over; otherwise for as long as the group has rows.

mod accumulator;

pub(super) use accumulator::{Accumulator, Aggregator, Input};

use super::groups::Groups;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::{Call, Emit};
use crate::rows::{RowKey, RowWriter};
use crate::value::{Value, ValueBuilder};
use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, NamespacedTable, StateStore};
use hurtig_dataflow::{OpResult, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is kept of one group.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Group {
    /// Rows that are there.
    pub(super) rows: i64,
    pub(super) accumulators: Box<[Accumulator]>,
}

/// Results by group: the group's columns, then the functions'.
pub(super) struct Results {
    groups: RowWriter,
    values: Vec<ValueBuilder>,
    weights: Vec<i64>,
    schema: SchemaRef,
}

impl Results {
    pub(super) fn new(schema: &SchemaRef, calls: usize) -> OpResult<Self> {
        let groups = schema.fields().len() - calls;
        let types = schema.fields().iter().map(|field| field.data_type());
        let values = types.clone().skip(groups).map(ValueBuilder::new).collect::<Result<_, _>>()?;
        let groups = RowWriter::new(types.take(groups))?;
        Ok(Results { groups, values, weights: Vec::new(), schema: Arc::clone(schema) })
    }

    pub(super) fn push(&mut self, group: &[u8], values: &[Option<Value>], weight: i64) -> OpResult {
        self.groups.push(group)?;
        for (column, value) in self.values.iter_mut().zip(values) {
            column.push(value.as_ref())?;
        }
        self.weights.push(weight);
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.weights.len()
    }

    pub(super) fn finish(self) -> OpResult<Changes> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.weights.len()));
        let mut columns = self.groups.into_arrays()?;
        for values in self.values {
            columns.push(values.finish()?);
        }
        let batch = RecordBatch::try_new_with_options(self.schema, columns, &options)?;
        Ok(Changes::weighted(batch, self.weights)?)
    }
}

/// See the module.
pub(crate) struct Aggregate {
    groups: Vec<usize>,
    aggregators: Vec<Aggregator>,
    emit: Emit,
    schema: SchemaRef,
    /// One part for each window; a single one where there are none.
    state: Handle<NamespacedTable<RowKey, Group>>,
    /// Results of windows that are over, still to be put out.
    closing: Option<Box<dyn Iterator<Item = (RowKey, Group)> + Send>>,
    /// Whether the group of no columns is this subtask's, and is there without any row.
    has_total: bool,
    ended: bool,
}

impl Aggregate {
    pub(crate) fn new(
        groups: Vec<usize>,
        calls: Vec<Call>,
        emit: Emit,
        is_append_only: bool,
        schema: SchemaRef,
    ) -> Self {
        let aggregators = calls.into_iter().map(|call| Aggregator::new(call, is_append_only)).collect();
        Aggregate {
            groups,
            aggregators,
            emit,
            schema,
            state: Handle::default(),
            closing: None,
            has_total: false,
            ended: false,
        }
    }

    fn empty(&self) -> Group {
        Group { rows: 0, accumulators: self.aggregators.iter().map(Aggregator::empty).collect() }
    }

    fn results(&self, group: &Group) -> Vec<Option<Value>> {
        let each = self.aggregators.iter().zip(&group.accumulators);
        each.map(|(aggregator, accumulator)| aggregator.result(accumulator)).collect()
    }

    /// Puts out groups that will not change, as many as a batch holds.
    fn close(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let Some(closing) = &mut self.closing else { return Ok(Progress::Done) };
        let mut results = Results::new(&self.schema, self.aggregators.len())?;
        let most = ctx.batch_size().max(1);
        let mut is_done = true;
        let mut closed = Vec::new();
        for (key, group) in closing.by_ref() {
            if group.rows > 0 || self.groups.is_empty() {
                closed.push((key, group));
            }
            if closed.len() >= most {
                is_done = false;
                break;
            }
        }
        for (key, group) in &closed {
            results.push(key.bytes(), &self.results(group), 1)?;
        }
        if results.len() > 0 {
            emit(ctx, results.finish()?)?;
        }
        if is_done {
            self.closing = None;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }

    /// Puts out the windows that end at or before a time, oldest first.
    fn close_until(&mut self, time: Timestamp, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        loop {
            if self.close(ctx)? == Progress::Yield {
                return Ok(Progress::Yield);
            }
            let state = ctx.states().get_mut(self.state);
            match state.first().filter(|end| *end <= time) {
                Some(end) => {
                    let taken = state.take(end);
                    self.closing = taken.map(|table| Box::new(table.into_rows()) as _);
                }
                None => return Ok(Progress::Done),
            }
        }
    }
}

impl Operator for Aggregate {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.state = ctx.states.namespaced("groups")?;
        let total = hash_key(&RowKey::default());
        self.has_total = self.groups.is_empty() && ctx.states.range().index_of(total).is_some();
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let columns = changes.batch.columns();
        let inputs = self.aggregators.iter().map(|aggregator| aggregator.input(columns));
        let inputs = inputs.collect::<Result<Vec<Input>, _>>()?;
        // Windows that are over take no more rows.
        let ends = match self.emit {
            Emit::WindowEnd { end, is_processing_time } => {
                let ends = columns[end].as_primitive::<TimestampMillisecondType>();
                let passed = if is_processing_time { Timestamp::MIN } else { ctx.watermark() };
                Some((ends, passed))
            }
            _ => None,
        };
        let is_late = |row: usize| {
            ends.is_some_and(|(ends, passed)| ends.is_null(row) || ends.value(row) - 1 <= passed)
        };
        let groups = Groups::of(&changes, &self.groups, |row| !is_late(row))?;
        if ends.is_some() {
            let late = (0..changes.batch.num_rows()).filter(|row| is_late(*row)).count();
            ctx.count_late_dropped(late as u64);
        }
        let is_updating = self.emit == Emit::Changes;
        let mut results = Results::new(&self.schema, self.aggregators.len())?;
        let table = ctx.states().get_mut(self.state);
        for at in 0..groups.len() {
            let (key, hash, rows) = (&groups.keys[at], groups.hashes[at], groups.rows(at));
            let namespace = ends.map_or(0, |(ends, _)| ends.value(rows[0] as usize));
            let part = table.namespace(namespace);
            let group = part.get_or_insert_with(hash, key.clone(), || self.empty());
            let before = (is_updating && group.rows > 0).then(|| self.results(group));
            let each = self.aggregators.iter().zip(&inputs).zip(group.accumulators.iter_mut());
            for ((aggregator, input), accumulator) in each {
                match &changes.weights {
                    None => aggregator.apply(accumulator, input, rows, |_| 1),
                    Some(weights) => aggregator.apply(accumulator, input, rows, |row| weights[row]),
                }
            }
            group.rows += rows.iter().map(|row| changes.weight(*row as usize)).sum::<i64>();
            let is_there = group.rows > 0;
            if is_updating {
                let after = is_there.then(|| self.results(group));
                if before != after {
                    if let Some(before) = &before {
                        results.push(key.bytes(), before, -1)?;
                    }
                    if let Some(after) = &after {
                        results.push(key.bytes(), after, 1)?;
                    }
                }
            }
            if group.rows == 0 {
                part.remove(hash, key);
            }
        }
        if results.len() > 0 {
            emit(ctx, results.finish()?)?;
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        match self.emit {
            Emit::WindowEnd { is_processing_time: false, .. } => {
                // A window is over once the watermark has reached its last millisecond.
                let time = ctx.watermark().saturating_add(1);
                self.close_until(time, ctx)
            }
            _ => Ok(Progress::Done),
        }
    }

    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        match self.emit {
            Emit::WindowEnd { is_processing_time: true, .. } => states.get(self.state).first(),
            _ => None,
        }
    }

    fn on_processing_time(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let time = ctx.processing_time();
        self.close_until(time, ctx)
    }

    fn on_end(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        if self.emit == Emit::AtEnd && !std::mem::replace(&mut self.ended, true) {
            let total = RowKey::default();
            let hash = hash_key(&total);
            let empty = self.empty();
            let state = ctx.states().get_mut(self.state);
            if self.has_total {
                state.namespace(0).get_or_insert_with(hash, total, || empty);
            }
        }
        match self.emit {
            Emit::Changes | Emit::Session { .. } => Ok(Progress::Done),
            // What still waits for the machine's time comes at the end.
            Emit::AtEnd | Emit::WindowEnd { .. } => self.close_until(Timestamp::MAX, ctx),
        }
    }
}
