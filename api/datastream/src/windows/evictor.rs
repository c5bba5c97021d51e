//! Which of a window's records are left out when it fires.

use crate::windows::assigner::TimeWindow;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::time::millis;
use std::time::Duration;

/// What an evictor sees beside the records.
#[derive(Clone, Copy, Debug)]
pub struct EvictorContext {
    /// The window that fires.
    pub window: TimeWindow,
    /// The watermark.
    pub watermark: Timestamp,
    /// Processing time.
    pub processing_time: Timestamp,
}

/// Takes records out of a window before or after its function runs. A window with an evictor keeps all its records.
pub trait Evictor<T>: Send + Sync + 'static {
    /// Removes records before the window's function sees them.
    fn evict_before(&self, records: &mut Vec<(T, Timestamp)>, ctx: &EvictorContext) {
        let _ = (records, ctx);
    }

    /// Removes records after the window's function has seen them.
    fn evict_after(&self, records: &mut Vec<(T, Timestamp)>, ctx: &EvictorContext) {
        let _ = (records, ctx);
    }
}

/// Keeps the last records.
#[derive(Clone, Copy, Debug)]
pub struct CountEvictor(usize);

impl CountEvictor {
    /// Keeps the last `count` records.
    pub fn of(count: usize) -> Self {
        CountEvictor(count)
    }
}

impl<T> Evictor<T> for CountEvictor {
    fn evict_before(&self, records: &mut Vec<(T, Timestamp)>, _: &EvictorContext) {
        let surplus = records.len().saturating_sub(self.0);
        records.drain(..surplus);
    }
}

/// Keeps the youngest records.
#[derive(Clone, Copy, Debug)]
pub struct TimeEvictor(i64);

impl TimeEvictor {
    /// Keeps records less than `span` older than the youngest.
    pub fn of(span: Duration) -> Self {
        TimeEvictor(millis(span))
    }
}

impl<T> Evictor<T> for TimeEvictor {
    fn evict_before(&self, records: &mut Vec<(T, Timestamp)>, _: &EvictorContext) {
        if let Some(youngest) = records.iter().map(|(_, time)| *time).max() {
            records.retain(|(_, time)| *time > youngest.saturating_sub(self.0));
        }
    }
}
