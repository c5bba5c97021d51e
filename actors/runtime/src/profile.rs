//! Where a process spends its time: its call stacks, sampled while it is at work.
//!
//! # Decisions
//! * 2026-11: sampled by a timer of processor time whose signal walks the stack within the process (`pprof`): nothing has
//!   to be installed or allowed, as `perf` would. Samples within the C library and the unwinder are left out: the walk
//!   could wait there for a lock that its own thread holds.

use crate::clock::Clock;
use crate::protocol::{Answer, Profile};
use std::collections::HashMap;
use std::time::Duration;

/// Samples per second of processor time: not a round number, so as not to run in step with what is measured.
const FREQUENCY: i32 = 199;

/// The longest that a process is sampled at a time.
pub const LONGEST: Duration = Duration::from_secs(60);

/// How long a process may take to make a profile of what was sampled, and tell it: finding names takes a while.
pub const PROFILE_TIMEOUT: Duration = Duration::from_secs(20);

/// Bounds of what is told: different stacks, bytes of all, frames of a stack, characters of a name.
const MOST_STACKS: usize = 4_000;
const MOST_BYTES: usize = 8 << 20;
const DEEPEST: usize = 160;
const LONGEST_NAME: usize = 200;

/// Samples this process.
///
/// # Errors
/// It is being sampled already, or the system has no such timer.
pub async fn sample(duration: Duration) -> Answer<Profile> {
    let unsampled = |error: pprof::Error| format!("the process cannot be sampled: {error}");
    let guard = pprof::ProfilerGuardBuilder::default()
        .frequency(FREQUENCY)
        .blocklist(&["libc", "libgcc", "pthread", "vdso"])
        .build()
        .map_err(unsampled)?;
    tokio::time::sleep(duration.min(LONGEST)).await;
    let resolve = move || -> Answer<Profile> {
        let report = guard.report().build().map_err(unsampled)?;
        let mut stacks: HashMap<Vec<String>, u64> = HashMap::new();
        for (frames, count) in report.data {
            let names = frames.frames.iter().rev().flat_map(|inlined| inlined.iter().rev());
            let stack = names.map(|symbol| short(&symbol.name())).take(DEEPEST).collect();
            *stacks.entry(stack).or_default() += u64::try_from(count).unwrap_or_default();
        }
        let mut stacks: Vec<_> = stacks.into_iter().collect();
        stacks.sort_by(|a, b| (b.1, &a.0).cmp(&(a.1, &b.0)));
        let mut left = MOST_BYTES;
        let fits = |(stack, _): &&(Vec<String>, u64)| {
            let bytes: usize = stack.iter().map(String::len).sum();
            left = left.saturating_sub(bytes);
            left > 0
        };
        let whole = stacks.iter().take(MOST_STACKS).take_while(fits).count();
        stacks.truncate(whole);
        Ok(Profile { at: Clock::new().now(), stacks })
    };
    tokio::task::spawn_blocking(resolve).await.unwrap_or_else(|error| Err(error.to_string()))
}

/// A function's name without the hash that the compiler adds, and not too long.
fn short(name: &str) -> String {
    let base = match name.rsplit_once("::h") {
        Some((base, hash)) if hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit()) => base,
        _ => name,
    };
    base.chars().take(LONGEST_NAME).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hint::black_box;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    #[inline(never)]
    fn spins_on_purpose(until: &AtomicBool) -> u64 {
        let mut sum = 0u64;
        while !until.load(Relaxed) {
            sum = black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        sum
    }

    #[tokio::test]
    async fn what_a_process_does_is_seen() {
        let is_over = Arc::new(AtomicBool::new(false));
        let thread = {
            let is_over = Arc::clone(&is_over);
            #[allow(clippy::disallowed_methods, reason = "a thread that spins is what is to be seen")]
            std::thread::spawn(move || spins_on_purpose(&is_over))
        };
        let profile = sample(Duration::from_millis(400)).await.unwrap();
        is_over.store(true, Relaxed);
        thread.join().unwrap();
        let seen = |(stack, count): &(Vec<String>, u64)| {
            if stack.iter().any(|name| name.contains("spins_on_purpose")) { *count } else { 0 }
        };
        assert!(profile.stacks.iter().map(seen).sum::<u64>() > 5, "{profile:?}");
    }

    #[test]
    fn names_are_told_without_hashes() {
        assert_eq!(short("a::b::h0123456789abcdef"), "a::b");
        assert_eq!(short("a::height"), "a::height");
        assert_eq!(short(&"x".repeat(1_000)).len(), LONGEST_NAME);
    }
}
