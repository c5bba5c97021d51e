//! The actor library's side: its server, what it says of sessions, and how the gate of a session is found.

use std::sync::Arc;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, pg};
use ractor_cluster::node::{NodeConnectionMode, NodeServerSessionInformation};
use ractor_cluster::{
    IncomingEncryptionMode, NodeEventSubscription, NodeServer, NodeServerMessage, NodeSessionMessage,
};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::TLS13;

use super::control::ControlMessage;
use super::wire::{FRAME_OVERHEAD_BYTES, GateMessage};

/// Group of the gates of all processes that this one is connected with.
const SCOPE: &str = "hurtig";
const GROUP: &str = "gates";
/// Peers have proven themselves by TLS; the library wants a secret nevertheless.
const COOKIE: &str = "hurtig";

/// A session, as the library tells of it.
#[derive(Debug, Clone)]
pub(super) struct Session {
    pub(super) actor: ActorRef<NodeSessionMessage>,
    /// Of the library; each session has another.
    node: u64,
    /// As we gave it with the connection.
    pub(super) label: String,
}

impl Session {
    /// The peer's gate.
    ///
    /// Every peer can put actors into groups, so only one that came by this very session is taken.
    pub(super) fn gate(&self) -> Option<ActorRef<GateMessage>> {
        let of_session = |member: &ActorCell| {
            matches!(member.get_id(), ActorId::Remote { node_id, .. } if node_id == self.node)
                && member.try_get_supervisor().is_some_and(|parent| parent.get_id() == self.actor.get_id())
        };
        let members = pg::get_scoped_members(&SCOPE.to_owned(), &GROUP.to_owned());
        members.into_iter().find(of_session).map(ActorRef::from)
    }
}

/// Makes a gate known to all peers.
pub(super) fn announce(gate: &ActorRef<GateMessage>) {
    pg::join_scoped(SCOPE.to_owned(), GROUP.to_owned(), vec![gate.get_cell()]);
}

/// Starts the library's server as a child of Control, to which it then tells what becomes of sessions.
pub(super) async fn start(
    control: &ActorRef<ControlMessage>,
    max_message_bytes: usize,
) -> Result<ActorRef<NodeServerMessage>, ActorProcessingErr> {
    // unique for each start of a process: the library would otherwise keep one of two connections of the same name
    #[allow(clippy::disallowed_methods, reason = "it must differ from those of all other processes")]
    let name = format!("{:032x}", rand::random::<u128>());
    let nobody = Some(IncomingEncryptionMode::Tls(nobody()?));
    let mode = Some(NodeConnectionMode::Isolated);
    let server = NodeServer::new(0, COOKIE.to_owned(), name.clone(), name, nobody, mode)
        .with_listen_addr([127, 0, 0, 1].into())
        .with_max_inbound_frame_size((max_message_bytes + FRAME_OVERHEAD_BYTES) as u64);
    let (server, _) = Actor::spawn_linked(None, server, (), control.get_cell()).await?;
    let subscription = Box::new(Events { control: control.clone() });
    server.cast(NodeServerMessage::SubscribeToEvents { id: SCOPE.to_owned(), subscription })?;
    Ok(server)
}

/// TLS that fails for everybody: it has no certificate to show.
fn nobody() -> Result<TlsAcceptor, ActorProcessingErr> {
    #[derive(Debug)]
    struct NoCertificate;
    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Called within the library's server: only casts.
struct Events {
    control: ActorRef<ControlMessage>,
}

impl Events {
    fn pass(&self, session: NodeServerSessionInformation, message: fn(Session) -> ControlMessage) {
        let session = Session { actor: session.actor, node: session.node_id, label: session.peer_addr };
        // if Control is gone, so is the server, its child
        let _ = self.control.cast(message(session));
    }
}

impl NodeEventSubscription for Events {
    fn node_session_opened(&self, session: NodeServerSessionInformation) {
        self.pass(session, ControlMessage::Opened);
    }

    fn node_session_disconnected(&self, session: NodeServerSessionInformation) {
        self.pass(session, ControlMessage::Ended);
    }

    fn node_session_authenticated(&self, _: NodeServerSessionInformation) {}

    fn node_session_ready(&self, session: NodeServerSessionInformation) {
        self.pass(session, ControlMessage::Ready);
    }
}
