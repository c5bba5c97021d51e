//! Event time: where records' times come from, and how far behind the largest of them the watermark stays.

use crate::batch::{Record, Rows};
use crate::time::{MIN_TIMESTAMP, Timestamp, millis};
use std::sync::Arc;
use std::time::Duration;

/// Follows the event times of one split and says how far event time has come.
pub trait WatermarkGenerator<T>: Send {
    /// Takes a batch's records and their event times in.
    fn on_batch(&mut self, records: &[T], times: &[Timestamp]);

    /// The watermark now; [`MIN_TIMESTAMP`] while nothing is known.
    fn watermark(&self) -> Timestamp;
}

type Assigner<T> = Arc<dyn Fn(&Rows<T>) -> Vec<Timestamp> + Send + Sync>;
type Generators<T> = Arc<dyn Fn() -> Box<dyn WatermarkGenerator<T>> + Send + Sync>;

/// Where a stream's event times and watermarks come from.
///
/// ```
/// use hurtig_dataflow::watermark::WatermarkStrategy;
/// use std::time::Duration;
/// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
///     .with_timestamps(|(_name, at): &(String, i64)| *at)
///     .with_idleness(Duration::from_secs(60));
/// # let _ = strategy;
/// ```
pub struct WatermarkStrategy<T> {
    timestamps: Option<Assigner<T>>,
    generator: Option<Generators<T>>,
    idleness: Option<Duration>,
}

impl<T> Clone for WatermarkStrategy<T> {
    fn clone(&self) -> Self {
        WatermarkStrategy {
            timestamps: self.timestamps.clone(),
            generator: self.generator.clone(),
            idleness: self.idleness,
        }
    }
}

impl<T: Record> WatermarkStrategy<T> {
    /// No watermarks: for streams that do not use event time.
    pub fn none() -> Self {
        WatermarkStrategy { timestamps: None, generator: None, idleness: None }
    }

    /// Records come in order of event time within each split.
    pub fn monotonous() -> Self {
        Self::bounded_out_of_orderness(Duration::ZERO)
    }

    /// Records come at most `bound` later than one with a larger event time in the same split.
    pub fn bounded_out_of_orderness(bound: Duration) -> Self {
        let bound = millis(bound);
        Self::custom(move || BoundedOutOfOrderness { largest: MIN_TIMESTAMP, bound })
    }

    /// A generator of the user's own, made anew for each split.
    pub fn custom<G: WatermarkGenerator<T> + 'static>(
        generator: impl Fn() -> G + Send + Sync + 'static,
    ) -> Self {
        WatermarkStrategy {
            timestamps: None,
            generator: Some(Arc::new(move || Box::new(generator()))),
            idleness: None,
        }
    }

    /// Takes the event time from the record, in milliseconds since 1970. Without this, records keep the time their
    /// source gave them.
    pub fn with_timestamps(mut self, timestamp: impl Fn(&T) -> Timestamp + Send + Sync + 'static) -> Self {
        self.timestamps = Some(Arc::new(move |rows| rows.records.iter().map(&timestamp).collect()));
        self
    }

    /// A split without records for `after` does not hold the watermark back.
    pub fn with_idleness(mut self, after: Duration) -> Self {
        self.idleness = Some(after);
        self
    }

    /// A tracker for one split, with the watermark it had reached in the checkpoint, if any.
    pub fn tracker(&self, restored: Timestamp, now: Timestamp) -> WatermarkTracker<T> {
        WatermarkTracker {
            timestamps: self.timestamps.clone(),
            generator: self.generator.as_ref().map(|make| make()),
            idle_after: self.idleness.map(millis),
            watermark: restored,
            active_at: now,
        }
    }
}

/// Event time of one split.
pub struct WatermarkTracker<T> {
    timestamps: Option<Assigner<T>>,
    generator: Option<Box<dyn WatermarkGenerator<T>>>,
    idle_after: Option<i64>,
    watermark: Timestamp,
    active_at: Timestamp,
}

impl<T> WatermarkTracker<T> {
    /// Gives a batch's records their times and takes them into account.
    pub fn on_batch(&mut self, rows: &mut Rows<T>, now: Timestamp) {
        if rows.is_empty() {
            return;
        }
        self.active_at = now;
        if let Some(timestamps) = &self.timestamps {
            rows.times = timestamps(rows);
        }
        if let Some(generator) = &mut self.generator {
            generator.on_batch(&rows.records, &rows.times);
            self.watermark = self.watermark.max(generator.watermark());
        }
    }

    /// The watermark so far; it never falls.
    pub fn watermark(&self) -> Timestamp {
        self.watermark
    }

    /// Whether the split has had no records for as long as the strategy allows.
    pub fn is_idle(&self, now: Timestamp) -> bool {
        self.idle_at().is_some_and(|at| now >= at)
    }

    /// When the split becomes idle if no record comes.
    pub fn idle_at(&self) -> Option<Timestamp> {
        self.idle_after.map(|after| self.active_at.saturating_add(after))
    }
}

struct BoundedOutOfOrderness {
    largest: Timestamp,
    bound: i64,
}

impl<T> WatermarkGenerator<T> for BoundedOutOfOrderness {
    fn on_batch(&mut self, _: &[T], times: &[Timestamp]) {
        self.largest = times.iter().copied().fold(self.largest, Timestamp::max);
    }

    fn watermark(&self) -> Timestamp {
        // One less than the bound: a record of exactly that time may still come.
        match self.largest {
            MIN_TIMESTAMP => MIN_TIMESTAMP,
            largest => largest.saturating_sub(self.bound).saturating_sub(1),
        }
    }
}

/// The watermark of several inputs: the smallest of those that are neither idle nor ended.
#[derive(Clone, Debug)]
pub struct WatermarkMerger {
    inputs: Vec<Input>,
    merged: Timestamp,
    /// Passes once more: those behind may not have had it, where a checkpoint's barrier has overtaken it.
    restored: Option<Timestamp>,
    idle: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Input {
    watermark: Timestamp,
    status: Status,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Active,
    Idle,
    Ended,
}

/// What a change of one input means for the merged stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The merged watermark, if it has advanced.
    pub watermark: Option<Timestamp>,
    /// Whether the merged stream has become idle (`true`) or active (`false`).
    pub idle: Option<bool>,
}

impl WatermarkMerger {
    /// A merger over `inputs` inputs that starts at a restored watermark.
    pub fn new(inputs: usize, restored: Timestamp) -> Self {
        let input = Input { watermark: MIN_TIMESTAMP, status: Status::Active };
        WatermarkMerger {
            inputs: vec![input; inputs],
            merged: restored,
            restored: Some(restored).filter(|at| *at > MIN_TIMESTAMP),
            idle: false,
        }
    }

    /// The merged watermark.
    pub fn watermark(&self) -> Timestamp {
        self.merged
    }

    /// An input's watermark has advanced. It counts as active again.
    pub fn on_watermark(&mut self, input: usize, watermark: Timestamp) -> Merged {
        let input = &mut self.inputs[input];
        input.watermark = input.watermark.max(watermark);
        if input.status == Status::Idle {
            input.status = Status::Active;
        }
        self.merge()
    }

    /// An input has become idle or active.
    pub fn on_status(&mut self, input: usize, idle: bool) -> Merged {
        if self.inputs[input].status != Status::Ended {
            self.inputs[input].status = if idle { Status::Idle } else { Status::Active };
        }
        self.merge()
    }

    /// An input has ended.
    pub fn on_end(&mut self, input: usize) -> Merged {
        self.inputs[input].status = Status::Ended;
        self.merge()
    }

    fn merge(&mut self) -> Merged {
        let smallest = |status: Status| {
            self.inputs.iter().filter(move |input| input.status == status).map(|input| input.watermark).min()
        };
        let active = smallest(Status::Active);
        let idle = active.is_none() && self.inputs.iter().any(|input| input.status == Status::Idle);
        // When all are idle the largest watermark any of them has reached may pass, as in Flink.
        let all_idle = idle.then(|| self.inputs.iter().map(|input| input.watermark).max()).flatten();
        let mut merged = Merged::default();
        if let Some(watermark) = active.or(all_idle)
            && (watermark > self.merged || self.restored == Some(watermark))
        {
            self.restored = None;
            self.merged = watermark;
            merged.watermark = Some(watermark);
        }
        if idle != self.idle {
            self.idle = idle;
            merged.idle = Some(idle);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Change {
        Watermark(usize, Timestamp),
        Idle(usize),
        Active(usize),
        End(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            4 => (0..3usize, 0..100i64).prop_map(|(i, w)| Change::Watermark(i, w)),
            1 => (0..3usize).prop_map(Change::Idle),
            1 => (0..3usize).prop_map(Change::Active),
            1 => (0..3usize).prop_map(Change::End),
        ]
    }

    proptest! {
        #[test]
        fn the_merged_watermark_never_falls_and_never_passes_an_active_input(
            changes in proptest::collection::vec(change(), 0..60)
        ) {
            let mut merger = WatermarkMerger::new(3, MIN_TIMESTAMP);
            let mut model = [(MIN_TIMESTAMP, 'a'); 3];
            let mut last = MIN_TIMESTAMP;
            for change in changes {
                let before = merger.watermark();
                match change {
                    Change::Watermark(i, w) => {
                        model[i].0 = model[i].0.max(w);
                        if model[i].1 == 'i' { model[i].1 = 'a' }
                        merger.on_watermark(i, w);
                    }
                    Change::Idle(i) => { if model[i].1 != 'e' { model[i].1 = 'i' } merger.on_status(i, true); }
                    Change::Active(i) => { if model[i].1 != 'e' { model[i].1 = 'a' } merger.on_status(i, false); }
                    Change::End(i) => { model[i].1 = 'e'; merger.on_end(i); }
                }
                let now = merger.watermark();
                prop_assert!(now >= last);
                last = now;
                if now > before {
                    for (watermark, status) in model {
                        prop_assert!(status != 'a' || now <= watermark);
                    }
                }
                if let Some(min) = model.iter().filter(|m| m.1 == 'a').map(|m| m.0).min() {
                    prop_assert!(now >= min);
                }
            }
        }
    }
}
