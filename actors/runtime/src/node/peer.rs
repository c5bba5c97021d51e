//! A connected process: telling it, asking it, answering it.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hurtig_transport::Name;
use ractor::{ActorRef, RpcReplyPort};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::control::ControlMessage;
use super::memory::Wire;
use super::wire::{Answer, DecodeError, Envelope, GateMessage, Kind, Token, decode, encode};

/// The library forgets a question some time after we have given it up, not before.
const LIBRARY_GRACE: Duration = Duration::from_secs(1);

/// Which peer; another for each connection, while the node lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(pub(super) u64);

impl PeerId {
    /// Not a peer: this process itself.
    pub const HERE: PeerId = PeerId(u64::MAX);
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connected process. Clones are the same one; so are equal ones.
#[derive(Clone)]
pub struct Peer {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) id: PeerId,
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    pub(super) way: Way,
    pub(super) max_message_bytes: usize,
    /// Why it is lost, once it is.
    pub(super) gone: OnceLock<String>,
}

/// How a peer is reached.
pub(super) enum Way {
    /// By a session of the actor library.
    Session {
        /// The peer's.
        gate: ActorRef<GateMessage>,
        /// By which it knows from whom a message is.
        token: Token,
        /// This process's.
        control: ActorRef<ControlMessage>,
    },
    /// It is in this process.
    Memory(Wire),
}

impl PartialEq for Peer {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }
}

impl Eq for Peer {}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({} {} {})", self.shared.id, self.shared.name, self.shared.address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.shared.name, self.shared.address)
    }
}

impl Peer {
    pub(super) fn new(shared: Shared) -> Self {
        Peer { shared: Arc::new(shared) }
    }

    /// Which one; a process that connects again is another.
    pub fn id(&self) -> PeerId {
        self.shared.id
    }

    /// Who it is, by the certificate that was verified for this connection.
    pub fn name(&self) -> &Name {
        &self.shared.name
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Sends a message and does not wait. Messages to a peer, told or asked, arrive in the order of the calls. No
    /// error does not mean that it arrives.
    ///
    /// # Errors
    /// [`TellError::Gone`] if the peer is lost or being closed; the others if the message cannot be sent at all.
    pub fn tell<T: Serialize + ?Sized>(&self, message: &T) -> Result<(), TellError> {
        let content = self.content(message)?;
        match &self.shared.way {
            Way::Session { .. } => self.send(Kind::Message, &content),
            Way::Memory(wire) => {
                self.refuse_if_gone()?;
                if wire.tell(content) { Ok(()) } else { Err(self.gone()) }
            }
        }
    }

    /// Sends a question, at once, and waits for the answer for up to `limit`. Never await it in an actor's handler.
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`AskError`].
    pub fn ask<T, R>(
        &self,
        message: &T,
        limit: Duration,
    ) -> impl Future<Output = Result<R, AskError>> + Send + use<T, R>
    where
        T: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let asked = self.send_question(message, limit);
        let peer = self.clone();
        async move {
            match timeout(limit, asked?).await {
                Ok(Ok(answer)) => read_answer(&answer),
                // the session, and with it whoever would have answered, is gone
                Ok(Err(_)) => Err(AskError::Tell(peer.gone())),
                Err(_) => Err(AskError::TimedOut(limit)),
            }
        }
    }

    /// Ends the connection, after what was told before has been sent. Both sides see the peer lost, this one at once;
    /// the other is given the reason.
    pub fn close(&self, reason: &str) {
        match &self.shared.way {
            Way::Session { control, .. } => {
                let _ = control.cast(ControlMessage::Close { id: self.shared.id, reason: reason.to_owned() });
            }
            Way::Memory(wire) => wire.close(reason),
        }
    }

    fn send_question<T: Serialize + ?Sized>(
        &self,
        message: &T,
        limit: Duration,
    ) -> Result<oneshot::Receiver<Vec<u8>>, TellError> {
        let content = self.content(message)?;
        self.refuse_if_gone()?;
        let (port, answer) = oneshot::channel();
        let is_sent = match &self.shared.way {
            Way::Session { gate, token, .. } => {
                let port = RpcReplyPort::from((port, limit.saturating_add(LIBRARY_GRACE)));
                let envelope = Envelope::write(*token, Kind::Message, &content);
                gate.cast(GateMessage::Ask(envelope, port)).is_ok()
            }
            Way::Memory(wire) => wire.ask(content, port),
        };
        if is_sent { Ok(answer) } else { Err(self.gone()) }
    }

    fn content<T: Serialize + ?Sized>(&self, message: &T) -> Result<Vec<u8>, TellError> {
        let content = encode(message).map_err(TellError::Encode)?;
        let (bytes, limit) = (content.len(), self.shared.max_message_bytes);
        if bytes > limit { Err(TellError::TooLong { bytes, limit }) } else { Ok(content) }
    }

    /// Sends anything over a session; refused once the peer is gone.
    pub(super) fn send(&self, kind: Kind, content: &[u8]) -> Result<(), TellError> {
        self.refuse_if_gone()?;
        let Way::Session { gate, token, .. } = &self.shared.way else { return Err(self.gone()) };
        let envelope = Envelope::write(*token, kind, content);
        gate.cast(GateMessage::Tell(envelope)).map_err(|_| self.gone())
    }

    /// From now on nothing is sent.
    pub(super) fn set_gone(&self, reason: &str) {
        // the first reason counts
        let _ = self.shared.gone.set(reason.to_owned());
    }

    fn refuse_if_gone(&self) -> Result<(), TellError> {
        if self.shared.gone.get().is_some() { Err(self.gone()) } else { Ok(()) }
    }

    fn gone(&self) -> TellError {
        TellError::Gone(self.shared.gone.get().map_or("the connection ended", String::as_str).to_owned())
    }
}

fn read_answer<R: DeserializeOwned>(bytes: &[u8]) -> Result<R, AskError> {
    match Answer::read(bytes) {
        Some((Answer::Given, content)) => Ok(decode(content)?),
        Some((Answer::Dropped, _)) => Err(AskError::NoAnswer),
        Some((Answer::Unsendable, _)) => Err(AskError::Unsendable),
        Some((Answer::Unknown, _)) | None => {
            Err(TellError::Gone("it does not know this connection".into()).into())
        }
    }
}

/// Why a message was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    /// The peer is lost or being closed.
    #[error("the peer is gone: {0}")]
    Gone(String),
    /// The message is longer than [`NodeOptions::max_message_bytes`](super::NodeOptions::max_message_bytes).
    #[error("a message of {bytes} bytes is longer than the {limit} that may be sent: send it in parts")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The message's type cannot be written.
    #[error("the message cannot be written: {0}")]
    Encode(String),
}

/// Why there is no answer. Except for [`TellError::TooLong`] and [`TellError::Encode`], the peer may have acted.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// The question was not sent, or the peer was lost before it answered.
    #[error(transparent)]
    Tell(#[from] TellError),
    /// There was no answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// Whoever was asked did not answer, and will not.
    #[error("the peer did not answer")]
    NoAnswer,
    /// The answer is too long or cannot be written.
    #[error("the peer's answer cannot be sent: too long, or of a type that cannot be written")]
    Unsendable,
    /// The answer is not what was expected.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// How to answer a peer that asks. If it is dropped, the peer is told at once that no answer will come.
pub struct Reply {
    port: Option<RpcReplyPort<Vec<u8>>>,
    max_message_bytes: usize,
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

/// A question within this process: the reply for whoever answers, and the answer to wait for.
pub fn question<R: DeserializeOwned>(
    limit: Duration,
) -> (Reply, impl Future<Output = Result<R, AskError>> + Send + use<R>) {
    let (port, answer) = oneshot::channel();
    let reply = Reply { port: Some(port.into()), max_message_bytes: usize::MAX };
    let answered = async move {
        match timeout(limit, answer).await {
            Ok(Ok(bytes)) => read_answer(&bytes),
            Ok(Err(_)) => Err(AskError::NoAnswer),
            Err(_) => Err(AskError::TimedOut(limit)),
        }
    };
    (reply, answered)
}

impl Reply {
    pub(super) fn new(port: RpcReplyPort<Vec<u8>>, max_message_bytes: usize) -> Self {
        Reply { port: Some(port), max_message_bytes }
    }

    /// Answers. An answer that is too long, or that cannot be written, is an error at the peer.
    pub fn send<R: Serialize + ?Sized>(self, answer: &R) {
        match encode(answer) {
            Ok(content) if content.len() <= self.max_message_bytes => self.put(Answer::Given, &content),
            Ok(content) => {
                tracing::error!(
                    bytes = content.len(),
                    limit = self.max_message_bytes,
                    "an answer is too long"
                );
                self.put(Answer::Unsendable, &[]);
            }
            Err(error) => {
                tracing::error!(%error, "an answer cannot be written");
                self.put(Answer::Unsendable, &[]);
            }
        }
    }

    pub(super) fn put(mut self, answer: Answer, content: &[u8]) {
        if let Some(port) = self.port.take() {
            // whoever asked may have given up
            let _ = port.send(answer.write(content));
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(port) = self.port.take() {
            let _ = port.send(Answer::Dropped.write(&[]));
        }
    }
}
