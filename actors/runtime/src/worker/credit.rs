//! What may be under way on the channels of a link, counted where its frames come in: what a peer sends beyond that is
//! refused before it takes memory. Plain data, shared by the link and the subtask at its end.

use bytes::Bytes;
use hurtig_dataflow::wire::element;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The longest element that is no batch, in bytes: a barrier may hold where its savepoint goes.
const MAX_CONTROL_BYTES: usize = 64 << 10;

/// Memory that elements without credit may take on a channel before the subtask has seen them, in bytes. A sender
/// whose batches are all empty sends nothing but watermarks, and may be far ahead of a receiver that is at work.
const MAX_CONTROLS_BYTES: u32 = 16 << 20;

/// What such an element takes besides its own bytes.
const CONTROL_OVERHEAD_BYTES: usize = 128;

/// A number of which one side takes what the other has given.
#[derive(Debug)]
pub struct Credit(AtomicU32);

impl Credit {
    /// With so much to begin with.
    pub fn new(count: u32) -> Self {
        Credit(AtomicU32::new(count))
    }

    /// Adds to it.
    pub fn give(&self, count: u32) {
        self.0.fetch_add(count, Relaxed);
    }

    /// Takes so much, if there is as much.
    pub fn take(&self, count: u32) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(count)).is_ok()
    }
}

/// What may come on an input channel.
#[derive(Debug)]
pub struct InputCredit {
    /// Batches that the sender may send.
    pub batches: Credit,
    controls: Credit,
}

impl InputCredit {
    /// Of a channel on which `window` batches may be under way.
    pub fn new(window: u32) -> Self {
        InputCredit { batches: Credit::new(window), controls: Credit::new(MAX_CONTROLS_BYTES) }
    }

    /// Whether an element may come now; if so it counts from here on.
    pub fn admit(&self, bytes: &Bytes) -> bool {
        match control_bytes(bytes) {
            None => self.batches.take(1),
            Some(counted) => bytes.len() <= MAX_CONTROL_BYTES && self.controls.take(counted),
        }
    }

    /// The subtask has seen an element that was admitted.
    pub fn on_seen(&self, bytes: &Bytes) {
        if let Some(counted) = control_bytes(bytes) {
            self.controls.give(counted);
        }
    }
}

/// For how much an element counts that is no batch.
fn control_bytes(bytes: &Bytes) -> Option<u32> {
    let counted = || u32::try_from(bytes.len() + CONTROL_OVERHEAD_BYTES).unwrap_or(u32::MAX);
    (!element::is_batch(bytes)).then(counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_on_credit_only() {
        let (credit, batch) = (InputCredit::new(2), Bytes::from_static(&[0, 1, 2]));
        assert_eq!([(); 3].map(|()| credit.admit(&batch)), [true, true, false]);
        credit.on_seen(&batch);
        assert!(!credit.admit(&batch), "seen is not taken");
        credit.batches.give(1);
        assert_eq!([(); 2].map(|()| credit.admit(&batch)), [true, false]);
    }

    #[test]
    fn other_elements_come_as_long_as_the_subtask_sees_them() {
        let (credit, watermark) = (InputCredit::new(0), Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0, 0]));
        let admitted = (0..1 << 20).take_while(|_| credit.admit(&watermark)).count();
        assert_eq!(admitted, (MAX_CONTROLS_BYTES as usize) / (watermark.len() + CONTROL_OVERHEAD_BYTES));
        credit.on_seen(&watermark);
        assert_eq!([(); 2].map(|()| credit.admit(&watermark)), [true, false]);
        let long = Bytes::from(vec![2; MAX_CONTROL_BYTES + 1]);
        assert!(!InputCredit::new(0).admit(&long));
    }
}
