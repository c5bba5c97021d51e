//! When gathered records leave a subtask. The subtask is driven by hand, on the paused clock.

use super::*;
use crate::execution::ExecutionGraph;
use hurtig_dataflow::graph::{Chaining, GraphDefaults, Logic, StreamEdge, StreamGraph, StreamNode};
use hurtig_dataflow::operator::{Context, Operator, Place, Progress, erase};
use hurtig_dataflow::partition::Partitioning;
use hurtig_dataflow::source::{FixedSplits, Polled, Source, SplitEnumerator, SplitReader, erase_source};
use hurtig_dataflow::watermark::WatermarkStrategy;
use hurtig_dataflow::wire::RowsCodec;
use hurtig_dataflow::{OpResult, Rows};
use std::marker::PhantomData;
use std::pin::pin;
use std::task::Waker;
use std::time::Duration;

/// Hears everything and does nothing.
struct Silent<M>(PhantomData<fn(M)>);

impl<M: ractor::Message> Actor for Silent<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }
}

async fn silent<M: ractor::Message>() -> ActorRef<M> {
    Actor::spawn(None, Silent(PhantomData), ()).await.unwrap().0
}

/// So many numbers, one whenever it is asked; then nothing for good.
struct Numbers(u64);

impl Source for Numbers {
    type Out = u64;
    type Split = u64;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<u64>>> {
        Ok(Box::new(FixedSplits::new([0], restored)?))
    }

    fn open(&self, next: u64, _: &Place) -> OpResult<Box<dyn SplitReader<Out = u64, Split = u64>>> {
        Ok(Box::new(Counter { next, end: self.0 }))
    }

    fn is_bounded(&self) -> bool {
        false
    }
}

struct Counter {
    next: u64,
    end: u64,
}

impl SplitReader for Counter {
    type Out = u64;
    type Split = u64;

    fn poll(&mut self, _: usize, _: Timestamp) -> OpResult<Polled<u64>> {
        if self.next == self.end {
            return Ok(Polled::Pending);
        }
        self.next += 1;
        Ok(Polled::Rows(Rows::untimed(vec![self.next])))
    }

    fn position(&self) -> u64 {
        self.next
    }
}

/// Passes records on, each after some work.
struct Work(Duration);

impl Operator for Work {
    type In = Rows<u64>;
    type Out = Rows<u64>;

    fn process(&mut self, batch: Rows<u64>, ctx: &mut Context<'_, '_, Rows<u64>>) -> OpResult<Progress> {
        for (record, time) in batch.into_iter_timed() {
            advance(self.0);
            ctx.emit(record, time);
        }
        Ok(Progress::Done)
    }
}

/// Moves the clock on, within code that cannot wait.
fn advance(by: Duration) {
    let mut cx = std::task::Context::from_waker(Waker::noop());
    // The first look moves the clock; what is left lets others run.
    let _ = pin!(tokio::time::advance(by)).poll(&mut cx);
}

fn node(name: &str, logic: Logic, chaining: Chaining, from: Option<usize>) -> StreamNode {
    let edge = |from| StreamEdge {
        from,
        output: None,
        port: 0,
        partitioning: Partitioning::forward::<u64>(),
        explicit: false,
        codec: RowsCodec::<u64>::shared(),
    };
    StreamNode {
        name: name.into(),
        uid: Some(name.into()),
        parallelism: Some(1),
        max_subtasks: None,
        logic,
        chaining,
        slot_group: None,
        inputs: from.map(edge).into_iter().collect(),
    }
}

/// A source that has its split and an operator behind it, whose records go to another subtask.
async fn subtask(count: u64, work: Duration, flush_timeout_ms: i64) -> Running {
    let operator = |work| Logic::Operator(Arc::new(move || erase(Work(work))));
    let source = Logic::Source(erase_source(Numbers(count), WatermarkStrategy::none()));
    let mut graph = StreamGraph::default();
    graph.add(node("numbers", source, Chaining::Always, None));
    graph.add(node("work", operator(work), Chaining::Always, Some(0)));
    graph.add(node("other", operator(Duration::ZERO), Chaining::Never, Some(1)));
    let defaults =
        GraphDefaults { parallelism: 1, max_parallelism: None, chaining: true, of_uids: Default::default() };
    let graph = graph.job_graph("test", &defaults).unwrap();
    let id = SubtaskId { vertex: 0, index: 0 };
    let deployment = Deployment {
        id,
        job: JobId(1),
        attempt: Attempt(1),
        wiring: ExecutionGraph::new(&graph).wiring[&id].clone(),
        graph: Arc::new(graph),
        restored: RestoredSubtask::default(),
        settings: SubtaskSettings {
            batch_size: 1_000,
            flush_timeout_ms,
            credits: 100,
            exactly_once: true,
            alignment_timeout_ms: None,
            checkpointing: false,
            strict: true,
            state_memory: None,
            spill_dir: None,
        },
        memory: None,
        handover: None,
        store: CheckpointStore::open("memory:subtask").unwrap(),
        master: silent().await,
        clock: Clock::new(),
        faults: None,
    };
    let mut subtask = Running::new(silent().await, deployment);
    let receivers = vec![Receiver::Here(silent().await, 0)];
    tell(&mut subtask, SubtaskMessage::Start { senders: Vec::new(), receivers });
    let split = rmp_serde::to_vec_named(&0u64).unwrap();
    tell(&mut subtask, SubtaskMessage::Assigned(Assignment::Splits(vec![split])));
    subtask
}

fn tell(subtask: &mut Running, message: SubtaskMessage) {
    let myself = subtask.myself.clone();
    subtask.on_message(&myself, message).unwrap();
}

/// Records that the subtask has put out, batches in which it has sent them, and whether some wait for their batch.
fn output(subtask: &Running) -> (u64, u64, bool) {
    let outputs = &subtask.outputs;
    (outputs.edge_records().sum(), outputs.batches(), outputs.gathering_since().is_some())
}

#[tokio::test(start_paused = true)]
async fn a_subtask_that_has_nothing_left_to_do_sends_what_it_has_gathered_at_once() {
    let subtask = subtask(3, Duration::ZERO, 3_600_000).await;
    assert_eq!(output(&subtask), (3, 1, false));
}

#[tokio::test(start_paused = true)]
async fn a_subtask_under_load_gathers_until_the_time_is_over() {
    let mut subtask = subtask(u64::MAX, Duration::ZERO, 5).await;
    let (first, ..) = output(&subtask);
    assert_eq!(output(&subtask), (first, 0, true));
    advance(Duration::from_millis(4));
    tell(&mut subtask, SubtaskMessage::Tick);
    assert_eq!(output(&subtask), (2 * first, 0, true));
    advance(Duration::from_millis(1));
    tell(&mut subtask, SubtaskMessage::Tick);
    // The first record of the round takes all that have waited along.
    assert_eq!(output(&subtask), (3 * first, 1, true));
}

#[tokio::test(start_paused = true)]
async fn with_a_time_of_nought_each_record_goes_at_once() {
    let subtask = subtask(u64::MAX, Duration::ZERO, 0).await;
    let (records, batches, waits) = output(&subtask);
    assert!(records > 1);
    assert_eq!((batches, waits), (records, false));
}

#[tokio::test(start_paused = true)]
async fn no_record_waits_for_the_work_on_others() {
    let subtask = subtask(20, Duration::from_millis(1), 5).await;
    let (records, batches, _) = output(&subtask);
    assert!(records > 5, "{records}");
    assert_eq!(batches, records / 5);
}
