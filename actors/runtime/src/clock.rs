//! The one clock. It follows tokio's, so that a test can pause it.

use hurtig_dataflow::Timestamp;
use std::time::Duration;
use tokio::time::Instant;

/// Processing time: the wall clock when made, then tokio's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Instant,
    base_ms: Timestamp,
}

impl Clock {
    /// A clock that starts at the machine's time.
    #[allow(clippy::disallowed_methods, reason = "this is the context that time comes through")]
    pub fn new() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Clock { base: Instant::now(), base_ms: hurtig_dataflow::time::millis(now) }
    }

    /// Now, in milliseconds since 1970.
    #[inline]
    pub fn now(&self) -> Timestamp {
        self.base_ms + hurtig_dataflow::time::millis(self.base.elapsed())
    }

    /// How long until a point in time; zero if it has passed.
    pub fn until(&self, time: Timestamp) -> Duration {
        Duration::from_millis(u64::try_from(time.saturating_sub(self.now())).unwrap_or(0))
    }

    /// Nanoseconds since the clock was made, for measuring spans.
    #[inline]
    pub fn nanos(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }
}

impl Default for Clock {
    fn default() -> Self {
        Clock::new()
    }
}
