//! A chain of operators at work: elements go in at the front, move from operator to operator in order, and come out
//! at the edges. Always the operator furthest down the chain that has work goes first, so little waits in between.

use crate::batch::AnyBatch;
use crate::element::{Barrier, Element};
use crate::error::{BoxError, OpResult};
use crate::graph::{ChainedOperator, Logic, Route, Target};
use crate::ids::CheckpointId;
use crate::operator::{Call, DynOperator, OpenContext, Place, Progress};
use crate::snapshot::{GroupRows, OperatorSnapshot};
use crate::source::{DynSource, SourceStatus, SplitBytes};
use crate::state::{Budget, Extent, SpillCounts, StateStore};
use crate::time::{MIN_TIMESTAMP, Timestamp};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// What the chain hands to the outgoing edges.
pub trait EdgeOutput {
    /// An element for an edge.
    ///
    /// # Errors
    /// A partitioner's function failed.
    fn send(&mut self, edge: usize, element: Element) -> OpResult;
}

/// What an operator was in the middle of.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Pending {
    Nothing,
    Batch,
    Watermark(Timestamp),
    End,
    ProcessingTime,
    Woken,
}

enum Head {
    Source(Box<dyn DynSource>),
    Operator(Box<dyn DynOperator>),
}

struct Link {
    head: Head,
    place: Place,
    states: StateStore,
    routes: Vec<Route>,
    queue: VecDeque<(usize, Element)>,
    pending: Pending,
    blocked: bool,
    woken: bool,
    /// A barrier has passed with which subtasks stop: nothing is done any more.
    stopped: bool,
    watermark: Timestamp,
    ended: bool,
    /// The operator had seen its end before the checkpoint: it is not told again.
    ended_before: bool,
    counts: OperatorCounts,
}

impl Link {
    /// The operator, its place, and a call of it.
    fn parts<'a>(
        &'a mut self,
        now: Timestamp,
        main: &'a mut VecDeque<Element>,
        side: &'a mut Vec<(Arc<str>, AnyBatch)>,
    ) -> (&'a mut Head, &'a Place, Call<'a>) {
        let call = Call {
            states: &mut self.states,
            watermark: self.watermark,
            now,
            batch_size: self.place.batch_size,
            main,
            side,
            late_dropped: &mut self.counts.late_dropped,
        };
        (&mut self.head, &self.place, call)
    }
}

/// Records that have passed one operator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OperatorCounts {
    /// Records read.
    pub records_in: u64,
    /// Records written.
    pub records_out: u64,
    /// Late records dropped. One that goes to a side output is written, not dropped.
    pub late_dropped: u64,
}

/// Rows of a snapshot that is written in slices.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// Place of the operator in the chain.
    pub operator: usize,
    /// Place of the state among the operator's.
    pub state: usize,
    /// The rows.
    pub rows: GroupRows,
}

/// A chain of operators.
pub struct Chain {
    links: Vec<Link>,
    main: VecDeque<Element>,
    side: Vec<(Arc<str>, AnyBatch)>,
    /// What snapshots hold of the checkpoints whose barriers are on their way.
    extents: BTreeMap<CheckpointId, Extent>,
    /// Snapshots of the operators that a checkpoint's barrier has passed, while it has not passed all.
    passing: BTreeMap<CheckpointId, Vec<OperatorSnapshot>>,
    taken: VecDeque<(Barrier, Vec<OperatorSnapshot>)>,
}

/// An error with the name of the operator it comes from.
#[derive(Debug)]
pub struct OperatorError {
    /// The operator's name.
    pub operator: Arc<str>,
    /// What went wrong.
    pub source: BoxError,
}

impl std::fmt::Display for OperatorError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator '{}'", self.operator)
    }
}

impl std::error::Error for OperatorError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl Chain {
    /// A chain of the given operators. `place` makes the place of each operator; `restored` is what each gets back
    /// from a checkpoint, if there is one.
    pub fn new(
        operators: &[ChainedOperator],
        mut place: impl FnMut(&ChainedOperator) -> Place,
        mut store: impl FnMut(&ChainedOperator) -> (StateStore, Option<OperatorSnapshot>),
    ) -> Self {
        let links = operators
            .iter()
            .map(|operator| {
                let (states, restored) = store(operator);
                Link {
                    head: match &operator.logic {
                        Logic::Source(source) => Head::Source(source.reader()),
                        Logic::Operator(make) | Logic::Sink(make, _) => Head::Operator(make()),
                    },
                    place: place(operator),
                    states,
                    routes: operator.routes.clone(),
                    queue: VecDeque::new(),
                    pending: Pending::Nothing,
                    blocked: false,
                    woken: false,
                    stopped: false,
                    watermark: restored.as_ref().map_or(MIN_TIMESTAMP, |snapshot| snapshot.watermark),
                    ended: false,
                    ended_before: restored.as_ref().is_some_and(|snapshot| snapshot.ended),
                    counts: OperatorCounts::default(),
                }
            })
            .collect();
        Chain {
            links,
            main: VecDeque::new(),
            side: Vec::new(),
            extents: BTreeMap::new(),
            passing: BTreeMap::new(),
            taken: VecDeque::new(),
        }
    }

    /// Opens all operators, last first, so that none gets records before it is ready.
    ///
    /// # Errors
    /// An operator cannot open, or the checkpoint holds state that it does not declare and `strict` is set.
    pub fn open(&mut self, restored: bool, strict: bool, now: Timestamp) -> Result<(), OperatorError> {
        for link in self.links.iter_mut().rev() {
            let mut ctx = OpenContext { place: &link.place, states: &mut link.states, restored };
            let opened = match &mut link.head {
                Head::Source(source) => source.open(&mut ctx, now),
                Head::Operator(operator) => operator.open(&mut ctx),
            };
            let kept = link.states.keep_within_memory().map_err(BoxError::from);
            let checked = kept.and(opened).and_then(|()| match strict {
                true => link.states.check_all_claimed().map_err(BoxError::from),
                false => Ok(()),
            });
            checked.map_err(|source| OperatorError { operator: Arc::clone(&link.place.operator), source })?;
        }
        Ok(())
    }

    /// Takes the states of all operators, by their uid, from a chain that does nothing any more.
    pub fn take_states(&mut self) -> impl Iterator<Item = (Arc<str>, StateStore)> + use<> {
        std::mem::take(&mut self.links).into_iter().map(|link| (link.place.uid, link.states))
    }

    /// Whether an operator was restored from state of another version of its type, on which no snapshot can build.
    pub fn has_migrated(&self) -> bool {
        self.links.iter().any(|link| link.states.has_migrated())
    }

    /// Whether the chain starts with a source.
    pub fn has_source(&self) -> bool {
        matches!(self.links.first(), Some(Link { head: Head::Source(_), .. }))
    }

    /// The watermark restored to the first operator.
    pub fn restored_watermark(&self) -> Timestamp {
        self.links.first().map_or(MIN_TIMESTAMP, |link| link.watermark)
    }

    /// Gives the first operator an element of one of its inputs.
    pub fn push(&mut self, port: usize, element: Element) {
        self.links[0].queue.push_back((port, element));
    }

    /// Gives an operator a batch that was on its way to it when a checkpoint was taken, before anything else comes.
    pub fn push_in_flight(&mut self, operator: usize, port: usize, batch: AnyBatch) {
        self.links[operator].queue.push_back((port, Element::Batch(batch)));
    }

    /// Whether nothing is on its way within the chain, so that a barrier that comes next overtakes nothing there.
    pub fn is_at_rest(&self) -> bool {
        let is_at_rest =
            |link: &Link| link.queue.is_empty() && link.pending == Pending::Nothing && !link.blocked;
        self.links.iter().all(is_at_rest)
    }

    /// Whether all operators have seen their end.
    pub fn is_ended(&self) -> bool {
        self.links.iter().all(|link| link.ended)
    }

    /// Numbers of state that is kept partly outside memory, if any may be.
    pub fn spill_counts(&self) -> Option<SpillCounts> {
        let counts = self.links.iter().filter_map(|link| link.states.spill_counts());
        counts.reduce(|mut sum, counts| {
            sum.add(counts);
            sum
        })
    }

    /// Records that have passed each operator.
    pub fn counts(&self) -> Vec<OperatorCounts> {
        self.links.iter().map(|link| link.counts).collect()
    }

    /// The watermark of the last operator.
    pub fn watermark(&self) -> Timestamp {
        self.links.last().map_or(MIN_TIMESTAMP, |link| link.watermark)
    }

    /// Marks all operators as woken: those that wait are called again.
    pub fn wake(&mut self) {
        for link in &mut self.links {
            link.woken = true;
            link.blocked = false;
        }
    }

    /// Whether an operator waits to be woken: what the chain is given meanwhile would only pile up before it.
    pub fn is_blocked(&self) -> bool {
        self.links.iter().any(|link| link.blocked)
    }

    /// Says what the snapshot of a checkpoint holds, before its barrier comes; without it, everything.
    pub fn announce(&mut self, checkpoint: CheckpointId, extent: Extent) {
        self.extents.insert(checkpoint, extent);
    }

    /// The snapshot of all operators, once a barrier has passed the whole chain: all but what [`drain`](Chain::drain)
    /// writes.
    pub fn take_snapshot(&mut self) -> Option<(Barrier, Vec<OperatorSnapshot>)> {
        self.taken.pop_front()
    }

    /// Whether a snapshot is under way. Until it is done, or abandoned and through the chain, no other barrier may come.
    pub fn is_snapshotting(&self) -> bool {
        !self.passing.is_empty() || self.is_draining()
    }

    fn is_draining(&self) -> bool {
        self.links.iter().any(|link| link.states.is_draining())
    }

    /// Writes the next slice of the snapshot that was taken last. Returns whether that was the last slice.
    ///
    /// # Errors
    /// State cannot be serialised.
    pub fn drain(&mut self, budget: &mut Budget, out: &mut Vec<Chunk>) -> Result<bool, OperatorError> {
        let mut rows = Vec::new();
        for at in 0..self.links.len() {
            let drained = self.links[at].states.drain(budget, &mut rows);
            let chunk = |(state, rows)| Chunk { operator: at, state, rows };
            out.extend(rows.drain(..).map(chunk));
            if !drained.map_err(|source| self.error(at, source.into()))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives up the snapshot under way.
    pub fn abandon_snapshot(&mut self) {
        self.links.iter_mut().for_each(|link| link.states.abandon());
    }

    /// Takes a snapshot of all operators at the end of the input, outside any checkpoint. It holds no state, but what
    /// sinks ask to have published.
    ///
    /// # Errors
    /// An operator cannot prepare.
    pub fn final_snapshot(&mut self, now: Timestamp) -> Result<Vec<OperatorSnapshot>, OperatorError> {
        let mut snapshots = Vec::new();
        for at in 0..self.links.len() {
            let snapshot = self.snapshot_link(at, now);
            snapshots.push(snapshot.map_err(|source| self.error(at, source))?);
        }
        Ok(snapshots)
    }

    /// Adds the state of all operators to a final snapshot, as a barrier would that passed the chain now.
    ///
    /// # Errors
    /// State cannot be serialised.
    pub fn add_states(
        &mut self,
        checkpoint: CheckpointId,
        extent: Extent,
        to: &mut [OperatorSnapshot],
    ) -> Result<(), OperatorError> {
        for (at, snapshot) in to.iter_mut().enumerate().take(self.links.len()) {
            let opened = self.links[at].states.open_epoch(checkpoint, extent);
            snapshot.states = opened.map_err(|source| self.error(at, source.into()))?;
        }
        Ok(())
    }

    /// Earliest processing time at which an operator wants to be called.
    pub fn next_processing_time(&self) -> Option<Timestamp> {
        let wanted = |link: &Link| match &link.head {
            Head::Operator(operator) if !link.ended => operator.next_processing_time(&link.states),
            _ => None,
        };
        self.links.iter().filter_map(wanted).min()
    }

    /// Does one piece of work, furthest down the chain first. Returns whether there was any.
    ///
    /// # Errors
    /// An operator or a partitioner failed.
    pub fn step(&mut self, now: Timestamp, out: &mut dyn EdgeOutput) -> Result<bool, OperatorError> {
        for at in (0..self.links.len()).rev() {
            if self.step_link(at, now, out).map_err(|source| self.error(at, source))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn error(&self, at: usize, source: BoxError) -> OperatorError {
        OperatorError { operator: Arc::clone(&self.links[at].place.operator), source }
    }

    fn step_link(&mut self, at: usize, now: Timestamp, out: &mut dyn EdgeOutput) -> OpResult<bool> {
        let link = &mut self.links[at];
        let Head::Operator(operator) = &mut link.head else { return Ok(false) };
        if link.stopped {
            return Ok(false);
        }
        if link.blocked {
            if operator.next_processing_time(&link.states).is_none_or(|time| time > now) {
                return Ok(false);
            }
            // A time-out may be what the operator waits for.
            self.call(at, now, out, |operator, call| operator.on_processing_time(call))?;
            self.links[at].blocked = false;
            return Ok(true);
        }
        if link.woken {
            link.woken = false;
            if link.pending == Pending::Nothing && !link.ended {
                link.pending = Pending::Woken;
            } else {
                self.call(at, now, out, |operator, call| operator.on_wake(call))?;
                return Ok(true);
            }
        }
        if link.pending == Pending::Nothing
            && !link.ended
            && operator.next_processing_time(&link.states).is_some_and(|time| time <= now)
        {
            link.pending = Pending::ProcessingTime;
        }
        if link.pending != Pending::Nothing {
            let pending = link.pending;
            self.go_on(at, pending, now, out)?;
            return Ok(true);
        }
        let Some((port, element)) = link.queue.pop_front() else { return Ok(false) };
        match element {
            Element::Batch(batch) => {
                link.counts.records_in += batch.len() as u64;
                let progress =
                    self.call(at, now, out, |operator, call| operator.process(port, batch, call))?;
                self.settle(at, Pending::Batch, progress, out)?;
            }
            Element::Watermark(time) => {
                if time > link.watermark {
                    link.watermark = time;
                    self.go_on(at, Pending::Watermark(time), now, out)?;
                } else if at == 0 || time == link.watermark {
                    // A restored watermark is known here but not yet further on.
                    self.settle(at, Pending::Watermark(time), Progress::Done, out)?;
                }
            }
            Element::Barrier(barrier) => self.barrier(at, barrier, now, out)?,
            Element::End if link.ended_before => self.settle(at, Pending::End, Progress::Done, out)?,
            Element::End => self.go_on(at, Pending::End, now, out)?,
            status @ (Element::Idle | Element::Active) => self.forward_all(at, status, out)?,
        }
        Ok(true)
    }

    /// Has an operator begin, or go on with, what it is in the middle of.
    fn go_on(&mut self, at: usize, what: Pending, now: Timestamp, out: &mut dyn EdgeOutput) -> OpResult {
        let progress = self.call(at, now, out, |operator, call| match what {
            Pending::Batch => operator.resume(call),
            Pending::Watermark(_) => operator.on_watermark(call),
            Pending::End => operator.on_end(call),
            Pending::ProcessingTime => operator.on_processing_time(call),
            Pending::Woken => operator.on_wake(call),
            Pending::Nothing => Ok(Progress::Done),
        })?;
        self.settle(at, what, progress, out)
    }

    /// Calls an operator and moves on what it puts out.
    fn call(
        &mut self,
        at: usize,
        now: Timestamp,
        out: &mut dyn EdgeOutput,
        body: impl FnOnce(&mut dyn DynOperator, &mut Call<'_>) -> OpResult<Progress>,
    ) -> OpResult<Progress> {
        let (head, _, mut call) = self.links[at].parts(now, &mut self.main, &mut self.side);
        let Head::Operator(operator) = head else { return Ok(Progress::Done) };
        let progress = body(&mut **operator, &mut call);
        // Before anything of what it has put out is sent.
        self.links[at].states.keep_within_memory()?;
        let progress = progress?;
        self.move_on(at, out)?;
        Ok(progress)
    }

    fn settle(&mut self, at: usize, what: Pending, progress: Progress, out: &mut dyn EdgeOutput) -> OpResult {
        let link = &mut self.links[at];
        link.pending = if progress == Progress::Done { Pending::Nothing } else { what };
        link.blocked = progress == Progress::Blocked && !link.woken;
        if progress == Progress::Done {
            match what {
                Pending::Watermark(time) => {
                    let forwards = match &link.head {
                        Head::Operator(operator) => operator.forwards_watermarks() || link.ended_before,
                        Head::Source(_) => true,
                    };
                    if forwards {
                        self.forward_all(at, Element::Watermark(time), out)?;
                    }
                }
                Pending::End => {
                    link.ended = true;
                    self.forward_all(at, Element::End, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Sends the elements gathered in `main` and `side` to the operator's readers.
    fn move_on(&mut self, at: usize, out: &mut dyn EdgeOutput) -> OpResult {
        let mut side = std::mem::take(&mut self.side);
        for (name, batch) in side.drain(..) {
            self.links[at].counts.records_out += batch.len() as u64;
            self.route(at, Some(&name), Element::Batch(batch), out)?;
        }
        self.side = side;
        while let Some(element) = self.main.pop_front() {
            match element {
                Element::Batch(batch) => {
                    self.links[at].counts.records_out += batch.len() as u64;
                    self.route(at, None, Element::Batch(batch), out)?;
                }
                control => self.forward_all(at, control, out)?,
            }
        }
        Ok(())
    }

    /// Sends an element to the readers of one output; the last gets it, the others a copy.
    fn route(
        &mut self,
        at: usize,
        output: Option<&Arc<str>>,
        element: Element,
        out: &mut dyn EdgeOutput,
    ) -> OpResult {
        let routes = std::mem::take(&mut self.links[at].routes);
        let mut targets = routes.iter().filter(|route| route.output.as_ref() == output).peekable();
        let mut element = Some(element);
        let mut result = Ok(());
        while let Some(route) = targets.next() {
            let copy = match targets.peek() {
                Some(_) => element.as_ref().map(Element::duplicate),
                None => element.take(),
            };
            if let Some(copy) = copy {
                result = result.and_then(|()| self.deliver(route.target, copy, out));
            }
        }
        self.links[at].routes = routes;
        result
    }

    /// Sends a control element to the readers of all outputs.
    fn forward_all(&mut self, at: usize, element: Element, out: &mut dyn EdgeOutput) -> OpResult {
        let routes = std::mem::take(&mut self.links[at].routes);
        let mut result = Ok(());
        for route in &routes {
            result = result.and_then(|()| self.deliver(route.target, element.duplicate(), out));
        }
        self.links[at].routes = routes;
        result
    }

    fn deliver(&mut self, target: Target, element: Element, out: &mut dyn EdgeOutput) -> OpResult {
        match target {
            Target::Chained(link, port) => {
                self.links[link].queue.push_back((port, element));
                Ok(())
            }
            Target::Edge(edge) => out.send(edge, element),
        }
    }

    /// A snapshot without state.
    fn snapshot_link(&mut self, at: usize, now: Timestamp) -> OpResult<OperatorSnapshot> {
        let (head, _, mut call) = self.links[at].parts(now, &mut self.main, &mut self.side);
        let committables = match head {
            Head::Source(source) => {
                source.before_snapshot(&mut call)?;
                Vec::new()
            }
            Head::Operator(operator) => operator.before_snapshot(&mut call)?,
        };
        let link = &mut self.links[at];
        Ok(OperatorSnapshot {
            uid: link.place.uid.to_string(),
            watermark: link.watermark,
            ended: link.ended || link.ended_before,
            states: Vec::new(),
            committables: committables.into_iter().map(Into::into).collect(),
        })
    }

    fn barrier(&mut self, at: usize, barrier: Barrier, now: Timestamp, out: &mut dyn EdgeOutput) -> OpResult {
        self.links[at].stopped = barrier.stop;
        let mut snapshot = self.snapshot_link(at, now)?;
        let extent = self.extents.get(&barrier.checkpoint).copied().unwrap_or(Extent::Base);
        snapshot.states = self.links[at].states.open_epoch(barrier.checkpoint, extent)?;
        self.move_on(at, out)?;
        let checkpoint = barrier.checkpoint;
        self.forward_all(at, Element::Barrier(barrier.clone()), out)?;
        let snapshots = self.passing.entry(checkpoint).or_default();
        snapshots.push(snapshot);
        if snapshots.len() == self.links.len() {
            let mut snapshots = self.passing.remove(&checkpoint).unwrap_or_default();
            // Deepest first is not chain order where a chain branches.
            let order: Vec<&str> = self.links.iter().map(|link| &*link.place.uid).collect();
            snapshots.sort_by_key(|snapshot| order.iter().position(|uid| *uid == snapshot.uid));
            self.taken.push_back((barrier, snapshots));
            // Whatever an older barrier left behind is of a checkpoint that was given up.
            self.passing.retain(|passing, _| *passing > checkpoint);
            self.extents.retain(|passing, _| *passing > checkpoint);
        }
        Ok(())
    }
}

/// The source at the head of a chain.
impl Chain {
    fn with_source<R>(
        &mut self,
        now: Timestamp,
        body: impl FnOnce(&mut dyn DynSource, &Place, &mut Call<'_>) -> OpResult<R>,
    ) -> Result<R, OperatorError> {
        let (head, place, mut call) = self.links[0].parts(now, &mut self.main, &mut self.side);
        let result = match head {
            Head::Source(source) => body(&mut **source, place, &mut call),
            Head::Operator(_) => Err("splits were sent to an operator that is no source".into()),
        };
        result.map_err(|source| self.error(0, source))
    }

    /// Whether the source has read everything.
    pub fn is_source_ended(&self) -> bool {
        self.links[0].ended
    }

    /// Whether to ask the enumerator for work.
    pub fn wants_splits(&self) -> bool {
        match &self.links[0].head {
            Head::Source(source) => !self.links[0].ended && source.wants_splits(),
            Head::Operator(_) => false,
        }
    }

    /// Gives the source splits to read.
    ///
    /// # Errors
    /// A split cannot be opened.
    pub fn add_splits(&mut self, splits: Vec<SplitBytes>, now: Timestamp) -> Result<(), OperatorError> {
        self.with_source(now, |source, place, _| source.add_splits(splits, place, now))
    }

    /// Tells the source that there is nothing for it for now.
    ///
    /// # Errors
    /// The chain has no source.
    pub fn no_splits_now(&mut self, now: Timestamp) -> Result<(), OperatorError> {
        self.with_source(now, |source, _, _| {
            source.no_splits_now();
            Ok(())
        })
    }

    /// Tells the source that no splits follow.
    ///
    /// # Errors
    /// The chain has no source.
    pub fn no_more_splits(&mut self, now: Timestamp) -> Result<(), OperatorError> {
        self.with_source(now, |source, _, _| {
            source.no_more_splits();
            Ok(())
        })
    }

    /// Lets the source read one batch.
    ///
    /// # Errors
    /// The input cannot be read.
    pub fn poll_source(
        &mut self,
        now: Timestamp,
        out: &mut dyn EdgeOutput,
    ) -> Result<SourceStatus, OperatorError> {
        if self.links[0].ended {
            return Ok(SourceStatus::Ended);
        }
        let status = self.with_source(now, |source, _, call| source.poll(call))?;
        for element in &self.main {
            if let Element::Watermark(time) = element {
                self.links[0].watermark = self.links[0].watermark.max(*time);
            }
        }
        let moved = self.move_on(0, out).and_then(|()| {
            if status == SourceStatus::Ended {
                self.links[0].ended = true;
                self.forward_all(0, Element::End, out)?;
            }
            Ok(())
        });
        moved.map_err(|source| self.error(0, source))?;
        Ok(status)
    }

    /// Puts a barrier into the source's stream.
    ///
    /// # Errors
    /// State cannot be serialised.
    pub fn source_barrier(
        &mut self,
        barrier: Barrier,
        now: Timestamp,
        out: &mut dyn EdgeOutput,
    ) -> Result<(), OperatorError> {
        let checkpoint = barrier.checkpoint;
        self.barrier(0, barrier, now, out).map_err(|source| self.error(0, source))?;
        if let Head::Source(source) = &mut self.links[0].head {
            source.on_barrier(checkpoint);
        }
        Ok(())
    }

    /// Tells the source, if there is one, that a checkpoint is complete.
    pub fn on_complete(&mut self, checkpoint: CheckpointId) {
        if let Head::Source(source) = &mut self.links[0].head {
            source.on_complete(checkpoint);
        }
    }

    /// Bytes read and in all, where the source knows.
    pub fn progress(&self) -> Option<(u64, u64)> {
        match &self.links[0].head {
            Head::Source(source) => source.progress(),
            Head::Operator(_) => None,
        }
    }
}
