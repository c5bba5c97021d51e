//! The jobs of the benchmarks, without what is done with their results.

pub mod text;
pub mod ysb;

use hurtig::prelude::*;
use std::fmt::Debug;
use std::path::Path;
use std::time::Duration;

/// Spreads numbers over 64 bits (the finaliser of SplitMix64).
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The running count of each word of a text.
pub fn word_count(env: &Environment, text: &Path) -> DataStream<impl Record + Debug> {
    env.from_source(FileSource::text(text), WatermarkStrategy::none(), "text")
        .flat_map(|line: String, out: &mut Collector<'_, compact_str::CompactString>| {
            hurtig::formats::for_each_word(&line, |word| out.emit(compact_str::CompactString::new(word)));
        })
        .key_by_ref(|word| word)
        .count()
}

/// Events of so many keys, counted by key in tumbling windows of 10 s.
pub fn window(env: &Environment, records: u64, keys: u64) -> DataStream<impl Record + Debug> {
    let event = move |index| (mix(index) % keys, (index / 1_000) as i64);
    let event_time = WatermarkStrategy::monotonous().with_timestamps(|event: &(u64, i64)| event.1);
    env.generate(GeneratorSource::new(event).with_count(records), event_time)
        .key_by(|event| event.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
        .count()
}

/// Numbers, each changed five times.
pub fn chain(env: &Environment, records: u64) -> DataStream<u64> {
    env.from_range(0..records)
        .map(|n| n.wrapping_mul(3))
        .map(|n| n ^ 0x5555)
        .map(|n| n.rotate_left(7))
        .map(|n| n.wrapping_add(11))
        .map(|n| n >> 1)
}

/// Numbers, brought to the subtasks of their hashes.
pub fn exchange(env: &Environment, records: u64) -> DataStream<u64> {
    env.from_range(0..records).key_by(|n| *n).as_stream()
}
