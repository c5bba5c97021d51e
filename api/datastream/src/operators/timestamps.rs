//! Gives records their event times and makes watermarks of them; watermarks from before are not heeded. Keeps no state:
//! the watermark grows anew after a restore, and no operator behind falls back meanwhile.

use crate::stream::DataStream;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Progress};
use hurtig_dataflow::state::StateStore;
use hurtig_dataflow::time::{MAX_TIMESTAMP, MIN_TIMESTAMP};
use hurtig_dataflow::watermark::{WatermarkStrategy, WatermarkTracker};
use hurtig_dataflow::{OpResult, Record, Rows, Timestamp};

impl<T: Record> DataStream<T> {
    /// Gives records their event times and makes watermarks of them. Better done at the source, which knows its splits.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1))
    ///     .with_timestamps(|n: &u64| *n as i64);
    /// env.from_range(0..10).assign_timestamps_and_watermarks(strategy).print();
    /// ```
    pub fn assign_timestamps_and_watermarks(&self, strategy: WatermarkStrategy<T>) -> DataStream<T> {
        self.transform("Timestamps", move || Timestamps {
            strategy: strategy.clone(),
            tracker: None,
            emitted: MIN_TIMESTAMP,
            idle: false,
        })
    }
}

struct Timestamps<T> {
    strategy: WatermarkStrategy<T>,
    /// Made with the first call, which knows the time.
    tracker: Option<WatermarkTracker<T>>,
    emitted: Timestamp,
    idle: bool,
}

impl<T: Record> Timestamps<T> {
    fn tracker(&mut self, now: Timestamp) -> &mut WatermarkTracker<T> {
        self.tracker.get_or_insert_with(|| self.strategy.tracker(MIN_TIMESTAMP, now))
    }
}

impl<T: Record> Operator for Timestamps<T> {
    type In = Rows<T>;
    type Out = Rows<T>;

    fn open(&mut self, _: &mut OpenContext<'_>) -> OpResult {
        Ok(())
    }

    fn process(&mut self, mut batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        let now = ctx.processing_time();
        if self.idle {
            self.idle = false;
            ctx.emit_status(false);
        }
        let tracker = self.tracker(now);
        tracker.on_batch(&mut batch, now);
        let watermark = tracker.watermark();
        ctx.out().append(&mut batch);
        if watermark > self.emitted {
            self.emitted = watermark;
            ctx.emit_watermark(watermark);
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        if ctx.watermark() == MAX_TIMESTAMP && self.emitted < MAX_TIMESTAMP {
            self.emitted = MAX_TIMESTAMP;
            ctx.emit_watermark(MAX_TIMESTAMP);
        }
        Ok(Progress::Done)
    }

    fn next_processing_time(&self, _: &StateStore) -> Option<Timestamp> {
        match &self.tracker {
            // At once: one that never gets a record becomes idle too.
            None => Some(MIN_TIMESTAMP),
            Some(tracker) => tracker.idle_at().filter(|_| !self.idle),
        }
    }

    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        let now = ctx.processing_time();
        if self.tracker(now).is_idle(now) {
            self.idle = true;
            ctx.emit_status(true);
        }
        Ok(Progress::Done)
    }

    fn forwards_watermarks(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::Element;
    use hurtig_dataflow::harness::Harness;
    use std::time::Duration;

    fn harness() -> Harness<i64> {
        let strategy = WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(5))
            .with_timestamps(|n: &i64| *n)
            .with_idleness(Duration::from_millis(100));
        Harness::new(move || Timestamps {
            strategy: strategy.clone(),
            tracker: None,
            emitted: MIN_TIMESTAMP,
            idle: false,
        })
    }

    fn watermarks(elements: Vec<Element>) -> Vec<Timestamp> {
        let time = |element: &Element| match element {
            Element::Watermark(time) => Some(*time),
            _ => None,
        };
        elements.iter().filter_map(time).collect()
    }

    #[test]
    fn watermarks_follow_the_records_and_not_the_input() {
        let mut harness = harness();
        harness.push_batch(0, Rows::untimed(vec![10i64, 8]));
        harness.watermark(7);
        harness.push_batch(0, Rows::untimed(vec![9i64]));
        harness.restart();
        harness.push_batch(0, Rows::untimed(vec![20i64]));
        harness.end();
        assert_eq!(watermarks(harness.elements()), [4, 14, MAX_TIMESTAMP]);
    }

    #[test]
    fn a_stream_that_has_never_had_a_record_becomes_idle_from_the_start_and_after_a_restore() {
        let mut harness = harness();
        for began in [0, 1_000] {
            harness.set_processing_time(began);
            harness.set_processing_time(began + 99);
            assert!(harness.elements().is_empty());
            harness.set_processing_time(began + 100);
            let found: Vec<_> = harness.elements().iter().map(|element| format!("{element:?}")).collect();
            assert_eq!(found, ["Idle"]);
            harness.set_processing_time(began + 500);
            harness.restart();
            harness.elements();
        }
    }

    #[test]
    fn a_stream_without_records_becomes_idle_and_active_again() {
        let mut harness = harness();
        harness.push_batch(0, Rows::untimed(vec![10i64]));
        harness.set_processing_time(100);
        harness.push_batch(0, Rows::untimed(vec![11i64]));
        let found: Vec<_> = harness.elements().iter().map(|element| format!("{element:?}")).collect();
        let expected =
            ["Batch(1 records)", "Watermark(4)", "Idle", "Active", "Batch(1 records)", "Watermark(5)"];
        assert_eq!(found, expected);
    }
}
