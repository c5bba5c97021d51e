//! Joins two inputs on equal columns and a further condition. Keeps the rows of both by key, with the number of partners
//! of those that are put out by themselves when they have none: for ever, or, where time bounds the join, until the
//! watermark says that no partner can follow.

use super::calc::evaluate;
use super::{Output, emit};
use crate::changes::Changes;
use crate::functions::at_time;
use crate::plan::stream::{Bounds, Join, JoinKind};
use crate::rows::{RowKey, RowReader, RowWriter};
use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array, new_null_array,
};
use arrow::compute::take;
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Progress, TwoInputOperator};
use hurtig_dataflow::state::{Handle, NamespacedTable};
use hurtig_dataflow::{OpResult, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A row of one side.
#[derive(Clone, Serialize, Deserialize)]
struct Stored {
    row: Box<[u8]>,
    weight: i64,
    /// Rows of the other side that it pairs with.
    partners: i64,
}

type Table = NamespacedTable<RowKey, Vec<Stored>>;

/// One side of the join.
struct Side {
    columns: Vec<usize>,
    schema: SchemaRef,
    is_append_only: bool,
    /// Whether its rows are put out without partner, or for having one.
    is_counted: bool,
    /// The time column that bounds how long rows are kept.
    time: Option<usize>,
    table: Handle<Table>,
}

/// See the module.
pub(crate) struct JoinOperator {
    join: Join,
    left: Side,
    right: Side,
    /// Rows without partner are put out at the end only.
    is_batch: bool,
    schema: SchemaRef,
    /// Columns of both sides, which the condition is over.
    both: SchemaRef,
    /// Width of the stretches of time that rows are kept by.
    stretch: i64,
    ended: bool,
}

/// Where the partners of a row lie; nothing of one that can have none.
type Found = Vec<Option<Probe>>;

struct Probe {
    key: RowKey,
    hash: u64,
    namespaces: Vec<i64>,
}

/// Changes on their way out.
struct Gathered {
    parts: Vec<Changes>,
}

impl JoinOperator {
    pub(crate) fn new(
        join: Join,
        (left, left_append): (SchemaRef, bool),
        (right, right_append): (SchemaRef, bool),
        is_batch: bool,
        schema: SchemaRef,
    ) -> Self {
        let (count_left, count_right) = match join.kind {
            JoinKind::Pairs { left, right } => (left, right),
            _ => (true, false),
        };
        let (left_time, right_time, stretch) = match join.bounds {
            Bounds::None => (None, None, 1),
            Bounds::Equal { left, right, .. } => (Some(left), Some(right), 1),
            Bounds::Within { left, right, before, after } => {
                (Some(left), Some(right), ((before + after) / 8).max(1))
            }
        };
        let fields: Vec<_> = left.fields().iter().chain(right.fields()).cloned().collect();
        let both = Arc::new(arrow::datatypes::Schema::new(fields));
        let (left_keys, right_keys) = join.keys.iter().copied().unzip();
        let side = |columns, schema, is_append_only, is_counted, time| Side {
            columns,
            schema,
            is_append_only,
            is_counted,
            time,
            table: Handle::default(),
        };
        JoinOperator {
            left: side(left_keys, left, left_append, count_left, left_time),
            right: side(right_keys, right, right_append, count_right, right_time),
            join,
            is_batch,
            schema,
            both,
            stretch,
            ended: false,
        }
    }

    /// Where rows of a time are kept.
    fn namespace(&self, time: i64) -> i64 {
        time - time.rem_euclid(self.stretch)
    }

    /// Where rows that may pair with one of this time are kept.
    fn partners_of(&self, is_left: bool, time: i64, table: &Table) -> Vec<i64> {
        match self.join.bounds {
            Bounds::None => vec![0],
            Bounds::Equal { .. } => vec![time],
            Bounds::Within { before, after, .. } => {
                let (from, to) =
                    if is_left { (time - after, time + before) } else { (time - before, time + after) };
                table.between(self.namespace(from), to).map(|(namespace, _)| namespace).collect()
            }
        }
    }

    /// Rows of one side come.
    fn process(&mut self, changes: Changes, is_left: bool, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let (own, other) = if is_left { (&self.left, &self.right) } else { (&self.right, &self.left) };
        let keys = RowReader::of_columns(&changes.batch, &own.columns)?;
        let rows = RowReader::of_batch(&changes.batch)?;
        let times =
            own.time.map(|time| changes.batch.column(time).as_primitive::<TimestampMillisecondType>());
        let count = changes.batch.num_rows();
        let mut gathered = Gathered { parts: Vec::new() };

        // First what each row may pair with, then what satisfies the condition, then what that changes.
        let mut found: Found = Vec::with_capacity(count);
        let (mut pair_rows, mut pair_weights) = (Vec::<u32>::new(), Vec::<i64>::new());
        let mut starts = Vec::with_capacity(count + 1);
        let mut partners = RowWriter::of_schema(&other.schema)?;
        let other_table = ctx.states().get_mut(other.table);
        for row in 0..count {
            starts.push(pair_rows.len());
            let no_time = times.is_some_and(|times| times.is_null(row));
            if no_time || (!self.join.nulls_equal && keys.has_null(row)) {
                found.push(None);
                continue;
            }
            let key = keys.key(row);
            let hash = hash_key(&key);
            let time = times.map_or(0, |times| times.value(row));
            let namespaces = self.partners_of(is_left, time, other_table);
            for namespace in &namespaces {
                let Some(part) = other_table.existing(*namespace) else { continue };
                for stored in part.get(hash, &key).into_iter().flatten() {
                    pair_rows.push(row as u32);
                    pair_weights.push(changes.weight(row) * stored.weight);
                    partners.push(&stored.row)?;
                }
            }
            found.push(Some(Probe { key, hash, namespaces }));
        }
        starts.push(pair_rows.len());

        let is_pairs = matches!(self.join.kind, JoinKind::Pairs { .. });
        let mask = match pair_rows.len() {
            0 => None,
            pairs if is_pairs || self.join.filter.is_some() => {
                let indices = UInt32Array::from(pair_rows.clone());
                let own_columns = changes.batch.columns().iter().map(|column| take(column, &indices, None));
                let own_columns = own_columns.collect::<Result<Vec<ArrayRef>, _>>()?;
                let other_columns = partners.into_arrays()?;
                let columns = match is_left {
                    true => [own_columns, other_columns].concat(),
                    false => [other_columns, own_columns].concat(),
                };
                let options = RecordBatchOptions::new().with_row_count(Some(pairs));
                let batch = RecordBatch::try_new_with_options(Arc::clone(&self.both), columns, &options)?;
                let now = ctx.processing_time();
                let mask = self.join.filter.as_ref();
                let mask = mask.map(|filter| at_time(now, || evaluate(filter, &batch))).transpose()?;
                if is_pairs {
                    let batch = batch.with_schema(Arc::clone(&self.schema))?;
                    let pairs = Changes { batch, weights: Some(pair_weights.clone()) };
                    let pairs = match &mask {
                        Some(mask) => pairs.filter(mask.as_boolean())?,
                        None => pairs,
                    };
                    let weights = pairs.weights.unwrap_or_default();
                    gathered.parts.push(Changes::weighted(pairs.batch, weights)?);
                }
                mask
            }
            _ => None,
        };
        let mask: Option<&BooleanArray> = mask.as_ref().map(|mask| mask.as_boolean());
        let is_pair = |pair: usize| mask.is_none_or(|mask| mask.is_valid(pair) && mask.value(pair));

        if other.is_counted {
            self.count_partners(&changes, &found, &starts, is_pair, is_left, ctx, &mut gathered)?;
        }
        self.store(
            &changes,
            &rows,
            &found,
            &starts,
            &pair_weights,
            is_pair,
            times,
            is_left,
            ctx,
            &mut gathered,
        )?;
        gathered.parts.retain(|part| part.batch.num_rows() > 0);
        if !gathered.parts.is_empty() {
            emit(ctx, Changes::concat(gathered.parts)?)?;
        }
        Ok(Progress::Done)
    }

    /// Rows of the other side gain or lose partners.
    #[expect(clippy::too_many_arguments, reason = "a step of one piece of work")]
    fn count_partners(
        &self,
        changes: &Changes,
        found: &Found,
        starts: &[usize],
        is_pair: impl Fn(usize) -> bool,
        is_left: bool,
        ctx: &mut Output<'_, '_>,
        gathered: &mut Gathered,
    ) -> OpResult {
        let other = if is_left { &self.right } else { &self.left };
        let mut turned: Vec<(Box<[u8]>, i64, bool)> = Vec::new();
        let table = ctx.states().get_mut(other.table);
        for (row, probe) in found.iter().enumerate() {
            let Some(Probe { key, hash, namespaces }) = probe else { continue };
            let mut pair = starts[row];
            for namespace in namespaces {
                let Some(part) = table.existing(*namespace) else { continue };
                for stored in part.get_mut(*hash, key).into_iter().flatten() {
                    if is_pair(pair) {
                        let before = stored.partners > 0;
                        stored.partners += changes.weight(row);
                        let after = stored.partners > 0;
                        if before != after {
                            turned.push((stored.row.clone(), stored.weight, after));
                        }
                    }
                    pair += 1;
                }
            }
        }
        self.put_turned(turned, !is_left, gathered)
    }

    /// Puts out what it means that rows have found partners, or lost them.
    fn put_turned(
        &self,
        turned: Vec<(Box<[u8]>, i64, bool)>,
        is_left: bool,
        gathered: &mut Gathered,
    ) -> OpResult {
        let is_late = self.is_batch && !matches!(self.join.kind, JoinKind::Semi { anti: false });
        if turned.is_empty() || is_late {
            return Ok(());
        }
        let side = if is_left { &self.left } else { &self.right };
        let mut rows = RowWriter::of_schema(&side.schema)?;
        let (mut weights, mut marks) = (Vec::new(), Vec::new());
        for (row, weight, has_partner) in &turned {
            match self.join.kind {
                JoinKind::Mark => {
                    for (mark, sign) in [(!has_partner, -1), (*has_partner, 1)] {
                        rows.push(row)?;
                        weights.push(sign * weight);
                        marks.push(mark);
                    }
                }
                JoinKind::Semi { anti } => {
                    rows.push(row)?;
                    weights.push(if *has_partner != anti { *weight } else { -weight });
                }
                _ => {
                    rows.push(row)?;
                    weights.push(if *has_partner { -weight } else { *weight });
                }
            }
        }
        let columns = rows.into_arrays()?;
        gathered.parts.push(self.alone(columns, weights, marks, is_left)?);
        Ok(())
    }

    /// Rows of one side without those of the other.
    fn alone(
        &self,
        mut columns: Vec<ArrayRef>,
        weights: Vec<i64>,
        marks: Vec<bool>,
        is_left: bool,
    ) -> OpResult<Changes> {
        let count = weights.len();
        match self.join.kind {
            JoinKind::Semi { .. } => {}
            JoinKind::Mark => columns.push(Arc::new(BooleanArray::from(marks))),
            _ => {
                let other = if is_left { &self.right } else { &self.left };
                let nulls =
                    other.schema.fields().iter().map(|field| new_null_array(field.data_type(), count));
                columns = match is_left {
                    true => columns.into_iter().chain(nulls).collect(),
                    false => nulls.chain(columns).collect(),
                };
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
        Ok(Changes::weighted(batch, weights)?)
    }

    /// Keeps the rows, and puts those out that have no partner, or for having one.
    #[expect(clippy::too_many_arguments, reason = "a step of one piece of work")]
    fn store(
        &self,
        changes: &Changes,
        rows: &RowReader<'_>,
        found: &Found,
        starts: &[usize],
        pair_weights: &[i64],
        is_pair: impl Fn(usize) -> bool,
        times: Option<&arrow::array::TimestampMillisecondArray>,
        is_left: bool,
        ctx: &mut Output<'_, '_>,
        gathered: &mut Gathered,
    ) -> OpResult {
        let own = if is_left { &self.left } else { &self.right };
        let (mut alone, mut weights, mut marks) = (Vec::<u32>::new(), Vec::new(), Vec::new());
        let table = ctx.states().get_mut(own.table);
        for (row, probe) in found.iter().enumerate() {
            let weight = changes.weight(row);
            let partners = match own.is_counted {
                true => {
                    let pairs = (starts[row]..starts[row + 1]).filter(|pair| is_pair(*pair));
                    pairs.map(|pair| pair_weights[pair] / weight).sum()
                }
                false => 0,
            };
            let is_put_out = own.is_counted
                && match self.join.kind {
                    JoinKind::Semi { anti } => (partners > 0) != anti,
                    JoinKind::Mark => true,
                    _ => partners <= 0,
                };
            let is_late =
                self.is_batch && probe.is_some() && !matches!(self.join.kind, JoinKind::Semi { anti: false });
            if is_put_out && !is_late {
                alone.push(row as u32);
                weights.push(weight);
                marks.push(partners > 0);
            }
            let Some(Probe { key, hash, .. }) = probe else { continue };
            let namespace = times.map_or(0, |times| self.namespace(times.value(row)));
            let stored = table.namespace(namespace).get_or_insert_with(*hash, key.clone(), Vec::new);
            if own.is_append_only {
                stored.push(Stored { row: rows.row(row), weight, partners });
                continue;
            }
            let bytes = rows.row(row);
            match stored.iter_mut().rev().position(|other| other.row == bytes) {
                Some(place) => {
                    let at = stored.len() - 1 - place;
                    stored[at].weight += weight;
                    if stored[at].weight == 0 {
                        stored.swap_remove(at);
                    }
                }
                None => stored.push(Stored { row: bytes, weight, partners }),
            }
            if stored.is_empty() {
                table.namespace(namespace).remove(*hash, key);
            }
        }
        if !alone.is_empty() {
            let indices = UInt32Array::from(alone);
            let columns = changes.batch.columns().iter().map(|column| take(column, &indices, None));
            let columns = columns.collect::<Result<Vec<ArrayRef>, _>>()?;
            gathered.parts.push(self.alone(columns, weights, marks, is_left)?);
        }
        Ok(())
    }

    /// Drops rows that cannot pair any more.
    fn clean(&self, ctx: &mut Output<'_, '_>) {
        let watermark = ctx.watermark();
        let (left_until, right_until) = match self.join.bounds {
            Bounds::None => return,
            Bounds::Equal { delay, .. } => {
                let until = watermark.saturating_sub(delay);
                (until, until)
            }
            Bounds::Within { before, after, .. } => {
                let until = |more: i64| watermark.saturating_sub(more.saturating_add(self.stretch));
                (until(before), until(after))
            }
        };
        // At the end rows that wait for it are still to be put out.
        if self.is_batch && watermark == Timestamp::MAX {
            return;
        }
        for (table, until) in [(self.left.table, left_until), (self.right.table, right_until)] {
            let table = ctx.states().get_mut(table);
            while let Some(first) = table.first().filter(|first| *first <= until) {
                table.take(first);
            }
        }
    }

    /// Puts out, at the end of a bounded job, the rows that have no partner.
    fn put_rest(&self, is_left: bool, ctx: &mut Output<'_, '_>) -> OpResult {
        let side = if is_left { &self.left } else { &self.right };
        if !side.is_counted || matches!(self.join.kind, JoinKind::Semi { anti: false }) {
            return Ok(());
        }
        let mut rows = RowWriter::of_schema(&side.schema)?;
        let (mut weights, mut marks) = (Vec::new(), Vec::new());
        let table = ctx.states().get_mut(side.table);
        let mut failed = Ok(());
        while let Some(namespace) = table.first() {
            for (_, stored) in table.take(namespace).into_iter().flat_map(|table| table.into_rows()) {
                for stored in stored {
                    if stored.partners <= 0 || self.join.kind == JoinKind::Mark {
                        failed = failed.and(rows.push(&stored.row));
                        weights.push(stored.weight);
                        marks.push(stored.partners > 0);
                    }
                }
            }
        }
        failed?;
        if rows.len() > 0 {
            let rest = self.alone(rows.into_arrays()?, weights, marks, is_left)?;
            emit(ctx, rest)?;
        }
        Ok(())
    }
}

impl TwoInputOperator for JoinOperator {
    type In1 = Changes;
    type In2 = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.left.table = ctx.states.namespaced("left")?;
        self.right.table = ctx.states.namespaced("right")?;
        Ok(())
    }

    fn process1(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        self.process(changes, true, ctx)
    }

    fn process2(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        self.process(changes, false, ctx)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        self.clean(ctx);
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        if self.is_batch && !std::mem::replace(&mut self.ended, true) {
            self.put_rest(true, ctx)?;
            self.put_rest(false, ctx)?;
        }
        Ok(Progress::Done)
    }
}
