//! When windows fire.

mod continuous;

pub use continuous::{ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger};

use crate::context::TimeDomain;
use crate::windows::assigner::TimeWindow;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::state::StateValue;
use serde::{Deserialize, Serialize};

/// What is to happen to a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TriggerResult {
    /// Nothing.
    Continue,
    /// Its function runs; its records stay.
    Fire,
    /// Its records go.
    Purge,
    /// Its function runs, then its records go.
    FireAndPurge,
}

impl TriggerResult {
    pub(crate) fn fires(self) -> bool {
        matches!(self, TriggerResult::Fire | TriggerResult::FireAndPurge)
    }

    pub(crate) fn purges(self) -> bool {
        matches!(self, TriggerResult::Purge | TriggerResult::FireAndPurge)
    }
}

/// Timers of one window of one key, as its trigger sees them.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct PaneTimers {
    pub(crate) event: Vec<Timestamp>,
    pub(crate) processing: Vec<Timestamp>,
}

impl PaneTimers {
    pub(crate) fn of(&self, domain: TimeDomain) -> &[Timestamp] {
        match domain {
            TimeDomain::EventTime => &self.event,
            TimeDomain::ProcessingTime => &self.processing,
        }
    }

    fn of_mut(&mut self, domain: TimeDomain) -> &mut Vec<Timestamp> {
        match domain {
            TimeDomain::EventTime => &mut self.event,
            TimeDomain::ProcessingTime => &mut self.processing,
        }
    }

    fn register(&mut self, domain: TimeDomain, time: Timestamp) {
        let timers = self.of_mut(domain);
        if !timers.contains(&time) {
            timers.push(time);
        }
    }

    /// Removes a timer; whether there was one.
    pub(crate) fn remove(&mut self, domain: TimeDomain, time: Timestamp) -> bool {
        let timers = self.of_mut(domain);
        let at = timers.iter().position(|registered| *registered == time);
        at.map(|at| timers.swap_remove(at)).is_some()
    }

    pub(crate) fn clear(&mut self) {
        self.event.clear();
        self.processing.clear();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.event.is_empty() && self.processing.is_empty()
    }
}

/// What a trigger sees: the clocks, and the timers of its window.
pub struct TriggerContext<'a> {
    pub(crate) watermark: Timestamp,
    pub(crate) now: Timestamp,
    pub(crate) timers: &'a mut PaneTimers,
}

impl TriggerContext<'_> {
    /// The watermark.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Processing time.
    pub fn processing_time(&self) -> Timestamp {
        self.now
    }

    /// Calls the trigger again once the watermark has reached `time`.
    pub fn register_event_time_timer(&mut self, time: Timestamp) {
        self.timers.register(TimeDomain::EventTime, time);
    }

    /// Calls the trigger again once processing time has reached `time`.
    pub fn register_processing_time_timer(&mut self, time: Timestamp) {
        self.timers.register(TimeDomain::ProcessingTime, time);
    }

    /// Takes a timer of this window back.
    pub fn delete_event_time_timer(&mut self, time: Timestamp) {
        self.timers.remove(TimeDomain::EventTime, time);
    }

    /// Takes a timer of this window back.
    pub fn delete_processing_time_timer(&mut self, time: Timestamp) {
        self.timers.remove(TimeDomain::ProcessingTime, time);
    }
}

/// Says when windows fire. One object serves all keys and windows; what it must remember for one of them is its `State`.
///
/// ```
/// use hurtig_datastream::prelude::*;
/// use std::time::Duration;
///
/// /// Fires at once for alarms, else when the window ends.
/// struct OnAlarm;
/// impl Trigger<(String, bool)> for OnAlarm {
///     type State = ();
///     fn on_record(
///         &self, record: &(String, bool), _: i64, window: TimeWindow, _: &mut (), ctx: &mut TriggerContext<'_>,
///     ) -> TriggerResult {
///         ctx.register_event_time_timer(window.max_timestamp());
///         if record.1 { TriggerResult::Fire } else { TriggerResult::Continue }
///     }
///     fn on_event_time(&self, _: i64, _: TimeWindow, _: &mut (), _: &mut TriggerContext<'_>) -> TriggerResult {
///         TriggerResult::Fire
///     }
/// }
/// let env = Environment::new();
/// env.from_collection(vec![("pump".to_string(), true)])
///     .key_by(|(device, _)| device.clone())
///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
///     .trigger(OnAlarm)
///     .count()
///     .print();
/// ```
pub trait Trigger<T>: Send + Sync + 'static {
    /// What is remembered per key and window.
    type State: StateValue + Default + PartialEq;

    /// A record has come into the window.
    fn on_record(
        &self,
        record: &T,
        time: Timestamp,
        window: TimeWindow,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult;

    /// An event-time timer registered for the window has come due.
    fn on_event_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let _ = (time, window, state, ctx);
        TriggerResult::Continue
    }

    /// A processing-time timer registered for the window has come due.
    fn on_processing_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        state: &mut Self::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        let _ = (time, window, state, ctx);
        TriggerResult::Continue
    }

    /// Another session's state is merged into this one's. By default this one's stays.
    fn merge(&self, state: &mut Self::State, other: Self::State) {
        let _ = (state, other);
    }

    /// A session has grown to `window`. Its timers are gone: register those it needs.
    fn on_merge(&self, window: TimeWindow, state: &mut Self::State, ctx: &mut TriggerContext<'_>) {
        let _ = (window, state, ctx);
    }
}

/// What windows fire by if they are given no other trigger.
#[derive(Clone, Copy, Debug)]
pub enum DefaultTrigger {
    /// When the watermark passes the window's end, and for each late record after that.
    EventTime,
    /// When processing time reaches the window's end.
    ProcessingTime,
    /// Never.
    Never,
}

impl<T> Trigger<T> for DefaultTrigger {
    type State = ();

    fn on_record(
        &self,
        _: &T,
        _: Timestamp,
        window: TimeWindow,
        state: &mut (),
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if matches!(self, DefaultTrigger::EventTime) && window.max_timestamp() <= ctx.watermark {
            return TriggerResult::Fire;
        }
        Trigger::<T>::on_merge(self, window, state, ctx);
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if time == window.max_timestamp() { TriggerResult::Fire } else { TriggerResult::Continue }
    }

    fn on_processing_time(
        &self,
        _: Timestamp,
        _: TimeWindow,
        _: &mut (),
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        TriggerResult::Fire
    }

    fn on_merge(&self, window: TimeWindow, _: &mut (), ctx: &mut TriggerContext<'_>) {
        match self {
            DefaultTrigger::EventTime if window.max_timestamp() > ctx.watermark => {
                ctx.register_event_time_timer(window.max_timestamp());
            }
            DefaultTrigger::ProcessingTime => ctx.register_processing_time_timer(window.end),
            _ => {}
        }
    }
}

macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $variant:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub struct $name;

        impl<T> Trigger<T> for $name {
            type State = ();
            fn on_record(
                &self,
                record: &T,
                time: Timestamp,
                window: TimeWindow,
                state: &mut (),
                ctx: &mut TriggerContext<'_>,
            ) -> TriggerResult {
                DefaultTrigger::$variant.on_record(record, time, window, state, ctx)
            }
            fn on_event_time(
                &self,
                time: Timestamp,
                window: TimeWindow,
                state: &mut (),
                ctx: &mut TriggerContext<'_>,
            ) -> TriggerResult {
                Trigger::<T>::on_event_time(&DefaultTrigger::$variant, time, window, state, ctx)
            }
            fn on_processing_time(
                &self,
                time: Timestamp,
                window: TimeWindow,
                state: &mut (),
                ctx: &mut TriggerContext<'_>,
            ) -> TriggerResult {
                Trigger::<T>::on_processing_time(&DefaultTrigger::$variant, time, window, state, ctx)
            }
            fn on_merge(&self, window: TimeWindow, state: &mut (), ctx: &mut TriggerContext<'_>) {
                Trigger::<T>::on_merge(&DefaultTrigger::$variant, window, state, ctx);
            }
        }
    };
}

named!(
    /// Fires when the watermark passes the window's end, and for each late record after that.
    EventTimeTrigger, EventTime
);
named!(
    /// Fires when processing time reaches the window's end.
    ProcessingTimeTrigger, ProcessingTime
);

/// Fires each time a window has got a number of records.
#[derive(Clone, Copy, Debug)]
pub struct CountTrigger(u64);

impl CountTrigger {
    /// Fires every `count` records.
    pub fn of(count: u64) -> Self {
        CountTrigger(count)
    }
}

impl<T> Trigger<T> for CountTrigger {
    type State = u64;

    fn on_record(
        &self,
        _: &T,
        _: Timestamp,
        _: TimeWindow,
        count: &mut u64,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        *count += 1;
        if *count < self.0 {
            return TriggerResult::Continue;
        }
        *count = 0;
        TriggerResult::Fire
    }

    fn merge(&self, count: &mut u64, other: u64) {
        *count += other;
    }
}

/// Does what another trigger does, and lets a window's records go whenever it fires.
#[derive(Clone, Copy, Debug)]
pub struct PurgingTrigger<G>(G);

impl<G> PurgingTrigger<G> {
    /// Purges when `trigger` fires.
    pub fn of(trigger: G) -> Self {
        PurgingTrigger(trigger)
    }
}

fn purge(result: TriggerResult) -> TriggerResult {
    if result.fires() { TriggerResult::FireAndPurge } else { result }
}

impl<T, G: Trigger<T>> Trigger<T> for PurgingTrigger<G> {
    type State = G::State;

    fn on_record(
        &self,
        record: &T,
        time: Timestamp,
        window: TimeWindow,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purge(self.0.on_record(record, time, window, state, ctx))
    }

    fn on_event_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purge(self.0.on_event_time(time, window, state, ctx))
    }

    fn on_processing_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        state: &mut G::State,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        purge(self.0.on_processing_time(time, window, state, ctx))
    }

    fn merge(&self, state: &mut G::State, other: G::State) {
        self.0.merge(state, other);
    }

    fn on_merge(&self, window: TimeWindow, state: &mut G::State, ctx: &mut TriggerContext<'_>) {
        self.0.on_merge(window, state, ctx);
    }
}
