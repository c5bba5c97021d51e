//! Joins records of two keyed streams whose event times lie within bounds of each other. Keeps each record until no
//! record that comes in time can still match it; records behind the watermark are dropped.

use crate::collector::Collector;
use crate::keyed::{KeyedBatch, KeyedStream, Keys};
use crate::operators::slice_windows::UNTIMED;
use crate::stream::DataStream;
use hurtig_dataflow::key::hash_key;
use hurtig_dataflow::operator::{Context, OpenContext, Parts, Progress, TwoInputOperator};
use hurtig_dataflow::state::{Handle, KeyedTable, Timers};
use hurtig_dataflow::time::millis;
use hurtig_dataflow::{Key, OpResult, Record, Rows, Timestamp};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

/// Keys cleaned up between two batches.
const CLEANUP_PORTION: usize = 4_096;

/// Two keyed streams to be joined; say within which bounds.
pub struct IntervalJoin<A, B, K> {
    left: KeyedStream<A, K>,
    right: KeyedStream<B, K>,
}

/// Two keyed streams to be joined within bounds; say what to make of each pair.
pub struct BoundedIntervalJoin<A, B, K> {
    left: KeyedStream<A, K>,
    right: KeyedStream<B, K>,
    bounds: Bounds,
}

/// How far a right record's time may lie from a left one's: `lower..=upper` ms.
#[derive(Clone, Copy)]
struct Bounds {
    lower: i64,
    upper: i64,
}

impl<A: Record, K: Key> KeyedStream<A, K> {
    /// Joins records of this stream with those of another that have the same key and lie near in event time.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// let env = Environment::new();
    /// let orders = env.from_collection(vec![(1u32, "tea".to_string())]).key_by(|order| order.0);
    /// let payments = env.from_collection(vec![(1u32, 250u64)]).key_by(|payment| payment.0);
    /// orders
    ///     .interval_join(&payments)
    ///     .between(-5_000, 60_000)
    ///     .apply(|order, payment| (order.1.clone(), payment.1))
    ///     .print();
    /// ```
    pub fn interval_join<B: Record>(&self, other: &KeyedStream<B, K>) -> IntervalJoin<A, B, K> {
        IntervalJoin { left: self.clone(), right: other.clone() }
    }
}

impl<A: Record, B: Record, K: Key> IntervalJoin<A, B, K> {
    /// Joins pairs for which the right record's time less the left one's lies within `lower..=upper` milliseconds.
    ///
    /// # Panics
    /// `lower` is larger than `upper`.
    pub fn between(self, lower_ms: i64, upper_ms: i64) -> BoundedIntervalJoin<A, B, K> {
        assert!(lower_ms <= upper_ms, "the lower bound of an interval join is above the upper one");
        let bounds = Bounds { lower: lower_ms, upper: upper_ms };
        BoundedIntervalJoin { left: self.left, right: self.right, bounds }
    }

    /// Joins pairs that lie at most `distance` apart.
    pub fn within(self, distance: Duration) -> BoundedIntervalJoin<A, B, K> {
        let distance = millis(distance);
        self.between(-distance, distance)
    }
}

impl<A: Record, B: Record, K: Key> BoundedIntervalJoin<A, B, K> {
    /// Makes a record of each pair, with the later of both event times.
    pub fn apply<U: Record>(self, function: impl Fn(&A, &B) -> U + Send + Sync + 'static) -> DataStream<U> {
        self.process(move |left, right, out| out.emit(function(left, right)))
    }

    /// Makes any number of records of each pair.
    pub fn process<U: Record>(
        self,
        function: impl Fn(&A, &B, &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        let (left, right, bounds) = (self.left.keys, self.right.keys, self.bounds);
        let function = Arc::new(function);
        self.left.stream.transform_two(&self.right.stream, "IntervalJoin", move || {
            Join::new(left.clone(), right.clone(), bounds, Arc::clone(&function))
        })
    }
}

/// Records of one key by event time.
type Buffer<T> = BTreeMap<Timestamp, Vec<T>>;

/// One side's records.
type Side<K, T> = Handle<KeyedTable<K, Buffer<T>>>;

struct Join<A, B, K, F, U> {
    left: KeyedBatch<A, K>,
    right: KeyedBatch<B, K>,
    bounds: Bounds,
    function: Arc<F>,
    lefts: Side<K, A>,
    rights: Side<K, B>,
    cleanups: Handle<Timers<K>>,
    out: PhantomData<fn() -> U>,
}

impl<A: Record, B: Record, K: Key, F, U> Join<A, B, K, F, U> {
    fn new(left: Keys<A, K>, right: Keys<B, K>, bounds: Bounds, function: Arc<F>) -> Self {
        Join {
            left: KeyedBatch::new(left),
            right: KeyedBatch::new(right),
            bounds,
            function,
            lefts: Handle::default(),
            rights: Handle::default(),
            cleanups: Handle::default(),
            out: PhantomData,
        }
    }
}

/// One record's way through the join.
struct Arrival<'a, K> {
    key: &'a K,
    hash: u64,
    time: Timestamp,
    /// Times of matching records on the other side.
    from: Timestamp,
    to: Timestamp,
}

/// Calls `each` with the other side's matches, then keeps the record if later ones may still match.
fn arrive<T: Record, O: Record, K: Key, U: Record>(
    record: T,
    arrival: Arrival<'_, K>,
    parts: Parts<'_, Rows<U>>,
    (own, other): (Side<K, T>, Side<K, O>),
    cleanups: (Handle<Timers<K>>, i64),
    each: impl Fn(&T, &O, &mut Collector<'_, U>),
) {
    let Arrival { key, hash, time, from, to } = arrival;
    if time < parts.watermark {
        *parts.late_dropped += 1;
        return;
    }
    let mut out = Collector::new(parts.out, parts.sides, None);
    if let Some(buffer) = parts.states.get_mut(other).get(hash, key) {
        for (matched, others) in buffer.range(from..=to) {
            out.at(Some(time.max(*matched)));
            for other in others {
                each(&record, other, &mut out);
            }
        }
    }
    if to < parts.watermark {
        return;
    }
    let (timers, grain) = cleanups;
    let table = parts.states.get_mut(own);
    match table.get_mut(hash, key) {
        Some(buffer) => buffer.entry(time).or_default().push(record),
        None => {
            table.insert(hash, key.clone(), Buffer::from([(time, vec![record])]));
        }
    }
    // Rounded up, so that the records of a key share few timers.
    let gone = to.saturating_add(1);
    let cleanup = gone.saturating_add((-gone).rem_euclid(grain));
    parts.states.get_mut(timers).register(cleanup, key.clone());
}

/// Forgets records before `from`.
fn forget<K: Key, T: Record>(table: &mut KeyedTable<K, Buffer<T>>, hash: u64, key: &K, from: Timestamp) {
    if let Some(buffer) = table.get_mut(hash, key) {
        *buffer = buffer.split_off(&from);
        if buffer.is_empty() {
            table.remove(hash, key);
        }
    }
}

impl<A, B, K, F, U> TwoInputOperator for Join<A, B, K, F, U>
where
    A: Record,
    B: Record,
    K: Key,
    U: Record,
    F: Fn(&A, &B, &mut Collector<'_, U>) + Send + Sync + 'static,
{
    type In1 = Rows<A>;
    type In2 = Rows<B>;
    type Out = Rows<U>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.lefts = ctx.states.keyed("left")?;
        self.rights = ctx.states.keyed("right")?;
        self.cleanups = ctx.states.timers("cleanups")?;
        Ok(())
    }

    fn process1(&mut self, batch: Rows<A>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.left.load(batch);
        self.resume(ctx)
    }

    fn process2(&mut self, batch: Rows<B>, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        self.right.load(batch);
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        let Bounds { lower, upper } = self.bounds;
        let cleanups = (self.cleanups, ((upper - lower) / 8).max(1));
        while let Some((record, time, key, hash)) = self.left.next() {
            let time = time.ok_or(UNTIMED)?;
            let (from, to) = (time.saturating_add(lower), time.saturating_add(upper));
            let arrival = Arrival { key, hash, time, from, to };
            let tables = (self.lefts, self.rights);
            arrive(record, arrival, ctx.parts(), tables, cleanups, |left, right, out| {
                (self.function)(left, right, out);
            });
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        while let Some((record, time, key, hash)) = self.right.next() {
            let time = time.ok_or(UNTIMED)?;
            let (from, to) = (time.saturating_sub(upper), time.saturating_sub(lower));
            let arrival = Arrival { key, hash, time, from, to };
            let tables = (self.rights, self.lefts);
            arrive(record, arrival, ctx.parts(), tables, cleanups, |right, left, out| {
                (self.function)(left, right, out);
            });
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Rows<U>>) -> OpResult<Progress> {
        let watermark = ctx.watermark();
        for _ in 0..CLEANUP_PORTION {
            let Some((_, key)) = ctx.states().get_mut(self.cleanups).pop_due(watermark) else {
                return Ok(Progress::Done);
            };
            let hash = hash_key(&key);
            let (lefts, rights) = ctx.states().get_two_mut(self.lefts, self.rights);
            forget(lefts, hash, &key, watermark.saturating_sub(self.bounds.upper));
            forget(rights, hash, &key, watermark.saturating_add(self.bounds.lower));
        }
        Ok(Progress::Yield)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use proptest::prelude::*;

    /// Key and number.
    type Pair = (u8, i64);

    fn harness(lower: i64, upper: i64) -> Harness<(i64, i64)> {
        let keys = Keys::new(Arc::new(|r: &Pair| r.0));
        let function = Arc::new(|left: &Pair, right: &Pair, out: &mut Collector<'_, (i64, i64)>| {
            out.emit((left.1, right.1));
        });
        let bounds = Bounds { lower, upper };
        Harness::two_inputs(move || Join::new(keys.clone(), keys.clone(), bounds, Arc::clone(&function)))
    }

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, Vec<(u8, i64)>),
        Advance(i64),
        Restart(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            5 => (0usize..2, prop::collection::vec((0u8..3, -60i64..60), 0..20)).prop_map(|(p, r)| Step::Push(p, r)),
            2 => (1i64..15).prop_map(Step::Advance),
            1 => (1usize..5).prop_map(Step::Restart),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(250))]
        #[test]
        fn all_pairs_in_time_are_found_once(
            lower in -30i64..30, width in 0i64..40, steps in prop::collection::vec(step(), 0..25)
        ) {
            let upper = lower + width;
            let mut harness = harness(lower, upper);
            let mut sides: [Vec<(u8, i64, i64)>; 2] = Default::default();
            let (mut watermark, mut number) = (-70, 0);
            harness.watermark(watermark);
            for step in steps {
                match step {
                    Step::Push(port, rows) => {
                        let rows: Vec<_> = rows.into_iter().map(|(key, time)| {
                            number += 1;
                            if time >= watermark {
                                sides[port].push((key, number, time));
                            }
                            ((key, number), time)
                        }).collect();
                        let late = rows.iter().filter(|(_, time)| *time < watermark).count() as u64;
                        let before = harness.late_dropped();
                        harness.push_to(port, rows);
                        prop_assert_eq!(harness.late_dropped() - before, late);
                    }
                    Step::Advance(by) => {
                        watermark += by;
                        harness.watermark(watermark);
                    }
                    Step::Restart(parallelism) => harness.restart_through(parallelism),
                }
            }
            let mut expected = Vec::new();
            for left in &sides[0] {
                for right in &sides[1] {
                    if left.0 == right.0 && (lower..=upper).contains(&(right.2 - left.2)) {
                        expected.push(((left.1, right.1), Some(left.2.max(right.2))));
                    }
                }
            }
            let mut found = harness.timed_output();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
            harness.watermark(10_000);
            let snapshot = harness.snapshot();
            prop_assert!(snapshot.states.iter().all(|state| state.groups.is_empty()), "nothing remains at the end");
        }
    }
}
