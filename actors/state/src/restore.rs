//! Fits a checkpoint to the job graph that is to start from it, and hands its state out.
//!
//! Operators are found again by uid, wherever the program now chains them.

use crate::directory::PARALLEL_REQUESTS;
use crate::error::Error;
use crate::metadata::{CheckpointMetadata, VertexMetadata};
use crate::store::CheckpointStore;
use futures::{StreamExt, TryStreamExt, stream};
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::key::{KEY_HASH_VERSION, KeyGroupRange};
use hurtig_dataflow::snapshot::{InFlight, OperatorSnapshot, StateKind, SubtaskSnapshot, redistribute};
use std::collections::{HashMap, HashSet};

/// Most operators that an error message lists.
const LISTED: usize = 10;

/// How a checkpoint goes into a program: made only if it fits.
#[derive(Clone, Debug, PartialEq)]
pub struct RestorePlan {
    max_parallelism: u32,
    dropped: Vec<OperatorId>,
    fresh: Vec<OperatorId>,
}

impl RestorePlan {
    /// Checks that a checkpoint fits the operators of the program's vertices.
    ///
    /// # Errors
    /// Another number of key groups, another key hash, or, unless `allow_non_restored`, operators in the checkpoint
    /// that the program does not have.
    pub fn new(
        checkpoint: &CheckpointMetadata,
        vertices: &[Vec<OperatorId>],
        max_parallelism: u32,
        allow_non_restored: bool,
    ) -> Result<Self, Error> {
        if checkpoint.key_hash_version != KEY_HASH_VERSION {
            return Err(Error::KeyHash {
                checkpoint: checkpoint.key_hash_version,
                program: KEY_HASH_VERSION,
            });
        }
        let of_program = uids(vertices.iter().flatten());
        let of_checkpoint = uids(checkpoint.operators());
        let dropped = without(checkpoint.operators(), &of_program);
        let fresh = without(vertices.iter().flatten(), &of_checkpoint);
        if !dropped.is_empty() && !allow_non_restored {
            return Err(if dropped.len() == checkpoint.operators().count() {
                let program = listed(vertices.iter().flatten());
                Error::OtherProgram { checkpoint: listed(dropped.iter()), program }
            } else {
                Error::NonRestored { missing: listed(dropped.iter()) }
            });
        }
        if checkpoint.max_parallelism != max_parallelism {
            let checkpoint = checkpoint.max_parallelism;
            return Err(Error::MaxParallelism { checkpoint, program: max_parallelism });
        }
        Ok(RestorePlan { max_parallelism, dropped, fresh })
    }

    /// Operators of the checkpoint whose state is dropped, with consent.
    pub fn dropped(&self) -> &[OperatorId] {
        &self.dropped
    }

    /// Operators of the program that start without state.
    pub fn fresh(&self) -> &[OperatorId] {
        &self.fresh
    }

    /// Reads what all subtasks need of a checkpoint's snapshots: all but their rows.
    ///
    /// # Errors
    /// A snapshot is missing, damaged, or not of this checkpoint; the store failed.
    pub async fn heads(checkpoint: &CheckpointMetadata, store: &CheckpointStore) -> Result<Heads, Error> {
        let vertices = checkpoint.vertices.iter().enumerate();
        let subtasks = vertices.flat_map(|(vertex, metadata)| {
            metadata.subtasks.iter().enumerate().map(move |(part, subtask)| (vertex, part, subtask))
        });
        let reads = subtasks.map(|(vertex, part, subtask)| async move {
            let head = store.read_snapshot(checkpoint, &subtask.snapshot, None, false).await?;
            if head.checkpoint != checkpoint.checkpoint || !fits(&checkpoint.vertices[vertex], &head) {
                let reason = format!(
                    "the snapshot of subtask {part} of vertex {vertex} belongs to another checkpoint"
                );
                return Err(Error::corrupt(&checkpoint.location, reason));
            }
            Ok(((vertex, part), head))
        });
        let reads: Vec<_> = reads.collect();
        let mut reads = stream::iter(reads).buffered(PARALLEL_REQUESTS);
        let mut heads = Heads::default();
        while let Some((place, mut head)) = reads.try_next().await? {
            heads.in_flight.append(&mut head.in_flight);
            heads.snapshots.insert(place, head);
        }
        // What a receiver had was sent before what its senders still had.
        heads.in_flight.sort_by_key(|in_flight| !in_flight.received);
        Ok(heads)
    }

    /// What one subtask gets back: for each operator of its vertex its state, or `None` if the checkpoint has none. Of
    /// keyed state, only the key groups of the subtask are read.
    ///
    /// # Errors
    /// A snapshot is missing or damaged; the store failed.
    pub async fn read(
        &self,
        checkpoint: (&CheckpointMetadata, &CheckpointStore),
        heads: &Heads,
        vertex: &[OperatorId],
        index: usize,
        parallelism: usize,
    ) -> Result<Vec<Option<OperatorSnapshot>>, Error> {
        let range = KeyGroupRange::of_subtask(index, parallelism, self.max_parallelism);
        self.read_rows(checkpoint, heads, vertex, (index, parallelism), Some(range)).await
    }

    /// The same without rows of keyed state, for a subtask that has them already.
    ///
    /// # Errors
    /// As [`RestorePlan::read`].
    pub async fn read_unkeyed(
        &self,
        checkpoint: (&CheckpointMetadata, &CheckpointStore),
        heads: &Heads,
        vertex: &[OperatorId],
        index: usize,
        parallelism: usize,
    ) -> Result<Vec<Option<OperatorSnapshot>>, Error> {
        self.read_rows(checkpoint, heads, vertex, (index, parallelism), None).await
    }

    async fn read_rows(
        &self,
        (checkpoint, store): (&CheckpointMetadata, &CheckpointStore),
        heads: &Heads,
        vertex: &[OperatorId],
        (index, parallelism): (usize, usize),
        keyed: Option<KeyGroupRange>,
    ) -> Result<Vec<Option<OperatorSnapshot>>, Error> {
        let wanted = uids(vertex.iter());
        let is_wanted = |metadata: &VertexMetadata| {
            metadata.operators.iter().any(|operator| wanted.contains(operator.uid.as_str()))
        };
        let mut reads = Vec::new();
        for (at, metadata) in checkpoint.vertices.iter().enumerate().filter(|(_, found)| is_wanted(found)) {
            let former = metadata.subtasks.len();
            for (part, subtask) in metadata.subtasks.iter().enumerate() {
                let of_part = KeyGroupRange::of_subtask(part, former, self.max_parallelism);
                let groups = keyed.filter(|range| range.overlaps(of_part));
                let head = heads.snapshots.get(&(at, part)).cloned().unwrap_or_default();
                // Broadcast state is the same in all.
                let unkeyed = part == 0 && has_broadcast(&head);
                reads.push(async move {
                    if groups.is_none() && !unkeyed {
                        return Ok(head);
                    }
                    store.read_snapshot(checkpoint, &subtask.snapshot, groups, unkeyed).await
                });
            }
        }
        let mut reads = stream::iter(reads).buffered(PARALLEL_REQUESTS);
        let mut operators: HashMap<String, Vec<OperatorSnapshot>> = HashMap::new();
        while let Some(snapshot) = reads.try_next().await? {
            for operator in snapshot.operators {
                operators.entry(operator.uid.clone()).or_default().push(operator);
            }
        }
        let assigned = vertex.iter().map(|operator| {
            let parts = operators.get(&operator.uid).filter(|parts| !parts.is_empty())?;
            Some(redistribute(parts, index, parallelism, self.max_parallelism))
        });
        Ok(assigned.collect())
    }
}

/// The snapshots of a checkpoint but for their rows.
#[derive(Debug, Default)]
pub struct Heads {
    /// By vertex and subtask.
    snapshots: HashMap<(usize, usize), SubtaskSnapshot>,
    in_flight: Vec<InFlight>,
}

impl Heads {
    /// What barriers have overtaken, in an order in which what goes the same way stays in order.
    pub fn in_flight(&self) -> &[InFlight] {
        &self.in_flight
    }
}

fn has_broadcast(head: &SubtaskSnapshot) -> bool {
    let mut states = head.operators.iter().flat_map(|operator| &operator.states);
    states.any(|state| state.kind == StateKind::Broadcast)
}

fn uids<'a>(operators: impl Iterator<Item = &'a OperatorId>) -> HashSet<&'a str> {
    operators.map(|operator| operator.uid.as_str()).collect()
}

fn without<'a>(operators: impl Iterator<Item = &'a OperatorId>, uids: &HashSet<&str>) -> Vec<OperatorId> {
    operators.filter(|operator| !uids.contains(operator.uid.as_str())).cloned().collect()
}

/// Whether a snapshot has the operators of its vertex, in their order.
fn fits(vertex: &VertexMetadata, snapshot: &SubtaskSnapshot) -> bool {
    let wanted = vertex.operators.iter().map(|operator| &operator.uid);
    snapshot.operators.iter().map(|operator| &operator.uid).eq(wanted)
}

fn listed<'a>(operators: impl Iterator<Item = &'a OperatorId>) -> String {
    let all: Vec<String> =
        operators.map(|operator| format!("'{}' (uid '{}')", operator.name, operator.uid)).collect();
    match all.len() {
        0 => "no operators".to_string(),
        count if count > LISTED => format!("{} and {} more", all[..LISTED].join(", "), count - LISTED),
        _ => all.join(", "),
    }
}
