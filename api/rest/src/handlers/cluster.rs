//! The cluster as a whole: overview, configuration, TaskManagers.

use crate::app::Shared;
use crate::error::{ApiError, Result};
use crate::view::{View, job_state};
use axum::extract::Path;
use hurtig_runtime::JobState;
use hurtig_runtime::protocol::TaskManagerSummary;
use serde_json::{Value, json};

/// The version that is told to tools that ask for one.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// GET `/overview`.
pub async fn overview(app: Shared) -> Result {
    let (overview, jobs) = (app.client.overview().await?, app.client.list().await?);
    let slots: usize = overview.task_managers.iter().map(|manager| manager.slots).sum();
    let used: usize = overview.task_managers.iter().map(|manager| manager.used).sum();
    let count = |holds: fn(JobState) -> bool| jobs.iter().filter(|job| holds(job.state)).count();
    let answer = json!({
        "taskmanagers": overview.task_managers.len(),
        "slots-total": slots,
        "slots-available": slots - used,
        "jobs-running": count(|state| !state.is_terminal()),
        "jobs-finished": count(|state| state == JobState::Finished),
        "jobs-cancelled": count(|state| state == JobState::Cancelled),
        "jobs-failed": count(|state| state == JobState::Failed),
        "flink-version": VERSION,
        "flink-commit": "hurtig",
    });
    Ok(answer.into())
}

/// GET `/config`.
pub async fn config(app: Shared) -> Result {
    let answer = json!({
        "refresh-interval": 3000,
        "timezone-name": "Coordinated Universal Time",
        "timezone-offset": 0,
        "flink-version": VERSION,
        "flink-revision": "hurtig",
        "features": {
            "web-submit": !app.is_embedded,
            "web-cancel": true,
            "web-rescale": false,
            "web-history": false,
        },
    });
    Ok(answer.into())
}

/// GET `/jobmanager/config`.
pub async fn jobmanager_config(app: Shared) -> Result {
    let set = app.client.config().await?;
    let rows: Vec<Value> =
        set.into_iter().map(|(key, value)| json!({ "key": key, "value": shown(&key, value) })).collect();
    Ok(Value::from(rows).into())
}

/// A value, unless it is one of those that nobody is to see.
pub fn shown(key: &str, value: String) -> String {
    let secret = ["password", "secret", "token", "private-key"];
    if secret.iter().any(|word| key.contains(word)) { "******".into() } else { value }
}

/// GET `/jobmanager/environment`.
pub async fn jobmanager_environment(_: Shared) -> Result {
    Ok(json!({ "environment": [], "jvm": { "version": "", "arch": std::env::consts::ARCH, "options": [] }, "classpath": [] }).into())
}

/// GET `/taskmanagers`.
pub async fn taskmanagers(app: Shared) -> Result {
    let (overview, views) = (app.client.overview().await?, app.views().await?);
    let rows: Vec<Value> = overview
        .task_managers
        .iter()
        .map(|manager| taskmanager_row(manager, &views, app.clock.now()))
        .collect();
    Ok(json!({ "taskmanagers": rows }).into())
}

/// GET `/taskmanagers/:id`.
pub async fn taskmanager(app: Shared, Path(id): Path<String>) -> Result {
    let (overview, views) = (app.client.overview().await?, app.views().await?);
    let manager = overview.task_managers.iter().find(|manager| manager.name == id);
    let manager = manager.ok_or_else(|| ApiError::not_found(format!("there is no TaskManager '{id}'")))?;
    let mut row = taskmanager_row(manager, &views, app.clock.now());
    let slots: Vec<Value> = manager
        .workers
        .iter()
        .map(|(job, _)| {
            json!({ "jobId": job.to_string(), "resource": resource(manager, 1), "assignedTasks": tasks_of(manager, &views, Some(*job)) })
        })
        .collect();
    row["allocatedSlots"] = slots.into();
    row["metrics"] = memory_metrics();
    Ok(row.into())
}

fn tasks_of(manager: &TaskManagerSummary, views: &[View], job: Option<hurtig_dataflow::ids::JobId>) -> usize {
    let of_job = views.iter().filter(|view| job.is_none_or(|job| view.job.status.id == job));
    let subtasks = of_job.flat_map(|view| view.job.seen.subtasks.values());
    let here = subtasks.filter(|subtask| {
        !subtask.state().is_end() && manager.workers.iter().any(|(_, worker)| *worker == subtask.worker)
    });
    here.count()
}

fn taskmanager_row(manager: &TaskManagerSummary, views: &[View], now: i64) -> Value {
    let free = manager.slots - manager.used;
    let memory = manager.hardware.memory_bytes;
    json!({
        "id": manager.name,
        "path": manager.address,
        "dataPort": -1,
        "jmxPort": -1,
        "timeSinceLastHeartbeat": now,
        "slotsNumber": manager.slots,
        "freeSlots": free,
        "assignedTasks": tasks_of(manager, views, None),
        "totalResource": resource(manager, manager.slots),
        "freeResource": resource(manager, free),
        "hardware": {
            "cpuCores": manager.hardware.cores,
            "physicalMemory": memory,
            "freeMemory": 0,
            "managedMemory": 0,
        },
        "memoryConfiguration": {
            "frameworkHeap": 0, "taskHeap": 0, "frameworkOffHeap": 0, "taskOffHeap": 0, "networkMemory": 0,
            "managedMemory": 0, "jvmMetaspace": 0, "jvmOverhead": 0, "totalFlinkMemory": 0,
            "totalProcessMemory": memory,
        },
    })
}

/// What a number of a TaskManager's slots stands for.
fn resource(manager: &TaskManagerSummary, slots: usize) -> Value {
    let share = slots as f64 / manager.slots.max(1) as f64;
    json!({
        "cpuCores": manager.hardware.cores as f64 * share,
        "taskHeapMemory": (manager.hardware.memory_bytes as f64 * share) as u64 >> 20,
        "taskOffHeapMemory": 0, "managedMemory": 0, "networkMemory": 0, "extendedResources": {},
    })
}

/// Fields that a process without a virtual machine has no numbers for.
fn memory_metrics() -> Value {
    let names = [
        "heapUsed",
        "heapCommitted",
        "heapMax",
        "nonHeapUsed",
        "nonHeapCommitted",
        "nonHeapMax",
        "directCount",
        "directUsed",
        "directMax",
        "mappedCount",
        "mappedUsed",
        "mappedMax",
        "nettyShuffleMemorySegmentsAvailable",
        "nettyShuffleMemorySegmentsUsed",
        "nettyShuffleMemorySegmentsTotal",
        "nettyShuffleMemoryAvailable",
        "nettyShuffleMemoryUsed",
        "nettyShuffleMemoryTotal",
    ];
    let mut metrics: serde_json::Map<String, Value> =
        names.into_iter().map(|name| (name.to_string(), 0.into())).collect();
    metrics.insert("garbageCollectors".into(), json!([{ "name": "All", "count": 0, "time": 0 }]));
    metrics.into()
}

/// GET `/applications/overview`.
pub async fn applications(app: Shared) -> Result {
    let rows: Vec<Value> = app
        .client
        .list()
        .await?
        .into_iter()
        .map(|job| {
            let state = job_state(job.state);
            json!({
                "id": job.id.to_string(),
                "name": job.name,
                "start-time": job.started_at,
                "end-time": job.ended_at.unwrap_or(-1),
                "duration": job.ended_at.unwrap_or(app.clock.now()) - job.started_at,
                "status": state,
                "jobs": { state: 1 },
            })
        })
        .collect();
    Ok(json!({ "applications": rows }).into())
}
