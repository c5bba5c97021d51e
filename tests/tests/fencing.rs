//! What comes late, of an attempt that is over, changes nothing: each actor is given fake ends that send it so, and what
//! it does is compared with what it does without.

use bytes::Bytes;
use hurtig::dataflow::element::Barrier;
use hurtig::dataflow::graph::{GraphDefaults, JobGraph};
use hurtig::dataflow::ids::{Attempt, CheckpointId, JobId, SubtaskId};
use hurtig::prelude::*;
use hurtig::{JobState, JobStatus, ractor};
use hurtig_runtime::clock::Clock;
use hurtig_runtime::execution::ExecutionGraph;
use hurtig_runtime::failure::Failure;
use hurtig_runtime::master::committer::CommitterMessage;
use hurtig_runtime::master::coordinator::{self, Coordinator, CoordinatorMessage};
use hurtig_runtime::master::enumerator::EnumeratorMessage;
use hurtig_runtime::master::progress::Purpose;
use hurtig_runtime::master::{self, CheckpointEvent, JobMaster, JobMasterMessage, SubtaskEvent};
use hurtig_runtime::observe::Observer;
use hurtig_runtime::report::CheckpointReport;
use hurtig_runtime::resource::{NoSlots, ResourceManagerMessage, SlotGrant};
use hurtig_runtime::stub;
use hurtig_runtime::subtask::neighbours::SubtaskRef;
use hurtig_runtime::subtask::{Deployment, RestoredSubtask, SubtaskMessage, SubtaskSettings};
use hurtig_runtime::worker::links::{Placement, WorkerId};
use hurtig_runtime::worker::{self, Worker, WorkerMessage};
use hurtig_state::{CheckpointMetadata, CheckpointStore, Layer, SnapshotHandle, SubtaskMetadata};
use hurtig_tests::events::events;
use hurtig_tests::jobs;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef};
use serde_bytes::ByteBuf;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

const JOB: JobId = JobId(7);
const OLD: Attempt = Attempt(4);
const NOW: Attempt = Attempt(5);
const WORKER: WorkerId = WorkerId(1);

/// How long anything may take that is not to take long.
const SOON: Duration = Duration::from_secs(30);

/// Parent of the fakes.
struct Root;

impl Actor for Root {
    type Msg = ();
    type State = ();
    type Arguments = ();
    async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn root() -> ActorCell {
    Actor::spawn(None, Root, ()).await.expect("an actor").0.get_cell()
}

/// A fake, and what it is told.
struct Fake<M> {
    actor: ActorRef<M>,
    told: mpsc::UnboundedReceiver<M>,
}

impl<M: ractor::Message> Fake<M> {
    async fn new() -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let actor = stub::spawn(root().await, move |message| drop(tell.send(message))).await;
        Fake { actor: actor.expect("an actor"), told }
    }

    async fn next(&mut self) -> M {
        let told = tokio::time::timeout(SOON, self.told.recv()).await;
        told.expect("it is told in time").expect("it is told")
    }

    /// The next message that is wanted; what comes before is passed over.
    async fn until<T>(&mut self, wanted: impl Fn(M) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.next().await) {
                return found;
            }
        }
    }
}

/// A job of one subtask, which writes to a folder and never ends.
fn graph(out: &std::path::Path) -> Arc<JobGraph> {
    let env = Environment::new();
    events(&env, "events", u64::MAX / 2, 1_000.0)
        .map(|event| event.n)
        .uid("numbers")
        .sink_to(FileSink::csv(out))
        .uid("files");
    let defaults =
        GraphDefaults { parallelism: 1, max_parallelism: None, chaining: true, of_uids: BTreeMap::new() };
    Arc::new(env.graph().job_graph("fenced", &defaults).expect("a graph"))
}

fn store() -> CheckpointStore {
    CheckpointStore::open("memory:fencing").expect("a store")
}

fn settings() -> SubtaskSettings {
    SubtaskSettings {
        batch_size: 100,
        flush_timeout_ms: 10,
        credits: 4,
        exactly_once: true,
        alignment_timeout_ms: None,
        checkpointing: true,
        strict: true,
        state_memory: None,
        spill_dir: None,
    }
}

fn barrier(checkpoint: CheckpointId) -> Barrier {
    Barrier { checkpoint, savepoint: None, stop: false, overtakes: false }
}

/// An acknowledgement that asks for something to be published.
fn acknowledged(checkpoint: CheckpointId, committable: &str) -> SubtaskEvent {
    let committable = ByteBuf::from(committable);
    SubtaskEvent::Acknowledged {
        checkpoint,
        metadata: SubtaskMetadata {
            snapshot: SnapshotHandle { layers: vec![Layer::Inline(ByteBuf::from("state"))] },
            committables: vec![("files".into(), vec![committable])],
            written_bytes: 0,
            since: 0,
        },
        alignment_ms: 0,
        synchronous_us: 0,
        in_flight_bytes: 0,
    }
}

fn all_subtasks(graph: &JobGraph) -> Vec<SubtaskId> {
    ExecutionGraph::new(graph).wiring.into_keys().collect()
}

#[test]
fn a_worker_does_nothing_for_an_attempt_that_is_over() {
    jobs::run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let graph = graph(&folder.path().join("out"));
        let mut master = Fake::<JobMasterMessage>::new().await;
        let arguments = worker::Arguments { id: WORKER, network: None };
        let (worker, _) = Actor::spawn(None, Worker, arguments).await.expect("a worker");
        let tell = |message| worker.cast(message).expect("it runs");
        let execution = ExecutionGraph::new(&graph);
        let deploy = |attempt| {
            let deployment = |(id, wiring): (&SubtaskId, &_)| Deployment {
                id: *id,
                job: JOB,
                graph: Arc::clone(&graph),
                attempt,
                wiring: Clone::clone(wiring),
                restored: RestoredSubtask::default(),
                settings: settings(),
                memory: None,
                handover: None,
                store: store(),
                master: master.actor.clone(),
                clock: Clock::new(),
                faults: None,
            };
            let deployments = execution.wiring.iter().map(deployment).collect();
            let master = master.actor.clone();
            WorkerMessage::Deploy { attempt, deployments, restored_from: None, rescaled: None, master }
        };
        let deploy_old = deploy(OLD);
        let deploy_old_again = deploy(OLD);
        tell(deploy(NOW));
        let subtasks = match master.next().await {
            JobMasterMessage::Deployed { attempt: NOW, result: Ok(subtasks) } => subtasks,
            _ => panic!("not deployed"),
        };
        let direct = subtasks.iter().filter_map(|(id, subtask)| match subtask {
            SubtaskRef::Here(actor) => Some((*id, actor.clone())),
            SubtaskRef::At { .. } => None,
        });
        let direct: Arc<BTreeMap<_, _>> = Arc::new(direct.collect());
        let source = *direct.keys().next().expect("a subtask");
        let start = |attempt| WorkerMessage::Start {
            attempt,
            direct: Arc::clone(&direct),
            placement: Arc::new(Placement::default()),
        };
        let trigger = |attempt, checkpoint| WorkerMessage::ToSubtask {
            attempt,
            id: source,
            message: SubtaskMessage::Trigger(barrier(checkpoint)),
        };
        let (mut here, there) = tokio::io::duplex(64);

        tell(deploy_old);
        tell(start(OLD));
        // What is too old to stop anything is answered all the same, and shows that all before was seen.
        tell(WorkerMessage::Stop { attempt: OLD, master: master.actor.clone() });
        match master.next().await {
            JobMasterMessage::Stopped { attempt: OLD, .. } => {}
            _ => panic!("something was done for an old attempt"),
        }
        tell(start(NOW));
        let running = |message| match message {
            JobMasterMessage::Subtask { attempt: NOW, event: SubtaskEvent::Running { .. }, .. } => Some(()),
            JobMasterMessage::Subtask {
                event: SubtaskEvent::WantsSplits | SubtaskEvent::Report(_), ..
            } => None,
            _ => panic!("not running"),
        };
        for _ in 0..subtasks.len() {
            master.until(running).await;
        }
        tell(deploy_old_again);
        tell(start(OLD));
        tell(trigger(OLD, 1));
        tell(WorkerMessage::Connected { attempt: OLD, peer: WorkerId(2), result: Ok(Box::new(there)) });
        tell(WorkerMessage::LinkLost { attempt: OLD, peer: WorkerId(2), reason: "old".into() });
        tell(WorkerMessage::Stop { attempt: OLD, master: master.actor.clone() });
        tell(trigger(NOW, 2));
        let checkpoint = |message| match message {
            JobMasterMessage::Subtask { event: SubtaskEvent::Acknowledged { checkpoint, .. }, .. } => {
                Some(checkpoint)
            }
            JobMasterMessage::Subtask { event: SubtaskEvent::Running { .. }, .. } => panic!("begun twice"),
            JobMasterMessage::Deployed { .. } | JobMasterMessage::SubtaskFailed { .. } => {
                panic!("something was done for an old attempt")
            }
            _ => None,
        };
        assert_eq!(master.until(checkpoint).await, 2);
        let read = tokio::io::AsyncReadExt::read(&mut here, &mut [0]).await;
        assert_eq!(read.expect("an end"), 0, "an old connection is kept");
        worker.stop_and_wait(None, None).await.expect("an end");
    });
}

#[test]
fn a_job_master_is_not_moved_by_an_attempt_that_is_over() {
    jobs::run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let graph = graph(&folder.path().join("out"));
        let mut slots = Fake::<ResourceManagerMessage>::new().await;
        let mut worker = Fake::<WorkerMessage>::new().await;
        let stranger = Fake::<WorkerMessage>::new().await;
        let mut config = jobs::config(1, Some(Duration::from_secs(3_600)));
        config.restart.fixed_delay.delay = Duration::from_secs(3_600);
        let (status, mut seen) = watch::channel(JobStatus::new(JOB, "fenced", 0));
        let arguments = master::Arguments {
            job: JOB,
            graph: Arc::clone(&graph),
            config,
            store: store(),
            clock: Clock::new(),
            resource_manager: slots.actor.clone(),
            status,
            observer: Observer::default(),
            faults: None,
            first_attempt: NOW,
            completed: Vec::new(),
            first_checkpoint: 1,
            mastership: None,
        };
        let (master, _) = Actor::spawn(None, JobMaster, arguments).await.expect("a master");
        let tell = |message| master.cast(message).expect("it runs");
        let granted = |actor: &ActorRef<WorkerMessage>| {
            let slots = (0..graph.slots()).collect();
            Ok(vec![SlotGrant { worker: WORKER, actor: Some(actor.clone()), address: None, slots }])
        };
        let failure = || Failure::of("old", "it is of an old attempt").fatal();
        let all = all_subtasks(&graph);
        let at =
            |id: &SubtaskId| (*id, SubtaskRef::At { worker: worker.actor.clone(), attempt: NOW, id: *id });
        let deployed: Vec<_> = all.iter().map(at).collect();
        let running = |attempt| {
            let event = |id: &SubtaskId| JobMasterMessage::Subtask {
                attempt,
                id: *id,
                event: SubtaskEvent::Running { took_over: false },
            };
            all.iter().map(event).collect::<Vec<_>>()
        };

        let asked = slots.until(|message| match message {
            ResourceManagerMessage::Request { attempt, .. } => Some(attempt),
            _ => None,
        });
        assert_eq!(asked.await, NOW);
        let refused = NoSlots { reason: "old".into(), is_final: true };
        tell(JobMasterMessage::Slots { attempt: OLD, result: Err(refused) });
        tell(JobMasterMessage::Slots { attempt: OLD, result: granted(&stranger.actor) });
        tell(JobMasterMessage::Slots { attempt: NOW, result: granted(&worker.actor) });
        match worker.next().await {
            WorkerMessage::Deploy { attempt: NOW, .. } => {}
            _ => panic!("not deployed"),
        }
        tell(JobMasterMessage::Deployed { attempt: OLD, result: Err(failure()) });
        tell(JobMasterMessage::Deployed { attempt: OLD, result: Ok(Vec::new()) });
        tell(JobMasterMessage::Stopped { attempt: OLD, worker: Some(WORKER) });
        settled(&master).await;
        assert!(worker.told.try_recv().is_err(), "an old attempt's subtasks were taken for the new one's");
        tell(JobMasterMessage::Deployed { attempt: NOW, result: Ok(deployed) });
        match worker.next().await {
            WorkerMessage::Start { attempt: NOW, .. } => {}
            _ => panic!("not started"),
        }
        running(OLD).into_iter().for_each(tell);
        settled(&master).await;
        assert_eq!(seen.borrow_and_update().state, JobState::Created);
        running(NOW).into_iter().for_each(tell);
        tell(JobMasterMessage::SubtaskFailed { attempt: OLD, failure: failure() });
        for id in &all {
            let event = acknowledged(1, "old");
            tell(JobMasterMessage::Subtask { attempt: OLD, id: *id, event });
            tell(JobMasterMessage::Subtask { attempt: OLD, id: *id, event: SubtaskEvent::Ended });
        }
        let event = CheckpointEvent::AllPublished;
        tell(JobMasterMessage::Checkpoint { attempt: OLD, event });
        settled(&master).await;
        let found = seen.borrow_and_update().clone();
        assert_eq!((found.state, found.attempt, found.failure), (JobState::Running, NOW, None));
        assert_eq!((found.checkpoints_completed, found.checkpoints_failed, found.restarts), (0, 0, 0));
        // The same of the present attempt has all its effect.
        tell(JobMasterMessage::SubtaskFailed { attempt: NOW, failure: failure() });
        let stop = worker.until(|message| match message {
            WorkerMessage::Stop { attempt, .. } => Some(attempt),
            _ => None,
        });
        assert_eq!(stop.await, NOW);
        master.stop_and_wait(None, None).await.expect("an end");
        assert!(stranger_is_idle(stranger));
    });
}

fn stranger_is_idle(mut stranger: Fake<WorkerMessage>) -> bool {
    stranger.told.try_recv().is_err()
}

/// Waits until a JobMaster and its coordinator have seen all that they were told.
async fn settled(master: &ActorRef<JobMasterMessage>) {
    let (reply, settled) = oneshot::channel();
    master.cast(JobMasterMessage::Settle { reply }).expect("it runs");
    tokio::time::timeout(SOON, settled).await.expect("it answers").expect("an answer");
}

/// A coordinator between fakes, with a checkpoint under way that lacks its only acknowledgement.
struct Coordinated {
    coordinator: ActorRef<CoordinatorMessage>,
    master: Fake<JobMasterMessage>,
    committer: Fake<CommitterMessage>,
    subtask: SubtaskId,
    checkpoint: CheckpointId,
    source: Fake<EnumeratorMessage>,
}

impl Coordinated {
    async fn new(store: CheckpointStore, mastership: Option<hurtig_state::Mastership>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let graph = graph(&folder.path().join("out"));
        let master = Fake::<JobMasterMessage>::new().await;
        let committer = Fake::<CommitterMessage>::new().await;
        let source = Fake::<EnumeratorMessage>::new().await;
        let subtask = all_subtasks(&graph)[0];
        let arguments = coordinator::Arguments {
            job: JOB,
            graph,
            config: jobs::config(1, Some(Duration::from_millis(50))),
            store,
            clock: Clock::new(),
            master: master.actor.clone(),
            committers: HashMap::from([("files".to_string(), committer.actor.clone())]),
            mastership,
            completed: Vec::new(),
            first_checkpoint: 1,
            observer: Observer::default(),
        };
        let (coordinator, _) = Actor::spawn(None, Coordinator, arguments).await.expect("a coordinator");
        let mut all = Coordinated { coordinator, master, committer, subtask, checkpoint: 0, source };
        all.begin(NOW).await;
        all
    }

    fn tell(&self, message: CoordinatorMessage) {
        self.coordinator.cast(message).expect("it runs");
    }

    /// Begins an attempt and waits for its checkpoint.
    async fn begin(&mut self, attempt: Attempt) {
        let worker = Fake::<WorkerMessage>::new().await.actor;
        let subtask = SubtaskRef::At { worker, attempt, id: self.subtask };
        let subtasks = BTreeMap::from([(self.subtask, subtask)]);
        let enumerators = vec![("events".to_string(), self.subtask.vertex, self.source.actor.clone())];
        self.tell(CoordinatorMessage::Begin { attempt, subtasks, enumerators });
        self.tell(CoordinatorMessage::Running { attempt });
        self.checkpoint = self.triggered().await;
    }

    async fn triggered(&mut self) -> CheckpointId {
        let trigger = self.source.until(|message| match message {
            EnumeratorMessage::Trigger(barrier) => Some(barrier.checkpoint),
            EnumeratorMessage::Next { .. } => None,
        });
        trigger.await
    }

    fn give_source(&self, attempt: Attempt, bytes: &[u8]) {
        let (checkpoint, uid) = (self.checkpoint, "events".to_string());
        let bytes = bytes.to_vec();
        self.tell(CoordinatorMessage::SourceSnapshot { attempt, checkpoint, uid, bytes });
    }

    fn acknowledge(&self, attempt: Attempt, committable: &str) {
        let event = acknowledged(self.checkpoint, committable);
        self.tell(CoordinatorMessage::Subtask { attempt, id: self.subtask, event });
    }

    async fn completed(&mut self) -> (Arc<CheckpointMetadata>, CheckpointReport) {
        let completed = self.master.until(|message| match message {
            JobMasterMessage::Checkpoint {
                event: CheckpointEvent::Completed { metadata, report, .. },
                ..
            } => Some((metadata, report)),
            JobMasterMessage::Checkpoint { event: CheckpointEvent::Failed { reason, .. }, .. } => {
                panic!("{reason}")
            }
            _ => None,
        });
        completed.await
    }

    /// What the committer is to publish first.
    async fn committed(&mut self) -> Vec<Bytes> {
        let CommitterMessage::Commit { committables, reply } = self.committer.next().await;
        // Nobody waits for the answer in the end.
        let _ = reply.send(Ok(()));
        committables.into_iter().map(Bytes::from).collect()
    }
}

#[test]
fn a_coordinator_takes_no_acknowledgement_of_an_attempt_that_is_over() {
    jobs::run(async {
        let mut all = Coordinated::new(store(), None).await;
        all.give_source(OLD, b"old");
        all.acknowledge(OLD, "old");
        all.give_source(NOW, b"new");
        all.acknowledge(NOW, "new");
        let (metadata, _) = all.completed().await;
        assert_eq!((metadata.attempt, &metadata.sources[0].bytes[..]), (NOW, &b"new"[..]));
        assert_eq!(all.committed().await, ["new"]);
    });
}

#[test]
fn a_checkpoint_that_an_older_attempt_has_stored_is_not_committed_while_a_newer_runs() {
    jobs::run(async {
        let mut all = Coordinated::new(store(), None).await;
        all.give_source(NOW, b"");
        all.acknowledge(NOW, "first");
        let (metadata, report) = all.completed().await;
        assert_eq!(all.committed().await, ["first"]);

        let next = Attempt(NOW.0 + 1);
        all.tell(CoordinatorMessage::Suspend { attempt: NOW });
        all.begin(next).await;
        // Storing it took longer than the attempt has lived.
        let mut late = (*metadata).clone();
        late.vertices[0].subtasks[0].committables[0].1[0] = ByteBuf::from("late");
        all.tell(CoordinatorMessage::Published {
            attempt: NOW,
            result: Ok(Box::new((late, report))),
            checkpoint: metadata.checkpoint,
            purpose: Purpose::Periodic,
        });
        let location = metadata.location.clone();
        let result = Err(Failure::of("commit", "it is of an old attempt"));
        all.tell(CoordinatorMessage::Committed { attempt: NOW, location, purpose: Purpose::Final, result });
        all.give_source(next, b"");
        all.acknowledge(next, "second");
        let (metadata, _) = all.completed().await;
        assert_eq!(metadata.attempt, next);
        assert_eq!(all.committed().await, ["second"]);
        let failed = std::iter::from_fn(|| all.master.told.try_recv().ok()).any(|message| {
            matches!(message, JobMasterMessage::Checkpoint { event: CheckpointEvent::CommitFailed(_), .. })
        });
        assert!(!failed, "an old commit has failed the attempt");
    });
}

#[test]
fn a_master_that_was_deposed_publishes_nothing_that_it_has_prepared() {
    jobs::run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let store = CheckpointStore::open(&folder.path().display().to_string()).expect("a store");
        let mastership = store.claim(JOB, 1, "the first").await.expect("a claim");
        let mut all = Coordinated::new(store.clone(), Some(mastership)).await;
        all.give_source(NOW, b"");
        store.claim(JOB, 2, "the second").await.expect("a claim");
        all.acknowledge(NOW, "prepared");
        all.master
            .until(|message| match message {
                JobMasterMessage::Checkpoint { event: CheckpointEvent::Deposed, .. } => Some(()),
                JobMasterMessage::Checkpoint { event: CheckpointEvent::Completed { .. }, .. } => {
                    panic!("it takes the checkpoint for complete")
                }
                JobMasterMessage::Checkpoint { event: CheckpointEvent::Failed { reason, .. }, .. } => {
                    panic!("{reason}")
                }
                _ => None,
            })
            .await;
        all.coordinator.stop_and_wait(None, None).await.expect("an end");
        assert!(all.committer.told.try_recv().is_err(), "it is published");
    });
}
