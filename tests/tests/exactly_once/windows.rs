//! Windows of all kinds, and joins in windows.

use super::{check_events, check_two};
use hurtig::dataflow::state::ItemList;
use hurtig::prelude::*;
use hurtig_tests::events::Event;
use std::time::Duration;

#[test]
fn tumbling_windows() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
                (*key, window.start, sum)
            })
            .uid("sums")
    });
}

#[test]
fn sliding_windows() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(SlidingEventTimeWindows::of(Duration::from_millis(900), Duration::from_millis(300)))
            .aggregate_with(Count::new(), |key, window, count| (*key, window.end, count))
            .uid("counts")
    });
}

#[test]
fn sliding_windows_of_all_records() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(SlidingEventTimeWindows::of(Duration::from_millis(900), Duration::from_millis(300)))
            .apply(|key, window: &WindowContext, records, out| {
                let mut numbers: Vec<_> = records.map(|event: &Event| event.n).collect();
                numbers.sort_unstable();
                out.emit((*key, window.window.start, numbers));
            })
            .uid("lists")
    });
}

#[test]
fn session_windows_merge() {
    check_events(|events| {
        events
            .filter(|event| event.n * 7 % 31 < 12)
            .uid("thinned")
            .key_by(|event| event.key)
            .window(EventTimeSessionWindows::with_gap(Duration::from_millis(400)))
            .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
                (*key, window.start, window.end, sum)
            })
            .uid("sessions")
    });
}

#[test]
fn count_windows() {
    check_events(|events| {
        let keyed = events.key_by(|event| event.key);
        let tumbling = keyed.count_window(7).sum(|event| event.value).uid("by-seven");
        let sliding = keyed.count_window_sliding(5, 3).sum(|event| event.value).uid("last-five");
        tumbling.union(&sliding)
    });
}

#[test]
fn windows_with_allowed_lateness() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .allowed_lateness(Duration::from_secs(5))
            .aggregate_with(Count::new(), |key, window, count| (*key, window.start, count))
            .uid("counts")
    });
}

#[test]
fn window_join() {
    check_two(|left, right| {
        left.join(right)
            .where_(|event| event.key)
            .equal_to(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(300)))
            .apply(|left, right| (left.n, right.n))
            .uid("pairs")
    });
}

#[test]
fn co_group() {
    check_two(|left, right| {
        left.co_group(right)
            .where_(|event| event.key)
            .equal_to(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(500)))
            .apply(|key, window: &WindowContext, left: &[&Event], right: &[&Event], out| {
                let sum = |events: &[&Event]| events.iter().map(|event| event.n).sum::<u64>();
                out.emit((*key, window.window.start, left.len(), sum(left), right.len(), sum(right)));
            })
            .uid("groups")
    });
}

#[test]
fn windows_with_an_evictor() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .evictor(TimeEvictor::of(Duration::from_millis(250)))
            .apply(|key, window: &WindowContext, records, out| {
                let mut numbers: Vec<_> = records.map(|event: &Event| event.n).collect();
                numbers.sort_unstable();
                out.emit((*key, window.window.start, numbers));
            })
            .uid("youngest")
    });
}

#[test]
fn windows_over_the_whole_stream() {
    check_events(|events| {
        events
            .window_all(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .aggregate_with(Count::new(), |(), window, count| (window.start, count))
            .uid("counts")
    });
}

/// Key, number of records, sum of their values.
type Total = (u64, u64, i64);

/// Adds up each key's totals and tells them at the end. Where a window ends may depend on when its records came; what
/// all windows hold together may not.
#[derive(Clone, Default)]
struct Totals {
    totals: Handle<ItemList<Total>>,
}

impl ProcessFunction<Total> for Totals {
    type Out = Total;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.totals = ctx.states.list("totals")?;
        Ok(())
    }

    fn process(&mut self, (key, count, sum): Total, ctx: &mut ProcessContext<'_, Total>) -> OpResult {
        let totals = &mut ctx.states().get_mut(self.totals).items;
        match totals.iter_mut().find(|total| total.0 == key) {
            Some(total) => *total = (key, total.1 + count, total.2 + sum),
            None => totals.push((key, count, sum)),
        }
        Ok(())
    }

    fn on_end(&mut self, ctx: &mut ProcessContext<'_, Total>) -> OpResult {
        for total in std::mem::take(&mut ctx.states().get_mut(self.totals).items) {
            ctx.emit(total);
        }
        Ok(())
    }
}

/// What all windows of each key hold together.
fn totals<G: Trigger<Event>>(windows: WindowedStream<Event, u64, G>) -> DataStream<Total> {
    let counted = Fold::new(
        || (0, 0),
        |(count, sum): &mut (u64, i64), event: &Event| (*count, *sum) = (*count + 1, *sum + event.value),
        |(count, sum), other| (*count, *sum) = (*count + other.0, *sum + other.1),
    );
    windows
        .aggregate_with(counted, |key, _, (count, sum)| (*key, count, sum))
        .uid("windows")
        .process(Totals::default())
        .uid("totals")
        .set_parallelism(1)
}

#[test]
fn windows_in_processing_time_hold_each_record_as_often_as_they_overlap() {
    check_events(|events| {
        let keyed = events.key_by(|event| event.key);
        totals(keyed.window(TumblingProcessingTimeWindows::of(Duration::from_millis(7))))
    });
    check_events(|events| {
        let (size, slide) = (Duration::from_millis(30), Duration::from_millis(10));
        let keyed = events.key_by(|event| event.key);
        totals(keyed.window(SlidingProcessingTimeWindows::of(size, slide)))
    });
}

#[test]
fn sessions_in_processing_time_hold_each_record_once() {
    check_events(|events| {
        let keyed = events.key_by(|event| event.key);
        totals(keyed.window(ProcessingTimeSessionWindows::with_gap(Duration::from_millis(2))))
    });
}

#[test]
fn sessions_whose_trigger_fires_and_purges_again_and_again_hold_each_record_once() {
    check_events(|events| {
        let thinned = events.filter(|event| event.n * 7 % 31 < 12).uid("thinned");
        let sessions = thinned
            .key_by(|event| event.key)
            .window(EventTimeSessionWindows::with_gap(Duration::from_millis(400)));
        let trigger = ContinuousEventTimeTrigger::of(Duration::from_millis(300));
        totals(sessions.trigger(PurgingTrigger::of(trigger)))
    });
}

#[test]
fn sessions_with_a_trigger_of_processing_time_hold_each_record_once() {
    check_events(|events| {
        let thinned = events.filter(|event| event.n * 7 % 31 < 12).uid("thinned");
        let sessions = thinned
            .key_by(|event| event.key)
            .window(ProcessingTimeSessionWindows::with_gap(Duration::from_millis(5)));
        let trigger = ContinuousProcessingTimeTrigger::of(Duration::from_millis(3));
        totals(sessions.trigger(PurgingTrigger::of(trigger)))
    });
}
