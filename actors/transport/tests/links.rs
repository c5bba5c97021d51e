//! Links over real, encrypted connections.

mod support;

use std::time::Duration;

use bytes::Bytes;
use hurtig_transport::link::LinkClosed;
use hurtig_transport::{Frame, Link, LinkEnd, LinkEvent, LinkOptions};
use support::{pair, soon};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

fn start(
    connection: hurtig_transport::Connection,
    options: LinkOptions,
) -> (Link, UnboundedReceiver<LinkEvent>) {
    let (events, received) = unbounded_channel();
    (Link::start(connection.stream, options, events), received)
}

async fn linked(options: LinkOptions) -> [(Link, UnboundedReceiver<LinkEvent>); 2] {
    let (a, b) = pair().await;
    [start(a, options.clone()), start(b, options)]
}

async fn frame(events: &mut UnboundedReceiver<LinkEvent>) -> Frame {
    match soon(events.recv()).await.unwrap() {
        LinkEvent::Frame(frame) => frame,
        LinkEvent::End(end) => panic!("ended: {end}"),
    }
}

async fn end(events: &mut UnboundedReceiver<LinkEvent>) -> LinkEnd {
    loop {
        if let LinkEvent::End(end) = soon(events.recv()).await.unwrap() {
            return end;
        }
    }
}

#[tokio::test]
async fn frames_of_each_channel_arrive_in_order_and_unharmed() {
    for compress_from_bytes in [None, Some(100)] {
        let [(a, _keep), (b, mut received)] =
            linked(LinkOptions { compress_from_bytes, ..LinkOptions::default() }).await;
        let payload = |channel: u32, number: u32| {
            let length = (number as usize * 7919) % 70_000;
            let mut payload = vec![channel as u8; length];
            payload.extend_from_slice(&number.to_le_bytes());
            Bytes::from(payload)
        };
        let senders = (0..4u32).map(|channel| {
            let sender = a.sender().clone();
            tokio::task::spawn_blocking(move || {
                for number in 0..100 {
                    sender.send(channel, number as u8, payload(channel, number)).unwrap();
                }
            })
        });
        let senders: Vec<_> = senders.collect();
        let mut next = [0; 4];
        for _ in 0..400 {
            let frame = frame(&mut received).await;
            let number = &mut next[frame.channel as usize];
            assert_eq!((frame.kind, frame.payload), (*number as u8, payload(frame.channel, *number)));
            *number += 1;
        }
        for sender in senders {
            sender.await.unwrap();
        }
        let (sent, got) = (a.sender().counts(), b.sender().counts());
        assert_eq!((sent.sent_frames, sent.queued_bytes), (400, 0));
        assert_eq!((got.received_frames, got.received_bytes), (400, sent.sent_bytes));
        assert_eq!(compress_from_bytes.is_some(), sent.sent_bytes < 1 << 20, "{sent:?}");
    }
}

#[tokio::test]
async fn a_link_that_closes_delivers_all_that_was_sent_on_both_sides() {
    let [(mut a, mut from_b), (mut b, mut from_a)] = linked(LinkOptions::default()).await;
    for number in 0..100u8 {
        a.sender().send(1, number, vec![1; 50_000].into()).unwrap();
        b.sender().send(1, number, vec![2; 50_000].into()).unwrap();
    }
    a.close();
    assert_eq!(a.sender().send(1, 0, Bytes::new()), Err(LinkClosed));
    for received in [&mut from_a, &mut from_b] {
        for number in 0..100u8 {
            assert_eq!(frame(received).await.kind, number);
        }
        assert!(matches!(end(received).await, LinkEnd::Closed));
    }
    soon(a.ended()).await;
    soon(b.ended()).await;
    assert_eq!(b.sender().send(1, 0, Bytes::new()), Err(LinkClosed));
}

#[tokio::test]
async fn a_link_that_is_dropped_is_broken_for_the_peer() {
    let [(a, _keep), (_b, mut received)] = linked(LinkOptions::default()).await;
    a.sender().send(0, 0, Bytes::from_static(b"last")).unwrap();
    assert_eq!(&frame(&mut received).await.payload[..], b"last");
    drop(a);
    assert!(matches!(end(&mut received).await, LinkEnd::Broken(_)));
}

#[tokio::test]
async fn an_idle_link_stays_alive() {
    let silence_timeout = Duration::from_millis(400);
    let [(a, _keep), (_b, mut received)] =
        linked(LinkOptions { silence_timeout, ..LinkOptions::default() }).await;
    assert!(tokio::time::timeout(4 * silence_timeout, received.recv()).await.is_err());
    a.sender().send(0, 0, Bytes::new()).unwrap();
    frame(&mut received).await;
}
