//! End-to-end latency: the Yahoo job at a fixed rate. Each record is due at a time that its number sets, and its latency
//! is counted from then until it has passed the exchange by key, so a source that falls behind does not look fast.

use crate::{Outcome, execute, round};
use hurtig::prelude::*;
use hurtig_tests::benchmarks::ysb::{Maker, views};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

const RATE: u64 = 100_000;
/// Records of the first seconds are not counted.
const WARM_UP: u64 = 10 * RATE;
/// Buckets of 10 µs, up to 10 s.
const BUCKETS: usize = 1_000_000;

struct Measured {
    start: OnceLock<Instant>,
    buckets: Vec<AtomicU32>,
}

impl Measured {
    fn add(&self, index: u64) {
        let Some(start) = self.start.get() else { return };
        let due = *start + Duration::from_nanos(index * 1_000_000_000 / RATE);
        let late = due.elapsed().as_micros() as usize / 10;
        self.buckets[late.min(BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn percentile_ms(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.buckets.iter().map(|n| u64::from(n.load(Ordering::Relaxed))).collect();
        let rank = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        at.unwrap_or(0) as f64 / 100.0
    }
}

pub(crate) fn run(mut config: Config, records: u64) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    config.checkpoint.interval = Some(Duration::from_secs(1));
    config.checkpoint.dir = Some(folder.path().to_path_buf());
    let measured = Arc::new(Measured {
        start: OnceLock::new(),
        buckets: (0..BUCKETS).map(|_| AtomicU32::new(0)).collect(),
    });
    let (maker, timer) = (Maker::new(), Arc::clone(&measured));
    let env = Environment::new();
    let source = GeneratorSource::new(move |index| {
        timer.start.get_or_init(Instant::now);
        maker.make(index, index as i64)
    })
    .with_count(records)
    .with_rate(RATE as f64);
    let events = env.generate(source, WatermarkStrategy::none());
    let event_time =
        WatermarkStrategy::monotonous().with_timestamps(|view: &(u32, i64)| view.1 * 1_000 / RATE as i64);
    let timer = Arc::clone(&measured);
    views(&events)
        .assign_timestamps_and_watermarks(event_time)
        .key_by(|view| view.0)
        .process(Observe { measured: timer })
        .key_by(|view| view.0)
        .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
        .count()
        .discard();
    let status = execute("latency", &env, &config)?;
    let mut extra = serde_json::Map::new();
    for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("p999_ms", 0.999), ("max_ms", 1.0)] {
        extra.insert(name.into(), round(measured.percentile_ms(share), 2).into());
    }
    extra.insert("checkpoints".into(), status.checkpoints_completed.into());
    let last = status.last_checkpoint.map(|checkpoint| checkpoint.duration_ms);
    extra.insert("last_checkpoint_ms".into(), last.into());
    Ok(Outcome { records, extra })
}

/// Takes the time of each record right after the exchange.
#[derive(Clone)]
struct Observe {
    measured: Arc<Measured>,
}

impl KeyedProcessFunction<u32, (u32, i64)> for Observe {
    type Out = (u32, i64);

    fn process(&mut self, view: (u32, i64), ctx: &mut KeyedContext<'_, u32, (u32, i64)>) -> OpResult {
        let index = view.1 as u64;
        if index >= WARM_UP {
            self.measured.add(index);
        }
        ctx.emit(view);
        Ok(())
    }
}
