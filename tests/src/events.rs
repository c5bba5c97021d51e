//! Made-up events whose results do not depend on how many subtasks work on them.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Number of keys: divided by every parallelism the tests use, so that a generator's subtask has keys of its own, and
/// the events of a key come in order.
pub const KEYS: u64 = 12;

/// An event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Its number.
    pub n: u64,
    /// Its key.
    pub key: u64,
    /// When it happened, in milliseconds; up to half a second out of order, with a pause after each 600.
    pub at: i64,
    /// A value.
    pub value: i64,
}

impl Event {
    /// The event of a number.
    pub fn of(n: u64) -> Self {
        let jitter = (n * 7_919 % 500) as i64;
        let at = (n / 600) as i64 * 10_000 + (n % 600) as i64 * 10 + jitter;
        Event { n, key: n % KEYS, at, value: (n * 31 % 1_000) as i64 }
    }
}

/// The events' time. None of them is late.
pub fn event_time() -> WatermarkStrategy<Event> {
    WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1))
        .with_timestamps(|event: &Event| event.at)
}

/// A stream of so many events, at most `per_second` of them a second.
pub fn events(env: &Environment, uid: &str, count: u64, per_second: f64) -> DataStream<Event> {
    let source = GeneratorSource::new(Event::of).with_count(count).with_rate(per_second);
    env.generate(source, event_time()).uid(uid)
}
