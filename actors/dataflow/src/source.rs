//! Sources: where records come from.
//!
//! A source has one split enumerator, which runs beside the job's master and hands out splits, and a split reader per
//! split, which runs in a subtask. A reader's position is a split again, so a checkpoint simply keeps splits.

use crate::batch::{Record, Rows};
use crate::element::Element;
use crate::error::{BoxError, OpResult};
use crate::ids::CheckpointId;
use crate::operator::{Call, OpenContext, Place};
use crate::state::{Handle, ItemList};
use crate::time::{MAX_TIMESTAMP, MIN_TIMESTAMP, Timestamp};
use crate::watermark::{WatermarkStrategy, WatermarkTracker};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// A piece of a source's input, with the position reading has come to.
pub trait Split: Clone + Send + Sync + Serialize + DeserializeOwned + 'static {}
impl<S: Clone + Send + Sync + Serialize + DeserializeOwned + 'static> Split for S {}

/// Where records come from.
pub trait Source: Send + Sync + 'static {
    /// Records read.
    type Out: Record;
    /// Pieces of the input.
    type Split: Split;

    /// Makes the enumerator; `restored` is what [`SplitEnumerator::snapshot`] returned at the checkpoint.
    ///
    /// # Errors
    /// The input cannot be listed, or the restored bytes do not fit.
    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn SplitEnumerator<Self::Split>>>;

    /// Opens a split at the position it holds.
    ///
    /// # Errors
    /// The split cannot be read.
    fn open(
        &self,
        split: Self::Split,
        place: &Place,
    ) -> OpResult<Box<dyn SplitReader<Out = Self::Out, Split = Self::Split>>>;

    /// Whether the input ends by itself.
    fn is_bounded(&self) -> bool;
}

/// What a subtask that asks for work gets.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub enum Assignment<S> {
    /// Splits to read.
    Splits(Vec<S>),
    /// Nothing now; ask again after this time.
    Later(Duration),
    /// Nothing ever again.
    Finished,
}

/// Finds splits and hands them out.
pub trait SplitEnumerator<S>: Send {
    /// Work for a subtask that has none left.
    ///
    /// # Errors
    /// The input cannot be listed.
    fn next(&mut self, subtask: usize, parallelism: usize) -> OpResult<Assignment<S>>;

    /// What is still to be handed out, for a checkpoint.
    ///
    /// # Errors
    /// The state cannot be serialised.
    fn snapshot(&self) -> OpResult<Vec<u8>>;

    /// Bytes that are still to be handed out, where known, for progress displays.
    fn unread(&self) -> Option<u64> {
        None
    }
}

/// What reading a split gave.
pub enum Polled<T> {
    /// Records. More may follow at once.
    Rows(Rows<T>),
    /// Nothing now; the reader uses the subtask's waker when there is.
    Pending,
    /// Nothing before this processing time.
    Until(Timestamp),
    /// The split is read to its end.
    End,
}

/// Reads one split.
pub trait SplitReader: Send {
    /// Records read.
    type Out;
    /// Pieces of the input.
    type Split;

    /// Reads up to `max` records; waits for nothing but a local disk.
    ///
    /// # Errors
    /// The input cannot be read or does not parse.
    fn poll(&mut self, max: usize, now: Timestamp) -> OpResult<Polled<Self::Out>>;

    /// The split with the position after the last record returned.
    fn position(&self) -> Self::Split;

    /// Bytes read so far and in all, where known, for progress displays.
    fn progress(&self) -> Option<(u64, u64)> {
        None
    }

    /// The position has become part of a checkpoint, which may yet fail.
    fn on_barrier(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }

    /// A checkpoint is complete: the split is not read from before its position again.
    fn on_complete(&mut self, checkpoint: CheckpointId) {
        let _ = checkpoint;
    }
}

/// What a source subtask should do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceStatus {
    /// Poll again.
    More,
    /// Nothing until woken, or until this processing time.
    Waiting(Option<Timestamp>),
    /// All splits are read and none follow.
    Ended,
}

/// Splits as they travel from the enumerator to a subtask.
pub type SplitBytes = Vec<u8>;

/// An assignment as it travels from the enumerator to a subtask.
pub type AnyAssignment = Assignment<SplitBytes>;

/// A split enumerator seen without its types.
#[allow(missing_docs)]
pub trait DynEnumerator: Send {
    fn next(&mut self, subtask: usize, parallelism: usize) -> OpResult<AnyAssignment>;
    fn snapshot(&self) -> OpResult<Vec<u8>>;
    fn unread(&self) -> Option<u64>;
}

/// The reading side of a source seen without its types: the head of a source's chain.
#[allow(missing_docs)]
pub trait DynSource: Send {
    fn open(&mut self, ctx: &mut OpenContext<'_>, now: Timestamp) -> OpResult;
    /// Whether to ask the enumerator for work.
    fn wants_splits(&self) -> bool;
    fn add_splits(&mut self, splits: Vec<SplitBytes>, place: &Place, now: Timestamp) -> OpResult;
    /// The enumerator has nothing for this subtask for now: it does not hold the watermark back meanwhile.
    fn no_splits_now(&mut self);
    fn no_more_splits(&mut self);
    fn poll(&mut self, call: &mut Call<'_>) -> OpResult<SourceStatus>;
    fn before_snapshot(&mut self, call: &mut Call<'_>) -> OpResult;
    fn on_barrier(&mut self, checkpoint: CheckpointId);
    fn on_complete(&mut self, checkpoint: CheckpointId);
    fn progress(&self) -> Option<(u64, u64)>;
}

/// A source with its event-time strategy, seen without its types.
pub trait SourceFactory: Send + Sync {
    /// Makes the enumerator.
    ///
    /// # Errors
    /// As [`Source::enumerator`].
    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn DynEnumerator>>;
    /// Makes a subtask's reading side.
    fn reader(&self) -> Box<dyn DynSource>;
    /// Whether the input ends by itself.
    fn is_bounded(&self) -> bool;
}

/// Takes the types off a source.
pub fn erase_source<S: Source>(source: S, watermarks: WatermarkStrategy<S::Out>) -> Arc<dyn SourceFactory> {
    Arc::new(ErasedSource { source: Arc::new(source), watermarks })
}

struct ErasedSource<S: Source> {
    source: Arc<S>,
    watermarks: WatermarkStrategy<S::Out>,
}

struct ErasedEnumerator<S>(Box<dyn SplitEnumerator<S>>);

impl<S: Split> DynEnumerator for ErasedEnumerator<S> {
    fn next(&mut self, subtask: usize, parallelism: usize) -> OpResult<AnyAssignment> {
        Ok(match self.0.next(subtask, parallelism)? {
            Assignment::Splits(splits) => {
                let bytes: Result<Vec<_>, _> = splits.iter().map(rmp_serde::to_vec_named).collect();
                Assignment::Splits(bytes?)
            }
            Assignment::Later(after) => Assignment::Later(after),
            Assignment::Finished => Assignment::Finished,
        })
    }
    fn snapshot(&self) -> OpResult<Vec<u8>> {
        self.0.snapshot()
    }
    fn unread(&self) -> Option<u64> {
        self.0.unread()
    }
}

impl<S: Source> SourceFactory for ErasedSource<S> {
    fn enumerator(&self, restored: Option<&[u8]>) -> OpResult<Box<dyn DynEnumerator>> {
        Ok(Box::new(ErasedEnumerator(self.source.enumerator(restored)?)))
    }
    fn reader(&self) -> Box<dyn DynSource> {
        Box::new(SourceDriver::<S> {
            source: Arc::clone(&self.source),
            watermarks: self.watermarks.clone(),
            open: Vec::new(),
            next: 0,
            finished: false,
            unassigned: false,
            positions: Handle::default(),
            watermark: MIN_TIMESTAMP,
            idle: false,
            done: 0,
        })
    }
    fn is_bounded(&self) -> bool {
        self.source.is_bounded()
    }
}

/// A split being read.
struct Open<S: Source> {
    reader: Box<dyn SplitReader<Out = S::Out, Split = S::Split>>,
    tracker: WatermarkTracker<S::Out>,
    waiting: Option<Option<Timestamp>>,
}

/// Reads a subtask's splits in turn and merges their watermarks.
struct SourceDriver<S: Source> {
    source: Arc<S>,
    watermarks: WatermarkStrategy<S::Out>,
    open: Vec<Open<S>>,
    next: usize,
    finished: bool,
    unassigned: bool,
    positions: Handle<ItemList<(S::Split, Timestamp)>>,
    watermark: Timestamp,
    idle: bool,
    done: u64,
}

impl<S: Source> SourceDriver<S> {
    fn open_split(
        &mut self,
        split: S::Split,
        watermark: Timestamp,
        place: &Place,
        now: Timestamp,
    ) -> OpResult {
        let reader = self.source.open(split, place)?;
        let tracker = self.watermarks.tracker(watermark, now);
        self.open.push(Open { reader, tracker, waiting: None });
        Ok(())
    }

    /// Emits the smallest watermark of the splits that are not idle, if it has advanced.
    fn advance_watermark(&mut self, now: Timestamp, out: &mut VecDeque<Element>) {
        let active = |open: &&Open<S>| !open.tracker.is_idle(now);
        let smallest = self.open.iter().filter(active).map(|open| open.tracker.watermark()).min();
        let idle = smallest.is_none() && (self.unassigned || !self.open.is_empty());
        if idle != self.idle {
            self.idle = idle;
            out.push_back(if idle { Element::Idle } else { Element::Active });
        }
        if let Some(watermark) = smallest
            && watermark > self.watermark
        {
            self.watermark = watermark;
            out.push_back(Element::Watermark(watermark));
        }
    }
}

impl<S: Source> DynSource for SourceDriver<S> {
    fn open(&mut self, ctx: &mut OpenContext<'_>, now: Timestamp) -> OpResult {
        self.positions = ctx.states.list("positions")?;
        let restored = std::mem::take(&mut ctx.states.get_mut(self.positions).items);
        for (split, watermark) in restored {
            self.open_split(split, watermark, ctx.place, now)?;
        }
        Ok(())
    }

    fn wants_splits(&self) -> bool {
        self.open.is_empty() && !self.finished
    }

    fn add_splits(&mut self, splits: Vec<SplitBytes>, place: &Place, now: Timestamp) -> OpResult {
        self.unassigned = false;
        for split in splits {
            let split: S::Split = rmp_serde::from_slice(&split)?;
            self.open_split(split, MIN_TIMESTAMP, place, now)?;
        }
        Ok(())
    }

    fn no_splits_now(&mut self) {
        self.unassigned = true;
    }

    fn no_more_splits(&mut self) {
        self.unassigned = false;
        self.finished = true;
    }

    fn poll(&mut self, call: &mut Call<'_>) -> OpResult<SourceStatus> {
        let now = call.now;
        for _ in 0..self.open.len() {
            let at = self.next % self.open.len();
            let open = &mut self.open[at];
            if open.waiting.take().is_some_and(|until| until.is_some_and(|until| now < until)) {
                open.waiting = Some(None);
            }
            match open.reader.poll(call.batch_size, now)? {
                Polled::Rows(mut rows) => {
                    open.tracker.on_batch(&mut rows, now);
                    self.next = at + 1;
                    if self.idle {
                        self.idle = false;
                        call.main.push_back(Element::Active);
                    }
                    if !rows.is_empty() {
                        call.main.push_back(Element::Batch(Box::new(rows)));
                    }
                    self.advance_watermark(now, call.main);
                    return Ok(SourceStatus::More);
                }
                Polled::Pending => open.waiting = Some(None),
                Polled::Until(until) => open.waiting = Some(Some(until)),
                Polled::End => {
                    if let Some((_, size)) = open.reader.progress() {
                        self.done = self.done.saturating_add(size);
                    }
                    self.open.swap_remove(at);
                    // The split's successors may start earlier in event time, so nothing is advanced for its end
                    // unless others go on.
                    self.advance_watermark(now, call.main);
                    return Ok(SourceStatus::More);
                }
            }
            self.next = at + 1;
        }
        if self.open.is_empty() {
            if self.finished {
                if self.watermark < MAX_TIMESTAMP {
                    self.watermark = MAX_TIMESTAMP;
                    call.main.push_back(Element::Watermark(MAX_TIMESTAMP));
                }
                return Ok(SourceStatus::Ended);
            }
            self.advance_watermark(now, call.main);
            return Ok(SourceStatus::Waiting(None));
        }
        self.advance_watermark(now, call.main);
        let wake = self.open.iter().filter_map(|open| open.waiting.flatten()).min();
        let idle = self.open.iter().filter_map(|open| open.tracker.idle_at()).filter(|at| *at > now).min();
        Ok(SourceStatus::Waiting(wake.into_iter().chain(idle).min()))
    }

    fn before_snapshot(&mut self, call: &mut Call<'_>) -> OpResult {
        call.states.get_mut(self.positions).items =
            self.open.iter().map(|open| (open.reader.position(), open.tracker.watermark())).collect();
        Ok(())
    }

    fn on_barrier(&mut self, checkpoint: CheckpointId) {
        self.open.iter_mut().for_each(|open| open.reader.on_barrier(checkpoint));
    }

    fn on_complete(&mut self, checkpoint: CheckpointId) {
        self.open.iter_mut().for_each(|open| open.reader.on_complete(checkpoint));
    }

    fn progress(&self) -> Option<(u64, u64)> {
        let (mut read, mut size) = (self.done, self.done);
        for (r, s) in self.open.iter().filter_map(|open| open.reader.progress()) {
            (read, size) = (read.saturating_add(r), size.saturating_add(s));
        }
        (size > 0).then_some((read, size))
    }
}

/// An enumerator over splits that are known from the start: subtasks take them one by one, in order.
pub struct FixedSplits<S> {
    left: VecDeque<S>,
}

impl<S: Split> FixedSplits<S> {
    /// Hands out `splits`, or what a checkpoint says was left of them.
    ///
    /// # Errors
    /// The restored bytes do not fit.
    pub fn new(splits: impl IntoIterator<Item = S>, restored: Option<&[u8]>) -> Result<Self, BoxError> {
        let left = match restored {
            Some(bytes) => rmp_serde::from_slice(bytes)?,
            None => splits.into_iter().collect(),
        };
        Ok(FixedSplits { left })
    }
}

impl<S: Split> SplitEnumerator<S> for FixedSplits<S> {
    fn next(&mut self, _subtask: usize, _parallelism: usize) -> OpResult<Assignment<S>> {
        Ok(self.left.pop_front().map_or(Assignment::Finished, |split| Assignment::Splits(vec![split])))
    }

    fn snapshot(&self) -> OpResult<Vec<u8>> {
        Ok(rmp_serde::to_vec_named(&self.left)?)
    }
}

#[cfg(test)]
mod tests;
