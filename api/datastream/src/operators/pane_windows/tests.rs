use super::*;
use crate::aggregates::Sum;
use crate::windows::assigner::{
    EventTimeSessionWindows, GlobalWindows, ProcessingTimeSessionWindows, SlidingEventTimeWindows,
    TimeWindow, TumblingEventTimeWindows, WindowAssigner,
};
use crate::windows::evictor::{CountEvictor, TimeEvictor};
use crate::windows::function::{Aggregated, Apply, Evicting, Listed, WindowContext, WindowRecords};
use crate::windows::trigger::{
    ContinuousEventTimeTrigger, ContinuousProcessingTimeTrigger, CountTrigger, DefaultTrigger, PurgingTrigger,
};
use hurtig_dataflow::harness::Harness;
use proptest::prelude::*;
use std::marker::PhantomData;
use std::time::Duration;

/// Key and value.
type Pair = (u8, i64);
/// Key, window and sum.
type Sums = (u8, TimeWindow, i64);

fn late() -> OutputTag<Pair> {
    OutputTag::new("late")
}

fn keys() -> Keys<Pair, u8> {
    Keys::new(Arc::new(|r: &Pair| r.0))
}

fn sums() -> impl WindowFold<Pair, u8, Out = Sums> {
    Aggregated {
        function: Sum::of(|r: &Pair| r.1),
        finish: |key: &u8, window: TimeWindow, sum: i64| (*key, window, sum),
        out: PhantomData,
    }
}

fn harness<W: WindowFold<Pair, u8>, G: Trigger<Pair>>(
    windows: impl WindowAssigner<Pair>,
    trigger: G,
    lateness: i64,
    fold: W,
) -> Harness<W::Out> {
    let (windows, trigger, fold) = (windows.into_windows(), Arc::new(trigger), Arc::new(fold));
    Harness::new(move || {
        let (trigger, fold) = (Arc::clone(&trigger), Arc::clone(&fold));
        PaneWindows::new(keys(), fold, windows.clone(), trigger, lateness, Some(late()))
    })
    .with_side(&late())
}

fn millis(n: i64) -> Duration {
    Duration::from_millis(n as u64)
}

/// What the operator is compared with: every window keeps its records.
enum Shape {
    Sliding { size: i64, slide: i64 },
    Session { gap: i64 },
}

/// Key, window, records.
type Open = (u8, TimeWindow, Vec<(i64, i64)>);

struct Naive {
    shape: Shape,
    lateness: i64,
    watermark: i64,
    open: Vec<Open>,
    results: Vec<Sums>,
    late: Vec<Pair>,
}

impl Naive {
    fn windows(&self, time: i64) -> Vec<TimeWindow> {
        match self.shape {
            Shape::Session { gap } => vec![TimeWindow::new(time, time + gap)],
            Shape::Sliding { size, slide } => (time - size + 1..=time)
                .filter(|start| start.rem_euclid(slide) == 0)
                .map(|start| TimeWindow::new(start, start + size))
                .collect(),
        }
    }

    fn is_gone(&self, window: &TimeWindow) -> bool {
        window.end - 1 + self.lateness <= self.watermark
    }

    fn push(&mut self, ((key, value), time): (Pair, i64)) {
        let windows = self.windows(time);
        let mut taken = windows.is_empty();
        for mut window in windows {
            let mut records = Vec::new();
            if let Shape::Session { .. } = self.shape {
                let meets = |open: &TimeWindow| open.start <= window.end && window.start <= open.end;
                let (met, rest) = std::mem::take(&mut self.open)
                    .into_iter()
                    .partition(|open| open.0 == key && meets(&open.1));
                self.open = rest;
                let met: Vec<Open> = met;
                for (_, other, others) in met {
                    window = TimeWindow::new(window.start.min(other.start), window.end.max(other.end));
                    records.extend(others);
                }
            } else if let Some(at) = self.open.iter().position(|open| (open.0, open.1) == (key, window)) {
                records = self.open.swap_remove(at).2;
            }
            if records.is_empty() && self.is_gone(&window) {
                continue;
            }
            taken = true;
            records.push((time, value));
            if window.end - 1 <= self.watermark {
                self.results.push((key, window, records.iter().map(|r| r.1).sum()));
            }
            self.open.push((key, window, records));
        }
        if !taken {
            self.late.push((key, value));
        }
    }

    fn advance(&mut self, watermark: i64) {
        let fired = |window: &TimeWindow, by: i64| window.end - 1 <= by;
        for (key, window, records) in &self.open {
            if fired(window, watermark) && !fired(window, self.watermark) {
                self.results.push((*key, *window, records.iter().map(|r| r.1).sum()));
            }
        }
        self.watermark = watermark;
        let open = std::mem::take(&mut self.open);
        self.open = open.into_iter().filter(|(_, window, _)| !self.is_gone(window)).collect();
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<(Pair, i64)>),
    Advance(i64),
    Restart(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => prop::collection::vec(((0u8..4, -5i64..6), -60i64..60), 0..20).prop_map(Step::Push),
        2 => (1i64..15).prop_map(Step::Advance),
        1 => (1usize..5).prop_map(Step::Restart),
    ];
    prop::collection::vec(step, 0..25)
}

fn sorted<R: Ord>(mut rows: Vec<R>) -> Vec<R> {
    rows.sort();
    rows
}

fn compare(mut harness: Harness<Sums>, mut naive: Naive, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut late_records = Vec::new();
    for step in steps {
        match step {
            Step::Push(rows) => {
                for row in &rows {
                    naive.push(*row);
                }
                harness.push(rows);
            }
            Step::Advance(by) => {
                naive.advance(naive.watermark + by);
                harness.watermark(naive.watermark);
            }
            Step::Restart(parallelism) => harness.restart_through(parallelism),
        }
        let mut results = Vec::new();
        for (result, time) in harness.timed_output() {
            prop_assert_eq!(time, Some(result.1.end - 1));
            results.push(result);
        }
        prop_assert_eq!(sorted(results), sorted(std::mem::take(&mut naive.results)));
        late_records.extend(harness.side_output(&late()));
    }
    harness.end();
    naive.advance(MAX_TIMESTAMP - 1_000);
    prop_assert_eq!(sorted(harness.output()), sorted(naive.results));
    prop_assert_eq!(late_records, naive.late);
    let snapshot = harness.snapshot();
    prop_assert!(snapshot.states.iter().all(|state| state.groups.is_empty()), "nothing remains at the end");
    Ok(())
}

fn naive(shape: Shape, lateness: i64) -> Naive {
    Naive { shape, lateness, watermark: -70, open: Vec::new(), results: Vec::new(), late: Vec::new() }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(250))]

    #[test]
    fn sessions_with_lateness_are_as_by_hand(gap in 1i64..20, lateness in 0i64..30, steps in steps()) {
        let windows = EventTimeSessionWindows::with_gap(millis(gap));
        let mut harness = harness(windows, DefaultTrigger::EventTime, lateness, sums());
        harness.watermark(-70);
        compare(harness, naive(Shape::Session { gap }, lateness), steps)?;
    }

    #[test]
    fn sliding_windows_with_lateness_are_as_by_hand(
        size in 1i64..20, slide in 1i64..20, lateness in 0i64..30, steps in steps()
    ) {
        let windows = SlidingEventTimeWindows::of(millis(size), millis(slide));
        let mut harness = harness(windows, DefaultTrigger::EventTime, lateness, sums());
        harness.watermark(-70);
        compare(harness, naive(Shape::Sliding { size, slide }, lateness), steps)?;
    }

    #[test]
    fn count_windows_hold_consecutive_records_of_a_key(
        records in prop::collection::vec((0u8..3, -9i64..9), 0..80), size in 1usize..6, slide in 1usize..6, cut in 0usize..80
    ) {
        let fold = Evicting { fold: sums(), evictor: Arc::new(CountEvictor::of(size)) };
        let mut sliding = harness(GlobalWindows, CountTrigger::of(slide as u64), 0, fold);
        let trigger = PurgingTrigger::of(CountTrigger::of(size as u64));
        let mut tumbling = harness(GlobalWindows, trigger, 0, sums());
        for (n, record) in records.iter().enumerate() {
            if n == cut {
                sliding.restart_through(3);
                tumbling.restart_through(2);
            }
            sliding.push([(*record, n as i64)]);
            tumbling.push([(*record, n as i64)]);
        }
        let (mut expected_sliding, mut expected_tumbling) = (Vec::new(), Vec::new());
        for (n, (key, _)) in records.iter().enumerate() {
            let before: Vec<i64> = records[..=n].iter().filter(|r| r.0 == *key).map(|r| r.1).collect();
            let last = |count: usize| before[before.len().saturating_sub(count)..].iter().sum::<i64>();
            if before.len().is_multiple_of(slide) {
                expected_sliding.push((*key, last(size), Some(n as i64)));
            }
            if before.len().is_multiple_of(size) {
                expected_tumbling.push((*key, last(size), Some(n as i64)));
            }
        }
        let found = |harness: &mut Harness<Sums>| -> Vec<_> {
            harness.timed_output().into_iter().map(|((key, _, sum), time)| (key, sum, time)).collect()
        };
        prop_assert_eq!(found(&mut sliding), expected_sliding);
        prop_assert_eq!(found(&mut tumbling), expected_tumbling);
    }
}

#[test]
fn purged_count_windows_leave_nothing_behind() {
    let mut harness = harness(GlobalWindows, PurgingTrigger::of(CountTrigger::of(2)), 0, sums());
    harness.push((0..100u8).flat_map(|key| [((key, 1i64), 0), ((key, 2), 0)]));
    assert_eq!(harness.output().len(), 100);
    assert!(harness.snapshot().states.iter().all(|state| state.groups.is_empty()));
}

#[test]
fn sessions_with_gaps_of_their_own_merge_what_they_meet() {
    // The value is the gap.
    let windows = EventTimeSessionWindows::with_dynamic_gap(|r: &Pair| millis(r.1));
    let mut harness = harness(windows, DefaultTrigger::EventTime, 0, sums());
    harness.push([((1u8, 5i64), 0), ((1, 5), 20)]);
    harness.restart_through(2);
    harness.push([((1u8, 17i64), 4)]);
    harness.watermark(24);
    assert_eq!(harness.output(), [(1, TimeWindow::new(0, 25), 27)]);
}

#[test]
fn processing_time_sessions_end_by_the_clock_and_at_the_end_of_the_stream() {
    let windows = ProcessingTimeSessionWindows::with_gap(millis(10));
    let mut harness = harness(windows, DefaultTrigger::ProcessingTime, 0, sums());
    for now in [100, 105, 112] {
        harness.set_processing_time(now);
        harness.push_batch(0, Rows::untimed(vec![(1u8, 1i64)]));
    }
    harness.restart_through(2);
    harness.set_processing_time(121);
    assert_eq!(harness.output(), []);
    harness.set_processing_time(122);
    assert_eq!(harness.output(), [(1, TimeWindow::new(100, 122), 3)]);
    harness.push_batch(0, Rows::untimed(vec![(2u8, 5i64)]));
    harness.end();
    assert_eq!(harness.output(), [(2, TimeWindow::new(122, 132), 5)]);
}

#[test]
fn continuous_triggers_fire_in_between_and_at_the_end() {
    let windows = TumblingEventTimeWindows::of(millis(10));
    let mut harness = harness(windows, ContinuousEventTimeTrigger::of(millis(4)), 0, sums());
    harness.push([((1u8, 1i64), 1), ((1, 2), 3)]);
    harness.watermark(4);
    harness.restart_through(2);
    harness.push([((1u8, 4i64), 9)]);
    harness.watermark(8);
    harness.watermark(9);
    let found: Vec<i64> = harness.output().into_iter().map(|(_, _, sum)| sum).collect();
    assert_eq!(found, [3, 7, 7]);
}

#[test]
fn continuous_processing_time_triggers_fire_while_there_is_something_new() {
    let trigger = ContinuousProcessingTimeTrigger::of(millis(10));
    let mut harness = harness(GlobalWindows, trigger, 0, sums());
    harness.set_processing_time(3);
    harness.push([((1u8, 1i64), 0)]);
    harness.restart_through(2);
    harness.set_processing_time(10);
    harness.set_processing_time(20);
    harness.push([((1u8, 2i64), 0)]);
    harness.set_processing_time(30);
    let found: Vec<i64> = harness.output().into_iter().map(|(_, _, sum)| sum).collect();
    assert_eq!(found, [1, 3]);
}

#[test]
fn an_evictor_leaves_old_records_out() {
    let function =
        |key: &u8, _: &WindowContext, records: WindowRecords<'_, Pair>, out: &mut Collector<'_, Pair>| {
            out.emit((*key, records.len() as i64));
        };
    let fold = Evicting {
        fold: Listed { function: Apply { function, out: PhantomData } },
        evictor: Arc::new(TimeEvictor::of(millis(5))),
    };
    let windows = TumblingEventTimeWindows::of(millis(100));
    let mut harness = harness(windows, DefaultTrigger::EventTime, 0, fold);
    harness.push([((1u8, 0i64), 1), ((1, 0), 50)]);
    harness.restart_through(2);
    harness.push([((1u8, 0i64), 46), ((1, 0), 45)]);
    harness.end();
    assert_eq!(harness.output(), [(1, 2)]);
}

#[test]
fn many_keys_fire_in_portions() {
    let windows = EventTimeSessionWindows::with_gap(millis(10));
    let mut harness = harness(windows, DefaultTrigger::EventTime, 0, sums());
    harness.push((0..=255u8).map(|key| ((key, 1i64), 3)));
    harness.watermark(12);
    let size = |element: &hurtig_dataflow::Element| match element {
        hurtig_dataflow::Element::Batch(batch) => batch.len(),
        _ => 0,
    };
    let sizes: Vec<_> = harness.elements().iter().map(size).collect();
    assert_eq!(sizes, [&[16; 16][..], &[0]].concat());
}

#[test]
fn late_records_without_a_side_output_are_dropped_and_counted() {
    let windows = TumblingEventTimeWindows::of(millis(10)).into_windows();
    let (trigger, fold) = (Arc::new(DefaultTrigger::EventTime), Arc::new(sums()));
    let mut harness = Harness::new(move || {
        PaneWindows::new(keys(), Arc::clone(&fold), windows.clone(), Arc::clone(&trigger), 5, None)
    });
    harness.push([((1u8, 1i64), 0)]);
    harness.watermark(14);
    harness.push([((1u8, 2i64), 9), ((1, 3), 10), ((2, 4), 8)]);
    assert_eq!(harness.late_dropped(), 2);
    harness.end();
    assert_eq!(harness.output(), [(1, TimeWindow::new(0, 10), 1), (1, TimeWindow::new(10, 20), 3)]);
}
