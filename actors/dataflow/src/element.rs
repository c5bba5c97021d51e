//! What flows on a channel, in order.

use crate::batch::AnyBatch;
use crate::ids::CheckpointId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Marker that cuts every stream of a job at one consistent point (Carbone et al., "Lightweight Asynchronous
/// Snapshots for Distributed Dataflows", 2015).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Barrier {
    /// The checkpoint this barrier belongs to.
    pub checkpoint: CheckpointId,
    /// Where a savepoint goes, if this is one.
    pub savepoint: Option<String>,
    /// Whether subtasks stop once the barrier has passed: nothing changes after it, until the job ends or goes on from
    /// here with another graph.
    pub stop: bool,
    /// Whether it overtakes the records before it, which are then part of the checkpoint.
    pub overtakes: bool,
}

impl Barrier {
    /// Whether it may overtake records: not if others than the job itself read the checkpoint, and not if nothing is done
    /// about those records after it.
    pub fn may_overtake(&self) -> bool {
        self.savepoint.is_none() && !self.stop
    }
}

/// One element of a channel.
pub enum Element {
    /// Records.
    Batch(AnyBatch),
    /// No event time at or below this follows on this channel.
    Watermark(Timestamp),
    /// Cuts the channel for a checkpoint.
    Barrier(Barrier),
    /// The channel has no records for now; its watermark does not hold others back.
    Idle,
    /// The channel has records again.
    Active,
    /// Nothing follows.
    End,
}

impl Element {
    /// The same element once more; batches are cloned.
    pub fn duplicate(&self) -> Element {
        match self {
            Element::Batch(batch) => Element::Batch(batch.duplicate()),
            Element::Watermark(time) => Element::Watermark(*time),
            Element::Barrier(barrier) => Element::Barrier(barrier.clone()),
            Element::Idle => Element::Idle,
            Element::Active => Element::Active,
            Element::End => Element::End,
        }
    }
}

impl std::fmt::Debug for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Element::Batch(batch) => write!(f, "Batch({} records)", batch.len()),
            Element::Watermark(time) => write!(f, "Watermark({time})"),
            Element::Barrier(barrier) => write!(f, "Barrier({})", barrier.checkpoint),
            Element::Idle => f.write_str("Idle"),
            Element::Active => f.write_str("Active"),
            Element::End => f.write_str("End"),
        }
    }
}
