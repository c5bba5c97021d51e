//! Mutual TLS 1.3 of an identity, which follows its files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use tokio::time::Instant;

use crate::certificates::Identity;
use crate::error::Error;
use crate::name::Name;

/// How often a folder is looked at, at most, and then only when a connection is made.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// What a connection is for, agreed within the handshake (by ALPN): a listener lets in only what it offers.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Purpose(&'static str);

impl Purpose {
    /// Messages between actors.
    pub const CONTROL: Purpose = Purpose::new("hurtig-control/1");
    /// A [`Link`](crate::Link) for records.
    pub const DATA: Purpose = Purpose::new("hurtig-data/1");

    /// Another purpose. The text, of 1 to 255 bytes, goes over the net in the clear; it should end in a version.
    pub const fn new(protocol: &'static str) -> Self {
        assert!(!protocol.is_empty() && protocol.len() < 256);
        Purpose(protocol)
    }

    /// As it is sent.
    pub fn as_str(self) -> &'static str {
        self.0
    }
}

impl fmt::Debug for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Purpose({})", self.0)
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

/// A process's identity, ready for connections. Clones are the same one.
///
/// Both sides show a certificate; TLS 1.3 only; AES-128-GCM if the peer can. A certificate is checked when a
/// connection is made: one that expires later does not end it.
#[derive(Clone)]
pub struct Tls {
    folder: Option<Arc<PathBuf>>,
    current: Arc<Mutex<Current>>,
}

struct Current {
    configs: Arc<Configs>,
    checked_at: Instant,
    /// What was wrong with the files when they were looked at last; logged when it changes.
    problem: Option<String>,
}

struct Configs {
    identity: Identity,
    server: ServerConfig,
    client: ClientConfig,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Tls {
    /// Of an identity that stays.
    ///
    /// # Errors
    /// [`Error::Certificate`] or [`Error::Tls`] if rustls does not accept it, for instance because the key is not
    /// the certificate's.
    pub fn new(identity: Identity) -> Result<Self, Error> {
        let configs = Arc::new(Configs::new(identity)?);
        let current = Current { configs, checked_at: Instant::now(), problem: None };
        Ok(Tls { folder: None, current: Arc::new(Mutex::new(current)) })
    }

    /// Of the identity in a folder. When its files change, connections made from then on use the new ones; while the
    /// files do not fit together, the old.
    ///
    /// # Errors
    /// As [`Identity::load`] and [`Tls::new`].
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let mut tls = Self::new(Identity::load(folder)?)?;
        tls.folder = Some(Arc::new(folder.to_owned()));
        Ok(tls)
    }

    /// Whose certificate it is.
    pub fn name(&self) -> Name {
        self.configs().identity.name().clone()
    }

    /// Looks at the folder now, if there is one.
    ///
    /// # Errors
    /// As [`Tls::from_folder`]; the old identity then stays in use.
    pub fn reload(&self) -> Result<(), Error> {
        let Some(folder) = &self.folder else { return Ok(()) };
        let identity = Identity::load(folder)?;
        if self.configs().identity != identity {
            let configs = Arc::new(Configs::new(identity)?);
            tracing::info!(name = %configs.identity.name(), folder = %folder.display(), "certificate replaced");
            self.current.lock().configs = configs;
        }
        Ok(())
    }

    /// For accepting connections for any of `purposes`.
    pub(crate) fn server(&self, purposes: &[Purpose]) -> Arc<ServerConfig> {
        let mut config = self.fresh().server.clone();
        config.alpn_protocols = protocols(purposes);
        Arc::new(config)
    }

    /// For connecting for `purpose`.
    pub(crate) fn client(&self, purpose: Purpose) -> Arc<ClientConfig> {
        let mut config = self.fresh().client.clone();
        config.alpn_protocols = protocols(&[purpose]);
        Arc::new(config)
    }

    fn configs(&self) -> Arc<Configs> {
        Arc::clone(&self.current.lock().configs)
    }

    /// Three small files are read at most once a second: not worth a thread.
    fn fresh(&self) -> Arc<Configs> {
        let now = Instant::now();
        {
            let mut current = self.current.lock();
            if self.folder.is_none() || now.duration_since(current.checked_at) < CHECK_INTERVAL {
                return Arc::clone(&current.configs);
            }
            current.checked_at = now;
        }
        let problem = self.reload().err().map(|error| match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        let mut current = self.current.lock();
        if let Some(problem) = problem.as_ref().filter(|_| current.problem != problem) {
            tracing::warn!(%problem, "certificates cannot be read again: the old ones stay in use");
        }
        current.problem = problem;
        Arc::clone(&current.configs)
    }
}

impl Configs {
    fn new(identity: Identity) -> Result<Self, Error> {
        let failed = |source| Error::Tls { name: identity.name().to_string(), source };
        let provider = Arc::new(provider());
        let roots = Arc::new(identity.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| {
                Error::certificate(identity.name(), format!("no authority is trusted: {error}"))
            })?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain()?, identity.key()?)
            .map_err(failed)?;
        server.ignore_client_order = true;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain()?, identity.key()?)
            .map_err(failed)?;
        client.resumption = rustls::client::Resumption::disabled();
        // the server has one certificate, and the name, with a job's id, would go over the net in the clear
        client.enable_sni = false;
        Ok(Configs { identity, server, client })
    }
}

/// The default one, but with the cheapest cipher first: AES-256 costs 4 to 9 % more here and protects no better
/// against what is known.
pub(crate) fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites = vec![
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
        aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
        aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
    ];
    provider
}

fn protocols(purposes: &[Purpose]) -> Vec<Vec<u8>> {
    purposes.iter().map(|purpose| purpose.0.as_bytes().to_vec()).collect()
}
