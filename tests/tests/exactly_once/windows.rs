//! Windows of all kinds, and joins in windows.

use super::{EVENTS, EVENTS_PER_SECOND, SEEDS, check_crashes, check_events, check_two, shown, two};
use hurtig::dataflow::state::ItemList;
use hurtig::prelude::*;
use hurtig_tests::events::{Event, events};
use hurtig_tests::faults::seeds;
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

/// Fires a window whenever the values that have come since it last did add up to so much.
struct WhenWorth(i64);

impl Trigger<Event> for WhenWorth {
    type State = i64;

    fn on_record(
        &self,
        event: &Event,
        _: Timestamp,
        _: TimeWindow,
        worth: &mut i64,
        _: &mut TriggerContext<'_>,
    ) -> TriggerResult {
        *worth += event.value;
        if *worth < self.0 {
            return TriggerResult::Continue;
        }
        *worth = 0;
        TriggerResult::FireAndPurge
    }
}

#[test]
fn global_windows_with_a_trigger_of_the_users_own() {
    check_events(|events| {
        let windows = events.key_by(|event| event.key).window(GlobalWindows).trigger(WhenWorth(4_000));
        windows.reduce(|a, b| Event { value: a.value + b.value, ..b }).uid("worth")
    });
}

/// The middle one of a window's values, with the time of the last.
struct Median;

impl ProcessWindowFunction<Event, u64> for Median {
    type Out = (u64, i64, i64, i64);

    fn process(
        &self,
        key: &u64,
        ctx: &WindowContext,
        records: WindowRecords<'_, Event>,
        out: &mut Collector<'_, Self::Out>,
    ) -> OpResult {
        let last = records.clone().timed().map(|(_, time)| time).max().ok_or("a window without records")?;
        let mut values: Vec<_> = records.map(|event| event.value).collect();
        values.sort_unstable();
        out.emit((*key, ctx.window.start, last, values[values.len() / 2]));
        Ok(())
    }
}

#[test]
fn windows_of_a_function_and_of_a_reduction() {
    check_events(|events| {
        let keyed = events.key_by(|event| event.key);
        let size = Duration::from_millis(700);
        let medians = keyed.window(TumblingEventTimeWindows::of(size)).process(Median).uid("medians");
        let slides = SlidingEventTimeWindows::of(size, Duration::from_millis(350));
        let largest = keyed.window(slides).reduce(|a, b| if (a.value, a.n) < (b.value, b.n) { b } else { a });
        let largest = largest.uid("largest").map(|event| (event.key, 0, event.at, event.value)).uid("rows");
        medians.union(&largest)
    });
}

#[test]
fn windows_of_the_last_records() {
    check_events(|events| {
        let windows = events
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .evictor(CountEvictor::of(3));
        windows
            .apply(|key, window: &WindowContext, records, out| {
                let numbers: Vec<_> = records.map(|event: &Event| event.n).collect();
                out.emit((*key, window.window.start, numbers));
            })
            .uid("last")
    });
}

#[test]
fn sessions_whose_gap_depends_on_their_records() {
    check_events(|events| {
        let gap = |event: &Event| Duration::from_millis(100 + event.n % 7 * 60);
        let thinned = events.filter(|event| event.n * 7 % 31 < 12).uid("thinned");
        thinned
            .key_by(|event| event.key)
            .window(EventTimeSessionWindows::with_dynamic_gap(gap))
            .aggregate_with(Sum::of(|event: &Event| event.value), |key, window, sum| {
                (*key, window.start, window.end, sum)
            })
            .uid("sessions")
    });
}

/// Times that are promised too early: up to half a second of the records that follow is late.
fn hasty(events: &DataStream<Event>, uid: &str) -> DataStream<Event> {
    let times = WatermarkStrategy::monotonous().with_timestamps(|event: &Event| event.at);
    events.assign_timestamps_and_watermarks(times).uid(uid)
}

/// Keeps the largest count of each key, and tells it at the end.
#[derive(Clone, Default)]
struct Largest {
    largest: ValueState<u64>,
}

impl KeyedProcessFunction<(u64, i64), (u64, i64, u64)> for Largest {
    type Out = (u64, i64, u64);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, (u64, i64)>) -> OpResult {
        self.largest = ctx.value_state("largest")?;
        Ok(())
    }

    fn process(
        &mut self,
        (_, _, count): (u64, i64, u64),
        ctx: &mut KeyedContext<'_, (u64, i64), Self::Out>,
    ) -> OpResult {
        let before = self.largest.get(ctx).copied().unwrap_or_default();
        self.largest.set(ctx, before.max(count));
        ctx.register_event_time_timer(Timestamp::MAX - 1);
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, (u64, i64), Self::Out>) -> OpResult {
        let ((key, start), count) = (*ctx.key(), self.largest.take(ctx).unwrap_or_default());
        ctx.emit((key, start, count));
        Ok(())
    }
}

#[test]
fn late_records_within_the_allowed_lateness_are_in_the_last_result_of_their_window() {
    // How late they are depends on how far a reader is with each of its splits.
    check_crashes(EVENTS / 2, None, seeds(SEEDS), |env| {
        let events = events(env, "events", EVENTS, EVENTS_PER_SECOND);
        let counts = hasty(&events, "hasty")
            .key_by(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(700)))
            .allowed_lateness(Duration::from_secs(5))
            .aggregate_with(Count::new(), |key, window, count| (*key, window.start, count))
            .uid("counts");
        shown(&counts.key_by(|(key, start, _)| (*key, *start)).process(Largest::default()).uid("largest"))
    });
}

#[test]
fn a_window_join_finds_each_pair_though_records_are_late() {
    // How late they are depends on how far a reader is with each of its splits.
    check_crashes(EVENTS / 4, None, seeds(SEEDS), |env| {
        let (left, right) = two(env);
        let pairs = hasty(&left, "hasty-left")
            .join(&hasty(&right, "hasty-right"))
            .where_(|event| event.key)
            .equal_to(|event| event.key)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(300)))
            .allowed_lateness(Duration::from_secs(5))
            .apply(|left, right| (left.n, right.n))
            .uid("pairs");
        // A window that fires again for a late record gives its pairs once more.
        let counted = pairs.key_by(|pair| *pair).count().uid("counts");
        shown(&counted.filter(|(_, count)| *count == 1).uid("first"))
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
