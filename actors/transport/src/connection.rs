//! A connection whose peer is proven.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

use crate::error::Error;
use crate::name::Name;
use crate::refusal::Refusal;
use crate::tls::Purpose;

/// Under TLS: see the crate's decisions.
const READ_BUFFER_BYTES: usize = 128 << 10;

/// First byte of the accepting side: the peer is let in.
pub(crate) const WELCOME: u8 = 1;
/// First byte of the accepting side: a process of this name has no business here.
pub(crate) const NOT_ALLOWED: u8 = 2;

/// How the system finds that a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SocketOptions {
    /// Time without traffic before the system asks whether the peer is still there.
    pub keepalive: Duration,
    /// Time for which sent bytes may remain unacknowledged before the connection is given up.
    pub user_timeout: Duration,
}

impl Default for SocketOptions {
    /// 5 s and 10 s.
    fn default() -> Self {
        SocketOptions { keepalive: Duration::from_secs(5), user_timeout: Duration::from_secs(10) }
    }
}

impl SocketOptions {
    /// Applies them to a socket, and that small messages are sent at once.
    ///
    /// # Errors
    /// What the system says.
    pub fn apply(&self, socket: &TcpStream) -> io::Result<()> {
        const PROBES: u32 = 3;
        socket.set_nodelay(true)?;
        let socket = SockRef::from(socket);
        // the system counts in seconds, and takes no zero
        let interval = (self.keepalive / 2).max(Duration::from_secs(1));
        let keepalive = self.keepalive.max(Duration::from_secs(1));
        socket.set_tcp_keepalive(
            &TcpKeepalive::new().with_time(keepalive).with_interval(interval).with_retries(PROBES),
        )?;
        socket.set_tcp_user_timeout(Some(self.user_timeout))
    }
}

/// A connection whose peer has proven its name.
#[derive(Debug)]
pub struct Connection {
    /// Who the peer is, by its certificate.
    pub peer: Name,
    /// What the connection is for.
    pub purpose: Purpose,
    /// Where the peer is.
    pub address: SocketAddr,
    /// The bytes.
    pub stream: Stream,
}

/// An encrypted stream, buffered for reading. Writes are buffered too: flush.
#[derive(Debug)]
pub struct Stream(Box<TlsStream<BufReader<TcpStream>>>);

impl Stream {
    pub(crate) fn new(stream: impl Into<TlsStream<BufReader<TcpStream>>>) -> Self {
        Stream(Box::new(stream.into()))
    }

    /// Who the peer is, by its certificate, which TLS has verified.
    pub(crate) fn peer(&self) -> Result<Name, Error> {
        let certificate = self.0.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let certificate = certificate.ok_or_else(|| Error::certificate("peer", "showed no certificate"))?;
        crate::certificates::CertificateInfo::of_der(certificate, &"peer")?.process()
    }

    /// Which of the purposes was agreed.
    pub(crate) fn purpose(&self, purposes: &[Purpose]) -> Option<Purpose> {
        let protocol = self.0.get_ref().1.alpn_protocol()?;
        purposes.iter().copied().find(|purpose| purpose.as_str().as_bytes() == protocol)
    }

    /// The cipher agreed on, for logs.
    pub fn cipher(&self) -> String {
        let suite = self.0.get_ref().1.negotiated_cipher_suite();
        suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()))
    }
}

pub(crate) fn buffered(socket: TcpStream) -> BufReader<TcpStream> {
    BufReader::with_capacity(READ_BUFFER_BYTES, socket)
}

/// The refusal, and for a log what else is known of it.
pub(crate) type Refused = (Refusal, Option<io::Error>);

pub(crate) fn refused_by_tls(error: io::Error) -> Refused {
    (Refusal::of(&error), Some(error))
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.get_mut().0).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.get_mut().0).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }
}
