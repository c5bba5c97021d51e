//! The actors of hurtig: JobManager, ResourceManager, JobMaster, TaskManager, Worker and Subtask, with the exchange of
//! batches by credit and the checkpoints between them. The only crate that names the actor library.
//!
//! ```text
//! root
//! ├─ JobManager ─ JobMaster × job ─┬─ Coordinator          takes checkpoints
//! │                                ├─ Enumerator × source  hands out splits
//! │                                └─ SinkCommitter × sink publishes what sinks prepared
//! └─ ResourceManager ─ TaskManager ─ Worker × job ─ Subtask × n
//! ```
//! [`node`] connects the process with others; on which [`machine`] it is, real or part of a [`simulation`], all else does not know.
//!
//! # Invariants
//! * A subtask's handler never waits; what it cannot do for want of credit it leaves in a queue.
//! * A sender has no more batches on a channel than its receiver granted; control elements need no credit, and those
//!   that could pile up are merged.
//! * Messages carry their attempt; those of an older one have no effect.
//! * A parent hears of every child's end and decides; nothing restarts by itself.
//!
//! # Decisions
//! * 2026-11: control elements travel without credit: a watermark behind a full window would otherwise hold a barrier
//!   back, and a queue merges the watermarks that wait in it.
//! * 2026-11: an acknowledgement names everything a sink has prepared since the last complete checkpoint, so a failed
//!   checkpoint loses nothing and a savepoint need not publish.
//! * 2026-11: a snapshot is drained in slices that take a ninth of a busy subtask's time and all of an idle one's. A
//!   barrier or a trigger that comes meanwhile waits: two snapshots at once would need two sets of bits, and the second
//!   could not be complete before the first anyway.
//! * 2026-11: a subtask that starts anew from a checkpoint of its own job goes on with deltas on top of it, unless its
//!   operators or key groups are others; what is restored from elsewhere may be deleted by others, and is followed by a
//!   base.
//! * 2026-11: what a barrier has overtaken is restored by its receivers, before anything else comes to them: what they had,
//!   then what their senders still had. So it goes the same way at any parallelism, and no sender has to know of it. All of
//!   it is in the foot of snapshot files, which every process reads: credits bound it, and a checkpoint for which a sender
//!   goes on too long before its barrier is given up.
//! * 2026-11: where workers are other processes, the master reads no state but its description, and everything only after a
//!   worker could not read its part: then it has to find out which checkpoint can be restored.
//! * 2026-11: the autoscaler is a client like any other, which watches jobs and rescales them: nothing else knows of it.
//! * 2026-11: the end of a job is a checkpoint like any other, asked of subtasks that have ended.
//! * 2026-11: a job is rescaled from a checkpoint by its own master, which plans the graph anew in its process, as its
//!   workers do: none of them is started again that still has slots. Should anything stand in the way, another master
//!   begins with the new graph, as after a master's death: so it is safe to interrupt. A savepoint instead would not do,
//!   since the job may complete a checkpoint, and publish what it holds, before it stops.

pub mod actors;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod daemon;
pub mod execution;
pub mod failure;
pub mod fault;
pub mod jobmanager;
pub mod logs;
pub mod machine;
pub mod master;
pub mod metrics;
pub mod node;
pub mod observe;
pub mod process;
pub mod profile;
pub mod protocol;
pub mod report;
pub mod resource;
pub mod simulation;
pub mod status;
pub mod stub;
pub mod subtask;
pub mod taskmanager;
pub mod tasks;
pub mod worker;

pub use client::{JobClient, JobError, JobMetrics};
pub use cluster::{Cluster, RunError};
pub use config::Config;
pub use report::JobStatus;
pub use status::JobState;
