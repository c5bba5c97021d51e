//! Ready-made aggregate functions.

use hurtig_dataflow::operator::AggregateFunction;
use hurtig_dataflow::state::StateValue;
use std::marker::PhantomData;
use std::ops::AddAssign;

/// Counts records.
pub struct Count<T>(PhantomData<fn(T)>);

impl<T> Count<T> {
    /// A count.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Count(PhantomData)
    }
}

impl<T: 'static> AggregateFunction for Count<T> {
    type In = T;
    type Accumulator = u64;
    type Out = u64;

    fn create(&self) -> u64 {
        0
    }
    #[inline]
    fn add(&self, count: &mut u64, _: &T) {
        *count += 1;
    }
    fn merge(&self, count: &mut u64, other: &u64) {
        *count += other;
    }
    fn result(&self, count: &u64) -> u64 {
        *count
    }
}

/// Adds up a value of the records.
///
/// ```
/// use hurtig_datastream::prelude::*;
/// let sum = Sum::of(|order: &(String, u64)| order.1);
/// let mut accumulator = sum.create();
/// sum.add(&mut accumulator, &("tea".to_string(), 5));
/// assert_eq!(sum.result(&accumulator), 5);
/// ```
pub struct Sum<T, N, F> {
    value: F,
    types: PhantomData<fn(T) -> N>,
}

impl<T, N, F: Fn(&T) -> N> Sum<T, N, F> {
    /// The sum of `value`.
    pub fn of(value: F) -> Self {
        Sum { value, types: PhantomData }
    }
}

impl<T: 'static, N, F> AggregateFunction for Sum<T, N, F>
where
    N: StateValue + Clone + Default + AddAssign,
    F: Fn(&T) -> N + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = N;
    type Out = N;

    fn create(&self) -> N {
        N::default()
    }
    #[inline]
    fn add(&self, sum: &mut N, record: &T) {
        *sum += (self.value)(record);
    }
    fn merge(&self, sum: &mut N, other: &N) {
        *sum += other.clone();
    }
    fn result(&self, sum: &N) -> N {
        sum.clone()
    }
}

/// Arithmetic mean of a value of the records; of no records it is not a number.
pub struct Average<T, F> {
    value: F,
    record: PhantomData<fn(T)>,
}

impl<T, F: Fn(&T) -> f64> Average<T, F> {
    /// The mean of `value`.
    pub fn of(value: F) -> Self {
        Average { value, record: PhantomData }
    }
}

impl<T: 'static, F: Fn(&T) -> f64 + Send + Sync + 'static> AggregateFunction for Average<T, F> {
    type In = T;
    type Accumulator = (f64, u64);
    type Out = f64;

    fn create(&self) -> (f64, u64) {
        (0.0, 0)
    }
    #[inline]
    fn add(&self, (sum, count): &mut (f64, u64), record: &T) {
        *sum += (self.value)(record);
        *count += 1;
    }
    fn merge(&self, (sum, count): &mut (f64, u64), other: &(f64, u64)) {
        *sum += other.0;
        *count += other.1;
    }
    fn result(&self, (sum, count): &(f64, u64)) -> f64 {
        sum / *count as f64
    }
}

macro_rules! extreme {
    ($(#[$doc:meta])* $name:ident, $better:tt) => {
        $(#[$doc])*
        pub struct $name<T, N, F> {
            value: F,
            types: PhantomData<fn(T) -> N>,
        }

        impl<T, N, F: Fn(&T) -> N> $name<T, N, F> {
            /// Of `value`.
            pub fn of(value: F) -> Self {
                $name { value, types: PhantomData }
            }
        }

        impl<T: 'static, N, F> AggregateFunction for $name<T, N, F>
        where
            N: StateValue + Clone + PartialOrd,
            F: Fn(&T) -> N + Send + Sync + 'static,
        {
            type In = T;
            type Accumulator = Option<N>;
            type Out = Option<N>;

            fn create(&self) -> Option<N> {
                None
            }
            #[inline]
            fn add(&self, best: &mut Option<N>, record: &T) {
                let value = (self.value)(record);
                if best.as_ref().is_none_or(|best| value $better *best) {
                    *best = Some(value);
                }
            }
            fn merge(&self, best: &mut Option<N>, other: &Option<N>) {
                if let Some(value) = other
                    && best.as_ref().is_none_or(|best| value $better best)
                {
                    *best = Some(value.clone());
                }
            }
            fn result(&self, best: &Option<N>) -> Option<N> {
                best.clone()
            }
        }
    };
}

extreme!(
    /// Smallest value of the records, `None` of no records.
    Min, <
);
extreme!(
    /// Largest value of the records, `None` of no records.
    Max, >
);

/// An aggregate function made of closures.
///
/// ```
/// use hurtig_datastream::prelude::*;
/// let longest = Fold::new(|| 0, |most: &mut usize, word: &String| *most = word.len().max(*most), |a, b| *a = *b.max(a));
/// let mut accumulator = longest.create();
/// longest.add(&mut accumulator, &"hurtig".to_string());
/// assert_eq!(longest.result(&accumulator), 6);
/// ```
pub struct Fold<T, A, I, F, M> {
    init: I,
    add: F,
    merge: M,
    types: PhantomData<fn(T) -> A>,
}

impl<T, A, I: Fn() -> A, F: Fn(&mut A, &T), M: Fn(&mut A, &A)> Fold<T, A, I, F, M> {
    /// Starts with `init`, takes records in with `add` and other accumulators with `merge`.
    pub fn new(init: I, add: F, merge: M) -> Self {
        Fold { init, add, merge, types: PhantomData }
    }
}

impl<T: 'static, A, I, F, M> AggregateFunction for Fold<T, A, I, F, M>
where
    A: StateValue + Clone,
    I: Fn() -> A + Send + Sync + 'static,
    F: Fn(&mut A, &T) + Send + Sync + 'static,
    M: Fn(&mut A, &A) + Send + Sync + 'static,
{
    type In = T;
    type Accumulator = A;
    type Out = A;

    fn create(&self) -> A {
        (self.init)()
    }
    #[inline]
    fn add(&self, accumulator: &mut A, record: &T) {
        (self.add)(accumulator, record);
    }
    fn merge(&self, accumulator: &mut A, other: &A) {
        (self.merge)(accumulator, other);
    }
    fn result(&self, accumulator: &A) -> A {
        accumulator.clone()
    }
}
