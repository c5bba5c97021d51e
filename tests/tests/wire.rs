//! An eavesdropper sees all that the processes of a cluster send each other, and can read none of it.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use hurtig::JobState;
use hurtig_tests::cluster::{Cluster, Options, SOON};
use hurtig_tests::folders::{published_files, sorted_lines};
use hurtig_tests::network::is_own;
use hurtig_tests::processes::{listening, until_equal, wait_until};
use memchr::memmem;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

/// What the program writes in upper case in each of its records.
const WORD: &str = "sesame";

/// What is sent in clear, to see that the eavesdropper hears.
const CONTROL: &str = "nothing up my sleeve";

/// The type of TLS records that hold messages of a handshake.
const HANDSHAKE: u8 = 22;

/// All protocols (`ETH_P_ALL`), in the order of bytes of the network.
const ALL_PROTOCOLS: i32 = 3_u16.to_be() as i32;

#[derive(Default)]
struct Heard {
    /// Bytes that came to a port or from it.
    bytes: BTreeMap<u16, usize>,
    /// The first byte that the one who dialled has sent, by its port.
    first: BTreeMap<(u16, u16), u8>,
    /// The words that could be read, and how often.
    words: BTreeMap<&'static str, usize>,
}

impl Heard {
    /// Takes a frame of Ethernet with an IPv4 packet with a TCP segment; others are passed over.
    fn take(&mut self, frame: &[u8], words: &[(&'static str, memmem::Finder<'static>)]) {
        let Some(packet) = frame.get(14..).filter(|packet| packet.len() > 20 && packet[9] == 6) else {
            return;
        };
        let header = usize::from(packet[0] & 0xf) * 4;
        let Some(segment) = packet.get(header..).filter(|segment| segment.len() >= 20) else { return };
        let port = |at: usize| u16::from_be_bytes([segment[at], segment[at + 1]]);
        let (from, to) = (port(0), port(2));
        let Some(payload) = segment.get(usize::from(segment[12] >> 4) * 4..) else { return };
        let Some(first) = payload.first() else { return };
        *self.bytes.entry(from).or_default() += payload.len();
        *self.bytes.entry(to).or_default() += payload.len();
        // Who dials speaks first: TLS begins so.
        if !self.first.contains_key(&(to, from)) {
            self.first.entry((from, to)).or_insert(*first);
        }
        for (word, finder) in words {
            *self.words.entry(word).or_default() += finder.find_iter(payload).count();
        }
    }
}

/// Listens to all that passes on this network from now on.
fn eavesdrop(words: &[&'static str]) -> Arc<Mutex<Heard>> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(ALL_PROTOCOLS)));
    let mut socket = socket.expect("a network of one's own may be listened to");
    socket.set_recv_buffer_size(32 << 20).expect("a buffer");
    let heard = Arc::new(Mutex::new(Heard::default()));
    let of_thread = Arc::clone(&heard);
    let words: Vec<_> = words.iter().map(|word| (*word, memmem::Finder::new(*word))).collect();
    thread::spawn(move || {
        let mut frame = vec![0; 1 << 17];
        while let Ok(length) = socket.read(&mut frame) {
            of_thread.lock().expect("nothing fails with it").take(&frame[..length], &words);
        }
    });
    heard
}

/// Sends something in clear; returns the port it was sent to.
fn speak_openly() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let address = listener.local_addr().expect("an address");
    let mut speaker = TcpStream::connect(address).expect("a connection");
    speaker.write_all(CONTROL.as_bytes()).expect("it is sent");
    drop(speaker);
    let mut heard = String::new();
    listener.accept().expect("a connection").0.read_to_string(&mut heard).expect("it is read");
    assert_eq!(heard, CONTROL);
    address.port()
}

#[test]
fn records_and_program_pass_encrypted_between_all_processes() {
    if !is_own("records_and_program_pass_encrypted_between_all_processes") {
        return;
    }
    let upper: &'static str = WORD.to_uppercase().leak();
    // Of records, of the program's arguments, of its settings, of the program itself.
    let secrets = [upper, WORD, "checkpoint.interval", "write_marked"];
    let heard = eavesdrop(&[&secrets[..], &[CONTROL]].concat());
    let open = speak_openly();

    let cluster = Cluster::start(HURTIG, Options { task_managers: 2, ..Options::default() });
    let out = tempfile::tempdir().expect("a folder");
    let flags = ["-p4", "-Dcheckpoint.interval=100ms"];
    let checkpoints = format!("-Dcheckpoint.dir={}", out.path().join("checkpoints").display());
    let target = out.path().join("out");
    let own = ["--", "marked", target.to_str().expect("UTF-8"), "4000", "1000", WORD];
    let job = cluster.submit(PROGRAM, &[&flags[..], &[&checkpoints], &own].concat());
    until_equal("workers", SOON, 2, || cluster.all_workers().len());
    let ports = |process: u32| listening(process).into_iter().map(|address| address.port());
    let (mut of_job_manager, mut of_masters, mut of_workers) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    wait_until("output", SOON, || {
        of_job_manager.extend(ports(cluster.job_manager.id()));
        of_masters.extend(cluster.masters().iter().flat_map(|master| ports(master.id)));
        of_workers.extend(cluster.all_workers().iter().flat_map(|worker| ports(worker.id)));
        published_files(&target).len() > 2
    });
    cluster.wait_for(&job, JobState::Finished, SOON);
    let lines = sorted_lines(&target);
    assert!(lines.len() == 4_000 && lines[0].contains(upper), "{} lines", lines.len());

    let heard = heard.lock().expect("nothing fails with it");
    assert!(heard.words[CONTROL] > 0, "the eavesdropper does not hear");
    let is_heard = |port: &&u16| heard.bytes.get(port).is_some_and(|bytes| *bytes > 1_000);
    // One for the cluster, one for the job's master.
    assert_eq!(of_job_manager.iter().filter(is_heard).count(), 2, "{of_job_manager:?}");
    assert_eq!(of_masters.iter().filter(is_heard).count(), 1, "{of_masters:?}");
    // Of two workers one dials the other.
    assert!(of_workers.iter().filter(is_heard).count() >= 1, "{of_workers:?}");
    let program = std::fs::metadata(PROGRAM).expect("the program").len() as usize;
    // Sent once to the JobManager and from there to each TaskManager.
    assert!(heard.bytes[&cluster.address().port()] > 3 * program);
    for secret in secrets {
        assert_eq!(heard.words[secret], 0, "'{secret}' passes in clear");
    }
    let plain: Vec<_> = heard.first.iter().filter(|(_, first)| **first != HANDSHAKE).collect();
    assert!(plain.iter().all(|((_, to), _)| *to == open), "{plain:?}");
    assert_eq!(plain.len(), 1);
}
