//! Time as the dataflow sees it: numbers. Clocks belong to the runtime.

use std::time::Duration;

/// A point in event time or processing time: milliseconds since 1970-01-01T00:00:00Z.
pub type Timestamp = i64;

/// The watermark before anything is known: smaller than every event time.
pub const MIN_TIMESTAMP: Timestamp = i64::MIN;

/// The watermark of a stream that has ended: no event time follows.
pub const MAX_TIMESTAMP: Timestamp = i64::MAX;

/// A duration as whole milliseconds, saturating.
pub fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
