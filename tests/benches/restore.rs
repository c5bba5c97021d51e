//! How fast a job gets its state back: it is stopped with a savepoint, and starts from it.

use crate::{Outcome, mix, round, usage};
use hurtig::prelude::*;
use hurtig::{Cluster, configured};
use std::time::{Duration, Instant};

/// Eight bytes of key, and so many numbers beside it, which do not compress.
const NUMBERS: usize = 11;
const ROW_BYTES: u64 = 8 * (1 + NUMBERS as u64);

type Row = (u64, [u64; NUMBERS]);

fn row(key: u64) -> Row {
    let mut seed = key;
    (
        key,
        std::array::from_fn(|_| {
            seed = mix(seed);
            seed
        }),
    )
}

pub(crate) fn run(mut config: Config, rows: u64) -> anyhow::Result<Outcome> {
    let folder = tempfile::tempdir()?;
    config.checkpoint.dir = Some(folder.path().join("checkpoints"));
    let env = Environment::new();
    // It does not end, so that there is something to be stopped.
    let source = GeneratorSource::new(move |index| row(index % rows));
    let stream = env.generate(source, WatermarkStrategy::none()).uid("rows");
    stream.key_by(|row| row.0).reduce(|_, newer| newer).uid("newest").discard();
    let runtime = hurtig::runtime()?;
    let mut config = configured(&env, &config);
    let (savepoint, bytes, wall_s, cpu_s) = runtime.block_on(async {
        let cluster = Cluster::start(&config).await?;
        let job = cluster.submit("restore", &env.graph(), &config).await?;
        let has_all = |status: &hurtig::JobStatus| {
            let readers = status.subtasks.iter().filter(|(id, _)| id.vertex == 1);
            readers.map(|(_, report)| report.records_in()).sum::<u64>() > rows
        };
        job.wait_until(has_all).await?;
        let target = folder.path().join("savepoints");
        let savepoint = job.stop(target.to_str()).await?;
        let bytes = job.status().last_savepoint.map_or(0, |report| report.bytes);
        cluster.shutdown().await;
        config.restore.from = Some(savepoint.clone().into());
        let cluster = Cluster::start(&config).await?;
        let (began, before) = (Instant::now(), usage::cpu_seconds()?);
        let job = cluster.submit("restore", &env.graph(), &config).await?;
        let status = job.wait_until(|status| status.state == JobState::Running).await?;
        let (wall, cpu) = (began.elapsed(), usage::cpu_seconds()? - before);
        anyhow::ensure!(status.state == JobState::Running, "the job ended: {:?}", status.failure);
        job.cancel()?;
        // It says that it was cancelled, as it should.
        let _ = tokio::time::timeout(Duration::from_secs(60), job.wait()).await;
        cluster.shutdown().await;
        Ok::<_, anyhow::Error>((savepoint, bytes, wall.as_secs_f64(), cpu))
    })?;
    eprintln!("  restored from {savepoint}");
    let state_mb = (rows * ROW_BYTES) as f64 / 1e6;
    let mut extra = serde_json::Map::new();
    let mut tell = |name: &str, value: f64| drop(extra.insert(name.into(), round(value, 3).into()));
    tell("state_mb", state_mb);
    tell("stored_mb", bytes as f64 / 1e6);
    tell("restore_s", wall_s);
    tell("restore_cpu_s", cpu_s);
    tell("mb_per_s", state_mb / wall_s);
    tell("mb_per_cpu_s", state_mb / cpu_s);
    Ok(Outcome { records: rows, extra })
}
