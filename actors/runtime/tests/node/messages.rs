//! Tells, asks, and what they may hold.

use std::time::Duration;

use hurtig_runtime::node::{AskError, NodeEvent, TellError, decode};
use tokio::time::Instant;

use super::other::Order;
use super::support::{HEARTBEAT_TIMEOUT, Hub, LONG, MAX_MESSAGE_BYTES, Unwritable};

#[tokio::test]
async fn tells_arrive_in_order_both_ways() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    (0..5000).for_each(|number| other.tell(Order::Note(number)));
    let notes: Vec<u64> = other.ask(Order::Notes).await;
    assert!(notes.iter().copied().eq(0..5000), "{} of 5000", notes.len());
    other.tell(Order::Count(5000));
    for number in 0..5000u64 {
        assert_eq!(hub.message::<u64>(&other.peer).await, number);
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn an_ask_gets_its_answer_and_many_do_not_mix_them_up() {
    let mut hub = Hub::start().await;
    let others = [hub.other().await, hub.other().await];
    let asks: Vec<_> = (0..200u32)
        .map(|n| {
            let question = n.to_le_bytes().to_vec();
            let ask = others[n as usize % 2].peer.ask::<_, Vec<u8>>(&Order::Echo(question.clone()), LONG);
            async move { (ask.await.unwrap(), question) }
        })
        .collect();
    for (answer, question) in futures::future::join_all(asks).await {
        assert_eq!(answer, question);
    }
    hub.shutdown().await;
}

#[tokio::test]
async fn an_ask_whose_reply_is_dropped_fails_at_once() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let asked_at = Instant::now();
    let answer = other.peer.ask::<_, ()>(&Order::Drop, LONG).await;
    assert!(matches!(answer, Err(AskError::NoAnswer)), "{answer:?}");
    assert!(asked_at.elapsed() < LONG / 2);
    hub.shutdown().await;
}

#[tokio::test]
async fn an_ask_that_is_not_answered_ends_in_time_and_harms_no_other() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let limit = Duration::from_millis(50);
    let answer = other.peer.ask::<_, ()>(&Order::Keep, limit).await;
    assert!(matches!(answer, Err(AskError::TimedOut(time)) if time == limit), "{answer:?}");
    let echo: Vec<u8> = other.ask(Order::Echo(vec![1])).await;
    assert_eq!(echo, [1]);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_message_may_be_as_long_as_allowed_and_no_longer() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    let long = other.peer.tell(&serde_bytes::ByteBuf::from(vec![0; MAX_MESSAGE_BYTES]));
    assert!(matches!(long, Err(TellError::TooLong { limit: MAX_MESSAGE_BYTES, .. })), "{long:?}");
    let unwritable = other.peer.tell(&Unwritable);
    assert!(matches!(unwritable, Err(TellError::Encode(_))), "{unwritable:?}");

    // a zero takes one byte, and the length before them five
    other.tell(Order::Tell(MAX_MESSAGE_BYTES - 5));
    assert_eq!(hub.message::<Vec<u8>>(&other.peer).await.len(), MAX_MESSAGE_BYTES - 5);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_sends_more_than_allowed_is_lost_and_others_stay() {
    let mut hub = Hub::start().await;
    let good = hub.other().await;
    let bad = hub.other_with(16 * MAX_MESSAGE_BYTES).await;
    bad.tell(Order::Tell(2 * MAX_MESSAGE_BYTES));
    assert_eq!(hub.lost().await.0, bad.peer);
    let echo: Vec<u8> = good.ask(Order::Echo(vec![1])).await;
    assert_eq!(echo, [1]);
    hub.shutdown().await;
}

#[tokio::test]
async fn a_message_of_another_type_is_an_error_and_nothing_worse() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    other.tell(Order::Tell(100));
    match hub.event().await {
        NodeEvent::Received { message, .. } => {
            let error = decode::<Order>(&message).unwrap_err().to_string();
            assert!(error.contains("Order"), "{error}");
        }
        event => panic!("{event:?}"),
    }
    let answer = other.peer.ask::<_, String>(&Order::Echo(vec![1]), LONG).await;
    assert!(matches!(answer, Err(AskError::Decode(_))), "{answer:?}");
    hub.shutdown().await;
}

#[tokio::test]
async fn a_forged_token_is_heard_by_nobody() {
    let mut hub = Hub::start().await;
    let other = hub.other().await;
    other.tell(Order::Forge);
    assert_eq!(hub.message::<u64>(&other.peer).await, 1);
    hub.is_quiet_for(HEARTBEAT_TIMEOUT / 2).await;
    hub.shutdown().await;
}
