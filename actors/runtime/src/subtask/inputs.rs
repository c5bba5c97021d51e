//! The input channels of a subtask: bounded queues, barrier alignment, watermarks. Plain data.

use hurtig_dataflow::element::{Barrier, Element};
use hurtig_dataflow::time::{MAX_TIMESTAMP, Timestamp};
use hurtig_dataflow::watermark::{Merged, WatermarkMerger};
use std::collections::VecDeque;

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
    last_barrier: u64,
    merger: WatermarkMerger,
    ready: VecDeque<(usize, Element)>,
    window: u32,
    queued: usize,
    taken: u64,
    /// How long the last alignment took, in milliseconds.
    pub alignment_ms: i64,
}

impl Inputs {
    /// Channels that feed the given inputs of the first operator. Each may have `window` batches on the way.
    pub fn new(
        ports: impl IntoIterator<Item = usize>,
        window: u32,
        exactly_once: bool,
        restored: Timestamp,
    ) -> Self {
        let channel = |port| Channel { port, queue: VecDeque::new(), aligned: false, ended: false, taken: 0 };
        let channels: Vec<_> = ports.into_iter().map(channel).collect();
        let merger = WatermarkMerger::new(channels.len(), restored);
        Inputs {
            channels,
            next: 0,
            exactly_once,
            alignment: None,
            last_barrier: 0,
            merger,
            ready: VecDeque::new(),
            window,
            queued: 0,
            taken: 0,
            alignment_ms: 0,
        }
    }

    /// Takes what has arrived on a channel. Watermarks that wait behind one another become one.
    pub fn push(&mut self, channel: usize, element: Element) {
        let queue = &mut self.channels[channel].queue;
        match (queue.back_mut(), &element) {
            (Some(Element::Watermark(last)), Element::Watermark(time)) => *last = (*last).max(*time),
            _ => {
                self.queued += usize::from(matches!(element, Element::Batch(_)));
                queue.push_back(element);
            }
        }
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
        Element::Barrier(Barrier { checkpoint, savepoint: None, stop: false })
    }

    /// What one channel carries: numbers, barriers in order, then the end.
    fn channel_script(channel: usize) -> impl Strategy<Value = Vec<Option<u64>>> {
        // None is the next barrier, Some a record that carries its channel.
        proptest::collection::vec(prop_oneof![3 => Just(Some(channel as u64)), 1 => Just(None)], 0..30)
    }

    proptest! {
        /// Whatever the interleaving, each cut holds exactly what came before the barrier on every channel.
        #[test]
        fn every_cut_is_consistent_under_any_interleaving(
            scripts in (1usize..4).prop_flat_map(|n| {
                (0..n).map(channel_script).collect::<Vec<_>>()
            }),
            order in proptest::collection::vec((any::<u16>(), any::<bool>()), 0..400),
        ) {
            let mut inputs = Inputs::new(vec![0; scripts.len()], 8, true, MIN_TIMESTAMP);
            let mut sent = vec![0usize; scripts.len()];
            let mut barriers = vec![0u64; scripts.len()];
            let mut ended = vec![false; scripts.len()];
            let mut seen = vec![0u64; scripts.len()];
            let mut cuts: Vec<(u64, Vec<u64>)> = Vec::new();
            let mut is_ended = false;
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
            for (pick, also_drain) in order.into_iter().chain((0..400u16).map(|i| (i, true))) {
                let at = pick as usize % scripts.len();
                match scripts[at].get(sent[at]) {
                    Some(Some(record)) => inputs.push(at, Element::Batch(Box::new(Rows::untimed(vec![*record])))),
                    Some(None) => { barriers[at] += 1; inputs.push(at, barrier(barriers[at])) }
                    None if !ended[at] => { ended[at] = true; inputs.push(at, Element::End) }
                    None => {}
                }
                sent[at] += 1;
                if also_drain { drain(&mut inputs, &mut seen, &mut cuts, &mut is_ended, 3) }
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
            let mut inputs = Inputs::new([0, 0], 8, exactly_once, MIN_TIMESTAMP);
            inputs.push(0, record(1));
            inputs.push(0, barrier(1));
            inputs.push(0, record(2));
            let seen: Vec<_> = std::iter::from_fn(|| next(&mut inputs)).collect();
            assert_eq!(seen, if exactly_once { vec!["[1]"] } else { vec!["[1]", "[2]"] });
            assert!(inputs.is_aligning());
            // The other channel's records come before its barrier, which lets the one barrier through.
            inputs.push(1, record(3));
            inputs.push(1, barrier(1));
            let seen: Vec<_> = std::iter::from_fn(|| next(&mut inputs)).collect();
            let behind =
                if exactly_once { vec!["[3]", "barrier 1", "[2]"] } else { vec!["[3]", "barrier 1"] };
            assert_eq!(seen, behind);
            assert!(!inputs.is_aligning());
        }
    }

    #[test]
    fn credit_comes_back_in_halves_of_the_window() {
        let mut inputs = Inputs::new([0], 8, true, MIN_TIMESTAMP);
        for _ in 0..8 {
            inputs.push(0, Element::Batch(Box::new(Rows::untimed(vec![1u64]))));
        }
        let credits: Vec<_> = std::iter::from_fn(|| inputs.next(0)).filter_map(|next| next.2).collect();
        assert_eq!(credits, [CreditDue { channel: 0, count: 4 }; 2]);
    }

    #[test]
    fn waiting_watermarks_become_one() {
        let mut inputs = Inputs::new([0], 8, true, MIN_TIMESTAMP);
        for time in 0..1000 {
            inputs.push(0, Element::Watermark(time));
        }
        assert!(matches!(inputs.next(0), Some((0, Element::Watermark(999), None))));
        assert!(inputs.next(0).is_none());
    }
}
