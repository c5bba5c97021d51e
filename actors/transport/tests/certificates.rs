//! Certificates in files and as bytes, and their replacement while connections are made.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests fail by panics and spawn as they like"
)]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, SystemTime};

use hurtig_transport::{Authority, CertificateInfo, Error, Identity, Role, Tls, Validity};
use proptest::prelude::*;
use support::{authority, dial_jobmanager, listen, name, options, soon, tls};

#[test]
fn keys_are_for_their_owner_only_and_an_authority_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("certificates");
    let authority = Authority::create(&folder, "test", Validity::days(10)).unwrap();
    let hosts = ["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    let node = authority.issue(&name(Role::JobManager, "a"), Validity::days(1), &hosts).unwrap();
    node.save(&folder).unwrap();
    for (file, mode) in [("ca.pem", 0o644), ("ca.key", 0o600), ("node.pem", 0o644), ("node.key", 0o600)] {
        assert_eq!(
            std::fs::metadata(folder.join(file)).unwrap().permissions().mode() & 0o777,
            mode,
            "{file}"
        );
    }
    assert!(matches!(Authority::create(&folder, "test", Validity::days(1)), Err(Error::Certificate { .. })));
    assert_eq!(Identity::load(&folder).unwrap(), node);
    // an authority that is loaded again issues what the old one's peers accept
    let again = Authority::load(&folder).unwrap();
    Tls::new(again.issue(&name(Role::Client, "b"), Validity::days(1), &[]).unwrap()).unwrap();
    std::fs::copy(folder.join("node.key"), folder.join("ca.key")).unwrap();
    let error = Authority::load(&folder).unwrap_err().to_string();
    assert!(error.ends_with("is not the key of ca.pem"), "{error}");
}

#[test]
fn a_certificate_tells_what_it_says() {
    let hosts = ["host.example.org".to_owned(), "10.0.0.7".to_owned(), "::1".to_owned()];
    let identity = authority().issue(&name(Role::JobManager, "a"), Validity::days(30), &hosts).unwrap();
    let info = identity.info().unwrap();
    assert_eq!(info.subject, "O=hurtig, CN=jobmanager a");
    assert_eq!(info.issuer, "O=hurtig, CN=test");
    let names = ["a.jobmanager.hurtig", "jobmanager.hurtig", "host.example.org", "10.0.0.7", "::1"];
    assert_eq!(info.names, names);
    assert_eq!((info.fingerprint.len(), info.is_authority), (64, false));
    #[allow(clippy::disallowed_methods)]
    let now = SystemTime::now();
    assert_eq!(info.days_left(now), 29);
    assert_eq!(info.days_left(now + Duration::from_secs(31 * 24 * 3600)), -2);
    let folder = tempfile::tempdir().unwrap();
    identity.save(folder.path()).unwrap();
    assert_eq!(CertificateInfo::of_file(&folder.path().join("node.pem")).unwrap(), info);
    assert!(CertificateInfo::of_file(&folder.path().join("ca.pem")).unwrap().is_authority);
    assert!(CertificateInfo::of_file(&folder.path().join("node.key")).is_err());
}

#[test]
fn no_host_may_have_the_name_of_a_process() {
    for host in ["jobmanager.hurtig", "B.Client.Hurtig", "hurtig", "x.hurtig."] {
        let issued = authority().issue(&name(Role::Client, "a"), Validity::days(1), &[host.to_owned()]);
        assert!(matches!(issued, Err(Error::Name { .. })), "{host}");
    }
}

#[test]
fn an_identity_goes_through_a_pipe_and_never_into_debug_output() {
    let identity = authority().issue(&name(Role::Client, "a"), Validity::days(1), &[]).unwrap();
    let bytes = identity.to_bytes();
    assert_eq!(Identity::from_bytes(&bytes).unwrap(), identity);
    assert!(Identity::from_bytes(&bytes[..bytes.len() - 1]).is_err());
    assert!(Identity::from_bytes(&[&bytes[..], b"x"].concat()).is_err());
    assert!(!format!("{identity:?} {:?}", Tls::new(identity.clone())).contains("PRIVATE"));
}

proptest! {
    #[test]
    fn any_bytes_are_an_identity_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
        let magic: &[u8] = if magic { b"hurtig identity 1\n" } else { b"" };
        prop_assert!(Identity::from_bytes(&[magic, &bytes].concat()).is_err());
    }
}

#[tokio::test]
async fn certificates_are_replaced_without_a_restart() {
    let (old, new) = (authority(), authority());
    let issue = |authority: &Authority, id| {
        authority.issue(&name(Role::JobManager, id), Validity::days(1), &[]).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    issue(&old, "first").save(folder.path()).unwrap();
    let tls_of_folder = Tls::from_folder(folder.path()).unwrap();
    let (mut listener, address) = listen(tls_of_folder.clone(), options()).await;
    let _accepting = tokio::task::spawn(async move {
        loop {
            listener.accept().await;
        }
    });
    let (old_peer, new_peer) = (tls(&old, Role::Client, "c"), tls(&new, Role::Client, "c"));
    let server = |peer: &Tls| {
        let (peer, address) = (peer.clone(), address.clone());
        async move { dial_jobmanager(&peer, &address).await.map(|connection| connection.peer.id().to_owned()) }
    };
    assert_eq!(server(&old_peer).await.unwrap(), "first");

    // half of a replacement: what was stays in use
    let key = std::fs::read(folder.path().join("node.key")).unwrap();
    issue(&old, "second").save(folder.path()).unwrap();
    let new_key = std::fs::read(folder.path().join("node.key")).unwrap();
    std::fs::write(folder.path().join("node.key"), &key).unwrap();
    assert!(tls_of_folder.reload().is_err());
    assert_eq!(server(&old_peer).await.unwrap(), "first");

    // the other half, found without being told
    std::fs::write(folder.path().join("node.key"), &new_key).unwrap();
    soon(async {
        while server(&old_peer).await.unwrap() == "first" {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    assert_eq!(server(&old_peer).await.unwrap(), "second");
    assert!(server(&new_peer).await.is_err());

    // another authority
    issue(&new, "third").save(folder.path()).unwrap();
    tls_of_folder.reload().unwrap();
    assert_eq!(server(&new_peer).await.unwrap(), "third");
    assert!(server(&old_peer).await.is_err());
    assert_eq!(tls_of_folder.name(), name(Role::JobManager, "third"));
}
