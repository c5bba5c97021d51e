//! Links over real, encrypted connections.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panics and spawn as they like"
)]

mod support;

use std::time::Duration;

use bytes::Bytes;
use hurtig_transport::frame::{FrameError, Header};
use hurtig_transport::link::SendError;
use hurtig_transport::{Connection, Frame, Link, LinkEnd, LinkEvent, LinkHandler, LinkOptions, Violation};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use support::{pair, pair_through_proxy, soon};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

fn start(connection: Connection, options: LinkOptions) -> (Link, UnboundedReceiver<LinkEvent>) {
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
    assert_eq!(a.sender().send(1, 0, Bytes::new()), Err(SendError::Closed));
    for received in [&mut from_a, &mut from_b] {
        for number in 0..100u8 {
            assert_eq!(frame(received).await.kind, number);
        }
        assert!(matches!(end(received).await, LinkEnd::Closed));
    }
    soon(a.ended()).await;
    soon(b.ended()).await;
    assert_eq!(b.sender().send(1, 0, Bytes::new()), Err(SendError::Closed));
}

#[tokio::test]
async fn a_link_that_is_dropped_is_broken_for_the_peer() {
    let [(a, _keep), (_b, mut received)] = linked(LinkOptions::default()).await;
    a.sender().send(0, 0, Bytes::from_static(b"last")).unwrap();
    assert_eq!(&frame(&mut received).await.payload[..], b"last");
    let error = a.sender().send(0, 0, vec![0; (4 << 20) + 1].into()).unwrap_err();
    assert_eq!(error.to_string(), "a payload of 4194305 bytes is over the link's limit of 4194304");
    drop(a);
    assert!(matches!(end(&mut received).await, LinkEnd::Broken(_)));
}

#[tokio::test]
async fn an_idle_link_stays_alive() {
    let silence_timeout = Duration::from_secs(2);
    let [(a, _keep), (_b, mut received)] =
        linked(LinkOptions { silence_timeout, ..LinkOptions::default() }).await;
    assert!(tokio::time::timeout(4 * silence_timeout, received.recv()).await.is_err());
    a.sender().send(0, 0, Bytes::new()).unwrap();
    frame(&mut received).await;
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_within_the_timeout() {
    let silence_timeout = Duration::from_secs(2);
    let options = LinkOptions { silence_timeout, ..LinkOptions::default() };
    let (a, b, proxy) = pair_through_proxy().await;
    let ((a, mut from_b), (_b, mut from_a)) = (start(a, options.clone()), start(b, options));
    a.sender().send(0, 0, Bytes::new()).unwrap();
    frame(&mut from_a).await;
    proxy.fall_silent();
    let since = tokio::time::Instant::now();
    for received in [&mut from_a, &mut from_b] {
        let end = end(received).await;
        assert!(matches!(end, LinkEnd::Silent(_)), "{end}");
    }
    assert!(since.elapsed() < 4 * silence_timeout, "{:?}", since.elapsed());
}

#[tokio::test]
async fn what_goes_through_a_link_cannot_be_read_on_the_way() {
    const MARKER: &[u8] = b"attack at dawn, by the bridge";
    let (a, b, proxy) = pair_through_proxy().await;
    let ((a, _from_b), (_b, mut from_a)) =
        (start(a, LinkOptions::default()), start(b, LinkOptions::default()));
    for _ in 0..10 {
        a.sender().send(0, 0, MARKER.repeat(1000).into()).unwrap();
    }
    for _ in 0..10 {
        frame(&mut from_a).await;
    }
    let heard = proxy.heard.lock().unwrap();
    assert!(heard.len() > 10 * 1000 * MARKER.len());
    assert!(!heard.windows(12).any(|window| window == &MARKER[..12]));
    // nor who speaks to whom
    assert!(!heard.windows(10).any(|window| window == b"jobmanager"));
}

/// What becomes of a link whose peer, proven and allowed, writes these bytes.
async fn end_after(bytes: &[u8]) -> LinkEnd {
    let (connection, mut peer) = pair().await;
    let (_link, mut received) = start(connection, LinkOptions::default());
    // the link may end before all is written
    let _ = peer.stream.write_all(bytes).await;
    let _ = peer.stream.flush().await;
    let _ = peer.stream.shutdown().await;
    let end = end(&mut received).await;
    assert!(received.recv().await.is_none(), "nothing follows the end");
    end
}

#[tokio::test]
async fn a_peer_that_declares_monstrous_frames_loses_the_link() {
    let of_length = |length: u32| Header { length, channel: 1, kind: 0, flags: 0 }.encode();
    for length in [u32::MAX, (4 << 20) + 1] {
        let end = end_after(&of_length(length)).await;
        assert!(matches!(end, LinkEnd::Malformed(FrameError::TooLong { .. })), "{end}");
    }
    // a length of 2^60 as protocols with longer ones would write it
    for bytes in [(1u64 << 60).to_be_bytes(), (1u64 << 60).to_le_bytes()] {
        let end = end_after(&bytes.repeat(2)).await;
        assert!(matches!(end, LinkEnd::Malformed(_) | LinkEnd::Broken(_)), "{end}");
    }
    // much declared, little sent
    let end = end_after(&of_length(4 << 20)).await;
    assert!(matches!(end, LinkEnd::Broken(_)), "{end}");
}

#[tokio::test]
async fn a_peer_that_sends_noise_loses_the_link_and_harms_nothing() {
    let mut random = StdRng::seed_from_u64(1);
    for _ in 0..30 {
        let mut bytes = vec![0; random.random_range(1..5000)];
        random.fill(&mut bytes[..]);
        // sometimes a good header, so that noise gets further
        if random.random() {
            let flags = random.random_range(0..4) & 1 | (random.random_range(0..2) << 7);
            let header =
                Header { length: random.random_range(0..200), channel: 0, kind: random.random(), flags };
            bytes.splice(0..0, header.encode());
        }
        assert!(!matches!(end_after(&bytes).await, LinkEnd::Silent(_)));
    }
}

#[tokio::test]
async fn a_channel_whose_receiver_stalls_does_not_hold_up_others() {
    const CREDIT: u32 = 8;
    const CHANNELS: u32 = 3;
    const STALLED: u32 = 1;
    const FRAMES: u32 = 500;
    let [(a, mut credits), (b, mut received)] = linked(LinkOptions::default()).await;
    let payload = Bytes::from(vec![7; 64 << 10]);
    let mut sent = [0; CHANNELS as usize];
    let mut send = |channel: u32, count: u32| {
        for _ in 0..count.min(FRAMES - sent[channel as usize]) {
            sent[channel as usize] += 1;
            a.sender().send(channel, 0, payload.clone()).unwrap();
        }
    };
    (0..CHANNELS).for_each(|channel| send(channel, CREDIT));
    let receiver = tokio::task::spawn(async move {
        let mut counts = [0; CHANNELS as usize];
        while counts.iter().sum::<u32>() < (CHANNELS - 1) * FRAMES + CREDIT {
            let frame = frame(&mut received).await;
            counts[frame.channel as usize] += 1;
            // the stalled one keeps its frames and grants nothing
            if frame.channel != STALLED {
                b.sender().send(frame.channel, 1, Bytes::new()).unwrap();
            }
        }
        (b, counts)
    });
    let mut most_queued = 0;
    while !receiver.is_finished() {
        tokio::select! {
            Some(LinkEvent::Frame(credit)) = credits.recv() => send(credit.channel, 1),
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
        most_queued = most_queued.max(a.sender().counts().queued_bytes);
    }
    let (_b, counts) = receiver.await.unwrap();
    assert_eq!(counts, [FRAMES, CREDIT, FRAMES]);
    assert!(most_queued <= u64::from(CHANNELS * CREDIT) * (10 + (64 << 10)), "{most_queued}");
}

#[tokio::test]
async fn a_peer_that_grants_more_than_memory_holds_breaks_the_link() {
    let options = LinkOptions { max_queued_bytes: 8 << 20, ..LinkOptions::default() };
    let (connection, _peer_that_does_not_read) = pair().await;
    let (link, mut received) = start(connection, options);
    let payload = Bytes::from(vec![0; 1 << 20]);
    let mut sent = 0;
    while link.sender().send(0, 0, payload.clone()).is_ok() {
        sent += 1;
        assert!(sent < 100, "the queue grows without bound");
        tokio::task::yield_now().await;
    }
    assert!(matches!(end(&mut received).await, LinkEnd::QueueOverflow(_)));
}

#[tokio::test]
async fn a_peer_that_does_not_answer_a_close_is_left() {
    let options = LinkOptions { close_timeout: Duration::from_millis(200), ..LinkOptions::default() };
    let (connection, _silent_peer) = pair().await;
    let (link, mut received) = start(connection, options);
    link.close();
    assert!(matches!(end(&mut received).await, LinkEnd::CloseTimedOut(_)));
}

struct Strict(UnboundedSender<LinkEvent>);

impl LinkHandler for Strict {
    fn on_frame(&mut self, frame: Frame) -> Result<(), Violation> {
        Err(Violation(format!("no credit on channel {}", frame.channel)))
    }

    fn on_end(&mut self, end: LinkEnd) {
        self.0.on_end(end);
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_layer_above_loses_the_link() {
    let (a, b) = pair().await;
    let (events, mut strict) = unbounded_channel();
    let _strict = Link::start(a.stream, LinkOptions::default(), Strict(events));
    let (b, mut received) = start(b, LinkOptions::default());
    b.sender().send(5, 0, Bytes::new()).unwrap();
    assert_eq!(end(&mut strict).await.to_string(), "the peer broke the protocol: no credit on channel 5");
    assert!(matches!(end(&mut received).await, LinkEnd::Broken(_)));
}
