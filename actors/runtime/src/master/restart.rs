//! Restart strategies: whether and when a failed job is tried again. Plain data.

use crate::config::{Config, RestartStrategyConfig};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::time::millis;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::VecDeque;
use std::time::Duration;

/// What to do after a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Try again after this time.
    RestartAfter(Duration),
    /// The job has failed.
    GiveUp,
}

/// Decides after each failure.
#[derive(Debug)]
pub enum RestartStrategy {
    /// Never.
    None,
    /// A number of times, after a fixed delay.
    FixedDelay {
        /// Restarts left.
        left: u32,
        /// Time before each.
        delay: Duration,
    },
    /// As long as failures are rare.
    FailureRate {
        /// Failures allowed within the interval.
        most: usize,
        /// The interval.
        interval: Duration,
        /// Time before each restart.
        delay: Duration,
        /// Times of the failures within the interval.
        failures: VecDeque<Timestamp>,
    },
    /// After a delay that grows with every failure.
    ExponentialDelay {
        /// First delay.
        initial: Duration,
        /// Largest delay.
        max: Duration,
        /// Factor from one delay to the next.
        multiplier: f64,
        /// The delay starts small again after this time without a failure.
        reset_after: Duration,
        /// Share of the delay added or taken away at random.
        jitter: f64,
        /// Restarts allowed until the delay starts small again.
        most: Option<u32>,
        /// Restarts since then.
        restarts: u32,
        /// The last delay.
        current: Option<Duration>,
        /// The last failure.
        last: Timestamp,
        /// Randomness for the jitter.
        random: SmallRng,
    },
}

impl RestartStrategy {
    /// The strategy a configuration asks for.
    pub fn new(config: &Config, seed: u64) -> Self {
        let restart = &config.restart;
        match config.restart_strategy() {
            RestartStrategyConfig::None | RestartStrategyConfig::Auto => RestartStrategy::None,
            RestartStrategyConfig::FixedDelay => RestartStrategy::FixedDelay {
                left: restart.fixed_delay.attempts,
                delay: restart.fixed_delay.delay,
            },
            RestartStrategyConfig::FailureRate => RestartStrategy::FailureRate {
                most: restart.failure_rate.max_failures as usize,
                interval: restart.failure_rate.interval,
                delay: restart.failure_rate.delay,
                failures: VecDeque::new(),
            },
            RestartStrategyConfig::ExponentialDelay => RestartStrategy::ExponentialDelay {
                initial: restart.exponential_delay.initial,
                max: restart.exponential_delay.max,
                multiplier: restart.exponential_delay.multiplier,
                reset_after: restart.exponential_delay.reset_after,
                jitter: restart.exponential_delay.jitter,
                most: restart.exponential_delay.attempts,
                restarts: 0,
                current: None,
                last: 0,
                random: SmallRng::seed_from_u64(seed),
            },
        }
    }

    /// A subtask has failed at `now`.
    pub fn on_failure(&mut self, now: Timestamp) -> Decision {
        match self {
            RestartStrategy::None => Decision::GiveUp,
            RestartStrategy::FixedDelay { left: 0, .. } => Decision::GiveUp,
            RestartStrategy::FixedDelay { left, delay } => {
                *left -= 1;
                Decision::RestartAfter(*delay)
            }
            RestartStrategy::FailureRate { most, interval, delay, failures } => {
                failures.push_back(now);
                while failures.front().is_some_and(|first| now - first > millis(*interval)) {
                    failures.pop_front();
                }
                if failures.len() > *most { Decision::GiveUp } else { Decision::RestartAfter(*delay) }
            }
            RestartStrategy::ExponentialDelay {
                initial,
                max,
                multiplier,
                reset_after,
                jitter,
                most,
                restarts,
                current,
                last,
                random,
            } => {
                if now - *last > millis(*reset_after) {
                    *current = None;
                    *restarts = 0;
                }
                *last = now;
                *restarts += 1;
                if most.is_some_and(|most| *restarts > most) {
                    return Decision::GiveUp;
                }
                let next = current.map_or(*initial, |delay| delay.mul_f64(*multiplier)).min(*max);
                *current = Some(next);
                let factor = 1.0 + *jitter * random.random_range(-1.0..=1.0);
                Decision::RestartAfter(next.mul_f64(factor).min(*max))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strategy(set: &[(&str, &str)]) -> RestartStrategy {
        let mut builder = Config::builder();
        for (key, value) in set {
            builder = builder.flag(format!("{key}={value}"));
        }
        RestartStrategy::new(&builder.build().unwrap(), 7)
    }

    #[test]
    fn a_job_without_checkpoints_is_not_restarted_by_default() {
        assert_eq!(strategy(&[]).on_failure(0), Decision::GiveUp);
        assert!(matches!(
            strategy(&[("checkpoint.interval", "1 s")]).on_failure(0),
            Decision::RestartAfter(_)
        ));
    }

    #[test]
    fn fixed_delay_gives_up_after_its_attempts() {
        let mut strategy = strategy(&[
            ("restart.strategy", "fixed-delay"),
            ("restart.fixed-delay.attempts", "2"),
            ("restart.fixed-delay.delay", "3 s"),
        ]);
        let again = Decision::RestartAfter(Duration::from_secs(3));
        assert_eq!([(); 3].map(|()| strategy.on_failure(0)), [again, again, Decision::GiveUp]);
    }

    #[test]
    fn failure_rate_counts_within_its_interval_only() {
        let mut strategy = strategy(&[
            ("restart.strategy", "failure-rate"),
            ("restart.failure-rate.max-failures", "2"),
            ("restart.failure-rate.interval", "10 s"),
        ]);
        let gives_up =
            [0, 1_000, 12_000, 13_000, 14_000].map(|now| strategy.on_failure(now) == Decision::GiveUp);
        assert_eq!(gives_up, [false, false, false, false, true]);
    }

    #[test]
    fn exponential_delay_grows_to_its_limit_and_starts_small_again() {
        let mut strategy = strategy(&[
            ("restart.strategy", "exponential-delay"),
            ("restart.exponential-delay.initial", "1 s"),
            ("restart.exponential-delay.max", "4 s"),
            ("restart.exponential-delay.multiplier", "2"),
            ("restart.exponential-delay.jitter", "0"),
            ("restart.exponential-delay.reset-after", "1 min"),
        ]);
        let delays = [0, 1, 2, 3, 100_000].map(|now| match strategy.on_failure(now) {
            Decision::RestartAfter(delay) => delay.as_secs(),
            Decision::GiveUp => 0,
        });
        assert_eq!(delays, [1, 2, 4, 4, 1]);
    }
}
