//! A network between workers of one process: links over pipes in memory, for simulation. What goes over it is encoded
//! as it would be between processes.

use crate::config::HeartbeatConfig;
use crate::worker::WorkerMessage;
use crate::worker::links::{Duplex, Network, WorkerId, link_options, welcome};
use parking_lot::Mutex;
use ractor::ActorRef;
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Bytes that a pipe holds.
const PIPE_BYTES: usize = 256 << 10;

/// What goes wrong on a network, for simulation.
pub trait NetworkFaults: Send + Sync {
    /// After how many bytes a new connection breaks, if it does.
    fn breaks_after(&self) -> Option<u64>;

    /// After how many bytes a new connection falls silent, if it does: it stands, and nothing comes through any more.
    fn is_silent_after(&self) -> Option<u64> {
        None
    }

    /// How long the next piece that is sent takes.
    fn delay(&self) -> Duration;
}

/// Workers that can reach each other. Clones are the same network.
#[derive(Clone, Default)]
pub struct MemoryNetwork {
    workers: Arc<Mutex<BTreeMap<String, ActorRef<WorkerMessage>>>>,
    faults: Option<Arc<dyn NetworkFaults>>,
    heartbeat_timeout: Option<Duration>,
}

impl MemoryNetwork {
    /// A network on which things go wrong.
    pub fn with_faults(faults: Arc<dyn NetworkFaults>) -> Self {
        MemoryNetwork { faults: Some(faults), ..MemoryNetwork::default() }
    }

    /// The same network, on which who has been silent for so long is lost.
    #[must_use]
    pub fn with_heartbeat_timeout(self, timeout: Duration) -> Self {
        MemoryNetwork { heartbeat_timeout: Some(timeout), ..self }
    }

    /// How a worker reaches others.
    pub fn network(&self, worker: WorkerId) -> Network {
        let (workers, faults) = (Arc::clone(&self.workers), self.faults.clone());
        Network {
            address: worker.to_string(),
            dial: Arc::new(move |address| {
                let peer = workers.lock().get(&address).cloned();
                let faults = faults.clone();
                Box::pin(async move {
                    let peer = peer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionRefused))?;
                    let (here, there) = tokio::io::duplex(PIPE_BYTES);
                    // Ends with the pipe.
                    #[allow(
                        clippy::disallowed_methods,
                        reason = "what a listener's task is between processes"
                    )]
                    tokio::spawn(welcome(peer, Box::new(there), None));
                    Ok(match faults {
                        Some(faults) => Box::new(Faulty::new(here, faults)) as Box<dyn Duplex>,
                        None => Box::new(here),
                    })
                })
            }),
            options: link_options(
                self.heartbeat_timeout.unwrap_or_else(|| HeartbeatConfig::default().timeout),
            ),
            runtime: None,
        }
    }

    /// Kills a worker, as the n-th of all modulo their number; nothing if there is none.
    pub fn kill_worker(&self, number: usize) {
        let workers = self.workers.lock();
        if let Some(worker) = workers.values().nth(number % workers.len().max(1)) {
            worker.kill();
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

/// A pipe that delays what is written to it, and breaks or falls silent in both directions once so many bytes were.
struct Faulty {
    pipe: Option<DuplexStream>,
    left: u64,
    left_to_silence: u64,
    delay: Option<Pin<Box<Sleep>>>,
    faults: Arc<dyn NetworkFaults>,
}

impl Faulty {
    fn new(pipe: DuplexStream, faults: Arc<dyn NetworkFaults>) -> Self {
        let left = faults.breaks_after().unwrap_or(u64::MAX);
        let left_to_silence = faults.is_silent_after().unwrap_or(u64::MAX);
        Faulty { pipe: Some(pipe), left, left_to_silence, delay: None, faults }
    }

    fn pipe(&mut self) -> io::Result<Pin<&mut DuplexStream>> {
        self.pipe.as_mut().map(Pin::new).ok_or_else(|| io::ErrorKind::ConnectionReset.into())
    }
}

impl AsyncRead for Faulty {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left_to_silence == 0 {
            // Nobody will wake the reader: its own time-out does.
            return Poll::Pending;
        }
        match self.pipe() {
            Ok(pipe) => pipe.poll_read(cx, buffer),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Faulty {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let delay = this.delay.get_or_insert_with(|| Box::pin(sleep(this.faults.delay())));
        ready!(delay.as_mut().poll(cx));
        if this.left_to_silence == 0 {
            this.delay = None;
            return Poll::Ready(Ok(bytes.len()));
        }
        let most = this.left.min(this.left_to_silence).min(bytes.len() as u64) as usize;
        if most == 0 {
            // The other side reads to the end of what came, and no more.
            this.pipe = None;
        }
        let written = match this.pipe() {
            Ok(pipe) => ready!(pipe.poll_write(cx, &bytes[..most])),
            Err(error) => Err(error),
        };
        this.delay = None;
        let written_bytes = *written.as_ref().unwrap_or(&0) as u64;
        this.left -= written_bytes;
        this.left_to_silence -= written_bytes;
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.pipe() {
            Ok(pipe) => pipe.poll_flush(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.pipe() {
            Ok(pipe) => pipe.poll_shutdown(cx),
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}
