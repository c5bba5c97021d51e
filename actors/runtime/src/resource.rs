//! The ResourceManager: grants slots of TaskManagers to jobs. Child of the cluster's root.
//!
//! TaskManagers register with it; where their slots do not suffice it asks its provider for more. Its table is rebuilt
//! from registrations, so it keeps nothing durable.

mod slots;

use crate::config::SlotPlacement;
use crate::master::JobMasterMessage;
use crate::taskmanager::{TaskManager, TaskManagerMessage};
use crate::worker::WorkerMessage;
use crate::worker::links::WorkerId;
use crate::worker::memory::MemoryNetwork;
use hurtig_dataflow::graph::SlotsWanted;
use hurtig_dataflow::ids::{Attempt, JobId};
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use slots::Room;
pub use slots::{Offer, Share};
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
    /// Which of the job's slots, by number.
    pub slots: Vec<usize>,
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
        /// What it offers.
        offer: Offer,
        /// What jobs use already: it was registered before, with another ResourceManager or in another life.
        used: BTreeMap<JobId, Share>,
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
    /// From the JobManager: whether a job could have these slots instead of those it has.
    CouldHave {
        /// The job.
        job: JobId,
        /// The slots.
        slots: Vec<SlotsWanted>,
        /// Where to answer; if not, why.
        reply: oneshot::Sender<Result<(), String>>,
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
        /// The slots.
        slots: Vec<SlotsWanted>,
        /// Whether Workers of the attempt before are to be kept on TaskManagers where there are slots again.
        keeps: bool,
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
    offer: Offer,
    used: BTreeMap<JobId, Share>,
    /// Whether it is about to end.
    is_leaving: bool,
}

impl Registered {
    /// What is used of it, but for what a job uses that is to be passed over.
    fn used(&self, but: Option<JobId>) -> Share {
        let counted = self.used.iter().filter(|(job, _)| Some(**job) != but);
        counted.fold(Share::default(), |sum, (_, share)| sum.and(*share))
    }
}

struct Waiting {
    job: JobId,
    attempt: Attempt,
    slots: Vec<SlotsWanted>,
    master: ActorRef<JobMasterMessage>,
}

/// What a job was given.
struct Granted {
    attempt: Attempt,
    slots: Vec<SlotsWanted>,
    master: ActorRef<JobMasterMessage>,
    launches: Vec<Launch>,
}

/// How far a Worker is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Running,
    /// Its job's master has been told.
    Ended,
}

/// A Worker that was asked for.
struct Launch {
    task_manager: ActorId,
    stage: Stage,
    grant: SlotGrant,
}

impl Granted {
    /// Whether all its Workers run, so that its master has been told.
    fn is_complete(&self) -> bool {
        self.launches.iter().all(|launch| launch.stage != Stage::Starting)
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
            ResourceManagerMessage::Register { task_manager, offer, mut used } => {
                // A job that waits has no workers; one of it that is still there has missed that they were to end.
                for job in state.waiting.iter().map(|waiting| waiting.job) {
                    if used.remove(&job).is_some() {
                        let _ = task_manager.cast(TaskManagerMessage::Release { job });
                    }
                }
                state.starting = state.starting.saturating_sub(1);
                state.task_managers.push(Registered { actor: task_manager, offer, used, is_leaving: false });
            }
            ResourceManagerMessage::CouldHave { job, slots, reply } => {
                let rooms = state.rooms(Some(job));
                let could = match state.waiting.front() {
                    // What is given back for a moment would be theirs.
                    Some(first) => {
                        Err(format!("job {} waits for slots: try again when it has them", first.job))
                    }
                    None => slots::place(state.placement, &rooms, &slots::each(&slots))
                        .map(|_| ())
                        .map_err(|_| slots::missing(&rooms, &slots)),
                };
                let _ = reply.send(could);
            }
            ResourceManagerMessage::Leaving { task_manager } => {
                let mut all = state.task_managers.iter_mut();
                if let Some(leaving) = all.find(|registered| registered.actor.get_id() == task_manager) {
                    leaving.is_leaving = true;
                }
            }
            ResourceManagerMessage::Unregister { task_manager } => state.unregister(&myself, task_manager),
            ResourceManagerMessage::WorkerEnded { job, worker, reason } => {
                state.on_worker_ended(job, worker, reason);
            }
            ResourceManagerMessage::Overview { reply } => {
                let row = |registered: &Registered| {
                    let slots = registered.offer.slots;
                    (registered.actor.get_id(), slots, registered.used(None).slots.min(slots))
                };
                let _ = reply.send(state.task_managers.iter().map(row).collect());
            }
            ResourceManagerMessage::Request { job, attempt, slots, keeps, master } => {
                if state.request(Waiting { job, attempt, slots, master }, keeps) {
                    state.expect(&myself, job, attempt);
                }
            }
            ResourceManagerMessage::Launched { task_manager, job, worker, actor, address } => {
                state.on_launched(task_manager, job, SlotGrant { worker, actor, address, slots: Vec::new() });
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
        state.unregister(&myself, who.get_id());
        state.serve_and_provide(&myself).await
    }
}

impl State {
    /// Where slots may be, of TaskManagers that stay; the others have none.
    fn rooms(&self, but: Option<JobId>) -> Vec<Room> {
        let room = |registered: &Registered| {
            let nothing = Offer { slots: 0, cpu_millis: 0, memory_bytes: 0 };
            let offer = if registered.is_leaving { nothing } else { registered.offer };
            Room { offer, used: registered.used(but) }
        };
        self.task_managers.iter().map(room).collect()
    }

    /// A request waits for so long at most.
    fn expect(&self, myself: &ActorRef<ResourceManagerMessage>, job: JobId, attempt: Attempt) {
        let give_up = move || ResourceManagerMessage::GiveUp { job, attempt };
        drop(myself.send_after(self.slot_timeout, give_up));
    }

    /// Puts a request in line; whether it was not known before. What an attempt before it has been given is given back.
    fn request(&mut self, request: Waiting, keeps: bool) -> bool {
        let (job, attempt) = (request.job, request.attempt);
        if let Some(granted) = self.granted.get(&job).filter(|granted| granted.attempt == attempt) {
            // The answer may have been lost.
            granted.answer_if_complete();
            return false;
        }
        if self.waiting.iter().any(|waiting| waiting.job == job && waiting.attempt == attempt) {
            return false;
        }
        let request = match keeps {
            true => self.regrant(request),
            false => Some(request),
        };
        let Some(request) = request else { return false };
        self.release(job);
        self.waiting.push_back(request);
        true
    }

    /// Gives a job other slots and lets its Workers go on where it has some again. Gives the request back if that cannot
    /// be done: it has to wait, or a Worker has been given its memory for good.
    fn regrant(&mut self, request: Waiting) -> Option<Waiting> {
        let job = request.job;
        let all_run =
            |granted: &Granted| granted.launches.iter().all(|launch| launch.stage == Stage::Running);
        if !self.granted.get(&job).is_some_and(all_run) {
            return Some(request);
        }
        let rooms = self.rooms(Some(job));
        let Ok(placed) = slots::place(self.placement, &rooms, &slots::each(&request.slots)) else {
            return Some(request);
        };
        let has_limit = |share: &Share| share.slots > 0 && share.is_memory_wanted;
        let users = || self.task_managers.iter().filter(|registered| registered.used.contains_key(&job));
        let shares = users().filter_map(|registered| registered.used.get(&job));
        let is_limited = shares.chain(placed.iter().map(|(_, share)| share)).any(has_limit);
        // One that was away and has come back has a Worker that is not among those granted.
        let is_known = |user: &Registered| {
            self.granted[&job].launches.iter().any(|launch| launch.task_manager == user.actor.get_id())
        };
        if is_limited || !users().all(is_known) {
            return Some(request);
        }
        let former = self.granted.remove(&job).map_or_else(Vec::new, |granted| granted.launches);
        let mut former: BTreeMap<ActorId, Launch> =
            former.into_iter().map(|launch| (launch.task_manager, launch)).collect();
        let mut launches = Vec::new();
        for (registered, (numbers, share)) in self.task_managers.iter_mut().zip(placed) {
            match former.remove(&registered.actor.get_id()) {
                Some(_) if share.slots == 0 => {
                    registered.used.remove(&job);
                    let _ = registered.actor.cast(TaskManagerMessage::Release { job });
                }
                Some(mut launch) => {
                    registered.used.insert(job, share);
                    let _ = registered.actor.cast(TaskManagerMessage::Share { job, share });
                    launch.grant.slots = numbers;
                    launches.push(launch);
                }
                None if share.slots == 0 => {}
                None => {
                    let worker = WorkerId(self.random.random());
                    launches.push(launch(registered, job, worker, (numbers, share)));
                }
            }
        }
        let Waiting { attempt, slots, master, .. } = request;
        let granted = Granted { attempt, slots, master, launches };
        granted.answer_if_complete();
        self.granted.insert(job, granted);
        None
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
                let arguments = (myself.clone(), Offer::unlimited(slots), self.network.clone());
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
            let placed = slots::place(self.placement, &self.rooms(None), &slots::each(&first.slots));
            let placed = match placed {
                Ok(placed) => placed,
                Err(missing) => return missing,
            };
            if let Some(request) = self.waiting.pop_front() {
                self.grant(request, placed);
            }
        }
        0
    }

    fn grant(&mut self, request: Waiting, placed: Vec<(Vec<usize>, Share)>) {
        let Waiting { job, attempt, slots, master } = request;
        let mut launches = Vec::new();
        let given = self.task_managers.iter_mut().zip(placed);
        for (registered, placed) in given.filter(|(_, (_, share))| share.slots > 0) {
            let worker = WorkerId(self.random.random());
            launches.push(launch(registered, job, worker, placed));
        }
        self.granted.insert(job, Granted { attempt, slots, master, launches });
    }

    fn on_launched(&mut self, task_manager: ActorId, job: JobId, launched: SlotGrant) {
        let Some(granted) = self.granted.get_mut(&job) else { return };
        for launch in &mut granted.launches {
            if launch.task_manager == task_manager && launch.grant.worker == launched.worker {
                launch.stage = Stage::Running;
                let slots = std::mem::take(&mut launch.grant.slots);
                launch.grant = SlotGrant { slots, ..launched.clone() };
            }
        }
        granted.answer_if_complete();
    }

    /// Jobs that were about to start on it are given other slots; those that run there are told.
    fn unregister(&mut self, myself: &ActorRef<ResourceManagerMessage>, task_manager: ActorId) {
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
            let Some(Granted { attempt, slots, master, .. }) = self.granted.remove(&job) else { continue };
            self.release(job);
            self.waiting.push_front(Waiting { job, attempt, slots, master });
            self.expect(myself, job, attempt);
        }
    }

    fn on_worker_ended(&mut self, job: JobId, worker: WorkerId, reason: String) {
        let is_one = |granted: &&Granted| granted.launches.iter().any(|launch| launch.grant.worker == worker);
        let Some(granted) = self.granted.get(&job).filter(is_one) else { return };
        if granted.is_complete() {
            let _ = granted.master.cast(JobMasterMessage::WorkerLost { worker, reason });
            // What is asked for next must not count on it.
            let granted = self.granted.get_mut(&job).into_iter();
            let launches = granted.flat_map(|granted| &mut granted.launches);
            launches
                .filter(|launch| launch.grant.worker == worker)
                .for_each(|launch| launch.stage = Stage::Ended);
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
        if let Some(waiting) = self.waiting.remove(at) {
            let reason = slots::missing(&self.rooms(None), &waiting.slots);
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
        let empty: Vec<Room> =
            self.rooms(None).into_iter().map(|room| Room { used: Share::default(), ..room }).collect();
        let placement = self.placement;
        let never_fits =
            |waiting: &Waiting| slots::place(placement, &empty, &slots::each(&waiting.slots)).is_err();
        while let Some(at) = self.waiting.iter().position(never_fits) {
            self.refuse(at);
        }
    }
}

/// Has a TaskManager start a Worker.
fn launch(
    registered: &mut Registered,
    job: JobId,
    worker: WorkerId,
    (slots, share): (Vec<usize>, Share),
) -> Launch {
    registered.used.insert(job, share);
    let _ = registered.actor.cast(TaskManagerMessage::Launch { job, worker, share });
    let grant = SlotGrant { worker, actor: None, address: None, slots };
    Launch { task_manager: registered.actor.get_id(), stage: Stage::Starting, grant }
}

#[cfg(test)]
mod tests {
    use super::*;

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
