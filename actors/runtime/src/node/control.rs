//! The root of a node: owns the connections, says what happens to them, pings their peers and gives up those that are
//! silent. Child of whoever started the node, or of none; keeps nothing durable. If one of its children ends, it says
//! that all peers are lost, and fails.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use hurtig_transport::{Listener, Name, Stream};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, RpcReplyPort, SupervisionEvent};
use ractor_cluster::NodeServerMessage;
use tokio::sync::oneshot;
use tokio::time::{Duration, Instant};

use super::acceptor::Acceptor;
use super::connections::{Connection, Connections, Dialler, Stage};
use super::gate::Gate;
use super::heartbeat::Ticks;
use super::hello::{Labelled, Tokens};
use super::peer::{Peer, PeerId, Reply, Shared, Way};
use super::server::{self, Session};
use super::wire::{Answer, Envelope, Kind};
use super::{NodeError, NodeEvent, NodeEvents, NodeOptions};

/// Messages that a peer may send before this side is ready.
const MAX_EARLY: usize = 1024;
/// Between two log lines about messages that nobody may have sent.
const LOG_INTERVAL: Duration = Duration::from_secs(1);
/// A reason comes from a peer and ends in a log.
const MAX_REASON_CHARS: usize = 200;

/// What Control is told.
pub(super) enum ControlMessage {
    /// From the handle: accept connections.
    Listen {
        listener: Listener,
        /// Told when they are accepted.
        done: oneshot::Sender<()>,
    },
    /// From a dial or an acceptor: a connection whose peer is proven.
    Attach(Box<Attachment>),
    /// From the library: it has taken a connection.
    Opened(Session),
    /// From the library: the two sides know each other's gates.
    Ready(Session),
    /// From the library: a session is over.
    Ended(Session),
    /// From the gate: somebody sent something.
    Received { bytes: Vec<u8>, port: Option<RpcReplyPort<Vec<u8>>> },
    /// From a peer's handle: end its connection.
    Close { id: PeerId, reason: String },
    /// From itself, each interval and at the end of other time limits.
    Tick,
    /// From the handle: close all, then end.
    Shutdown,
}

impl ractor::Message for ControlMessage {}

/// A connection to be handed to the library.
pub(super) struct Attachment {
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    pub(super) stream: Stream,
    pub(super) tokens: Tokens,
    pub(super) done: Option<Dialler>,
}

/// Held by the node of this process.
struct OnlyOne;

static EXISTS: AtomicBool = AtomicBool::new(false);

impl Drop for OnlyOne {
    fn drop(&mut self) {
        EXISTS.store(false, Ordering::Release);
    }
}

/// What Control starts with.
pub(super) struct Arguments {
    options: Arc<NodeOptions>,
    events: NodeEvents,
    only_one: OnlyOne,
}

impl Arguments {
    pub(super) fn new(options: NodeOptions, events: NodeEvents) -> Result<Self, NodeError> {
        if EXISTS.swap(true, Ordering::AcqRel) {
            return Err(NodeError::Second);
        }
        Ok(Arguments { options: Arc::new(options), events, only_one: OnlyOne })
    }

    pub(super) fn options(&self) -> Arc<NodeOptions> {
        Arc::clone(&self.options)
    }
}

/// The actor.
pub(super) struct Control;

/// State of Control.
pub(super) struct State {
    myself: ActorRef<ControlMessage>,
    options: Arc<NodeOptions>,
    events: NodeEvents,
    server: ActorRef<NodeServerMessage>,
    connections: Connections,
    ticks: Ticks,
    strangers: Strangers,
    is_shutting_down: bool,
    _only_one: OnlyOne,
}

impl Actor for Control {
    type Msg = ControlMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ControlMessage>,
        arguments: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        let Arguments { options, events, only_one } = arguments;
        // before any session: a gate is announced when a session begins
        Actor::spawn_linked(None, Gate { control: myself.clone() }, (), myself.get_cell()).await?;
        let server = server::start(&myself, options.max_message_bytes).await?;
        myself.send_interval(options.heartbeat_interval, || ControlMessage::Tick);
        Ok(State {
            ticks: Ticks::new(options.heartbeat_interval, Instant::now()),
            myself,
            options,
            events,
            server,
            connections: Connections::default(),
            strangers: Strangers::default(),
            is_shutting_down: false,
            _only_one: only_one,
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ControlMessage>,
        message: ControlMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ControlMessage::Listen { listener, done } => {
                let acceptor =
                    Acceptor { control: myself.clone(), handshake_timeout: state.options.handshake_timeout };
                Actor::spawn_linked(None, acceptor, listener, myself.get_cell()).await?;
                // the caller may have gone
                let _ = done.send(());
            }
            ControlMessage::Attach(attachment) => state.attach(*attachment)?,
            ControlMessage::Opened(session) => state.opened(session),
            ControlMessage::Ready(session) => state.ready(&session),
            ControlMessage::Ended(session) => {
                if let Some(id) = state.of_session(&session) {
                    state.end(id, "the connection ended");
                }
            }
            ControlMessage::Received { bytes, port } => state.received(bytes, port),
            ControlMessage::Close { id, reason } => state.close(id, &reason),
            ControlMessage::Tick => state.tick(),
            ControlMessage::Shutdown => {
                state.is_shutting_down = true;
                for id in state.connections.ids() {
                    state.close(id, "the process shuts down");
                }
            }
        }
        if state.is_shutting_down && state.connections.is_empty() {
            myself.stop(Some("shut down".to_owned()));
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _: ActorRef<ControlMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let ended: (ActorCell, String) = match event {
            SupervisionEvent::ActorFailed(child, error) => (child, error.to_string()),
            SupervisionEvent::ActorTerminated(child, _, reason) => (child, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        if state.is_shutting_down {
            return Ok(());
        }
        let reason = format!("actor {} of the node ended: {}", ended.0.get_id(), ended.1);
        for id in state.connections.ids() {
            state.end(id, &reason);
        }
        Err(reason.into())
    }
}

impl State {
    /// Hands a connection to the library.
    fn attach(&mut self, attachment: Attachment) -> Result<(), ActorProcessingErr> {
        let Attachment { name, address, stream, tokens, done } = attachment;
        if self.is_shutting_down {
            return Ok(());
        }
        let is_server = done.is_none();
        let label = format!("{name} at {address}");
        let stage = Stage::Opening { dialler: done, early: Vec::new() };
        let since = Instant::now();
        let heard = Arc::new(AtomicU64::new(0));
        let connection =
            Connection { name, address, tokens, session: None, since, heard: (heard.clone(), 0), stage };
        let id = self.connections.add(connection);
        let stream = Box::new(Labelled { stream, label: format!("{id} {label}"), heard });
        self.server.cast(NodeServerMessage::ConnectionOpenedExternal { stream, is_server })?;
        self.myself.send_after(self.options.handshake_timeout, || ControlMessage::Tick);
        Ok(())
    }

    fn of_session(&self, session: &Session) -> Option<PeerId> {
        session.label.split(' ').next()?.parse().ok().map(PeerId)
    }

    fn opened(&mut self, session: Session) {
        match self.of_session(&session).and_then(|id| self.connections.get_mut(id)) {
            Some(connection) => connection.session = Some(session),
            // given up meanwhile
            None => session.actor.stop(None),
        }
    }

    /// The library has shaken hands: the peer can be told and asked.
    fn ready(&mut self, session: &Session) {
        let Some(id) = self.of_session(session) else { return };
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Stage::Opening { dialler, early } = &mut connection.stage else { return };
        if dialler.as_ref().is_some_and(|dialler| dialler.is_closed()) {
            return self.end(id, "given up by the caller");
        }
        let Some(gate) = session.gate() else { return self.end(id, "the peer has no gate") };
        let (dialler, early) = (dialler.take(), std::mem::take(early));
        let peer = Peer::new(Shared {
            id,
            name: connection.name.clone(),
            address: connection.address,
            way: Way::Session { gate, token: connection.tokens.received, control: self.myself.clone() },
            max_message_bytes: self.options.max_message_bytes,
            gone: OnceLock::new(),
        });
        connection.stage = Stage::Ready(peer.clone());
        connection.since = Instant::now();
        tracing::debug!(%peer, "connected");
        (self.events)(NodeEvent::Connected(peer.clone()));
        if let Some(dialler) = dialler {
            let _ = dialler.send(Ok(peer.clone()));
        }
        for (message, reply) in early {
            (self.events)(NodeEvent::Received { from: peer.clone(), message, reply });
        }
    }

    fn received(&mut self, bytes: Vec<u8>, port: Option<RpcReplyPort<Vec<u8>>>) {
        let reply = port.map(|port| Reply::new(port, self.options.max_message_bytes));
        let known = Envelope::read(bytes)
            .and_then(|envelope| Some((self.connections.of_token(envelope.token)?, envelope)));
        let Some((id, envelope)) = known else {
            self.strangers.count();
            if let Some(reply) = reply {
                reply.put(Answer::Unknown, &[]);
            }
            return;
        };
        let Some(connection) = self.connections.get_mut(id) else { return };
        match (&mut connection.stage, envelope.kind) {
            (Stage::Closing, Kind::Bye) => self.end(id, ""),
            (Stage::Closing, _) => {
                if let Some(reply) = reply {
                    reply.put(Answer::Unknown, &[]);
                }
            }
            (_, Kind::Bye) => {
                let text = String::from_utf8_lossy(&envelope.content);
                let text: String = text.chars().take(MAX_REASON_CHARS).collect();
                self.end(id, &format!("closed by the peer: {text}"));
            }
            (Stage::Opening { early, .. }, Kind::Message) if early.len() < MAX_EARLY => {
                early.push((envelope.content, reply));
            }
            (Stage::Opening { .. }, Kind::Message) => self.end(id, "too much was sent before the greeting"),
            (Stage::Opening { .. }, Kind::Ping) => {}
            (Stage::Ready(_), Kind::Ping) => connection.since = Instant::now(),
            (Stage::Ready(peer), Kind::Message) => {
                connection.since = Instant::now();
                (self.events)(NodeEvent::Received { from: peer.clone(), message: envelope.content, reply });
            }
        }
    }

    /// Ends a connection at the peer's side, so that what was told before gets there.
    fn close(&mut self, id: PeerId, reason: &str) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        match std::mem::replace(&mut connection.stage, Stage::Closing) {
            Stage::Ready(peer) => {
                connection.since = Instant::now();
                // if it cannot be sent, the session is ending
                let _ = peer.send(Kind::Bye, reason.as_bytes());
                let reason = format!("closed by this process: {reason}");
                peer.set_gone(&reason);
                self.myself.send_after(self.options.closing_timeout, || ControlMessage::Tick);
                (self.events)(NodeEvent::Lost { peer, reason });
            }
            opening @ Stage::Opening { .. } => {
                connection.stage = opening;
                self.end(id, reason);
            }
            Stage::Closing => {}
        }
    }

    /// Ends a connection at once and says so, if it was not said before.
    fn end(&mut self, id: PeerId, reason: &str) {
        let Some(connection) = self.connections.remove(id) else { return };
        // before the session ends, and with it all questions: whoever asked is told the reason
        if let Stage::Ready(peer) = &connection.stage {
            peer.set_gone(reason);
        }
        if let Some(session) = connection.session {
            session.actor.stop(Some(reason.to_owned()));
        }
        match connection.stage {
            Stage::Opening { dialler, .. } => {
                tracing::debug!(peer = %connection.name, reason, "not connected");
                if let Some(dialler) = dialler {
                    let error = NodeError::NotReady { peer: connection.name, reason: reason.to_owned() };
                    let _ = dialler.send(Err(error));
                }
            }
            Stage::Ready(peer) => {
                tracing::debug!(%peer, reason, "lost");
                (self.events)(NodeEvent::Lost { peer, reason: reason.to_owned() });
            }
            Stage::Closing => {}
        }
    }

    /// Pings who is ready, and ends what has lasted too long.
    fn tick(&mut self) {
        let now = Instant::now();
        let pause = self.ticks.tick(now);
        let mut overdue = Vec::new();
        for (id, connection) in self.connections.iter_mut() {
            connection.since = (connection.since + pause).min(now);
            connection.tick(now);
            if connection.is_overdue(now, &self.options) {
                overdue.push(id);
            } else if let Stage::Ready(peer) = &connection.stage {
                // if it cannot be sent, the session is ending
                let _ = peer.send(Kind::Ping, &[]);
            }
        }
        for id in overdue {
            let reason = match self.connections.get_mut(id).map(|connection| &connection.stage) {
                Some(Stage::Ready(_)) => format!("nothing heard for {:?}", self.options.heartbeat_timeout),
                _ => "not done in time".to_owned(),
            };
            self.end(id, &reason);
        }
    }
}

/// Counts messages whose token is nobody's: late ones of a lost peer, or attempts to speak in another's name.
#[derive(Debug, Default)]
struct Strangers {
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl Strangers {
    fn count(&mut self) {
        self.unlogged += 1;
        let now = Instant::now();
        if self.logged_at.is_none_or(|at| now.duration_since(at) >= LOG_INTERVAL) {
            tracing::warn!(count = self.unlogged, "dropped messages that carry no token of a connected peer");
            self.unlogged = 0;
            self.logged_at = Some(now);
        }
    }
}
