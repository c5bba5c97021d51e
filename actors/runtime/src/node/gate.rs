//! The only actor of the process that peers reach: passes what they send on to Control. Child of Control, which ends
//! if it ends; keeps nothing.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::control::ControlMessage;
use super::server;
use super::wire::GateMessage;

pub(super) struct Gate {
    pub(super) control: ActorRef<ControlMessage>,
}

impl Actor for Gate {
    type Msg = GateMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, myself: ActorRef<GateMessage>, (): ()) -> Result<(), ActorProcessingErr> {
        server::announce(&myself);
        Ok(())
    }

    async fn handle(
        &self,
        _: ActorRef<GateMessage>,
        message: GateMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        self.control.cast(match message {
            GateMessage::Tell(bytes) => ControlMessage::Received { bytes, port: None },
            GateMessage::Ask(bytes, port) => ControlMessage::Received { bytes, port: Some(port) },
        })?;
        Ok(())
    }
}
