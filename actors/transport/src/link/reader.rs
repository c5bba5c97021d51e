//! The reading half of a link, which also owns the writing half: when either fails, both end, and the handler is
//! told once.

use std::io;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::select;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::{KIND_CLOSE, KIND_HEARTBEAT, LinkEnd, LinkHandler, LinkSender, Outgoing, Violation, writer};
use crate::frame::{Decoder, FLAG_LINK};

pub(super) async fn run<R, W, H>(
    read: R,
    write: W,
    waiting: mpsc::UnboundedReceiver<Outgoing>,
    sender: LinkSender,
    mut handler: H,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin + Send + 'static,
    H: LinkHandler,
{
    let mut writing = JoinSet::new();
    writing.spawn(writer::run(write, waiting, sender.clone()));
    let mut reader = Reader {
        read,
        decoder: Decoder::new(sender.options.max_payload_bytes),
        progress: Progress::Open,
        sender,
    };
    let end = match reader.run(&mut writing, &mut handler).await {
        Ok(()) => LinkEnd::Closed,
        Err(end) => end,
    };
    reader.sender.counters.begin_closing();
    // both halves go, and with them the socket, before the handler may open another
    writing.shutdown().await;
    drop(reader);
    handler.on_end(end);
}

/// How far the peer's direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    Open,
    /// It has said `Close`. The end of the stream is still waited for: a socket closed with bytes unread resets the
    /// connection, and would take with it what this side has sent last.
    Closed,
    Ended,
}

struct Reader<R> {
    read: R,
    decoder: Decoder,
    progress: Progress,
    sender: LinkSender,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    async fn run(
        &mut self,
        writing: &mut JoinSet<Result<(), LinkEnd>>,
        handler: &mut impl LinkHandler,
    ) -> Result<(), LinkEnd> {
        let silence = self.sender.options.silence_timeout;
        let close_timeout = self.sender.options.close_timeout;
        let mut close_deadline = None;
        while self.progress != Progress::Ended || close_deadline.is_none() {
            let silent_at = Instant::now() + silence;
            let deadline = close_deadline.map_or(silent_at, |close: Instant| close.min(silent_at));
            let mut overdue = LinkEnd::Silent(silence);
            if deadline != silent_at {
                overdue = LinkEnd::CloseTimedOut(close_timeout);
            }
            select! {
                read = timeout_at(deadline, self.decoder.fill(&mut self.read)), if self.progress != Progress::Ended => {
                    self.on_read(read.map_err(|_| overdue)?, handler)?;
                }
                queued = self.sender.counters.overflow() => return Err(LinkEnd::QueueOverflow(queued)),
                Some(written) = writing.join_next() => {
                    // a panic of the writing task would be a defect of ours: it ends the link, not the process
                    written.unwrap_or_else(|panic| Err(LinkEnd::Broken(io::Error::other(panic))))?;
                    close_deadline = Some(Instant::now() + close_timeout);
                }
            }
        }
        Ok(())
    }

    fn on_read(&mut self, read: io::Result<usize>, handler: &mut impl LinkHandler) -> Result<(), LinkEnd> {
        match (read, self.progress) {
            (Ok(0) | Err(_), Progress::Closed) => self.progress = Progress::Ended,
            (Ok(0), _) => return Err(LinkEnd::Broken(io::ErrorKind::UnexpectedEof.into())),
            (Err(error), _) => return Err(LinkEnd::Broken(error)),
            (Ok(_), _) => {}
        }
        while let Some((header, frame)) = self.decoder.advance()? {
            if self.progress != Progress::Open {
                return Err(Violation("a frame after the last one".to_owned()).into());
            }
            match (header.flags & FLAG_LINK != 0, header.kind) {
                (false, _) => {
                    self.sender.counters.received(header.length);
                    handler.on_frame(frame)?;
                }
                (true, KIND_HEARTBEAT) => {}
                (true, KIND_CLOSE) => {
                    self.progress = Progress::Closed;
                    self.sender.close();
                }
                (true, kind) => return Err(Violation(format!("a frame of the link of kind {kind}")).into()),
            }
        }
        Ok(())
    }
}
