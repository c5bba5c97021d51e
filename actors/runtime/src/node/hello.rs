//! The first bytes of a connection, before the actor library has it: each side gives the other a token. After that the
//! stream only counts what comes.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hurtig_transport::Stream;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf, ReadHalf};
use tokio::time::timeout;

use super::wire::Token;

/// The tokens of one connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tokens {
    /// Given to the peer: what comes with it is the peer's.
    pub(super) issued: Token,
    /// From the peer: what is sent to it carries this.
    pub(super) received: Token,
}

/// Gives the peer a token and takes its.
pub(super) async fn exchange(stream: &mut Stream, limit: Duration) -> io::Result<Tokens> {
    let issued = Token::random();
    let both = async {
        stream.write_all(&issued.to_bytes()).await?;
        stream.flush().await?;
        let mut received = [0; Token::BYTES];
        stream.read_exact(&mut received).await?;
        Ok(Tokens { issued, received: Token::from_bytes(received) })
    };
    timeout(limit, both).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// A connection as the actor library takes it. The label comes back with the session's events.
pub(super) struct Labelled {
    pub(super) stream: Stream,
    pub(super) label: String,
    /// Bytes that came.
    pub(super) heard: Arc<AtomicU64>,
}

impl ClusterBidiStream for Labelled {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        (Box::new(Counted { read, heard: self.heard }), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

/// What comes, and how much.
struct Counted {
    read: ReadHalf<Stream>,
    heard: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.read).poll_read(cx, buffer))?;
        self.heard.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        Poll::Ready(Ok(()))
    }
}
