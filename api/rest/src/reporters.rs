//! Sends metrics to other systems, from time to time: StatsD by UDP, Graphite by TCP, OpenTelemetry by HTTP, or the log.
//! Prometheus fetches them itself.

mod otlp;

use crate::app::views;
use crate::error::{ApiError, Result};
use hurtig_runtime::Config;
use hurtig_runtime::clock::Clock;
use hurtig_runtime::daemon::client::ClusterClient;
use hurtig_runtime::metrics::record;
use hurtig_runtime::metrics::registry::{Reading, Registry};
use hurtig_runtime::metrics::sight::ClusterSight;
use hurtig_runtime::tasks::Tasks;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UdpSocket};

/// Bytes of a packet that no network cuts.
const PACKET_BYTES: usize = 1_400;

/// How long a receiver may take.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Labels that tell things apart, in the order in which they stand in names that have no labels.
const TELLING: [&str; 4] = ["job_name", "task_name", "subtask_index", "tm_id"];

/// Records what is known of a cluster and of its jobs that have not ended.
///
/// # Errors
/// The JobManager does not answer.
pub async fn gather(client: &ClusterClient, clock: &Clock, registry: &Registry) -> Result<()> {
    let (overview, jobs) = (client.overview().await?, client.list().await?);
    record::cluster(registry, &ClusterSight { overview: &overview, jobs: &jobs });
    let running = jobs.into_iter().filter(|job| !job.state.is_terminal()).collect();
    for view in views(client, clock, running).await {
        record::job(registry, &view.job, view.now);
    }
    Ok(())
}

/// Sends as long as it lives.
pub struct Reporters(#[expect(dead_code, reason = "ends what it has begun when it is dropped")] Tasks);

impl Reporters {
    /// Starts those that the configuration names.
    pub fn start(client: ClusterClient, config: &Config) -> Self {
        let (tasks, client) = (Tasks::default(), Arc::new(client));
        let metrics = &config.metrics;
        let log = metrics.log.then(|| "the log".to_string());
        for (address, receiver) in [
            (&metrics.statsd, Receiver::StatsD),
            (&metrics.graphite, Receiver::Graphite),
            (&metrics.otlp, Receiver::Otlp),
            (&log, Receiver::Log),
        ] {
            if let Some(address) = address.clone() {
                tasks.spawn(report(Arc::clone(&client), receiver, address, metrics.interval));
            }
        }
        Reporters(tasks)
    }
}

#[derive(Clone, Copy, Debug)]
enum Receiver {
    StatsD,
    Graphite,
    Otlp,
    Log,
}

async fn report(client: Arc<ClusterClient>, receiver: Receiver, address: String, interval: Duration) {
    let (clock, mut was_good) = (Clock::new(), true);
    loop {
        tokio::time::sleep(interval).await;
        let registry = Registry::default();
        let sent = match gather(&client, &clock, &registry).await {
            Ok(()) => {
                let readings = registry.readings();
                let sending = send(receiver, &address, &readings, clock.now());
                let sent = tokio::time::timeout(SEND_TIMEOUT, sending).await;
                sent.unwrap_or_else(|late| Err(late.into())).map_err(|error| error.to_string())
            }
            Err(ApiError { sentence, .. }) => Err(sentence),
        };
        // Told when it changes, not each time.
        match &sent {
            Err(reason) if was_good => tracing::warn!("no metrics for {receiver:?} at {address}: {reason}"),
            Ok(()) if !was_good => tracing::info!("metrics for {receiver:?} at {address} again"),
            _ => {}
        }
        was_good = sent.is_ok();
    }
}

async fn send(receiver: Receiver, address: &str, readings: &[Reading], now: i64) -> io::Result<()> {
    match receiver {
        Receiver::StatsD => {
            let socket = UdpSocket::bind("0.0.0.0:0").await?;
            socket.connect(address).await?;
            for packet in packets(readings.iter().map(statsd_line)) {
                socket.send(packet.as_bytes()).await?;
            }
            Ok(())
        }
        Receiver::Graphite => {
            let text: String = readings.iter().map(|reading| graphite_line(reading, now / 1_000)).collect();
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await
        }
        Receiver::Otlp => otlp::send(address, readings, now).await,
        Receiver::Log => {
            for reading in readings {
                tracing::info!(target: "metrics", "{} {}", path(reading), reading.value);
            }
            Ok(())
        }
    }
}

/// Lines, as many as fit into each packet.
fn packets(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    for line in lines {
        match packets.last_mut() {
            Some(last) if last.len() + line.len() < PACKET_BYTES => {
                last.push('\n');
                last.push_str(&line);
            }
            _ => packets.push(line),
        }
    }
    packets
}

/// The name with the labels that tell things apart in it, before its last part.
fn path(reading: &Reading) -> String {
    let clean = |text: &str| -> String {
        text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
    };
    let (scope, last) = reading.name.rsplit_once('_').unwrap_or(("", &reading.name));
    let mut parts: Vec<String> = scope.split('_').map(str::to_string).collect();
    for telling in TELLING {
        let label = reading.labels.iter().find(|(key, _)| key == telling);
        parts.extend(label.map(|(_, value)| clean(value)));
    }
    parts.push(last.to_string());
    parts.retain(|part| !part.is_empty());
    parts.join(".")
}

/// Counters go as gauges, as Flink sends them: their value is of an attempt, and StatsD adds up what comes as a counter.
fn statsd_line(reading: &Reading) -> String {
    format!("{}:{}|g", path(reading), reading.value)
}

fn graphite_line(reading: &Reading, seconds: i64) -> String {
    format!("{} {} {seconds}\n", path(reading), reading.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(index: usize) -> Reading {
        let labels = [("job_name", "word count"), ("task_name", "map -> sink"), ("host", "h")];
        let mut labels: Vec<(String, String)> =
            labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        labels.push(("subtask_index".into(), index.to_string()));
        let name = "flink_taskmanager_job_task_numRecordsIn".to_string();
        Reading { name, labels, value: 12.5, is_counter: false }
    }

    #[test]
    fn names_without_labels_tell_subtasks_apart() {
        let expected = "flink.taskmanager.job.task.word_count.map_-__sink.0.numRecordsIn";
        assert_eq!(statsd_line(&reading(0)), format!("{expected}:12.5|g"));
        assert_eq!(graphite_line(&reading(0), 77), format!("{expected} 12.5 77\n"));
    }

    #[test]
    fn packets_hold_whole_lines_and_are_short() {
        let packets = packets((0..100).map(|index| statsd_line(&reading(index))));
        assert!(packets.len() > 1 && packets.iter().all(|packet| packet.len() <= PACKET_BYTES));
        assert_eq!(packets.iter().map(|packet| packet.lines().count()).sum::<usize>(), 100);
    }
}
