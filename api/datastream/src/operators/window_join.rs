//! Joins and co-groups two streams by key and window: both become one stream of either's records, whose windows are
//! parted again when they fire.

use crate::collector::Collector;
use crate::stream::DataStream;
use crate::windows::assigner::WindowAssigner;
use crate::windows::function::{WindowContext, WindowRecords};
use crate::windows::stream::WindowedStream;
use crate::windows::trigger::{DefaultTrigger, Trigger};
use hurtig_dataflow::{Key, Record};
use serde::{Deserialize, Serialize};
use std::marker::PhantomData;
use std::time::Duration;

/// A record of one stream or the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Either<A, B> {
    /// Of the first stream.
    Left(A),
    /// Of the second stream.
    Right(B),
}

/// Marks a join: pairs of records.
pub struct Joined;

/// Marks a co-group: all records of a window at once.
pub struct CoGrouped;

/// Two streams to be joined; say the first one's key.
pub struct JoinBuilder<A, B, M> {
    left: DataStream<A>,
    right: DataStream<B>,
    mode: PhantomData<fn() -> M>,
}

/// Two streams to be joined; say the second one's key.
pub struct JoinWhere<A, B, K, F, M> {
    left: DataStream<A>,
    right: DataStream<B>,
    left_key: F,
    mode: PhantomData<fn() -> (K, M)>,
}

/// Two streams to be joined by key; say in which windows.
pub struct JoinKeyed<A, B, K, M> {
    keyed: crate::keyed::KeyedStream<Either<A, B>, K>,
    mode: PhantomData<fn() -> M>,
}

/// Two streams to be joined by key and window; say what to make of a window's records.
pub struct JoinWindowed<A, B, K, M, G = DefaultTrigger> {
    windowed: WindowedStream<Either<A, B>, K, G>,
    mode: PhantomData<fn() -> M>,
}

impl<A: Record> DataStream<A> {
    /// Pairs the records of this stream with those of another that have the same key and lie in the same window.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// let clicks = env.from_collection(vec![("ada".to_string(), "/".to_string())]);
    /// let names = env.from_collection(vec![("ada".to_string(), "Ada L.".to_string())]);
    /// clicks
    ///     .join(&names)
    ///     .where_(|click| click.0.clone())
    ///     .equal_to(|name| name.0.clone())
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
    ///     .apply(|click, name| (click.1.clone(), name.1.clone()))
    ///     .print();
    /// ```
    pub fn join<B: Record>(&self, other: &DataStream<B>) -> JoinBuilder<A, B, Joined> {
        JoinBuilder { left: self.clone(), right: other.clone(), mode: PhantomData }
    }

    /// Brings together, per key and window, all records of this stream and all of another; either may have none.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use std::time::Duration;
    /// let env = Environment::new();
    /// let clicks = env.from_collection(vec!["ada".to_string()]);
    /// let orders = env.from_collection(vec!["bob".to_string()]);
    /// clicks
    ///     .co_group(&orders)
    ///     .where_(|user| user.clone())
    ///     .equal_to(|user| user.clone())
    ///     .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
    ///     .apply(|user, _, clicks, orders, out| out.emit((user.clone(), clicks.len(), orders.len())))
    ///     .print();
    /// ```
    pub fn co_group<B: Record>(&self, other: &DataStream<B>) -> JoinBuilder<A, B, CoGrouped> {
        JoinBuilder { left: self.clone(), right: other.clone(), mode: PhantomData }
    }
}

impl<A: Record, B: Record, M> JoinBuilder<A, B, M> {
    /// The key of the first stream.
    pub fn where_<K: Key, F: Fn(&A) -> K + Send + Sync + 'static>(
        self,
        left_key: F,
    ) -> JoinWhere<A, B, K, F, M> {
        JoinWhere { left: self.left, right: self.right, left_key, mode: PhantomData }
    }
}

impl<A: Record, B: Record, K: Key, F: Fn(&A) -> K + Send + Sync + 'static, M> JoinWhere<A, B, K, F, M> {
    /// The key of the second stream.
    pub fn equal_to(self, right_key: impl Fn(&B) -> K + Send + Sync + 'static) -> JoinKeyed<A, B, K, M> {
        let left_key = self.left_key;
        let left = self.left.map(Either::Left).name("Left");
        let right = self.right.map(Either::Right).name("Right");
        let keyed = left.union(&right).key_by(move |record| match record {
            Either::Left(record) => left_key(record),
            Either::Right(record) => right_key(record),
        });
        JoinKeyed { keyed, mode: PhantomData }
    }
}

impl<A: Record, B: Record, K: Key, M> JoinKeyed<A, B, K, M> {
    /// The windows.
    pub fn window(self, assigner: impl WindowAssigner<Either<A, B>>) -> JoinWindowed<A, B, K, M> {
        JoinWindowed { windowed: self.keyed.window(assigner), mode: PhantomData }
    }
}

impl<A: Record, B: Record, K: Key, M, G: Trigger<Either<A, B>>> JoinWindowed<A, B, K, M, G> {
    /// Says when windows fire.
    pub fn trigger<H: Trigger<Either<A, B>>>(self, trigger: H) -> JoinWindowed<A, B, K, M, H> {
        JoinWindowed { windowed: self.windowed.trigger(trigger), mode: PhantomData }
    }

    /// Keeps windows for late records.
    pub fn allowed_lateness(self, lateness: Duration) -> Self {
        JoinWindowed { windowed: self.windowed.allowed_lateness(lateness), mode: PhantomData }
    }
}

/// Parts a window's records.
fn part<'a, A, B>(records: WindowRecords<'a, Either<A, B>>) -> (Vec<&'a A>, Vec<&'a B>) {
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for record in records {
        match record {
            Either::Left(record) => left.push(record),
            Either::Right(record) => right.push(record),
        }
    }
    (left, right)
}

impl<A: Record, B: Record, K: Key, G: Trigger<Either<A, B>>> JoinWindowed<A, B, K, Joined, G> {
    /// Makes a record of each pair.
    pub fn apply<U: Record>(self, function: impl Fn(&A, &B) -> U + Send + Sync + 'static) -> DataStream<U> {
        self.windowed
            .apply(move |_, _: &WindowContext, records, out| {
                let (left, right) = part(records);
                for left in left {
                    out.extend(right.iter().map(|right| function(left, right)));
                }
            })
            .name("Join")
    }
}

impl<A: Record, B: Record, K: Key, G: Trigger<Either<A, B>>> JoinWindowed<A, B, K, CoGrouped, G> {
    /// Makes any number of records of a window's records, in the order they came.
    pub fn apply<U: Record>(
        self,
        function: impl Fn(&K, &WindowContext, &[&A], &[&B], &mut Collector<'_, U>) + Send + Sync + 'static,
    ) -> DataStream<U> {
        self.windowed
            .apply(move |key, ctx: &WindowContext, records, out| {
                let (left, right) = part(records);
                function(key, ctx, &left, &right, out);
            })
            .name("CoGroup")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;
    use hurtig_dataflow::graph::Logic;
    use hurtig_dataflow::harness::Harness;

    /// A harness for the last operator of a program.
    fn last<U: Record>(env: &Environment) -> Harness<U> {
        match &env.graph().nodes.last().unwrap().logic {
            Logic::Operator(factory) => Harness::of(factory.clone()),
            _ => panic!("the last node is no operator"),
        }
    }

    type Row = (u8, i64);

    fn push(harness: &mut Harness<(u8, i64, i64)>, left: &[(Row, i64)], right: &[(Row, i64)]) {
        harness.push(left.iter().map(|(row, time)| (Either::<Row, Row>::Left(*row), *time)));
        harness.push(right.iter().map(|(row, time)| (Either::<Row, Row>::Right(*row), *time)));
    }

    #[test]
    fn pairs_of_a_key_and_window_are_joined_across_a_restart() {
        let env = Environment::new();
        let rows = env.from_collection(Vec::<Row>::new());
        rows.join(&rows)
            .where_(|r| r.0)
            .equal_to(|r| r.0)
            .window(TumblingEventTimeWindows::of(Duration::from_millis(10)))
            .apply(|a, b| (a.0, a.1, b.1));
        let mut harness = last(&env);
        push(&mut harness, &[((1, 1), 0), ((1, 2), 15), ((2, 3), 5)], &[((1, 10), 9)]);
        harness.restart_through(2);
        push(&mut harness, &[((1, 4), 3)], &[((1, 20), 11), ((3, 30), 5)]);
        harness.end();
        assert_eq!(harness.output(), [(1, 1, 10), (1, 4, 10), (1, 2, 20)]);
    }

    #[test]
    fn co_groups_see_keys_that_only_one_side_has() {
        let env = Environment::new();
        let rows = env.from_collection(Vec::<Row>::new());
        rows.co_group(&rows)
            .where_(|r| r.0)
            .equal_to(|r| r.0)
            .window(EventTimeSessionWindows::with_gap(Duration::from_millis(5)))
            .apply(|key, _, left, right, out| out.emit((*key, left.len() as i64, right.len() as i64)));
        let mut harness = last(&env);
        push(&mut harness, &[((1, 1), 0), ((2, 3), 5)], &[((1, 10), 4)]);
        harness.restart_through(2);
        push(&mut harness, &[((1, 4), 8)], &[((3, 30), 100)]);
        harness.end();
        let mut output = harness.output();
        output.sort_unstable();
        assert_eq!(output, [(1, 2, 1), (2, 1, 0), (3, 0, 1)]);
    }
}
