//! The writing half of a link: takes what waits, as much as a batch holds, and sends it in as few writes as the
//! stream allows.

use std::io::{self, IoSlice};
use std::time::Duration;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::{KIND_CLOSE, KIND_HEARTBEAT, LinkEnd, LinkSender, Outgoing, own_header};
use crate::frame::HEADER_BYTES;

/// Frames in one vectored write: two buffers each, far below the 1,024 that the system takes.
const BATCH_FRAMES: usize = 64;
/// Heartbeats in [`LinkOptions::silence_timeout`](super::LinkOptions::silence_timeout).
const HEARTBEATS_PER_TIMEOUT: u32 = 4;

/// Ends when it has sent `Close`, or with what ended it.
pub(super) async fn run<W: AsyncWrite + Unpin>(
    mut write: W,
    mut waiting: mpsc::UnboundedReceiver<Outgoing>,
    sender: LinkSender,
) -> Result<(), LinkEnd> {
    let silence = sender.options.silence_timeout;
    let heartbeat = own_header(KIND_HEARTBEAT).encode();
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    loop {
        let count = match timeout(
            silence / HEARTBEATS_PER_TIMEOUT,
            waiting.recv_many(&mut batch, BATCH_FRAMES),
        )
        .await
        {
            Ok(count) => count,
            Err(_) => {
                write_all(&mut write, &mut [IoSlice::new(&heartbeat)], silence).await?;
                flush(&mut write, silence).await?;
                continue;
            }
        };
        let closing = count == 0 || write_batch(&mut write, &batch, &sender, silence).await?;
        batch.clear();
        if closing {
            write_all(&mut write, &mut [IoSlice::new(&own_header(KIND_CLOSE).encode())], silence).await?;
            return in_time(silence, write.shutdown()).await;
        }
        if waiting.is_empty() {
            flush(&mut write, silence).await?;
        }
    }
}

/// Whether the link is to close after it.
async fn write_batch<W: AsyncWrite + Unpin>(
    write: &mut W,
    batch: &[Outgoing],
    sender: &LinkSender,
    silence: Duration,
) -> Result<bool, LinkEnd> {
    let mut closing = false;
    let mut headers = Vec::with_capacity(batch.len());
    let mut payloads = Vec::with_capacity(batch.len());
    for outgoing in batch {
        match outgoing {
            Outgoing::Frame(header, payload) => {
                headers.push(header.encode());
                payloads.push(payload);
            }
            Outgoing::Close => {
                closing = true;
                break;
            }
        }
    }
    let mut slices = Vec::with_capacity(2 * headers.len());
    for (header, payload) in headers.iter().zip(&payloads) {
        slices.push(IoSlice::new(header));
        if !payload.is_empty() {
            slices.push(IoSlice::new(payload));
        }
    }
    write_all(write, &mut slices, silence).await?;
    let bytes: usize = payloads.iter().map(|payload| HEADER_BYTES + payload.len()).sum();
    sender.counters.sent(headers.len() as u64, bytes as u64);
    Ok(closing)
}

/// Each write must get something through in time: a peer always reads, so one that does not is lost.
async fn write_all<W: AsyncWrite + Unpin>(
    write: &mut W,
    mut slices: &mut [IoSlice<'_>],
    silence: Duration,
) -> Result<(), LinkEnd> {
    while !slices.is_empty() {
        let written = in_time(silence, write.write_vectored(slices)).await?;
        if written == 0 {
            return Err(LinkEnd::Broken(io::ErrorKind::WriteZero.into()));
        }
        IoSlice::advance_slices(&mut slices, written);
    }
    Ok(())
}

async fn flush<W: AsyncWrite + Unpin>(write: &mut W, silence: Duration) -> Result<(), LinkEnd> {
    in_time(silence, write.flush()).await
}

async fn in_time<T>(silence: Duration, io: impl Future<Output = io::Result<T>>) -> Result<T, LinkEnd> {
    match timeout(silence, io).await {
        Ok(done) => done.map_err(LinkEnd::Broken),
        Err(_) => Err(LinkEnd::Silent(silence)),
    }
}
