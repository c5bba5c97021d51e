//! Encrypted connections between hurtig's processes: certificates, mutual TLS, frames, and links that carry many
//! channels. Knows nothing of jobs, actors or records.
//!
//! Entry points, from the bottom up: an [`Authority`] issues an [`Identity`] to each process; [`Tls`] makes of it
//! what rustls needs and follows its files; a [`Listener`] and [`dial()`] yield a [`Connection`], whose peer is
//! proven; [`Link::start`] puts frames of many channels on it. A [`Connection`]'s stream is an ordinary
//! `AsyncRead + AsyncWrite`, so another protocol can run on it as well.
//!
//! # Invariants
//! * There is no way to a [`Connection`] past mutual TLS 1.3: no setting, no fall-back.
//! * What a peer sends is bounded before memory is allocated for it, and memory grows only with what has arrived.
//! * A peer that has proven nothing holds a socket for at most the handshake time-out, and one of a bounded number.
//! * A link never waits for its receiver: what may be under way is the business of the credits a layer above.
//! * No private key appears in an error, a log line or `Debug` output.
//!
//! # Decisions
//! * 2026-11: a peer's name is a DNS name in its certificate, not a URI: rustls checks DNS names and addresses only,
//!   and what the library checks need not be checked by hand.
//! * 2026-11: TLS reads from a `BufReader` of 128 KiB: rustls asks a socket for 4 KiB at a time while it has nothing,
//!   which costs 18 % of the throughput of 64 KiB frames (1.39 against 1.64 GB/s).
//! * 2026-11: no session resumption: connections live long, and a resumed session skips the certificate check.
//! * 2026-11: an accepting side says one byte when the peer is let in. In TLS 1.3 a client is done before the server
//!   has judged it; without that byte a refusal would look like a connection lost later.

pub mod certificates;
pub mod dial;
pub mod error;
pub mod frame;
pub mod https;
pub mod link;
pub mod listener;
pub mod name;
pub mod tls;

mod admission;
mod connection;
mod refusal;

pub use certificates::{Authority, CertificateInfo, Identity, Validity};
pub use connection::{Connection, SocketOptions, Stream};
pub use dial::{DialOptions, dial};
pub use error::{Error, ErrorKind};
pub use frame::Frame;
pub use https::{Https, HttpsStream};
pub use link::{Link, LinkEnd, LinkEvent, LinkHandler, LinkOptions, LinkSender, Violation};
pub use listener::{Listener, ListenerOptions};
pub use name::{Name, Peer, Role};
pub use refusal::Refusal;
pub use tls::{Purpose, Tls};
