//! Counts of many keys that are looked up at random, with room for all of them in memory and with room for a tenth.

use crate::{Outcome, execute, mix, round};
use hurtig::config::ByteSize;
use hurtig::dataflow::state::SpillCounts;
use hurtig::prelude::*;

/// Look-ups for each key, after the one that makes it.
const ROUNDS: u64 = 1;

/// Bytes that a key's count takes in memory: a tenth of that for each is the limit of `state-spill`.
const BYTES_PER_KEY: u64 = 40;

pub(crate) fn run(mut config: Config, keys: u64, spills: bool) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    if spills {
        config.state.memory.get_or_insert(ByteSize(keys * BYTES_PER_KEY / 10));
        config.state.spill_dir.get_or_insert_with(|| folder.path().to_path_buf());
    }
    let records = keys * (1 + ROUNDS);
    let env = Environment::new();
    let source = GeneratorSource::new(move |index| if index < keys { index } else { mix(index) % keys })
        .with_count(records);
    env.generate(source, WatermarkStrategy::none()).key_by(|key| *key).count().discard();
    let status = execute("state", &env, &config)?;
    let mut spilled = SpillCounts::default();
    status.subtasks.values().filter_map(|report| report.spill).for_each(|counts| spilled.add(counts));
    let mut extra = serde_json::Map::new();
    let mut tell = |name: &str, value: f64| drop(extra.insert(name.into(), round(value, 3).into()));
    tell("keys", keys as f64);
    if spills {
        tell("memory_mb", spilled.memory_bytes as f64 / 1e6);
        tell("cold_mb", spilled.cold_bytes as f64 / 1e6);
        tell("written_mb", spilled.written_bytes as f64 / 1e6);
        tell("read_mb", spilled.read_bytes as f64 / 1e6);
        tell("hit_ratio", 1.0 - spilled.misses as f64 / records as f64);
    }
    Ok(Outcome { records, extra })
}
