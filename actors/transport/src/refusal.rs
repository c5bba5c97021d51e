//! Why two processes did not come together, in words that name the remedy, and a log that a flood cannot fill.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::{AlertDescription, CertificateError};
use tokio::time::Instant;

/// Time between two log lines about the same refusal.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Why a connection was refused, by this side or by the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The handshake was not done in time.
    TimedOut,
    /// Dropped in favour of others: too many had not proven who they are.
    Crowded,
    /// The other side ended the connection within the handshake.
    Ended,
    /// What came is not TLS.
    NotTls,
    /// Another version of TLS than 1.3, or no cipher in common.
    Incompatible,
    /// No certificate was shown.
    NoCertificate,
    /// The certificate is of another authority.
    UnknownAuthority,
    /// The certificate's time is over, or has not begun.
    Expired,
    /// The certificate is not for the wanted peer.
    WrongName,
    /// The certificate does not hold exactly one name of a hurtig process.
    NoName,
    /// The peer's name is good, but it has no business here.
    NotAllowed,
    /// The connection's purpose is not offered here.
    WrongPurpose,
    /// The certificate is wrong in another way.
    BadCertificate,
    /// Anything else.
    Other,
}

impl Refusal {
    const COUNT: usize = Refusal::Other as usize + 1;

    /// Of an error in a handshake: what this side found, or what the other side's alert says.
    pub(crate) fn of(error: &io::Error) -> Self {
        let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
            return match error.kind() {
                io::ErrorKind::TimedOut => Refusal::TimedOut,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Refusal::Ended,
                _ => Refusal::Other,
            };
        };
        match tls {
            rustls::Error::InvalidMessage(_)
            | rustls::Error::InappropriateMessage { .. }
            | rustls::Error::InappropriateHandshakeMessage { .. } => Refusal::NotTls,
            rustls::Error::PeerIncompatible(_) => Refusal::Incompatible,
            rustls::Error::NoCertificatesPresented => Refusal::NoCertificate,
            rustls::Error::NoApplicationProtocol => Refusal::WrongPurpose,
            rustls::Error::InvalidCertificate(error) => match error {
                CertificateError::Expired
                | CertificateError::ExpiredContext { .. }
                | CertificateError::NotValidYet
                | CertificateError::NotValidYetContext { .. } => Refusal::Expired,
                CertificateError::UnknownIssuer | CertificateError::BadSignature => Refusal::UnknownAuthority,
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                    Refusal::WrongName
                }
                _ => Refusal::BadCertificate,
            },
            rustls::Error::AlertReceived(alert) => match alert {
                AlertDescription::CertificateRequired => Refusal::NoCertificate,
                AlertDescription::UnknownCA | AlertDescription::DecryptError => Refusal::UnknownAuthority,
                AlertDescription::CertificateExpired => Refusal::Expired,
                AlertDescription::NoApplicationProtocol => Refusal::WrongPurpose,
                AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
                    Refusal::Incompatible
                }
                AlertDescription::BadCertificate
                | AlertDescription::UnsupportedCertificate
                | AlertDescription::CertificateUnknown
                | AlertDescription::CertificateRevoked => Refusal::BadCertificate,
                _ => Refusal::Other,
            },
            _ => Refusal::Other,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::TimedOut => "the handshake was not done in time",
            Refusal::Crowded => "too many connections have not proven who they are",
            Refusal::Ended => "the other side ended the connection within the handshake",
            Refusal::NotTls => "what came is not TLS: is another program at this address?",
            Refusal::Incompatible => "no version of TLS in common: hurtig speaks 1.3 only",
            Refusal::NoCertificate => "no certificate was shown: every process of the cluster needs one",
            Refusal::UnknownAuthority => "the certificate is of another authority than this cluster's",
            Refusal::Expired => {
                "the certificate has expired or is not valid yet: renew it, or check the machines' clocks"
            }
            Refusal::WrongName => "the certificate is another process's: is the address right?",
            Refusal::NoName => "the certificate does not hold exactly one name of a hurtig process",
            Refusal::NotAllowed => "a process of this name has no business there",
            Refusal::WrongPurpose => "that side does not offer what the connection is for",
            Refusal::BadCertificate => "the certificate is not acceptable",
            Refusal::Other => "the handshake failed",
        })
    }
}

/// Counts refusals and logs of each kind one line a second at most, telling how many it left out.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    kinds: Mutex<[Kind; Refusal::COUNT]>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Kind {
    total: u64,
    left_out: u64,
    logged_at: Option<Instant>,
}

impl RefusalLog {
    pub(crate) fn record(&self, refusal: Refusal, from: Option<SocketAddr>, detail: &dyn fmt::Display) {
        let now = Instant::now();
        let left_out = {
            let mut kinds = self.kinds.lock();
            let kind = &mut kinds[refusal as usize];
            kind.total += 1;
            if kind.logged_at.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL) {
                kind.left_out += 1;
                return;
            }
            kind.logged_at = Some(now);
            std::mem::take(&mut kind.left_out)
        };
        let from = from.map_or_else(|| "unknown".to_owned(), |from| from.to_string());
        tracing::warn!(%from, left_out, %detail, "connection refused: {refusal}");
    }

    pub(crate) fn count(&self, refusal: Refusal) -> u64 {
        self.kinds.lock()[refusal as usize].total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_refusals_is_counted_but_hardly_logged() {
        let log = RefusalLog::default();
        for _ in 0..1000 {
            log.record(Refusal::NotTls, None, &"");
        }
        assert_eq!(log.count(Refusal::NotTls), 1000);
        assert_eq!(log.kinds.lock()[Refusal::NotTls as usize].left_out, 999);
        tokio::time::advance(LOG_INTERVAL).await;
        log.record(Refusal::NotTls, None, &"");
        assert_eq!(log.kinds.lock()[Refusal::NotTls as usize].left_out, 0);
        assert_eq!(log.count(Refusal::Expired), 0);
    }
}
