//! Accepts connections at one address and hands them to Control. Child of Control, which ends if it fails.

use std::time::Duration;

use hurtig_transport::Listener;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::attach;
use super::control::ControlMessage;
use crate::tasks::Tasks;

/// To itself: accept another one.
pub(super) struct Accept;

impl ractor::Message for Accept {}

pub(super) struct Acceptor {
    pub(super) control: ActorRef<ControlMessage>,
    pub(super) handshake_timeout: Duration,
}

pub(super) struct State {
    listener: Listener,
    tasks: Tasks,
}

impl Actor for Acceptor {
    type Msg = Accept;
    type State = State;
    type Arguments = Listener;

    async fn pre_start(
        &self,
        myself: ActorRef<Accept>,
        listener: Listener,
    ) -> Result<State, ActorProcessingErr> {
        myself.cast(Accept)?;
        Ok(State { listener, tasks: Tasks::default() })
    }

    // waits for the next connection, not for any answer; there is nothing else to handle, and Control's end kills it
    async fn handle(
        &self,
        myself: ActorRef<Accept>,
        Accept: Accept,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let connection = state.listener.accept().await;
        let (control, timeout) = (self.control.clone(), self.handshake_timeout);
        state.tasks.spawn(async move {
            match attach(connection, timeout, None).await {
                // without Control there is no node
                Ok(attachment) => drop(control.cast(ControlMessage::Attach(Box::new(attachment)))),
                Err(error) => tracing::warn!(%error, "connection refused"),
            }
        });
        myself.cast(Accept)?;
        Ok(())
    }
}
