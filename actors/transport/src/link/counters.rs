//! What a link counts. Read from anywhere, written by the sender and the two tasks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::frame::HEADER_BYTES;

/// What has gone through a link.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Frames handed to the connection, without the link's own.
    pub sent_frames: u64,
    /// Their bytes with headers, before encryption.
    pub sent_bytes: u64,
    /// Frames handed to the handler.
    pub received_frames: u64,
    /// Their bytes with headers, as they were sent.
    pub received_bytes: u64,
    /// Bytes that wait to be sent, with headers.
    pub queued_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    queued_bytes_in_all: AtomicU64,
    sent_frames: AtomicU64,
    sent_bytes: AtomicU64,
    received_frames: AtomicU64,
    received_bytes: AtomicU64,
    closing: AtomicBool,
    /// Tells the reading task, which ends the link, that too much waits.
    overflow: Notify,
}

impl Counters {
    pub(super) fn queue(&self, payload_bytes: usize) {
        self.queued_bytes_in_all.fetch_add((HEADER_BYTES + payload_bytes) as u64, Relaxed);
    }

    pub(super) fn sent(&self, frames: u64, bytes: u64) {
        self.sent_frames.fetch_add(frames, Relaxed);
        self.sent_bytes.fetch_add(bytes, Relaxed);
    }

    pub(super) fn received(&self, payload_bytes: u32) {
        self.received_frames.fetch_add(1, Relaxed);
        self.received_bytes.fetch_add(HEADER_BYTES as u64 + u64::from(payload_bytes), Relaxed);
    }

    pub(super) fn report_overflow(&self) {
        self.overflow.notify_one();
    }

    pub(super) async fn overflow(&self) -> u64 {
        self.overflow.notified().await;
        self.queued_bytes()
    }

    /// Whether it had begun before.
    pub(super) fn begin_closing(&self) -> bool {
        self.closing.swap(true, Relaxed)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Relaxed)
    }

    pub(super) fn queued_bytes(&self) -> u64 {
        // sent is read first: it never overtakes what was queued
        let sent = self.sent_bytes.load(Relaxed);
        self.queued_bytes_in_all.load(Relaxed).saturating_sub(sent)
    }

    pub(super) fn read(&self) -> LinkCounts {
        LinkCounts {
            sent_frames: self.sent_frames.load(Relaxed),
            sent_bytes: self.sent_bytes.load(Relaxed),
            received_frames: self.received_frames.load(Relaxed),
            received_bytes: self.received_bytes.load(Relaxed),
            queued_bytes: self.queued_bytes(),
        }
    }
}
