//! Which windows a record belongs to.

use crate::context::TimeDomain;
use crate::windows::trigger::DefaultTrigger;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, millis};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A span of time, from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TimeWindow {
    /// First millisecond.
    pub start: Timestamp,
    /// First millisecond after it.
    pub end: Timestamp,
}

impl TimeWindow {
    /// The window that spans all of time.
    pub const GLOBAL: TimeWindow = TimeWindow { start: MIN_TIMESTAMP, end: MAX_TIMESTAMP };

    /// A window.
    pub fn new(start: Timestamp, end: Timestamp) -> Self {
        TimeWindow { start, end }
    }

    /// The last millisecond: event time of the window's results.
    pub fn max_timestamp(&self) -> Timestamp {
        self.end - 1
    }

    pub(crate) fn is_global(&self) -> bool {
        *self == TimeWindow::GLOBAL
    }

    /// Whether the windows overlap or touch.
    pub(crate) fn meets(&self, other: &TimeWindow) -> bool {
        self.start <= other.end && other.start <= self.end
    }

    pub(crate) fn cover(&self, other: &TimeWindow) -> TimeWindow {
        TimeWindow { start: self.start.min(other.start), end: self.end.max(other.end) }
    }
}

/// Windows of one size that start at regular times.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aligned {
    pub(crate) size: i64,
    pub(crate) slide: i64,
    pub(crate) offset: i64,
}

impl Aligned {
    fn new(size: Duration, slide: Duration) -> Self {
        let (size, slide) = (millis(size), millis(slide));
        assert!(size > 0 && slide > 0, "a window's size and slide must be at least a millisecond");
        Aligned { size, slide, offset: 0 }
    }

    fn with_offset(mut self, offset: Duration) -> Self {
        self.offset = millis(offset).rem_euclid(self.slide);
        self
    }

    /// Start of the last window that starts at or before `time`.
    pub(crate) fn last_start(&self, time: Timestamp) -> Timestamp {
        let time = time.clamp(MIN_TIMESTAMP / 4, MAX_TIMESTAMP / 4);
        time - (time - self.offset).rem_euclid(self.slide)
    }

    /// Length of the slices windows are made of.
    pub(crate) fn slice(&self) -> i64 {
        let (mut a, mut b) = (self.size, self.slide);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    }

    /// Windows that hold `time`, last first.
    pub(crate) fn windows_of(self, time: Timestamp) -> impl Iterator<Item = TimeWindow> {
        let last = self.last_start(time);
        (0..)
            .map(move |n| last - n * self.slide)
            .take_while(move |start| start + self.size > time)
            .map(move |start| TimeWindow::new(start, start + self.size))
    }
}

type Gap<T> = Arc<dyn Fn(&T) -> i64 + Send + Sync>;
type Assign<T> = Arc<dyn Fn(&T, Timestamp, &mut Vec<TimeWindow>) + Send + Sync>;

pub(crate) enum Kind<T> {
    Aligned(Aligned),
    Session(Gap<T>),
    Global,
    Custom(Assign<T>),
}

impl<T> Clone for Kind<T> {
    fn clone(&self) -> Self {
        match self {
            Kind::Aligned(aligned) => Kind::Aligned(*aligned),
            Kind::Session(gap) => Kind::Session(Arc::clone(gap)),
            Kind::Global => Kind::Global,
            Kind::Custom(assign) => Kind::Custom(Arc::clone(assign)),
        }
    }
}

/// A way to assign records to windows.
pub struct Windows<T> {
    pub(crate) domain: TimeDomain,
    pub(crate) kind: Kind<T>,
}

impl<T> Clone for Windows<T> {
    fn clone(&self) -> Self {
        Windows { domain: self.domain, kind: self.kind.clone() }
    }
}

impl<T> Windows<T> {
    /// Windows of one's own: `assign` adds those that a record of some time belongs to.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// /// Windows that grow: the first second, the first two seconds, the first four.
    /// let windows = Windows::custom(TimeDomain::EventTime, |_: &u64, time, windows| {
    ///     windows.extend([1_000, 2_000, 4_000].into_iter().filter(|end| time < *end).map(|end| TimeWindow::new(0, end)));
    /// });
    /// let env = Environment::new();
    /// env.from_range(0..10).key_by(|n| n % 2).window(windows).count().print();
    /// ```
    pub fn custom(
        domain: TimeDomain,
        assign: impl Fn(&T, Timestamp, &mut Vec<TimeWindow>) + Send + Sync + 'static,
    ) -> Self {
        Windows { domain, kind: Kind::Custom(Arc::new(assign)) }
    }

    pub(crate) fn default_trigger(&self) -> DefaultTrigger {
        match (&self.kind, self.domain) {
            (Kind::Global, _) => DefaultTrigger::Never,
            (_, TimeDomain::EventTime) => DefaultTrigger::EventTime,
            (_, TimeDomain::ProcessingTime) => DefaultTrigger::ProcessingTime,
        }
    }
}

/// What a stream's records can be windowed by.
pub trait WindowAssigner<T> {
    /// The windows it stands for.
    fn into_windows(self) -> Windows<T>;
}

impl<T> WindowAssigner<T> for Windows<T> {
    fn into_windows(self) -> Windows<T> {
        self
    }
}

macro_rules! aligned {
    ($(#[$doc:meta])* $name:ident, $domain:ident, ($($arg:ident),+), $size:ident, $slide:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(Aligned);

        impl $name {
            /// Windows of that length.
            ///
            /// # Panics
            /// A length of less than a millisecond.
            pub fn of($($arg: Duration),+) -> Self {
                $name(Aligned::new($size, $slide))
            }

            /// Shifts all windows, for instance to the days of a time zone.
            pub fn with_offset(self, offset: Duration) -> Self {
                $name(self.0.with_offset(offset))
            }
        }

        impl<T> WindowAssigner<T> for $name {
            fn into_windows(self) -> Windows<T> {
                Windows { domain: TimeDomain::$domain, kind: Kind::Aligned(self.0) }
            }
        }
    };
}

aligned!(
    /// One window after the other, in event time.
    TumblingEventTimeWindows, EventTime, (size), size, size
);
aligned!(
    /// One window after the other, in processing time.
    TumblingProcessingTimeWindows, ProcessingTime, (size), size, size
);
aligned!(
    /// Windows of `size` that start every `slide`, in event time.
    SlidingEventTimeWindows, EventTime, (size, slide), size, slide
);
aligned!(
    /// Windows of `size` that start every `slide`, in processing time.
    SlidingProcessingTimeWindows, ProcessingTime, (size, slide), size, slide
);

macro_rules! session {
    ($(#[$doc:meta])* $name:ident, $domain:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug)]
        pub struct $name(i64);

        impl $name {
            /// Sessions that end when a key has had no record for `gap`.
            ///
            /// # Panics
            /// A gap of less than a millisecond.
            pub fn with_gap(gap: Duration) -> Self {
                let gap = millis(gap);
                assert!(gap > 0, "a session's gap must be at least a millisecond");
                $name(gap)
            }

            /// Sessions whose gap depends on the record. A gap below a millisecond counts as one.
            pub fn with_dynamic_gap<T>(gap: impl Fn(&T) -> Duration + Send + Sync + 'static) -> Windows<T> {
                let gap = move |record: &T| millis(gap(record)).max(1);
                Windows { domain: TimeDomain::$domain, kind: Kind::Session(Arc::new(gap)) }
            }
        }

        impl<T> WindowAssigner<T> for $name {
            fn into_windows(self) -> Windows<T> {
                Windows { domain: TimeDomain::$domain, kind: Kind::Session(Arc::new(move |_| self.0)) }
            }
        }
    };
}

session!(
    /// Windows per key that grow as long as records come, in event time.
    EventTimeSessionWindows, EventTime
);
session!(
    /// Windows per key that grow as long as records come, in processing time.
    ProcessingTimeSessionWindows, ProcessingTime
);

/// One window per key for all of time. Fires only if it is given a trigger.
#[derive(Clone, Copy, Debug)]
pub struct GlobalWindows;

impl<T> WindowAssigner<T> for GlobalWindows {
    fn into_windows(self) -> Windows<T> {
        Windows { domain: TimeDomain::EventTime, kind: Kind::Global }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_belongs_to_exactly_the_windows_that_span_its_time(
            size in 1i64..50, slide in 1i64..50, offset in 0i64..50, time in -200i64..200
        ) {
            let aligned = Aligned { size, slide, offset: offset % slide };
            let mut found: Vec<_> = aligned.windows_of(time).collect();
            found.sort();
            let expected: Vec<_> = (-300..300)
                .filter(|start| (start - aligned.offset) % slide == 0)
                .filter(|start| *start <= time && time < start + size)
                .map(|start| TimeWindow::new(start, start + size))
                .collect();
            prop_assert_eq!(found, expected);
        }
    }
}
