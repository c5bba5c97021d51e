//! The records whose futures run, and the order in which their results may go on.

use hurtig_dataflow::{BoxError, OpResult, Timestamp};
use std::collections::VecDeque;

/// What goes on.
pub(super) enum Entry<T, U> {
    /// A future's result, with the record it was made for.
    Result(T, Option<Timestamp>, OpResult<U>),
    /// A watermark all of whose records have gone.
    Watermark(Timestamp),
}

/// What waits for its turn.
enum Waiting<T, U> {
    /// `None` while the future runs.
    Call(T, Option<Timestamp>, Option<OpResult<U>>),
    Watermark(Timestamp),
    /// Has gone on before its turn.
    Gone,
}

/// Futures and watermarks in the order their records came.
pub(super) struct Calls<T, U> {
    ordered: bool,
    queue: VecDeque<Waiting<T, U>>,
    /// Number of the first in `queue`.
    first: u64,
    /// Numbers of watermarks in `queue`.
    watermarks: VecDeque<u64>,
    /// Results that may go on at once, by number: those before the first watermark, in unordered mode.
    ready: VecDeque<u64>,
    /// When the futures have taken too long, by number, in order.
    deadlines: VecDeque<(Timestamp, u64)>,
    /// Futures that run or whose result has not gone on.
    calls: usize,
}

impl<T: Clone, U> Calls<T, U> {
    pub(super) fn new(ordered: bool) -> Self {
        Calls {
            ordered,
            queue: VecDeque::new(),
            first: 0,
            watermarks: VecDeque::new(),
            ready: VecDeque::new(),
            deadlines: VecDeque::new(),
            calls: 0,
        }
    }

    /// Number of futures that run or whose result has not gone on.
    pub(super) fn len(&self) -> usize {
        self.calls
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Adds a record and returns its number.
    pub(super) fn push(&mut self, record: T, time: Option<Timestamp>, deadline: Timestamp) -> u64 {
        let number = self.first + self.queue.len() as u64;
        self.queue.push_back(Waiting::Call(record, time, None));
        self.deadlines.push_back((deadline, number));
        self.calls += 1;
        number
    }

    /// Adds a watermark behind all records so far.
    pub(super) fn push_watermark(&mut self, watermark: Timestamp) {
        self.watermarks.push_back(self.first + self.queue.len() as u64);
        self.queue.push_back(Waiting::Watermark(watermark));
    }

    /// Takes a future's result in; one that comes after its time-out is too late.
    pub(super) fn finish(&mut self, number: u64, result: OpResult<U>) {
        let Some(at) = number.checked_sub(self.first) else { return };
        if let Some(Waiting::Call(_, _, slot @ None)) = self.queue.get_mut(at as usize) {
            *slot = Some(result);
            if !self.ordered && self.watermarks.front().is_none_or(|watermark| number < *watermark) {
                self.ready.push_back(number);
            }
        }
    }

    /// Gives all futures past their deadline an error for a result.
    pub(super) fn expire(&mut self, now: Timestamp, error: impl Fn() -> BoxError) {
        while let Some((deadline, number)) = self.deadlines.front().copied() {
            if self.is_running(number) {
                if deadline > now {
                    return;
                }
                self.finish(number, Err(error()));
            }
            self.deadlines.pop_front();
        }
    }

    /// The earliest deadline of a future that runs, as far as [`expire`](Calls::expire) has found out.
    pub(super) fn next_deadline(&self) -> Option<Timestamp> {
        self.deadlines.iter().find(|(_, number)| self.is_running(*number)).map(|(deadline, _)| *deadline)
    }

    fn is_running(&self, number: u64) -> bool {
        let at = number.checked_sub(self.first);
        let entry = at.and_then(|at| self.queue.get(at as usize));
        matches!(entry, Some(Waiting::Call(_, _, None)))
    }

    /// Takes what may go on now, one at a time.
    pub(super) fn pop(&mut self) -> Option<Entry<T, U>> {
        if let Some(number) = self.ready.pop_front() {
            let slot = self.queue.get_mut((number - self.first) as usize)?;
            if let Waiting::Call(record, time, Some(result)) = std::mem::replace(slot, Waiting::Gone) {
                self.calls -= 1;
                return Some(Entry::Result(record, time, result));
            }
        }
        loop {
            if matches!(self.queue.front()?, Waiting::Call(_, _, None)) {
                return None;
            }
            self.first += 1;
            match self.queue.pop_front()? {
                Waiting::Call(record, time, Some(result)) => {
                    self.calls -= 1;
                    return Some(Entry::Result(record, time, result));
                }
                Waiting::Watermark(watermark) => {
                    self.watermarks.pop_front();
                    self.release();
                    return Some(Entry::Watermark(watermark));
                }
                Waiting::Call(_, _, None) | Waiting::Gone => {}
            }
        }
    }

    /// A watermark has gone: results up to the next one may go too.
    fn release(&mut self) {
        if self.ordered {
            return;
        }
        let until = self.watermarks.front().map_or(self.queue.len(), |next| (next - self.first) as usize);
        let is_finished = |entry: &Waiting<T, U>| matches!(entry, Waiting::Call(_, _, Some(_)));
        let finished = self.queue.iter().take(until).enumerate().filter(|(_, entry)| is_finished(entry));
        self.ready.extend(finished.map(|(at, _)| self.first + at as u64));
    }

    /// The records whose results have not gone on.
    pub(super) fn inputs(&self) -> impl Iterator<Item = (T, Option<Timestamp>)> {
        self.queue.iter().filter_map(|entry| match entry {
            Waiting::Call(record, time, _) => Some((record.clone(), *time)),
            Waiting::Watermark(_) | Waiting::Gone => None,
        })
    }
}
