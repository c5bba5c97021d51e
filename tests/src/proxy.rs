//! Stands between two processes on the network: passes on, records, delays, holds and cuts what they send each other.

#![allow(clippy::disallowed_methods, reason = "threads that wait for sockets, outside of any actor")]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Pieces of up to 16 KiB on their way in one direction.
const PIECES: usize = 256;

/// How a proxy treats what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// Each piece arrives so much later.
    Pass(Duration),
    /// Nothing passes, and nobody is told: as when a cable is cut.
    Hold,
}

struct Shared {
    to: SocketAddr,
    mode: Mutex<Mode>,
    changed: Condvar,
    open: Mutex<Vec<TcpStream>>,
    seen: Option<Mutex<Vec<u8>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A thread that has failed has left nothing half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A proxy. Its threads end with its connections.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Proxy {
    /// A proxy in front of an address. `records` says whether it keeps all that passes.
    ///
    /// # Panics
    /// It cannot listen.
    pub fn start(to: SocketAddr, records: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            to,
            mode: Mutex::new(Mode::Pass(Duration::ZERO)),
            changed: Condvar::new(),
            open: Mutex::new(Vec::new()),
            seen: records.then(|| Mutex::new(Vec::new())),
        });
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                of_thread.connect(client);
            }
        });
        Proxy { address, shared }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all connections; new ones may be made.
    pub fn cut(&self) {
        for stream in lock(&self.shared.open).drain(..) {
            // One that is closed already is what is wanted.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Lets nothing pass, on connections that stay open.
    pub fn hold(&self) {
        self.set(Mode::Hold);
    }

    /// Lets all pass, each piece after a while.
    pub fn pass(&self, delay: Duration) {
        self.set(Mode::Pass(delay));
    }

    fn set(&self, mode: Mode) {
        *lock(&self.shared.mode) = mode;
        self.shared.changed.notify_all();
    }

    /// All that has passed, both ways, if it records.
    pub fn seen(&self) -> Vec<u8> {
        self.shared.seen.as_ref().map(|seen| lock(seen).clone()).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.pass(Duration::ZERO);
        self.cut();
    }
}

impl Shared {
    fn connect(self: &Arc<Self>, client: TcpStream) {
        // Without the server the client sees a connection that closes at once, as it should.
        let Ok(server) = TcpStream::connect(self.to) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to), Ok(kept)) = (from.try_clone(), to.try_clone(), from.try_clone()) else {
                return;
            };
            lock(&self.open).push(kept);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to));
        }
    }

    /// Takes what comes; another thread passes it on when its time has come, so that a line that is long is not narrow.
    fn pump(self: Arc<Self>, mut from: TcpStream, mut to: TcpStream) {
        let (pieces, due) = mpsc::sync_channel::<(Instant, Vec<u8>)>(PIECES);
        let (Ok(ended), shared) = (from.try_clone(), Arc::clone(&self)) else { return };
        thread::spawn(move || {
            for (came, piece) in due {
                let delay = shared.delay();
                thread::sleep((came + delay).saturating_duration_since(Instant::now()));
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
            let _ = ended.shutdown(Shutdown::Both);
            let _ = to.shutdown(Shutdown::Both);
        });
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let piece = &buffer[..read];
            if let Some(seen) = &self.seen {
                lock(seen).extend_from_slice(piece);
            }
            if pieces.send((Instant::now(), piece.to_vec())).is_err() {
                break;
            }
        }
    }

    /// How much later pieces arrive, once any do.
    fn delay(&self) -> Duration {
        let held = |mode: &mut Mode| *mode == Mode::Hold;
        let mode = self.changed.wait_while(lock(&self.mode), held);
        match *mode.unwrap_or_else(PoisonError::into_inner) {
            Mode::Pass(delay) => delay,
            Mode::Hold => Duration::ZERO,
        }
    }
}
