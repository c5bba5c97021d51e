//! The links of a worker: one connection for each other worker of the job that its subtasks exchange with, made anew
//! for each attempt, so that nothing of an attempt can come to the next.
//!
//! Of two workers the one with the smaller id dials. It says which attempt and worker it is; the other holds the
//! connection until it has come to that attempt itself.

use crate::execution::{ExecutionGraph, Wiring};
use crate::subtask::SubtaskMessage;
use crate::subtask::neighbours::{CREDIT, ELEMENT};
use crate::worker::WorkerMessage;
use crate::worker::credit::{Credit, InputCredit};
use futures::future::BoxFuture;
use hurtig_dataflow::ids::{Attempt, SubtaskId};
use hurtig_transport::link::LinkHandler;
use hurtig_transport::{Frame, Link, LinkEnd, LinkOptions, LinkSender, Violation};
use ractor::ActorRef;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::runtime::Handle;

/// A worker, unique within its cluster for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct WorkerId(pub u64);

impl WorkerId {
    /// What its certificate calls it among the processes of its job.
    pub fn certified_as(self) -> String {
        format!("worker-{self}")
    }
}

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
    /// On whose threads they are; unset: on those of the subtasks.
    pub runtime: Option<Handle>,
}

/// Where the subtasks of an attempt are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Placement {
    /// Which worker each is on.
    pub subtasks: BTreeMap<SubtaskId, WorkerId>,
    /// Where each worker accepts connections.
    pub workers: BTreeMap<WorkerId, String>,
}

/// How links between workers behave, of which one that has been silent for `heartbeat.timeout` is lost.
pub fn link_options(heartbeat_timeout: Duration) -> LinkOptions {
    LinkOptions {
        max_payload_bytes: MAX_ELEMENT_BYTES,
        max_queued_bytes: 1 << 30,
        silence_timeout: heartbeat_timeout,
        ..LinkOptions::default()
    }
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

/// Hears which attempt and worker an accepted connection is from, and hands it to the worker. Between processes
/// `certified` is what its certificate calls the other, which cannot say that it is somebody else.
///
/// # Errors
/// It says nothing, or what is not true.
pub async fn welcome(
    worker: ActorRef<WorkerMessage>,
    mut stream: Box<dyn Duplex>,
    certified: Option<&str>,
) -> io::Result<()> {
    let mut hello = [0; HELLO_BYTES];
    stream.read_exact(&mut hello).await?;
    let (attempt, from) = hello.split_at(4);
    let attempt = Attempt(attempt.try_into().map(u32::from_le_bytes).unwrap_or_default());
    let from = WorkerId(from.try_into().map(u64::from_le_bytes).unwrap_or_default());
    if let Some(certified) = certified.filter(|certified| *certified != from.certified_as()) {
        return Err(io::Error::other(format!("'{certified}' says that it is worker {from}")));
    }
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

/// A local subtask, the number of one of its channels, and what may come there.
struct End<T> {
    subtask: ActorRef<SubtaskMessage>,
    channel: usize,
    allowed: Arc<T>,
}

/// Which local subtask each channel of a link belongs to.
#[derive(Default)]
pub struct Routes {
    /// Receivers and their input channels.
    elements: HashMap<u32, End<InputCredit>>,
    /// Senders and their output channels, with the batches that were sent and of which no credit has come back.
    credits: HashMap<u32, End<Credit>>,
}

impl Routes {
    /// The routes of all channels that begin or end at a local subtask.
    pub fn new<'a>(
        local: impl Iterator<Item = (SubtaskId, &'a ActorRef<SubtaskMessage>, &'a Wiring)>,
        first: &BTreeMap<SubtaskId, u32>,
        window: u32,
    ) -> Self {
        let mut routes = Routes::default();
        for (id, subtask, wiring) in local {
            for channel in 0..wiring.inputs.len() {
                let allowed = Arc::new(InputCredit::new(window));
                let end = End { subtask: subtask.clone(), channel, allowed };
                routes.elements.insert(first[&id] + channel as u32, end);
            }
            for (channel, output) in wiring.outputs.iter().enumerate() {
                let end = End { subtask: subtask.clone(), channel, allowed: Arc::new(Credit::new(0)) };
                routes.credits.insert(first[&output.to] + output.channel as u32, end);
            }
        }
        routes
    }

    /// What may come on a channel that ends here.
    pub fn input_credit(&self, channel: u32) -> Option<Arc<InputCredit>> {
        self.elements.get(&channel).map(|end| Arc::clone(&end.allowed))
    }

    /// The credit that may come back on a channel that begins here.
    pub fn output_credit(&self, channel: u32) -> Option<Arc<Credit>> {
        self.credits.get(&channel).map(|end| Arc::clone(&end.allowed))
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
                let End { subtask, channel, allowed } =
                    self.routes.elements.get(&frame.channel).ok_or_else(unknown)?;
                if !allowed.admit(&frame.payload) {
                    return Err(Violation(format!("more than it may send on channel {}", frame.channel)));
                }
                let (channel, credit, bytes) = (*channel, Arc::clone(allowed), frame.payload);
                // A subtask that is gone has failed; the attempt ends.
                let _ = subtask.cast(SubtaskMessage::Encoded { channel, bytes, credit });
            }
            CREDIT => {
                let End { subtask, channel, allowed } =
                    self.routes.credits.get(&frame.channel).ok_or_else(unknown)?;
                let count = frame.payload[..].try_into().map(u32::from_le_bytes).map_err(|_| unknown())?;
                if count == 0 || !allowed.take(count) {
                    let channel = frame.channel;
                    return Err(Violation(format!(
                        "credit for {count} batches too many on channel {channel}"
                    )));
                }
                let _ = subtask.cast(SubtaskMessage::Credit { output: *channel, count });
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
    network: &Network,
    routes: &Arc<Routes>,
    (attempt, peer): (Attempt, WorkerId),
    worker: &ActorRef<WorkerMessage>,
) -> Link {
    let incoming = Incoming { routes: Arc::clone(routes), attempt, peer, worker: worker.clone() };
    let _entered = network.runtime.as_ref().map(Handle::enter);
    Link::start(stream, network.options.clone(), incoming)
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

    /// Whether there is one to a worker.
    pub fn contains(&self, peer: WorkerId) -> bool {
        self.links.contains_key(&peer)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stub;
    use bytes::Bytes;
    use parking_lot::Mutex;
    use ractor::{Actor, ActorCell};

    /// One subtask of each kind: channel 0 ends at it, channel 1 begins at it.
    async fn incoming(window: u32) -> (Incoming, Arc<Routes>, Arc<Mutex<usize>>) {
        let told = Arc::new(Mutex::new(0));
        let (subtask, worker) = {
            let told = Arc::clone(&told);
            let root = root().await;
            let subtask = stub::spawn(root.clone(), move |_: SubtaskMessage| *told.lock() += 1);
            (subtask.await.unwrap(), stub::spawn(root, |_| {}).await.unwrap())
        };
        let mut routes = Routes::default();
        let allowed = Arc::new(InputCredit::new(window));
        routes.elements.insert(0, End { subtask: subtask.clone(), channel: 0, allowed });
        routes.credits.insert(1, End { subtask, channel: 0, allowed: Arc::new(Credit::new(0)) });
        let routes = Arc::new(routes);
        let incoming =
            Incoming { routes: Arc::clone(&routes), attempt: Attempt(1), peer: WorkerId(7), worker };
        (incoming, routes, told)
    }

    async fn root() -> ActorCell {
        struct Root;
        impl Actor for Root {
            type Msg = ();
            type State = ();
            type Arguments = ();
            async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ractor::ActorProcessingErr> {
                Ok(())
            }
        }
        Actor::spawn(None, Root, ()).await.unwrap().0.get_cell()
    }

    fn frame(kind: u8, channel: u32, payload: &[u8]) -> Frame {
        Frame { channel, kind, payload: Bytes::copy_from_slice(payload) }
    }

    #[tokio::test]
    async fn batches_without_credit_are_a_violation_before_the_subtask_hears_of_them() {
        let (mut incoming, routes, _) = incoming(2).await;
        let batch = || frame(ELEMENT, 0, &[0, 9, 9]);
        assert_eq!([(); 2].map(|()| incoming.on_frame(batch())), [Ok(()), Ok(())]);
        assert!(incoming.on_frame(batch()).is_err());
        routes.input_credit(0).unwrap().batches.give(1);
        assert_eq!(incoming.on_frame(batch()), Ok(()));
        assert!(incoming.on_frame(batch()).is_err());
    }

    #[tokio::test]
    async fn a_flood_of_other_elements_is_a_violation_too() {
        let (mut incoming, _, _) = incoming(0).await;
        // The subtask is a fake, which does not say that it has seen anything.
        let refused = (0..1_000_000).find(|_| incoming.on_frame(frame(ELEMENT, 0, &[3])).is_err());
        assert!(refused.is_some_and(|admitted| admitted > 10_000), "{refused:?}");
    }

    #[tokio::test]
    async fn credit_for_more_than_was_sent_is_a_violation() {
        let (mut incoming, routes, _) = incoming(2).await;
        let mut credit = |count: u32| incoming.on_frame(frame(CREDIT, 1, &count.to_le_bytes()));
        assert!(credit(1).is_err());
        routes.output_credit(1).unwrap().give(3);
        assert!(credit(0).is_err());
        assert!(credit(u32::MAX).is_err());
        assert!(credit(4).is_err());
        assert_eq!([credit(1), credit(2)], [Ok(()), Ok(())]);
        assert!(credit(1).is_err());
    }

    #[tokio::test]
    async fn frames_of_no_channel_and_no_kind_are_a_violation() {
        let (mut incoming, _, told) = incoming(2).await;
        for frame in [
            frame(ELEMENT, 1, &[0]),
            frame(CREDIT, 0, &[1, 0, 0, 0]),
            frame(CREDIT, 1, &[1]),
            frame(2, 0, &[]),
        ] {
            assert!(incoming.on_frame(frame).is_err());
        }
        assert_eq!(*told.lock(), 0);
    }

    #[tokio::test]
    async fn a_worker_is_who_its_certificate_says() {
        let said = |from: u64| async move {
            let (worker, heard) = (root().await, Arc::new(Mutex::new(0)));
            let worker = {
                let heard = Arc::clone(&heard);
                stub::spawn(worker, move |_: WorkerMessage| *heard.lock() += 1).await.unwrap()
            };
            let (here, there) = tokio::io::duplex(64);
            let mut here: Box<dyn Duplex> = Box::new(here);
            say_hello(&mut here, Attempt(1), WorkerId(from)).await.unwrap();
            welcome(worker, Box::new(there), Some("worker-1f")).await
        };
        assert!(said(0x1f).await.is_ok());
        assert!(said(0x2f).await.is_err());
    }
}
