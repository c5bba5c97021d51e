//! A link: one connection that carries the frames of many channels, in order within each.
//!
//! One task writes: it takes what waits and sends it in one vectored write. One task reads and hands each frame to
//! the [`LinkHandler`], which must not block: what may be under way on a channel is limited by credits that the
//! layer above grants, so no channel ever waits for another's receiver. A peer that falls silent is noticed by the
//! lack of heartbeats, which are sent when nothing else is.
//!
//! A link ends once. In good order: each side sends what waits, then says `Close`, and the end is
//! [`LinkEnd::Closed`] when both have. Everything else is [`LinkEnd::Broken`], and what was under way may be lost.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::frame::{FLAG_COMPRESSED, FLAG_LINK, Frame, FrameError, Header};

mod counters;
mod reader;
mod writer;

use counters::Counters;
pub use counters::LinkCounts;

/// Kind of the link's own frames: nothing to say but that this side is alive.
const KIND_HEARTBEAT: u8 = 0;
/// Kind of the link's own frames: nothing follows on this direction.
const KIND_CLOSE: u8 = 1;

/// How a link behaves. Both sides should have the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOptions {
    /// The longest payload that is accepted, in bytes, compressed or decompressed.
    pub max_payload_bytes: u32,
    /// A peer of which nothing has come for so long is lost. Heartbeats are sent four times as often.
    pub silence_timeout: Duration,
    /// How long a closing link may take to send what waits and to get the peer's `Close`.
    pub close_timeout: Duration,
    /// The link breaks when more than this waits to be sent, in bytes. Credits keep far below it; it is for a peer
    /// that grants what no memory can hold.
    pub max_queued_bytes: u64,
    /// Payloads of at least this many bytes are compressed if that makes them smaller; none never.
    pub compress_from_bytes: Option<u32>,
}

impl Default for LinkOptions {
    /// Payloads of 4 MiB, silence for 10 s, closing within 10 s, at most 64 MiB waiting, no compression.
    fn default() -> Self {
        LinkOptions {
            max_payload_bytes: 4 << 20,
            silence_timeout: Duration::from_secs(10),
            close_timeout: Duration::from_secs(10),
            max_queued_bytes: 64 << 20,
            compress_from_bytes: None,
        }
    }
}

/// What is told what a link receives. Called by the link's reading task, one call at a time: a call that takes long
/// holds up all channels.
pub trait LinkHandler: Send + 'static {
    /// A frame has come.
    ///
    /// # Errors
    /// A [`Violation`] breaks the link: the peer has sent what it may not, for instance without credit.
    fn on_frame(&mut self, frame: Frame) -> Result<(), Violation>;

    /// The link has ended; the last call. Not made when the [`Link`] is dropped.
    fn on_end(&mut self, end: LinkEnd);
}

/// What the peer has done that it may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// How a link has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkEnd {
    /// In good order: all that either side had sent has come.
    #[error("closed")]
    Closed,
    /// The connection failed, or the peer ended it without saying so.
    #[error("the connection failed: {0}")]
    Broken(#[source] std::io::Error),
    /// Nothing has come, or nothing could be sent, for [`LinkOptions::silence_timeout`].
    #[error("the peer has been silent for {} ms", .0.as_millis())]
    Silent(Duration),
    /// A side that was to close did not within [`LinkOptions::close_timeout`].
    #[error("closing took longer than {} ms", .0.as_millis())]
    CloseTimedOut(Duration),
    /// What came is no frame.
    #[error(transparent)]
    Malformed(#[from] FrameError),
    /// The peer did what it may not.
    #[error("the peer broke the protocol: {0}")]
    Violation(#[from] Violation),
    /// More waited to be sent than [`LinkOptions::max_queued_bytes`].
    #[error("{0} bytes waited to be sent")]
    QueueOverflow(u64),
}

/// What a link says, for those who would rather receive than be called: any sender of an unbounded channel of these
/// is a [`LinkHandler`].
#[derive(Debug)]
pub enum LinkEvent {
    /// A frame has come.
    Frame(Frame),
    /// The link has ended.
    End(LinkEnd),
}

impl LinkHandler for mpsc::UnboundedSender<LinkEvent> {
    fn on_frame(&mut self, frame: Frame) -> Result<(), Violation> {
        // without a receiver there is nobody left to tell
        let _ = self.send(LinkEvent::Frame(frame));
        Ok(())
    }

    fn on_end(&mut self, end: LinkEnd) {
        let _ = self.send(LinkEvent::End(end));
    }
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The link has ended or is closing; the handler learns why.
    #[error("the link has ended or is closing")]
    Closed,
    /// The peer would refuse so long a frame and break the link: split it.
    #[error("a payload of {length} bytes is over the link's limit of {limit}")]
    TooLong {
        /// Of the payload, in bytes.
        length: usize,
        /// [`LinkOptions::max_payload_bytes`].
        limit: u32,
    },
}

/// What the writing task is given.
#[derive(Debug)]
enum Outgoing {
    Frame(Header, Bytes),
    Close,
}

/// Owns a link's tasks: dropped, it cuts the connection without a word.
#[derive(Debug)]
pub struct Link {
    sender: LinkSender,
    tasks: JoinSet<()>,
}

impl Link {
    /// Starts a link on a connected stream, which should be buffered for reading. Must be called within a tokio
    /// runtime.
    pub fn start<S, H>(stream: S, options: LinkOptions, handler: H) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
        H: LinkHandler,
    {
        let (queue, waiting) = mpsc::unbounded_channel();
        let counters = Arc::new(Counters::default());
        let sender = LinkSender { queue, counters, options: Arc::new(options) };
        let (read, write) = tokio::io::split(stream);
        let mut tasks = JoinSet::new();
        tasks.spawn(reader::run(read, write, waiting, sender.clone(), handler));
        Link { sender, tasks }
    }

    /// Sends on this link.
    pub fn sender(&self) -> &LinkSender {
        &self.sender
    }

    /// Closes the link in good order; the handler is told when it has ended. Returns at once.
    pub fn close(&self) {
        self.sender.close();
    }

    /// Waits until the link has ended and the handler was told.
    pub async fn ended(&mut self) {
        // a panic of the handler was reported by the panic hook; the link has ended all the same
        while self.tasks.join_next().await.is_some() {}
    }
}

/// Sends frames on a link; clones send on the same one.
#[derive(Debug, Clone)]
pub struct LinkSender {
    queue: mpsc::UnboundedSender<Outgoing>,
    counters: Arc<Counters>,
    options: Arc<LinkOptions>,
}

impl LinkSender {
    /// Queues a frame. Frames of one channel arrive in the order in which they were queued. Never waits.
    ///
    /// # Errors
    /// [`SendError`] if the link has ended or was told to close, or the payload is too long. No error does not mean
    /// that the frame arrives.
    pub fn send(&self, channel: u32, kind: u8, payload: Bytes) -> Result<(), SendError> {
        let limit = self.options.max_payload_bytes;
        if payload.len() > limit as usize {
            return Err(SendError::TooLong { length: payload.len(), limit });
        }
        let smaller = match self.options.compress_from_bytes {
            Some(least) if payload.len() >= least as usize => crate::frame::compress(&payload),
            _ => None,
        };
        let (payload, flags) = smaller.map_or((payload, 0), |smaller| (smaller, FLAG_COMPRESSED));
        // the limit is a u32
        let header = Header { length: payload.len() as u32, channel, kind, flags };
        if self.counters.is_closing() {
            return Err(SendError::Closed);
        }
        self.counters.queue(payload.len());
        if self.counters.queued_bytes() > self.options.max_queued_bytes {
            // seen here, because the writing task may be waiting for a peer that does not read
            self.counters.begin_closing();
            self.counters.report_overflow();
            return Err(SendError::Closed);
        }
        self.queue.send(Outgoing::Frame(header, payload)).map_err(|_| SendError::Closed)
    }

    /// Closes the link in good order: what was queued is sent, nothing more is taken. Returns at once.
    pub fn close(&self) {
        if !self.counters.begin_closing() {
            // the writing task is gone only if the link has ended
            let _ = self.queue.send(Outgoing::Close);
        }
    }

    /// What has gone through the link so far.
    pub fn counts(&self) -> LinkCounts {
        self.counters.read()
    }
}

const fn own_header(kind: u8) -> Header {
    Header { length: 0, channel: 0, kind, flags: FLAG_LINK }
}
