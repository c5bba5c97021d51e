//! A network of a test's own, of which it may take addresses away and break connections, and to which nobody else
//! belongs.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::{Command, Stdio};

/// Set for the second self of a test, which runs in its own network.
const ALONE: &str = "HURTIG_TEST_ALONE";

/// Whether this process has a network of its own. If not, the test of that name is run in one, by a process that has.
///
/// # Panics
/// The test fails there, or there can be no such network.
pub fn is_own(test: &str) -> bool {
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let this = std::env::current_exe().expect("this program");
    let mut shell = Command::new("unshare");
    shell.args(["--map-root-user", "--net", "sh", "-c", r#"ip link set lo up && exec "$@""#, "sh"]).arg(this);
    shell.args(["--exact", test, "--nocapture"]).env(ALONE, "1");
    assert!(shell.status().expect("unshare starts").success(), "{test} has failed in a network of its own");
    false
}

fn ip(verb: &str, address: Ipv4Addr) {
    let status = Command::new("ip").args(["address", verb, &format!("{address}/32"), "dev", "lo"]).status();
    assert!(status.expect("ip starts").success(), "ip address {verb} {address}");
}

/// Gives this machine another address.
///
/// # Panics
/// It has it already.
pub fn add_address(address: Ipv4Addr) {
    ip("add", address);
}

/// Takes an address away. Connections to it stay open, but nothing passes, as when a cable is cut.
///
/// # Panics
/// It is not there.
pub fn remove_address(address: Ipv4Addr) {
    ip("del", address);
}

/// A connection: the ends as one of them sees it.
pub type Connection = (SocketAddrV4, SocketAddrV4);

/// All connections on this machine, each as seen from the end with the larger port.
///
/// # Panics
/// The kernel does not tell.
pub fn connections() -> Vec<Connection> {
    let table = std::fs::read_to_string("/proc/self/net/tcp").expect("a table");
    let end = |text: &str| {
        let (address, port) = text.split_once(':')?;
        let address = Ipv4Addr::from(u32::from_str_radix(address, 16).ok()?.to_le_bytes());
        Some(SocketAddrV4::new(address, u16::from_str_radix(port, 16).ok()?))
    };
    let connection = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (from, to) = (end(fields.get(1)?)?, end(fields.get(2)?)?);
        (*fields.get(3)? == "01" && from.port() > to.port()).then_some((from, to))
    };
    table.lines().filter_map(connection).collect()
}

/// Breaks a connection: its ends are told that it was reset. One that is gone is let be.
///
/// # Panics
/// `ss` does not start.
pub fn reset((from, to): Connection) {
    let mut ss = Command::new("ss");
    ss.args(["--kill", "--tcp", "src", &from.to_string(), "dst", &to.to_string()]);
    assert!(ss.stdout(Stdio::null()).status().expect("ss starts").success());
}
