//! What an attempt starts from: the newest checkpoint that can be read, or what the user named, or nothing.

use crate::config::Config;
use crate::failure::Failure;
use crate::master::committer::CommitterMessage;
use crate::master::coordinator::{all_committed, committables_by_sink};
use crate::subtask::RestoredSubtask;
use crate::subtask::neighbours::LIMITS;
use crate::worker::handover::Handover;
use hurtig_dataflow::batch::AnyBatch;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::{JobGraph, OperatorId, OperatorInput, Vertex};
use hurtig_dataflow::ids::{CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::partition::{Partitioner, PartitionerPlace, Pattern};
use hurtig_dataflow::snapshot::InFlight;
use hurtig_state::{
    CheckpointMetadata, CheckpointStore, Error, ErrorKind, LocalCopies, RestorePlan, SnapshotHandle,
};
use ractor::ActorRef;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use tokio::sync::oneshot;

/// What an attempt starts from.
#[derive(Default)]
pub struct Restored {
    /// The checkpoint, if there is one.
    pub metadata: Option<Arc<CheckpointMetadata>>,
    /// State by subtask.
    pub subtasks: HashMap<SubtaskId, RestoredSubtask>,
    /// State of the split enumerators, by uid of their source.
    pub sources: HashMap<String, Vec<u8>>,
}

/// Reads the newest of the job's completed checkpoints that can be read, or the one that the user named, with the state of
/// the subtasks wanted, and has committers publish what it holds.
///
/// # Errors
/// None of them can be read, it does not fit the program, or a sink cannot publish.
pub async fn find(
    store: &CheckpointStore,
    config: &Config,
    graph: &JobGraph,
    (job, completed): (JobId, Vec<Arc<CheckpointMetadata>>),
    wanted: &[SubtaskId],
    committers: &HashMap<String, ActorRef<CommitterMessage>>,
) -> Result<Restored, Failure> {
    let mut damaged = Vec::new();
    let mut restored = None;
    for metadata in completed.into_iter().rev() {
        let is_savepoint = metadata.savepoint;
        let found = match is_savepoint {
            false => read(store, config, graph, metadata, job, wanted, None).await,
            true => match CheckpointStore::load(&metadata.location).await {
                Ok((store, metadata)) => {
                    read(&store, config, graph, Arc::new(metadata), job, wanted, None).await
                }
                Err(error) => Err(error),
            },
        };
        match found {
            Ok(found) => {
                restored = Some(found);
                break;
            }
            // What a savepoint holds was published, if the job has stopped with it: an older one would publish it again.
            Err(error)
                if !is_savepoint && matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) =>
            {
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
        let found = read(&store, config, graph, Arc::new(metadata), job, wanted, None).await;
        restored = Some(found.map_err(|error| failure(&error))?);
    }
    let restored = restored.unwrap_or_default();
    publish(restored.metadata.as_deref(), committers).await?;
    Ok(restored)
}

fn failure(error: &Error) -> Failure {
    let failure = unread(error);
    if error.kind() == ErrorKind::Retry { failure } else { failure.fatal() }
}

fn unread(error: &Error) -> Failure {
    Failure::of("restore", describe(error))
}

/// The state of a worker's subtasks as of a checkpoint, by its location: its master has chosen it. What subtasks of the
/// last attempt have left there as of that checkpoint is not read.
///
/// # Errors
/// It cannot be read, or does not fit the program. The master then looks for itself what to do.
pub async fn load(
    location: &str,
    (copies, handover): (Option<LocalCopies>, &Handover),
    config: &Config,
    graph: &JobGraph,
    job: JobId,
    subtasks: &[SubtaskId],
) -> Result<BTreeMap<SubtaskId, RestoredSubtask>, Failure> {
    let (store, metadata) = CheckpointStore::load(location).await.map_err(|error| unread(&error))?;
    let store = store.with_copies(copies);
    let restored = read(&store, config, graph, Arc::new(metadata), job, subtasks, Some(handover)).await;
    let restored = restored.map_err(|error| unread(&error))?;
    Ok(restored.subtasks.into_iter().collect())
}

async fn read(
    store: &CheckpointStore,
    config: &Config,
    graph: &JobGraph,
    metadata: Arc<CheckpointMetadata>,
    job: JobId,
    wanted: &[SubtaskId],
    handover: Option<&Handover>,
) -> Result<Restored, Error> {
    let vertices: Vec<_> = (0..graph.vertices.len()).map(|vertex| graph.operators_of(vertex)).collect();
    let plan =
        RestorePlan::new(&metadata, &vertices, graph.max_parallelism, config.restore.allow_non_restored)?;
    // All at once and first, so that what nobody takes does not lie in memory while files are read.
    let mut left = HashMap::new();
    for id in wanted {
        let parallelism = graph.vertices[id.vertex].parallelism;
        let range = KeyGroupRange::of_subtask(id.index, parallelism, graph.max_parallelism);
        let handover = handover.filter(|_| metadata.job == job && !metadata.savepoint);
        let of_subtask = handover.and_then(|all| all.take(metadata.checkpoint, &vertices[id.vertex], range));
        left.extend(of_subtask.map(|of_subtask| (*id, of_subtask)));
    }
    handover.iter().for_each(|handover| handover.clear());
    let heads = RestorePlan::heads(&metadata, store).await?;
    let mut subtasks = HashMap::new();
    for id in wanted {
        let (operators, parallelism) = (&vertices[id.vertex], graph.vertices[id.vertex].parallelism);
        let (from, left) = ((&*metadata, store), left.remove(id));
        let parts = match left {
            None => plan.read(from, &heads, operators, id.index, parallelism).await?,
            Some(_) => plan.read_unkeyed(from, &heads, operators, id.index, parallelism).await?,
        };
        let base = base_of(&metadata, job, operators, id.index);
        let in_flight = in_flight(heads.in_flight(), &metadata, graph, *id)?;
        let left = left.unwrap_or_default();
        subtasks.insert(*id, RestoredSubtask { operators: parts, in_flight, base, left });
    }
    let sources = metadata.sources.iter().map(|source| (source.uid.clone(), source.bytes.to_vec())).collect();
    Ok(Restored { metadata: Some(metadata), subtasks, sources })
}

/// The batches on their way to a subtask, with the place in its chain and the input of the operator they are for. They go
/// to the subtask of their operator that they were for, or, if their number has changed, where the edge's partitioner sends
/// them.
fn in_flight(
    in_flight: &[InFlight],
    metadata: &CheckpointMetadata,
    graph: &JobGraph,
    id: SubtaskId,
) -> Result<Vec<(usize, usize, AnyBatch)>, Error> {
    let Vertex { chain, parallelism, .. } = &graph.vertices[id.vertex];
    let mut mine = Vec::new();
    // All of one way go through one partitioner, so that each record is for one of the subtasks.
    let mut partitioners: HashMap<(usize, usize), Box<dyn Partitioner>> = HashMap::new();
    for InFlight { uid, port, subtask, batches, .. } in in_flight {
        let Some(at) = chain.iter().position(|operator| operator.uid == *uid) else { continue };
        let failed = |reason: String| Error::InFlight { operator: uid.clone(), reason };
        let of_port = || chain[at].inputs.iter().filter(|input| input.port == *port);
        let by_record =
            |input: &&OperatorInput| matches!(input.partitioning.pattern, Pattern::Hash | Pattern::Custom);
        let input = of_port().find(by_record).or_else(|| of_port().next());
        let input = input.ok_or_else(|| failed(format!("it has no input {port}")))?;
        let former = metadata.operators().find(|operator| operator.uid == *uid);
        let is_rescaled = former.is_none_or(|former| former.parallelism != *parallelism);
        let goes_by_record = is_rescaled && by_record(&input);
        if !goes_by_record && subtask % parallelism != id.index {
            continue;
        }
        for bytes in batches {
            let batch = input.codec.decode(bytes, LIMITS).map_err(|error| failed(describe(&error)))?;
            if !goes_by_record {
                mine.push((at, *port, batch));
                continue;
            }
            let place = PartitionerPlace {
                subtask: 0,
                channels: *parallelism,
                max_parallelism: graph.max_parallelism,
            };
            let make = || (input.partitioning.factory)(place);
            let partitioner = partitioners.entry((at, *port)).or_insert_with(make);
            partitioner.add(batch).map_err(|error| failed(error.to_string()))?;
            for channel in 0..*parallelism {
                let batch = partitioner.take(channel).filter(|_| channel == id.index);
                mine.extend(batch.map(|batch| (at, *port, batch)));
            }
        }
    }
    Ok(mine)
}

/// What a subtask's next snapshot may build on: its own in a checkpoint of its own job, if the subtask has the same
/// operators and key groups as then. What belongs to others may be deleted by them.
fn base_of(
    metadata: &CheckpointMetadata,
    job: JobId,
    operators: &[OperatorId],
    index: usize,
) -> Option<(CheckpointId, SnapshotHandle)> {
    let is_ours = metadata.job == job && !metadata.savepoint;
    let is_same = |former: &OperatorId, now: &OperatorId| {
        former.uid == now.uid && former.parallelism == now.parallelism
    };
    let vertex = metadata.vertices.iter().find(|vertex| {
        vertex.operators.len() == operators.len()
            && vertex.operators.iter().zip(operators).all(|(former, now)| is_same(former, now))
    });
    let subtask = vertex.filter(|_| is_ours)?.subtasks.get(index)?;
    Some((metadata.checkpoint, subtask.snapshot.clone()))
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
    all_committed(waiting).await
}
