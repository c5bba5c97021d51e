//! The links of a worker: one connection for each other worker of the job that its subtasks exchange with, made anew
//! for each attempt, so that nothing of an attempt can come to the next.
//!
//! Of two workers the one with the smaller id dials. It says which attempt and worker it is; the other holds the
//! connection until it has come to that attempt itself.

use crate::execution::{ExecutionGraph, Wiring};
use crate::subtask::SubtaskMessage;
use crate::subtask::neighbours::{CREDIT, ELEMENT};
use crate::worker::WorkerMessage;
use futures::future::BoxFuture;
use hurtig_dataflow::ids::{Attempt, SubtaskId};
use hurtig_transport::link::LinkHandler;
use hurtig_transport::{Frame, Link, LinkEnd, LinkOptions, LinkSender, Violation};
use ractor::ActorRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A worker, unique within its cluster for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A connection between two workers.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Connects to another worker by its address.
pub type Dial = Arc<dyn Fn(String) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> + Send + Sync>;

/// How a worker reaches others, and is reached.
#[derive(Clone)]
pub struct Network {
    /// Where this worker accepts connections.
    pub address: String,
    /// Connects to others.
    pub dial: Dial,
    /// How links behave.
    pub options: LinkOptions,
}

/// Where the subtasks of an attempt are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Which worker each is on.
    pub subtasks: BTreeMap<SubtaskId, WorkerId>,
    /// Where each worker accepts connections.
    pub workers: BTreeMap<WorkerId, String>,
}

/// How links between workers behave.
pub fn link_options() -> LinkOptions {
    LinkOptions { max_payload_bytes: MAX_ELEMENT_BYTES, max_queued_bytes: 1 << 30, ..LinkOptions::default() }
}

/// The longest batch that may leave a process, in bytes.
const MAX_ELEMENT_BYTES: u32 = 64 << 20;

/// Number of bytes in which the dialing side says who it is.
const HELLO_BYTES: usize = 12;

/// Says which attempt and worker a fresh connection is from.
async fn say_hello(stream: &mut Box<dyn Duplex>, attempt: Attempt, from: WorkerId) -> io::Result<()> {
    let mut hello = [0; HELLO_BYTES];
    hello[..4].copy_from_slice(&attempt.0.to_le_bytes());
    hello[4..].copy_from_slice(&from.0.to_le_bytes());
    stream.write_all(&hello).await?;
    stream.flush().await
}

/// Hears which attempt and worker an accepted connection is from, and hands it to the worker.
pub async fn welcome(worker: ActorRef<WorkerMessage>, mut stream: Box<dyn Duplex>) -> io::Result<()> {
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    let (attempt, from) = hello.split_at(4);
    let attempt = Attempt(attempt.try_into().map(u32::from_le_bytes).unwrap_or_default());
    let from = WorkerId(from.try_into().map(u64::from_le_bytes).unwrap_or_default());
    let _ = worker.cast(WorkerMessage::Connected { attempt, peer: from, result: Ok(stream) });
    Ok(())
}

/// Connects to the workers that this one is to dial; each answer comes as a message.
pub fn dial_peers(
    network: &Network,
    me: WorkerId,
    attempt: Attempt,
    peers: &BTreeMap<WorkerId, String>,
    worker: &ActorRef<WorkerMessage>,
) -> Vec<BoxFuture<'static, ()>> {
    let dial = |(peer, address): (&WorkerId, &String)| -> BoxFuture<'static, ()> {
        let (dial, address, peer, worker) =
            (Arc::clone(&network.dial), address.clone(), *peer, worker.clone());
        Box::pin(async move {
            let result = async {
                let mut stream = dial(address).await?;
                say_hello(&mut stream, attempt, me).await?;
                Ok(stream)
            };
            let result = result.await;
            let _ = worker.cast(WorkerMessage::Connected { attempt, peer, result });
        })
    };
    peers.iter().filter(|(peer, _)| **peer > me).map(dial).collect()
}

/// A local subtask and the number of one of its channels.
type End = (ActorRef<SubtaskMessage>, usize);

/// Which local subtask each channel of a link belongs to.
#[derive(Clone, Default)]
pub struct Routes {
    /// Receivers and their input channels.
    elements: HashMap<u32, End>,
    /// Senders and their output channels.
    credits: HashMap<u32, End>,
}

impl Routes {
    /// The routes of all channels that begin or end at a local subtask.
    pub fn new<'a>(
        local: impl Iterator<Item = (SubtaskId, &'a ActorRef<SubtaskMessage>, &'a Wiring)>,
        first: &BTreeMap<SubtaskId, u32>,
    ) -> Self {
        let mut routes = Routes::default();
        for (id, actor, wiring) in local {
            for at in 0..wiring.inputs.len() {
                routes.elements.insert(first[&id] + at as u32, (actor.clone(), at));
            }
            for (at, output) in wiring.outputs.iter().enumerate() {
                routes.credits.insert(first[&output.to] + output.channel as u32, (actor.clone(), at));
            }
        }
        routes
    }
}

/// Passes on what comes over one link.
struct Incoming {
    routes: Arc<Routes>,
    attempt: Attempt,
    peer: WorkerId,
    worker: ActorRef<WorkerMessage>,
}

impl LinkHandler for Incoming {
    fn on_frame(&mut self, frame: Frame) -> Result<(), Violation> {
        let unknown = || Violation(format!("frame of kind {} on channel {}", frame.kind, frame.channel));
        match frame.kind {
            ELEMENT => {
                let (actor, channel) = self.routes.elements.get(&frame.channel).ok_or_else(unknown)?;
                // A subtask that is gone has failed; the attempt ends.
                let _ = actor.cast(SubtaskMessage::Encoded { channel: *channel, bytes: frame.payload });
            }
            CREDIT => {
                let (actor, output) = self.routes.credits.get(&frame.channel).ok_or_else(unknown)?;
                let count = frame.payload[..].try_into().map(u32::from_le_bytes).map_err(|_| unknown())?;
                let _ = actor.cast(SubtaskMessage::Credit { output: *output, count });
            }
            _ => return Err(unknown()),
        }
        Ok(())
    }

    fn on_end(&mut self, end: LinkEnd) {
        if !matches!(end, LinkEnd::Closed) {
            let message =
                WorkerMessage::LinkLost { attempt: self.attempt, peer: self.peer, reason: end.to_string() };
            let _ = self.worker.cast(message);
        }
    }
}

/// Starts the link to a peer over its connection.
pub fn start(
    stream: Box<dyn Duplex>,
    options: &LinkOptions,
    routes: &Arc<Routes>,
    (attempt, peer): (Attempt, WorkerId),
    worker: &ActorRef<WorkerMessage>,
) -> Link {
    let incoming = Incoming { routes: Arc::clone(routes), attempt, peer, worker: worker.clone() };
    Link::start(stream, options.clone(), incoming)
}

/// The other workers that local subtasks exchange with, and their addresses.
pub fn peers_of(
    me: WorkerId,
    execution: &ExecutionGraph,
    placement: &Placement,
) -> BTreeMap<WorkerId, String> {
    let mine = |id: &SubtaskId| placement.subtasks.get(id) == Some(&me);
    let mut peers = BTreeSet::new();
    for (_, wiring) in execution.wiring.iter().filter(|(id, _)| mine(id)) {
        let neighbours = wiring.inputs.iter().map(|input| input.from);
        peers.extend(
            neighbours
                .chain(wiring.outputs.iter().map(|output| output.to))
                .filter_map(|neighbour| placement.subtasks.get(&neighbour)),
        );
    }
    peers.remove(&me);
    peers.into_iter().filter_map(|peer| Some((peer, placement.workers.get(&peer)?.clone()))).collect()
}

/// Links that are open, by worker.
#[derive(Default)]
pub struct Links {
    links: BTreeMap<WorkerId, Link>,
}

impl Links {
    /// Adds a link.
    pub fn insert(&mut self, peer: WorkerId, link: Link) {
        self.links.insert(peer, link);
    }

    /// What sends to a worker.
    pub fn sender(&self, peer: WorkerId) -> Option<&LinkSender> {
        self.links.get(&peer).map(Link::sender)
    }

    /// Number of links.
    pub fn count(&self) -> usize {
        self.links.len()
    }

    /// Closes all in good order, beside the caller.
    pub fn close(&mut self) {
        for mut link in std::mem::take(&mut self.links).into_values() {
            link.close();
            // Ends by itself, at the latest with the link's time-out.
            #[allow(
                clippy::disallowed_methods,
                reason = "outlives the attempt, so that the peer hears the end"
            )]
            tokio::spawn(async move { link.ended().await });
        }
    }
}
