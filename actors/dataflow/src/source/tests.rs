//! Watermarks of a source's splits, through the chain that a subtask runs.

use super::*;
use crate::batch::downcast;
use crate::chain::{Chain, EdgeOutput};
use crate::element::Barrier;
use crate::graph::{Logic, Route, Target};
use crate::harness::{open_chain, place};
use crate::snapshot::OperatorSnapshot;
use crate::state::Extent;
use std::sync::Mutex;

/// What a split gives: event times, which are their own records. `None` is the end.
type Input = Mutex<VecDeque<Option<Vec<i64>>>>;

/// Splits that give what the test puts into them.
#[derive(Clone, Default)]
struct Scripted {
    splits: Arc<[Input; 2]>,
}

struct Script {
    source: Scripted,
    split: usize,
}

impl Source for Scripted {
    type Out = i64;
    type Split = usize;

    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<usize>>> {
        Ok(Box::new(FixedSplits::new([0, 1], restored)?))
    }

    fn open(&self, split: usize, _: &Place) -> OpResult<Box<dyn SplitReader<Out = i64, Split = usize>>> {
        Ok(Box::new(Script { source: self.clone(), split }))
    }

    fn is_bounded(&self) -> bool {
        true
    }
}

impl SplitReader for Script {
    type Out = i64;
    type Split = usize;

    fn poll(&mut self, _: usize, _: Timestamp) -> OpResult<Polled<i64>> {
        Ok(match self.source.splits[self.split].lock().unwrap().pop_front() {
            Some(Some(times)) => Polled::Rows(Rows::untimed(times)),
            Some(None) => Polled::End,
            None => Polled::Pending,
        })
    }

    fn position(&self) -> usize {
        self.split
    }
}

#[derive(Default)]
struct Seen(Vec<String>);

impl EdgeOutput for Seen {
    fn send(&mut self, _: usize, element: Element) -> OpResult {
        self.0.push(match element {
            Element::Batch(batch) => format!("{:?}", downcast::<Rows<i64>>(batch)?.times),
            Element::Watermark(MAX_TIMESTAMP) => "the end of time".into(),
            Element::Watermark(time) => format!("watermark {time}"),
            other => format!("{other:?}"),
        });
        Ok(())
    }
}

/// A source's subtask. Splits without records for a tenth of a second are idle.
struct Subtask {
    source: Scripted,
    chain: Chain,
    now: Timestamp,
    status: SourceStatus,
}

impl Subtask {
    fn new(restored: Option<OperatorSnapshot>) -> Self {
        let source = Scripted::default();
        let watermarks = WatermarkStrategy::monotonous()
            .with_timestamps(|time: &i64| *time)
            .with_idleness(Duration::from_millis(100));
        let logic = Logic::Source(erase_source(source.clone(), watermarks));
        let routes = vec![Route { output: None, target: Target::Edge(0) }];
        let chain = open_chain(logic, routes, &place(), restored, |states| states).unwrap();
        Subtask { source, chain, now: 0, status: SourceStatus::More }
    }

    /// A subtask that reads both splits.
    fn with_splits() -> Self {
        let mut subtask = Self::new(None);
        subtask.add_splits(&[0, 1]);
        subtask
    }

    fn add_splits(&mut self, splits: &[usize]) {
        let splits = splits.iter().map(|split| rmp_serde::to_vec_named(split).unwrap()).collect();
        self.chain.add_splits(splits, self.now).unwrap();
    }

    /// What is put out until there is nothing to do, if a split has these times at that point.
    fn read(&mut self, now: Timestamp, split: usize, times: &[i64]) -> Vec<String> {
        self.source.splits[split].lock().unwrap().push_back(Some(times.to_vec()));
        self.wait(now)
    }

    /// What is put out until there is nothing to do.
    fn wait(&mut self, now: Timestamp) -> Vec<String> {
        self.now = now;
        let mut seen = Seen::default();
        loop {
            self.status = self.chain.poll_source(now, &mut seen).unwrap();
            if self.status != SourceStatus::More {
                return seen.0;
            }
        }
    }

    fn snapshot(&mut self) -> OperatorSnapshot {
        let barrier = Barrier { checkpoint: 1, savepoint: None, stop: false, overtakes: false };
        self.chain.announce(1, Extent::Base);
        self.chain.source_barrier(barrier, self.now, &mut Seen::default()).unwrap();
        self.chain.take_snapshot().unwrap().1.remove(0)
    }
}

#[test]
fn the_watermark_is_the_smallest_of_the_splits() {
    let mut subtask = Subtask::with_splits();
    assert_eq!(subtask.read(0, 0, &[10]), ["[10]"], "the other may begin earlier");
    assert_eq!(subtask.read(0, 1, &[5]), ["[5]", "watermark 4"]);
    assert_eq!(subtask.read(0, 1, &[30, 20]), ["[30, 20]", "watermark 9"]);
    assert_eq!(subtask.read(0, 0, &[25]), ["[25]", "watermark 24"]);
    // One that has ended does not hold the other back.
    subtask.source.splits[0].lock().unwrap().push_back(None);
    assert_eq!(subtask.wait(0), ["watermark 29"]);
    subtask.chain.no_more_splits(0).unwrap();
    subtask.source.splits[1].lock().unwrap().push_back(None);
    assert_eq!(subtask.wait(0), ["the end of time", "End"]);
    assert_eq!(subtask.status, SourceStatus::Ended);
}

#[test]
fn an_idle_split_is_left_out_until_it_has_records_again() {
    let mut subtask = Subtask::with_splits();
    subtask.read(0, 0, &[10]);
    subtask.read(0, 1, &[5]);
    assert_eq!(subtask.read(50, 0, &[30]), ["[30]"]);
    assert_eq!(subtask.status, SourceStatus::Waiting(Some(100)), "when the other becomes idle");
    assert_eq!(subtask.wait(99), [""; 0]);
    assert_eq!(subtask.wait(100), ["watermark 29"]);
    // It comes back with old records: the watermark stays until it has caught up.
    assert_eq!(subtask.read(110, 1, &[7]), ["[7]"]);
    assert_eq!(subtask.read(120, 0, &[50]), ["[50]"]);
    assert_eq!(subtask.read(130, 1, &[60]), ["[60]", "watermark 49"]);
    assert_eq!(subtask.status, SourceStatus::Waiting(Some(220)));
    // With both idle the subtask is, and holds none behind it back.
    assert_eq!(subtask.wait(220), ["watermark 59"]);
    assert_eq!(subtask.wait(230), ["Idle"]);
    assert_eq!(subtask.status, SourceStatus::Waiting(None));
    assert_eq!(subtask.read(500, 0, &[70]), ["Active", "[70]", "watermark 69"]);
}

#[test]
fn a_restored_subtask_knows_how_far_each_split_had_come() {
    let mut subtask = Subtask::with_splits();
    subtask.read(0, 0, &[30]);
    subtask.read(0, 1, &[5]);
    let snapshot = subtask.snapshot();
    let mut subtask = Subtask::new(Some(snapshot));
    assert_eq!(subtask.wait(0), ["watermark 4"]);
    // The first split's 29 is known though it has had no record since.
    assert_eq!(subtask.read(0, 1, &[60]), ["[60]", "watermark 29"]);
    // A record from before that watermark does not take it back.
    assert_eq!(subtask.read(0, 0, &[8]), ["[8]"]);
    assert_eq!(subtask.read(0, 0, &[40]), ["[40]", "watermark 39"]);
}

#[test]
fn a_subtask_that_is_to_ask_again_later_is_idle_until_it_has_a_split() {
    let mut subtask = Subtask::new(None);
    assert_eq!(subtask.wait(0), [""; 0], "splits are on their way");
    subtask.chain.no_splits_now(0).unwrap();
    assert_eq!(subtask.wait(0), ["Idle"]);
    assert_eq!(subtask.wait(10), [""; 0], "it says so once");
    subtask.add_splits(&[1]);
    assert_eq!(subtask.wait(10), ["Active"], "a split may begin with any time");
    assert_eq!(subtask.read(20, 1, &[5]), ["[5]", "watermark 4"]);
    // Between splits nothing is known of the next, but when there is none for now.
    subtask.source.splits[1].lock().unwrap().push_back(None);
    assert_eq!(subtask.wait(30), [""; 0]);
    assert!(subtask.chain.wants_splits());
    subtask.chain.no_splits_now(30).unwrap();
    assert_eq!(subtask.wait(30), ["Idle"]);
}
