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

/// Says where a record has come to.
#[derive(Clone, Default)]
struct Placed {
    subtask: usize,
}

impl ProcessFunction<Event> for Placed {
    type Out = (u64, u64, usize);

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.subtask = ctx.place.subtask;
        Ok(())
    }

    fn process(&mut self, event: Event, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult {
        ctx.emit((event.n, event.key, self.subtask));
        Ok(())
    }
}

#[test]
fn every_way_from_subtask_to_subtask() {
    check_events(|events| {
        let placed = events.partition_custom(|key, subtasks| *key as usize % subtasks, |event| event.key);
        let placed = placed.process(Placed::default()).uid("placed").set_parallelism(2);
        let right = placed.filter(|(_, key, subtask)| *subtask == *key as usize % 2).uid("right");
        let right = right
            .set_parallelism(2)
            .start_new_chain()
            .map(|placed| placed.0)
            .uid("numbers")
            .set_parallelism(2);
        let copies = right.broadcast().map(|n| n).uid("copies").set_parallelism(3);
        let one = copies.rescale().map(|n| n).uid("one").set_parallelism(1).slot_sharing_group("apart");
        let shuffled = one.shuffle().map(|n| n).uid("shuffled").set_max_parallelism(2);
        // Nothing is left of a number of which there are not three copies.
        shuffled.key_by(|n| *n).count().uid("counts").filter(|(_, count)| *count == 3).uid("complete")
    });
}

#[test]
fn a_keyed_stream_that_is_taken_as_keyed_again() {
    check_events(|events| {
        let rows = events.map(|event| (event.key, event.n, event.value)).uid("rows");
        let sums = rows.key_by(|row| row.0).reduce(|a, b| (a.0, b.1, a.2 + b.2)).uid("sums");
        let again = sums.forward().map(|sum| sum).uid("forwarded").reinterpret_as_keyed(|sum| sum.0);
        again.reduce(|a, b| (a.0, b.1, a.2.max(b.2) - a.1 as i64)).uid("again")
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
