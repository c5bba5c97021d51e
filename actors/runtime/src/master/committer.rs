//! A sink's committer as an actor. Child of the JobMaster, for the job's whole life.
//!
//! It publishes committables of completed checkpoints in order, one call at a time, and tries again when that fails.
//! It keeps nothing durable: what was not published when it dies is in the last completed checkpoint.

use hurtig_dataflow::error::describe;
use hurtig_dataflow::graph::CommitterFactory;
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
        reply: oneshot::Sender<Result<(), String>>,
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
            if result.is_ok() || tried == TRIES {
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
) -> Result<(), String> {
    let committer = Arc::clone(committer);
    let work = tokio::task::spawn_blocking(move || {
        let mut committer = committer.lock().unwrap_or_else(PoisonError::into_inner);
        committer.commit(committables).map_err(|error| describe(&*error))
    });
    work.await.unwrap_or_else(|error| Err(format!("the committer panicked: {error}")))
}
