//! The ResourceManager: grants slots of TaskManagers to jobs. Child of the cluster's root.
//!
//! TaskManagers register with it; where their slots do not suffice it asks its provider for more. Its table is rebuilt
//! from registrations, so it keeps nothing durable.

use crate::config::SlotPlacement;
use crate::master::JobMasterMessage;
use crate::taskmanager::{TaskManager, TaskManagerMessage};
use crate::worker::WorkerMessage;
use crate::worker::links::WorkerId;
use crate::worker::memory::MemoryNetwork;
use hurtig_dataflow::ids::{Attempt, JobId};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tokio::sync::oneshot;

/// Slots of one TaskManager for one job.
#[derive(Clone)]
pub struct SlotGrant {
    /// The Worker that runs the job's subtasks there.
    pub worker: WorkerId,
    /// The Worker, or what stands for it; `None` where it is a process that reports to the job's master by itself.
    pub actor: Option<ActorRef<WorkerMessage>>,
    /// Where it accepts the connections of other Workers, if it is a process.
    pub address: Option<String>,
    /// Number of slots.
    pub slots: usize,
}

/// Why a job gets no slots.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NoSlots {
    /// A sentence.
    pub reason: String,
    /// Whether it is in vain to ask again.
    pub is_final: bool,
}

/// What the ResourceManager is told.
pub enum ResourceManagerMessage {
    /// From a TaskManager: it offers slots.
    Register {
        /// The TaskManager.
        task_manager: ActorRef<TaskManagerMessage>,
        /// Number of slots.
        slots: usize,
        /// Those that jobs use already: it was registered before, with another ResourceManager or in another life.
        used: BTreeMap<JobId, usize>,
    },
    /// From what stands for a TaskManager: it is about to end. Those who use its slots may go on until it does.
    Leaving {
        /// The TaskManager.
        task_manager: ActorId,
    },
    /// From what stands for a TaskManager: it is gone.
    Unregister {
        /// The TaskManager.
        task_manager: ActorId,
    },
    /// From what stands for a TaskManager: a Worker could not be started, or has ended.
    WorkerEnded {
        /// The job.
        job: JobId,
        /// The Worker.
        worker: WorkerId,
        /// Why.
        reason: String,
    },
    /// From a client: the TaskManagers there are.
    Overview {
        /// Where to answer: names are for the asker to know.
        reply: oneshot::Sender<Vec<(ActorId, usize, usize)>>,
    },
    /// From a JobMaster: an attempt needs slots, and those of attempts before it are needed no more.
    Request {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: Attempt,
        /// Number of slots.
        slots: usize,
        /// Whom to answer.
        master: ActorRef<JobMasterMessage>,
    },
    /// From a TaskManager: the Worker it was asked for.
    Launched {
        /// The TaskManager.
        task_manager: ActorId,
        /// The job.
        job: JobId,
        /// The Worker.
        worker: WorkerId,
        /// Its actor, if it is in this process.
        actor: Option<ActorRef<WorkerMessage>>,
        /// Where it accepts the connections of other Workers, if only by links can it be reached.
        address: Option<String>,
    },
    /// From a JobMaster: its job has ended.
    Release {
        /// The job.
        job: JobId,
    },
    /// From itself: a request has waited long enough.
    GiveUp {
        /// The job.
        job: JobId,
        /// The attempt.
        attempt: Attempt,
    },
}

impl ractor::Message for ResourceManagerMessage {}

/// Where more TaskManagers come from.
pub trait WorkerProvider: Send + Sync + 'static {
    /// Number of slots of each TaskManager to start so that `missing` more slots exist; empty if no more can be had.
    fn provide(&mut self, missing: usize, registered: usize) -> Vec<usize>;

    /// Whether TaskManagers may come that were not asked for, so that a job that finds too few slots should wait.
    fn may_come(&self) -> bool {
        false
    }
}

/// TaskManagers within this process: a fixed number, or what the first job needs.
pub struct InProcessProvider {
    /// TaskManagers to start.
    pub task_managers: usize,
    /// Slots of each; `None` gives as many as are asked for.
    pub slots: Option<usize>,
}

impl WorkerProvider for InProcessProvider {
    fn provide(&mut self, missing: usize, registered: usize) -> Vec<usize> {
        match self.slots {
            Some(_) if registered > 0 => Vec::new(),
            Some(slots) => vec![slots; self.task_managers],
            None => {
                let count = if registered > 0 { 1 } else { self.task_managers.clamp(1, missing.max(1)) };
                (0..count).map(|i| (i + 1) * missing / count - i * missing / count).collect()
            }
        }
    }
}

/// TaskManagers that register by themselves: nothing can be started.
pub struct Standalone;

impl WorkerProvider for Standalone {
    fn provide(&mut self, _: usize, _: usize) -> Vec<usize> {
        Vec::new()
    }

    fn may_come(&self) -> bool {
        true
    }
}

/// The actor.
pub struct ResourceManager;

struct Registered {
    actor: ActorRef<TaskManagerMessage>,
    slots: usize,
    used: BTreeMap<JobId, usize>,
    /// Whether it is about to end.
    is_leaving: bool,
}

impl Registered {
    fn used(&self) -> usize {
        self.used.values().sum()
    }

    /// Slots that can be given.
    fn free(&self) -> usize {
        if self.is_leaving { 0 } else { self.slots.saturating_sub(self.used()) }
    }
}

struct Waiting {
    job: JobId,
    attempt: Attempt,
    slots: usize,
    master: ActorRef<JobMasterMessage>,
}

/// What a job was given.
struct Granted {
    attempt: Attempt,
    master: ActorRef<JobMasterMessage>,
    launches: Vec<Launch>,
}

/// A Worker that was asked for.
struct Launch {
    task_manager: ActorId,
    is_done: bool,
    grant: SlotGrant,
}

impl Granted {
    /// Whether all its Workers run, so that its master has been told.
    fn is_complete(&self) -> bool {
        self.launches.iter().all(|launch| launch.is_done)
    }

    fn answer(&self, result: Result<Vec<SlotGrant>, NoSlots>) {
        let _ = self.master.cast(JobMasterMessage::Slots { attempt: self.attempt, result });
    }

    fn answer_if_complete(&self) {
        if self.is_complete() {
            self.answer(Ok(self.launches.iter().map(|launch| launch.grant.clone()).collect()));
        }
    }
}

/// What a ResourceManager is made of.
pub struct Arguments {
    /// Where more TaskManagers come from.
    pub provider: Box<dyn WorkerProvider>,
    /// How long a job waits for slots.
    pub slot_timeout: Duration,
    /// Which TaskManagers a job gets slots of.
    pub placement: SlotPlacement,
    /// For ids.
    pub seed: u64,
    /// How Workers of this process exchange records, if not directly.
    pub network: Option<MemoryNetwork>,
}

/// How many of its free slots each TaskManager gives to a job that needs `slots`.
fn place(placement: SlotPlacement, free: &[usize], slots: usize) -> Vec<usize> {
    let mut given = vec![0; free.len()];
    for _ in 0..slots {
        let candidates = (0..free.len()).filter(|at| given[*at] < free[*at]);
        let next = match placement {
            SlotPlacement::Pack => {
                candidates.max_by_key(|at| (given[*at], free[*at], std::cmp::Reverse(*at)))
            }
            SlotPlacement::Spread => {
                candidates.min_by_key(|at| (given[*at], std::cmp::Reverse(free[*at]), *at))
            }
        };
        if let Some(next) = next {
            given[next] += 1;
        }
    }
    given
}

/// State of the ResourceManager.
pub struct State {
    placement: SlotPlacement,
    random: SmallRng,
    network: Option<MemoryNetwork>,
    provider: Box<dyn WorkerProvider>,
    slot_timeout: Duration,
    task_managers: Vec<Registered>,
    starting: usize,
    waiting: VecDeque<Waiting>,
    granted: BTreeMap<JobId, Granted>,
}

impl Actor for ResourceManager {
    type Msg = ResourceManagerMessage;
    type State = State;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        _: ActorRef<ResourceManagerMessage>,
        Arguments { provider, slot_timeout, placement, seed, network }: Arguments,
    ) -> Result<State, ActorProcessingErr> {
        Ok(State {
            random: SmallRng::seed_from_u64(seed),
            network,
            placement,
            provider,
            slot_timeout,
            task_managers: Vec::new(),
            starting: 0,
            waiting: VecDeque::new(),
            granted: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<ResourceManagerMessage>,
        message: ResourceManagerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ResourceManagerMessage::Register { task_manager, slots, used } => {
                state.starting = state.starting.saturating_sub(1);
                state.task_managers.push(Registered { actor: task_manager, slots, used, is_leaving: false });
            }
            ResourceManagerMessage::Leaving { task_manager } => {
                let mut all = state.task_managers.iter_mut();
                if let Some(leaving) = all.find(|registered| registered.actor.get_id() == task_manager) {
                    leaving.is_leaving = true;
                }
            }
            ResourceManagerMessage::Unregister { task_manager } => state.unregister(task_manager),
            ResourceManagerMessage::WorkerEnded { job, worker, reason } => {
                state.on_worker_ended(job, worker, reason);
            }
            ResourceManagerMessage::Overview { reply } => {
                let row = |registered: &Registered| {
                    (registered.actor.get_id(), registered.slots, registered.used().min(registered.slots))
                };
                let _ = reply.send(state.task_managers.iter().map(row).collect());
            }
            ResourceManagerMessage::Request { job, attempt, slots, master } => {
                if state.request(Waiting { job, attempt, slots, master }) {
                    let give_up = move || ResourceManagerMessage::GiveUp { job, attempt };
                    drop(myself.send_after(state.slot_timeout, give_up));
                }
            }
            ResourceManagerMessage::Launched { task_manager, job, worker, actor, address } => {
                state.on_launched(task_manager, job, SlotGrant { worker, actor, address, slots: 0 });
            }
            ResourceManagerMessage::Release { job } => state.release(job),
            ResourceManagerMessage::GiveUp { job, attempt } => state.give_up(job, attempt),
        }
        state.serve_and_provide(&myself).await
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<ResourceManagerMessage>,
        event: SupervisionEvent,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        let (who, reason) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => (who, reason.unwrap_or_default()),
            _ => return Ok(()),
        };
        tracing::error!("a TaskManager has ended: {reason}");
        state.unregister(who.get_id());
        state.serve_and_provide(&myself).await
    }
}

impl State {
    fn registered_slots(&self) -> usize {
        let staying = self.task_managers.iter().filter(|registered| !registered.is_leaving);
        staying.map(|registered| registered.slots).sum()
    }

    fn free_slots(&self) -> usize {
        self.task_managers.iter().map(Registered::free).sum()
    }

    /// Puts a request in line; whether it was not known before. What an attempt before it has been given is given back.
    fn request(&mut self, request: Waiting) -> bool {
        let (job, attempt) = (request.job, request.attempt);
        if let Some(granted) = self.granted.get(&job).filter(|granted| granted.attempt == attempt) {
            // The answer may have been lost.
            granted.answer_if_complete();
            return false;
        }
        if self.waiting.iter().any(|waiting| waiting.job == job && waiting.attempt == attempt) {
            return false;
        }
        self.release(job);
        self.waiting.push_back(request);
        true
    }

    /// Grants slots to those who wait, and has more TaskManagers started where they do not suffice.
    async fn serve_and_provide(
        &mut self,
        myself: &ActorRef<ResourceManagerMessage>,
    ) -> Result<(), ActorProcessingErr> {
        let missing = self.serve();
        if missing > 0 && self.starting == 0 {
            let registered = self.task_managers.len();
            for slots in self.provider.provide(missing, registered) {
                self.starting += 1;
                let arguments = (myself.clone(), slots, self.network.clone());
                Actor::spawn_linked(None, TaskManager, arguments, myself.get_cell()).await?;
            }
            if self.starting == 0 && registered > 0 && !self.provider.may_come() {
                self.refuse_what_never_fits();
            }
        }
        Ok(())
    }

    /// Grants slots to those who wait, in order. Returns how many slots the first in line misses.
    fn serve(&mut self) -> usize {
        while let Some(first) = self.waiting.front() {
            let free = self.free_slots();
            if first.slots > free {
                return first.slots - free;
            }
            if let Some(request) = self.waiting.pop_front() {
                self.grant(request);
            }
        }
        0
    }

    fn grant(&mut self, request: Waiting) {
        let Waiting { job, attempt, slots, master } = request;
        let mut launches = Vec::new();
        let free: Vec<usize> = self.task_managers.iter().map(Registered::free).collect();
        let given = place(self.placement, &free, slots);
        for (registered, taken) in self.task_managers.iter_mut().zip(given).filter(|(_, taken)| *taken > 0) {
            registered.used.insert(job, taken);
            let worker = WorkerId(self.random.random());
            let grant = SlotGrant { worker, actor: None, address: None, slots: taken };
            launches.push(Launch { task_manager: registered.actor.get_id(), is_done: false, grant });
            let _ = registered.actor.cast(TaskManagerMessage::Launch { job, worker, slots: taken });
        }
        self.granted.insert(job, Granted { attempt, master, launches });
    }

    fn on_launched(&mut self, task_manager: ActorId, job: JobId, launched: SlotGrant) {
        let Some(granted) = self.granted.get_mut(&job) else { return };
        for launch in &mut granted.launches {
            if launch.task_manager == task_manager && launch.grant.worker == launched.worker {
                launch.is_done = true;
                launch.grant = SlotGrant { slots: launch.grant.slots, ..launched.clone() };
            }
        }
        granted.answer_if_complete();
    }

    /// Jobs that were about to start on it are given other slots; those that run there are told.
    fn unregister(&mut self, task_manager: ActorId) {
        self.task_managers.retain(|registered| registered.actor.get_id() != task_manager);
        let mut again = Vec::new();
        for (job, granted) in &self.granted {
            for launch in granted.launches.iter().filter(|launch| launch.task_manager == task_manager) {
                if granted.is_complete() {
                    let worker = launch.grant.worker;
                    let _ = granted.master.cast(JobMasterMessage::TaskManagerLost { worker });
                } else if again.last() != Some(job) {
                    again.push(*job);
                }
            }
        }
        for job in again {
            let Some(Granted { attempt, master, launches }) = self.granted.remove(&job) else { continue };
            let slots = launches.iter().map(|launch| launch.grant.slots).sum();
            self.release(job);
            self.waiting.push_front(Waiting { job, attempt, slots, master });
        }
    }

    fn on_worker_ended(&mut self, job: JobId, worker: WorkerId, reason: String) {
        let is_one = |granted: &&Granted| granted.launches.iter().any(|launch| launch.grant.worker == worker);
        let Some(granted) = self.granted.get(&job).filter(is_one) else { return };
        if granted.is_complete() {
            let _ = granted.master.cast(JobMasterMessage::WorkerLost { worker, reason });
        } else {
            let reason = format!("a worker could not begin: {reason}");
            granted.answer(Err(NoSlots { reason, is_final: false }));
            self.release(job);
        }
    }

    fn release(&mut self, job: JobId) {
        self.waiting.retain(|waiting| waiting.job != job);
        self.granted.remove(&job);
        for registered in &mut self.task_managers {
            if registered.used.remove(&job).is_some() {
                let _ = registered.actor.cast(TaskManagerMessage::Release { job });
            }
        }
    }

    fn refuse(&mut self, at: usize) {
        let (registered, free) = (self.registered_slots(), self.free_slots());
        if let Some(waiting) = self.waiting.remove(at) {
            let reason = format!(
                "the job needs {} slots, {registered} are registered and {free} of them are free: lower its parallelism, or raise 'taskmanager.slots' or 'taskmanager.count'",
                waiting.slots
            );
            let result = Err(NoSlots { reason, is_final: true });
            let _ = waiting.master.cast(JobMasterMessage::Slots { attempt: waiting.attempt, result });
        }
    }

    fn give_up(&mut self, job: JobId, attempt: Attempt) {
        let is_it = |waiting: &Waiting| waiting.job == job && waiting.attempt == attempt;
        if let Some(at) = self.waiting.iter().position(is_it) {
            self.refuse(at);
        }
    }

    fn refuse_what_never_fits(&mut self) {
        let registered = self.registered_slots();
        while let Some(at) = self.waiting.iter().position(|waiting| waiting.slots > registered) {
            self.refuse(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_slots_are_packed_or_spread() {
        let check = |placement, slots, expected: [usize; 3]| {
            assert_eq!(place(placement, &[2, 3, 2], slots), expected);
        };
        check(SlotPlacement::Pack, 3, [0, 3, 0]);
        check(SlotPlacement::Pack, 4, [1, 3, 0]);
        check(SlotPlacement::Spread, 3, [1, 1, 1]);
        check(SlotPlacement::Spread, 4, [1, 2, 1]);
        check(SlotPlacement::Spread, 7, [2, 3, 2]);
    }

    #[test]
    fn slots_missing_are_spread_over_the_task_managers_wanted() {
        let mut provider = InProcessProvider { task_managers: 3, slots: None };
        assert_eq!(provider.provide(8, 0), [2, 3, 3]);
        assert_eq!(provider.provide(2, 0), [1, 1]);
        assert_eq!(provider.provide(5, 2), [5]);
        let mut provider = InProcessProvider { task_managers: 2, slots: Some(4) };
        assert_eq!((provider.provide(9, 0), provider.provide(1, 2)), (vec![4, 4], vec![]));
    }
}
