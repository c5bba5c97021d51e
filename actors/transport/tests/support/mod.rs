//! What the tests on sockets share.
#![allow(dead_code, reason = "each test uses some of it")]

use std::time::Duration;

use hurtig_transport::{
    Authority, Connection, DialOptions, Listener, ListenerOptions, Name, Peer, Purpose, Role, Tls, Validity,
    dial,
};

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
    let authority = authority();
    let (mut listener, address) = listen(tls(&authority, Role::JobManager, "a"), options()).await;
    let client = tls(&authority, Role::TaskManager, "b");
    let (accepted, dialled) = tokio::join!(listener.accept(), dial_jobmanager(&client, &address));
    (accepted, dialled.unwrap())
}

/// Fails the test instead of hanging.
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("this should have happened by now")
}
