//! Records metrics through the facade, with the labels that Flink gives them.

use super::names::{CLUSTER, JOB, Kind, Metric, TASK};
use super::registry::Reading;
use super::sight::{ClusterSight, JobSight, Sight, TaskSight};
use crate::protocol::Observed;
use hurtig_dataflow::Timestamp;
use metrics::{Key, Label, Level, Metadata, Recorder};

const METADATA: Metadata<'static> = Metadata::new("hurtig", Level::INFO, None);

/// What the names of users' metrics begin with.
const USERS: &str = "flink_taskmanager_job_task_operator";

/// Records the metrics of the cluster.
pub fn cluster(into: &dyn Recorder, sight: &ClusterSight<'_>) {
    record(into, "jobmanager", CLUSTER, sight, &[Label::new("host", "jobmanager")]);
}

/// Records the metrics of a job and of its subtasks.
pub fn job(into: &dyn Recorder, job: &Observed, now: Timestamp) {
    let of_job = vec![
        Label::new("job_id", job.status.id.to_string()),
        Label::new("job_name", job.status.name.clone()),
    ];
    record(into, "jobmanager_job", JOB, &JobSight { job, now }, &of_job);
    for (id, seen) in &job.seen.subtasks {
        let Some(vertex) = job.graph.vertices.get(id.vertex) else { continue };
        let manager = job.placed.get(&seen.worker).cloned().unwrap_or_else(|| "embedded-1".into());
        let address = job.seen.workers.get(&seen.worker);
        let host = address.and_then(|address| address.rsplit_once(':')).map_or("localhost", |(host, _)| host);
        let mut labels = of_job.clone();
        labels.extend([
            Label::new("task_id", id.vertex.to_string()),
            Label::new("task_name", vertex.name.clone()),
            Label::new("subtask_index", id.index.to_string()),
            Label::new("task_attempt_num", seen.attempt.0.saturating_sub(1).to_string()),
            Label::new("tm_id", manager),
            Label::new("host", host.to_string()),
        ]);
        record(
            into,
            "taskmanager_job_task",
            TASK,
            &TaskSight { seen, rates: seen.rates_at(now), now },
            &labels,
        );
        users(into, &seen.report.users, &labels);
    }
}

/// Records what users' functions have recorded, under the name that Flink gives metrics of operators.
fn users(into: &dyn Recorder, readings: &[Reading], of_task: &[Label]) {
    for Reading { name, labels, value, is_counter } in readings.iter().filter(|read| read.value.is_finite()) {
        // No name of a label may come twice.
        let own = |key: &str| match of_task.iter().any(|label| label.key() == key) {
            true => format!("user_{key}"),
            false => key.to_string(),
        };
        let labels = labels.iter().map(|(key, value)| Label::new(own(key), value.clone()));
        let labels: Vec<_> = of_task.iter().cloned().chain(labels).collect();
        let key = Key::from_parts(format!("{USERS}_{name}"), labels);
        if *is_counter {
            into.register_counter(&key, &METADATA).absolute(*value as u64);
        } else {
            into.register_gauge(&key, &METADATA).set(*value);
        }
    }
}

fn record<S: Sight>(
    into: &dyn Recorder,
    scope: &str,
    list: &[Metric<S>],
    sight: &S::At<'_>,
    labels: &[Label],
) {
    for metric in list {
        let prefix = if metric.is_flinks { "flink" } else { "hurtig" };
        let name = format!("{prefix}_{scope}_{}", metric.name);
        let key = Key::from_parts(name.clone(), labels.to_vec());
        let value = (metric.of)(sight);
        match metric.kind {
            Kind::Counter => {
                into.describe_counter(name.into(), None, metric.meaning.into());
                into.register_counter(&key, &METADATA).absolute(value as u64);
            }
            Kind::Gauge => {
                into.describe_gauge(name.into(), None, metric.meaning.into());
                into.register_gauge(&key, &METADATA).set(value);
            }
        }
    }
}
