//! A whole cluster in one thread, on the paused clock: JobManager, TaskManagers, masters, workers and clients are the
//! same actors as in processes of their own, on machines that are made up. Processes are killed, cut off and started
//! again; connections are slow, break and fall silent, each by whoever simulates.

use crate::config::Config;
use crate::node::memory::{ControlNetwork, Place};
use crate::node::{Node, NodeEvents, NodeOptions};
use crate::process::child::{ChildArguments, ChildMessage};
use crate::process::{Built, Replan, master, worker};
use crate::protocol::{Assignment, Call, GraphSummary, Plan, RoleSpec};
use crate::tasks::Tasks;
use crate::worker::WorkerMessage;
use crate::worker::links::{Network, WorkerId};
use crate::worker::memory::{MemoryNetwork, NetworkFaults};
use hurtig_dataflow::graph::JobGraph;
use hurtig_dataflow::ids::JobId;
use parking_lot::Mutex;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The program that all jobs of a simulation run.
pub type Program = Arc<dyn Fn(&Call) -> Result<(JobGraph, Config), String> + Send + Sync>;

/// How long a program takes to start.
const STARTING: Duration = Duration::from_millis(30);

/// A simulated cluster. Clones are the same one.
#[derive(Clone)]
pub struct Simulation(Arc<World>);

struct World {
    program: Program,
    control: ControlNetwork,
    data: MemoryNetwork,
    random: Mutex<SmallRng>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    started: u64,
    running: BTreeMap<u64, Running>,
    /// Processes that were ended without being asked.
    killed: BTreeSet<u64>,
}

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A JobManager, a TaskManager, or a client: started by whoever simulates.
    Daemon,
    /// It builds a job's graph.
    Plan,
    /// A job's master.
    Master(JobId),
    /// A job's worker.
    Worker(JobId, WorkerId),
}

struct Running {
    part: Part,
    roots: Vec<ActorCell>,
    log: Option<PathBuf>,
    /// Who started it.
    child: Option<ActorRef<ChildMessage>>,
    /// What it does ends with it.
    _tasks: Tasks,
}

/// A process of a simulation. Clones are the same one.
#[derive(Clone)]
pub struct Process {
    world: Arc<World>,
    id: u64,
}

impl Simulation {
    /// A cluster on which nothing runs yet. Connections that carry messages have faults of one kind, those of workers among
    /// each other, which carry records, of another. Ids are drawn by the seed.
    pub fn new(
        program: Program,
        control: Arc<dyn NetworkFaults>,
        records: Arc<dyn NetworkFaults>,
        heartbeat_timeout: Duration,
        seed: u64,
    ) -> Self {
        let data = MemoryNetwork::with_faults(records).with_heartbeat_timeout(heartbeat_timeout);
        let control = ControlNetwork::new(control);
        let random = Mutex::new(SmallRng::seed_from_u64(seed));
        Simulation(Arc::new(World { program, control, data, random, state: Mutex::default() }))
    }

    /// A process that whoever simulates starts: what it is made of takes this for its machine.
    pub fn process(&self) -> Process {
        self.0.add(Part::Daemon, None, None, Tasks::default())
    }

    /// The processes that there are of some kind, oldest first.
    pub fn processes(&self, of: impl Fn(Part) -> bool) -> Vec<Process> {
        let state = self.0.state.lock();
        let wanted = state.running.iter().filter(|(_, running)| of(running.part));
        wanted.map(|(id, _)| Process { world: Arc::clone(&self.0), id: *id }).collect()
    }

    /// Ends all processes.
    pub fn end(&self) {
        for process in self.processes(|_| true) {
            process.kill();
        }
    }
}

impl World {
    fn add(
        self: &Arc<Self>,
        part: Part,
        log: Option<PathBuf>,
        child: Option<ActorRef<ChildMessage>>,
        tasks: Tasks,
    ) -> Process {
        let mut state = self.state.lock();
        state.started += 1;
        let id = state.started;
        state.running.insert(id, Running { part, roots: Vec::new(), log, child, _tasks: tasks });
        Process { world: Arc::clone(self), id }
    }
}

impl Process {
    /// Ends it as `kill -9` does: whatever it does, and without a word to anybody.
    pub fn kill(&self) {
        self.world.state.lock().killed.insert(self.id);
        if let Some(child) = self.end() {
            let _ = child.cast(ChildMessage::Ended("its process was ended by signal 9".into()));
        }
    }

    /// Messages neither reach it nor come from it, until it rejoins. Records between workers do.
    pub fn cut_off(&self) {
        self.world.control.cut_off(Place(self.id));
    }

    /// It can be reached again.
    pub fn rejoin(&self) {
        self.world.control.rejoin(Place(self.id));
    }

    /// Removes it and all that it does. Returns who started it.
    fn end(&self) -> Option<ActorRef<ChildMessage>> {
        let running = self.world.state.lock().running.remove(&self.id)?;
        self.world.control.remove(Place(self.id));
        if let Part::Worker(_, worker) = running.part {
            self.world.data.leave(worker);
        }
        for root in &running.roots {
            root.kill();
        }
        running.child
    }

    pub(crate) fn node(&self, options: NodeOptions, events: NodeEvents, root: Option<ActorCell>) -> Node {
        if let Some(root) = root {
            self.has_root(root);
        }
        Node::simulated(&self.world.control, Place(self.id), options, events)
    }

    /// The process ends with this actor.
    pub(crate) fn has_root(&self, root: ActorCell) {
        match self.world.state.lock().running.get_mut(&self.id) {
            Some(running) => running.roots.push(root),
            // It was killed meanwhile.
            None => root.kill(),
        }
    }

    pub(crate) fn random(&self) -> u128 {
        self.world.random.lock().random()
    }

    /// How a worker reaches others by links.
    pub(crate) fn network(&self, worker: WorkerId) -> Network {
        self.world.data.network(worker)
    }

    /// A worker can be reached by links.
    pub(crate) fn join(&self, id: WorkerId, worker: ActorRef<WorkerMessage>) {
        self.world.data.join(id, worker);
    }

    pub(crate) async fn start(
        &self,
        arguments: ChildArguments,
        parent: ActorCell,
    ) -> Result<(ActorRef<ChildMessage>, JoinHandle<()>), SpawnErr> {
        Actor::spawn_linked(None, SimulatedChild(self.clone()), arguments, parent).await
    }

    pub(crate) fn kill_recorded(&self, log: &Path) {
        let of_log = |running: &Running| running.log.as_deref() == Some(log);
        let found = {
            let state = self.world.state.lock();
            state.running.iter().find(|(_, running)| of_log(running)).map(|(id, _)| *id)
        };
        if let Some(id) = found {
            Process { world: Arc::clone(&self.world), id }.kill();
        }
    }

    /// Does what a program does that is started as part of a cluster.
    async fn run(self, assignment: Assignment) -> Result<(), String> {
        tokio::time::sleep(STARTING).await;
        let built = (self.world.program)(&assignment.call);
        let replan: Replan = {
            let (program, call) = (Arc::clone(&self.world.program), assignment.call.clone());
            Arc::new(move |rescaled| {
                let call = Call { rescaled: Some(rescaled.clone()), ..call.clone() };
                program(&call).map(|(graph, _)| graph)
            })
        };
        let machine = crate::machine::Machine::Simulated(self);
        match assignment.role.clone() {
            RoleSpec::Plan(path) => {
                let plan: Plan = built.map(|(graph, _)| GraphSummary::new(&graph));
                let bytes = rmp_serde::to_vec_named(&plan).map_err(|error| error.to_string())?;
                std::fs::create_dir_all(path.parent().unwrap_or(&path)).map_err(|error| error.to_string())?;
                std::fs::write(&path, bytes).map_err(|error| error.to_string())
            }
            RoleSpec::Master(spec) => {
                let (graph, config) = built?;
                master::run(&assignment, spec, Built { graph, config, replan }, machine).await
            }
            RoleSpec::Worker(spec) => {
                let (graph, config) = built?;
                let why = worker::run(&assignment, spec, Built { graph, config, replan }, machine).await?;
                tracing::info!("the worker ends: {why}");
                Ok(())
            }
        }
    }
}

/// A program that runs as part of a simulated cluster; as [`ChildProcess`](crate::process::child::ChildProcess).
struct SimulatedChild(Process);

/// Ends a process when the actor that stands for it does.
struct Ending {
    process: Process,
    started_by: Process,
    survives: bool,
}

impl Drop for Ending {
    fn drop(&mut self) {
        // A master goes on when its JobManager dies. A worker ends when its TaskManager does, however it does.
        let is_orphan = self.started_by.world.state.lock().killed.contains(&self.started_by.id);
        if !(self.survives && is_orphan) {
            self.process.kill();
        }
    }
}

impl Actor for SimulatedChild {
    type Msg = ChildMessage;
    type State = Ending;
    type Arguments = ChildArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChildMessage>,
        (_, assignment, log, _): ChildArguments,
    ) -> Result<Ending, ActorProcessingErr> {
        let part = match &assignment.role {
            RoleSpec::Plan(_) => Part::Plan,
            RoleSpec::Master(_) => Part::Master(assignment.job),
            RoleSpec::Worker(spec) => Part::Worker(assignment.job, spec.worker),
        };
        let tasks = Tasks::default();
        let process = self.0.world.add(part, Some(log), Some(myself), tasks.clone());
        let running = process.clone();
        tasks.spawn(async move {
            let how = match running.clone().run(*assignment).await {
                Ok(()) => "its process ended with exit code 0".to_owned(),
                Err(error) => format!("its process ended with exit code 1; it said: error: {error}"),
            };
            if let Some(child) = running.end() {
                let _ = child.cast(ChildMessage::Ended(how));
            }
        });
        let survives = matches!(part, Part::Master(_));
        Ok(Ending { process, started_by: self.0.clone(), survives })
    }

    async fn handle(
        &self,
        myself: ActorRef<ChildMessage>,
        ChildMessage::Ended(how): ChildMessage,
        _: &mut Ending,
    ) -> Result<(), ActorProcessingErr> {
        myself.stop(Some(how));
        Ok(())
    }
}
