//! The input channels of a subtask: bounded queues, barrier alignment, watermarks. Plain data.
//!
//! A barrier that has waited long enough overtakes what is before it ([`Inputs::overtake`]): that is then part of the
//! checkpoint, as are batches that come until the barrier has come on their channel too (Carbone et al., "State Management
//! in Apache Flink", 2017; Flink's unaligned checkpoints, FLIP-76).

use hurtig_dataflow::batch::AnyBatch;
use hurtig_dataflow::element::{Barrier, Element};
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::partition::Pattern;
use hurtig_dataflow::time::{MAX_TIMESTAMP, Timestamp};
use hurtig_dataflow::watermark::{Merged, WatermarkMerger};
use std::collections::VecDeque;

/// Batches of a channel that a checkpoint holds at most.
const MOST_RECORDED: u32 = 4_096;

/// Credit to give back to a sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditDue {
    /// The input channel.
    pub channel: usize,
    /// Number of batches the sender may send on top.
    pub count: u32,
}

struct Channel {
    port: usize,
    queue: VecDeque<Element>,
    aligned: bool,
    ended: bool,
    taken: u32,
    may_be_overtaken: bool,
    /// Whether what comes is part of a checkpoint whose barrier has not come on this channel.
    is_recorded: bool,
    /// Batches of it that are part of that checkpoint.
    recorded: u32,
}

/// A barrier that has come on any channel, whether or not its turn has come.
struct Arrived {
    barrier: Barrier,
    since: Timestamp,
}

struct Alignment {
    barrier: Barrier,
    since: Timestamp,
}

/// The input channels of a subtask.
pub struct Inputs {
    channels: Vec<Channel>,
    next: usize,
    exactly_once: bool,
    alignment: Option<Alignment>,
    last_barrier: CheckpointId,
    /// Those whose checkpoint is not cut yet, in their order.
    arrived: VecDeque<Arrived>,
    /// Checkpoints that have failed, whose barriers may still come.
    forgotten: Vec<CheckpointId>,
    /// Batches that are part of a checkpoint though they are still to be processed, with their channels.
    recorded: Vec<(usize, AnyBatch)>,
    /// Whether what is recorded is of no use.
    is_void: bool,
    merger: WatermarkMerger,
    ready: VecDeque<(usize, Element)>,
    window: u32,
    queued: usize,
    taken: u64,
    /// How long the last alignment took, in milliseconds.
    pub alignment_ms: i64,
}

impl Inputs {
    /// Channels that feed the given inputs of the first operator, by the ways records take to them. Each may have `window`
    /// batches on the way.
    pub fn new(
        channels: impl IntoIterator<Item = (usize, Pattern)>,
        window: u32,
        exactly_once: bool,
        restored: Timestamp,
    ) -> Self {
        let channel = |(port, pattern): (usize, Pattern)| Channel {
            port,
            queue: VecDeque::new(),
            aligned: false,
            ended: false,
            taken: 0,
            may_be_overtaken: exactly_once && pattern.may_be_overtaken(),
            is_recorded: false,
            recorded: 0,
        };
        let channels: Vec<_> = channels.into_iter().map(channel).collect();
        let merger = WatermarkMerger::new(channels.len(), restored);
        Inputs {
            channels,
            next: 0,
            exactly_once,
            alignment: None,
            last_barrier: 0,
            arrived: VecDeque::new(),
            forgotten: Vec::new(),
            recorded: Vec::new(),
            is_void: false,
            merger,
            ready: VecDeque::new(),
            window,
            queued: 0,
            taken: 0,
            alignment_ms: 0,
        }
    }

    /// Takes what has arrived on a channel. Watermarks that wait behind one another become one.
    pub fn push(&mut self, at: usize, element: Element, now: impl Fn() -> Timestamp) {
        if let Element::Barrier(barrier) = &element {
            self.on_arrival(barrier, now);
        }
        let channel = &mut self.channels[at];
        match (&element, channel.is_recorded) {
            // Its sender is far behind with the barrier, and must not fill this memory.
            (Element::Batch(_), true) if channel.recorded == MOST_RECORDED => self.is_void = true,
            (Element::Batch(batch), true) => {
                channel.recorded += 1;
                self.recorded.push((at, batch.duplicate()));
            }
            // One of before, of a checkpoint that was given up, cuts nothing.
            (Element::Barrier(barrier), true) if barrier.checkpoint >= self.last_barrier => {
                channel.is_recorded = false;
                // Where the barrier was that it comes instead of nobody knows.
                self.is_void |= barrier.checkpoint > self.last_barrier;
            }
            (Element::End, true) => channel.is_recorded = false,
            _ => {}
        }
        match (channel.queue.back_mut(), &element) {
            (Some(Element::Watermark(last)), Element::Watermark(time)) => *last = (*last).max(*time),
            _ => {
                self.queued += usize::from(matches!(element, Element::Batch(_)));
                channel.queue.push_back(element);
            }
        }
    }

    /// A barrier has come, though it may not be its turn.
    fn on_arrival(&mut self, barrier: &Barrier, now: impl Fn() -> Timestamp) {
        let oldest = self.oldest_open();
        self.arrived.retain(|known| known.barrier.checkpoint >= oldest);
        let is_forgotten = self.forgotten.contains(&barrier.checkpoint);
        match self.arrived.iter_mut().find(|known| known.barrier.checkpoint == barrier.checkpoint) {
            Some(known) => known.barrier.overtakes |= barrier.overtakes,
            None if barrier.checkpoint >= oldest && !is_forgotten => {
                self.arrived.push_back(Arrived { barrier: barrier.clone(), since: now() });
            }
            None => {}
        }
    }

    /// The oldest checkpoint whose cut is still to come: that which is being aligned, which is newer than the last.
    fn oldest_open(&self) -> CheckpointId {
        self.alignment.as_ref().map_or(self.last_barrier + 1, |alignment| alignment.barrier.checkpoint)
    }

    /// When a barrier has waited so long that it is to overtake what is before it. It never is for one that must
    /// not ([`Barrier::may_overtake`]), nor while it has not come on a channel where it must not overtake.
    pub fn overtakes_at(&self, timeout_ms: i64) -> Option<Timestamp> {
        if self.ready.iter().any(|(_, element)| matches!(element, Element::Barrier(_))) {
            // No barrier overtakes another.
            return None;
        }
        let aligning = self.alignment.as_ref().map(|alignment| alignment.barrier.checkpoint);
        let oldest = self.oldest_open();
        let is_open = |arrived: &&Arrived| arrived.barrier.checkpoint >= oldest;
        let Arrived { barrier, since } = self.arrived.iter().find(is_open)?;
        let is_aligning = aligning == Some(barrier.checkpoint);
        let has_come = |channel: &Channel| channel.ended || is_aligning && channel.aligned;
        let may = barrier.may_overtake()
            && self.channels.iter().all(|channel| channel.may_be_overtaken || has_come(channel));
        may.then(|| if barrier.overtakes { *since } else { since.saturating_add(timeout_ms) })
    }

    /// Lets the barrier that has come overtake everything before it.
    pub fn overtake(&mut self, now: Timestamp) -> Option<Barrier> {
        let oldest = self.oldest_open();
        let aligning = self.alignment.take().map(|alignment| alignment.barrier.checkpoint);
        self.arrived.retain(|arrived| arrived.barrier.checkpoint >= oldest);
        let Arrived { mut barrier, since } = self.arrived.pop_front()?;
        let checkpoint = barrier.checkpoint;
        let is_aligning = aligning == Some(checkpoint);
        self.recorded.clear();
        self.is_void = false;
        for (at, channel) in self.channels.iter_mut().enumerate() {
            let has_come = std::mem::take(&mut channel.aligned) && is_aligning;
            channel.is_recorded = !has_come && !channel.ended;
            channel.recorded = 0;
            let mut before = channel.queue.iter().take_while(|_| !has_come);
            while let Some(element) = before.next().filter(|_| channel.is_recorded) {
                match element {
                    Element::Batch(batch) => {
                        channel.recorded += 1;
                        self.recorded.push((at, batch.duplicate()));
                    }
                    Element::Barrier(other) => channel.is_recorded = other.checkpoint < checkpoint,
                    Element::End => channel.is_recorded = false,
                    Element::Watermark(_) | Element::Idle | Element::Active => {}
                }
            }
        }
        self.last_barrier = checkpoint;
        self.alignment_ms = now - since;
        barrier.overtakes = true;
        Some(barrier)
    }

    /// A checkpoint has failed: its barrier overtakes nothing.
    pub fn forget(&mut self, checkpoint: CheckpointId) {
        self.forgotten.retain(|forgotten| *forgotten > self.last_barrier);
        self.forgotten.push(checkpoint);
        self.arrived.retain(|arrived| arrived.barrier.checkpoint != checkpoint);
    }

    /// Whether batches that come are still part of a checkpoint.
    pub fn is_recording(&self) -> bool {
        self.channels.iter().any(|channel| channel.is_recorded)
    }

    /// Whether the checkpoint that batches are recorded for cannot be complete any more.
    pub fn is_void(&self) -> bool {
        self.is_void
    }

    /// Takes the batches that were overtaken, with their channels.
    pub fn take_recorded(&mut self) -> Vec<(usize, AnyBatch)> {
        self.channels.iter_mut().for_each(|channel| channel.is_recorded = false);
        self.is_void = false;
        std::mem::take(&mut self.recorded)
    }

    /// Number of elements that wait on a channel.
    pub fn waiting(&self, channel: usize) -> usize {
        self.channels[channel].queue.len()
    }

    /// Number of batches that wait.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Batches that were taken.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The watermark of all channels together.
    pub fn watermark(&self) -> Timestamp {
        self.merger.watermark()
    }

    /// Whether an alignment is going on.
    pub fn is_aligning(&self) -> bool {
        self.alignment.is_some()
    }

    /// The next element for the first operator with its input number, from channels in turn that alignment does not
    /// hold back; with the credit its taking frees.
    pub fn next(&mut self, now: Timestamp) -> Option<(usize, Element, Option<CreditDue>)> {
        loop {
            if let Some((port, element)) = self.ready.pop_front() {
                return Some((port, element, None));
            }
            let count = self.channels.len();
            let at = (0..count).map(|i| (self.next + i) % count).find(|at| {
                let channel = &self.channels[*at];
                !(channel.queue.is_empty() || channel.aligned && self.exactly_once)
            })?;
            self.next = (at + 1) % count;
            let channel = &mut self.channels[at];
            let port = channel.port;
            match channel.queue.pop_front()? {
                batch @ Element::Batch(_) => {
                    self.queued -= 1;
                    self.taken += 1;
                    channel.taken += 1;
                    let credit = (channel.taken >= (self.window / 2).max(1))
                        .then(|| CreditDue { channel: at, count: std::mem::take(&mut channel.taken) });
                    return Some((port, batch, credit));
                }
                Element::Watermark(time) => {
                    let merged = self.merger.on_watermark(at, time);
                    self.on_merged(merged);
                }
                Element::Idle => {
                    let merged = self.merger.on_status(at, true);
                    self.on_merged(merged);
                }
                Element::Active => {
                    let merged = self.merger.on_status(at, false);
                    self.on_merged(merged);
                }
                Element::Barrier(barrier) => self.on_barrier(at, barrier, now),
                Element::End => {
                    channel.ended = true;
                    let merged = self.merger.on_end(at);
                    self.on_merged(merged);
                    self.complete_alignment(now);
                    if self.channels.iter().all(|channel| channel.ended) {
                        if self.merger.watermark() < MAX_TIMESTAMP {
                            self.ready.push_back((0, Element::Watermark(MAX_TIMESTAMP)));
                        }
                        self.ready.push_back((0, Element::End));
                    }
                }
            }
        }
    }

    fn on_merged(&mut self, merged: Merged) {
        if let Some(idle) = merged.idle {
            self.ready.push_back((0, if idle { Element::Idle } else { Element::Active }));
        }
        if let Some(watermark) = merged.watermark {
            self.ready.push_back((0, Element::Watermark(watermark)));
        }
    }

    fn on_barrier(&mut self, at: usize, barrier: Barrier, now: Timestamp) {
        let id = barrier.checkpoint;
        match &self.alignment {
            // Of a checkpoint that was given up.
            Some(alignment) if id < alignment.barrier.checkpoint => return,
            None if id <= self.last_barrier => return,
            Some(alignment) if id == alignment.barrier.checkpoint => {}
            // The first of its checkpoint; one that is still being aligned is given up for it.
            _ => {
                for channel in &mut self.channels {
                    channel.aligned = false;
                }
                self.alignment = Some(Alignment { barrier, since: now });
            }
        }
        self.channels[at].aligned = true;
        self.complete_alignment(now);
    }

    fn complete_alignment(&mut self, now: Timestamp) {
        if !self.channels.iter().all(|channel| channel.aligned || channel.ended) {
            return;
        }
        if let Some(Alignment { barrier, since }) = self.alignment.take() {
            for channel in &mut self.channels {
                channel.aligned = false;
            }
            self.last_barrier = barrier.checkpoint;
            self.alignment_ms = now - since;
            self.ready.push_back((0, Element::Barrier(barrier)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::batch::{Rows, downcast};
    use hurtig_dataflow::time::MIN_TIMESTAMP;
    use proptest::prelude::*;

    fn barrier(checkpoint: u64) -> Element {
        Element::Barrier(Barrier { checkpoint, savepoint: None, stop: false, overtakes: false })
    }

    /// What one channel carries: numbers, barriers in order, then the end.
    fn channel_script(channel: usize) -> impl Strategy<Value = Vec<Option<u64>>> {
        // None is the next barrier, Some a record that carries its channel.
        proptest::collection::vec(prop_oneof![3 => Just(Some(channel as u64)), 1 => Just(None)], 0..30)
    }

    proptest! {
        /// Whatever the interleaving, each cut holds exactly what came before the barrier on every channel, be it processed
        /// or, where the barrier has overtaken it, recorded.
        #[test]
        fn every_cut_is_consistent_under_any_interleaving(
            scripts in (1usize..4).prop_flat_map(|n| {
                (0..n).map(channel_script).collect::<Vec<_>>()
            }),
            order in proptest::collection::vec((any::<u16>(), any::<bool>(), any::<bool>()), 0..400),
        ) {
            let mut inputs = Inputs::new(vec![(0, Pattern::Hash); scripts.len()], 8, true, MIN_TIMESTAMP);
            let mut sent = vec![0usize; scripts.len()];
            let mut barriers = vec![0u64; scripts.len()];
            let mut ended = vec![false; scripts.len()];
            let mut seen = vec![0u64; scripts.len()];
            let mut cuts: Vec<(u64, Vec<u64>)> = Vec::new();
            let mut is_ended = false;
            // A cut of which some records are still to come.
            let mut open: Option<(u64, Vec<u64>)> = None;
            let drain = |inputs: &mut Inputs, seen: &mut Vec<u64>, cuts: &mut Vec<(u64, Vec<u64>)>, is_ended: &mut bool, most: usize| {
                for _ in 0..most {
                    match inputs.next(0) {
                        Some((_, Element::Batch(batch), _)) => {
                            let rows = downcast::<Rows<u64>>(batch).unwrap();
                            for record in rows.records { seen[record as usize] += 1 }
                        }
                        Some((_, Element::Barrier(barrier), _)) => cuts.push((barrier.checkpoint, seen.clone())),
                        Some((_, Element::End, _)) => *is_ended = true,
                        Some(_) => {}
                        None => break,
                    }
                }
            };
            for (pick, also_drain, overtakes) in order.into_iter().chain((0..400u16).map(|i| (i, true, false))) {
                let at = pick as usize % scripts.len();
                match scripts[at].get(sent[at]) {
                    Some(Some(record)) => {
                        inputs.push(at, Element::Batch(Box::new(Rows::untimed(vec![*record]))), || 0);
                    }
                    Some(None) => { barriers[at] += 1; inputs.push(at, barrier(barriers[at]), || 0) }
                    None if !ended[at] => { ended[at] = true; inputs.push(at, Element::End, || 0) }
                    None => {}
                }
                sent[at] += 1;
                if overtakes && open.is_none() && inputs.overtakes_at(0).is_some() {
                    let barrier = inputs.overtake(0).expect("one has come");
                    open = Some((barrier.checkpoint, seen.clone()));
                }
                if let Some((checkpoint, mut cut)) = open.take_if(|_| !inputs.is_recording()) {
                    for (_, batch) in inputs.take_recorded() {
                        let rows = downcast::<Rows<u64>>(batch).unwrap();
                        for record in rows.records { cut[record as usize] += 1 }
                    }
                    cuts.push((checkpoint, cut));
                }
                if also_drain && open.is_none() { drain(&mut inputs, &mut seen, &mut cuts, &mut is_ended, 3) }
            }
            drain(&mut inputs, &mut seen, &mut cuts, &mut is_ended, usize::MAX);
            prop_assert!(is_ended);
            let most = scripts.iter().map(|s| s.iter().filter(|e| e.is_none()).count()).max().unwrap_or(0) as u64;
            prop_assert_eq!(cuts.iter().map(|cut| cut.0).collect::<Vec<_>>(), (1..=most).collect::<Vec<_>>());
            for (id, counts) in &cuts {
                for (script, count) in scripts.iter().zip(counts) {
                    let mut left = *id;
                    let before = script.iter().take_while(|e| { if e.is_none() { left -= 1 } left > 0 })
                        .filter(|e| e.is_some()).count();
                    prop_assert_eq!(before as u64, *count);
                }
            }
            for (script, count) in scripts.iter().zip(&seen) {
                prop_assert_eq!(script.iter().filter(|e| e.is_some()).count() as u64, *count);
            }
        }
    }

    /// What a channel's next element is, in short.
    fn next(inputs: &mut Inputs) -> Option<String> {
        let (_, element, _) = inputs.next(0)?;
        Some(match element {
            Element::Batch(batch) => format!("{:?}", downcast::<Rows<u64>>(batch).unwrap().records),
            Element::Barrier(barrier) => format!("barrier {}", barrier.checkpoint),
            other => format!("{other:?}"),
        })
    }

    #[test]
    fn only_exactly_once_holds_records_behind_a_barrier_back() {
        let record = |n: u64| Element::Batch(Box::new(Rows::untimed(vec![n])));
        for exactly_once in [true, false] {
            let mut inputs = Inputs::new([(0, Pattern::Hash); 2], 8, exactly_once, MIN_TIMESTAMP);
            inputs.push(0, record(1), || 0);
            inputs.push(0, barrier(1), || 0);
            inputs.push(0, record(2), || 0);
            let seen: Vec<_> = std::iter::from_fn(|| next(&mut inputs)).collect();
            assert_eq!(seen, if exactly_once { vec!["[1]"] } else { vec!["[1]", "[2]"] });
            assert!(inputs.is_aligning());
            // The other channel's records come before its barrier, which lets the one barrier through.
            inputs.push(1, record(3), || 0);
            inputs.push(1, barrier(1), || 0);
            let seen: Vec<_> = std::iter::from_fn(|| next(&mut inputs)).collect();
            let behind =
                if exactly_once { vec!["[3]", "barrier 1", "[2]"] } else { vec!["[3]", "barrier 1"] };
            assert_eq!(seen, behind);
            assert!(!inputs.is_aligning());
        }
    }

    #[test]
    fn credit_comes_back_in_halves_of_the_window() {
        let mut inputs = Inputs::new([(0, Pattern::Hash)], 8, true, MIN_TIMESTAMP);
        for _ in 0..8 {
            inputs.push(0, Element::Batch(Box::new(Rows::untimed(vec![1u64]))), || 0);
        }
        let credits: Vec<_> = std::iter::from_fn(|| inputs.next(0)).filter_map(|next| next.2).collect();
        assert_eq!(credits, [CreditDue { channel: 0, count: 4 }; 2]);
    }

    #[test]
    fn waiting_watermarks_become_one() {
        let mut inputs = Inputs::new([(0, Pattern::Hash)], 8, true, MIN_TIMESTAMP);
        for time in 0..1000 {
            inputs.push(0, Element::Watermark(time), || 0);
        }
        assert!(matches!(inputs.next(0), Some((0, Element::Watermark(999), None))));
        assert!(inputs.next(0).is_none());
    }
}
