//! A running cluster lets nobody in who does not belong to it, at no port of any of its processes, and a job that runs
//! meanwhile takes no notice. What it sends over the network cannot be read.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use hurtig::daemon::client::ClusterClient;
use hurtig::daemon::memory::{Programs, Upload};
use hurtig::daemon::taskmanager::{self, TaskManagerDaemon};
use hurtig::protocol::ProgramHash;
use hurtig::{Config, JobState};
use hurtig_tests::cluster::{Cluster, Options, SOON, free_address};
use hurtig_tests::faults::Seed;
use hurtig_tests::folders::{published_files, sorted_lines};
use hurtig_tests::processes::{listening, wait_until};
use hurtig_tests::programs::{failure, says};
use hurtig_tests::proxy::Proxy;
use hurtig_transport::{Authority, Identity, Name, Role, Tls, Validity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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
    let mut stream = StreamOwned::new(connection, connect(address));
    // What a node says first is its token; who does not speak may be waited for.
    stream.write_all(&[7; 64]).is_ok() && stream.read(&mut [0]).is_ok_and(|read| read > 0)
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
}

/// A cluster with a job that runs, and what strangers have.
struct Attacked {
    cluster: Cluster,
    job: String,
    out: TempDir,
}

impl Attacked {
    fn start() -> Self {
        let cluster = Cluster::start(HURTIG, Options::default());
        let out = folder();
        let at = out.path().join("out");
        let checkpoints = format!("--checkpoint-dir={}", out.path().join("checkpoints").display());
        let own = ["--", "events", at.to_str().expect("UTF-8"), "9000000000", "1000"];
        let flags = ["-p3", "--checkpoint-interval=100ms", &checkpoints, "-Drestart.strategy=none"];
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
        let keys = self.cluster.folder().join("jobmanager/jobs").join(&self.job).join("keys");
        let name = Name::of_job(role, &self.job, "stranger").expect("a name");
        let authority = Authority::load(&keys).expect("the job's authority");
        authority.issue(&name, Validity::days(1), &[]).expect("a certificate")
    }

    fn ports(&self) -> Vec<SocketAddr> {
        let mut processes = vec![self.cluster.job_manager.id()];
        processes.extend(self.cluster.task_managers.iter().map(|daemon| daemon.id()));
        processes.extend(self.cluster.masters().iter().map(|process| process.id));
        processes.extend(self.cluster.all_workers().iter().map(|process| process.id));
        processes.into_iter().flat_map(listening).collect()
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

#[test]
fn a_certificate_is_good_for_its_role_only() {
    let attacked = Attacked::start();
    hurtig_tests::jobs::run(async {
        assert_eq!(attacked.task_managers().await, 3);
        // The daemon's own check is passed over, as by an attacker who has a client's certificate.
        let client = Tls::new(attacked.issue(Role::Client, Validity::days(1))).expect("an identity");
        let options = taskmanager::Options {
            slots: 100,
            tls: client,
            folder: attacked.out.path().join("false"),
            config: attacked.config(),
            programs: Arc::new(NoPrograms),
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
        says(&failure(1, &mut cluster.command_to(cluster.address(), name, &[verb])), words);
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
fn connections_that_say_nothing_hold_up_nobody() {
    let attacked = Attacked::start();
    let before = memory(attacked.cluster.job_manager.id());
    let silent: Vec<TcpStream> = (0..800).map(|_| connect(attacked.cluster.address())).collect();
    attacked.goes_on();
    assert_eq!(attacked.cluster.call(&["list"]).lines().count(), 2);
    let grown = memory(attacked.cluster.job_manager.id()).saturating_sub(before);
    assert!(grown < 64 << 20, "{} connections took {grown} bytes", silent.len());
}

#[test]
fn records_and_program_pass_encrypted() {
    const WORD: &str = "sesame";
    let address = free_address();
    let proxy = Proxy::start(address, true);
    let options = Options { through: Some(proxy.address()), task_managers: 2, ..Options::default() };
    let cluster = Cluster::start_at(HURTIG, address, options);
    let out = folder();
    let args = ["run", "-q", PROGRAM, "-p4", "--", "marked"];
    let own = [out.path().to_str().expect("UTF-8"), "2000", "1e9", WORD];
    let mut run = cluster.command_to(proxy.address(), "client", &[&args[..], &own].concat());
    let output = run.output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = sorted_lines(out.path());
    assert!(lines.len() == 2_000 && lines[0].contains(&WORD.to_uppercase()), "{} lines", lines.len());
    let seen = proxy.seen();
    let program = std::fs::metadata(Path::new(PROGRAM)).expect("the program").len() as usize;
    // Sent once to the JobManager and from there to each TaskManager.
    assert!(seen.len() > 3 * program, "only {} bytes have passed", seen.len());
    let contains = |word: &[u8]| seen.windows(word.len()).any(|bytes| bytes == word);
    for word in [WORD, &WORD.to_uppercase(), "checkpoint.interval", "write_marked"] {
        assert!(!contains(word.as_bytes()), "'{word}' passes in clear");
    }
}
