//! What a link between two processes costs: the same frames over TLS, over plain TCP, and over a bare socket, with at
//! most 1 MiB on the way. CPU is that of both processes.

use crate::{Outcome, round, usage};
use anyhow::Context;
use bytes::Bytes;
use hurtig_transport::link::LinkHandler;
use hurtig_transport::{
    Authority, DialOptions, Frame, Identity, Link, LinkEnd, LinkOptions, Listener, ListenerOptions, Name,
    Peer, Purpose, Role, Tls, Validity, Violation, dial,
};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

const PAYLOAD_BYTES: usize = 64 << 10;
/// Frames on the way at most.
const WINDOW: usize = 16;
const JOB: &str = "bench";

/// Name of the benchmark under which the receiving process is started.
pub(crate) const RECEIVER: &str = "link-receiver";

fn name(role: Role) -> anyhow::Result<Name> {
    Ok(Name::of_job(role, JOB, "bench")?)
}

/// The receiving process: its way and its identity come on standard input, its address goes to standard output.
pub(crate) fn receive() -> anyhow::Result<()> {
    let mut input = BufReader::new(std::io::stdin());
    let mut way = String::new();
    input.read_line(&mut way)?;
    let mut identity = Vec::new();
    input.read_to_end(&mut identity)?;
    hurtig::runtime()?.block_on(async move {
        match way.trim() {
            "tls" => {
                let tls = Tls::new(Identity::from_bytes(&identity)?)?;
                let options = ListenerOptions::new([Purpose::DATA], |_, _| true);
                let mut listener = Listener::bind("127.0.0.1:0".parse()?, tls, options).await?;
                say(&listener.local_addr()?.to_string())?;
                run_receiver(listener.accept().await.stream).await;
            }
            "plain" => {
                let stream = accept().await?;
                run_receiver(tokio::io::BufReader::with_capacity(128 << 10, stream)).await;
            }
            _ => {
                let mut stream = accept().await?;
                let mut buffer = vec![0; 128 << 10];
                while stream.read(&mut buffer).await? > 0 {}
            }
        }
        Ok(())
    })
}

fn say(address: &str) -> anyhow::Result<()> {
    println!("{address}");
    Ok(std::io::stdout().flush()?)
}

async fn accept() -> anyhow::Result<TcpStream> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    say(&listener.local_addr()?.to_string())?;
    let stream = listener.accept().await?.0;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Answers half a window of frames with a frame.
struct Receiver {
    link: Option<hurtig_transport::LinkSender>,
    hand: Option<oneshot::Receiver<hurtig_transport::LinkSender>>,
    taken: usize,
}

impl LinkHandler for Receiver {
    fn on_frame(&mut self, _: Frame) -> Result<(), Violation> {
        if self.link.is_none() {
            self.link = self.hand.as_mut().and_then(|hand| hand.try_recv().ok());
        }
        self.taken += 1;
        if self.taken.is_multiple_of(WINDOW / 2)
            && let Some(link) = &self.link
        {
            let _ = link.send(0, 1, Bytes::new());
        }
        Ok(())
    }
    fn on_end(&mut self, _: LinkEnd) {}
}

async fn run_receiver(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) {
    let (give, hand) = oneshot::channel();
    let mut link =
        Link::start(stream, LinkOptions::default(), Receiver { link: None, hand: Some(hand), taken: 0 });
    let _ = give.send(link.sender().clone());
    link.ended().await;
}

/// Takes the receiver's answers as permission to send more.
struct Credits(Arc<Semaphore>);

impl LinkHandler for Credits {
    fn on_frame(&mut self, _: Frame) -> Result<(), Violation> {
        self.0.add_permits(WINDOW / 2);
        Ok(())
    }
    fn on_end(&mut self, _: LinkEnd) {
        self.0.close();
    }
}

async fn run_sender(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    frames: u64,
) -> anyhow::Result<()> {
    let credits = Arc::new(Semaphore::new(WINDOW));
    let mut link = Link::start(stream, LinkOptions::default(), Credits(Arc::clone(&credits)));
    let payload = Bytes::from(vec![7u8; PAYLOAD_BYTES]);
    for _ in 0..frames {
        credits.acquire().await.context("the link has ended")?.forget();
        link.sender().send(0, 0, payload.clone())?;
    }
    link.close();
    link.ended().await;
    Ok(())
}

async fn send(way: &str, address: &str, identity: Identity, frames: u64) -> anyhow::Result<()> {
    match way {
        "tls" => {
            let tls = Tls::new(identity)?;
            let peer = Peer::Named(name(Role::Worker)?);
            let connection = dial(&tls, address, &peer, Purpose::DATA, &DialOptions::default()).await?;
            run_sender(connection.stream, frames).await
        }
        "plain" => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            run_sender(tokio::io::BufReader::with_capacity(128 << 10, stream), frames).await
        }
        _ => {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            let payload = vec![7u8; PAYLOAD_BYTES];
            for _ in 0..frames {
                stream.write_all(&payload).await?;
            }
            Ok(stream.shutdown().await?)
        }
    }
}

/// Sends so many frames each way.
pub(crate) fn run(frames: u64) -> anyhow::Result<Outcome> {
    let validity = Validity::days(1);
    let authority = Authority::ephemeral("bench", validity)?;
    let mut extra = serde_json::Map::new();
    let gigabytes = (frames * PAYLOAD_BYTES as u64) as f64 / 1e9;
    for way in ["tls", "plain", "bare"] {
        let mine = authority.issue(&name(Role::Master)?, validity, &[])?;
        let theirs = authority.issue(&name(Role::Worker)?, validity, &[])?;
        let before = usage::cpu_seconds_with_children()?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg(RECEIVER)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().context("no pipe")?;
        writeln!(input, "{way}")?;
        input.write_all(&theirs.to_bytes())?;
        drop(input);
        let mut address = String::new();
        BufReader::new(child.stdout.take().context("no pipe")?).read_line(&mut address)?;
        let began = Instant::now();
        hurtig::runtime()?.block_on(send(way, address.trim(), mine, frames))?;
        child.wait()?;
        let (wall, cpu) = (began.elapsed().as_secs_f64(), usage::cpu_seconds_with_children()? - before);
        extra.insert(format!("{way}_mb_per_s"), round(gigabytes * 1e3 / wall, 0).into());
        extra.insert(format!("{way}_cpu_s_per_gb"), round(cpu / gigabytes, 3).into());
    }
    Ok(Outcome { records: frames * 3, extra })
}
