//! What an attempt starts from: the newest checkpoint that can be read, or what the user named, or nothing.

use crate::config::Config;
use crate::failure::Failure;
use crate::master::committer::CommitterMessage;
use crate::master::coordinator::{all_committed, committables_by_sink};
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::SubtaskId;
use hurtig_dataflow::snapshot::OperatorSnapshot;
use hurtig_state::{CheckpointMetadata, CheckpointStore, Error, ErrorKind, RestorePlan};
use ractor::ActorRef;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What an attempt starts from.
#[derive(Default)]
pub struct Restored {
    /// The checkpoint, if there is one.
    pub metadata: Option<Arc<CheckpointMetadata>>,
    /// State by subtask, one entry per operator of its chain.
    pub subtasks: HashMap<SubtaskId, Vec<Option<OperatorSnapshot>>>,
    /// State of the split enumerators, by uid of their source.
    pub sources: HashMap<String, Vec<u8>>,
}

/// Reads the newest of the job's completed checkpoints that can be read, or the one that the user named, and has
/// committers publish what it holds.
///
/// # Errors
/// None of them can be read, it does not fit the program, or a sink cannot publish.
pub async fn find(
    store: &CheckpointStore,
    config: &Config,
    graph: &JobGraph,
    completed: Vec<Arc<CheckpointMetadata>>,
    committers: &HashMap<String, ActorRef<CommitterMessage>>,
) -> Result<Restored, Failure> {
    let mut damaged = Vec::new();
    let mut restored = None;
    for metadata in completed.into_iter().rev() {
        match read(store, config, graph, metadata).await {
            Ok(found) => {
                restored = Some(found);
                break;
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                tracing::warn!("checkpoint skipped: {}", describe(&error));
                damaged.push(describe(&error));
            }
            Err(error) => return Err(failure(&error)),
        }
    }
    if let Some(reason) = damaged.first()
        && restored.is_none()
        && config.restore.from.is_none()
    {
        return Err(Failure::of("restore", format!("no checkpoint of the job can be read: {reason}")).fatal());
    }
    if restored.is_none()
        && let Some(from) = &config.restore.from
    {
        let location = from.display().to_string();
        let (store, metadata) = CheckpointStore::load(&location).await.map_err(|error| failure(&error))?;
        let found = read(&store, config, graph, Arc::new(metadata)).await;
        restored = Some(found.map_err(|error| failure(&error))?);
    }
    let restored = restored.unwrap_or_default();
    publish(restored.metadata.as_deref(), committers).await?;
    Ok(restored)
}

fn failure(error: &Error) -> Failure {
    let failure = Failure::of("restore", describe(error));
    if error.kind() == ErrorKind::Retry { failure } else { failure.fatal() }
}

/// The state of all subtasks as of a checkpoint, by its location: for a worker, whose master has chosen it.
///
/// # Errors
/// It cannot be read, or does not fit the program.
pub async fn load(
    location: &str,
    config: &Config,
    graph: &JobGraph,
) -> Result<BTreeMap<SubtaskId, Vec<Option<OperatorSnapshot>>>, Failure> {
    let (store, metadata) = CheckpointStore::load(location).await.map_err(|error| failure(&error))?;
    let restored = read(&store, config, graph, Arc::new(metadata)).await.map_err(|error| failure(&error))?;
    Ok(restored.subtasks.into_iter().collect())
}

async fn read(
    store: &CheckpointStore,
    config: &Config,
    graph: &JobGraph,
    metadata: Arc<CheckpointMetadata>,
) -> Result<Restored, Error> {
    let vertices: Vec<_> = (0..graph.vertices.len()).map(|vertex| graph.operators_of(vertex)).collect();
    let plan =
        RestorePlan::new(&metadata, &vertices, graph.max_parallelism, config.restore.allow_non_restored)?;
    let operators = RestorePlan::load_operators(&metadata, store).await?;
    let mut subtasks = HashMap::new();
    for (vertex, description) in graph.vertices.iter().enumerate() {
        for index in 0..description.parallelism {
            let parts = plan.assign(&operators, &vertices[vertex], index, description.parallelism);
            subtasks.insert(SubtaskId { vertex, index }, parts);
        }
    }
    let sources = metadata.sources.iter().map(|source| (source.uid.clone(), source.bytes.to_vec())).collect();
    Ok(Restored { metadata: Some(metadata), subtasks, sources })
}

async fn publish(
    metadata: Option<&CheckpointMetadata>,
    committers: &HashMap<String, ActorRef<CommitterMessage>>,
) -> Result<(), Failure> {
    let mut sinks = metadata.map(committables_by_sink).unwrap_or_default();
    let mut waiting = Vec::new();
    for (uid, committer) in committers {
        let committables = sinks.remove(uid).unwrap_or_default();
        let (reply, answer) = oneshot::channel();
        let _ = committer.cast(CommitterMessage::Commit { committables, reply });
        waiting.push((uid.clone(), answer));
    }
    all_committed(waiting).await.map_err(|reason| Failure::of("restore", reason))
}
