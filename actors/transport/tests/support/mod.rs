//! What the tests on sockets share.
#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test uses some of it"
)]

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hurtig_transport::{
    Authority, Connection, DialOptions, Listener, ListenerOptions, Name, Peer, Purpose, Role, Tls, Validity,
    dial,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

pub fn authority() -> Authority {
    Authority::ephemeral("test", Validity::days(1)).unwrap()
}

pub fn name(role: Role, id: &str) -> Name {
    Name::new(role, id).unwrap()
}

pub fn tls(authority: &Authority, role: Role, id: &str) -> Tls {
    Tls::new(authority.issue(&name(role, id), Validity::days(1), &[]).unwrap()).unwrap()
}

pub fn options() -> ListenerOptions {
    ListenerOptions::new([Purpose::CONTROL, Purpose::DATA], |_, _| true)
}

pub async fn listen(tls: Tls, options: ListenerOptions) -> (Listener, String) {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), tls, options).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

pub const JOBMANAGER: Peer = Peer::Any(Role::JobManager);

pub async fn dial_jobmanager(tls: &Tls, address: &str) -> Result<Connection, hurtig_transport::Error> {
    dial(tls, address, &JOBMANAGER, Purpose::DATA, &DialOptions::default()).await
}

/// Both ends of a connection over TLS.
pub async fn pair() -> (Connection, Connection) {
    let (accepted, dialled, _) = pair_through_proxy().await;
    (accepted, dialled)
}

pub async fn pair_through_proxy() -> (Connection, Connection, Proxy) {
    let authority = authority();
    let (mut listener, address) = listen(tls(&authority, Role::JobManager, "a"), options()).await;
    let proxy = Proxy::start(address).await;
    let client = tls(&authority, Role::TaskManager, "b");
    let (accepted, dialled) = tokio::join!(listener.accept(), dial_jobmanager(&client, &proxy.address));
    (accepted, dialled.unwrap(), proxy)
}

/// Fails the test instead of hanging.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("this should have happened by now")
}

/// Stands between two, hears all, and can fall silent without closing anything.
pub struct Proxy {
    pub address: String,
    pub heard: Arc<Mutex<Vec<u8>>>,
    silent: Arc<AtomicBool>,
}

impl Proxy {
    pub async fn start(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (heard, silent) = (Arc::<Mutex<Vec<u8>>>::default(), Arc::<AtomicBool>::default());
        let (ear, muted) = (heard.clone(), silent.clone());
        tokio::spawn(async move {
            let (near, _) = listener.accept().await.unwrap();
            let far = TcpStream::connect(target).await.unwrap();
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            let one = pass(near_read, far_write, ear.clone(), muted.clone());
            let other = pass(far_read, near_write, ear, muted);
            tokio::join!(one, other)
        });
        Proxy { address, heard, silent }
    }

    pub fn fall_silent(&self) {
        self.silent.store(true, Relaxed);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    ear: Arc<Mutex<Vec<u8>>>,
    silent: Arc<AtomicBool>,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        if silent.load(Relaxed) {
            std::future::pending::<()>().await;
        }
        ear.lock().unwrap().extend_from_slice(&bytes[..count]);
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
}
