use super::*;
use crate::aggregates::Sum;
use crate::windows::function::{Aggregated, Apply, Listed, WindowRecords};
use hurtig_dataflow::harness::{Harness, MAX_PARALLELISM};
use hurtig_dataflow::snapshot::redistribute;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::marker::PhantomData;

/// Key and value.
type Pair = (u8, i64);
/// Key, start of the window, sum.
type Result3 = (u8, i64, i64);

fn late() -> OutputTag<Pair> {
    OutputTag::new("late")
}

fn harness(size: i64, slide: i64, offset: i64, domain: TimeDomain) -> Harness<Result3> {
    let keys = Keys::new(Arc::new(|r: &Pair| r.0));
    let fold = Arc::new(Aggregated {
        function: Sum::of(|r: &Pair| r.1),
        finish: |key: &u8, window: TimeWindow, sum: i64| (*key, window.start, sum),
        out: PhantomData,
    });
    let aligned = Aligned { size, slide, offset };
    Harness::new(move || SliceWindows::new(keys.clone(), Arc::clone(&fold), aligned, domain, Some(late())))
        .with_side(&late())
}

/// The same by hand: every window keeps its records.
#[derive(Default)]
struct Naive {
    open: BTreeMap<(i64, u8), i64>,
    watermark: Option<i64>,
    results: Vec<Result3>,
    late: Vec<Pair>,
}

impl Naive {
    fn push(&mut self, aligned: Aligned, (record, time): (Pair, i64)) {
        let windows: Vec<_> = aligned.windows_of(time).collect();
        let passed = |window: &TimeWindow| self.watermark.is_some_and(|w| window.end - 1 <= w);
        if !windows.is_empty() && windows.iter().all(passed) {
            self.late.push(record);
            return;
        }
        for window in windows.iter().filter(|window| !passed(window)) {
            *self.open.entry((window.end, record.0)).or_default() += record.1;
        }
    }

    fn advance(&mut self, aligned: Aligned, watermark: i64) {
        self.watermark = self.watermark.max(Some(watermark));
        let open = std::mem::take(&mut self.open);
        for ((end, key), sum) in open {
            match end - 1 <= watermark {
                true => self.results.push((key, end - aligned.size, sum)),
                false => {
                    self.open.insert((end, key), sum);
                }
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(Vec<(Pair, i64)>),
    Advance(i64),
    Restart(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec(((0u8..6, -5i64..6), -60i64..60), 0..30).prop_map(Step::Push),
        2 => (1i64..15).prop_map(Step::Advance),
        1 => (1usize..5).prop_map(Step::Restart),
    ]
}

fn sorted<R: Ord>(mut rows: Vec<R>) -> Vec<R> {
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn slices_give_what_windows_give(
        (size, slide) in prop_oneof![(1i64..30, 1i64..30), (1i64..30).prop_map(|size| (size, size))],
        offset in 0i64..30,
        steps in prop::collection::vec(step(), 0..25),
    ) {
        let aligned = Aligned { size, slide, offset: offset % slide };
        let mut harness = harness(size, slide, offset % slide, TimeDomain::EventTime);
        let mut naive = Naive::default();
        let mut watermark = -70;
        let mut found_late = Vec::new();
        for step in steps {
            match step {
                Step::Push(rows) => {
                    for row in &rows {
                        naive.push(aligned, *row);
                    }
                    harness.push(rows);
                }
                Step::Advance(by) => {
                    watermark += by;
                    naive.advance(aligned, watermark);
                    harness.watermark(watermark);
                }
                Step::Restart(parallelism) => harness.restart_through(parallelism),
            }
            let mut results = Vec::new();
            for (result, time) in harness.timed_output() {
                prop_assert_eq!(time, Some(result.1 + size - 1));
                results.push(result);
            }
            prop_assert!(results.is_sorted_by_key(|result| result.1), "windows fire in order");
            prop_assert_eq!(sorted(results), sorted(std::mem::take(&mut naive.results)));
            found_late.extend(harness.side_output(&late()));
        }
        harness.end();
        naive.advance(aligned, MAX_TIMESTAMP);
        prop_assert_eq!(sorted(harness.output()), sorted(naive.results));
        prop_assert_eq!(found_late, naive.late);
    }
}

#[test]
fn a_large_window_goes_out_in_batches() {
    let mut harness = harness(10, 10, 0, TimeDomain::EventTime);
    harness.push((0..=255u8).map(|key| ((key, 1i64), 3)));
    harness.watermark(9);
    let sizes: Vec<_> = harness
        .elements()
        .iter()
        .filter_map(|element| match element {
            hurtig_dataflow::Element::Batch(batch) => Some(batch.len()),
            _ => None,
        })
        .collect();
    assert_eq!(sizes, [16; 16]);
}

#[test]
fn processing_time_windows_fire_by_the_clock_and_at_the_end_of_the_stream() {
    let mut harness = harness(10, 5, 0, TimeDomain::ProcessingTime);
    harness.set_processing_time(3);
    harness.push_batch(0, Rows::untimed(vec![(1u8, 1i64), (1, 2)]));
    harness.set_processing_time(4);
    assert_eq!(harness.output(), []);
    harness.set_processing_time(5);
    assert_eq!(harness.output(), [(1, -5, 3)]);
    harness.restart_through(2);
    harness.push_batch(0, Rows::untimed(vec![(1u8, 4i64)]));
    harness.set_processing_time(10);
    assert_eq!(harness.output(), [(1, 0, 7)]);
    harness.end();
    assert_eq!(harness.output(), [(1, 5, 4)]);
}

#[test]
fn groups_that_were_ahead_do_not_fire_twice_after_a_rescale() {
    let mut parts = Vec::new();
    for (index, watermark) in [(0, 14), (1, 9)] {
        let mut harness = harness(10, 5, 0, TimeDomain::EventTime);
        harness.push((0..50u8).map(|key| ((key, 1i64), 7)));
        harness.watermark(watermark);
        parts.push(redistribute(&[harness.snapshot()], index, 2, MAX_PARALLELISM));
    }
    let mut joined = harness(10, 5, 0, TimeDomain::EventTime);
    joined.restore(redistribute(&parts, 0, 1, MAX_PARALLELISM));
    joined.watermark(14);
    let again: Vec<u8> = joined.output().iter().map(|result| result.0).collect();
    let behind = |key: &u8| hurtig_dataflow::key::key_group(hash_key(key), MAX_PARALLELISM) >= 64;
    let expected: Vec<u8> = (0..50).filter(behind).collect();
    assert!(!expected.is_empty() && expected.len() < 50);
    assert_eq!(sorted(again), expected);
}

#[test]
fn all_records_of_a_window_are_kept_for_a_function_that_wants_them() {
    let keys = Keys::new(Arc::new(|r: &Pair| r.0));
    let function =
        |key: &u8, _: &WindowContext, records: WindowRecords<'_, Pair>, out: &mut Collector<'_, Pair>| {
            out.emit((*key, records.timed().map(|(record, time)| record.1 * time).sum()));
        };
    let fold = Arc::new(Listed { function: Apply { function, out: PhantomData } });
    let aligned = Aligned { size: 10, slide: 5, offset: 0 };
    let mut harness: Harness<Pair> = Harness::new(move || {
        SliceWindows::new(keys.clone(), Arc::clone(&fold), aligned, TimeDomain::EventTime, None)
    });
    harness.push([((1u8, 2i64), 1), ((1, 3), 6)]);
    harness.restart_through(2);
    harness.push([((1u8, 5i64), 9)]);
    harness.end();
    assert_eq!(harness.output(), [(1, 2), (1, 2 + 18 + 45), (1, 18 + 45)]);
}

#[test]
#[should_panic(expected = "records have no event time")]
fn records_without_event_time_are_refused() {
    harness(10, 5, 0, TimeDomain::EventTime).push_batch(0, Rows::untimed(vec![(1u8, 1i64)]));
}
