//! The web page of a program that runs its own job, if it is asked for with `rest.port`.
//!
//! It is behind the feature `web`: a program on a cluster has no need of it, the JobManager has one.

use hurtig_runtime::{Cluster, Config, RunError};

/// A page that is served until it is dropped.
#[cfg(feature = "web")]
pub(crate) type Page = Option<hurtig_rest::Server>;

/// A page that is served until it is dropped.
#[cfg(not(feature = "web"))]
pub(crate) type Page = ();

/// Serves the page, and says where if somebody looks.
#[cfg(feature = "web")]
pub(crate) async fn serve(cluster: &Cluster, config: &Config, tells: bool) -> Result<Page, RunError> {
    let options = hurtig_rest::Options {
        client: cluster.client(),
        config: config.clone(),
        is_embedded: true,
        web_dir: None,
    };
    let server = hurtig_rest::Server::start(options).await;
    let server = server.map_err(|error| RunError::Cluster(hurtig_dataflow::error::describe(&error)))?;
    if let Some(server) = server.as_ref().filter(|_| tells) {
        eprintln!("web page at {}", server.url());
    }
    Ok(server)
}

/// Nothing serves a page here.
#[cfg(not(feature = "web"))]
pub(crate) async fn serve(_: &Cluster, config: &Config, _: bool) -> Result<Page, RunError> {
    if config.rest.port.is_some_and(|port| port > 0) {
        tracing::warn!(
            "'rest.port' is set and this program has no web page: build it with the feature 'web' of the crate hurtig"
        );
    }
    Ok(())
}
