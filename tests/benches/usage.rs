//! What this process has used, as the kernel counts it.

use anyhow::Context;

/// A figure as it is shown.
pub(crate) fn round(value: f64, places: i32) -> f64 {
    let scale = 10f64.powi(places);
    (value * scale).round() / scale
}

/// Clock ticks per second in `/proc`, fixed on Linux.
const TICKS: f64 = 100.0;

/// CPU seconds of all threads, user and system.
pub(crate) fn cpu_seconds() -> anyhow::Result<f64> {
    ticks([11, 12])
}

/// The same, with those of child processes that have ended.
pub(crate) fn cpu_seconds_with_children() -> anyhow::Result<f64> {
    ticks([11, 12, 13, 14])
}

/// The sum of fields of this process's line in `/proc`, in seconds.
fn ticks<const N: usize>(fields: [usize; N]) -> anyhow::Result<f64> {
    // Nanoseconds per thread are finer than the ticks of the whole process, but only of threads that still run.
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let line = stat.rsplit_once(')').context("unexpected /proc/self/stat")?.1;
    let found: Vec<&str> = line.split_whitespace().collect();
    let ticks = fields.map(|at| found.get(at).and_then(|field| field.parse::<f64>().ok()));
    let sum: Option<f64> = ticks.into_iter().sum();
    Ok(sum.context("unexpected /proc/self/stat")? / TICKS)
}

/// Largest resident set so far, in MB of 1,000,000 bytes.
pub(crate) fn max_rss_mb() -> anyhow::Result<u64> {
    Ok(status_kib("self", "VmHWM:")? * 1024 / 1_000_000)
}

/// Resident set of a process, in MB of 1,000,000 bytes.
#[allow(dead_code, reason = "shared with the benchmarks of a cluster")]
pub(crate) fn rss_mb(process: u32) -> anyhow::Result<f64> {
    Ok(status_kib(&process.to_string(), "VmRSS:")? as f64 * 1024.0 / 1e6)
}

fn status_kib(process: &str, field: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find(|line| line.starts_with(field));
    let line = line.with_context(|| format!("no {field} in {path}"))?;
    Ok(line.split_whitespace().nth(1).with_context(|| format!("unexpected {field}"))?.parse()?)
}
