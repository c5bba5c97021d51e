//! The way to the JobManager that leads. Those that stand by do not listen, so it is the one that answers.

use crate::config::Config;
use crate::node::{Node, NodeError, Peer};
use hurtig_transport::{Peer as Whom, Role, Tls};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The addresses of a cluster's JobManagers.
pub(crate) struct JobManagers {
    addresses: Vec<String>,
    /// Where to begin: behind the one that answered last, which is looked for since it does not any more.
    first: AtomicUsize,
}

impl JobManagers {
    pub(crate) fn new(config: &Config) -> Self {
        JobManagers { addresses: config.cluster.job_managers(), first: AtomicUsize::new(0) }
    }

    /// Dials one after the other until one answers.
    ///
    /// # Errors
    /// None does: what the last one said.
    pub(crate) async fn dial(&self, node: &Node, tls: &Tls) -> Result<Peer, NodeError> {
        let (count, first) = (self.addresses.len(), self.first.load(Ordering::Relaxed));
        let mut last = NodeError::Ended;
        for number in (first..first + count).map(|number| number % count) {
            match node.dial(&self.addresses[number], tls, &Whom::Any(Role::JobManager)).await {
                Ok(peer) => {
                    self.first.store((number + 1) % count, Ordering::Relaxed);
                    return Ok(peer);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}
