//! The first bytes of a connection, before the actor library has it: each side gives the other a token.

use std::io;
use std::time::Duration;

use hurtig_transport::Stream;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
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
}

impl ClusterBidiStream for Labelled {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let (read, write) = tokio::io::split(self.stream);
        (Box::new(read), Box::new(write))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}
