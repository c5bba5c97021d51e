//! Makes records out of numbers, as fast as wanted.

use super::range::Strided;
use super::strided::PerSubtask;
use hurtig_dataflow::operator::Place;
use hurtig_dataflow::source::{Polled, Source, SplitEnumerator, SplitReader};
use hurtig_dataflow::{OpResult, Record, Rows, Timestamp};
use std::sync::Arc;

/// Makes records of numbers.
type Make<T> = Arc<dyn Fn(Numbers, &mut Vec<T>) -> OpResult + Send + Sync>;

/// Numbers of which a batch is made: `count` of them, from `first` on, each `step` above the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// The first.
    pub first: u64,
    /// From one to the next.
    pub step: u64,
    /// How many there are.
    pub count: usize,
    /// Processing time at which they are asked for.
    pub now: Timestamp,
}

impl Numbers {
    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u64> {
        (0..self.count as u64).map(move |n| self.first + n * self.step)
    }
}

/// Makes a record out of each number from 0 on. With `n` subtasks each takes every `n`-th number, so that event times
/// made of the number stay aligned across subtasks.
///
/// ```
/// use hurtig_datastream::prelude::*;
/// let env = Environment::new();
/// let clicks = GeneratorSource::new(|index| format!("click {index}")).with_count(1_000_000).with_rate(10_000.0);
/// env.generate(clicks, WatermarkStrategy::none()).print();
/// ```
pub struct GeneratorSource<T> {
    make: Make<T>,
    count: Option<u64>,
    rate: Option<f64>,
}

impl<T> Clone for GeneratorSource<T> {
    fn clone(&self) -> Self {
        GeneratorSource { make: Arc::clone(&self.make), count: self.count, rate: self.rate }
    }
}

impl<T: Record> GeneratorSource<T> {
    /// An endless generator. `make` must give the same record for the same number: after a failure records are made
    /// again.
    pub fn new(make: impl Fn(u64) -> T + Send + Sync + 'static) -> Self {
        // The loop over a batch is compiled with the function in it.
        let make = move |numbers: Numbers, records: &mut Vec<T>| {
            records.extend(numbers.iter().map(&make));
            Ok(())
        };
        GeneratorSource { make: Arc::new(make), count: None, rate: None }
    }

    /// An endless generator whose records each stand for many numbers, such as batches of columns.
    pub fn in_batches(make: impl Fn(Numbers) -> OpResult<T> + Send + Sync + 'static) -> Self {
        let make = move |numbers: Numbers, records: &mut Vec<T>| {
            records.push(make(numbers)?);
            Ok(())
        };
        GeneratorSource { make: Arc::new(make), count: None, rate: None }
    }

    /// Ends after `count` records, over all subtasks.
    pub fn with_count(mut self, count: u64) -> Self {
        self.count = Some(count);
        self
    }

    /// Makes at most this many records a second, over all subtasks.
    pub fn with_rate(mut self, per_second: f64) -> Self {
        self.rate = Some(per_second);
        self
    }
}

impl<T: Record> Source for GeneratorSource<T> {
    type Out = T;
    type Split = Strided;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<Strided>>> {
        let split = |index, of| Strided { next: index as u64, step: of as u64 };
        Ok(Box::new(PerSubtask::new(restored, split)?.sized(self.count.is_some())))
    }

    fn open(&self, split: Strided, _: &Place) -> OpResult<Box<dyn SplitReader<Out = T, Split = Strided>>> {
        let rate = self.rate.map(|rate| rate / split.step as f64 / 1_000.0);
        Ok(Box::new(Reader { source: self.clone(), split, limit: rate.map(Limit::new) }))
    }

    fn is_bounded(&self) -> bool {
        self.count.is_some()
    }
}

/// Spreads records evenly over time.
struct Limit {
    per_milli: f64,
    /// Start of the count and records made since.
    since: Option<(Timestamp, u64)>,
}

impl Limit {
    fn new(per_milli: f64) -> Self {
        Limit { per_milli, since: None }
    }

    /// How many records may be made now, at least one; or when the next one may.
    fn allowed(&mut self, now: Timestamp) -> Result<u64, Timestamp> {
        let (start, made) = *self.since.get_or_insert((now, 0));
        // The first record is due at once, not after one interval.
        let due = ((now - start).max(0) as f64 * self.per_milli) as u64 + 1;
        if due > made {
            // What could not be made in time is made up for within a second, not in one burst of hours.
            let most = (self.per_milli * 1_000.0) as u64 + 1;
            if due - made > most {
                self.since = Some((now, 0));
                return Ok(1);
            }
            return Ok(due - made);
        }
        let wait = made as f64 / self.per_milli;
        Err((start.saturating_add(wait.ceil() as i64)).max(now + 1))
    }

    fn made(&mut self, count: u64) {
        if let Some((_, made)) = &mut self.since {
            *made += count;
        }
    }
}

struct Reader<T> {
    source: GeneratorSource<T>,
    split: Strided,
    limit: Option<Limit>,
}

impl<T: Record> SplitReader for Reader<T> {
    type Out = T;
    type Split = Strided;

    fn poll(&mut self, max: usize, now: Timestamp) -> OpResult<Polled<T>> {
        let end = self.source.count.unwrap_or(u64::MAX);
        let mut max = max;
        if self.split.next >= end {
            return Ok(Polled::End);
        }
        if let Some(limit) = &mut self.limit {
            match limit.allowed(now) {
                Ok(allowed) => max = max.min(usize::try_from(allowed).unwrap_or(usize::MAX)),
                Err(until) => return Ok(Polled::Until(until)),
            }
        }
        let (first, step) = (self.split.next, self.split.step);
        let count = self.split.take(max, end).count();
        let mut records = Vec::new();
        (self.source.make)(Numbers { first, step, count, now }, &mut records)?;
        if let Some(limit) = &mut self.limit {
            limit.made(count as u64);
        }
        Ok(Polled::Rows(Rows::untimed(records)))
    }

    fn position(&self) -> Strided {
        self.split.clone()
    }

    fn progress(&self) -> Option<(u64, u64)> {
        self.source.count.map(|count| self.split.progress::<T>(&(0..count)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources::strided::tests::{place, read_all};

    #[test]
    fn every_number_comes_once_whatever_the_parallelism() {
        for parallelism in 1..5 {
            let mut records = read_all(&GeneratorSource::new(|n| n * 2).with_count(61), parallelism);
            records.sort_unstable();
            assert_eq!(records, (0..61).map(|n| n * 2).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_record_may_stand_for_many_numbers() {
        let source = GeneratorSource::in_batches(|numbers| Ok(numbers.iter().collect::<Vec<_>>()));
        for parallelism in 1..4 {
            let mut numbers = read_all(&source.clone().with_count(61), parallelism).concat();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..61).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_rate_is_kept_over_all_subtasks_and_a_pause_is_not_made_up_for() {
        let source = GeneratorSource::new(|n| n).with_rate(100.0);
        let mut reader = source.open(Strided { next: 1, step: 2 }, &place()).unwrap();
        let (mut now, mut made) = (5_000, 0);
        let mut run = |now: &mut i64, until: i64| {
            let before = made;
            while *now < until {
                match reader.poll(16, *now).unwrap() {
                    Polled::Rows(rows) => made += rows.len(),
                    Polled::Until(next) => *now = next,
                    _ => unreachable!(),
                }
            }
            made - before
        };
        let made = run(&mut now, 15_000);
        assert!((499..=501).contains(&made), "{made}");
        now += 3_600_000;
        let made = run(&mut now, 3_600_000 + 16_000);
        assert!(made <= 103, "{made}");
    }
}
