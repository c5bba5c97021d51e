//! The other process: dials the process under test, and again when it is lost; does what it is told.

use std::io::BufRead;
use std::time::Duration;

use hurtig_runtime::node::{Node, NodeEvent, NodeOptions, Peer, decode};
use hurtig_transport::{Identity, Role, Tls};
use ractor::message::SerializedMessage;
use ractor::{ActorId, pg};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::support::events;

/// Set for the other process.
pub(crate) const MARK: &str = "HURTIG_TEST_OTHER_PROCESS";

/// What the other process is told or asked to do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Remember a number.
    Note(u64),
    /// Answer with the numbers so far.
    Notes,
    /// Answer the same.
    Echo(Vec<u8>),
    /// Do not answer.
    Drop,
    /// Never answer.
    Keep,
    /// Tell so many numbers, from 0.
    Count(u64),
    /// Tell a message of so many bytes.
    Tell(usize),
    /// Tell something with a token that it was not given, then the number 1.
    Forge,
    /// Close the connection.
    Close,
    /// Answer with the reason of the last loss.
    LastLoss,
}

/// How it is started: one line on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) identity: Vec<u8>,
    pub(crate) address: String,
    pub(crate) max_message_bytes: usize,
    pub(crate) heartbeat_timeout: Duration,
}

#[test]
fn the_other_process() {
    if std::env::var_os(MARK).is_some() {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).unwrap();
        let start: Start = decode(&from_hex(line.trim())).unwrap();
        #[allow(clippy::disallowed_methods, reason = "it ends with the process")]
        std::thread::spawn(|| {
            // whoever started this process is gone, or wants it to end
            let _ = std::io::stdin().lock().read_line(&mut String::new());
            std::process::exit(0);
        });
        tokio::runtime::Runtime::new().unwrap().block_on(run(start));
    }
}

async fn run(start: Start) {
    let (on_event, mut events) = events();
    let options = NodeOptions {
        max_message_bytes: start.max_message_bytes,
        heartbeat_interval: start.heartbeat_timeout / 5,
        heartbeat_timeout: start.heartbeat_timeout,
        ..NodeOptions::default()
    };
    let node = Node::start(options, on_event).await.unwrap();
    let tls = Tls::new(Identity::from_bytes(&start.identity).unwrap()).unwrap();
    let mut obedient = Obedient::default();
    loop {
        let dialled = node.dial(&start.address, &tls, &hurtig_transport::Peer::Any(Role::JobManager)).await;
        if dialled.is_ok() {
            obedient.serve(&mut events).await;
        } else {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[derive(Default)]
struct Obedient {
    notes: Vec<u64>,
    kept: Vec<hurtig_runtime::node::Reply>,
    last_loss: String,
}

impl Obedient {
    /// Until the peer is lost.
    async fn serve(&mut self, events: &mut mpsc::UnboundedReceiver<NodeEvent>) {
        while let Some(event) = events.recv().await {
            match event {
                NodeEvent::Connected(_) => {}
                NodeEvent::Lost { reason, .. } => {
                    self.last_loss = reason;
                    return;
                }
                NodeEvent::Received { from, message, reply } => {
                    match (decode(&message).unwrap(), reply) {
                        (Order::Note(number), _) => self.notes.push(number),
                        (Order::Notes, Some(reply)) => reply.send(&self.notes),
                        (Order::Echo(bytes), Some(reply)) => reply.send(&bytes),
                        (Order::Drop, reply) => drop(reply),
                        (Order::Keep, reply) => self.kept.extend(reply),
                        (Order::Count(numbers), _) => (0..numbers).for_each(|n| from.tell(&n).unwrap()),
                        (Order::Tell(bytes), _) => from.tell(&vec![0u8; bytes]).unwrap(),
                        (Order::Forge, _) => forge(&from),
                        (Order::Close, _) => from.close("as ordered"),
                        (Order::LastLoss, Some(reply)) => reply.send(&self.last_loss),
                        (order, None) => panic!("{order:?} is a question"),
                    };
                }
            }
        }
    }
}

/// Speaks to the peer's gate without the node.
fn forge(peer: &Peer) {
    let gates = pg::get_scoped_members(&"hurtig".to_owned(), &"gates".to_owned());
    let gate = gates.into_iter().find(|gate| matches!(gate.get_id(), ActorId::Remote { .. })).unwrap();
    for envelope in [vec![], vec![7; 5], vec![7; 17], [&[7; 16][..], &[0], &[1]].concat()] {
        let args = [&(envelope.len() as u64).to_be_bytes()[..], &envelope].concat();
        for (variant, args) in [("Tell", args.clone()), ("Tell", envelope), ("Other", args)] {
            let forged = SerializedMessage::Cast { variant: variant.to_owned(), args, metadata: None };
            gate.send_serialized(forged).unwrap();
        }
    }
    peer.tell(&1u64).unwrap();
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}
