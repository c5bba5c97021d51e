//! Windows of every kind: sessions, triggers, evictors, allowed lateness. Keeps a list of panes per key, one per window,
//! and wake-ups per key; a pane goes when time passes its window's end plus the allowed lateness.

mod rules;

use crate::collector::Collector;
use crate::context::{KeyedTimers, TimeDomain};
use crate::keyed::{KeyedBatch, Keys};
use crate::operators::slice_windows::UNTIMED;
use crate::windows::assigner::{Kind, Windows};
use crate::windows::function::WindowFold;
use crate::windows::trigger::Trigger;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, OutputTag, Parts, Progress};
use hurtig_dataflow::state::{Handle, KeyedTable, StateStore};
use hurtig_dataflow::time::{MAX_TIMESTAMP, MIN_TIMESTAMP};
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use rules::{Clocks, Pane, Rules};
use std::sync::Arc;

/// The panes of all keys.
type Table<K, A, S> = KeyedTable<K, Vec<Pane<A, S>>>;

pub(crate) struct PaneWindows<T, K, W: WindowFold<T, K>, G: Trigger<T>> {
    rules: Rules<T, K, W, G>,
    input: KeyedBatch<T, K>,
    late: Option<OutputTag<T>>,
    panes: Handle<Table<K, W::Acc, G::State>>,
    timers: KeyedTimers<K>,
}

impl<T: Record, K: Key, W: WindowFold<T, K>, G: Trigger<T>> PaneWindows<T, K, W, G> {
    pub(crate) fn new(
        keys: Keys<T, K>,
        fold: Arc<W>,
        windows: Windows<T>,
        trigger: Arc<G>,
        lateness: i64,
        late: Option<OutputTag<T>>,
    ) -> Self {
        PaneWindows {
            rules: Rules::new(fold, windows, trigger, lateness),
            input: KeyedBatch::new(keys),
            late,
            panes: Handle::default(),
            timers: KeyedTimers::default(),
        }
    }

    /// Fires the timers that are due at `until`, until the output is full.
    fn fire(
        &mut self,
        domain: TimeDomain,
        until: Timestamp,
        ctx: &mut Context<'_, '_, Rows<W::Out>>,
    ) -> OpResult<Progress> {
        while let Some((time, key)) = ctx.states().get_mut(self.timers.of(domain)).pop_due(until) {
            let hash = hash_key(&key);
            let Parts { states, out, sides, watermark, now, .. } = ctx.parts();
            // Wake-ups are not taken back: one may find nothing left to do.
            let table = states.get_mut(self.panes);
            let Some(panes) = table.get_mut(hash, &key) else { continue };
            let event_time = (domain == TimeDomain::EventTime).then_some(time);
            let mut out = Collector::new(out, sides, event_time);
            self.rules.on_timer(panes, &key, (domain, time), Clocks { watermark, now }, &mut out)?;
            if panes.is_empty() {
                table.remove(hash, &key);
            }
            for (domain, time) in self.rules.wakeups.drain(..) {
                states.get_mut(self.timers.of(domain)).register(time, key.clone());
            }
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }
}

impl<T: Record, K: Key, W: WindowFold<T, K>, G: Trigger<T>> Operator for PaneWindows<T, K, W, G> {
    type In = Rows<T>;
    type Out = Rows<W::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.panes = ctx.states.keyed("panes")?;
        self.timers = KeyedTimers::declare(ctx.states)?;
        Ok(())
    }

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        self.input.load(batch);
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        while let Some((record, event_time, key, hash)) = self.input.next() {
            let Parts { states, out, sides, watermark, now, late_dropped, .. } = ctx.parts();
            let time = match (self.rules.windows.domain, &self.rules.windows.kind) {
                (TimeDomain::ProcessingTime, _) => now,
                (TimeDomain::EventTime, Kind::Global) => event_time.unwrap_or(MIN_TIMESTAMP),
                (TimeDomain::EventTime, _) => event_time.ok_or(UNTIMED)?,
            };
            let mut out = Collector::new(out, sides, event_time);
            let table = states.get_mut(self.panes);
            let panes = match table.get_mut(hash, key) {
                Some(panes) => panes,
                None => table.get_or_insert_with(hash, key.clone(), Vec::new),
            };
            let clocks = Clocks { watermark, now };
            if let Some(record) = self.rules.on_record(panes, (key, record, time), clocks, &mut out)? {
                match &self.late {
                    Some(late) => out.emit_side(late, record),
                    None => *late_dropped += 1,
                }
            }
            if panes.is_empty() {
                table.remove(hash, key);
            }
            for (domain, time) in self.rules.wakeups.drain(..) {
                states.get_mut(self.timers.of(domain)).register(time, key.clone());
            }
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        self.fire(TimeDomain::EventTime, ctx.watermark(), ctx)
    }

    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        states.get(self.timers.processing).next_time()
    }

    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        self.fire(TimeDomain::ProcessingTime, ctx.processing_time(), ctx)
    }

    fn on_end(&mut self, ctx: &mut Context<'_, '_, Rows<W::Out>>) -> OpResult<Progress> {
        // A bounded stream has no more processing time to wait for; one that is stopped goes on from its savepoint.
        match self.rules.windows.domain {
            TimeDomain::ProcessingTime if ctx.watermark() == MAX_TIMESTAMP => {
                self.fire(TimeDomain::ProcessingTime, MAX_TIMESTAMP, ctx)
            }
            _ => Ok(Progress::Done),
        }
    }
}

#[cfg(test)]
mod tests;
