//! Accepting connections.
//!
//! Nothing a stranger does holds up a peer: handshakes run beside each other, each within a time-out, and there are
//! only so many sockets that have sent nothing, and only so many handshakes. When there would be more, the oldest of
//! the address that holds the most is dropped. A socket costs memory for TLS only once it has sent something.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::select;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::admission::Admission;
use crate::connection::{
    Connection, NOT_ALLOWED, Refused, SocketOptions, Stream, WELCOME, buffered, refused_by_tls,
};
use crate::error::Error;
use crate::name::Name;
use crate::refusal::{Refusal, RefusalLog};
use crate::tls::{Purpose, Tls};

/// Before the next try when the system has no socket left to give.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Which peers are let in, by name and purpose.
type Allow = dyn Fn(&Name, Purpose) -> bool + Send + Sync;

/// Whom a listener lets in, and how much of others it bears.
#[derive(Clone)]
pub struct ListenerOptions {
    /// What connections may be for.
    pub purposes: Vec<Purpose>,
    /// From the first contact until the peer has proven who it is.
    pub handshake_timeout: Duration,
    /// Sockets that have sent nothing yet.
    pub max_silent: usize,
    /// Handshakes at once.
    pub max_handshakes: usize,
    /// How to find that a peer is gone.
    pub socket: SocketOptions,
    allow: Arc<Allow>,
}

impl fmt::Debug for ListenerOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerOptions").field("purposes", &self.purposes).finish_non_exhaustive()
    }
}

impl ListenerOptions {
    /// Lets in peers that the authority has certified and of whose name and purpose `allow` says yes. Handshakes
    /// take 3 s, 64 at once, and 512 sockets may be silent.
    pub fn new(
        purposes: impl Into<Vec<Purpose>>,
        allow: impl Fn(&Name, Purpose) -> bool + Send + Sync + 'static,
    ) -> Self {
        ListenerOptions {
            purposes: purposes.into(),
            handshake_timeout: Duration::from_secs(3),
            max_silent: 512,
            max_handshakes: 64,
            socket: SocketOptions::default(),
            allow: Arc::new(allow),
        }
    }
}

/// Accepts connections while [`Listener::accept`] is being polled, and only then.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
    handshakes: JoinSet<Option<Connection>>,
    next_id: u64,
}

#[derive(Debug)]
struct Shared {
    tls: Tls,
    options: ListenerOptions,
    refusals: RefusalLog,
    rooms: Mutex<Rooms>,
}

/// Where sockets wait until they have proven who they are.
#[derive(Debug)]
struct Rooms {
    silent: Admission,
    handshaking: Admission,
    /// Without a handle only until the task is known.
    tasks: HashMap<u64, (Option<AbortHandle>, SocketAddr)>,
}

impl Listener {
    /// Listens on an address; port 0 is any free one.
    ///
    /// # Errors
    /// [`Error::Listen`] if the address is taken or not this machine's.
    pub async fn bind(address: SocketAddr, tls: Tls, options: ListenerOptions) -> Result<Self, Error> {
        let socket = TcpListener::bind(address).await.map_err(|source| Error::Listen { address, source })?;
        let rooms = Rooms {
            silent: Admission::new(options.max_silent),
            handshaking: Admission::new(options.max_handshakes),
            tasks: HashMap::new(),
        };
        let shared = Shared { tls, options, refusals: RefusalLog::default(), rooms: Mutex::new(rooms) };
        Ok(Listener { socket, shared: Arc::new(shared), handshakes: JoinSet::new(), next_id: 0 })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// How many connections were refused for this reason so far.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.shared.refusals.count(refusal)
    }

    /// How many sockets are open that have proven nothing.
    pub fn unproven(&self) -> usize {
        self.shared.rooms.lock().tasks.len()
    }

    /// The next connection whose peer is proven and allowed. Those that are refused are logged and counted. May be
    /// dropped and called again without loss.
    pub async fn accept(&mut self) -> Connection {
        loop {
            select! {
                // who is done goes first: the longer it waits, the likelier it is pushed out
                biased;
                Some(done) = self.handshakes.join_next() => {
                    // those pushed out were counted when they were; a panic was reported by the panic hook
                    if let Ok(Some(connection)) = done {
                        return connection;
                    }
                }
                accepted = self.socket.accept() => match accepted {
                    Ok((socket, from)) => self.receive(socket, from),
                    Err(error) => {
                        self.shared.refusals.record(Refusal::Other, None, &error);
                        sleep(ACCEPT_BACKOFF).await;
                    }
                }
            }
        }
    }

    fn receive(&mut self, socket: TcpStream, from: SocketAddr) {
        let id = self.next_id;
        self.next_id += 1;
        let member = Member { id, from, shared: Arc::clone(&self.shared) };
        {
            let mut rooms = self.shared.rooms.lock();
            rooms.tasks.insert(id, (None, from));
            let out = rooms.silent.enter(id, from.ip());
            self.shared.push_out(&mut rooms, out);
        }
        // not under the lock: a runtime that is shutting down drops the member here and now
        let task = self.handshakes.spawn(member.run(socket));
        match self.shared.rooms.lock().tasks.get_mut(&id) {
            Some((handle, _)) => *handle = Some(task),
            // done already, or pushed out before the handle was known
            None => task.abort(),
        }
    }
}

impl Shared {
    fn push_out(&self, rooms: &mut Rooms, id: Option<u64>) {
        if let Some((task, from)) = id.and_then(|id| rooms.tasks.remove(&id)) {
            if let Some(task) = task {
                task.abort();
            }
            self.refusals.record(Refusal::Crowded, Some(from), &"the oldest of its address");
        }
    }
}

/// One socket on its way in; whatever becomes of it, it leaves the rooms.
struct Member {
    id: u64,
    from: SocketAddr,
    shared: Arc<Shared>,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut rooms = self.shared.rooms.lock();
        rooms.silent.leave(self.id);
        rooms.handshaking.leave(self.id);
        rooms.tasks.remove(&self.id);
    }
}

impl Member {
    async fn run(self, socket: TcpStream) -> Option<Connection> {
        let handshake = timeout(self.shared.options.handshake_timeout, self.listen_to(socket));
        match handshake.await.unwrap_or(Err((Refusal::TimedOut, None))) {
            Ok(connection) => Some(connection),
            Err((refusal, source)) => {
                let detail = source.map_or_else(String::new, |source| source.to_string());
                self.shared.refusals.record(refusal, Some(self.from), &detail);
                None
            }
        }
    }

    /// Waits for the peer's first word. What a handshake takes is put aside in memory of its own, which one that says
    /// nothing does not get.
    async fn listen_to(&self, socket: TcpStream) -> Result<Connection, Refused> {
        self.shared.options.socket.apply(&socket).map_err(refused_by_tls)?;
        socket.readable().await.map_err(refused_by_tls)?;
        self.begins();
        Box::pin(self.shake_hands(socket)).await
    }

    async fn shake_hands(&self, socket: TcpStream) -> Result<Connection, Refused> {
        let options = &self.shared.options;
        let acceptor = TlsAcceptor::from(self.shared.tls.server(&options.purposes));
        let mut stream = Stream::new(acceptor.accept(buffered(socket)).await.map_err(refused_by_tls)?);
        let peer = stream.peer().map_err(|error| (Refusal::NoName, Some(io::Error::other(error))))?;
        let purpose = stream.purpose(&options.purposes).ok_or((Refusal::WrongPurpose, None))?;
        let allowed = (options.allow)(&peer, purpose);
        stream.write_u8(if allowed { WELCOME } else { NOT_ALLOWED }).await.map_err(refused_by_tls)?;
        stream.flush().await.map_err(refused_by_tls)?;
        if !allowed {
            // what the peer has sent meanwhile would reset the connection and take the answer with it
            let _ = stream.shutdown().await;
            return Err((Refusal::NotAllowed, Some(io::Error::other(peer.to_string()))));
        }
        Ok(Connection { peer, purpose, address: self.from, stream })
    }

    /// It has sent something.
    fn begins(&self) {
        let mut rooms = self.shared.rooms.lock();
        if !rooms.tasks.contains_key(&self.id) {
            // pushed out: the task ends at its next await
            return;
        }
        rooms.silent.leave(self.id);
        let out = rooms.handshaking.enter(self.id, self.from.ip());
        self.shared.push_out(&mut rooms, out);
    }
}
