//! The control plane of one process: who is connected, and messages to and from them.
//!
//! ```text
//! Control              says what happens, pings, gives up silent peers
//! ├─ NodeServer        of the actor library: one session per connection
//! ├─ Gate              the only actor of the process that peers reach
//! └─ Acceptor × listen accepts connections
//! ```
//! A connection is made by [`hurtig_transport`], which proves each side's name to the other. Before it is handed to the
//! actor library, the two sides give each other a random token on it: whatever arrives at the gate with a token is from
//! the peer to whom the token was given, and nothing else gets past the gate. So a peer cannot speak in another's name.
//!
//! Tells and asks of one peer arrive in order. At most once: what is under way when a connection ends is lost, and the
//! last messages before a process exits may be; ask where it matters, or let the peer close.
//!
//! If a child ends, Control says of all peers that they are lost, and fails: its parent decides.
//!
//! # Decisions
//! * 2026-11: tokens are exchanged on the connection itself, not in messages: the actor library does not say by which
//!   session a message came, so whoever sends a token in a message cannot be told from others.
//! * 2026-11: the actor library's own listener cannot be switched off: it listens on loopback and has no certificate,
//!   so that nobody gets in there.
//! * 2026-11: closing is a message, after which the other side ends the connection: ending it at once would lose what
//!   was told before.

mod acceptor;
mod connections;
mod control;
mod gate;
mod heartbeat;
mod hello;
pub mod memory;
mod peer;
mod server;
mod wire;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hurtig_transport::{Connection, DialOptions, Listener, ListenerOptions, Name, Purpose, Tls, dial};
use ractor::{Actor, ActorCell, ActorRef};
use tokio::sync::oneshot;

pub use peer::{AskError, Peer, PeerId, Reply, TellError, question};
pub use wire::{DecodeError, decode};

use control::{Attachment, Control, ControlMessage};
use memory::{ControlNetwork, MemoryNode, Place};

/// How a node finds that a peer is gone, and what it bears. All processes of a cluster should have the same.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Between two pings.
    pub heartbeat_interval: Duration,
    /// A peer of which nothing was heard for so long is lost. Several times the interval.
    pub heartbeat_timeout: Duration,
    /// From the connection until the peer can be told and asked.
    pub handshake_timeout: Duration,
    /// How long a peer that is being closed may take to end the connection.
    pub closing_timeout: Duration,
    /// The longest message, in bytes. A peer that sends a longer one is lost.
    pub max_message_bytes: usize,
}

impl Default for NodeOptions {
    /// Pings each second, 5 s of silence, 3 s for a handshake, 1 s for closing, 4 MiB.
    fn default() -> Self {
        NodeOptions {
            heartbeat_interval: Duration::from_secs(1),
            heartbeat_timeout: Duration::from_secs(5),
            handshake_timeout: Duration::from_secs(3),
            closing_timeout: Duration::from_secs(1),
            max_message_bytes: 4 << 20,
        }
    }
}

/// What a node says. For each peer: `Connected` once, then any number of `Received`, then `Lost` once. A process that
/// comes back is another [`Peer`] of the same name, and may be connected before the earlier one is lost.
#[derive(Debug)]
pub enum NodeEvent {
    /// A peer can be told and asked. Comes for accepted and dialled peers.
    Connected(Peer),
    /// A peer is gone, whatever the cause; it is never used again. A process that comes back is another peer.
    Lost {
        /// Who.
        peer: Peer,
        /// Why, for humans.
        reason: String,
    },
    /// A message has come.
    Received {
        /// From whom.
        from: Peer,
        /// To be read by [`decode`].
        message: Bytes,
        /// How to answer, if the peer asks.
        reply: Option<Reply>,
    },
}

/// Is told what happens, by an actor of the node: it may only pass the event on, and must not panic.
pub type NodeEvents = Arc<dyn Fn(NodeEvent) + Send + Sync>;

/// Why there is no node, no listener or no peer.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The connection could not be made, or the address not be listened on.
    #[error(transparent)]
    Transport(#[from] hurtig_transport::Error),
    /// The connection was made, but ended before the peer could be told anything.
    #[error("{peer} was not ready: {reason}")]
    NotReady {
        /// Who.
        peer: Name,
        /// Why.
        reason: String,
    },
    /// There is a node in this process already: the actor library has one table of names for all.
    #[error("this process has a node already: shut it down first")]
    Second,
    /// An actor of the node could not be started.
    #[error("the node cannot start: {0}")]
    Start(String),
    /// The node was shut down, or has failed.
    #[error("the node has ended")]
    Ended,
}

/// The control plane of this process. Clones are the same one. It lives until it is shut down, whoever holds it.
#[derive(Debug, Clone)]
pub struct Node(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Sockets { control: ActorRef<ControlMessage>, options: Arc<NodeOptions> },
    Memory(MemoryNode),
}

impl Node {
    /// Starts the node of this process; there can be one at a time.
    ///
    /// # Errors
    /// [`NodeError::Second`] if there is one, [`NodeError::Start`] if an actor does not start.
    pub async fn start(options: NodeOptions, events: NodeEvents) -> Result<Node, NodeError> {
        let arguments = control::Arguments::new(options, events)?;
        let options = arguments.options();
        let (control, _) = Actor::spawn(None, Control, arguments).await.map_err(start_error)?;
        Ok(Node(Inner::Sockets { control, options }))
    }

    /// As [`Node::start`], as a child of `parent`, which is told if the node fails.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn start_linked(
        options: NodeOptions,
        events: NodeEvents,
        parent: ActorCell,
    ) -> Result<Node, NodeError> {
        let arguments = control::Arguments::new(options, events)?;
        let options = arguments.options();
        let (control, _) =
            Actor::spawn_linked(None, Control, arguments, parent).await.map_err(start_error)?;
        Ok(Node(Inner::Sockets { control, options }))
    }

    /// A node that reaches only others of this process, on the same network; there can be any number.
    pub fn simulated(
        network: &ControlNetwork,
        place: Place,
        options: NodeOptions,
        events: NodeEvents,
    ) -> Node {
        Node(Inner::Memory(MemoryNode::new(network.clone(), place, options, events)))
    }

    /// Accepts peers whose certificate `tls` verifies and whose name `allow` admits, from now until the node ends.
    /// May be called again, with another identity as well. Port 0 is any free one; the answer says which.
    ///
    /// # Errors
    /// [`NodeError::Transport`] if the address cannot be listened on, [`NodeError::Ended`].
    pub async fn listen(
        &self,
        address: SocketAddr,
        tls: &Tls,
        allow: impl Fn(&Name) -> bool + Send + Sync + 'static,
    ) -> Result<SocketAddr, NodeError> {
        let handshake_timeout = match &self.0 {
            Inner::Memory(node) => return node.listen(address, tls, allow),
            Inner::Sockets { options, .. } => options.handshake_timeout,
        };
        let mut options = ListenerOptions::new([Purpose::CONTROL], move |name, _| allow(name));
        options.handshake_timeout = handshake_timeout;
        let listener = Listener::bind(address, tls.clone(), options).await?;
        let local = listener
            .local_addr()
            .map_err(|source| NodeError::Transport(hurtig_transport::Error::Listen { address, source }))?;
        let (done, started) = oneshot::channel();
        self.send(ControlMessage::Listen { listener, done })?;
        started.await.map_err(|_| NodeError::Ended)?;
        Ok(local)
    }

    /// Connects to `peer` at `address`, a `host:port`; resolves when it can be told and asked. The event
    /// [`NodeEvent::Connected`] comes as well. If the future is dropped, there is no connection.
    ///
    /// There can be one connection between two processes. When this one has lost the peer and the peer has not
    /// noticed yet, the new connection may be refused until it has: try again.
    ///
    /// # Errors
    /// [`NodeError::Transport`] or [`NodeError::NotReady`], both of which may pass; [`NodeError::Ended`].
    pub async fn dial(
        &self,
        address: &str,
        tls: &Tls,
        peer: &hurtig_transport::Peer,
    ) -> Result<Peer, NodeError> {
        let timeout = match &self.0 {
            Inner::Memory(node) => return node.dial(address, tls, peer).await,
            Inner::Sockets { options, .. } => options.handshake_timeout,
        };
        let options = DialOptions { handshake_timeout: timeout, ..DialOptions::default() };
        let connection = dial(tls, address, peer, Purpose::CONTROL, &options).await?;
        let (done, ready) = oneshot::channel();
        let attachment = attach(connection, timeout, Some(done)).await?;
        self.send(ControlMessage::Attach(Box::new(attachment)))?;
        ready.await.map_err(|_| NodeError::Ended)?
    }

    /// Closes all peers and ends the node. No event comes after it returns.
    pub async fn shutdown(self) {
        match self.0 {
            Inner::Sockets { control, .. } => {
                // if it has ended already, there is nothing to do
                let _ = control.cast(ControlMessage::Shutdown);
                let _ = control.get_cell().wait(None).await;
            }
            Inner::Memory(node) => node.shutdown().await,
        }
    }

    fn send(&self, message: ControlMessage) -> Result<(), NodeError> {
        match &self.0 {
            Inner::Sockets { control, .. } => control.cast(message).map_err(|_| NodeError::Ended),
            Inner::Memory(_) => Err(NodeError::Ended),
        }
    }
}

/// Exchanges tokens on a new connection.
async fn attach(
    connection: Connection,
    timeout: Duration,
    done: Option<oneshot::Sender<Result<Peer, NodeError>>>,
) -> Result<Attachment, NodeError> {
    let Connection { peer: name, address, mut stream, .. } = connection;
    match hello::exchange(&mut stream, timeout).await {
        Ok(tokens) => Ok(Attachment { name, address, stream, tokens, done }),
        Err(error) => Err(NodeError::NotReady { peer: name, reason: format!("no token: {error}") }),
    }
}

fn start_error(error: ractor::SpawnErr) -> NodeError {
    NodeError::Start(error.to_string())
}
