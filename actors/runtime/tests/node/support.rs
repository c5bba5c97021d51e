//! What the tests of the node share.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use hurtig_runtime::node::{Node, NodeError, NodeEvent, NodeEvents, NodeOptions, Peer, decode};
use hurtig_transport::{Authority, Name, Role, Tls, Validity};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, MutexGuard, mpsc, watch};
use tokio::task::JoinSet;

use super::other::{MARK, Order, Start, to_hex};

/// Of both sides, so that tests of silence are quick.
pub(crate) const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);
pub(crate) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// Long enough for anything that should happen at all.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// There can be one node in a process.
static ONE: Mutex<()> = Mutex::const_new(());

pub(crate) fn events() -> (NodeEvents, mpsc::UnboundedReceiver<NodeEvent>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let on_event = Arc::new(move |event| {
        let _ = sender.send(event);
    });
    (on_event, receiver)
}

/// The node under test: a JobManager that lets TaskManagers in.
pub(crate) struct Hub {
    pub(crate) node: Node,
    pub(crate) authority: Arc<Authority>,
    pub(crate) address: SocketAddr,
    events: mpsc::UnboundedReceiver<NodeEvent>,
    others: usize,
    _one: MutexGuard<'static, ()>,
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let one = ONE.lock().await;
        let options = NodeOptions {
            heartbeat_interval: HEARTBEAT_TIMEOUT / 5,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
            max_message_bytes: MAX_MESSAGE_BYTES,
            ..NodeOptions::default()
        };
        let (on_event, events) = events();
        let node = loop {
            match Node::start(options.clone(), on_event.clone()).await {
                Ok(node) => break node,
                // of a test that has failed
                Err(NodeError::Second) => tokio::time::sleep(Duration::from_millis(10)).await,
                Err(error) => panic!("{error}"),
            }
        };
        let authority = Arc::new(Authority::ephemeral("test", Validity::days(1)).unwrap());
        let tls = tls(&authority, Role::JobManager, "hub");
        let allow = |name: &Name| name.role() == Role::TaskManager;
        let address = node.listen("127.0.0.1:0".parse().unwrap(), &tls, allow).await.unwrap();
        Hub { node, authority, address, events, others: 0, _one: one }
    }

    /// Starts another process and waits until it is connected.
    pub(crate) async fn other(&mut self) -> Other {
        self.other_with(MAX_MESSAGE_BYTES).await
    }

    /// As [`Hub::other`], with the certificate of another authority, to another address.
    pub(crate) async fn other_of(&mut self, authority: &Authority, address: SocketAddr) -> Other {
        self.start_other(authority, address, MAX_MESSAGE_BYTES).await
    }

    pub(crate) async fn other_with(&mut self, max_message_bytes: usize) -> Other {
        let authority = Arc::clone(&self.authority);
        self.start_other(&authority, self.address, max_message_bytes).await
    }

    async fn start_other(
        &mut self,
        authority: &Authority,
        address: SocketAddr,
        max_message_bytes: usize,
    ) -> Other {
        self.others += 1;
        let name = Name::new(Role::TaskManager, &format!("other-{}", self.others)).unwrap();
        let identity = authority.issue(&name, Validity::days(1), &[]).unwrap().to_bytes();
        let start = Start {
            identity,
            address: address.to_string(),
            max_message_bytes,
            heartbeat_timeout: HEARTBEAT_TIMEOUT,
        };
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["other::the_other_process", "--exact", "--nocapture"])
            .env(MARK, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let line = to_hex(&rmp_serde::to_vec(&start).unwrap());
        writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
        let peer = self.connected().await;
        assert_eq!(*peer.name(), name);
        Other { child, peer }
    }

    pub(crate) async fn event(&mut self) -> NodeEvent {
        let event = tokio::time::timeout(LONG, self.events.recv()).await;
        event.expect("an event should have come by now").expect("the node should be there")
    }

    pub(crate) async fn connected(&mut self) -> Peer {
        match self.event().await {
            NodeEvent::Connected(peer) => peer,
            event => panic!("expected a connection, got {event:?}"),
        }
    }

    pub(crate) async fn lost(&mut self) -> (Peer, String) {
        match self.event().await {
            NodeEvent::Lost { peer, reason } => (peer, reason),
            event => panic!("expected a loss, got {event:?}"),
        }
    }

    pub(crate) async fn message<T: DeserializeOwned>(&mut self, who: &Peer) -> T {
        match self.event().await {
            NodeEvent::Received { from, message, reply: None } if from == *who => decode(&message).unwrap(),
            event => panic!("expected a message of {who}, got {event:?}"),
        }
    }

    /// Fails if anything happens within a while.
    pub(crate) async fn is_quiet_for(&mut self, while_: Duration) {
        if let Ok(event) = tokio::time::timeout(while_, self.events.recv()).await {
            panic!("nothing should have happened, but {event:?}");
        }
    }

    /// Ends the node. Returns what it said of it.
    pub(crate) async fn shutdown(mut self) -> Vec<NodeEvent> {
        self.node.shutdown().await;
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// A cable to the hub that can be cut: what is connected through it then hears nothing more, not even an end.
pub(crate) struct Cable {
    pub(crate) address: SocketAddr,
    cut: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Cable {
    pub(crate) async fn to(hub: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, is_cut) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut cables = JoinSet::new();
            loop {
                let (mut left, _) = listener.accept().await.unwrap();
                let mut is_cut = is_cut.clone();
                is_cut.mark_unchanged();
                cables.spawn(async move {
                    let mut right = TcpStream::connect(hub).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut left, &mut right) => {}
                        _ = is_cut.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Cable { address, cut, _tasks: tasks }
    }

    /// What connects from now on is connected again.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(());
    }
}

/// Another process; killed when dropped.
pub(crate) struct Other {
    child: Child,
    pub(crate) peer: Peer,
}

impl Other {
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
    }

    pub(crate) fn tell(&self, order: Order) {
        self.peer.tell(&order).unwrap();
    }

    pub(crate) async fn ask<R: DeserializeOwned>(&self, order: Order) -> R {
        self.peer.ask(&order, LONG).await.unwrap()
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn tls(authority: &Authority, role: Role, id: &str) -> Tls {
    let name = Name::new(role, id).unwrap();
    Tls::new(authority.issue(&name, Validity::days(1), &[]).unwrap()).unwrap()
}

/// Something that can be sent but not written as a message.
pub(crate) struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("as ordered"))
    }
}
