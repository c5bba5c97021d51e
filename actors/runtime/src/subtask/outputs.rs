//! The output channels of a subtask: partitioners, batches being gathered, credit. Plain data; sending is the
//! caller's.

use hurtig_dataflow::batch::AnyBatch;
use hurtig_dataflow::chain::EdgeOutput;
use hurtig_dataflow::element::Element;
use hurtig_dataflow::error::OpResult;
use hurtig_dataflow::ids::CheckpointId;
use hurtig_dataflow::partition::{Partitioner, Pattern};
use hurtig_dataflow::time::Timestamp;
use std::collections::VecDeque;

/// One outgoing edge.
struct Edge {
    partitioner: Box<dyn Partitioner>,
    may_be_overtaken: bool,
    first: usize,
    channels: usize,
    records: u64,
}

struct Channel {
    credits: u32,
    pending: VecDeque<Element>,
}

impl Channel {
    /// Where a checkpoint's barrier waits.
    fn barrier(&self, checkpoint: CheckpointId) -> Option<usize> {
        let is_it =
            |element: &Element| matches!(element, Element::Barrier(it) if it.checkpoint == checkpoint);
        self.pending.iter().position(is_it)
    }
}

/// The output channels of a subtask.
pub struct Outputs {
    edges: Vec<Edge>,
    channels: Vec<Channel>,
    window: u32,
    batch_size: usize,
    waiting: usize,
    batches: u64,
    gathering_since: Option<Timestamp>,
    /// Time for `gathering_since`; set by the caller before each step.
    pub now: Timestamp,
}

impl Outputs {
    /// Outputs over edges given by the way of records, their partitioner and number of channels; every channel starts with
    /// `credits`.
    pub fn new(edges: Vec<(Pattern, Box<dyn Partitioner>, usize)>, credits: u32, batch_size: usize) -> Self {
        let mut first = 0;
        let edges: Vec<_> = edges
            .into_iter()
            .map(|(pattern, partitioner, channels)| {
                first += channels;
                let may_be_overtaken = pattern.may_be_overtaken();
                Edge { partitioner, may_be_overtaken, first: first - channels, channels, records: 0 }
            })
            .collect();
        let channels = (0..first).map(|_| Channel { credits, pending: VecDeque::new() }).collect();
        Outputs {
            edges,
            channels,
            window: credits,
            batch_size,
            waiting: 0,
            batches: 0,
            gathering_since: None,
            now: 0,
        }
    }

    /// The receiver of a channel allows more.
    ///
    /// # Errors
    /// It allows more than may be under way on a channel.
    pub fn add_credit(&mut self, channel: usize, count: u32) -> Result<(), String> {
        let Channel { credits, .. } = &mut self.channels[channel];
        let allowed = credits.checked_add(count).filter(|allowed| *allowed <= self.window);
        *credits = allowed.ok_or_else(|| {
            format!("credit for {count} batches more than {credits} where {} may be under way", self.window)
        })?;
        Ok(())
    }

    /// Whether something waits for credit: no more work until it has gone.
    pub fn is_blocked(&self) -> bool {
        self.waiting > 0
    }

    /// Number of elements that wait for credit.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Records written over each edge.
    pub fn edge_records(&self) -> impl Iterator<Item = u64> + '_ {
        self.edges.iter().map(|edge| edge.records)
    }

    /// Batches sent.
    pub fn batches(&self) -> u64 {
        self.batches
    }

    /// Whether a checkpoint's barrier waits on a channel where it may overtake what is before it.
    pub fn is_barrier_waiting(&self, checkpoint: CheckpointId) -> bool {
        let edges = self.edges.iter().filter(|edge| edge.may_be_overtaken);
        let mut channels = edges.flat_map(|edge| &self.channels[edge.first..edge.first + edge.channels]);
        self.waiting > 0 && channels.any(|channel| channel.barrier(checkpoint).is_some())
    }

    /// Lets a checkpoint's barrier overtake the batches that wait for credit before it. Returns those, with their
    /// channels.
    pub fn overtake(&mut self, checkpoint: CheckpointId) -> Vec<(usize, AnyBatch)> {
        let mut overtaken = Vec::new();
        for edge in self.edges.iter().filter(|edge| edge.may_be_overtaken) {
            for at in edge.first..edge.first + edge.channels {
                let channel = &mut self.channels[at];
                let found = channel
                    .barrier(checkpoint)
                    .and_then(|place| channel.pending.remove(place).zip(Some(place)));
                let Some((Element::Barrier(mut barrier), place)) = found else { continue };
                let before = channel.pending.iter().take(place);
                overtaken.extend(before.filter_map(|element| match element {
                    Element::Batch(batch) => Some((at, batch.duplicate())),
                    _ => None,
                }));
                barrier.overtakes = true;
                channel.pending.push_front(Element::Barrier(barrier));
            }
        }
        overtaken
    }

    /// Since when records wait for their batch to fill.
    pub fn gathering_since(&self) -> Option<Timestamp> {
        self.gathering_since
    }

    /// Closes the batches of all channels that have credit.
    pub fn flush(&mut self) {
        if self.gathering_since.is_none() {
            return;
        }
        let mut left = false;
        for edge in &mut self.edges {
            for at in 0..edge.channels {
                let channel = &mut self.channels[edge.first + at];
                if edge.partitioner.gathered(at) == 0 {
                    continue;
                }
                if channel.credits as usize <= channel.pending.len() {
                    left = true;
                } else if let Some(batch) = edge.partitioner.take(at) {
                    channel.pending.push_back(Element::Batch(batch));
                    self.waiting += 1;
                }
            }
        }
        if !left {
            self.gathering_since = None;
        }
    }

    /// Sends what credit allows.
    ///
    /// # Errors
    /// The first of `send`.
    pub fn drain<E>(&mut self, mut send: impl FnMut(usize, Element) -> Result<(), E>) -> Result<(), E> {
        if self.waiting == 0 {
            return Ok(());
        }
        for (at, channel) in self.channels.iter_mut().enumerate() {
            while let Some(front) = channel.pending.front() {
                if matches!(front, Element::Batch(_)) {
                    if channel.credits == 0 {
                        break;
                    }
                    channel.credits -= 1;
                    self.batches += 1;
                }
                if let Some(element) = channel.pending.pop_front() {
                    self.waiting -= 1;
                    send(at, element)?;
                }
            }
        }
        Ok(())
    }
}

impl EdgeOutput for Outputs {
    fn send(&mut self, edge: usize, element: Element) -> OpResult {
        let edge = &mut self.edges[edge];
        match element {
            Element::Batch(batch) => {
                edge.records += batch.len() as u64;
                edge.partitioner.add(batch)?;
                for at in 0..edge.channels {
                    if edge.partitioner.gathered(at) >= self.batch_size
                        && let Some(batch) = edge.partitioner.take(at)
                    {
                        self.channels[edge.first + at].pending.push_back(Element::Batch(batch));
                        self.waiting += 1;
                    }
                }
                self.gathering_since = self.gathering_since.or(Some(self.now));
            }
            control => {
                for at in 0..edge.channels {
                    let pending = &mut self.channels[edge.first + at].pending;
                    if let Some(batch) = edge.partitioner.take(at) {
                        pending.push_back(Element::Batch(batch));
                        self.waiting += 1;
                    }
                    if let (Some(Element::Watermark(last)), Element::Watermark(time)) =
                        (pending.back_mut(), &control)
                    {
                        *last = *time;
                        continue;
                    }
                    pending.push_back(control.duplicate());
                    self.waiting += 1;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::batch::Rows;
    use hurtig_dataflow::partition::{PartitionerPlace, Partitioning};

    fn outputs(channels: usize, credits: u32) -> Outputs {
        let place = PartitionerPlace { subtask: 0, channels, max_parallelism: 128 };
        let partitioner = (Partitioning::rebalance::<u64>().factory)(place);
        Outputs::new(vec![(Pattern::Rebalance, partitioner, channels)], credits, 4)
    }

    fn drain(outputs: &mut Outputs, mut send: impl FnMut(usize, Element)) {
        let sent: Result<(), std::convert::Infallible> = outputs.drain(|at, element| {
            send(at, element);
            Ok(())
        });
        sent.unwrap();
    }

    fn batch(records: std::ops::Range<u64>) -> Element {
        Element::Batch(Box::new(Rows::untimed(records.collect())))
    }

    #[test]
    fn a_sender_without_credit_waits_and_goes_on_where_it_stopped() {
        let mut outputs = outputs(1, 2);
        for _ in 0..4 {
            outputs.send(0, batch(0..4)).unwrap();
        }
        outputs.send(0, Element::End).unwrap();
        let mut sent = Vec::new();
        drain(&mut outputs, |_, element| sent.push(format!("{element:?}")));
        assert_eq!((sent.len(), outputs.is_blocked()), (2, true));
        outputs.add_credit(0, 2).unwrap();
        drain(&mut outputs, |_, element| sent.push(format!("{element:?}")));
        assert_eq!(sent[2..], ["Batch(4 records)", "Batch(4 records)", "End"]);
        assert!(!outputs.is_blocked());
    }

    #[test]
    fn more_credit_than_may_be_under_way_is_refused() {
        let mut outputs = outputs(1, 2);
        for count in [1, u32::MAX] {
            assert!(outputs.add_credit(0, count).is_err());
        }
        outputs.send(0, batch(0..4)).unwrap();
        drain(&mut outputs, |_, _| ());
        assert!(outputs.add_credit(0, 2).is_err());
        outputs.add_credit(0, 1).unwrap();
    }

    #[test]
    fn records_gather_until_the_batch_is_full_or_flushed_and_never_fall_behind_a_barrier() {
        let mut outputs = outputs(2, 8);
        outputs.send(0, batch(0..3)).unwrap();
        assert!(!outputs.is_blocked() && outputs.gathering_since().is_some());
        outputs.send(0, Element::Watermark(7)).unwrap();
        let mut sent = Vec::new();
        drain(&mut outputs, |channel, element| sent.push((channel, format!("{element:?}"))));
        assert_eq!(
            sent,
            [
                (0, "Batch(2 records)".to_string()),
                (0, "Watermark(7)".to_string()),
                (1, "Batch(1 records)".to_string()),
                (1, "Watermark(7)".to_string()),
            ]
        );
    }
}
