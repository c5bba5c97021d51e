//! Who is let in, who is not and why, and that a flood of strangers keeps no peer out.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panics and spawn as they like"
)]

mod support;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use hurtig_transport::{
    Authority, DialOptions, Error, Identity, ListenerOptions, Name, Peer, Purpose, Refusal, Role, Tls,
    Validity, dial,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use support::{JOBMANAGER, authority, dial_jobmanager, listen, name, options, soon, tls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A client of our own making, which does what [`dial`] would not.
struct Stranger {
    certificate: Option<Identity>,
    version: &'static rustls::SupportedProtocolVersion,
    protocols: Vec<Vec<u8>>,
}

impl Stranger {
    fn with(certificate: Option<Identity>) -> Self {
        let protocols = vec![Purpose::DATA.as_str().as_bytes().to_vec()];
        Stranger { certificate, version: &rustls::version::TLS13, protocols }
    }

    /// What it gets to read, once it trusts the server and has shown what it has.
    async fn reads(self, trusted: &Authority, address: &str) -> io::Result<u8> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(trusted.certificate_pem().as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[self.version])
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match self.certificate {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let folder = tempfile::tempdir().unwrap();
                identity.save(folder.path()).unwrap();
                let chain = CertificateDer::pem_file_iter(folder.path().join("node.pem")).unwrap();
                let key = PrivateKeyDer::from_pem_file(folder.path().join("node.key")).unwrap();
                builder.with_client_auth_cert(chain.map(Result::unwrap).collect(), key).unwrap()
            }
        };
        config.alpn_protocols = self.protocols;
        let socket = TcpStream::connect(address).await?;
        let server = ServerName::try_from("jobmanager.hurtig").unwrap();
        let mut stream = TlsConnector::from(Arc::new(config)).connect(server, socket).await?;
        stream.read_u8().await
    }
}

/// The stranger gets nothing, the listener knows why, and a peer still gets in.
async fn is_refused(authority: &Authority, stranger: Stranger, why: Refusal) {
    let (mut listener, address) = listen(tls(authority, Role::JobManager, "a"), options()).await;
    let got = tokio::select! {
        got = stranger.reads(authority, &address) => got,
        _ = listener.accept() => panic!("let in"),
    };
    assert!(got.is_err(), "{got:?}");
    let peer = tls(authority, Role::TaskManager, "b");
    let (accepted, dialled) =
        soon(async { tokio::join!(listener.accept(), dial_jobmanager(&peer, &address)) }).await;
    assert_eq!(accepted.peer, name(Role::TaskManager, "b"));
    assert_eq!(dialled.unwrap().peer, name(Role::JobManager, "a"));
    assert_eq!(listener.refused(why), 1, "{why:?}");
}

fn issue(authority: &Authority) -> Identity {
    authority.issue(&name(Role::TaskManager, "x"), Validity::days(1), &[]).unwrap()
}

fn expired() -> Validity {
    let epoch = SystemTime::UNIX_EPOCH;
    Validity::between(epoch, epoch + Duration::from_secs(1_000_000_000))
}

#[tokio::test]
async fn a_stranger_without_certificate_gets_nothing() {
    is_refused(&authority(), Stranger::with(None), Refusal::NoCertificate).await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_gets_nothing() {
    let foreign = issue(&authority());
    is_refused(&authority(), Stranger::with(Some(foreign)), Refusal::UnknownAuthority).await;
}

#[tokio::test]
async fn an_expired_certificate_gets_nothing() {
    let authority = authority();
    let old = authority.issue(&name(Role::TaskManager, "x"), expired(), &[]).unwrap();
    is_refused(&authority, Stranger::with(Some(old)), Refusal::Expired).await;
}

#[tokio::test]
async fn tls_1_2_gets_nothing() {
    let authority = authority();
    let mut stranger = Stranger::with(Some(issue(&authority)));
    stranger.version = &rustls::version::TLS12;
    is_refused(&authority, stranger, Refusal::Incompatible).await;
}

#[tokio::test]
async fn a_purpose_must_be_named_and_offered() {
    let authority = authority();
    for protocols in [vec![], vec![b"h2".to_vec()]] {
        let mut stranger = Stranger::with(Some(issue(&authority)));
        stranger.protocols = protocols;
        is_refused(&authority, stranger, Refusal::WrongPurpose).await;
    }
}

#[tokio::test]
async fn a_certificate_of_our_authority_without_a_name_of_ours_gets_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::create(folder.path(), "test", Validity::days(1)).unwrap();
    let (mut listener, address) = listen(tls(&authority, Role::JobManager, "a"), options()).await;
    // made by other means: ours issue no such thing
    let read = |file| std::fs::read_to_string(folder.path().join(file)).unwrap();
    let key = rcgen::KeyPair::from_pem(&read("ca.key")).unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(read("ca.pem").as_bytes()).unwrap()).unwrap();
    for names in
        [vec!["example.org".to_owned()], vec!["a.client.hurtig".to_owned(), "b.client.hurtig".to_owned()]]
    {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(names).unwrap().signed_by(&key, &issuer).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(
                vec![certificate.der().clone()],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![Purpose::DATA.as_str().as_bytes().to_vec()];
        let client = async {
            let socket = TcpStream::connect(&address).await.unwrap();
            let server = ServerName::try_from("jobmanager.hurtig").unwrap();
            TlsConnector::from(Arc::new(config)).connect(server, socket).await?.read_u8().await
        };
        tokio::select! {
            got = client => assert!(got.is_err(), "{got:?}"),
            _ = listener.accept() => panic!("let in"),
        }
    }
    assert_eq!(listener.refused(Refusal::NoName), 2);
}

#[tokio::test]
async fn what_is_not_tls_gets_at_most_an_alert() {
    let authority = authority();
    let (mut listener, address) = listen(tls(&authority, Role::JobManager, "a"), options()).await;
    let noise: Vec<u8> =
        (0..200_000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    for bytes in
        [&b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"[..], &noise, &[0; 100_000], b"\x16\x03\x01\xff\xff\xff\xff"]
    {
        let stranger = async {
            let mut socket = TcpStream::connect(&address).await.unwrap();
            // the listener may hang up before all is written, or reset the connection
            let _ = socket.write_all(bytes).await;
            let _ = socket.shutdown().await;
            let mut got = Vec::new();
            let _ = socket.read_to_end(&mut got).await;
            got
        };
        tokio::select! {
            got = soon(stranger) => assert!(got.len() <= 7, "{got:?}"),
            _ = listener.accept() => panic!("let in"),
        }
    }
    assert!(listener.refused(Refusal::NotTls) >= 2);
    assert_eq!(listener.unproven(), 0);
}

async fn refusal_of(tls: &Tls, address: &str, peer: &Peer, purpose: Purpose) -> Refusal {
    match soon(dial(tls, address, peer, purpose, &DialOptions::default())).await {
        Err(Error::Handshake { refusal, .. }) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn who_is_refused_is_told_why() {
    let authority = authority();
    let only_data_for_taskmanagers = ListenerOptions::new([Purpose::DATA], |name, purpose| {
        purpose == Purpose::DATA && name.role() == Role::TaskManager
    });
    let (mut listener, address) =
        listen(tls(&authority, Role::JobManager, "a"), only_data_for_taskmanagers).await;
    let accepting = tokio::task::spawn(async move { listener.accept().await.peer });
    let good = tls(&authority, Role::TaskManager, "b");
    let refusal = |tls: &Tls, peer: Peer, purpose| {
        let (tls, address) = (tls.clone(), address.clone());
        async move { refusal_of(&tls, &address, &peer, purpose).await }
    };
    let client = tls(&authority, Role::Client, "c");
    assert_eq!(refusal(&client, JOBMANAGER, Purpose::DATA).await, Refusal::NotAllowed);
    assert_eq!(refusal(&good, JOBMANAGER, Purpose::CONTROL).await, Refusal::WrongPurpose);
    assert_eq!(refusal(&good, Peer::Any(Role::TaskManager), Purpose::DATA).await, Refusal::WrongName);
    let other = Peer::Named(name(Role::JobManager, "z"));
    assert_eq!(refusal(&good, other, Purpose::DATA).await, Refusal::WrongName);
    let old = Tls::new(authority.issue(&name(Role::TaskManager, "x"), expired(), &[]).unwrap()).unwrap();
    assert_eq!(refusal(&old, JOBMANAGER, Purpose::DATA).await, Refusal::Expired);
    let foreign = tls(&support::authority(), Role::TaskManager, "x");
    assert_eq!(refusal(&foreign, JOBMANAGER, Purpose::DATA).await, Refusal::UnknownAuthority);
    assert!(!accepting.is_finished());
    let dialled = dial_jobmanager(&good, &address).await.unwrap();
    assert_eq!(dialled.stream.cipher(), "TLS13_AES_128_GCM_SHA256");
    assert_eq!(soon(accepting).await.unwrap(), name(Role::TaskManager, "b"));
}

#[tokio::test]
async fn the_processes_of_one_job_do_not_speak_to_those_of_another() {
    let of_job = |authority: &Authority, role, job| {
        let name = Name::of_job(role, job, "0").unwrap();
        Tls::new(authority.issue(&name, Validity::days(1), &[]).unwrap()).unwrap()
    };
    let (one, two) = (authority(), authority());
    let (mut listener, address) = listen(of_job(&one, Role::Worker, "one"), options()).await;
    let accepting = tokio::task::spawn(async move { listener.accept().await.peer });
    let peer = Peer::AnyOfJob(Role::Worker, "one".to_owned());
    let stranger = of_job(&two, Role::Worker, "one");
    assert_eq!(refusal_of(&stranger, &address, &peer, Purpose::DATA).await, Refusal::UnknownAuthority);
    let friend = of_job(&one, Role::Master, "one");
    let other = Peer::AnyOfJob(Role::Worker, "two".to_owned());
    assert_eq!(refusal_of(&friend, &address, &other, Purpose::DATA).await, Refusal::WrongName);
    let dialled = dial(&friend, &address, &peer, Purpose::DATA, &DialOptions::default()).await;
    assert_eq!(dialled.unwrap().peer, Name::of_job(Role::Worker, "one", "0").unwrap());
    assert_eq!(soon(accepting).await.unwrap().role(), Role::Master);
}

/// A flood that goes on while a peer comes, of connections that send `bytes` and then nothing.
async fn flood(bytes: &'static [u8], count: usize) {
    let authority = authority();
    let mut options = options();
    (options.max_silent, options.max_handshakes) = (64, 16);
    let most = options.max_silent + options.max_handshakes;
    let (mut listener, address) = listen(tls(&authority, Role::JobManager, "a"), options).await;
    let target = address.clone();
    let flood = tokio::task::spawn(async move {
        // what the listener has dropped need not be kept here either
        let mut held = VecDeque::new();
        for _ in 0..count {
            let mut socket = TcpStream::connect(&target).await.unwrap();
            // a socket that was dropped already may refuse it
            let _ = socket.write_all(bytes).await;
            held.push_back(socket);
            if held.len() > 2 * most {
                held.pop_front();
            }
        }
        std::future::pending::<()>().await;
    });
    let peer = tls(&authority, Role::TaskManager, "b");
    let mut peers = 0;
    while listener.refused(Refusal::Crowded) < (count - 2 * most) as u64 {
        let (accepted, dialled) =
            soon(async { tokio::join!(listener.accept(), dial_jobmanager(&peer, &address)) }).await;
        assert_eq!(accepted.peer, name(Role::TaskManager, "b"));
        dialled.unwrap();
        peers += 1;
        assert!(listener.unproven() <= most, "{}", listener.unproven());
    }
    assert!(peers > 0);
    flood.abort();
}

#[tokio::test]
async fn thousands_of_silent_connections_keep_no_peer_out() {
    flood(b"", 2000).await;
}

#[tokio::test]
async fn thousands_of_handshakes_that_stall_keep_no_peer_out() {
    flood(b"\x16\x03\x01\x02\x00\x01\x00", 2000).await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_dropped_after_a_while() {
    let mut options = options();
    options.handshake_timeout = Duration::from_millis(100);
    let (mut listener, address) = listen(tls(&authority(), Role::JobManager, "a"), options).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    tokio::select! {
        got = soon(silent.read_u8()) => assert!(got.is_err()),
        _ = listener.accept() => panic!("let in"),
    }
    assert_eq!((listener.refused(Refusal::TimedOut), listener.unproven()), (1, 0));
}

#[tokio::test]
async fn a_server_that_says_nothing_is_given_up() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let options = DialOptions { handshake_timeout: Duration::from_millis(100), ..DialOptions::default() };
    let peer = tls(&authority(), Role::Client, "c");
    match soon(dial(&peer, &address, &JOBMANAGER, Purpose::CONTROL, &options)).await {
        Err(Error::Handshake { refusal: Refusal::TimedOut, .. }) => {}
        other => panic!("{other:?}"),
    }
    drop(silent);
    match soon(dial(&peer, &address, &JOBMANAGER, Purpose::CONTROL, &options)).await {
        Err(Error::Connect { .. }) => {}
        other => panic!("{other:?}"),
    }
}
