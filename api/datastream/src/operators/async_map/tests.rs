use super::*;
use futures::channel::oneshot;
use hurtig_dataflow::Element;
use hurtig_dataflow::harness::Harness;
use proptest::prelude::*;
use std::collections::HashMap;
use std::pin::Pin;
use std::task;

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Futures that end when the test says so.
#[derive(Clone, Default)]
struct World {
    tasks: Arc<Mutex<Vec<Task>>>,
    answers: Arc<Mutex<HashMap<u64, oneshot::Sender<OpResult<u64>>>>>,
}

impl World {
    fn harness(&self, options: AsyncOptions) -> Harness<u64> {
        let answers = Arc::clone(&self.answers);
        let function = Arc::new(move |n: u64| {
            let (sender, receiver) = oneshot::channel();
            answers.lock().insert(n, sender);
            async move { receiver.await? }
        });
        let handle = Arc::new(|n: u64, error: BoxError| match n % 100 {
            99 => Err(error),
            _ => Ok(n.is_multiple_of(2).then_some(n + 5_000)),
        });
        let tasks = Arc::clone(&self.tasks);
        Harness::new(move || AsyncMap::new(options, Arc::clone(&function), Arc::clone(&handle)))
            .with_place(|place| place.spawner = Arc::new(move |task| tasks.lock().push(task)))
    }

    /// Ends a record's future.
    fn answer(&self, n: u64, result: OpResult<u64>) {
        if let Some(sender) = self.answers.lock().remove(&n) {
            let _ = sender.send(result);
        }
    }

    /// Lets futures run and wakes the operator.
    fn run(&self, harness: &mut Harness<u64>) {
        let mut cx = task::Context::from_waker(task::Waker::noop());
        // A future just started must see the answer that is there already.
        for _ in 0..2 {
            self.tasks.lock().retain_mut(|task| task.as_mut().poll(&mut cx).is_pending());
            harness.wake();
        }
    }
}

fn seen(harness: &mut Harness<u64>) -> Vec<String> {
    let mut seen = Vec::new();
    for element in harness.elements() {
        match element {
            Element::Batch(batch) => {
                let rows = hurtig_dataflow::batch::downcast::<Rows<u64>>(batch).unwrap();
                seen.extend(rows.into_iter_timed().map(|(n, time)| format!("{n}@{}", time.unwrap())));
            }
            Element::Watermark(watermark) => seen.push(format!("w{watermark}")),
            _ => {}
        }
    }
    seen
}

#[test]
fn ordered_results_keep_the_order_of_their_records() {
    let world = World::default();
    let mut harness = world.harness(AsyncOptions::ordered());
    harness.push([(1u64, 10), (2, 20), (3, 30)]);
    harness.watermark(30);
    world.answer(3, Ok(33));
    world.answer(1, Ok(11));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["11@10"]);
    world.answer(2, Ok(22));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["22@20", "33@30", "w30"]);
}

#[test]
fn unordered_results_overtake_each_other_but_no_watermark() {
    let world = World::default();
    let mut harness = world.harness(AsyncOptions::unordered());
    harness.push([(1u64, 10), (2, 20)]);
    harness.watermark(20);
    harness.push([(3u64, 30), (4, 40)]);
    for n in [4, 2] {
        world.answer(n, Ok(n * 11));
    }
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["22@20"]);
    world.answer(1, Ok(11));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["11@10", "w20", "44@40"]);
    world.answer(3, Ok(33));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["33@30"]);
}

#[test]
fn a_full_operator_takes_no_more_until_a_result_has_gone() {
    let world = World::default();
    let mut harness = world.harness(AsyncOptions::ordered().with_capacity(2));
    harness.push([(1u64, 1), (2, 2), (3, 3)]);
    assert_eq!(world.answers.lock().len(), 2);
    world.answer(1, Ok(11));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["11@1"]);
    assert!(world.answers.lock().contains_key(&3));
    harness.end();
    world.answer(2, Ok(22));
    world.answer(3, Ok(33));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), ["22@2", "33@3", &format!("w{}", i64::MAX)]);
}

#[test]
fn futures_that_fail_or_take_too_long_go_to_the_handler_even_while_the_operator_is_full() {
    let world = World::default();
    let options = AsyncOptions::ordered().with_capacity(2).with_timeout(Duration::from_millis(100));
    let mut harness = world.harness(options);
    harness.push([(1u64, 1), (2, 2), (4, 4)]);
    world.answer(1, Err("no".into()));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), [""; 0], "the handler drops odd numbers");
    harness.set_processing_time(100);
    harness.set_processing_time(200);
    assert_eq!(seen(&mut harness), ["5002@2", "5004@4"]);
    world.answer(2, Ok(22));
    world.run(&mut harness);
    assert_eq!(seen(&mut harness), [""; 0], "a result after the time-out is too late");
}

#[test]
#[should_panic(expected = "the future was dropped before its end")]
fn a_future_that_is_dropped_fails_the_attempt_if_the_handler_says_so() {
    let world = World::default();
    let mut harness = world.harness(AsyncOptions::ordered());
    harness.push([(99u64, 1)]);
    world.tasks.lock().clear();
    harness.wake();
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_across_restarts(
        ordered in any::<bool>(),
        capacity in 1usize..6,
        steps in prop::collection::vec((0u8..5, 0usize..8), 0..40),
    ) {
        let world = World::default();
        let options = if ordered { AsyncOptions::ordered() } else { AsyncOptions::unordered() };
        let mut harness = world.harness(options.with_capacity(capacity));
        let (mut next, mut open, mut found) = (0u64, Vec::new(), Vec::new());
        for (step, choice) in steps {
            match step {
                0 | 1 => {
                    harness.push((0..choice as u64).map(|i| (next + i, (next + i) as i64)));
                    open.extend(next..next + choice as u64);
                    next += choice as u64;
                }
                2 => harness.watermark(next as i64),
                3 if !open.is_empty() => {
                    let n = open[choice % open.len()];
                    world.answer(n, Ok(n));
                    world.run(&mut harness);
                }
                _ => {
                    // A barrier waits behind a batch that does not fit: let all be taken first.
                    let rest: Vec<u64> = open.iter().copied().take(open.len().saturating_sub(capacity)).collect();
                    for _ in 0..=rest.len() {
                        for n in &rest {
                            world.answer(*n, Ok(*n));
                        }
                        world.run(&mut harness);
                    }
                    found.extend(seen(&mut harness));
                    // Records dealt out to several subtasks are in another order afterwards.
                    harness.restart_through(if ordered { 1 } else { 1 + choice });
                    // The futures of the former attempt are gone with it.
                    world.answers.lock().clear();
                    world.tasks.lock().clear();
                    harness.set_processing_time(0);
                }
            }
            found.extend(seen(&mut harness));
            open.retain(|n| !found.contains(&format!("{n}@{n}")));
        }
        harness.end();
        for _ in 0..=next {
            for n in 0..next {
                world.answer(n, Ok(n));
            }
            world.run(&mut harness);
        }
        found.extend(seen(&mut harness));
        let mut watermark = None;
        let mut numbers = Vec::new();
        for entry in found {
            match entry.strip_prefix('w') {
                Some(time) => watermark = watermark.max(time.parse::<i64>().ok()),
                None => {
                    let n: i64 = entry.split('@').next().unwrap().parse().unwrap();
                    prop_assert!(watermark.is_none_or(|watermark| n >= watermark), "{n} comes after {watermark:?}");
                    numbers.push(n as u64);
                }
            }
        }
        prop_assert_eq!(watermark, Some(i64::MAX));
        numbers.sort_unstable();
        prop_assert_eq!(numbers, (0..next).collect::<Vec<_>>());
    }
}
