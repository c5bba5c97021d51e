//! Groups rows by key and session: rows of which each comes at most a gap after another. Keeps the sessions of a key until
//! the watermark, or the machine's time, has passed their end.

use super::aggregate::{Aggregator, Group, Input};
use super::groups::Groups;
use super::{Output, emit};
use crate::changes::Changes;
use crate::plan::stream::Call;
use crate::rows::{RowKey, RowWriter};
use crate::value::{Value, ValueBuilder};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{SchemaRef, TimestampMillisecondType};
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{OpenContext, Operator, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable, StateStore, Timers};
use hurtig_dataflow::{OpResult, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A session of one key; its end is the last row's time and the gap.
#[derive(Serialize, Deserialize)]
struct Open {
    start: i64,
    end: i64,
    group: Group,
}

/// See the module.
pub(crate) struct Session {
    groups: Vec<usize>,
    aggregators: Vec<Aggregator>,
    time: usize,
    gap: i64,
    is_processing_time: bool,
    schema: SchemaRef,
    sessions: Handle<KeyedTable<RowKey, Vec<Open>>>,
    ends: Handle<Timers<RowKey>>,
}

impl Session {
    pub(crate) fn new(
        groups: Vec<usize>,
        calls: Vec<Call>,
        time: usize,
        gap: i64,
        is_processing_time: bool,
        schema: SchemaRef,
    ) -> Self {
        Session {
            groups,
            aggregators: calls.into_iter().map(|call| Aggregator::new(call, true)).collect(),
            time,
            gap,
            is_processing_time,
            schema,
            sessions: Handle::default(),
            ends: Handle::default(),
        }
    }

    /// Puts a row's session into those of its key: sessions that touch become one.
    fn merge(&self, sessions: &mut Vec<Open>, new: Open) -> (i64, Vec<i64>) {
        let mut merged = new;
        let mut gone = Vec::new();
        let mut at = 0;
        while at < sessions.len() {
            if sessions[at].start > merged.end || merged.start > sessions[at].end {
                at += 1;
                continue;
            }
            let mut old = sessions.remove(at);
            gone.push(old.end);
            old.start = old.start.min(merged.start);
            old.end = old.end.max(merged.end);
            old.group.rows += merged.group.rows;
            let each = self.aggregators.iter().zip(old.group.accumulators.iter_mut());
            for ((aggregator, into), other) in each.zip(merged.group.accumulators) {
                aggregator.merge(into, other);
            }
            merged = old;
        }
        let end = merged.end;
        let place = sessions.partition_point(|other| other.start < merged.start);
        sessions.insert(place, merged);
        (end, gone)
    }

    fn close_until(&mut self, time: Timestamp, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let most = ctx.batch_size().max(1);
        let mut closed: Vec<(RowKey, Open)> = Vec::new();
        let states = ctx.states();
        let is_done = loop {
            let (ends, sessions) = states.get_two_mut(self.ends, self.sessions);
            let Some((end, key)) = ends.pop_due(time) else { break true };
            let hash = hash_key(&key);
            let Some(open) = sessions.get_mut(hash, &key) else { continue };
            // The timer of a session that has grown since is not its own any more.
            if let Some(at) = open.iter().position(|session| session.end == end) {
                let session = open.remove(at);
                if open.is_empty() {
                    sessions.remove(hash, &key);
                }
                closed.push((key, session));
            }
            if closed.len() >= most {
                break false;
            }
        };
        if !closed.is_empty() {
            emit(ctx, self.results(closed)?)?;
        }
        Ok(if is_done { Progress::Done } else { Progress::Yield })
    }

    fn results(&self, closed: Vec<(RowKey, Open)>) -> OpResult<Changes> {
        let width = self.groups.len();
        let types = self.schema.fields().iter().map(|field| field.data_type());
        let mut keys = RowWriter::new(types.clone().take(width))?;
        let mut values = types.skip(width + 3).map(ValueBuilder::new).collect::<Result<Vec<_>, _>>()?;
        let (mut starts, mut ends) = (Vec::new(), Vec::new());
        for (key, session) in closed {
            keys.push(key.bytes())?;
            starts.push(session.start);
            ends.push(session.end);
            let each = self.aggregators.iter().zip(&session.group.accumulators).zip(&mut values);
            for ((aggregator, accumulator), column) in each {
                let value: Option<Value> = aggregator.result(accumulator);
                column.push(value.as_ref())?;
            }
        }
        let last: ArrayRef =
            Arc::new(ends.iter().map(|end| Some(end - 1)).collect::<TimestampMillisecondArray>());
        let mut columns = keys.into_arrays()?;
        columns.push(Arc::new(TimestampMillisecondArray::from(starts)));
        columns.push(Arc::new(TimestampMillisecondArray::from(ends)));
        columns.push(cast(&last, self.schema.field(width + 2).data_type())?);
        for column in values {
            columns.push(column.finish()?);
        }
        Ok(Changes::append_only(RecordBatch::try_new(Arc::clone(&self.schema), columns)?))
    }
}

impl Operator for Session {
    type In = Changes;
    type Out = Changes;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.sessions = ctx.states.keyed("sessions")?;
        self.ends = ctx.states.timers("ends")?;
        Ok(())
    }

    fn process(&mut self, changes: Changes, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let columns = changes.batch.columns();
        let inputs = self.aggregators.iter().map(|aggregator| aggregator.input(columns));
        let inputs = inputs.collect::<Result<Vec<Input>, _>>()?;
        let times = columns[self.time].as_primitive::<TimestampMillisecondType>();
        let passed = if self.is_processing_time { Timestamp::MIN } else { ctx.watermark() };
        let groups = Groups::of(&changes, &self.groups, |row| times.is_valid(row))?;
        let mut late = 0;
        let states = ctx.states();
        for at in 0..groups.len() {
            let (key, hash) = (&groups.keys[at], groups.hashes[at]);
            let mut rows = groups.rows(at).to_vec();
            rows.sort_by_key(|row| times.value(*row as usize));
            // Rows of the batch that follow each other closely enough are one session from the start.
            let mut next = 0;
            while next < rows.len() {
                let first = next;
                next += 1;
                let time = |place: usize| times.value(rows[place] as usize);
                while next < rows.len() && time(next) <= time(next - 1) + self.gap {
                    next += 1;
                }
                let (start, end) = (time(first), time(next - 1) + self.gap);
                let (ends, sessions) = states.get_two_mut(self.ends, self.sessions);
                let is_over = end - 1 <= passed;
                let touches = |open: &Vec<Open>| {
                    open.iter().any(|session| {
                        session.start <= end && start <= session.end && session.end - 1 > passed
                    })
                };
                if is_over && !sessions.get(hash, key).is_some_and(touches) {
                    late += (next - first) as u64;
                    continue;
                }
                let rows = &rows[first..next];
                let mut group = Group {
                    rows: rows.len() as i64,
                    accumulators: self.aggregators.iter().map(Aggregator::empty).collect(),
                };
                let each = self.aggregators.iter().zip(&inputs).zip(group.accumulators.iter_mut());
                for ((aggregator, input), accumulator) in each {
                    aggregator.apply(accumulator, input, rows, |row| changes.weight(row));
                }
                let open = sessions.get_or_insert_with(hash, key.clone(), Vec::new);
                let (end, gone) = self.merge(open, Open { start, end, group });
                for old in gone.into_iter().filter(|old| *old != end) {
                    ends.delete(old, key);
                }
                ends.register(end, key.clone());
            }
        }
        ctx.count_late_dropped(late);
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        if self.is_processing_time {
            return Ok(Progress::Done);
        }
        let time = ctx.watermark().saturating_add(1);
        self.close_until(time, ctx)
    }

    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        self.is_processing_time.then(|| states.get(self.ends).next_time()).flatten()
    }

    fn on_processing_time(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        let time = ctx.processing_time();
        self.close_until(time, ctx)
    }

    fn on_end(&mut self, ctx: &mut Output<'_, '_>) -> OpResult<Progress> {
        self.close_until(Timestamp::MAX, ctx)
    }
}
