//! Whether a tick came in time: a process that was itself stopped for a while must not take that for the silence of
//! its peers.

use std::time::Duration;

use tokio::time::Instant;

/// The ticks of one node.
#[derive(Debug)]
pub(super) struct Ticks {
    interval: Duration,
    last: Instant,
}

impl Ticks {
    pub(super) fn new(interval: Duration, now: Instant) -> Self {
        Ticks { interval, last: now }
    }

    /// A tick is handled. Returns for how long this process seems not to have run, which is no peer's fault.
    pub(super) fn tick(&mut self, now: Instant) -> Duration {
        let since = now.duration_since(self.last);
        self.last = now;
        if since > 2 * self.interval { since - self.interval } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn own_pauses_are_told_from_the_silence_of_others() {
        let start = Instant::now();
        let mut ticks = Ticks::new(SECOND, start);
        assert_eq!(ticks.tick(start + SECOND), Duration::ZERO);
        assert_eq!(ticks.tick(start + 3 * SECOND), Duration::ZERO);
        assert_eq!(ticks.tick(start + 13 * SECOND), 9 * SECOND);
        assert_eq!(ticks.tick(start + 14 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_process_that_is_always_late_still_sees_silence() {
        let start = Instant::now();
        let mut ticks = Ticks::new(SECOND, start);
        let forgiven: Duration = (1..=10).map(|n| ticks.tick(start + n * 5 * SECOND)).sum();
        assert_eq!(50 * SECOND - forgiven, 10 * SECOND);
    }
}
