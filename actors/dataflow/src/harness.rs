//! Runs one operator without a runtime, for tests: push elements, read the output, restart from a snapshot in the
//! middle, at another parallelism if wanted.

pub(crate) mod cold;

use crate::batch::{Batch, Record, Rows, downcast};
use crate::chain::{Chain, EdgeOutput, OperatorError};
use crate::element::{Barrier, Element};
use crate::error::{OpResult, describe};
use crate::graph::{ChainedOperator, Logic, OperatorFactory, Route, Target};
use crate::ids::{Attempt, JobId};
use crate::key::KeyGroupRange;
use crate::operator::{DynOperator, Operator, OutputTag, Place, TwoInputOperator, erase, erase_two};
use crate::snapshot::{OperatorSnapshot, redistribute};
use crate::state::{Budget, Extent, StateStore};
use crate::time::{MAX_TIMESTAMP, Timestamp};
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

/// Key groups of the harness.
pub const MAX_PARALLELISM: u32 = 128;

/// Runs one operator instance whose main output is rows of `T`.
pub struct Harness<T> {
    factory: OperatorFactory,
    place: Place,
    sides: Vec<Arc<str>>,
    chain: Chain,
    collected: Collected,
    now: Timestamp,
    checkpoint: u64,
    /// The state when the operator was started, as of the given checkpoint: restarts go through it and a second
    /// snapshot that holds what has changed.
    held: (u64, OperatorSnapshot),
    output: PhantomData<fn() -> T>,
}

#[derive(Default)]
struct Collected {
    main: Vec<Element>,
    side: HashMap<usize, Vec<Element>>,
}

impl EdgeOutput for Collected {
    fn send(&mut self, edge: usize, element: Element) -> OpResult {
        match edge {
            0 => self.main.push(element),
            side => self.side.entry(side).or_default().push(element),
        }
        Ok(())
    }
}

/// A place for what needs one and is in no job: the only subtask of its operator.
pub fn place() -> Place {
    Place {
        job: JobId(0),
        job_name: "test".into(),
        operator: "test".into(),
        uid: "test".into(),
        subtask: 0,
        parallelism: 1,
        attempt: Attempt(1),
        checkpointing: true,
        batch_size: 16,
        waker: Arc::new(|| {}),
        spawner: Arc::new(drop),
    }
}

fn chain(
    factory: &OperatorFactory,
    place: &Place,
    sides: &[Arc<str>],
    restored: Option<OperatorSnapshot>,
    spills: bool,
) -> Chain {
    let mut routes = vec![Route { output: None, target: Target::Edge(0) }];
    for (at, name) in sides.iter().enumerate() {
        routes.push(Route { output: Some(Arc::clone(name)), target: Target::Edge(at + 1) });
    }
    let chain = open_chain(Logic::Operator(Arc::clone(factory)), routes, place, restored, |states| {
        let states = states.noting_changes(0);
        if spills { states.spilling(cold::spill(0)) } else { states }
    });
    chain.unwrap_or_else(|error| panic!("operator does not open: {}", describe(&error)))
}

/// A chain of one operator, with state from a snapshot if there is one and as `prepare` makes it.
pub(crate) fn open_chain(
    logic: Logic,
    routes: Vec<Route>,
    place: &Place,
    mut restored: Option<OperatorSnapshot>,
    prepare: impl Fn(StateStore) -> StateStore,
) -> Result<Chain, OperatorError> {
    let (name, uid) = ("test".into(), "test".into());
    let operator = ChainedOperator { node: 0, name, uid, logic, inputs: Vec::new(), routes };
    let is_restored = restored.is_some();
    let mut chain = Chain::new(
        &[operator],
        |_| place.clone(),
        |_| {
            let restored = restored.take();
            let states = restored.as_ref().map(|snapshot| snapshot.states.clone()).unwrap_or_default();
            (prepare(StateStore::new(KeyGroupRange::all(MAX_PARALLELISM), states)), restored)
        },
    );
    chain.open(is_restored, true, 0)?;
    Ok(chain)
}

/// A harness for an operator with one input.
impl<T: Record> Harness<T> {
    /// A harness for the operator that `make` makes.
    pub fn new<O: Operator<Out = Rows<T>>>(make: impl Fn() -> O + Send + Sync + 'static) -> Self {
        Self::of(Arc::new(move || erase(make())))
    }

    /// A harness for an operator with two inputs.
    pub fn two_inputs<O: TwoInputOperator<Out = Rows<T>>>(
        make: impl Fn() -> O + Send + Sync + 'static,
    ) -> Self {
        Self::of(Arc::new(move || erase_two(make())))
    }

    /// A harness for an operator without types.
    pub fn of(factory: Arc<dyn Fn() -> Box<dyn DynOperator> + Send + Sync>) -> Self {
        let place = place();
        let chain = chain(&factory, &place, &[], None, false);
        let mut harness = Harness {
            factory,
            place,
            sides: Vec::new(),
            chain,
            collected: Collected::default(),
            now: 0,
            checkpoint: 0,
            held: Default::default(),
            output: PhantomData,
        };
        harness.start(None);
        harness
    }

    fn start(&mut self, restored: Option<OperatorSnapshot>) {
        // Every other time, memory has no room for rows: that must make no difference.
        let spills = self.checkpoint.is_multiple_of(2);
        self.chain = chain(&self.factory, &self.place, &self.sides, restored, spills);
        self.checkpoint += 1;
        let mut base = [OperatorSnapshot::default()];
        let added = self.chain.add_states(self.checkpoint, Extent::Base, &mut base);
        added.unwrap_or_else(|error| panic!("{}", describe(&error)));
        let [base] = base;
        self.held = (self.checkpoint, OperatorSnapshot::default());
        let base = self.drained(base);
        self.held.1.add(base);
    }

    /// A snapshot with what is still to be written of it.
    fn drained(&mut self, mut snapshot: OperatorSnapshot) -> OperatorSnapshot {
        let mut chunks = Vec::new();
        loop {
            match self.chain.drain(&mut Budget::new(3, usize::MAX), &mut chunks) {
                Ok(false) => {}
                Ok(true) => break,
                Err(error) => panic!("{}", describe(&error)),
            }
        }
        for chunk in chunks {
            snapshot.states[chunk.state].groups.push(chunk.rows);
        }
        snapshot
    }

    /// Collects a side output too. Call before pushing anything.
    pub fn with_side<S: Record>(mut self, tag: &OutputTag<S>) -> Self {
        self.sides.push(Arc::clone(tag.name()));
        self.start(None);
        self
    }

    /// Changes where the operator believes to be: its waker and spawner, whether checkpoints are taken. Call before
    /// pushing anything.
    pub fn with_place(mut self, change: impl FnOnce(&mut Place)) -> Self {
        change(&mut self.place);
        self.start(None);
        self
    }

    /// Wakes the operator, as its waker does.
    pub fn wake(&mut self) {
        self.chain.wake();
        self.run();
    }

    fn run(&mut self) {
        loop {
            match self.chain.step(self.now, &mut self.collected) {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => panic!("{}", describe(&error)),
            }
        }
    }

    /// Pushes records with event times into the first input.
    pub fn push<R: Record>(&mut self, rows: impl IntoIterator<Item = (R, Timestamp)>) {
        self.push_to(0, rows);
    }

    /// Pushes records with event times into an input.
    pub fn push_to<R: Record>(&mut self, port: usize, rows: impl IntoIterator<Item = (R, Timestamp)>) {
        let rows = Rows::timed(rows);
        self.push_batch(port, rows);
    }

    /// Pushes a batch into an input.
    pub fn push_batch<B: Batch>(&mut self, port: usize, batch: B) {
        self.chain.push(port, Element::Batch(Box::new(batch)));
        self.run();
    }

    /// Advances the watermark.
    pub fn watermark(&mut self, time: Timestamp) {
        self.chain.push(0, Element::Watermark(time));
        self.run();
    }

    /// Advances processing time.
    pub fn set_processing_time(&mut self, now: Timestamp) {
        self.now = now;
        self.run();
    }

    /// Ends the input, as a bounded source does.
    pub fn end(&mut self) {
        self.chain.push(0, Element::Watermark(MAX_TIMESTAMP));
        self.chain.push(0, Element::End);
        self.run();
    }

    /// Takes a snapshot of everything.
    pub fn snapshot(&mut self) -> OperatorSnapshot {
        self.take(Extent::Base)
    }

    fn take(&mut self, extent: Extent) -> OperatorSnapshot {
        self.checkpoint += 1;
        let barrier = Barrier { checkpoint: self.checkpoint, savepoint: None, stop: false, overtakes: false };
        self.chain.announce(self.checkpoint, extent);
        self.chain.push(0, Element::Barrier(barrier));
        self.run();
        let (_, mut snapshots) = self.chain.take_snapshot().expect("the barrier has passed the chain");
        self.drained(snapshots.remove(0))
    }

    /// Starts anew from a snapshot. What was put out so far is kept.
    pub fn restore(&mut self, snapshot: OperatorSnapshot) {
        self.start(Some(snapshot));
    }

    /// Takes a snapshot of what has changed since the operator was started, adds it to the one taken then, splits both
    /// over `parallelism` instances, joins them again, and starts anew from them.
    pub fn restart_through(&mut self, parallelism: usize) {
        let (checkpoint, mut snapshot) = std::mem::take(&mut self.held);
        snapshot.add(self.take(Extent::Since(checkpoint)));
        let parts: Vec<_> = (0..parallelism)
            .map(|index| redistribute(std::slice::from_ref(&snapshot), index, parallelism, MAX_PARALLELISM))
            .collect();
        self.restore(redistribute(&parts, 0, 1, MAX_PARALLELISM));
    }

    /// Takes a snapshot and starts anew from it.
    pub fn restart(&mut self) {
        self.restart_through(1);
    }

    fn rows<S: Record>(elements: Vec<Element>) -> Vec<Rows<S>> {
        let batch = |element| match element {
            Element::Batch(batch) => {
                Some(downcast::<Rows<S>>(batch).expect("the output's type is the declared one"))
            }
            _ => None,
        };
        elements.into_iter().filter_map(batch).collect()
    }

    /// Takes the records put out since the last call.
    pub fn output(&mut self) -> Vec<T> {
        let elements = std::mem::take(&mut self.collected.main);
        Self::rows::<T>(elements).into_iter().flat_map(|rows| rows.records).collect()
    }

    /// Takes the records put out since the last call, with their event times.
    pub fn timed_output(&mut self) -> Vec<(T, Option<Timestamp>)> {
        let elements = std::mem::take(&mut self.collected.main);
        Self::rows::<T>(elements).into_iter().flat_map(Rows::into_iter_timed).collect()
    }

    /// Takes everything put out since the last call.
    pub fn elements(&mut self) -> Vec<Element> {
        std::mem::take(&mut self.collected.main)
    }

    /// Late records the operator has dropped since it was last started.
    pub fn late_dropped(&self) -> u64 {
        self.chain.counts().iter().map(|counts| counts.late_dropped).sum()
    }

    /// Takes the records put out to a side output since the last call.
    pub fn side_output<S: Record>(&mut self, tag: &OutputTag<S>) -> Vec<S> {
        let at = self.sides.iter().position(|name| name == tag.name()).expect("the side output is collected");
        let elements = self.collected.side.remove(&(at + 1)).unwrap_or_default();
        Self::rows::<S>(elements).into_iter().flat_map(|rows| rows.records).collect()
    }
}
