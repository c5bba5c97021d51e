//! Connections between nodes of one process, for simulation: no sockets, no actors of the library, no certificates
//! verified. Names are those of the identities; who is let in, the order of what is told, questions and their ends, and
//! how a lost peer is told of are as between processes.
//!
//! # Decisions
//! * 2026-11: not the actor library's sessions over pipes in memory: it has one table of names and groups for all of a
//!   process, so that each session would announce the gates of all nodes.

use super::peer::{Peer, PeerId, Reply, Shared, Way};
use super::{NodeError, NodeEvent, NodeEvents, NodeOptions};
use crate::tasks::Tasks;
use crate::worker::memory::NetworkFaults;
use hurtig_transport::{Error, Name, Peer as Whom, Tls};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};

/// Where a node is, on such a network: a process, as far as the others can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

/// Ports that are given to whoever wants any begin here.
const FIRST_PORT: u16 = 20_000;

/// A network of nodes. Clones are the same one.
#[derive(Clone)]
pub struct ControlNetwork {
    faults: Arc<dyn NetworkFaults>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    ports: u16,
    last_line: u64,
    listeners: BTreeMap<SocketAddr, Listener>,
    lines: BTreeMap<u64, Line>,
    /// Those whom nothing reaches, and from whom nothing comes.
    cut_off: BTreeSet<Place>,
}

type Allow = Arc<dyn Fn(&Name) -> bool + Send + Sync>;

#[derive(Clone)]
struct Listener {
    name: Name,
    node: MemoryNode,
    allow: Allow,
}

/// A connection.
struct Line {
    ends: [End; 2],
    left_bytes: u64,
    left_to_silence: u64,
    is_silent: bool,
    /// What is lost in the silence: who has asked does not hear that it is.
    held: Vec<Parcel>,
    tasks: Tasks,
}

/// One side of it.
struct End {
    node: MemoryNode,
    /// The other side, as this one knows it.
    peer: Peer,
    way_in: mpsc::UnboundedSender<(Instant, Parcel)>,
    last_arrival: Instant,
    /// Whether this side has said that the other is lost.
    has_ended: bool,
}

/// What travels.
enum Parcel {
    Told(Vec<u8>),
    Asked(Vec<u8>, oneshot::Sender<Vec<u8>>),
    Answered(Vec<u8>, oneshot::Sender<Vec<u8>>),
    Bye(String),
}

/// What each parcel counts for, whatever it holds: that differs from run to run, by certificates and times.
const PARCEL_BYTES: u64 = 1 << 10;

/// One side's handle on a connection.
pub(super) struct Wire {
    network: ControlNetwork,
    line: u64,
    end: usize,
}

impl Wire {
    /// Whether it was sent: not, if the connection is gone.
    pub(super) fn tell(&self, content: Vec<u8>) -> bool {
        self.network.send(self.line, self.end, Parcel::Told(content))
    }

    /// The same for a question.
    pub(super) fn ask(&self, content: Vec<u8>, answer: oneshot::Sender<Vec<u8>>) -> bool {
        self.network.send(self.line, self.end, Parcel::Asked(content, answer))
    }

    pub(super) fn close(&self, reason: &str) {
        let _ = self.network.send(self.line, self.end, Parcel::Bye(reason.to_owned()));
        self.network.end(self.line, self.end, &format!("closed by this process: {reason}"));
    }
}

/// A node on such a network.
#[derive(Clone)]
pub(super) struct MemoryNode {
    network: ControlNetwork,
    place: Place,
    options: Arc<NodeOptions>,
    events: NodeEvents,
}

impl std::fmt::Debug for MemoryNode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryNode({:?})", self.place)
    }
}

impl MemoryNode {
    pub(super) fn new(
        network: ControlNetwork,
        place: Place,
        options: NodeOptions,
        events: NodeEvents,
    ) -> Self {
        MemoryNode { network, place, options: Arc::new(options), events }
    }

    pub(super) fn listen(
        &self,
        mut address: SocketAddr,
        tls: &Tls,
        allow: impl Fn(&Name) -> bool + Send + Sync + 'static,
    ) -> Result<SocketAddr, NodeError> {
        let mut state = self.network.state.lock();
        if address.port() == 0 {
            address.set_port(FIRST_PORT + state.ports);
            state.ports += 1;
        }
        if state.listeners.contains_key(&address) {
            let source = io::ErrorKind::AddrInUse.into();
            return Err(NodeError::Transport(Error::Listen { address, source }));
        }
        let listener = Listener { name: tls.name(), node: self.clone(), allow: Arc::new(allow) };
        state.listeners.insert(address, listener);
        Ok(address)
    }

    pub(super) async fn dial(&self, address: &str, tls: &Tls, whom: &Whom) -> Result<Peer, NodeError> {
        // There and back.
        sleep(self.network.faults.delay() + self.network.faults.delay()).await;
        let failed = |kind: io::ErrorKind| {
            let peer = whom.dns_name();
            NodeError::Transport(Error::Connect { peer, address: address.to_owned(), source: kind.into() })
        };
        let at: SocketAddr = address.parse().map_err(|_| failed(io::ErrorKind::InvalidInput))?;
        let found = {
            let state = self.network.state.lock();
            let listener = state.listeners.get(&at).cloned();
            let is_cut_off = |place: &Place| state.cut_off.contains(place);
            let hears = |listener: &Listener| !is_cut_off(&listener.node.place);
            if is_cut_off(&self.place) || listener.as_ref().is_some_and(|listener| !hears(listener)) {
                Err(())
            } else {
                Ok(listener)
            }
        };
        let listener = match found {
            Ok(Some(listener)) => listener,
            Ok(None) => return Err(failed(io::ErrorKind::ConnectionRefused)),
            Err(()) => {
                sleep(self.options.handshake_timeout).await;
                return Err(failed(io::ErrorKind::TimedOut));
            }
        };
        let name = tls.name();
        if !whom.is(&listener.name) || !(listener.allow)(&name) {
            return Err(failed(io::ErrorKind::PermissionDenied));
        }
        Ok(self.network.connect([(self, name), (&listener.node, listener.name)], at))
    }

    pub(super) async fn shutdown(&self) {
        let ends = {
            let mut state = self.network.state.lock();
            state.listeners.retain(|_, listener| listener.node.place != self.place);
            state.ends_at(self.place)
        };
        for (line, end) in ends {
            Wire { network: self.network.clone(), line, end }.close("the process shuts down");
        }
        // So that all of it has left before the process ends.
        sleep(self.network.faults.delay()).await;
    }
}

impl State {
    fn ends_at(&self, place: Place) -> Vec<(u64, usize)> {
        let ends = |(line, of): (&u64, &Line)| {
            let line = *line;
            let here = of.ends.each_ref().map(|end| end.node.place == place && !end.has_ended);
            here.into_iter().enumerate().filter(|(_, is_here)| *is_here).map(move |(end, _)| (line, end))
        };
        self.lines.iter().flat_map(|line| ends(line).collect::<Vec<_>>()).collect()
    }
}

impl ControlNetwork {
    /// A network on which such things go wrong.
    pub fn new(faults: Arc<dyn NetworkFaults>) -> Self {
        ControlNetwork { faults, state: Arc::default() }
    }

    /// A process is gone: its connections are reset.
    pub fn remove(&self, place: Place) {
        let mut state = self.state.lock();
        state.listeners.retain(|_, listener| listener.node.place != place);
        state.cut_off.remove(&place);
        for (line, end) in state.ends_at(place) {
            let Some(of) = state.lines.get_mut(&line) else { continue };
            of.ends[end].has_ended = true;
            if !of.is_silent {
                let (network, delay) = (self.clone(), self.faults.delay());
                of.tasks.spawn(async move {
                    sleep(delay).await;
                    network.end(line, 1 - end, "the connection was reset");
                });
            }
        }
    }

    /// Nothing comes from this place or gets there any more, and nobody is told.
    pub fn cut_off(&self, place: Place) {
        let mut state = self.state.lock();
        state.cut_off.insert(place);
        for (line, _) in state.ends_at(place) {
            self.silence(&mut state, line);
        }
    }

    /// It can be reached again; connections of before stay silent.
    pub fn rejoin(&self, place: Place) {
        self.state.lock().cut_off.remove(&place);
    }

    /// A connection on which nothing comes through: both sides give it up after their time-out.
    fn silence(&self, state: &mut State, line: u64) {
        let Some(of) = state.lines.get_mut(&line) else { return };
        if std::mem::replace(&mut of.is_silent, true) {
            return;
        }
        for end in [0, 1] {
            let options = Arc::clone(&of.ends[end].node.options);
            let (network, limit) = (self.clone(), options.heartbeat_timeout + self.faults.delay());
            of.tasks.spawn(async move {
                sleep(limit).await;
                network.end(line, end, &format!("nothing heard for {limit:?}"));
            });
        }
    }

    fn connect(&self, sides: [(&MemoryNode, Name); 2], address: SocketAddr) -> Peer {
        let [(dialler, dialler_name), (listener, listener_name)] = sides;
        let mut state = self.state.lock();
        state.last_line += 1;
        let line = state.last_line;
        let from = SocketAddr::from((Ipv4Addr::LOCALHOST, 40_000 + (line % 20_000) as u16));
        let tasks = Tasks::default();
        let end = |end: usize, node: &MemoryNode, name: Name, address| {
            let (way_in, parcels) = mpsc::unbounded_channel();
            let peer = Peer::new(Shared {
                id: PeerId(2 * line + end as u64),
                name,
                address,
                way: Way::Memory(Wire { network: self.clone(), line, end }),
                max_message_bytes: node.options.max_message_bytes,
                gone: OnceLock::new(),
            });
            tasks.spawn(self.clone().deliver(parcels, line, end, node.clone(), peer.clone()));
            End { node: node.clone(), peer, way_in, last_arrival: Instant::now(), has_ended: false }
        };
        let ends = [end(0, dialler, listener_name, address), end(1, listener, dialler_name, from)];
        let peers = ends.each_ref().map(|end| end.peer.clone());
        let of = Line {
            ends,
            left_bytes: self.faults.breaks_after().unwrap_or(u64::MAX),
            left_to_silence: self.faults.is_silent_after().unwrap_or(u64::MAX),
            is_silent: false,
            held: Vec::new(),
            tasks: tasks.clone(),
        };
        state.lines.insert(line, of);
        drop(state);
        let [of_dialler, of_listener] = peers;
        (dialler.events)(NodeEvent::Connected(of_dialler.clone()));
        (listener.events)(NodeEvent::Connected(of_listener));
        of_dialler
    }

    /// Sends something from one end of a connection to the other.
    fn send(&self, line: u64, from: usize, parcel: Parcel) -> bool {
        let mut state = self.state.lock();
        let Some(of) = state.lines.get_mut(&line).filter(|of| !of.ends[from].has_ended) else { return false };
        if of.is_silent {
            of.held.push(parcel);
            return true;
        }
        of.left_bytes = of.left_bytes.saturating_sub(PARCEL_BYTES);
        of.left_to_silence = of.left_to_silence.saturating_sub(PARCEL_BYTES);
        if of.left_to_silence == 0 {
            of.held.push(parcel);
            self.silence(&mut state, line);
            return true;
        }
        if of.left_bytes == 0 {
            let network = self.clone();
            // Not at once: whoever sends is in the middle of something.
            of.tasks.spawn(async move {
                network.end(line, 0, "the connection broke");
                network.end(line, 1, "the connection broke");
            });
            return true;
        }
        let to = &mut of.ends[1 - from];
        to.last_arrival = to.last_arrival.max(Instant::now() + self.faults.delay());
        to.way_in.send((to.last_arrival, parcel)).is_ok()
    }

    /// Hands over what comes in at one end.
    async fn deliver(
        self,
        mut parcels: mpsc::UnboundedReceiver<(Instant, Parcel)>,
        line: u64,
        end: usize,
        node: MemoryNode,
        peer: Peer,
    ) {
        while let Some((at, parcel)) = parcels.recv().await {
            sleep_until(at).await;
            let (message, asker) = match parcel {
                Parcel::Told(message) => (message, None),
                Parcel::Asked(message, asker) => (message, Some(asker)),
                Parcel::Answered(answer, asker) => {
                    // Who has asked may have given up.
                    let _ = asker.send(answer);
                    continue;
                }
                Parcel::Bye(reason) => return self.end(line, end, &format!("closed by the peer: {reason}")),
            };
            {
                let mut state = self.state.lock();
                let Some(of) = state.lines.get_mut(&line) else { return };
                if of.is_silent {
                    // It was on its way.
                    of.held.push(match asker {
                        Some(asker) => Parcel::Asked(message, asker),
                        None => Parcel::Told(message),
                    });
                    continue;
                }
                if of.ends[end].has_ended {
                    return;
                }
            }
            let reply = asker.map(|asker| {
                let (port, answer) = oneshot::channel();
                self.answer_later(line, end, answer, asker);
                Reply::new(port.into(), node.options.max_message_bytes)
            });
            (node.events)(NodeEvent::Received { from: peer.clone(), message: message.into(), reply });
        }
    }

    fn answer_later(
        &self,
        line: u64,
        end: usize,
        answer: oneshot::Receiver<Vec<u8>>,
        asker: oneshot::Sender<Vec<u8>>,
    ) {
        let network = self.clone();
        let Some(tasks) = self.state.lock().lines.get(&line).map(|of| of.tasks.clone()) else { return };
        tasks.spawn(async move {
            if let Ok(answer) = answer.await {
                network.send(line, end, Parcel::Answered(answer, asker));
            }
        });
    }

    /// One side says that the other is lost. When both have, the connection is forgotten.
    fn end(&self, line: u64, end: usize, reason: &str) {
        let mut state = self.state.lock();
        let Some(of) = state.lines.get_mut(&line) else { return };
        let this = &mut of.ends[end];
        let lost = (!std::mem::replace(&mut this.has_ended, true)).then(|| {
            this.peer.set_gone(reason);
            (Arc::clone(&this.node.events), this.peer.clone())
        });
        let forgotten =
            if of.ends.iter().all(|end| end.has_ended) { state.lines.remove(&line) } else { None };
        drop(state);
        if let Some((events, peer)) = lost {
            events(NodeEvent::Lost { peer, reason: reason.to_owned() });
        }
        // Its tasks end with it, this one perhaps among them.
        drop(forgotten);
    }
}
