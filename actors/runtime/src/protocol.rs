//! What the processes of a cluster tell each other over the control plane, as plain data.
//!
//! A message type belongs to a direction. Whoever receives takes it only from a peer whose certificate has the role.

use crate::failure::Failure;
use crate::master::SubtaskEvent;
use crate::observe::JobObservation;
use crate::report::{JobStatus, RescaleReport};
use crate::resource::{NoSlots, Offer, Share};
use crate::subtask::SubtaskSettings;
use crate::worker::links::{Placement, WorkerId};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::element::Barrier;
use hurtig_dataflow::graph::{JobGraph, SlotsWanted};
use hurtig_dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig_dataflow::source::AnyAssignment;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// Tells builds of hurtig apart whose processes would not understand each other: a hash of the text of what they tell
/// each other.
pub const FINGERPRINT: u64 = fingerprint(&[
    include_bytes!("protocol.rs"),
    include_bytes!("report.rs"),
    include_bytes!("observe.rs"),
    include_bytes!("observe/subtasks.rs"),
    include_bytes!("observe/rates.rs"),
    include_bytes!("observe/checkpoints.rs"),
    include_bytes!("failure.rs"),
    include_bytes!("worker/links.rs"),
    include_bytes!("resource/slots.rs"),
]);

/// FNV-1a over all texts.
const fn fingerprint(texts: &[&[u8]]) -> u64 {
    let (mut hash, mut text) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while text < texts.len() {
        let mut at = 0;
        while at < texts[text].len() {
            hash = (hash ^ texts[text][at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        text += 1;
    }
    hash
}

/// Bytes of a program in one message.
pub const CHUNK_BYTES: usize = 1 << 20;

/// A program, named by the SHA-256 of its bytes in hexadecimal digits.
pub type ProgramHash = String;

/// A program to run, and how it is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Call {
    /// The program.
    pub program: ProgramHash,
    /// The name of its file, for people.
    pub file_name: String,
    /// Its arguments, without its name.
    pub args: Vec<String>,
    /// Configuration of whoever submits it, as `key=value`; its arguments override them.
    pub defines: Vec<String>,
    /// The folder it is called in, where the machine has it.
    pub folder: PathBuf,
    /// How its parallelism was changed after it was submitted.
    #[serde(default)]
    pub rescaled: Option<Rescaled>,
}

impl Call {
    /// How often the job's parallelism was changed.
    pub fn rescales(&self) -> u32 {
        self.rescaled.as_ref().map_or(0, |rescaled| rescaled.times)
    }
}

/// What has been changed of a job's parallelism.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rescaled {
    /// Subtasks of operators for which the program says nothing else.
    pub parallelism: Option<usize>,
    /// Subtasks of operators by their uid, whatever the program says.
    pub of_uids: BTreeMap<String, usize>,
    /// Number of key groups: as it was in the beginning.
    pub max_parallelism: u32,
    /// How often it was changed.
    pub times: u32,
}

/// From a client to the JobManager; each is a question.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ClientRequest {
    /// Whether a program is there already. Answer: `bool`.
    HasProgram(ProgramHash),
    /// A program will follow. Answer: the upload's number.
    BeginUpload {
        /// What its bytes will hash to.
        program: ProgramHash,
        /// How many there are.
        size_bytes: u64,
    },
    /// The next bytes of an upload. Answer: nothing.
    Chunk {
        /// The upload.
        upload: u64,
        /// At most [`CHUNK_BYTES`].
        bytes: serde_bytes::ByteBuf,
    },
    /// All bytes are sent. Answer: nothing.
    FinishUpload(u64),
    /// Run a program. Answer: [`Submitted`].
    Submit(Call),
    /// The jobs there are. Answer: their [`JobStatus`].
    List,
    /// One job, by its id or the beginning of it. Answer: its [`JobStatus`] and graph.
    Info(String),
    /// One job, when it has changed since the given version. Answer: [`Changed`].
    Follow {
        /// The job.
        job: JobId,
        /// What the client has seen; 0 for nothing.
        seen: u64,
    },
    /// End a job. Answer: nothing.
    Cancel(JobId),
    /// Take a savepoint. Answer: its location.
    Savepoint {
        /// The job.
        job: JobId,
        /// Where to.
        target: Option<String>,
        /// Whether the job stops with it.
        stop: bool,
    },
    /// Give a job another parallelism. Answer: [`Submitted`], when it starts again.
    Rescale {
        /// The job.
        job: JobId,
        /// Subtasks of vertices for which the program says nothing else.
        parallelism: Option<usize>,
        /// Subtasks of the vertices that operators are part of, by the operators' uids.
        vertices: Vec<(String, usize)>,
    },
    /// What the cluster consists of. Answer: [`Overview`].
    Overview,
    /// All that is observed of a job. Answer: [`Observed`].
    Observe {
        /// The job.
        job: JobId,
        /// The checkpoint of which each subtask's part is wanted.
        checkpoint: Option<CheckpointId>,
    },
    /// The JobManager's configuration. Answer: keys and values of what is set.
    Config,
    /// The programs there are. Answer: [`ProgramSummary`]s.
    Programs,
    /// Sample one of a job's workers. Answer: [`Profile`].
    Profile {
        /// The job.
        job: JobId,
        /// The worker.
        worker: WorkerId,
        /// For how long.
        duration: Duration,
    },
    /// About log files. Answer: [`LogAnswer`].
    Logs {
        /// The TaskManager that has them, by its name; unset: the JobManager.
        of: Option<String>,
        /// What is wanted.
        question: LogQuestion,
    },
}

/// Where a process has spent its time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// When it was sampled, in milliseconds since 1970.
    pub at: i64,
    /// Call stacks, the outermost function first, and how often each was met.
    pub stacks: Vec<(Vec<String>, u64)>,
}

/// What is asked about the log files of a daemon and of the processes that it has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogQuestion {
    /// Which there are.
    List {
        /// What their names begin with; empty: all.
        under: String,
    },
    /// A part of one.
    Read {
        /// Its name.
        name: String,
        /// Where the part begins, in bytes; unset: such that it is the file's end.
        from: Option<u64>,
    },
}

/// The answer to a [`LogQuestion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LogAnswer {
    /// The files, the newest first.
    Files(Vec<LogFile>),
    /// The part.
    Part(LogPart),
}

/// A log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Its name: the path within its daemon's folder. Those of a job are in `jobs/ID`.
    pub name: String,
    /// Its size.
    pub size_bytes: u64,
    /// When it was written last, in milliseconds since 1970.
    pub modified_at: i64,
}

/// A part of a log file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// Size of the file.
    pub size_bytes: u64,
    /// Where the part begins.
    pub offset: u64,
    /// The part; none at the end.
    pub bytes: serde_bytes::ByteBuf,
}

/// An answer, or a sentence that says why there is none.
pub type Answer<T> = Result<T, String>;

/// A job that was accepted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submitted {
    /// The job.
    pub job: JobId,
    /// Its graph.
    pub graph: GraphSummary,
    /// What came of it, if its master has gone on with another parallelism.
    #[serde(default)]
    pub rescaled: Option<RescaleReport>,
}

/// A job's status with its version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Changed {
    /// Grows with each change.
    pub version: u64,
    /// The status.
    pub status: JobStatus,
}

/// What a machine offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hardware {
    /// Processor cores.
    pub cores: usize,
    /// Bytes of memory.
    pub memory_bytes: u64,
}

/// A TaskManager, as the cluster shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskManagerSummary {
    /// Its name, which is good for addresses of pages too.
    pub name: String,
    /// Where it is; empty if it is in this process.
    pub address: String,
    /// Its slots.
    pub slots: usize,
    /// Those that are used.
    pub used: usize,
    /// Its machine.
    pub hardware: Hardware,
    /// Workers that run on it, with their jobs.
    pub workers: Vec<(JobId, WorkerId)>,
}

/// All that is observed of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Observed {
    /// Its status.
    pub status: JobStatus,
    /// Its graph.
    pub graph: GraphSummary,
    /// What its master has seen; empty if the master has been away since it began.
    pub seen: JobObservation,
    /// How its program was called, if it was submitted.
    pub call: Option<Call>,
    /// The TaskManager of each worker, by name.
    pub placed: BTreeMap<WorkerId, String>,
    /// What the autoscaler has found last, the newest first.
    pub advice: Vec<Advice>,
}

/// What the autoscaler says of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Advice {
    /// When.
    pub at: Timestamp,
    /// The vertices.
    pub vertices: Vec<VertexAdvice>,
    /// What has come of it.
    pub outcome: String,
}

/// The parallelism that a vertex should have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VertexAdvice {
    /// The uid of its first operator.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// The parallelism it had.
    pub parallelism: usize,
    /// The one that it should have.
    pub wanted: usize,
    /// The share of their time that its subtasks would be at work if nothing held anything back.
    pub utilization: f64,
    /// Records per second that it has to process.
    pub demand: f64,
}

impl Advice {
    /// Whether a vertex should have another parallelism.
    pub fn is_change(&self) -> bool {
        self.vertices.iter().any(|vertex| vertex.parallelism != vertex.wanted)
    }
}

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changed = self.vertices.iter().filter(|vertex| vertex.parallelism != vertex.wanted);
        for (at, vertex) in changed.enumerate() {
            let VertexAdvice { name, parallelism, wanted, utilization, demand, .. } = vertex;
            let separator = if at > 0 { ", " } else { "" };
            let utilization = utilization * 100.0;
            write!(
                f,
                "{separator}'{name}' from {parallelism} to {wanted} subtasks ({demand:.0} records/s keep it at work for {utilization:.0} % of the time)"
            )?;
        }
        Ok(())
    }
}

/// A program that was uploaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramSummary {
    /// The program.
    pub program: ProgramHash,
    /// Its size.
    pub size_bytes: u64,
    /// When it came, in milliseconds since 1970.
    pub uploaded_at: i64,
}

/// What the cluster consists of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Overview {
    /// TaskManagers that are registered.
    pub task_managers: Vec<TaskManagerSummary>,
}

/// A job graph for people, and for comparing what the processes of a job have built.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphSummary {
    /// Name of the job.
    pub name: String,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// Slots needed.
    pub slots: usize,
    /// The same by slot sharing group.
    #[serde(default)]
    pub wanted: Vec<SlotsWanted>,
    /// The vertices.
    pub vertices: Vec<VertexSummary>,
    /// The edges: from, to, and the way records take.
    pub edges: Vec<(usize, usize, String)>,
}

/// A vertex for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VertexSummary {
    /// Its name.
    pub name: String,
    /// Its parallelism.
    pub parallelism: usize,
    /// The uids of its operators.
    pub operators: Vec<String>,
}

impl GraphSummary {
    /// What there is to tell of a graph.
    pub fn new(graph: &JobGraph) -> Self {
        let vertex = |vertex: &hurtig_dataflow::graph::Vertex| VertexSummary {
            name: vertex.name.clone(),
            parallelism: vertex.parallelism,
            operators: vertex.chain.iter().map(|operator| operator.uid.clone()).collect(),
        };
        let edge = |edge: &hurtig_dataflow::graph::JobEdge| {
            (edge.from, edge.to, format!("{:?}", edge.partitioning.pattern).to_lowercase())
        };
        GraphSummary {
            name: graph.name.clone(),
            max_parallelism: graph.max_parallelism,
            slots: graph.slots(),
            wanted: graph.wanted_slots(),
            vertices: graph.vertices.iter().map(vertex).collect(),
            edges: graph.edges.iter().map(edge).collect(),
        }
    }

    /// The first difference to what another process has built, as a sentence.
    pub fn difference(&self, other: &GraphSummary) -> Option<String> {
        if self == other {
            return None;
        }
        if self.vertices.len() != other.vertices.len() {
            return Some(format!("{} vertices against {}", self.vertices.len(), other.vertices.len()));
        }
        for (one, two) in self.vertices.iter().zip(&other.vertices) {
            if one != two {
                return Some(format!(
                    "vertex '{}' ({} subtasks, operators {}) against '{}' ({} subtasks, operators {})",
                    one.name,
                    one.parallelism,
                    one.operators.join(", "),
                    two.name,
                    two.parallelism,
                    two.operators.join(", "),
                ));
            }
        }
        let edges = self.edges.iter().zip(&other.edges).find(|(one, two)| one != two);
        Some(match edges {
            Some((one, two)) => format!("edge {one:?} against {two:?}"),
            None if self.name != other.name => format!("name '{}' against '{}'", self.name, other.name),
            None if self.wanted != other.wanted => "what slot sharing groups ask for".into(),
            None => "number of edges or key groups".into(),
        })
    }
}

/// From a TaskManager to the JobManager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromTaskManager {
    /// It offers slots. Told first on every connection.
    Register {
        /// What it offers.
        offer: Offer,
        /// The address others reach this machine by, if it is configured; else the one that it connects from.
        host: Option<String>,
        /// Its machine.
        hardware: Hardware,
        /// Workers that run, of connections before.
        workers: Vec<(JobId, WorkerId, Share)>,
    },
    /// A worker's process runs.
    Started(JobId, WorkerId),
    /// A worker's process has ended, or could not be started.
    Ended(JobId, WorkerId, String),
    /// Part of a program, from a place on. A question; the answer is a [`ProgramPart`].
    Fetch(ProgramHash, u64),
    /// It is about to end: it is to get no worker any more. A question; it is answered, with nothing, when no checkpoint
    /// is under way that its workers have part in.
    Leaving,
}

/// Part of a program.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProgramPart {
    /// Size of the whole.
    pub size_bytes: u64,
    /// The part; none at the end.
    pub bytes: serde_bytes::ByteBuf,
}

/// From the JobManager to a TaskManager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToTaskManager {
    /// Run a worker.
    Launch {
        /// The slots it stands for, and what they take.
        share: Share,
        /// What it is told on its pipe.
        assignment: Box<Assignment>,
    },
    /// The worker of a job stands for other slots from now on.
    Share(JobId, Share),
    /// End the workers of a job.
    Release(JobId),
    /// About its log files. A question; the answer is a [`LogAnswer`].
    Logs(LogQuestion),
}

/// What a program learns, on its standard input, that is started as part of a cluster.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The job.
    pub job: JobId,
    /// How the program is called.
    pub call: Call,
    /// What it is to do.
    pub role: RoleSpec,
}

/// What a program is to do in a cluster.
#[derive(Clone, Serialize, Deserialize)]
pub enum RoleSpec {
    /// Build the job graph, write a [`Plan`] into a file, and end.
    Plan(PathBuf),
    /// Be the job's master.
    Master(MasterSpec),
    /// Run subtasks.
    Worker(WorkerSpec),
}

impl std::fmt::Debug for RoleSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Identities are secret.
        f.write_str(match self {
            RoleSpec::Plan(_) => "Plan",
            RoleSpec::Master(_) => "Master",
            RoleSpec::Worker(_) => "Worker",
        })
    }
}

/// What planning gives: the graph, or why there is none.
pub type Plan = Result<GraphSummary, String>;

/// What a master needs to know.
#[derive(Clone, Serialize, Deserialize)]
pub struct MasterSpec {
    /// Its identity, of the job's own authority.
    pub identity: Vec<u8>,
    /// Where the JobManager listens for it.
    pub job_manager: String,
    /// The address others reach this machine by.
    pub host: String,
    /// The graph that was planned.
    pub graph: GraphSummary,
    /// Its number, if no master of the job has had it.
    pub number: u32,
    /// Checkpoints of the job that masters before it have completed, oldest first.
    pub completed: Vec<String>,
    /// When the job was accepted.
    pub started_at: i64,
}

/// What a worker needs to know.
#[derive(Clone, Serialize, Deserialize)]
pub struct WorkerSpec {
    /// Its id.
    pub worker: WorkerId,
    /// Its identity, of the job's own authority.
    pub identity: Vec<u8>,
    /// Where the job's master listens.
    pub master: String,
    /// The address others reach this machine by.
    pub host: String,
    /// The graph that was planned.
    pub graph: GraphSummary,
}

/// From a master to the JobManager.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromMaster {
    /// It runs. Told first on every connection.
    Ready {
        /// Where it listens for workers.
        address: String,
        /// How often the job was rescaled before it had the graph that it has.
        rescaled: u32,
    },
    /// The job's status has changed.
    Status(Box<JobStatus>),
    /// What was seen of the job in its life. Told before the end is.
    Observed(Box<JobObservation>),
    /// An attempt needs slots, and those of attempts before it are needed no more. Told again on a new connection: the
    /// answer to the first may have been lost.
    Request {
        /// The attempt.
        attempt: Attempt,
        /// Which.
        slots: Vec<SlotsWanted>,
        /// Whether workers that have slots already are to be kept where they can be.
        keeps: bool,
    },
    /// It needs its slots no more.
    Release,
}

/// From the JobManager to a master.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToMaster {
    /// Workers that were started for an attempt with their slots, or why there are none.
    Slots(Attempt, Result<Vec<(WorkerId, Vec<usize>)>, NoSlots>),
    /// A worker's process has ended.
    WorkerEnded(WorkerId, String),
    /// The TaskManager of a worker is gone: if it has not connected yet, it will not.
    TaskManagerLost(WorkerId),
    /// End the job.
    Cancel,
    /// Take a savepoint. A question; the answer is its location.
    Savepoint {
        /// Where to.
        target: Option<String>,
        /// Whether the job stops with it.
        stop: bool,
    },
    /// Take a checkpoint now. A question; the answer is its location.
    Checkpoint,
    /// Go on with another graph from the last checkpoint. A question; it is answered with a [`RescaleReport`] when the job
    /// runs again, or at once with [`NotRescaled`].
    Rescale {
        /// How the graph is to be planned.
        rescaled: Rescaled,
        /// What it then is.
        graph: GraphSummary,
    },
    /// What was seen of the job. A question; the answer is a [`JobObservation`].
    Observe {
        /// The checkpoint of which each subtask's part is wanted.
        checkpoint: Option<CheckpointId>,
    },
    /// Sample a worker. A question; the answer is a [`Profile`].
    Profile {
        /// The worker.
        worker: WorkerId,
        /// For how long.
        duration: Duration,
    },
    /// Something that the job needs is about to end. A question; it is answered, with nothing, when the checkpoints that
    /// are under way now are complete, or have failed.
    Settle,
    /// The job has ended and that is written down.
    Goodbye,
}

/// Why a master does not go on with another graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotRescaled {
    /// The job is about to end.
    Ending,
    /// Another master could.
    Refused(String),
}

/// From a worker to its master.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// It runs. Told first.
    Ready {
        /// Its id.
        worker: WorkerId,
        /// Where it listens for other workers.
        address: String,
        /// The graph it has built.
        graph: GraphSummary,
    },
    /// Subtasks exist, or why not.
    Deployed(Attempt, Result<Vec<SubtaskId>, Failure>),
    /// Something has happened in a subtask.
    Subtask(Attempt, SubtaskId, SubtaskEvent),
    /// A subtask or a link has failed.
    Failed(Attempt, Failure),
    /// All subtasks of an attempt are gone.
    Stopped(Attempt),
}

/// From a master to its workers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Make subtasks.
    Deploy {
        /// Their attempt.
        attempt: Attempt,
        /// Which.
        subtasks: Vec<SubtaskId>,
        /// Settings of all of them.
        settings: SubtaskSettings,
        /// The checkpoint their state is from.
        restored_from: Option<String>,
        /// How the graph is to be planned first, if it is another than the process was started for.
        rescaled: Option<Rescaled>,
    },
    /// Let them work.
    Start(Attempt, Placement),
    /// Stop an attempt's subtasks.
    Stop(Attempt),
    /// For one subtask.
    Subtask(Attempt, SubtaskId, ToSubtask),
    /// Sample the process for so long. A question; the answer is a [`Profile`].
    Profile(Duration),
}

/// From a master and its children to a subtask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum ToSubtask {
    /// From the split enumerator.
    Assigned(AnyAssignment),
    /// From the split enumerator or the coordinator.
    Trigger(Barrier),
    /// From the coordinator.
    Completed(CheckpointId),
    /// From the coordinator.
    Aborted(CheckpointId),
}
