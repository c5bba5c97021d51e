//! Delays of one hour, as an aggregate: a count per minute of delay, from which mean and percentile follow exactly.

use super::DELAYED_MINUTES;
use super::records::Departure;
use hurtig::prelude::AggregateFunction;
use std::collections::BTreeMap;

/// What an hour's delays come to.
#[derive(Clone, Debug, PartialEq)]
pub struct HourlyResult {
    /// Departures.
    pub departures: u64,
    /// Mean delay in minutes.
    pub mean: f64,
    /// 95th percentile of the delay in minutes.
    pub p95: i32,
    /// Share delayed by more than 15 minutes.
    pub share_delayed: f64,
}

/// The aggregate over the departures of an hour.
pub struct HourlyDelays;

impl AggregateFunction for HourlyDelays {
    type In = Departure;
    type Accumulator = BTreeMap<i32, u64>;
    type Out = HourlyResult;

    fn create(&self) -> BTreeMap<i32, u64> {
        BTreeMap::new()
    }

    fn add(&self, counts: &mut BTreeMap<i32, u64>, departure: &Departure) {
        *counts.entry(departure.delay).or_default() += 1;
    }

    fn merge(&self, counts: &mut BTreeMap<i32, u64>, other: &BTreeMap<i32, u64>) {
        for (delay, count) in other {
            *counts.entry(*delay).or_default() += count;
        }
    }

    fn result(&self, counts: &BTreeMap<i32, u64>) -> HourlyResult {
        let departures: u64 = counts.values().sum();
        let minutes: i64 = counts.iter().map(|(delay, count)| i64::from(*delay) * *count as i64).sum();
        let delayed: u64 = counts.range(DELAYED_MINUTES + 1..).map(|(_, count)| count).sum();
        HourlyResult {
            departures,
            mean: minutes as f64 / departures as f64,
            p95: percentile_95(counts),
            share_delayed: delayed as f64 / departures as f64,
        }
    }
}

/// The smallest delay that at least 95 of 100 do not exceed (nearest rank).
pub fn percentile_95(counts: &BTreeMap<i32, u64>) -> i32 {
    let departures: u64 = counts.values().sum();
    let rank = (departures * 95).div_ceil(100);
    let mut seen = 0;
    for (delay, count) in counts {
        seen += count;
        if seen >= rank {
            return *delay;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_the_nearest_rank() {
        let counts = |range: std::ops::RangeInclusive<i32>| range.map(|delay| (delay, 1)).collect();
        assert_eq!(percentile_95(&counts(1..=100)), 95);
        assert_eq!(percentile_95(&counts(1..=10)), 10);
        assert_eq!(percentile_95(&counts(7..=7)), 7);
    }
}
