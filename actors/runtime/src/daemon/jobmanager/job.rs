//! A job at the JobManager: its master, its slots, what is known of it. Decides nothing by itself.

use super::DaemonMessage;
use crate::daemon::memory::RememberedJob;
use crate::machine::Machine;
use crate::master::JobMasterMessage;
use crate::node::Peer;
use crate::process::child::ChildMessage;
use crate::protocol::{
    Advice, Assignment, Call, Changed, GraphSummary, MasterSpec, RoleSpec, ToMaster, WorkerSpec,
};
use crate::report::{CheckpointReport, JobStatus, REMEMBERED_RESCALES};
use crate::resource::SlotGrant;
use crate::status::JobState;
use crate::stub;
use crate::worker::links::WorkerId;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::error::describe;
use hurtig_dataflow::ids::{Attempt, JobId};
use hurtig_transport::{Authority, Identity, Name, Role, Tls, Validity};
use ractor::{ActorId, ActorRef};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::watch;

/// Masters that may end one after the other before any of them has had the job run.
const FRUITLESS_MASTERS: u32 = 6;

/// Before the third of them is started; twice as long before each after it.
const MASTER_DELAY: Duration = Duration::from_millis(250);

/// Checkpoints that a new master is told of.
const REMEMBERED_CHECKPOINTS: usize = 3;

/// Findings of the autoscaler that are kept.
const REMEMBERED_ADVICE: usize = 20;

/// Certificates of a job's processes are good for so long: a job is to outlive any that was issued.
const VALIDITY_DAYS: u32 = 3_650;

/// A job.
pub(super) struct Job {
    remembered: RememberedJob,
    /// None once the job has ended.
    authority: Option<Authority>,
    folder: PathBuf,
    host: String,
    changed: watch::Sender<Changed>,
    child: Option<ActorRef<ChildMessage>>,
    peer: Option<Peer>,
    master_address: Option<String>,
    stub: ActorRef<JobMasterMessage>,
    /// The attempt that asked for slots last, of those this JobManager knows of.
    requested: Option<Attempt>,
    /// Slots that were granted.
    workers: Vec<WorkerId>,
    /// The TaskManagers of its last workers, by name.
    placed: BTreeMap<WorkerId, String>,
    /// Whether a worker list of a life before this JobManager is still being gathered.
    is_taken_up: bool,
    fruitless: u32,
    /// What the autoscaler has found last, the newest first.
    advice: VecDeque<Advice>,
}

/// Makes the authority of a job, with the JobManager's own identity in it, in the job's folder.
pub(super) fn make_authority(folder: &Path, job: JobId) -> Result<(), String> {
    let make = || {
        let keys = folder.join("keys");
        let authority = Authority::create(&keys, &format!("job {job}"), Validity::days(VALIDITY_DAYS))?;
        let name = Name::new(Role::JobManager, "jobmanager")?;
        authority.issue(&name, Validity::days(VALIDITY_DAYS), &[])?.save(&keys)
    };
    make().map_err(|error| describe(&error))
}

/// Whether this JobManager has made a job's authority before.
pub(super) fn has_authority(folder: &Path) -> bool {
    folder.join("keys").exists()
}

/// What a job's n-th master is called: who is called otherwise has been replaced.
pub(super) fn master_name(number: u32) -> String {
    format!("master-{number}")
}

/// Reads them again.
pub(super) fn load_authority(folder: &Path) -> Result<(Authority, Tls), String> {
    let load = || {
        let keys = folder.join("keys");
        Ok((Authority::load(&keys)?, Tls::new(Identity::load(&keys)?)?))
    };
    load().map_err(|error: hurtig_transport::Error| describe(&error))
}

impl Job {
    pub(super) async fn new(
        remembered: RememberedJob,
        authority: Authority,
        folder: PathBuf,
        host: String,
        daemon: &ActorRef<DaemonMessage>,
    ) -> Result<Self, String> {
        let mut job = Self::ended(remembered, daemon).await?;
        job.is_taken_up = job.remembered.masters > 0;
        if job.is_taken_up {
            job.suspend();
        }
        Ok(Job { authority: Some(authority), folder, host, ..job })
    }

    pub(super) async fn ended(
        remembered: RememberedJob,
        daemon: &ActorRef<DaemonMessage>,
    ) -> Result<Self, String> {
        let (id, to) = (remembered.id, daemon.clone());
        let stub = stub::spawn(daemon.get_cell(), move |message| {
            if let Some(message) = to_wire(message) {
                let _ = to.cast(DaemonMessage::ToMaster(id, message));
            }
        });
        let (changed, _) = watch::channel(Changed { version: 1, status: remembered.status.clone() });
        Ok(Job {
            remembered,
            authority: None,
            folder: PathBuf::new(),
            host: String::new(),
            changed,
            child: None,
            peer: None,
            master_address: None,
            stub: stub.await.map_err(|error| error.to_string())?,
            requested: None,
            workers: Vec::new(),
            placed: BTreeMap::new(),
            is_taken_up: false,
            fruitless: 0,
            advice: VecDeque::new(),
        })
    }

    pub(super) fn id(&self) -> JobId {
        self.remembered.id
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn remember(&self) -> &RememberedJob {
        &self.remembered
    }

    pub(super) fn status(&self) -> &JobStatus {
        &self.remembered.status
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Changed> {
        self.changed.subscribe()
    }

    pub(super) fn stub(&self) -> ActorRef<JobMasterMessage> {
        self.stub.clone()
    }

    pub(super) fn masters(&self) -> u32 {
        self.remembered.masters
    }

    pub(super) fn has_ended(&self) -> bool {
        self.remembered.status.state.is_terminal()
    }

    pub(super) fn is_connected(&self) -> bool {
        self.peer.is_some()
    }

    pub(super) fn peer(&self) -> Option<&Peer> {
        self.peer.as_ref()
    }

    /// The autoscaler has found something. That all is well is not told twice.
    pub(super) fn on_advice(&mut self, advice: Advice) {
        if self.advice.front().is_some_and(|last| !last.is_change() && !advice.is_change()) {
            self.advice.pop_front();
        }
        self.advice.push_front(advice);
        self.advice.truncate(REMEMBERED_ADVICE);
    }

    pub(super) fn advice(&self) -> Vec<Advice> {
        self.advice.iter().cloned().collect()
    }

    pub(super) fn placed(&self) -> &BTreeMap<WorkerId, String> {
        &self.placed
    }

    /// A worker is started on a TaskManager.
    pub(super) fn place(&mut self, worker: WorkerId, on: String) {
        self.placed.insert(worker, on);
    }

    pub(super) fn is_master(&self, child: ActorId) -> bool {
        self.child.as_ref().is_some_and(|master| master.get_id() == child)
    }

    pub(super) fn is_peer(&self, peer: &Peer) -> bool {
        self.peer.as_ref() == Some(peer)
    }

    pub(super) fn set_child(&mut self, child: ActorRef<ChildMessage>) {
        self.child = Some(child);
    }

    pub(super) fn on_child_ended(&mut self) {
        self.child = None;
        self.on_master_lost();
    }

    pub(super) fn on_master_lost(&mut self) {
        self.peer = None;
        self.suspend();
    }

    /// Nobody tells what the job does until its master is back, or another in its place.
    fn suspend(&mut self) {
        let status = &self.remembered.status;
        if !status.state.is_terminal() && status.state != JobState::Suspended {
            self.set_status(JobStatus { state: JobState::Suspended, ..status.clone() });
        }
    }

    /// Ends the master's process, wherever it hangs.
    pub(super) fn kill_master(&mut self, machine: &Machine) {
        if let Some(child) = self.child.take() {
            child.stop(None);
        }
        machine.kill_recorded(&self.folder.join("master"));
    }

    /// The job has another graph from now on, whether its master goes on with it or another one begins.
    pub(super) fn rescale(&mut self, call: Call, graph: GraphSummary) {
        (self.remembered.call, self.remembered.graph) = (call, graph);
    }

    /// The master has no part in the job any more, before another one is started.
    pub(super) fn depose_master(&mut self) {
        self.remembered.masters += 1;
    }

    /// What the next master is started with.
    pub(super) fn master_assignment(&mut self) -> Result<Assignment, String> {
        self.remembered.masters += 1;
        self.is_taken_up = false;
        let RememberedJob { id, call, graph, status, masters, port, completed } = &self.remembered;
        let spec = MasterSpec {
            identity: self.issue(Role::Master, &master_name(*masters))?,
            job_manager: format!("{}:{port}", self.host),
            host: self.host.clone(),
            graph: graph.clone(),
            number: *masters,
            completed: completed.clone(),
            started_at: status.started_at,
        };
        Ok(Assignment { job: *id, call: call.clone(), role: RoleSpec::Master(spec) })
    }

    /// What a worker on a TaskManager is started with.
    pub(super) fn worker_assignment(&self, worker: WorkerId, host: &str) -> Result<Assignment, String> {
        let spec = WorkerSpec {
            worker,
            identity: self.issue(Role::Worker, &worker.certified_as())?,
            master: self.master_address.clone().ok_or("the job's master is not there")?,
            host: host.to_string(),
            graph: self.remembered.graph.clone(),
        };
        let call = self.remembered.call.clone();
        Ok(Assignment { job: self.id(), call, role: RoleSpec::Worker(spec) })
    }

    fn issue(&self, role: Role, id: &str) -> Result<Vec<u8>, String> {
        let authority = self.authority.as_ref().ok_or("the job has ended")?;
        let issue = || {
            let name = Name::of_job(role, &self.id().to_string(), id)?;
            authority.issue(&name, Validity::days(VALIDITY_DAYS), &[])
        };
        issue().map(|identity| identity.to_bytes()).map_err(|error| describe(&error))
    }

    pub(super) fn on_master_ready(&mut self, peer: &Peer, address: String) {
        self.peer = Some(peer.clone());
        self.master_address = Some(address);
    }

    pub(super) fn tell_master(&self, message: &ToMaster) {
        if let Some(peer) = &self.peer {
            // One that is gone asks again when it is back, or is replaced.
            let _ = peer.tell(message);
        }
    }

    /// The master asks for slots; those of attempts before are given back, or may be among the new ones.
    pub(super) fn on_request(&mut self, attempt: Attempt, keeps: bool) {
        if self.requested == Some(attempt) {
            return;
        }
        if !keeps || self.is_taken_up {
            self.on_released();
            self.placed.clear();
        }
        self.requested = Some(attempt);
    }

    /// Passes on what the ResourceManager tells the master.
    pub(super) fn on_told(&mut self, message: &ToMaster) {
        if let ToMaster::Slots(attempt, result) = message {
            // Of an attempt that is over: its workers end when the ResourceManager hears so.
            if self.requested != Some(*attempt) {
                return;
            }
            if let Ok(workers) = result {
                self.workers = workers.iter().map(|(worker, _)| *worker).collect();
                self.placed.retain(|worker, _| self.workers.contains(worker));
            }
        }
        self.tell_master(message);
    }

    pub(super) fn on_released(&mut self) {
        self.workers.clear();
        self.requested = None;
        self.is_taken_up = false;
    }

    /// Whether a worker that a TaskManager tells of on a new connection is one of the job's.
    pub(super) fn knows_worker(&mut self, worker: WorkerId, on: &str) -> bool {
        if self.has_ended() {
            return false;
        }
        let known = self.workers.contains(&worker);
        if !known && self.is_taken_up {
            self.workers.push(worker);
        }
        if known || self.is_taken_up {
            self.placed.insert(worker, on.to_string());
        }
        known || self.is_taken_up
    }

    /// Takes the status that a master tells; whether it is worth writing down.
    pub(super) fn on_status(&mut self, from: &Peer, mut status: JobStatus) -> bool {
        // Of a master that was replaced, or after the end.
        if !self.is_peer(from) || self.has_ended() {
            return false;
        }
        if status.state == JobState::Running {
            self.fruitless = 0;
        }
        // A master that has begun only now knows of none.
        let known = &self.remembered.status;
        status.last_checkpoint = status.last_checkpoint.or_else(|| known.last_checkpoint.clone());
        status.last_savepoint = status.last_savepoint.or_else(|| known.last_savepoint.clone());
        let newest = known.rescales.last().map(|rescale| rescale.number);
        let new = std::mem::take(&mut status.rescales).into_iter().filter(|new| Some(new.number) > newest);
        let mut rescales: Vec<_> = known.rescales.iter().cloned().chain(new).collect();
        rescales.drain(..rescales.len().saturating_sub(REMEMBERED_RESCALES));
        status.rescales = rescales;
        let place = |report: &Option<CheckpointReport>| report.as_ref().map(|report| report.location.clone());
        let completes = place(&status.last_checkpoint) != place(&known.last_checkpoint);
        let saves = place(&status.last_savepoint) != place(&known.last_savepoint);
        if let Some(report) = status.last_checkpoint.as_ref().filter(|_| completes) {
            let completed = &mut self.remembered.completed;
            completed.push(report.location.clone());
            completed.drain(..completed.len().saturating_sub(REMEMBERED_CHECKPOINTS));
        }
        let before = &self.remembered.status;
        let is_rescaled = before.rescales.last() != status.rescales.last();
        let is_news = completes
            || saves
            || is_rescaled
            || status.state != before.state
            || status.attempt != before.attempt;
        self.set_status(status);
        is_news
    }

    fn set_status(&mut self, status: JobStatus) {
        self.remembered.status = status.clone();
        self.changed.send_modify(|changed| {
            *changed = Changed { version: changed.version + 1, status };
        });
    }

    /// The end is written down; the master may go.
    pub(super) fn say_goodbye(&mut self) {
        self.tell_master(&ToMaster::Goodbye);
        self.workers.clear();
        self.authority = None;
    }

    /// Why no further master is started, if so.
    pub(super) fn gives_up(&mut self, how: &str) -> Option<String> {
        self.fruitless += 1;
        (self.fruitless >= FRUITLESS_MASTERS)
            .then(|| format!("the job's master ended {} times before the job ran: {how}", self.fruitless))
    }

    /// How long to wait before another master is started. What makes masters end at once may pass, such as a machine whose
    /// network is away.
    pub(super) fn delay(&self) -> Duration {
        match self.fruitless {
            0 | 1 => Duration::ZERO,
            fruitless => MASTER_DELAY * 2_u32.pow(fruitless - 2),
        }
    }

    pub(super) fn end(&mut self, state: JobState, reason: Option<&str>, now: Timestamp) {
        let mut status = self.remembered.status.clone();
        status.state = state;
        status.failure = reason.map(str::to_owned).or(status.failure);
        status.ended_at = Some(now);
        self.set_status(status);
        self.say_goodbye();
    }
}

/// What the ResourceManager tells what stands for a job's master, as it travels.
fn to_wire(message: JobMasterMessage) -> Option<ToMaster> {
    match message {
        JobMasterMessage::Slots { attempt, result } => {
            let worker = |grant: SlotGrant| (grant.worker, grant.slots);
            Some(ToMaster::Slots(attempt, result.map(|grants| grants.into_iter().map(worker).collect())))
        }
        JobMasterMessage::WorkerLost { worker, reason } => Some(ToMaster::WorkerEnded(worker, reason)),
        JobMasterMessage::TaskManagerLost { worker } => Some(ToMaster::TaskManagerLost(worker)),
        _ => None,
    }
}
