//! Flame graphs: where workers spend their time.

use crate::app::{App, Shared};
use crate::error::{ApiError, Result};
use crate::view::View;
use axum::extract::Path;
use hurtig_runtime::protocol::Profile;
use hurtig_runtime::worker::links::WorkerId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How long a worker is sampled for whoever asks now and then.
const SHORT: Duration = Duration::from_secs(1);

/// A profile that is younger is answered again, in milliseconds: a page that is open must not have its worker sampled
/// all the time.
const FRESH_MS: i64 = 10_000;

/// A function, how often it was met in a stack, and what it has called.
#[derive(Debug, Default)]
pub struct Node {
    /// How often it was met.
    pub count: u64,
    /// What it has called, by name.
    pub calls: BTreeMap<String, Node>,
}

impl Node {
    /// All stacks of profiles, as a tree.
    pub fn of(profiles: &[Profile]) -> Self {
        let mut root = Node::default();
        for (stack, count) in profiles.iter().flat_map(|profile| &profile.stacks) {
            root.count += count;
            let mut at = &mut root;
            for name in stack {
                at = at.calls.entry(name.clone()).or_default();
                at.count += count;
            }
        }
        root
    }

    fn as_json(&self, name: &str) -> Value {
        let calls = self.calls.iter().map(|(name, node)| node.as_json(name));
        json!({ "name": name, "value": self.count, "children": calls.collect::<Vec<_>>() })
    }
}

/// Where a worker spends its time, as it was found a moment ago or is found now.
///
/// # Errors
/// There is no such worker, or it cannot be sampled.
pub async fn sample(app: &App, view: &View, worker: WorkerId, duration: Duration) -> Result<Profile> {
    let (job, now) = (view.job.status.id, app.clock.now());
    // Held while a worker is sampled: nobody else gets to sample it meanwhile, but waits for what is found.
    let mut known = app.profiles.lock().await;
    known.retain(|_, profile| now - profile.at < FRESH_MS);
    if let Some(profile) = known.get(&(job, worker)) {
        return Ok(profile.clone());
    }
    let profile = app.client.profile(job, worker, duration).await?;
    known.insert((job, worker), profile.clone());
    Ok(profile)
}

/// GET `/jobs/:job/vertices/:vertex/flamegraph`: of the workers that the vertex's subtasks are on, whatever else they run.
pub async fn of_vertex(app: Shared, Path((job, vertex)): Path<(String, String)>) -> Result {
    let view = app.view(&job).await?;
    let at =
        view.vertex(&vertex).ok_or_else(|| ApiError::not_found(format!("job {job} has no such vertex")))?;
    if view.job.status.state.is_terminal() {
        return Ok(json!({ "endTimestamp": null, "data": null }).into());
    }
    let workers: BTreeSet<WorkerId> =
        view.subtasks(at).filter_map(|subtask| Some(subtask.seen?.worker)).collect();
    let mut profiles = Vec::new();
    for worker in workers {
        profiles.push(sample(&app, &view, worker, SHORT).await?);
    }
    let ended = profiles.iter().map(|profile| profile.at).max();
    Ok(json!({ "endTimestamp": ended, "data": Node::of(&profiles).as_json("root") }).into())
}
