//! Tumbling and sliding windows that fire once, at their end. Each record goes into one slice of its key, whatever the
//! number of windows it belongs to; a window is merged of its slices when it ends. A slice goes with the last window it
//! belongs to. There is no timer per key: time passing a window's end takes whole slices.

mod fired;

use crate::collector::Collector;
use crate::context::TimeDomain;
use crate::keyed::{KeyColumns, Keys};
use crate::windows::assigner::{Aligned, TimeWindow};
use crate::windows::function::{WindowContext, WindowFold};
use fired::Fired;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, OutputTag, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable, NamespacedTable, StateStore};
use hurtig_dataflow::time::MAX_TIMESTAMP;
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use std::ops::Range;
use std::sync::Arc;

/// What a stream without event times is told where it needs them.
pub(crate) const UNTIMED: &str = "records have no event time: give them one with a WatermarkStrategy, at the source or with assign_timestamps_and_watermarks";

/// Rows that a snapshot under way writes at once before their slice is taken.
const SETTLED_ROWS: usize = 8_192;

pub(crate) struct SliceWindows<T, K, W: WindowFold<T, K>> {
    keys: Keys<T, K>,
    fold: Arc<W>,
    aligned: Aligned,
    slice: i64,
    domain: TimeDomain,
    late: Option<OutputTag<T>>,
    columns: KeyColumns<K>,
    slices: Handle<NamespacedTable<K, W::Acc>>,
    fired: Handle<Fired>,
    emitting: Option<Emitting<K, W::Acc>>,
}

/// A window that is being put out. No barrier comes in between, so this is not state.
struct Emitting<K, A> {
    window: TimeWindow,
    rows: Box<dyn Iterator<Item = (K, A)> + Send>,
}

impl<T: Record, K: Key, W: WindowFold<T, K>> SliceWindows<T, K, W> {
    pub(crate) fn new(
        keys: Keys<T, K>,
        fold: Arc<W>,
        aligned: Aligned,
        domain: TimeDomain,
        late: Option<OutputTag<T>>,
    ) -> Self {
        SliceWindows {
            keys,
            fold,
            aligned,
            slice: aligned.slice(),
            domain,
            late,
            columns: KeyColumns::default(),
            slices: Handle::default(),
            fired: Handle::default(),
            emitting: None,
        }
    }

    /// The slice a time lies in.
    fn slice_of(&self, time: Timestamp) -> Range<Timestamp> {
        let time = time.clamp(Timestamp::MIN / 4, Timestamp::MAX / 4);
        let start = time - (time - self.aligned.offset).rem_euclid(self.slice);
        start..start + self.slice
    }

    /// The first window that ends after `fired` and holds a slice; slices that no such window holds are dropped.
    fn next_window(&self, states: &mut StateStore) -> Option<TimeWindow> {
        let fired = states.get(self.fired).until();
        let table = states.get_mut(self.slices);
        let Aligned { size, slide, offset } = self.aligned;
        while let Some(first) = table.first() {
            let earliest = first.max(fired.saturating_add(2).min(Timestamp::MAX / 2));
            let after = (earliest - offset - size).rem_euclid(slide);
            let end = if after == 0 { earliest } else { earliest - after + slide };
            if end - size <= first - self.slice {
                return Some(TimeWindow::new(end - size, end));
            }
            table.take(first);
        }
        None
    }

    /// Has a snapshot under way write what it still needs of the slices that are about to be taken, a portion at a time.
    /// Returns whether that is done.
    fn is_settled(&self, window: TimeWindow, states: &mut StateStore) -> bool {
        let table = states.get_mut(self.slices);
        let last_use = window.start + self.aligned.slide;
        let leaving: Vec<Timestamp> =
            table.between(window.start + 1, window.end.min(last_use)).map(|(slice, _)| slice).collect();
        leaving.into_iter().all(|slice| table.settle(slice, SETTLED_ROWS))
    }

    /// Takes a window's results out of its slices.
    fn take_window(
        &self,
        window: TimeWindow,
        states: &mut StateStore,
    ) -> Box<dyn Iterator<Item = (K, W::Acc)> + Send> {
        let table = states.get_mut(self.slices);
        // Slices up to here belong to no later window.
        let last_use = window.start + self.aligned.slide;
        let members: Vec<Timestamp> =
            table.between(window.start + 1, window.end).map(|(slice, _)| slice).collect();
        let mut merged: Option<KeyedTable<K, W::Acc>> = None;
        for slice in members {
            let taken = if slice <= last_use { table.take(slice) } else { None };
            match (&mut merged, taken) {
                (None, Some(taken)) => merged = Some(taken),
                (None, None) => {
                    let mut base = table.apart();
                    self.merge_copies(&mut base, table.find(slice));
                    merged = Some(base);
                }
                (Some(merged), None) => self.merge_copies(merged, table.find(slice)),
                (Some(merged), Some(taken)) => {
                    for (key, acc) in taken.into_rows() {
                        let hash = hash_key(&key);
                        match merged.get_mut(hash, &key) {
                            Some(into) => self.fold.merge(into, &acc),
                            None => {
                                merged.insert(hash, key, acc);
                            }
                        }
                    }
                }
            }
        }
        let fired = states.get(self.fired);
        match fired.ahead_of(window.max_timestamp()) {
            None => Box::new(merged.into_iter().flat_map(KeyedTable::into_rows)),
            Some(has_fired) => {
                let rows = merged.into_iter().flat_map(KeyedTable::into_rows);
                Box::new(rows.filter(move |(key, _)| !has_fired(hash_key(key))))
            }
        }
    }

    fn merge_copies(&self, merged: &mut KeyedTable<K, W::Acc>, slice: Option<&KeyedTable<K, W::Acc>>) {
        let Some(slice) = slice else { return };
        slice.for_each(|key, acc| {
            let hash = hash_key(key);
            match merged.get_mut(hash, key) {
                Some(into) => self.fold.merge(into, acc),
                None => {
                    merged.insert(hash, key.clone(), acc.clone());
                }
            }
        });
    }

    /// Puts out the windows whose last millisecond is not after `until`, a batch at a time.
    fn fire(&mut self, until: Timestamp, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        loop {
            if let Some(Emitting { window, rows }) = &mut self.emitting {
                let parts = ctx.parts();
                let seen =
                    WindowContext { window: *window, watermark: parts.watermark, processing_time: parts.now };
                parts.out.records.reserve(parts.batch_size);
                let mut out = Collector::new(parts.out, parts.sides, Some(window.max_timestamp()));
                for (key, mut acc) in rows.by_ref() {
                    self.fold.emit(&key, &seen, &mut acc, &mut out)?;
                    if out.len() >= parts.batch_size {
                        return Ok(Progress::Yield);
                    }
                }
                self.emitting = None;
            }
            match self.next_window(ctx.states()) {
                Some(window) if window.max_timestamp() <= until => {
                    if !self.is_settled(window, ctx.states()) {
                        return Ok(Progress::Yield);
                    }
                    let rows = self.take_window(window, ctx.states());
                    ctx.states().get_mut(self.fired).advance(window.max_timestamp());
                    self.emitting = Some(Emitting { window, rows });
                }
                _ => {
                    ctx.states().get_mut(self.fired).advance(until);
                    return Ok(Progress::Done);
                }
            }
        }
    }
}

impl<T: Record, K: Key, W: WindowFold<T, K>> Operator for SliceWindows<T, K, W> {
    type In = Rows<T>;
    type Out = Rows<W::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.slices = ctx.states.namespaced("slices")?;
        let range = ctx.states.range();
        self.fired = ctx.states.declare("fired", Fired::new(range))?;
        Ok(())
    }

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        let (mut times, mut passed) = (std::mem::take(&mut batch.times), ctx.watermark());
        match self.domain {
            TimeDomain::EventTime if times.len() < batch.records.len() => return Err(UNTIMED.into()),
            TimeDomain::EventTime => {}
            TimeDomain::ProcessingTime => {
                times.clear();
                times.resize(batch.records.len(), ctx.processing_time());
                passed = Timestamp::MIN;
            }
        }
        let mut columns = std::mem::take(&mut self.columns);
        self.keys.fill(&mut batch, &mut columns);
        let mut records = batch.records.into_iter();
        let mut keys = columns.keys.drain(..);
        let mut at = 0;
        while at < times.len() {
            let slice = self.slice_of(times[at]);
            let run = times[at..].iter().take_while(|time| slice.contains(time)).count().max(1);
            let run_times = &times[at..at + run];
            at += run;
            let last = self.aligned.last_start(slice.start);
            let is_in_gap = slice.start >= last + self.aligned.size;
            let is_late = !is_in_gap && last + self.aligned.size - 1 <= passed;
            // Times come first: they end the run before a record or key of the next is taken.
            let rows = run_times.iter().zip(records.by_ref());
            if is_in_gap || is_late {
                if is_late && self.late.is_none() {
                    ctx.count_late_dropped(run as u64);
                }
                keys.by_ref().take(run).for_each(drop);
                for (time, record) in rows {
                    if let (Some(late), true) = (&self.late, is_late) {
                        ctx.emit_side(late, record, Some(*time));
                    }
                }
                continue;
            }
            let fold = &*self.fold;
            let table = ctx.states().get_mut(self.slices).namespace(slice.end);
            let hashes = &columns.hashes[at - run..at];
            let mut ahead = table.look_ahead(hashes, &keys.as_slice()[..run]);
            for (at, ((time, record), key)) in rows.zip(keys.by_ref()).enumerate() {
                if let Some(acc) = table.get_mut_ahead(&mut ahead, hashes, at, &key) {
                    fold.add(acc, record, *time);
                } else {
                    let mut acc = fold.create();
                    fold.add(&mut acc, record, *time);
                    table.insert(hashes[at], key, acc);
                }
            }
        }
        drop(keys);
        self.columns = columns;
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        match self.domain {
            TimeDomain::EventTime => self.fire(ctx.watermark(), ctx),
            TimeDomain::ProcessingTime => Ok(Progress::Done),
        }
    }

    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        if self.domain == TimeDomain::EventTime {
            return None;
        }
        if let Some(emitting) = &self.emitting {
            return Some(emitting.window.end);
        }
        let first = states.get(self.slices).first()?;
        // The first window that holds the slice and has not fired; a slice past its last window goes at once.
        let earliest = first.max(states.get(self.fired).until().saturating_add(2));
        let Aligned { size, slide, offset } = self.aligned;
        let after = (earliest - offset - size).rem_euclid(slide);
        Some(if after == 0 { earliest } else { earliest - after + slide })
    }

    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        self.fire(ctx.processing_time() - 1, ctx)
    }

    fn on_end(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        // A bounded stream has no more processing time to wait for; one that is stopped goes on from its savepoint.
        match self.domain {
            TimeDomain::ProcessingTime if ctx.watermark() == MAX_TIMESTAMP => self.fire(MAX_TIMESTAMP, ctx),
            _ => Ok(Progress::Done),
        }
    }
}

#[cfg(test)]
mod tests;
