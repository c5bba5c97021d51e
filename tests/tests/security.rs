//! A running cluster lets nobody in who does not belong to it, at no port of any of its processes, and a job that runs
//! meanwhile takes no notice.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use hurtig::daemon::client::ClusterClient;
use hurtig::daemon::memory::{Programs, Upload};
use hurtig::daemon::taskmanager::{self, TaskManagerDaemon};
use hurtig::dataflow::ids::JobId;
use hurtig::machine::Machine;
use hurtig::protocol::{FromMaster, ProgramHash, ProgramSummary};
use hurtig::resource::Offer;
use hurtig::{Config, JobState, JobStatus};
use hurtig_runtime::node::{Node, NodeEvent, NodeOptions};
use hurtig_tests::cluster::{Cluster, Options, SOON};
use hurtig_tests::faults::Seed;
use hurtig_tests::folders::published_files;
use hurtig_tests::processes::{kill, listening, wait_until};
use hurtig_tests::programs::{failure, says};
use hurtig_transport::frame::Header;
use hurtig_transport::{Authority, Identity, Name, Peer as Whom, Role, Tls, Validity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tempfile::{TempDir, tempdir};

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

/// How long a stranger waits for an answer. Handshakes end sooner.
const PATIENCE: Duration = Duration::from_secs(15);

/// The content type of TLS records that hold an alert.
const ALERT: u8 = 21;

fn folder() -> TempDir {
    tempdir().expect("a folder")
}

/// Trusts everybody: a stranger takes what it can get.
#[derive(Debug)]
struct TrustsAll(CryptoProvider);

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).expect("a connection");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket
}

/// Whether somebody who speaks TLS 1.3 is told anything behind the handshake.
fn is_let_in(address: SocketAddr, identity: Option<&Identity>, purpose: &str) -> bool {
    let mut stream = speak(address, identity, purpose);
    // What a node says first is its token; who does not speak may be waited for.
    stream.write_all(&[7; 64]).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
}

/// A connection of somebody who speaks TLS 1.3; the first write or read tells whether the other side wants it.
fn speak(
    address: SocketAddr,
    identity: Option<&Identity>,
    purpose: &str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let verifier = Arc::new(TrustsAll(default_provider()));
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let folder = folder();
            identity.save(folder.path()).expect("a folder");
            let chain = CertificateDer::pem_file_iter(folder.path().join("node.pem")).expect("certificates");
            let key = PrivateKeyDer::from_pem_file(folder.path().join("node.key")).expect("a key");
            let chain = chain.collect::<Result<_, _>>().expect("certificates");
            builder.with_client_auth_cert(chain, key).expect("a certificate of its key")
        }
    };
    config.alpn_protocols = vec![purpose.into()];
    let name = ServerName::try_from("jobmanager.hurtig").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("a connection");
    StreamOwned::new(connection, connect(address))
}

/// What is answered to bytes that are no TLS 1.3: nothing but an alert.
fn answer_to(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut socket = connect(address);
    let mut answer = Vec::new();
    // A reset is an answer too.
    let _ = socket.write_all(bytes).and_then(|()| socket.read_to_end(&mut answer));
    answer
}

/// The first message of a client that knows TLS 1.2 and nothing newer.
fn client_hello_of_tls_1_2() -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([9; 32]);
    // No session; ECDHE with AES and SHA-2, by ECDSA and by RSA; no compression.
    hello.extend([0, 0, 4, 0xc0, 0x2b, 0xc0, 0x2f, 1, 0]);
    // Groups, point formats, signature algorithms.
    let extensions = [0, 10, 0, 4, 0, 2, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 3, 4, 1];
    hello.extend([0, extensions.len() as u8]);
    hello.extend(extensions);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    record
}

/// Bytes of resident memory of a process.
fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("its memory");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).map_or(0, |kilo: u64| kilo << 10)
}

struct NoPrograms;

impl Programs for NoPrograms {
    fn path(&self, _: &ProgramHash) -> Option<PathBuf> {
        None
    }

    fn begin(&self, _: &ProgramHash, _: u64) -> Result<Box<dyn Upload>, String> {
        Err("none is wanted".into())
    }

    fn list(&self) -> Result<Vec<ProgramSummary>, String> {
        Ok(Vec::new())
    }
}

/// A cluster with a job that runs, and what strangers have.
struct Attacked {
    cluster: Cluster,
    job: String,
    out: TempDir,
}

impl Attacked {
    fn start() -> Self {
        Self::start_with("-Drestart.strategy=none")
    }

    fn start_with(restarts: &str) -> Self {
        let cluster = Cluster::start(HURTIG, Options::default());
        let out = folder();
        let at = out.path().join("out");
        let checkpoints = format!("--checkpoint-dir={}", out.path().join("checkpoints").display());
        let own = ["--", "events", at.to_str().expect("UTF-8"), "9000000000", "1000"];
        let flags = ["-p3", "--checkpoint-interval=100ms", &checkpoints, restarts];
        let job = cluster.submit(PROGRAM, &[&flags[..], &own].concat());
        let attacked = Attacked { cluster, job, out };
        attacked.goes_on();
        attacked
    }

    fn goes_on(&self) {
        let published = || published_files(&self.out.path().join("out")).len();
        let before = published();
        wait_until("output", SOON, || published() > before);
        let job = self.cluster.job(&self.job).expect("the job");
        assert_eq!((job.state, job.restarts), (JobState::Running, 0), "{job:?}");
    }

    fn issue(&self, role: Role, validity: Validity) -> Identity {
        let name = Name::new(role, "stranger").expect("a name");
        self.cluster.authority.issue(&name, validity, &[]).expect("a certificate")
    }

    /// A certificate of a process of the job.
    fn issue_for_job(&self, role: Role) -> Identity {
        self.issue_for_job_as(role, "stranger")
    }

    fn issue_for_job_as(&self, role: Role, id: &str) -> Identity {
        let keys = self.cluster.folder().join("jobmanager/jobs").join(&self.job).join("keys");
        let name = Name::of_job(role, &self.job, id).expect("a name");
        let authority = Authority::load(&keys).expect("the job's authority");
        authority.issue(&name, Validity::days(1), &[]).expect("a certificate")
    }

    fn ports(&self) -> Vec<SocketAddr> {
        self.processes().into_iter().flat_map(listening).collect()
    }

    /// All processes of the cluster and the job.
    fn processes(&self) -> Vec<u32> {
        let mut processes = vec![self.cluster.job_manager.id()];
        processes.extend(self.cluster.task_managers.iter().map(|daemon| daemon.id()));
        processes.extend(self.cluster.masters().iter().map(|process| process.id));
        processes.extend(self.cluster.all_workers().iter().map(|process| process.id));
        processes
    }

    /// Bytes of resident memory of the process that has most. Some may be replaced meanwhile.
    fn most_memory(&self) -> u64 {
        let is_there = |id: &u32| Path::new(&format!("/proc/{id}/exe")).read_link().is_ok();
        self.processes().into_iter().filter(is_there).map(memory).max().unwrap_or(0)
    }

    fn config(&self) -> Config {
        let define = format!("cluster.jobmanager={}", self.cluster.address());
        Config::builder().flag(&define).build().expect("a configuration")
    }

    /// A connection as a client, with any certificate; between two processes there is one at a time.
    async fn connect(&self, identity: Identity) -> ClusterClient {
        let tls = Tls::new(identity).expect("an identity");
        let start = Instant::now();
        loop {
            match ClusterClient::connect(&self.config(), &tls).await {
                Ok(client) => return client,
                Err(error) => assert!(start.elapsed() < SOON, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The TaskManagers that the JobManager knows.
    async fn task_managers(&self) -> usize {
        let client = self.connect(self.issue(Role::Client, Validity::days(1))).await;
        let overview = client.overview().await.expect("an answer");
        client.close().await;
        overview.task_managers.len()
    }
}

#[test]
fn strangers_get_nothing_at_any_port_and_the_job_goes_on() {
    let attacked = Attacked::start();
    let foreign = Authority::ephemeral("foreign", Validity::days(1)).expect("an authority");
    let name = Name::new(Role::TaskManager, "1").expect("a name");
    let foreign = foreign.issue(&name, Validity::days(1), &[]).expect("a certificate");
    let epoch = SystemTime::UNIX_EPOCH;
    let over = Validity::between(epoch, epoch + Duration::from_secs(1_000_000_000));
    let expired = attacked.issue(Role::TaskManager, over);
    let member = attacked.issue(Role::TaskManager, Validity::days(1));
    let of_job = attacked.issue_for_job(Role::Worker);
    let mut seed = Seed::new(1);
    let garbage: Vec<u8> = (0..5_000).map(|_| seed.next() as u8).collect();

    let ports = attacked.ports();
    // The JobManager's for the cluster and for the job, the master's, and those of three workers.
    assert!(ports.len() >= 6, "{ports:?}");
    assert!(ports.contains(&attacked.cluster.address()));
    assert!(
        is_let_in(attacked.cluster.address(), Some(&member), "hurtig-control/1"),
        "the test does not work"
    );
    for port in ports {
        let plain = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        for bytes in [&plain[..], &garbage, &client_hello_of_tls_1_2(), &[0xff; 5_000]] {
            let answer = answer_to(port, bytes);
            assert!(answer.first().is_none_or(|first| *first == ALERT), "{port} answers {answer:?}");
        }
        let is_of_cluster = port == attacked.cluster.address();
        let misplaced = if is_of_cluster { &of_job } else { &member };
        for purpose in ["hurtig-control/1", "hurtig-data/1", "h2"] {
            for (who, identity) in [
                ("nobody", None),
                ("a foreigner", Some(&foreign)),
                ("one of yesterday", Some(&expired)),
                ("one who belongs elsewhere", Some(misplaced)),
            ] {
                assert!(!is_let_in(port, identity, purpose), "{port} lets {who} in for {purpose}");
            }
        }
        attacked.goes_on();
    }
}

/// Frames of a link that hold 100 MB of elements, none of which was allowed, and as much credit as can be written.
fn flood() -> Vec<u8> {
    let mut frames = Vec::new();
    for number in 0..100_000_u32 {
        let (kind, payload) = match number % 10 {
            0 => (1, u32::MAX.to_le_bytes().to_vec()),
            1 => (0, vec![1; 9]),
            _ => (0, vec![0; 1_200]),
        };
        let header = Header { length: payload.len() as u32, channel: number % 8, kind, flags: 0 };
        frames.extend(header.encode());
        frames.extend(payload);
    }
    frames
}

#[test]
fn a_member_that_misbehaves_costs_an_attempt_at_most() {
    let attacked = Attacked::start_with("-Drestart.strategy=exponential-delay");
    let mut seed = Seed::new(2);
    let garbage: Vec<u8> = (0..1_000_000).map(|_| seed.next() as u8).collect();
    // Whatever the order of bytes is in which a length is written.
    let huge: Vec<u8> = [(1_u64 << 60).to_be_bytes(), (1_u64 << 60).to_le_bytes(), [0xff; 8]].concat();
    let flood = flood();
    let member = attacked.issue(Role::TaskManager, Validity::days(1));
    let master = attacked.issue_for_job(Role::Master);
    let worker = attacked.issue_for_job_as(Role::Worker, "worker-7");
    let before = attacked.most_memory();
    let (mut let_in, ports) = (0, attacked.ports());
    for port in ports {
        let control = |identity| (identity, "hurtig-control/1", vec![7; 16]);
        // A worker says which attempt and which worker it is: of none that is known, one to come, and somebody else.
        let data = |attempt: u32, id: u64| {
            (&worker, "hurtig-data/1", [&attempt.to_le_bytes()[..], &id.to_le_bytes()].concat())
        };
        let ways =
            [control(&member), control(&master), control(&worker), data(1, 7), data(u32::MAX, 7), data(1, 9)];
        for (identity, purpose, greeting) in ways {
            for bytes in [&garbage, &huge, &flood] {
                let mut stream = speak(port, Some(identity), purpose);
                // Where nobody reads, nobody's memory is filled either.
                stream.sock.set_write_timeout(Some(Duration::from_millis(500))).expect("a time-out");
                // One that is shown the door cannot write all of it.
                if stream.write_all(&greeting).and_then(|()| stream.flush()).is_err() {
                    break;
                }
                let_in += 1;
                let _ = stream.write_all(bytes).and_then(|()| stream.flush());
            }
        }
    }
    assert!(let_in > 0, "the test does not work");
    // Many that are held until their attempt comes, which never does.
    let of_workers =
        attacked.cluster.all_workers().iter().flat_map(|worker| listening(worker.id)).collect::<Vec<_>>();
    let held: Vec<_> = of_workers
        .iter()
        .flat_map(|port| std::iter::repeat_n(*port, 50))
        .map(|port| {
            let mut stream = speak(port, Some(&worker), "hurtig-data/1");
            let _ = stream.write_all(&[0xff, 0xff, 0xff, 0xff, 7, 0, 0, 0, 0, 0, 0, 0]);
            stream
        })
        .collect();
    let grown = attacked.most_memory().saturating_sub(before);
    assert!(grown < 64 << 20, "it took {grown} bytes, with {} connections held", held.len());

    let out = folder();
    let own = ["-p3", "--", "sessions", out.path().to_str().expect("UTF-8"), "500"];
    let fresh = attacked.cluster.submit(PROGRAM, &own);
    attacked.cluster.wait_for(&fresh, JobState::Finished, SOON);
    let published = || published_files(&attacked.out.path().join("out")).len();
    let before = published();
    wait_until("output", SOON, || published() > before);
}

#[test]
fn a_master_that_was_replaced_is_not_listened_to() {
    let attacked = Attacked::start();
    let first = attacked.cluster.masters().first().cloned().expect("a master");
    kill(first.id);
    wait_until("another master", SOON, || {
        attacked.cluster.masters().iter().any(|other| other.id != first.id)
    });
    attacked.cluster.wait_for(&attacked.job, JobState::Running, SOON);
    attacked.goes_on();

    let tls = Tls::new(attacked.issue_for_job_as(Role::Master, "master-1")).expect("an identity");
    hurtig_tests::jobs::run(async {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let events = Arc::new(move |event| drop(tell.send(event)));
        let node = Node::start(NodeOptions::default(), events).await.expect("a node");
        let whom = Whom::Any(Role::JobManager);
        let mut peer = None;
        for port in listening(attacked.cluster.job_manager.id()) {
            peer = peer.or(node.dial(&port.to_string(), &tls, &whom).await.ok());
        }
        let peer = peer.expect("the port for masters");
        let id = JobId(u128::from_str_radix(&attacked.job, 16).expect("an id"));
        let mut ended = JobStatus::new(id, "events", 0);
        (ended.state, ended.ended_at) = (JobState::Finished, Some(1));
        peer.tell(&FromMaster::Ready { address: "127.0.0.1:1".into(), rescaled: 0 }).expect("it is told");
        peer.tell(&FromMaster::Status(Box::new(ended))).expect("it is told");
        let reason = loop {
            match told.recv().await.expect("an event") {
                NodeEvent::Lost { reason, .. } => break reason,
                _ => continue,
            }
        };
        assert!(reason.contains("another master has taken its place"), "{reason}");
        node.shutdown().await;
    });
    attacked.goes_on();
}

#[test]
fn a_certificate_is_good_for_its_role_only() {
    let attacked = Attacked::start();
    hurtig_tests::jobs::run(async {
        assert_eq!(attacked.task_managers().await, 3);
        // The daemon's own check is passed over, as by an attacker who has a client's certificate.
        let client = Tls::new(attacked.issue(Role::Client, Validity::days(1))).expect("an identity");
        let options = taskmanager::Options {
            offer: Offer::unlimited(100),
            tls: client,
            folder: attacked.out.path().join("false"),
            config: attacked.config(),
            programs: Arc::new(NoPrograms),
            machine: Machine::Real,
        };
        let daemon = TaskManagerDaemon::start(options).await.expect("a daemon");
        let log = attacked.cluster.folder().join("logs/jobmanager.log");
        wait_until("a refusal in the JobManager's log", SOON, || {
            std::fs::read_to_string(&log).is_ok_and(|log| log.contains("a client asks, and does not tell"))
        });
        daemon.shutdown().await;
        assert!(std::fs::read_to_string(&log).is_ok_and(|log| !log.contains("offers 100 slots")));
        assert_eq!(attacked.task_managers().await, 3);
        // And the other way round.
        let client = attacked.connect(attacked.issue(Role::TaskManager, Validity::days(1))).await;
        assert!(client.list().await.is_err(), "a TaskManager is told of jobs");
        client.close().await;
    });
    attacked.goes_on();
}

#[test]
fn the_command_says_why_a_certificate_is_not_good() {
    let cluster = Cluster::start(HURTIG, Options { task_managers: 0, ..Options::default() });
    let refused = |name: &str, verb: &str, words: &[&str]| {
        says(&failure(1, &mut cluster.command_to(&cluster.address().to_string(), name, &[verb])), words);
    };
    refused("nowhere", "list", &["no certificate in", "hurtig certs node"]);
    refused("client", "taskmanager", &["of a client", "taskmanager"]);
    let foreign = Authority::ephemeral("foreign", Validity::days(1)).expect("an authority");
    let name = Name::new(Role::Client, "x").expect("a name");
    let identity = foreign.issue(&name, Validity::days(1), &[]).expect("a certificate");
    identity.save(&cluster.certificates("foreign")).expect("a folder");
    refused("foreign", "list", &["authority"]);
}

#[test]
fn ten_thousand_connections_that_say_nothing_hold_up_nobody() {
    const SILENT: usize = 10_000;
    let attacked = Attacked::start();
    // This process's own limit.
    let own = std::process::id().to_string();
    let limit = format!("--nofile={}:", SILENT + 1_000);
    let raised = Command::new("prlimit").args(["--pid", &own, &limit]).status();
    assert!(raised.expect("prlimit starts").success());
    let crowd = || (0..SILENT).map(|_| connect(attacked.cluster.address())).collect::<Vec<_>>();
    // What the first crowd takes, which is what is allowed at most, an allocator may keep. No later one takes more.
    drop(crowd());
    let before = memory(attacked.cluster.job_manager.id());
    let silent = crowd();
    attacked.goes_on();
    assert_eq!(attacked.cluster.call(&["list"]).lines().count(), 2);
    let grown = memory(attacked.cluster.job_manager.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} connections took {grown} bytes", silent.len());
}
