//! TLS towards browsers and other tools of HTTP: the server shows a certificate, whoever asks shows none and proves
//! itself otherwise.
//!
//! This is no way to a [`Connection`](crate::Connection): among the processes of a cluster both sides show certificates.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::TLS13;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::certificates::{NODE_FILE, NODE_KEY_FILE, read_file};
use crate::error::Error;
use crate::tls::provider;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// What a server of HTTPS shows. Clones are the same one.
#[derive(Clone)]
pub struct Https(TlsAcceptor);

/// A connection over TLS.
pub type HttpsStream = TlsStream<TcpStream>;

impl Https {
    /// Of `node.pem`, a certificate with those that lead to its authority, and `node.key` in a folder: as
    /// [`Identity::save`](crate::Identity::save) writes them, or anybody's own.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Certificate`] or [`Error::Tls`]: they cannot be read, or do not fit together.
    pub fn from_folder(folder: &Path) -> Result<Self, Error> {
        let (cert, key) = (folder.join(NODE_FILE), folder.join(NODE_KEY_FILE));
        let unreadable = |path: &Path, error: &dyn std::fmt::Display| {
            Error::certificate(path.display(), format!("is not PEM: {error}"))
        };
        let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read_file(&cert)?)
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable(&cert, &error))?;
        if chain.is_empty() {
            return Err(Error::certificate(cert.display(), "holds no certificate"));
        }
        let secret =
            PrivateKeyDer::from_pem_slice(&read_file(&key)?).map_err(|error| unreadable(&key, &error))?;
        let failed = |source| Error::Tls { name: cert.display().to_string(), source };
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(failed)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Https(TlsAcceptor::from(Arc::new(config))))
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Whoever has connected speaks no TLS 1.3, or takes too long.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<HttpsStream> {
        tokio::time::timeout(HANDSHAKE_TIMEOUT, self.0.accept(stream)).await?
    }
}
