//! The messages of the control plane: what is written reads back, and whatever else comes is a message or an error,
//! never a panic. The same entry points are fuzzed by `tests/fuzz`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use hurtig_dataflow::element::Barrier;
use hurtig_dataflow::graph::{Resources, SlotsWanted};
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_dataflow::source::Assignment as Splits;
use hurtig_runtime::JobStatus;
use hurtig_runtime::failure::Failure;
use hurtig_runtime::master::SubtaskEvent;
use hurtig_runtime::node::decode;
use hurtig_runtime::protocol::{
    Assignment, Call, ClientRequest, FromMaster, FromTaskManager, FromWorker, GraphSummary, Hardware,
    MasterSpec, Rescaled, RoleSpec, ToMaster, ToSubtask, ToTaskManager, ToWorker, VertexSummary, WorkerSpec,
};
use hurtig_runtime::report::SubtaskReport;
use hurtig_runtime::resource::{NoSlots, Offer, Share};
use hurtig_runtime::subtask::SubtaskSettings;
use hurtig_runtime::worker::links::{Placement, WorkerId};
use hurtig_state::{SnapshotHandle, SubtaskMetadata};
use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Tries to read bytes as whatever may come to a process of the cluster.
fn decode_all(bytes: &[u8]) {
    let _ = decode::<ClientRequest>(bytes);
    let _ = decode::<FromTaskManager>(bytes);
    let _ = decode::<ToTaskManager>(bytes);
    let _ = decode::<FromMaster>(bytes);
    let _ = decode::<ToMaster>(bytes);
    let _ = decode::<FromWorker>(bytes);
    let _ = decode::<ToWorker>(bytes);
}

/// As a message is written; it must read back as the same.
fn written<T: Serialize + DeserializeOwned>(message: &T) -> Vec<u8> {
    let bytes = rmp_serde::to_vec(message).unwrap();
    let again = decode::<T>(&bytes).unwrap();
    assert_eq!(rmp_serde::to_vec(&again).unwrap(), bytes);
    bytes
}

const JOB: JobId = JobId(0x1234_5678_9abc_def0);
const SUBTASK: SubtaskId = SubtaskId { vertex: 1, index: 2 };

fn call() -> Call {
    Call {
        program: "0".repeat(64),
        file_name: "program".into(),
        args: vec!["--in".into(), "a file".into()],
        defines: vec!["parallelism.default=3".into()],
        folder: "/tmp".into(),
        rescaled: None,
    }
}

fn wanted() -> SlotsWanted {
    let resources = Resources { cpu_millis: Some(500), memory_bytes: None };
    SlotsWanted { group: "default".into(), count: 3, resources }
}

fn graph() -> GraphSummary {
    let vertex =
        VertexSummary { name: "map".into(), parallelism: 3, operators: vec!["one".into(), "two".into()] };
    GraphSummary {
        name: "job".into(),
        max_parallelism: 128,
        slots: 3,
        wanted: vec![wanted()],
        vertices: vec![vertex.clone(), vertex],
        edges: vec![(0, 1, "hash".into())],
    }
}

fn assignment(role: RoleSpec) -> Box<Assignment> {
    Box::new(Assignment { job: JOB, call: call(), role })
}

fn placement() -> Placement {
    let mut placement = Placement::default();
    placement.subtasks.insert(SUBTASK, WorkerId(9));
    placement.workers.insert(WorkerId(9), "host:1".into());
    placement
}

fn settings() -> SubtaskSettings {
    SubtaskSettings {
        batch_size: 1_024,
        flush_timeout_ms: 5,
        credits: 8,
        exactly_once: true,
        alignment_timeout_ms: None,
        checkpointing: true,
        strict: false,
        state_memory: Some(1 << 30),
        spill_dir: Some("/tmp".into()),
    }
}

fn failure() -> Failure {
    Failure { subtask: Some(SUBTASK), place: "map".into(), message: "why".into(), fatal: true }
}

/// Messages of each kind, as valid processes send them.
fn messages() -> Vec<Vec<u8>> {
    let barrier =
        Barrier { checkpoint: 3, savepoint: Some("/savepoints".into()), stop: true, overtakes: false };
    let metadata = SubtaskMetadata {
        snapshot: SnapshotHandle::default(),
        committables: vec![("sink".into(), vec![vec![1, 2, 3].into()])],
        written_bytes: 12,
        since: 2,
    };
    let master = MasterSpec {
        identity: vec![1; 100],
        job_manager: "host:1".into(),
        host: "host".into(),
        graph: graph(),
        number: 2,
        completed: vec!["chk-1".into()],
        started_at: 5,
    };
    let worker = WorkerSpec {
        worker: WorkerId(9),
        identity: vec![1; 100],
        master: "host:1".into(),
        host: "host".into(),
        graph: graph(),
    };
    let acknowledged = SubtaskEvent::Acknowledged {
        checkpoint: 3,
        metadata,
        alignment_ms: 1,
        synchronous_us: 2,
        in_flight_bytes: 3,
    };
    let mut all = Vec::new();
    all.extend(
        [
            ClientRequest::HasProgram("0".repeat(64)),
            ClientRequest::BeginUpload { program: "0".repeat(64), size_bytes: 5 },
            ClientRequest::Chunk { upload: 1, bytes: vec![7; 300].into() },
            ClientRequest::FinishUpload(1),
            ClientRequest::Submit(call()),
            ClientRequest::List,
            ClientRequest::Info("12".into()),
            ClientRequest::Follow { job: JOB, seen: 3 },
            ClientRequest::Cancel(JOB),
            ClientRequest::Savepoint { job: JOB, target: Some("/savepoints".into()), stop: true },
            ClientRequest::Observe { job: JOB, checkpoint: Some(4) },
        ]
        .iter()
        .map(written),
    );
    let share = Share { slots: 2, cpu_millis: 1_000, memory_bytes: 1 << 30, is_memory_wanted: true };
    let hardware = Hardware { cores: 2, memory_bytes: 1 << 33 };
    all.extend(
        [
            FromTaskManager::Register {
                offer: Offer { slots: 2, cpu_millis: 2_000, memory_bytes: 1 << 33 },
                host: Some("host".into()),
                hardware,
                workers: vec![(JOB, WorkerId(9), share)],
            },
            FromTaskManager::Started(JOB, WorkerId(9)),
            FromTaskManager::Ended(JOB, WorkerId(9), "how".into()),
            FromTaskManager::Fetch("0".repeat(64), 1 << 20),
            FromTaskManager::Leaving,
        ]
        .iter()
        .map(written),
    );
    let launch = ToTaskManager::Launch { share, assignment: assignment(RoleSpec::Worker(worker)) };
    let other = ToTaskManager::Launch { share, assignment: assignment(RoleSpec::Master(master)) };
    let rest = [ToTaskManager::Share(JOB, share), ToTaskManager::Release(JOB)];
    all.extend([launch, other].iter().chain(&rest).map(written));
    let mut status = JobStatus::new(JOB, "job", 5);
    status.subtasks.insert(SUBTASK, SubtaskReport::default());
    all.extend(
        [
            FromMaster::Ready { address: "host:1".into(), rescaled: 2 },
            FromMaster::Status(Box::new(status)),
            FromMaster::Observed(Box::default()),
            FromMaster::Request { attempt: Attempt(1), slots: vec![wanted()], keeps: true },
            FromMaster::Release,
        ]
        .iter()
        .map(written),
    );
    let none = NoSlots { reason: "why".into(), is_final: false };
    all.extend(
        [
            ToMaster::Slots(Attempt(1), Ok(vec![(WorkerId(9), vec![0, 2])])),
            ToMaster::Slots(Attempt(1), Err(none)),
            ToMaster::WorkerEnded(WorkerId(9), "how".into()),
            ToMaster::TaskManagerLost(WorkerId(9)),
            ToMaster::Savepoint { target: None, stop: false },
            ToMaster::Observe { checkpoint: Some(3) },
            ToMaster::Checkpoint,
            ToMaster::Rescale { rescaled: Rescaled::default(), graph: graph() },
            ToMaster::Settle,
            ToMaster::Goodbye,
        ]
        .iter()
        .map(written),
    );
    all.extend(
        [
            FromWorker::Ready { worker: WorkerId(9), address: "host:1".into(), graph: graph() },
            FromWorker::Deployed(Attempt(1), Ok(vec![SUBTASK])),
            FromWorker::Deployed(Attempt(1), Err(failure())),
            FromWorker::Subtask(Attempt(1), SUBTASK, acknowledged),
            FromWorker::Subtask(Attempt(1), SUBTASK, SubtaskEvent::Report(Box::default())),
            FromWorker::Failed(Attempt(1), failure()),
            FromWorker::Stopped(Attempt(1)),
        ]
        .iter()
        .map(written),
    );
    let splits = Splits::Splits(vec![vec![1, 2, 3]]);
    let deploy = ToWorker::Deploy {
        attempt: Attempt(1),
        subtasks: vec![SUBTASK],
        settings: settings(),
        restored_from: Some("chk-1".into()),
        rescaled: Some(Rescaled::default()),
    };
    all.extend(
        [
            deploy,
            ToWorker::Start(Attempt(1), placement()),
            ToWorker::Stop(Attempt(1)),
            ToWorker::Subtask(Attempt(1), SUBTASK, ToSubtask::Assigned(splits)),
            ToWorker::Subtask(Attempt(1), SUBTASK, ToSubtask::Trigger(barrier)),
            ToWorker::Subtask(Attempt(1), SUBTASK, ToSubtask::Completed(3)),
        ]
        .iter()
        .map(written),
    );
    all
}

#[test]
fn every_message_reads_back_and_is_no_message_when_it_was_cut() {
    for message in messages() {
        for length in 0..message.len() {
            decode_all(&message[..length]);
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in any::<Vec<u8>>()) {
        decode_all(&bytes);
    }

    #[test]
    fn a_message_that_was_changed_on_its_way_is_a_message_or_an_error(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        inserted in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let all = messages();
        let mut message = all[which.index(all.len())].clone();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        for (at, byte) in inserted {
            message.insert(at.index(message.len() + 1), byte);
        }
        decode_all(&message);
    }
}
