//! Flame graphs: where workers spend their time.

use crate::app::{App, Shared};
use crate::error::{ApiError, Result};
use crate::view::View;
use axum::extract::Path;
use hurtig_runtime::protocol::Profile;
use hurtig_runtime::worker::links::WorkerId;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How long a worker is sampled for whoever asks now and then.
const SHORT: Duration = Duration::from_secs(1);

/// A profile that is younger is answered again, in milliseconds: a page that is open must not have its worker sampled
/// all the time.
const FRESH_MS: i64 = 10_000;

/// Calls within one another that are told: readers of JSON go no deeper than 128, of which each takes two.
const DEEPEST: usize = 60;

/// Part of the name of the function in which every thread begins; those that have called it say nothing.
const THREAD_BEGINS: &str = "__rust_begin_short_backtrace";

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
            let begins = stack.iter().rposition(|name| name.contains(THREAD_BEGINS)).map_or(0, |at| at + 1);
            for name in stack[begins..].iter().take(DEEPEST) {
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
    let job = view.job.status.id;
    let known = {
        let mut all = app.profiles.lock();
        // What nobody waits for is made anew if it is asked for.
        all.retain(|key, known| *key == (job, worker) || Arc::strong_count(known) > 1);
        Arc::clone(all.entry((job, worker)).or_default())
    };
    // Held while the worker is sampled: whoever else asks waits for what is found.
    let mut known = known.lock().await;
    if let Some((at, profile)) = &*known
        && app.clock.now() - at < FRESH_MS
    {
        return Ok(profile.clone());
    }
    let profile = app.client.profile(job, worker, duration).await?;
    *known = Some((app.clock.now(), profile.clone()));
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
    let sampled = workers.into_iter().map(|worker| sample(&app, &view, worker, SHORT));
    let mut sampled = futures::future::join_all(sampled).await;
    // One that is just lost does not hide the others.
    if sampled.iter().any(Result::is_ok) {
        sampled.retain(Result::is_ok);
    }
    let profiles = sampled.into_iter().collect::<Result<Vec<_>>>()?;
    let ended = profiles.iter().map(|profile| profile.at).max();
    Ok(json!({ "endTimestamp": ended, "data": Node::of(&profiles).as_json("root") }).into())
}
