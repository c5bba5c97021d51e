//! Crashes at random records, repeatable by their seed.

use hurtig::dataflow::ids::{Attempt, SubtaskId};
use hurtig::fault::FaultInjector;
use std::hash::{BuildHasher, RandomState};
use std::ops::Range;

/// A small generator of random numbers (splitmix64): the same numbers for the same seed, on every machine.
#[derive(Clone, Debug)]
pub struct Seed(u64);

impl Seed {
    /// A generator.
    pub fn new(seed: u64) -> Self {
        Seed(seed)
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "a random number generator has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }
}

/// The seeds of a test: other ones in each run, from `HURTIG_TEST_SEED` on if it is set; `HURTIG_TEST_SEEDS` of them,
/// or as many as usual.
pub fn seeds(usual: u64) -> Range<u64> {
    let number_of = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number_of("HURTIG_TEST_SEED").unwrap_or_else(|| RandomState::new().hash_one(usual) >> 32);
    first..first + number_of("HURTIG_TEST_SEEDS").unwrap_or(usual)
}

/// Says which seed is run, and how to run it again.
pub fn tell_seed(seed: u64) {
    println!("seed {seed}: HURTIG_TEST_SEED={seed} HURTIG_TEST_SEEDS=1");
}

/// In each of the first attempts one or more subtasks crash after a random number of records.
pub struct Crashes {
    /// Seed of all that is random.
    pub seed: u64,
    /// Attempts in which there is a crash.
    pub attempts: u32,
    /// A subtask crashes within so many of its records.
    pub within: u64,
}

impl FaultInjector for Crashes {
    fn crash_after(&self, subtask: SubtaskId, _: &str, attempt: Attempt) -> Option<u64> {
        if attempt.0 > self.attempts {
            return None;
        }
        let place = (subtask.vertex as u64) << 32 | subtask.index as u64;
        let mut seed = Seed::new(self.seed ^ (u64::from(attempt.0) << 48) ^ place.wrapping_mul(0x9e37_79b9));
        // Of each attempt's subtasks a third crashes if the others let it, rather late than early: more is lost by it.
        (seed.below(3) == 0).then(|| 1 + seed.below(self.within).max(seed.below(self.within)))
    }
}
