//! A source's split enumerator as an actor. Child of the JobMaster, made anew for each attempt.
//!
//! It hands splits to the source's subtasks and passes triggers on to them. Both take the same way, so a snapshot of
//! the enumerator and the readers' barriers cut the hand-outs at one point: a split is either still with the
//! enumerator or in its reader's snapshot. When it fails, the JobMaster fails the attempt.

use crate::failure::Failure;
use crate::master::JobMasterMessage;
use crate::master::coordinator::CoordinatorMessage;
use crate::subtask::SubtaskMessage;
use crate::subtask::neighbours::SubtaskRef;
use hurtig_dataflow::element::Barrier;
use hurtig_dataflow::ids::Attempt;
use hurtig_dataflow::panics::catch_panic;
use hurtig_dataflow::source::{Assignment, DynEnumerator};
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::time::Duration;

/// What an enumerator is told.
pub enum EnumeratorMessage {
    /// From the JobMaster, or from itself later: a subtask wants work.
    Next {
        /// Index of the subtask.
        subtask: usize,
    },
    /// From the coordinator: snapshot, and pass the trigger on.
    Trigger(Barrier),
}

impl ractor::Message for EnumeratorMessage {}

/// The actor.
pub struct Enumerator;

/// State of an enumerator.
pub struct State {
    /// Name of the source, for messages.
    pub source: String,
    /// The source's uid.
    pub uid: String,
    /// The source's vertex.
    pub vertex: usize,
    /// The enumerator proper.
    pub enumerator: Box<dyn DynEnumerator>,
    /// The source's subtasks.
    pub subtasks: Vec<SubtaskRef>,
    /// Where its state goes.
    pub coordinator: ActorRef<CoordinatorMessage>,
    /// Who shows how far the source has come.
    pub master: ActorRef<JobMasterMessage>,
    /// The attempt.
    pub attempt: Attempt,
}

impl Actor for Enumerator {
    type Msg = EnumeratorMessage;
    type State = State;
    type Arguments = State;

    async fn pre_start(
        &self,
        _: ActorRef<EnumeratorMessage>,
        state: State,
    ) -> Result<State, ActorProcessingErr> {
        state.tell_unread();
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<EnumeratorMessage>,
        message: EnumeratorMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let handled = catch_panic(|| match message {
            EnumeratorMessage::Next { subtask } => state.next(&myself, subtask),
            EnumeratorMessage::Trigger(barrier) => state.trigger(barrier),
        });
        let place = format!("source '{}'", state.source);
        match handled {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::of_error(&place, &*error).into()),
            Err(panic) => Err(Failure::of(&place, panic).into()),
        }
    }
}

impl State {
    fn next(
        &mut self,
        myself: &ActorRef<EnumeratorMessage>,
        subtask: usize,
    ) -> Result<(), hurtig_dataflow::BoxError> {
        let assignment = self.enumerator.next(subtask, self.subtasks.len())?;
        if let Assignment::Later(after) = assignment {
            let after = after.max(Duration::from_millis(1));
            drop(myself.send_after(after, move || EnumeratorMessage::Next { subtask }));
        }
        self.subtasks[subtask].tell(SubtaskMessage::Assigned(assignment));
        self.tell_unread();
        Ok(())
    }

    fn tell_unread(&self) {
        let (attempt, vertex, bytes) = (self.attempt, self.vertex, self.enumerator.unread());
        let _ = self.master.cast(JobMasterMessage::Unread { attempt, vertex, bytes });
    }

    fn trigger(&mut self, barrier: Barrier) -> Result<(), hurtig_dataflow::BoxError> {
        let bytes = self.enumerator.snapshot()?;
        let _ = self.coordinator.cast(CoordinatorMessage::SourceSnapshot {
            attempt: self.attempt,
            checkpoint: barrier.checkpoint,
            uid: self.uid.clone(),
            bytes,
        });
        for subtask in &self.subtasks {
            subtask.tell(SubtaskMessage::Trigger(barrier.clone()));
        }
        Ok(())
    }
}
