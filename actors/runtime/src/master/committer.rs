//! A sink's committer as an actor. Child of the JobMaster, for the job's whole life.
//!
//! It publishes committables of completed checkpoints in order, one call at a time, and tries again when that fails.
//! It keeps nothing durable: what was not published when it dies is in the last completed checkpoint.

use crate::failure::Failure;
use hurtig_dataflow::graph::CommitterFactory;
use hurtig_dataflow::panics::catch_panic;
use hurtig_dataflow::sink::Committer;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Tries before a commit counts as failed.
const TRIES: u32 = 5;

/// What a committer is told.
pub enum CommitterMessage {
    /// From the coordinator when a checkpoint is complete, from the JobMaster before an attempt begins: publish these,
    /// answer when done.
    Commit {
        /// What to publish.
        committables: Vec<Vec<u8>>,
        /// Where to answer.
        reply: oneshot::Sender<Result<(), Failure>>,
    },
}

impl ractor::Message for CommitterMessage {}

/// The actor.
pub struct SinkCommitter;

/// State of a committer.
pub struct State {
    committer: Arc<Mutex<Box<dyn Committer>>>,
}

impl Actor for SinkCommitter {
    type Msg = CommitterMessage;
    type State = State;
    type Arguments = CommitterFactory;

    async fn pre_start(
        &self,
        _: ActorRef<CommitterMessage>,
        make: CommitterFactory,
    ) -> Result<State, ActorProcessingErr> {
        let committer = make().ok_or("the sink has no committer")?;
        Ok(State { committer: Arc::new(Mutex::new(committer)) })
    }

    /// Waits for the commit: commits of one sink must not overtake each other, and nobody else sends here.
    async fn handle(
        &self,
        _: ActorRef<CommitterMessage>,
        message: CommitterMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let CommitterMessage::Commit { committables, reply } = message;
        let mut tried = 0;
        let result = loop {
            tried += 1;
            let result = commit_once(&state.committer, committables.clone()).await;
            if tried == TRIES || result.as_ref().err().is_none_or(|failure| failure.fatal) {
                break result;
            }
            tokio::time::sleep(Duration::from_millis(20 << tried)).await;
        };
        let _ = reply.send(result);
        Ok(())
    }
}

async fn commit_once(
    committer: &Arc<Mutex<Box<dyn Committer>>>,
    committables: Vec<Vec<u8>>,
) -> Result<(), Failure> {
    let committer = Arc::clone(committer);
    let work = tokio::task::spawn_blocking(move || {
        let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
        match catch_panic(|| committer.commit(committables)) {
            Ok(committed) => committed.map_err(|error| Failure::of_error("commit", &*error)),
            Err(panic) => Err(Failure::of("commit", panic)),
        }
    });
    let ended = |error| Err(Failure::of("commit", format!("the commit did not come to its end: {error}")));
    work.await.unwrap_or_else(ended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::OpResult;

    struct Careless;

    impl Committer for Careless {
        fn commit(&mut self, committables: Vec<Vec<u8>>) -> OpResult {
            assert!(committables.is_empty(), "{} files are nowhere to be found", committables.len());
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_panic_is_told_with_message_and_place_and_the_next_commit_is_tried() {
        let committer: Arc<Mutex<Box<dyn Committer>>> = Arc::new(Mutex::new(Box::new(Careless)));
        let told = commit_once(&committer, vec![Vec::new(); 2]).await.unwrap_err().message;
        assert!(told.starts_with("panicked at ") && told.contains("committer.rs:"), "{told}");
        assert!(told.ends_with(": 2 files are nowhere to be found"), "{told}");
        assert!(commit_once(&committer, Vec::new()).await.is_ok());
    }
}
