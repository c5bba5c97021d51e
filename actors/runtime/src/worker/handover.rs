//! What subtasks that have stopped with a checkpoint leave on their Worker, for those of the next attempt that take
//! their place: their state need not be read then.

use hurtig_dataflow::graph::OperatorId;
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::state::StateStore;
use parking_lot::Mutex;
use std::sync::Arc;

/// Shared by the subtasks of one Worker and whoever restores them.
#[derive(Clone, Default)]
pub struct Handover(Arc<Mutex<Vec<Left>>>);

/// State of one operator instance, as of a checkpoint.
struct Left {
    checkpoint: CheckpointId,
    uid: Arc<str>,
    states: StateStore,
}

impl Handover {
    /// A subtask leaves the state of its operators as it was at a checkpoint's barrier.
    pub fn leave(&self, checkpoint: CheckpointId, states: impl Iterator<Item = (Arc<str>, StateStore)>) {
        self.0.lock().extend(states.map(|(uid, states)| Left { checkpoint, uid, states }));
    }

    /// Takes what was left as of a checkpoint for these key groups of all the operators; nothing if some is missing.
    pub fn take(
        &self,
        checkpoint: CheckpointId,
        operators: &[OperatorId],
        range: KeyGroupRange,
    ) -> Option<Vec<StateStore>> {
        let mut all = self.0.lock();
        let place = |all: &[Left], operator: &OperatorId| {
            let is_it = |left: &Left| {
                left.checkpoint == checkpoint && *left.uid == *operator.uid && left.states.range() == range
            };
            all.iter().position(is_it)
        };
        operators.iter().all(|operator| place(&all, operator).is_some()).then(|| {
            let taken = operators.iter().filter_map(|operator| {
                let at = place(&all, operator)?;
                Some(all.swap_remove(at).states)
            });
            taken.collect()
        })
    }

    /// Gives up what nobody has taken.
    pub fn clear(&self) {
        self.0.lock().clear();
    }
}
