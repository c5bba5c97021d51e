//! Peers that go away, with a word or without, and that come back.

use std::sync::Arc;
use std::time::Duration;

use hurtig_runtime::node::{AskError, NodeError, NodeEvent, TellError};
use hurtig_transport::Role;
use ractor::pg;
use tokio::time::Instant;

use super::other::Order;
use super::support::{Cable, HEARTBEAT_TIMEOUT, Hub, LONG, tls};

#[tokio::test]
async fn a_killed_peer_is_lost_at_once_with_what_it_was_asked() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let unanswered = other.peer.ask::<_, ()>(&Order::Keep, LONG);
    let killed_at = Instant::now();
    other.signal("KILL");
    assert_eq!(hub.lost().await.0, other.peer);
    assert!(killed_at.elapsed() < HEARTBEAT_TIMEOUT / 2, "{:?}", killed_at.elapsed());
    let answer = unanswered.await;
    assert!(matches!(answer, Err(AskError::Tell(TellError::Gone(_)))), "{answer:?}");
    assert!(killed_at.elapsed() < LONG / 2);
    assert!(matches!(other.peer.tell(&Order::Note(1)), Err(TellError::Gone(_))));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_stopped_peer_is_lost_in_time_and_comes_back_as_another() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let unanswered = other.peer.ask::<_, ()>(&Order::Keep, LONG);
    let stopped_at = Instant::now();
    other.signal("STOP");
    let (lost, reason) = hub.lost().await;
    let after = stopped_at.elapsed();
    assert_eq!(lost, other.peer);
    assert!(reason.contains("nothing heard"), "{reason}");
    assert!(after > HEARTBEAT_TIMEOUT / 2 && after < 2 * HEARTBEAT_TIMEOUT, "{after:?}");
    assert!(matches!(unanswered.await, Err(AskError::Tell(TellError::Gone(_)))));

    other.signal("CONT");
    let back = hub.connected().await;
    assert_eq!(back.name(), other.peer.name());
    assert_ne!(back.id(), other.peer.id());
    let echo: Vec<u8> = back.ask(&Order::Echo(vec![1]), LONG).await.unwrap();
    assert_eq!(echo, [1]);
    assert!(matches!(other.peer.tell(&Order::Note(1)), Err(TellError::Gone(_))));
    hub.shutdown().await;
}

#[tokio::test]
async fn a_cut_cable_is_noticed_by_both_sides_and_the_peer_comes_back_by_another() {
    let mut hub = Hub::start().await;
    let cable = Cable::to(hub.address).await;
    let authority = Arc::clone(&hub.authority);
    let other = hub.other_of(&authority, cable.address).await;
    let mut current = other.peer.clone();
    for _ in 0..3 {
        let cut_at = Instant::now();
        cable.cut();
        // the other side may notice first, and be connected again before this side has noticed
        let (mut lost, mut back) = (None, None);
        while lost.is_none() || back.is_none() {
            match hub.event().await {
                NodeEvent::Lost { peer, .. } => lost = Some(peer),
                NodeEvent::Connected(peer) => back = Some(peer),
                event => panic!("{event:?}"),
            }
        }
        assert!(cut_at.elapsed() > HEARTBEAT_TIMEOUT / 2 && cut_at.elapsed() < 4 * HEARTBEAT_TIMEOUT);
        assert_eq!(lost, Some(current));
        current = back.unwrap();
        let echo: Vec<u8> = current.ask(&Order::Echo(vec![1]), LONG).await.unwrap();
        assert_eq!(echo, [1]);
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_has_nothing_to_say_is_not_lost() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    hub.is_quiet_for(5 * HEARTBEAT_TIMEOUT / 2).await;
    let echo: Vec<u8> = other.ask(Order::Echo(vec![1])).await;
    assert_eq!(echo, [1]);
    hub.shutdown().await;
}

#[tokio::test]
async fn what_was_told_before_a_close_arrives_and_the_peer_knows_why() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    (0..1000).for_each(|number| other.tell(Order::Note(number)));
    other.peer.close("enough");
    let (lost, reason) = hub.lost().await;
    assert_eq!((&lost, reason.as_str()), (&other.peer, "closed by this process: enough"));
    assert!(matches!(other.peer.tell(&Order::Note(1)), Err(TellError::Gone(_))));

    let back = hub.connected().await;
    let notes: Vec<u64> = back.ask(&Order::Notes, LONG).await.unwrap();
    assert!(notes.iter().copied().eq(0..1000), "{} of 1000", notes.len());
    let reason: String = back.ask(&Order::LastLoss, LONG).await.unwrap();
    assert_eq!(reason, "closed by the peer: enough");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_peer_may_close_and_come_back() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    other.tell(Order::Close);
    let (lost, reason) = hub.lost().await;
    assert_eq!((&lost, reason.as_str()), (&other.peer, "closed by the peer: as ordered"));
    let back = hub.connected().await;
    assert_eq!(back.name(), other.peer.name());
    hub.shutdown().await;
}

#[tokio::test]
async fn a_shutdown_says_that_all_are_lost_and_makes_room_for_another_node() {
    let mut hub = Hub::start().await;
    let others = [hub.other().await, hub.other().await];
    let node = hub.node.clone();
    let began_at = Instant::now();
    let events = hub.shutdown().await;
    assert!(began_at.elapsed() < Duration::from_secs(5), "{:?}", began_at.elapsed());
    let mut lost: Vec<_> = events
        .iter()
        .map(|event| match event {
            NodeEvent::Lost { peer, reason } if reason.contains("shuts down") => peer.id(),
            event => panic!("{event:?}"),
        })
        .collect();
    lost.sort();
    assert_eq!(lost, others.each_ref().map(|other| other.peer.id()));
    let client = tls(
        &hurtig_transport::Authority::ephemeral("x", hurtig_transport::Validity::days(1)).unwrap(),
        Role::JobManager,
        "x",
    );
    let listen = node.listen("127.0.0.1:0".parse().unwrap(), &client, |_| true).await;
    assert!(matches!(listen, Err(NodeError::Ended)), "{listen:?}");
    Hub::start().await.shutdown().await;
}

#[tokio::test]
async fn if_an_actor_of_the_node_dies_all_peers_are_lost_and_the_node_ends() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let gates = pg::get_scoped_local_members(&"hurtig".to_owned(), &"gates".to_owned());
    assert_eq!(gates.len(), 1);
    gates[0].kill();
    let (lost, reason) = hub.lost().await;
    assert_eq!(lost, other.peer);
    assert!(reason.contains("actor"), "{reason}");
    assert!(hub.shutdown().await.is_empty());
}
