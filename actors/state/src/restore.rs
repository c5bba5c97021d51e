//! Fits a checkpoint to the job graph that is to start from it, and hands its state out.
//!
//! Operators are found again by uid, wherever the program now chains them.

use crate::directory::PARALLEL_REQUESTS;
use crate::error::Error;
use crate::metadata::{CheckpointMetadata, VertexMetadata};
use crate::snapshot_file::SnapshotHandle;
use crate::store::CheckpointStore;
use futures::{StreamExt, TryStreamExt, stream};
use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::key::KEY_HASH_VERSION;
use hurtig_dataflow::snapshot::{OperatorSnapshot, SubtaskSnapshot, redistribute};
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

    /// Reads all snapshots of a checkpoint: for every uid what its subtasks left, in their order.
    ///
    /// # Errors
    /// A snapshot is missing, damaged, or not of this checkpoint; the store failed.
    pub async fn load_operators(
        checkpoint: &CheckpointMetadata,
        store: &CheckpointStore,
    ) -> Result<HashMap<String, Vec<OperatorSnapshot>>, Error> {
        let mut reads = Vec::new();
        for (vertex, metadata) in checkpoint.vertices.iter().enumerate() {
            for (index, subtask) in metadata.subtasks.iter().enumerate() {
                let (store, base) = (store.clone(), checkpoint.location.clone());
                let handle: SnapshotHandle = subtask.snapshot.clone();
                reads.push(async move {
                    let snapshot = store.read_snapshot(&base, &handle).await?;
                    Ok::<_, Error>((vertex, index, snapshot))
                });
            }
        }
        let mut reads = stream::iter(reads).buffered(PARALLEL_REQUESTS);
        let mut operators: HashMap<String, Vec<OperatorSnapshot>> = HashMap::new();
        while let Some((vertex, index, snapshot)) = reads.try_next().await? {
            let metadata = &checkpoint.vertices[vertex];
            if snapshot.checkpoint != checkpoint.checkpoint || !fits(metadata, &snapshot) {
                let reason = format!(
                    "the snapshot of subtask {index} of vertex {vertex} belongs to another checkpoint"
                );
                return Err(Error::corrupt(&checkpoint.location, reason));
            }
            for operator in snapshot.operators {
                operators.entry(operator.uid.clone()).or_default().push(operator);
            }
        }
        Ok(operators)
    }

    /// What one subtask gets back: for each operator of its vertex its state, or `None` if the checkpoint has none.
    pub fn assign(
        &self,
        operators: &HashMap<String, Vec<OperatorSnapshot>>,
        vertex: &[OperatorId],
        index: usize,
        parallelism: usize,
    ) -> Vec<Option<OperatorSnapshot>> {
        vertex
            .iter()
            .map(|operator| {
                let parts = operators.get(&operator.uid).filter(|parts| !parts.is_empty())?;
                Some(redistribute(parts, index, parallelism, self.max_parallelism))
            })
            .collect()
    }
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
