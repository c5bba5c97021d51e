//! The connections of a node, in which stage each is, and until when it may be.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hurtig_transport::Name;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::hello::Tokens;
use super::peer::{Peer, PeerId, Reply};
use super::server::Session;
use super::wire::Token;
use super::{NodeError, NodeOptions};

/// Who waits for a dialled peer.
pub(super) type Dialler = oneshot::Sender<Result<Peer, NodeError>>;

/// One connection, from the hand-over to the actor library until its session has ended.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) name: Name,
    pub(super) address: SocketAddr,
    pub(super) tokens: Tokens,
    /// Not known until the library has it.
    pub(super) session: Option<Session>,
    /// When the stage began; if ready, when the peer was heard last.
    pub(super) since: Instant,
    /// Bytes that came, and how many there were at the last tick.
    pub(super) heard: (Arc<AtomicU64>, u64),
    pub(super) stage: Stage,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// The library shakes hands.
    Opening {
        dialler: Option<Dialler>,
        /// The peer may be ready, and send, before this side is.
        early: Vec<(Bytes, Option<Reply>)>,
    },
    /// Said to be connected.
    Ready(Peer),
    /// Said to be lost; the peer is to end the connection.
    Closing,
}

impl Connection {
    /// A long message on a slow line is a sign of life long before it has come whole.
    pub(super) fn tick(&mut self, now: Instant) {
        let (heard, before) = &mut self.heard;
        let heard = heard.load(Ordering::Relaxed);
        if std::mem::replace(before, heard) != heard && matches!(self.stage, Stage::Ready(_)) {
            self.since = now;
        }
    }

    /// Whether the stage, or the peer's silence, has lasted too long.
    pub(super) fn is_overdue(&self, now: Instant, options: &NodeOptions) -> bool {
        now.duration_since(self.since) >= self.limit(options)
    }

    fn limit(&self, options: &NodeOptions) -> Duration {
        match self.stage {
            Stage::Opening { .. } => options.handshake_timeout,
            Stage::Ready(_) => options.heartbeat_timeout,
            Stage::Closing => options.closing_timeout,
        }
    }
}

/// All of them, by number and by the token their peer sends.
#[derive(Debug, Default)]
pub(super) struct Connections {
    by_id: HashMap<PeerId, Connection>,
    by_token: HashMap<Token, PeerId>,
    last_id: u64,
}

impl Connections {
    pub(super) fn add(&mut self, connection: Connection) -> PeerId {
        self.last_id += 1;
        let id = PeerId(self.last_id);
        self.by_token.insert(connection.tokens.issued, id);
        self.by_id.insert(id, connection);
        id
    }

    pub(super) fn get_mut(&mut self, id: PeerId) -> Option<&mut Connection> {
        self.by_id.get_mut(&id)
    }

    /// Whose token it is.
    pub(super) fn of_token(&self, token: Token) -> Option<PeerId> {
        self.by_token.get(&token).copied()
    }

    pub(super) fn remove(&mut self, id: PeerId) -> Option<Connection> {
        let connection = self.by_id.remove(&id)?;
        self.by_token.remove(&connection.tokens.issued);
        Some(connection)
    }

    pub(super) fn ids(&self) -> Vec<PeerId> {
        self.by_id.keys().copied().collect()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (PeerId, &mut Connection)> {
        self.by_id.iter_mut().map(|(id, connection)| (*id, connection))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}
