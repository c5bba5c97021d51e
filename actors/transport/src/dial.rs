//! Connecting to a peer.

use std::io;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::connection::{
    Connection, NOT_ALLOWED, Refused, SocketOptions, Stream, WELCOME, buffered, refused_by_tls,
};
use crate::error::Error;
use crate::name::Peer;
use crate::refusal::Refusal;
use crate::tls::{Purpose, Tls};

/// How long to try, and how to find that the peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DialOptions {
    /// For the TCP connection, with the look-up of the host.
    pub connect_timeout: Duration,
    /// For all that follows until the peer has let this side in.
    pub handshake_timeout: Duration,
    /// How to find that the peer is gone.
    pub socket: SocketOptions,
}

impl Default for DialOptions {
    /// 3 s for each.
    fn default() -> Self {
        let timeout = Duration::from_secs(3);
        DialOptions { connect_timeout: timeout, handshake_timeout: timeout, socket: SocketOptions::default() }
    }
}

/// Connects to `peer` at `address`, a `host:port`. When it returns a connection, each side has accepted the other.
///
/// # Errors
/// [`Error::Connect`] if the peer cannot be reached, [`Error::Handshake`] if the two do not accept each other. Both
/// may pass: the caller tries again after a while.
pub async fn dial(
    tls: &Tls,
    address: &str,
    peer: &Peer,
    purpose: Purpose,
    options: &DialOptions,
) -> Result<Connection, Error> {
    let unreached = |source| Error::Connect { peer: peer.to_string(), address: address.to_owned(), source };
    let connect = timeout(options.connect_timeout, TcpStream::connect(address));
    let socket = connect.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(unreached)?;
    let from = socket.peer_addr().map_err(unreached)?;
    options.socket.apply(&socket).map_err(unreached)?;
    let handshake = timeout(options.handshake_timeout, shake_hands(tls, socket, peer, purpose));
    let connected = handshake.await.unwrap_or(Err((Refusal::TimedOut, None)));
    let (stream, name) = connected.map_err(|(refusal, source)| Error::Handshake {
        peer: peer.to_string(),
        address: address.to_owned(),
        refusal,
        source,
    })?;
    Ok(Connection { peer: name, purpose, address: from, stream })
}

async fn shake_hands(
    tls: &Tls,
    socket: TcpStream,
    peer: &Peer,
    purpose: Purpose,
) -> Result<(Stream, crate::name::Name), Refused> {
    let name = ServerName::try_from(peer.dns_name()).map_err(|_| (Refusal::WrongName, None))?;
    let connector = TlsConnector::from(tls.client(purpose));
    let mut stream = Stream::new(connector.connect(name, buffered(socket)).await.map_err(refused_by_tls)?);
    let name = stream.peer().map_err(|error| (Refusal::NoName, Some(io::Error::other(error))))?;
    if !peer.is(&name) {
        return Err((Refusal::WrongName, None));
    }
    if stream.purpose(&[purpose]).is_none() {
        return Err((Refusal::WrongPurpose, None));
    }
    match stream.read_u8().await.map_err(refused_by_tls)? {
        WELCOME => Ok((stream, name)),
        NOT_ALLOWED => Err((Refusal::NotAllowed, None)),
        _ => Err((Refusal::Other, None)),
    }
}
