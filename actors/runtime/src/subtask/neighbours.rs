//! The subtasks that a subtask exchanges with: in this process by message, in others by link.

use crate::subtask::SubtaskMessage;
use crate::worker::WorkerMessage;
use crate::worker::credit::{Credit, InputCredit};
use bytes::Bytes;
use hurtig_dataflow::element::Element;
use hurtig_dataflow::error::BoxError;
use hurtig_dataflow::ids::{Attempt, SubtaskId};
use hurtig_dataflow::wire::{BatchEncoder, Limits, element};
use hurtig_transport::LinkSender;
use hurtig_transport::link::SendError;
use ractor::ActorRef;
use std::sync::Arc;

/// Kind of a link's frame that holds an element of a channel, on its way to the receiver.
pub const ELEMENT: u8 = 0;
/// Kind of a link's frame that holds a number of batches (4 bytes, little endian), on its way to the sender.
pub const CREDIT: u8 = 1;

/// What a batch on a link may hold at most.
pub const LIMITS: Limits = Limits { rows: 1 << 20 };

/// Where the elements of an output channel go.
pub enum Receiver {
    /// A subtask of this process, and which of its input channels it is.
    Here(ActorRef<SubtaskMessage>, usize),
    /// A subtask of another process.
    Linked(LinkedReceiver),
}

/// A receiver at the other end of a link.
pub struct LinkedReceiver {
    link: LinkSender,
    channel: u32,
    /// Batches that were sent and of which no credit has come back.
    sent: Arc<Credit>,
    encoder: Box<dyn BatchEncoder>,
    buffer: Vec<u8>,
    sent_bytes: u64,
}

impl Receiver {
    /// A receiver at the other end of a link, by the channel's number within the job.
    pub fn linked(link: LinkSender, channel: u32, sent: Arc<Credit>, encoder: Box<dyn BatchEncoder>) -> Self {
        Receiver::Linked(LinkedReceiver { link, channel, sent, encoder, buffer: Vec::new(), sent_bytes: 0 })
    }

    /// Bytes that have gone over a link.
    pub fn sent_bytes(&self) -> u64 {
        match self {
            Receiver::Here(..) => 0,
            Receiver::Linked(linked) => linked.sent_bytes,
        }
    }

    /// Sends an element. A receiver that is gone has failed, and the attempt ends: that is not this one's error.
    ///
    /// # Errors
    /// A record that cannot be serialised, or a batch that is too long for a link.
    pub fn send(&mut self, element: Element) -> Result<(), BoxError> {
        match self {
            Receiver::Here(actor, channel) => {
                let _ = actor.cast(SubtaskMessage::In { channel: *channel, element });
            }
            Receiver::Linked(linked) => {
                linked.buffer.clear();
                element::encode(&element, &mut *linked.encoder, &mut linked.buffer)?;
                linked.sent_bytes += linked.buffer.len() as u64;
                let payload = Bytes::copy_from_slice(&linked.buffer);
                if matches!(element, Element::Batch(_)) {
                    linked.sent.give(1);
                }
                if let Err(SendError::TooLong { length, limit }) =
                    linked.link.send(linked.channel, ELEMENT, payload)
                {
                    return Err(format!(
                        "a batch of {length} bytes is longer than the {limit} that a link takes: lower 'execution.batch-size', or make records smaller"
                    )
                    .into());
                }
            }
        }
        Ok(())
    }
}

/// Who sends on an input channel.
pub enum Sender {
    /// A subtask of this process.
    Here(ActorRef<SubtaskMessage>),
    /// A subtask of another process: its link, the channel's number within the job, and what may come on it.
    Linked(LinkSender, u32, Arc<InputCredit>),
}

impl Sender {
    /// Allows more batches on one of the sender's output channels.
    pub fn grant(&self, output: usize, count: u32) {
        match self {
            Sender::Here(actor) => drop(actor.cast(SubtaskMessage::Credit { output, count })),
            Sender::Linked(link, channel, credit) => {
                // Before the other can know of it.
                credit.batches.give(count);
                let _ = link.send(*channel, CREDIT, Bytes::copy_from_slice(&count.to_le_bytes()));
            }
        }
    }
}

/// A way to a subtask for its master and the master's children.
#[derive(Clone)]
pub enum SubtaskRef {
    /// In this process.
    Here(ActorRef<SubtaskMessage>),
    /// In another, by its worker.
    At {
        /// Stands for the worker.
        worker: ActorRef<WorkerMessage>,
        /// The subtask's attempt.
        attempt: Attempt,
        /// Which one.
        id: SubtaskId,
    },
}

impl SubtaskRef {
    /// Tells it something. One that is gone has failed, and the attempt ends: that is not the caller's error.
    pub fn tell(&self, message: SubtaskMessage) {
        match self {
            SubtaskRef::Here(actor) => drop(actor.cast(message)),
            SubtaskRef::At { worker, attempt, id } => {
                drop(worker.cast(WorkerMessage::ToSubtask { attempt: *attempt, id: *id, message }));
            }
        }
    }
}
