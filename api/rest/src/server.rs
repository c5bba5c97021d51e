//! The server: where it listens, and whether it may.

use crate::app::App;
use crate::guard::{Guard, guard};
use crate::https::HttpsListener;
use crate::operations::Operations;
use crate::routes;
use axum::middleware::from_fn_with_state;
use hurtig_runtime::Config;
use hurtig_runtime::clock::Clock;
use hurtig_runtime::daemon::client::ClusterClient;
use hurtig_runtime::tasks::Tasks;
use hurtig_transport::Https;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::net::TcpListener;

/// The port of a JobManager that names none, and how many above it are tried.
const DEFAULT_PORT: u16 = 8081;
const TRIED_PORTS: u16 = 20;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Others could run programs here.
    #[error(
        "'rest.address' is {address}, which other machines reach: set 'rest.certificates' and 'rest.token', or leave the default 127.0.0.1; 'rest.insecure=true' does without"
    )]
    Insecure {
        /// The address.
        address: String,
    },
    /// The address cannot be used.
    #[error("the web page cannot be served at {address}: choose another with 'rest.address' and 'rest.port'")]
    Address {
        /// The address.
        address: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("'{key}' names {}, which cannot be read", path.display())]
    File {
        /// The configuration key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A token that everybody would guess.
    #[error("the token in {} is shorter than {MIN_TOKEN_CHARS} characters: make a longer one", .0.display())]
    WeakToken(PathBuf),
    /// The certificate cannot be used.
    #[error("'rest.certificates': {0}")]
    Certificate(String),
}

/// Tokens that are shorter can be guessed.
const MIN_TOKEN_CHARS: usize = 16;

/// What is served.
pub struct Options {
    /// The way to the JobManager.
    pub client: ClusterClient,
    /// The configuration, of which 'rest' is used.
    pub config: Config,
    /// Whether it is of a program that runs its own job, which has a page only if it is asked for.
    pub is_embedded: bool,
    /// A folder of files to serve in place of hurtig's page.
    pub web_dir: Option<PathBuf>,
}

/// A server that runs; it ends when it is dropped.
pub struct Server {
    address: SocketAddr,
    scheme: &'static str,
    _tasks: Tasks,
}

impl Server {
    /// Starts a server, unless the configuration wants none.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Option<Self>, StartError> {
        let Options { client, mut config, is_embedded, web_dir } = options;
        let rest = config.rest.clone();
        if rest.port == Some(0) || rest.port.is_none() && is_embedded {
            return Ok(None);
        }
        let host = rest.address.clone();
        let address = |port: u16| format!("{host}:{port}");
        let unusable = |port: u16, source| StartError::Address { address: address(port), source };
        let wanted = rest.port.and_then(|port| u16::try_from(port).ok());
        let first = wanted.unwrap_or(DEFAULT_PORT);
        let found = tokio::net::lookup_host((host.as_str(), first)).await;
        let found: Vec<SocketAddr> = found.map_err(|source| unusable(first, source))?.collect();
        let is_local = !found.is_empty() && found.iter().all(|address| address.ip().is_loopback());
        let tokens = (
            read_token("rest.token", rest.token.as_deref())?,
            read_token("rest.read-only-token", rest.read_only_token.as_deref())?,
        );
        let is_safe = rest.certificates.is_some() && tokens.0.is_some();
        if !(is_local || is_safe || rest.insecure) {
            return Err(StartError::Insecure { address: host });
        }
        let https = match &rest.certificates {
            Some(folder) => Some(
                Https::from_folder(folder)
                    .map_err(|error| StartError::Certificate(hurtig_dataflow::error::describe(&error)))?,
            ),
            None => None,
        };
        let last = if wanted.is_some() { first } else { first + TRIED_PORTS };
        let mut port = first;
        let listener = loop {
            match TcpListener::bind((host.as_str(), port)).await {
                Ok(listener) => break listener,
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && port < last => port += 1,
                // Nobody has asked for the page: the JobManager can do without.
                Err(source) if wanted.is_none() => {
                    tracing::warn!(
                        "no web page: ports {first} to {last} are taken ({source}); set 'rest.port'"
                    );
                    return Ok(None);
                }
                Err(source) => return Err(unusable(port, source)),
            }
        };
        let address = listener.local_addr().map_err(|source| unusable(port, source))?;
        config.rest.port = Some(usize::from(address.port()));
        let tasks = Tasks::default();
        let guarded = Arc::new(Guard::new(tokens.0.as_deref(), tokens.1.as_deref(), is_local));
        let app = Arc::new(App {
            client: Arc::new(client),
            config,
            clock: Clock::new(),
            ended: Default::default(),
            profiles: Default::default(),
            operations: Operations::default(),
            names: Default::default(),
            guard: Arc::clone(&guarded),
            is_embedded,
            tasks: tasks.clone(),
            web_dir,
        });
        let router = routes::all(Arc::clone(&app)).layer(from_fn_with_state((app, guarded), guard));
        let scheme = if https.is_some() { "https" } else { "http" };
        // They serve until they are dropped.
        match https {
            Some(https) => {
                let listener = HttpsListener::new(listener, address, https, &tasks);
                tasks.spawn(async move { drop(axum::serve(listener, router).await) });
            }
            None => tasks.spawn(async move { drop(axum::serve(listener, router).await) }),
        }
        Ok(Some(Server { address, scheme, _tasks: tasks }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What to type into a browser.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }
}

fn read_token(key: &'static str, path: Option<&Path>) -> Result<Option<String>, StartError> {
    let Some(path) = path else { return Ok(None) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| StartError::File { key, path: path.to_owned(), source })?;
    if text.trim().chars().count() < MIN_TOKEN_CHARS {
        return Err(StartError::WeakToken(path.to_owned()));
    }
    Ok(Some(text.trim().to_string()))
}
