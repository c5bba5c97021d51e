//! What a process of a cluster runs on: this machine, with sockets and processes of its own, or a simulated one.

use crate::node::{Node, NodeError, NodeEvents, NodeOptions};
use crate::process::child::{self, ChildArguments, ChildMessage, ChildProcess, start_error};
use crate::simulation;
use ractor::{Actor, ActorCell, ActorRef};
use rand::Rng;
use std::path::Path;

/// What a process runs on. Clones are the same.
#[derive(Clone, Default)]
pub enum Machine {
    /// This one.
    #[default]
    Real,
    /// One of a simulation, on which the process is known by this handle.
    Simulated(simulation::Process),
}

impl Machine {
    /// Starts the node of this process. With a parent, that is told if it fails.
    ///
    /// # Errors
    /// As [`Node::start`].
    pub async fn node(
        &self,
        options: NodeOptions,
        events: NodeEvents,
        parent: Option<ActorCell>,
    ) -> Result<Node, NodeError> {
        match (self, parent) {
            (Machine::Real, Some(parent)) => Node::start_linked(options, events, parent).await,
            (Machine::Real, None) => Node::start(options, events).await,
            (Machine::Simulated(process), parent) => Ok(process.node(options, events, parent)),
        }
    }

    /// Starts a program as a child of `parent`.
    ///
    /// # Errors
    /// A sentence.
    pub async fn start(
        &self,
        arguments: ChildArguments,
        parent: ActorCell,
    ) -> Result<ActorRef<ChildMessage>, String> {
        let spawned = match self {
            Machine::Real => Actor::spawn_linked(None, ChildProcess, arguments, parent).await,
            Machine::Simulated(process) => process.start(arguments, parent).await,
        };
        spawned.map(|(child, _)| child).map_err(start_error)
    }

    /// A number that no other process has drawn.
    #[allow(clippy::disallowed_methods, reason = "it must differ from those of all other processes")]
    pub fn random(&self) -> u128 {
        match self {
            Machine::Real => rand::rng().random(),
            Machine::Simulated(process) => process.random(),
        }
    }

    /// Ends the process that was started with a log, if it still runs; for one that an earlier daemon has started.
    pub fn kill_recorded(&self, log: &Path) {
        match self {
            Machine::Real => child::kill_recorded(log),
            Machine::Simulated(process) => process.kill_recorded(log),
        }
    }
}
