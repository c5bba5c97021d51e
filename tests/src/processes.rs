//! Processes from outside: found by the file they run, stopped, resumed, killed; and waiting for what they do.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use std::fmt::Debug;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Between two looks at a condition.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A process that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub id: u32,
    /// The file it runs.
    pub program: PathBuf,
    /// The file that takes what it prints.
    pub output: PathBuf,
}

/// The processes that run a file of a folder. Those that have ended and wait for their parent are not among them.
pub fn running_from(folder: &Path) -> Vec<Process> {
    let Ok(entries) = Path::new("/proc").read_dir() else { return Vec::new() };
    let process = |entry: std::fs::DirEntry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let program = entry.path().join("exe").read_link().ok()?;
        let output = entry.path().join("fd/1").read_link().unwrap_or_default();
        program.starts_with(folder).then_some(Process { id, program, output })
    };
    entries.flatten().filter_map(process).collect()
}

/// Whether a process runs; one that has ended and waits for its parent does not.
pub fn is_running(id: u32) -> bool {
    Path::new(&format!("/proc/{id}/exe")).read_link().is_ok()
}

/// The children of a process.
pub fn children(id: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Sends a signal; whether the process was there.
pub fn signal(id: u32, signal: &str) -> bool {
    // The shell's own: the program of the same name is not everywhere.
    let kill = Command::new("sh").args(["-c", &format!("kill -{signal} {id} 2>/dev/null")]).status();
    kill.is_ok_and(|status| status.success())
}

/// Kills a process as the kernel does when there is no memory left.
pub fn kill(id: u32) -> bool {
    signal(id, "KILL")
}

/// Waits until a condition holds, and returns what it found.
///
/// # Panics
/// It does not hold in time; `what` says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut found: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(start.elapsed() < limit, "waited {limit:?} in vain for: {what}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// As [`until`], for a condition that is only true or not.
///
/// # Panics
/// As [`until`].
pub fn wait_until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    until(what, limit, || holds().then_some(()));
}

/// Waits until a value is the wanted one.
///
/// # Panics
/// It is another for too long.
pub fn until_equal<T: PartialEq + Debug>(
    what: &str,
    limit: Duration,
    wanted: T,
    mut look: impl FnMut() -> T,
) {
    let start = Instant::now();
    loop {
        let found = look();
        if found == wanted {
            return;
        }
        assert!(start.elapsed() < limit, "{what} is {found:?} and not {wanted:?} after {limit:?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// The addresses that a process listens at for TCP over IPv4.
pub fn listening(id: u32) -> Vec<SocketAddr> {
    let Ok(descriptors) = Path::new(&format!("/proc/{id}/fd")).read_dir() else { return Vec::new() };
    let target = |entry: std::fs::DirEntry| Some(entry.path().read_link().ok()?.to_str()?.to_string());
    let sockets: Vec<String> = descriptors.flatten().filter_map(target).collect();
    let table = std::fs::read_to_string(format!("/proc/{id}/net/tcp")).unwrap_or_default();
    let address = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_listening = *fields.get(3)? == "0A";
        let socket = format!("socket:[{}]", fields.get(9)?);
        let (address, port) = fields.get(1)?.split_once(':')?;
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_le_bytes());
        let port = u16::from_str_radix(port, 16).ok()?;
        (is_listening && sockets.contains(&socket)).then_some(SocketAddr::from((address, port)))
    };
    table.lines().filter_map(address).collect()
}
