//! Operators without functions of the user's own that keep state, and the interval join.

use super::{check_events, check_two};
use hurtig::prelude::*;
use hurtig_tests::events::Event;
use std::time::Duration;

#[test]
fn stateless_operators() {
    check_events(|events| {
        let odd =
            events.filter(|event| event.n % 2 == 1).uid("odd").rebalance().map(|event| event.n).uid("left");
        let even =
            events.filter(|event| event.n % 2 == 0).uid("even").rescale().map(|event| event.n).uid("right");
        odd.union(&even)
            .flat_map(|n: u64, out: &mut Collector<'_, _>| out.extend((0..n % 3).map(|copy| (n, copy))))
            .uid("copies")
    });
}

#[test]
fn reduce() {
    check_events(|events| {
        events
            .map(|event| (event.key, event.n, event.value))
            .uid("rows")
            .key_by(|row| row.0)
            .reduce(|a, b| (a.0, a.1.max(b.1), a.2 + b.2))
            .uid("reduced")
    });
}

#[test]
fn aggregate() {
    check_events(|events| {
        events
            .key_by(|event| event.key)
            .aggregate(Average::of(|event: &Event| event.value as f64))
            .uid("averages")
    });
}

#[test]
fn interval_join() {
    check_two(|left, right| {
        left.key_by(|event| event.key)
            .interval_join(&right.key_by(|event| event.key))
            .between(-100, 200)
            .apply(|left, right| (left.n, right.n))
            .uid("pairs")
    });
}

fn check_async(options: AsyncOptions) {
    check_events(move |events| {
        events
            .map_async(options, |event: Event| async move {
                if event.n.is_multiple_of(64) {
                    tokio::time::sleep(Duration::from_millis(event.n % 3)).await;
                }
                Ok((event.n, event.value))
            })
            .uid("looked-up")
    });
}

#[test]
fn asynchronous_map_in_order() {
    check_async(AsyncOptions::ordered().with_capacity(50));
}

#[test]
fn asynchronous_map_out_of_order() {
    check_async(AsyncOptions::unordered().with_capacity(50));
}
