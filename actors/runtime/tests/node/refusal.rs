//! Whom a node does not let in, and what a stranger can do to it: nothing.

use hurtig_runtime::node::NodeError;
use hurtig_transport::{Authority, DialOptions, Peer, Purpose, Refusal, Role, Tls, Validity, dial};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::other::Order;
use super::support::{HEARTBEAT_TIMEOUT, Hub, LONG, tls};

async fn refusal(hub: &Hub, tls: &Tls) -> Refusal {
    match hub.node.dial(&hub.address.to_string(), tls, &Peer::Any(Role::JobManager)).await {
        Err(NodeError::Transport(hurtig_transport::Error::Handshake { refusal, .. })) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let mut hub = Hub::start().await;
    let foreign = Authority::ephemeral("foreign", Validity::days(1)).unwrap();
    assert_eq!(refusal(&hub, &tls(&foreign, Role::TaskManager, "a")).await, Refusal::UnknownAuthority);
    hub.is_quiet_for(HEARTBEAT_TIMEOUT / 4).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn a_name_that_is_not_allowed_is_refused() {
    let mut hub = Hub::start().await;
    assert_eq!(refusal(&hub, &tls(&hub.authority, Role::Client, "a")).await, Refusal::NotAllowed);
    hub.is_quiet_for(HEARTBEAT_TIMEOUT / 4).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn each_listener_lets_in_whom_its_own_authority_has_certified() {
    let mut hub = Hub::start().await;
    let job = Authority::ephemeral("job", Validity::days(1)).unwrap();
    let of_job = tls(&job, Role::JobManager, "hub");
    let address = hub.node.listen("127.0.0.1:0".parse().unwrap(), &of_job, |_| true).await.unwrap();
    let others = [hub.other().await, hub.other_of(&job, address).await];
    for other in others {
        let echo: Vec<u8> = other.ask(Order::Echo(vec![1])).await;
        assert_eq!(echo, [1]);
    }
    assert_eq!(refusal(&hub, &tls(&job, Role::TaskManager, "a")).await, Refusal::UnknownAuthority);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_node_does_not_connect_with_itself() {
    let mut hub = Hub::start().await;
    let tls = tls(&hub.authority, Role::TaskManager, "a");
    let dialled = hub.node.dial(&hub.address.to_string(), &tls, &Peer::Any(Role::JobManager)).await;
    assert!(matches!(dialled, Err(NodeError::NotReady { .. })), "{dialled:?}");
    hub.is_quiet_for(HEARTBEAT_TIMEOUT / 4).await;
    hub.shutdown().await;
}

#[tokio::test]
async fn garbage_of_an_admitted_peer_ends_its_connection_and_nothing_else() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let tls = tls(&hub.authority, Role::TaskManager, "vandal");
    let address = hub.address.to_string();
    let options = DialOptions::default();
    let huge = [&[0; 16][..], &u64::MAX.to_be_bytes()].concat();
    let not_a_message = [&[0; 16][..], &8u64.to_be_bytes(), &[0xff; 8]].concat();
    // silence, half a token, a frame too long, a frame of nonsense
    let attempts = [Vec::new(), vec![0; 8], huge, not_a_message].map(|sent| async {
        let peer = Peer::Any(Role::JobManager);
        let mut connection = dial(&tls, &address, &peer, Purpose::CONTROL, &options).await.unwrap();
        connection.stream.write_all(&{ sent }).await.unwrap();
        connection.stream.flush().await.unwrap();
        let mut rest = Vec::new();
        // ended, whether in good order or not
        let _ = tokio::time::timeout(LONG, connection.stream.read_to_end(&mut rest)).await.unwrap();
        assert!(rest.len() <= 16, "{}", rest.len());
    });
    futures::future::join_all(attempts).await;
    let echo: Vec<u8> = other.ask(Order::Echo(vec![1])).await;
    assert_eq!(echo, [1]);
    hub.is_quiet_for(HEARTBEAT_TIMEOUT / 4).await;
    hub.shutdown().await;
}
