//! Computes functions of each row's neighbours: of rows that come in order of event time as the watermark passes them, with
//! no more state than the functions and their frames need; of others for the whole partition whenever it changes, or at the
//! end, with all of its rows as state.

mod running;

use super::groups::Groups;
use super::sort_key::SortKeys;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::{OverCall, SortKey};
use crate::rows::{RowKey, RowReader, RowWriter};
use crate::value::{Value, ValueBuilder};
use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::OpResult;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable, NamespacedTable};
use running::{Function, Inputs, Running};
use std::sync::Arc;

/// A row: what it is sorted by, and itself.
type Entry = (Box<[u8]>, Box<[u8]>);

/// Rows with the functions' results.
struct Results {
    rows: RowWriter,
    values: Vec<ValueBuilder>,
    weights: Vec<i64>,
    schema: SchemaRef,
}

impl Results {
    fn new(input: &SchemaRef, schema: &SchemaRef) -> OpResult<Self> {
        let width = input.fields().len();
        let made = schema.fields().iter().skip(width).map(|field| ValueBuilder::new(field.data_type()));
        let values = made.collect::<Result<_, _>>()?;
        Ok(Results {
            rows: RowWriter::of_schema(input)?,
            values,
            weights: Vec::new(),
            schema: Arc::clone(schema),
        })
    }

    fn push(&mut self, row: &[u8], values: &[Option<Value>], weight: i64) -> OpResult {
        self.rows.push(row)?;
        for (column, value) in self.values.iter_mut().zip(values) {
            column.push(value.as_ref())?;
        }
        self.weights.push(weight);
        Ok(())
    }

    fn put_out(self, ctx: &mut Output<'_, '_>) -> OpResult {
        if self.weights.is_empty() {
            return Ok(());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(self.weights.len()));
        let mut columns = self.rows.into_arrays()?;
        for column in self.values {
            columns.push(column.finish()?);
        }
        let batch = RecordBatch::try_new_with_options(self.schema, columns, &options)?;
        emit(ctx, Changes::weighted(batch, self.weights)?)?;
        Ok(())
    }
}

/// Of rows in order of event time.
pub(crate) struct OverTime {
    partition: Vec<usize>,
    order: Vec<SortKey>,
    time: usize,
    functions: Vec<Function>,
    input: SchemaRef,
    schema: SchemaRef,
    waiting: Handle<NamespacedTable<RowKey, Vec<Entry>>>,
    running: Handle<KeyedTable<RowKey, Vec<Running>>>,
}

impl OverTime {
    pub(crate) fn new(
        partition: Vec<usize>,
        order: Vec<SortKey>,
        time: usize,
        calls: Vec<OverCall>,
        input: SchemaRef,
        schema: SchemaRef,
    ) -> Self {
        let functions = calls.into_iter().map(Function::new).collect();
        OverTime {
            partition,
            order,
            time,
            functions,
            input,
            schema,
            waiting: Handle::default(),
            running: Handle::default(),
        }
    }
}

impl Operator for OverTime {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.waiting = ctx.states.namespaced("waiting")?;
        self.running = ctx.states.keyed("running")?;
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let keys = RowReader::of_columns(&changes.batch, &self.partition)?;
        let rows = RowReader::of_batch(&changes.batch)?;
        let orders = SortKeys::of(&changes.batch, &self.order)?;
        let times = changes.batch.column(self.time).as_primitive::<TimestampMillisecondType>();
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
            part.get_or_insert_with(hash_key(&key), key, Vec::new).push((orders.key(row), rows.row(row)));
        }
        ctx.count_late_dropped(late);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let (watermark, most) = (ctx.watermark(), ctx.batch_size().max(1));
        let mut results = Results::new(&self.input, &self.schema)?;
        let is_done = loop {
            if results.weights.len() >= most {
                break false;
            }
            let (waiting, running) = ctx.states().get_two_mut(self.waiting, self.running);
            let Some(time) = waiting.first().filter(|time| *time <= watermark) else { break true };
            // All partitions' rows of this time, read together.
            let mut due: Vec<(RowKey, Vec<Entry>)> =
                waiting.take(time).into_iter().flat_map(KeyedTable::into_rows).collect();
            let mut batch = RowWriter::of_schema(&self.input)?;
            for (_, entries) in &mut due {
                entries.sort_by(|a, b| a.0.cmp(&b.0));
                entries.iter().try_for_each(|(_, row)| batch.push(row))?;
            }
            let batch = batch.into_batch(Arc::clone(&self.input))?;
            let inputs = self.functions.iter().map(|function| function.inputs(&batch));
            let inputs = inputs.collect::<Result<Vec<Inputs>, _>>()?;
            let mut first = 0;
            for (key, entries) in due {
                let states = running.get_or_insert_with(hash_key(&key), key, || {
                    self.functions.iter().map(Function::start).collect()
                });
                let orders: Vec<&[u8]> = entries.iter().map(|(order, _)| &**order).collect();
                let columns: Vec<Vec<Option<Value>>> = self
                    .functions
                    .iter()
                    .zip(states.iter_mut())
                    .zip(&inputs)
                    .map(|((function, state), inputs)| {
                        function.advance(state, inputs, first, &orders, Some(time))
                    })
                    .collect();
                for (at, (_, row)) in entries.iter().enumerate() {
                    let values: Vec<_> = columns.iter().map(|column| column[at].clone()).collect();
                    results.push(row, &values, 1)?;
                }
                first += entries.len();
            }
        };
        results.put_out(ctx)?;
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }
}

/// Of any rows.
pub(crate) struct Over {
    partition: Vec<usize>,
    order: Vec<SortKey>,
    functions: Vec<Function>,
    at_end: bool,
    input: SchemaRef,
    schema: SchemaRef,
    partitions: Handle<KeyedTable<RowKey, Vec<Entry>>>,
    keys: Option<std::vec::IntoIter<RowKey>>,
}

impl Over {
    pub(crate) fn new(
        partition: Vec<usize>,
        order: Vec<SortKey>,
        calls: Vec<OverCall>,
        at_end: bool,
        input: SchemaRef,
        schema: SchemaRef,
    ) -> Self {
        let functions = calls.into_iter().map(Function::new).collect();
        let partitions = Handle::default();
        Over { partition, order, functions, at_end, input, schema, partitions, keys: None }
    }

    /// The results of a partition's rows, in order.
    fn evaluate(&self, entries: &[Entry]) -> OpResult<Vec<Vec<Option<Value>>>> {
        let mut batch = RowWriter::of_schema(&self.input)?;
        entries.iter().try_for_each(|(_, row)| batch.push(row))?;
        let batch: RecordBatch = batch.into_batch(Arc::clone(&self.input))?;
        let orders: Vec<&[u8]> = entries.iter().map(|(order, _)| &**order).collect();
        let time =
            self.order.first().map(|key| crate::value::Values::of(batch.column(key.column))).transpose()?;
        let columns = self.functions.iter().map(|function| {
            let inputs = function.inputs(&batch)?;
            OpResult::Ok(function.evaluate(&inputs, &orders, time.as_ref()))
        });
        let columns = columns.collect::<OpResult<Vec<_>>>()?;
        let row = |at: usize| columns.iter().map(|column: &Vec<Option<Value>>| column[at].clone()).collect();
        Ok((0..entries.len()).map(row).collect())
    }
}

impl Operator for Over {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.partitions = ctx.states.keyed("partitions")?;
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let groups = Groups::of(&changes, &self.partition, |_| true)?;
        let reader = RowReader::of_batch(&changes.batch)?;
        let orders = SortKeys::of(&changes.batch, &self.order)?;
        let mut results = Results::new(&self.input, &self.schema)?;
        let table = ctx.states().get_mut(self.partitions);
        for at in 0..groups.len() {
            let (key, hash) = (&groups.keys[at], groups.hashes[at]);
            let entries = table.get_or_insert_with(hash, key.clone(), Vec::new);
            let before = if self.at_end { Vec::new() } else { entries.clone() };
            for row in groups.rows(at).iter().map(|row| *row as usize) {
                let entry = (orders.key(row), reader.row(row));
                let weight = changes.weight(row);
                for _ in 0..weight.unsigned_abs() {
                    if weight > 0 {
                        let place = entries.partition_point(|other| other.0 <= entry.0);
                        entries.insert(place, entry.clone());
                    } else if let Some(place) = entries.iter().rposition(|other| *other == entry) {
                        entries.remove(place);
                    }
                }
            }
            if !self.at_end {
                for (entries, weight) in [(&before, -1), (&*entries, 1)] {
                    for ((_, row), values) in entries.iter().zip(self.evaluate(entries)?) {
                        results.push(row, &values, weight)?;
                    }
                }
            }
            if entries.is_empty() {
                table.remove(hash, key);
            }
        }
        results.put_out(ctx)?;
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        if !self.at_end {
            return Ok(Progress::Done);
        }
        let table = ctx.states().get_mut(self.partitions);
        let keys = self.keys.get_or_insert_with(|| {
            let mut keys = Vec::new();
            table.for_each(|key, _| keys.push(key.clone()));
            keys.into_iter()
        });
        let keys: Vec<RowKey> = keys.by_ref().take(64).collect();
        let mut results = Results::new(&self.input, &self.schema)?;
        for key in &keys {
            let entries =
                ctx.states().get_mut(self.partitions).remove(hash_key(key), key).unwrap_or_default();
            for ((_, row), values) in entries.iter().zip(self.evaluate(&entries)?) {
                results.push(row, &values, 1)?;
            }
        }
        results.put_out(ctx)?;
        Ok(if keys.is_empty() { Progress::Done } else { Progress::Yield })
    }
}
