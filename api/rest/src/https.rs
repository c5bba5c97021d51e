//! Connections over TLS for the server. Handshakes go on beside each other: one that hangs holds nobody up.

use axum::serve::Listener;
use hurtig_runtime::tasks::Tasks;
use hurtig_transport::{Https, HttpsStream};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};

/// Handshakes that may go on at once.
const HANDSHAKES: usize = 256;

/// Before another connection is tried after one has failed, as when there are no more file handles.
const PAUSE: Duration = Duration::from_millis(100);

/// Hands out connections whose handshake is done.
pub(crate) struct HttpsListener {
    address: SocketAddr,
    ready: mpsc::Receiver<(HttpsStream, SocketAddr)>,
}

impl HttpsListener {
    /// Accepts on a listener as long as the tasks go on.
    pub(crate) fn new(listener: TcpListener, address: SocketAddr, https: Https, tasks: &Tasks) -> Self {
        let (tell, ready) = mpsc::channel(1);
        let (free, handshakes) = (Arc::new(Semaphore::new(HANDSHAKES)), tasks.clone());
        tasks.spawn(async move {
            loop {
                let Ok((stream, peer)) = listener.accept().await else {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                };
                let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
                let (https, tell) = (https.clone(), tell.clone());
                handshakes.spawn(async move {
                    let _place = place;
                    if let Ok(stream) = https.accept(stream).await {
                        // The server ends.
                        let _ = tell.send((stream, peer)).await;
                    }
                });
            }
        });
        HttpsListener { address, ready }
    }
}

impl Listener for HttpsListener {
    type Io = HttpsStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (HttpsStream, SocketAddr) {
        match self.ready.recv().await {
            Some(accepted) => accepted,
            // Whoever accepts has ended with the server.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
