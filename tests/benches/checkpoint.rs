//! Checkpoints of much state while the job runs at full speed: counts for 10,000,000 keys, of which 1 % change between two
//! checkpoints. Speeds are of the source, which is never far ahead of the counts.

use crate::{Outcome, mix, round};
use hurtig::prelude::*;
use hurtig::{Cluster, configured};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Checkpoints that are measured, beside the first one, which holds everything.
const CHECKPOINTS: usize = 20;
/// Of so many keys one changes.
const CHANGED: u64 = 100;
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

/// A checkpoint as it was seen from outside.
struct Seen {
    began: Instant,
    ended: Instant,
    written_bytes: u64,
    synchronous_us: u64,
}

pub(crate) fn run(mut config: Config, keys: u64) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    config.checkpoint.interval = Some(config.checkpoint.interval.unwrap_or(Duration::from_secs(3)));
    config.checkpoint.dir = Some(folder.path().to_path_buf());
    let made = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&made);
    let env = Environment::new();
    let source = GeneratorSource::new(move |index| {
        // Not for each, for the sake of speed.
        if index % 512 < 2 {
            counter.fetch_add(256, Ordering::Relaxed);
        }
        if index < keys { index } else { mix(index) % (keys / CHANGED) * CHANGED }
    });
    env.generate(source, WatermarkStrategy::none()).key_by(|key| *key).count().discard();
    let runtime = hurtig::runtime()?;
    let config = configured(&env, &config);
    let (samples, seen, slices) = runtime.block_on(async {
        let cluster = Cluster::start(&config).await?;
        let job = cluster.submit("checkpoint", &env.graph(), &config).await?;
        let (mut samples, mut seen, mut last) = (Vec::new(), Vec::new(), 0);
        while seen.len() <= CHECKPOINTS {
            tokio::time::sleep(SAMPLE_EVERY).await;
            let (now, made) = (Instant::now(), made.load(Ordering::Relaxed));
            samples.push((now, made));
            let status = job.status();
            anyhow::ensure!(!status.state.is_terminal(), "the job ended: {:?}", status.failure);
            let Some(report) = status.last_checkpoint.filter(|report| report.id != last) else { continue };
            last = report.id;
            let began = now - Duration::from_millis(report.duration_ms as u64);
            // Counted from the first one that holds all keys.
            let is_loaded = samples.iter().any(|(at, made)| *at < began && *made >= keys + keys / 10);
            if is_loaded {
                let (written_bytes, synchronous_us) = (report.written_bytes, report.synchronous_us);
                seen.push(Seen { began, ended: now, written_bytes, synchronous_us });
            }
        }
        let reports = job.status().subtasks;
        let slices = reports.values().map(|report| report.slowest_slice_us).max().unwrap_or(0);
        job.cancel()?;
        // It says that it was cancelled, as it should.
        let _ = job.wait().await;
        cluster.shutdown().await;
        Ok::<_, anyhow::Error>((samples, seen, slices))
    })?;
    // The last subtask's base may be one later than the first's.
    let most = seen.iter().map(|seen| seen.written_bytes).max().unwrap_or(0);
    let (bases, deltas): (Vec<&Seen>, Vec<&Seen>) =
        seen.iter().partition(|seen| seen.written_bytes > most / 4);
    let speed = |is_within: &dyn Fn(Instant) -> bool| {
        let (mut records, mut seconds) = (0, 0.0);
        for pair in samples.windows(2) {
            let [(from, before), (to, after)] = pair else { continue };
            if is_within(*from) && is_within(*to) {
                records += after - before;
                seconds += to.duration_since(*from).as_secs_f64();
            }
        }
        if seconds > 0.0 { records as f64 / seconds } else { 0.0 }
    };
    let start = seen.first().map_or_else(Instant::now, |seen| seen.began);
    let in_one = |of: &[&Seen], at: Instant| of.iter().any(|seen| (seen.began..=seen.ended).contains(&at));
    let outside = speed(&|at| at >= start && !in_one(&bases, at) && !in_one(&deltas, at));
    let mut synchronous: Vec<u64> = seen.iter().map(|seen| seen.synchronous_us).collect();
    synchronous.sort_unstable();
    let p99 = synchronous.get((synchronous.len() * 99).div_ceil(100).saturating_sub(1)).copied().unwrap_or(0);
    let mut extra = serde_json::Map::new();
    let mut tell = |name: &str, value: f64| drop(extra.insert(name.into(), round(value, 3).into()));
    tell("keys", keys as f64);
    tell("synchronous_p99_ms", p99 as f64 / 1e3);
    tell("synchronous_max_ms", synchronous.last().copied().unwrap_or(0) as f64 / 1e3);
    tell("slowest_slice_ms", slices as f64 / 1e3);
    tell("records_per_s_outside", outside.round());
    for (name, of) in [("delta", &deltas), ("base", &bases)] {
        let count = of.len().max(1) as f64;
        let during = speed(&|at| at >= start && in_one(of, at));
        let lasted: f64 = of.iter().map(|seen| (seen.ended - seen.began).as_secs_f64()).sum();
        tell(&format!("{name}s"), of.len() as f64);
        tell(
            &format!("{name}_mb"),
            of.iter().map(|seen| seen.written_bytes).sum::<u64>() as f64 / count / 1e6,
        );
        tell(&format!("{name}_s"), lasted / count);
        tell(&format!("records_per_s_during_{name}"), during.round());
        tell(&format!("speed_during_{name}"), during / outside.max(1.0));
    }
    let records = samples.last().map_or(0, |(_, made)| *made);
    Ok(Outcome { records, extra })
}
