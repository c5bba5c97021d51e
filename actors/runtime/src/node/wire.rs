//! What goes over a session of the actor library: the two remote messages, and the bytes within.
//!
//! The library decodes only bytes to bytes, which cannot fail; all else is read here, and what cannot be read is a
//! value, never a panic.

use std::fmt;

use bytes::Bytes;
use ractor::RpcReplyPort;
use ractor_cluster::RactorClusterMessage;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The messages of the gate. Every admitted peer can send them, so they say nothing of their sender.
#[derive(RactorClusterMessage)]
pub(super) enum GateMessage {
    /// An [`Envelope`].
    Tell(Vec<u8>),
    /// An [`Envelope`] of [`Kind::Message`], to be answered with an [`Answer`].
    #[rpc]
    Ask(Vec<u8>, RpcReplyPort<Vec<u8>>),
}

/// What a frame of the library holds besides our bytes is less than this.
pub(super) const FRAME_OVERHEAD_BYTES: usize = 1024;

/// Says by which connection a message came. Whoever has it can speak in the name of the peer that it was given to.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Token([u8; Token::BYTES]);

impl Token {
    pub(super) const BYTES: usize = 16;

    /// One that cannot be guessed.
    #[allow(clippy::disallowed_methods, reason = "nobody may be able to guess it")]
    pub(super) fn random() -> Self {
        Token(rand::random())
    }

    pub(super) fn to_bytes(self) -> [u8; Token::BYTES] {
        self.0
    }

    pub(super) fn from_bytes(bytes: [u8; Token::BYTES]) -> Self {
        Token(bytes)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What an envelope is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// For the user of the node.
    Message = 0,
    /// Says that the peer lives.
    Ping = 1,
    /// The peer wants the connection to end; the content says why, as text.
    Bye = 2,
}

/// A message with the token of its connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Envelope {
    pub(super) token: Token,
    pub(super) kind: Kind,
    pub(super) content: Bytes,
}

impl Envelope {
    const HEAD_BYTES: usize = Token::BYTES + 1;

    pub(super) fn write(token: Token, kind: Kind, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(Self::HEAD_BYTES + content.len());
        bytes.extend_from_slice(&token.0);
        bytes.push(kind as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    pub(super) fn read(bytes: Vec<u8>) -> Option<Self> {
        let (head, _) = bytes.split_first_chunk::<{ Self::HEAD_BYTES }>()?;
        let (token, [kind]) = head.split_first_chunk::<{ Token::BYTES }>()? else { return None };
        let kind = [Kind::Message, Kind::Ping, Kind::Bye].into_iter().find(|known| *known as u8 == *kind)?;
        let token = Token(*token);
        Some(Envelope { token, kind, content: Bytes::from(bytes).slice(Self::HEAD_BYTES..) })
    }
}

/// What comes back for an ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// The content is the answer.
    Given = 0,
    /// Whoever was to answer did not.
    Dropped = 1,
    /// The answer is longer than a message may be, or cannot be written.
    Unsendable = 2,
    /// The connection is not known, or is being closed.
    Unknown = 3,
}

impl Answer {
    pub(super) fn write(self, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + content.len());
        bytes.push(self as u8);
        bytes.extend_from_slice(content);
        bytes
    }

    pub(super) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (first, content) = bytes.split_first()?;
        let known = [Answer::Given, Answer::Dropped, Answer::Unsendable, Answer::Unknown];
        Some((known.into_iter().find(|known| *known as u8 == *first)?, content))
    }
}

/// A message that does not hold what was expected.
#[derive(Debug, thiserror::Error)]
#[error("a message of {bytes} bytes is no {expected}: {reason}")]
pub struct DecodeError {
    bytes: usize,
    expected: &'static str,
    reason: String,
}

/// Reads a message that [`Peer::tell`](super::Peer::tell) or [`Peer::ask`](super::Peer::ask) wrote.
///
/// # Errors
/// If it holds anything else; never panics.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    rmp_serde::from_slice(bytes).map_err(|error| DecodeError {
        bytes: bytes.len(),
        expected: std::any::type_name::<T>(),
        reason: error.to_string(),
    })
}

pub(super) fn encode<T: Serialize + ?Sized>(message: &T) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec(message).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_envelope_reads_back_as_written(token in any::<[u8; 16]>(), content in any::<Vec<u8>>()) {
            for kind in [Kind::Message, Kind::Ping, Kind::Bye] {
                let envelope = Envelope::read(Envelope::write(Token(token), kind, &content)).unwrap();
                prop_assert_eq!(envelope, Envelope { token: Token(token), kind, content: content.clone().into() });
            }
        }

        #[test]
        fn any_bytes_are_an_envelope_a_message_an_answer_or_none(bytes in any::<Vec<u8>>()) {
            let _ = decode::<BTreeMap<String, Vec<(u64, Option<String>)>>>(&bytes);
            let _ = Answer::read(&bytes);
            if let Some(envelope) = Envelope::read(bytes.clone()) {
                prop_assert_eq!(Envelope::write(envelope.token, envelope.kind, &envelope.content), bytes);
            }
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        assert_eq!(format!("{:?}", Token::random()), "Token(..)");
    }
}
