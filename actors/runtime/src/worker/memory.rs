//! A network between workers of one process: links over pipes in memory, for simulation. What goes over it is encoded
//! as it would be between processes.

use crate::worker::WorkerMessage;
use crate::worker::links::{Duplex, Network, WorkerId, link_options, welcome};
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 256 << 10;

/// Workers that can reach each other. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    workers: Arc<Mutex<HashMap<String, ActorRef<WorkerMessage>>>>,
}

impl MemoryNetwork {
    /// How a worker reaches others.
    pub fn network(&self, worker: WorkerId) -> Network {
        let workers = Arc::clone(&self.workers);
        Network {
            address: worker.to_string(),
            dial: Arc::new(move |address| {
                let peer = workers.lock().get(&address).cloned();
                Box::pin(async move {
                    let peer = peer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                    let (here, there) = tokio::io::duplex(PIPE_BYTES);
                    // Ends with the pipe.
                    #[allow(
                        clippy::disallowed_methods,
                        reason = "what a listener's task is between processes"
                    )]
                    tokio::spawn(welcome(peer, Box::new(there)));
                    Ok(Box::new(here) as Box<dyn Duplex>)
                })
            }),
            options: link_options(),
        }
    }

    /// Lets a worker be reached.
    pub fn join(&self, worker: WorkerId, actor: ActorRef<WorkerMessage>) {
        self.workers.lock().insert(worker.to_string(), actor);
    }

    /// A worker is reached no more.
    pub fn leave(&self, worker: WorkerId) {
        self.workers.lock().remove(&worker.to_string());
    }
}
