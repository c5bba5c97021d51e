//! What happens to the panes of one key when a record comes or a timer is due: plain data, no operator.

use crate::collector::Collector;
use crate::context::TimeDomain;
use crate::windows::assigner::{Kind, TimeWindow, Windows};
use crate::windows::function::{WindowContext, WindowFold};
use crate::windows::trigger::{PaneTimers, Trigger, TriggerContext, TriggerResult};
use hurtig_dataflow::{OpResult, Record, Timestamp};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::sync::Arc;

/// One window of one key.
#[derive(Serialize, Deserialize)]
pub(super) struct Pane<A, S> {
    window: TimeWindow,
    /// `None` when purged.
    acc: Option<A>,
    timers: PaneTimers,
    armed: Armed,
    trigger: S,
}

/// When the key will be woken for a pane: never later than the pane wants. A wake-up before that arms the next one, so
/// a session that grows with every record needs no timer moved.
#[derive(Default, Serialize, Deserialize)]
struct Armed {
    event: Option<Timestamp>,
    processing: Option<Timestamp>,
}

impl Armed {
    fn of(&mut self, domain: TimeDomain) -> &mut Option<Timestamp> {
        match domain {
            TimeDomain::EventTime => &mut self.event,
            TimeDomain::ProcessingTime => &mut self.processing,
        }
    }
}

impl<A, S: Default + PartialEq> Pane<A, S> {
    fn new(window: TimeWindow) -> Self {
        let (timers, armed) = (PaneTimers::default(), Armed::default());
        Pane { window, acc: None, timers, armed, trigger: S::default() }
    }

    /// Lets the trigger act on the pane.
    fn trigger<R>(
        &mut self,
        Clocks { watermark, now }: Clocks,
        act: impl FnOnce(TimeWindow, &mut S, &mut TriggerContext<'_>) -> R,
    ) -> R {
        let mut ctx = TriggerContext { watermark, now, timers: &mut self.timers };
        act(self.window, &mut self.trigger, &mut ctx)
    }

    /// Whether nothing would be lost with the pane: so windows without end leave no trace once purged.
    fn is_spent(&self) -> bool {
        self.window.is_global()
            && self.acc.is_none()
            && self.timers.is_empty()
            && self.trigger == S::default()
    }
}

/// How far both clocks are.
#[derive(Clone, Copy)]
pub(super) struct Clocks {
    pub(super) watermark: Timestamp,
    pub(super) now: Timestamp,
}

/// Assigner, trigger and function of a windowed stream.
pub(super) struct Rules<T, K, W, G> {
    fold: Arc<W>,
    pub(super) windows: Windows<T>,
    trigger: Arc<G>,
    lateness: i64,
    /// Wake-ups to be registered for the key at hand.
    pub(super) wakeups: Vec<(TimeDomain, Timestamp)>,
    assigned: Vec<TimeWindow>,
    key: PhantomData<fn(K)>,
}

type Panes<A, S> = Vec<Pane<A, S>>;

impl<T: Record, K, W: WindowFold<T, K>, G: Trigger<T>> Rules<T, K, W, G> {
    pub(super) fn new(fold: Arc<W>, windows: Windows<T>, trigger: Arc<G>, lateness: i64) -> Self {
        let (wakeups, assigned) = (Vec::new(), Vec::new());
        Rules { fold, windows, trigger, lateness, wakeups, assigned, key: PhantomData }
    }

    /// A record has come. Gives it back if it is late.
    pub(super) fn on_record(
        &mut self,
        panes: &mut Panes<W::Acc, G::State>,
        (key, record, time): (&K, T, Timestamp),
        clocks: Clocks,
        out: &mut Collector<'_, W::Out>,
    ) -> OpResult<Option<T>> {
        let mut assigned = std::mem::take(&mut self.assigned);
        assigned.clear();
        match &self.windows.kind {
            Kind::Aligned(aligned) => assigned.extend(aligned.windows_of(time)),
            Kind::Global => assigned.push(TimeWindow::GLOBAL),
            Kind::Custom(assign) => assign(&record, time, &mut assigned),
            Kind::Session(gap) => {
                let window = TimeWindow::new(time, time.saturating_add(gap(&record)));
                let late = match self.session(panes, window, clocks) {
                    Some(at) => {
                        self.add(&mut panes[at], (key, record, time), clocks, out)?;
                        None
                    }
                    None => Some(record),
                };
                self.assigned = assigned;
                self.arm(panes);
                return Ok(late);
            }
        }
        let belongs = !assigned.is_empty();
        assigned.retain(|window| !self.is_late(*window, clocks.watermark));
        let mut record = Some(record);
        let count = assigned.len();
        for (n, window) in assigned.iter().enumerate() {
            let copy = if n + 1 == count { record.take() } else { record.clone() };
            let Some(copy) = copy else { continue };
            let at = panes.iter().position(|pane| pane.window == *window).unwrap_or_else(|| {
                panes.push(Pane::new(*window));
                panes.len() - 1
            });
            self.add(&mut panes[at], (key, copy, time), clocks, out)?;
            if panes[at].is_spent() {
                panes.swap_remove(at);
            }
        }
        self.assigned = assigned;
        self.arm(panes);
        Ok(record.filter(|_| belongs))
    }

    /// A timer of the key is due.
    pub(super) fn on_timer(
        &mut self,
        panes: &mut Panes<W::Acc, G::State>,
        key: &K,
        (domain, time): (TimeDomain, Timestamp),
        clocks: Clocks,
        out: &mut Collector<'_, W::Out>,
    ) -> OpResult {
        let mut at = 0;
        while at < panes.len() {
            let pane = &mut panes[at];
            let armed = pane.armed.of(domain);
            *armed = armed.filter(|armed| *armed > time);
            if pane.timers.remove(domain, time) {
                let trigger = &self.trigger;
                let result = pane.trigger(clocks, |window, state, ctx| match domain {
                    TimeDomain::EventTime => trigger.on_event_time(time, window, state, ctx),
                    TimeDomain::ProcessingTime => trigger.on_processing_time(time, window, state, ctx),
                });
                self.act(pane, key, result, clocks, out)?;
            }
            let ends = domain == self.windows.domain && self.cleanup_time(pane.window) == Some(time);
            if ends || pane.is_spent() {
                panes.remove(at);
            } else {
                at += 1;
            }
        }
        self.arm(panes);
        Ok(())
    }

    /// When a pane goes.
    fn cleanup_time(&self, window: TimeWindow) -> Option<Timestamp> {
        match self.windows.domain {
            _ if window.is_global() => None,
            TimeDomain::EventTime => Some(window.max_timestamp().saturating_add(self.lateness)),
            TimeDomain::ProcessingTime => Some(window.end),
        }
    }

    fn is_late(&self, window: TimeWindow, watermark: Timestamp) -> bool {
        self.windows.domain == TimeDomain::EventTime
            && self.cleanup_time(window).is_some_and(|time| time <= watermark)
    }

    /// Sees to it that the key is woken for each pane in time.
    fn arm(&mut self, panes: &mut [Pane<W::Acc, G::State>]) {
        for pane in panes {
            for domain in [TimeDomain::EventTime, TimeDomain::ProcessingTime] {
                let own = pane.timers.of(domain).iter().copied().min();
                let cleanup = self.cleanup_time(pane.window).filter(|_| domain == self.windows.domain);
                let Some(wanted) = own.into_iter().chain(cleanup).min() else { continue };
                let armed = pane.armed.of(domain);
                if armed.is_none_or(|armed| armed > wanted) {
                    *armed = Some(wanted);
                    self.wakeups.push((domain, wanted));
                }
            }
        }
    }

    /// Finds or makes the pane of a session that takes in `window`, merging those it meets. `None` if it is late.
    fn session(
        &mut self,
        panes: &mut Panes<W::Acc, G::State>,
        window: TimeWindow,
        clocks: Clocks,
    ) -> Option<usize> {
        let Some(first) = panes.iter().position(|pane| pane.window.meets(&window)) else {
            if self.is_late(window, clocks.watermark) {
                return None;
            }
            panes.push(Pane::new(window));
            return Some(panes.len() - 1);
        };
        let mut cover = panes[first].window.cover(&window);
        let mut grows = cover != panes[first].window;
        let mut at = first + 1;
        while at < panes.len() {
            if !panes[at].window.meets(&window) {
                at += 1;
                continue;
            }
            let other = panes.remove(at);
            cover = cover.cover(&other.window);
            grows = true;
            let pane = &mut panes[first];
            self.trigger.merge(&mut pane.trigger, other.trigger);
            match (&mut pane.acc, other.acc) {
                (Some(acc), Some(other)) => self.fold.merge(acc, &other),
                (acc @ None, other) => *acc = other,
                _ => {}
            }
        }
        if grows {
            let pane = &mut panes[first];
            pane.timers.clear();
            pane.window = cover;
            let trigger = &self.trigger;
            pane.trigger(clocks, |window, state, ctx| {
                trigger.on_merge(window, state, ctx);
            });
        }
        Some(first)
    }

    /// Takes a record into one pane and lets its trigger decide.
    fn add(
        &mut self,
        pane: &mut Pane<W::Acc, G::State>,
        (key, record, time): (&K, T, Timestamp),
        clocks: Clocks,
        out: &mut Collector<'_, W::Out>,
    ) -> OpResult {
        let trigger = &self.trigger;
        let result =
            pane.trigger(clocks, |window, state, ctx| trigger.on_record(&record, time, window, state, ctx));
        let fold = &self.fold;
        fold.add(pane.acc.get_or_insert_with(|| fold.create()), record, time);
        self.act(pane, key, result, clocks, out)
    }

    /// Does what a trigger has decided.
    fn act(
        &self,
        pane: &mut Pane<W::Acc, G::State>,
        key: &K,
        result: TriggerResult,
        clocks: Clocks,
        out: &mut Collector<'_, W::Out>,
    ) -> OpResult {
        if let Some(acc) = pane.acc.as_mut().filter(|_| result.fires()) {
            let (window, input) = (pane.window, out.timestamp());
            let ctx = WindowContext { window, watermark: clocks.watermark, processing_time: clocks.now };
            // A window without end has no time of its own: its results take that of what fired it.
            let time = if window.is_global() { input } else { Some(window.max_timestamp()) };
            self.fold.emit(key, &ctx, acc, out.at(time))?;
            out.at(input);
        }
        if result.purges() {
            pane.acc = None;
        }
        Ok(())
    }
}
