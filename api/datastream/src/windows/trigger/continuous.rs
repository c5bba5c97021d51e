//! Triggers that fire again and again while a window is open.

use super::{Trigger, TriggerContext, TriggerResult};
use crate::windows::assigner::TimeWindow;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::time::{MIN_TIMESTAMP, millis};
use std::time::Duration;

/// Fires at regular event times within a window, and at its end.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousEventTimeTrigger(i64);

/// Fires at regular processing times while a window has records, and at a processing-time window's end.
#[derive(Clone, Copy, Debug)]
pub struct ContinuousProcessingTimeTrigger(i64);

impl ContinuousEventTimeTrigger {
    /// Fires every `interval`.
    pub fn of(interval: Duration) -> Self {
        ContinuousEventTimeTrigger(millis(interval).max(1))
    }
}

impl ContinuousProcessingTimeTrigger {
    /// Fires every `interval`.
    pub fn of(interval: Duration) -> Self {
        ContinuousProcessingTimeTrigger(millis(interval).max(1))
    }
}

/// The first multiple of `interval` after `time`.
fn next_multiple(time: Timestamp, interval: i64) -> Timestamp {
    time.max(MIN_TIMESTAMP / 2).saturating_add(interval - time.rem_euclid(interval))
}

impl<T> Trigger<T> for ContinuousEventTimeTrigger {
    /// The next time it fires before the window's end.
    type State = Option<Timestamp>;

    fn on_record(
        &self,
        _: &T,
        time: Timestamp,
        window: TimeWindow,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if window.max_timestamp() <= ctx.watermark {
            return TriggerResult::Fire;
        }
        if !window.is_global() {
            ctx.register_event_time_timer(window.max_timestamp());
        }
        if next.is_none() {
            let time = next_multiple(time, self.0).min(window.max_timestamp());
            *next = Some(time);
            ctx.register_event_time_timer(time);
        }
        TriggerResult::Continue
    }

    fn on_event_time(
        &self,
        time: Timestamp,
        window: TimeWindow,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if time == window.max_timestamp() {
            return TriggerResult::Fire;
        }
        if *next != Some(time) {
            return TriggerResult::Continue;
        }
        let time = time.saturating_add(self.0).min(window.max_timestamp());
        *next = Some(time);
        ctx.register_event_time_timer(time);
        TriggerResult::Fire
    }

    fn merge(&self, next: &mut Option<Timestamp>, other: Option<Timestamp>) {
        *next = (*next).into_iter().chain(other).min();
    }

    fn on_merge(&self, window: TimeWindow, next: &mut Option<Timestamp>, ctx: &mut TriggerContext<'_>) {
        ctx.register_event_time_timer(window.max_timestamp());
        if let Some(time) = next {
            ctx.register_event_time_timer(*time);
        }
    }
}

impl<T> Trigger<T> for ContinuousProcessingTimeTrigger {
    /// The next time it fires.
    type State = Option<Timestamp>;

    fn on_record(
        &self,
        _: &T,
        _: Timestamp,
        _: TimeWindow,
        next: &mut Option<Timestamp>,
        ctx: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if next.is_none() {
            let time = next_multiple(ctx.now, self.0);
            *next = Some(time);
            ctx.register_processing_time_timer(time);
        }
        TriggerResult::Continue
    }

    fn on_processing_time(
        &self,
        time: Timestamp,
        _: TimeWindow,
        next: &mut Option<Timestamp>,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        if *next != Some(time) {
            return TriggerResult::Continue;
        }
        // The next record starts it again: a window without records has nothing new to say.
        *next = None;
        TriggerResult::Fire
    }

    fn merge(&self, next: &mut Option<Timestamp>, other: Option<Timestamp>) {
        *next = (*next).into_iter().chain(other).min();
    }

    fn on_merge(&self, _: TimeWindow, next: &mut Option<Timestamp>, ctx: &mut TriggerContext<'_>) {
        if let Some(time) = next {
            ctx.register_processing_time_timer(*time);
        }
    }
}
