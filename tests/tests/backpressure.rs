//! Queues are bounded by credit, and timers do not wait for load to end.

use hurtig::prelude::*;
use hurtig_tests::cluster::SOON;
use hurtig_tests::events::{Event, event_time};
use hurtig_tests::jobs;
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const RECORDS: u64 = 300_000;

/// Work of some microseconds.
fn toil(n: u64) -> u64 {
    (0..1_500).fold(n, |mixed, step| black_box(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step))
}

#[test]
fn a_source_much_faster_than_its_sink_fills_no_more_than_the_credits() {
    let env = Environment::new();
    // It ends when enough was seen, however fast the machine is.
    let is_enough = Arc::new(AtomicBool::new(false));
    let wanted = Arc::clone(&is_enough);
    let numbers = env.from_iter(move |index, of| {
        let is_enough = Arc::clone(&wanted);
        (index as u64..).step_by(of).take_while(move |_| !is_enough.load(Ordering::Relaxed))
    });
    numbers
        .uid("numbers")
        .key_by(|n| n % 64)
        .as_stream()
        .map(|n| n)
        .uid("hop")
        .rebalance()
        .for_each(|n| assert_ne!(toil(n), 1))
        .uid("slow");
    let mut config = jobs::config(2, Some(Duration::from_millis(100)));
    config.exchange.credits = 4;
    config.execution.batch_size = 256;
    let (mut reports, mut most_queued, mut most_waiting) = (BTreeSet::new(), 0, 0);
    jobs::run(async {
        let job = jobs::start(&env, &config, None).await.expect("the job starts");
        let mut status = job.client.subscribe();
        while !status.borrow().state.is_terminal() {
            for (subtask, report) in &status.borrow_and_update().subtasks {
                reports.insert((*subtask, report.elapsed_ns));
                most_queued = most_queued.max(report.queued_batches).max(report.most_queued_batches);
                most_waiting = most_waiting.max(report.waiting_elements);
            }
            assert!(most_queued > 0 || reports.len() < 2_000, "the slow side never has a queue");
            if most_queued > 0 && reports.len() > 50 {
                is_enough.store(true, Ordering::Relaxed);
            }
            match tokio::time::timeout(SOON, status.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => break,
                Err(_) => panic!("no news of the job: {reports:?}, queues of {most_queued}"),
            }
        }
        let status = job.finish().await.expect("the job finishes");
        let slow = status.subtasks.iter().filter(|(subtask, _)| subtask.vertex == 2);
        let toiled: u64 = slow.map(|(_, report)| report.records_in()).sum();
        assert_eq!(toiled, status.records_read(), "records of the source that have come to the sink");
    });
    let channels = 2;
    assert!(most_queued <= 4 * channels, "{most_queued} batches in the channels of one subtask");
    // What one piece of work puts out when its receivers allow nothing more.
    assert!(most_waiting <= 16, "{most_waiting} elements wait for credit");
}

/// Asks for a wake-up with every thousandth event, and tells when it comes.
#[derive(Clone, Default)]
struct Alarm {
    last: ValueState<u64>,
}

impl KeyedProcessFunction<u64, Event> for Alarm {
    type Out = (bool, u64, Timestamp);

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u64>) -> OpResult {
        self.last = ctx.value_state("last")?;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        self.last.set(ctx, event.n);
        if event.n.is_multiple_of(1_000) {
            let at = ctx.processing_time() + 10;
            ctx.register_processing_time_timer(at);
            ctx.emit((false, event.n, at));
        }
        black_box(toil(event.n));
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u64, Self::Out>) -> OpResult {
        let now = ctx.processing_time();
        let last = self.last.get(ctx).copied().unwrap_or_default();
        if now < timer.time {
            return Err("the timer is early".into());
        }
        ctx.emit((true, last, timer.time));
        Ok(())
    }
}

#[test]
fn processing_time_timers_fire_in_order_while_records_keep_coming() {
    let env = Environment::new();
    let source = GeneratorSource::new(Event::of).with_count(RECORDS);
    let events = env.generate(source, event_time()).uid("events").set_parallelism(1);
    let rung = events.key_by(|_| 0).process(Alarm::default()).uid("alarm").set_parallelism(1).collect();
    jobs::run(jobs::execute(&env, &jobs::config(1, None), None)).expect("the job finishes");
    let rung = rung.take();
    let asked: Vec<_> = rung.iter().filter(|(fired, ..)| !fired).map(|(_, _, at)| *at).collect();
    let fired: Vec<_> = rung.iter().filter(|(fired, ..)| *fired).collect();
    assert_eq!(asked.len() as u64, RECORDS / 1_000);
    assert!(fired.is_sorted_by_key(|(_, _, at)| *at));
    assert!(fired.iter().all(|(_, _, at)| asked.contains(at)));
    let under_load = fired.iter().filter(|(_, last, _)| *last < RECORDS - 1).count();
    assert!(under_load > 10, "{under_load} timers fired before the last record");
    // A timer is not held back by the queue before it: no later request comes before it that lies far behind it.
    for (at, (fired, _, due)) in rung.iter().enumerate() {
        let behind =
            rung[..at].iter().filter(|(fired, _, asked)| !fired && *asked - 10 > due + 1_000).count();
        assert!(!fired || behind == 0, "{behind} requests were taken a second after a timer was due");
    }
}
