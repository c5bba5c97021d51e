//! A cluster of real processes, run from its web page's routes alone: upload, run, watch, savepoint, stop, run on,
//! break, and find out why; after a restart of the JobManager too.

use hurtig_tests::cluster::{Cluster, Options, SOON, free_addresses};
use hurtig_tests::http::{get, request, send, upload};
use hurtig_tests::processes::until;
use hurtig_transport::{Authority, Name, Role, Validity};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

fn addresses<const COUNT: usize>() -> [SocketAddr; COUNT] {
    let mut free = free_addresses();
    std::array::from_fn(|_| free.next().expect("a free port"))
}

/// A cluster with its page at a known address.
fn start(more: &[String]) -> (Cluster, SocketAddr) {
    let [job_manager, page] = addresses();
    let mut options = Options { task_managers: 2, ..Options::default() };
    options.defines.push(format!("rest.port={}", page.port()));
    options.defines.extend_from_slice(more);
    (Cluster::start_at(HURTIG, job_manager, options), page)
}

fn wait(page: SocketAddr, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    until(path, SOON, || Some(get(page, path)).filter(|answer| holds(answer)))
}

/// Runs the uploaded program with arguments of its own; what it is asked for in Flink's words.
fn run(page: SocketAddr, program: &str, args: &[&str], more: &Value) -> String {
    let mut body = json!({ "programArgsList": args, "parallelism": 2 });
    for (key, value) in more.as_object().into_iter().flatten() {
        body[key] = value.clone();
    }
    let answer = send(page, "POST", &format!("/jars/{program}/run"), &body);
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["jobid"].as_str().expect("a job").to_string()
}

#[test]
fn a_job_is_uploaded_run_watched_stopped_and_run_on_over_rest() {
    let (mut cluster, page) = start(&[]);
    let content = std::fs::read(PROGRAM).expect("the program");
    let uploaded = upload(page, "/jars/upload", "../events", &content);
    assert_eq!(uploaded.status, 200, "{}", uploaded.body);
    let files = get(page, "/programs")["files"].clone();
    let program = files[0]["id"].as_str().expect("an id").to_string();
    assert_eq!((files.as_array().map(Vec::len), &files[0]["name"]), (Some(1), &json!("events")));
    assert!(uploaded.json()["filename"].as_str().is_some_and(|name| name.ends_with(&program)));

    let folder = cluster.folder().to_path_buf();
    let place = |name: &str| folder.join(name).display().to_string();
    let (out, savepoints) = (place("out"), place("savepoints"));
    let settings = json!({ "configuration": { "checkpoint.interval": "200 ms", "checkpoint.dir": place("checkpoints") } });
    let args = ["events", &out, "100000000", "5000"];
    let job = run(page, &program, &args, &settings);
    let at = |what: &str| format!("/jobs/{job}{what}");
    let running = wait(page, &at(""), |job| job["status-counts"]["RUNNING"] == 2);
    assert_eq!(running["vertices"][0]["parallelism"], 2);
    wait(page, &at("/checkpoints"), |all| all["counts"]["completed"].as_u64() > Some(1));
    wait(page, &at(""), |job| job["vertices"][1]["metrics"]["read-records"].as_u64() > Some(1_000));
    let managers = get(page, "/taskmanagers")["taskmanagers"].clone();
    let tasks: u64 =
        managers.as_array().into_iter().flatten().filter_map(|row| row["assignedTasks"].as_u64()).sum();
    assert_eq!(tasks, 4, "{managers}");

    // Another parallelism of one vertex, then of all by the page's form.
    let requirements = get(page, &at("/resource-requirements"));
    let counts = running["vertices"][1]["id"].as_str().expect("an id");
    assert_eq!(requirements[counts]["parallelism"], json!({ "lowerBound": 2, "upperBound": 2 }));
    let wanted = json!({ counts: { "parallelism": { "lowerBound": 1, "upperBound": 3 } } });
    let answer = send(page, "PUT", &at("/resource-requirements"), &wanted);
    assert_eq!(answer.status, 200, "{}", answer.body);
    let runs_with = |parallelism: [u64; 2]| {
        wait(page, &at(""), |job| {
            let is = |vertex: usize| job["vertices"][vertex]["parallelism"] == parallelism[vertex];
            job["status-counts"]["RUNNING"] == 2 && is(0) && is(1)
        });
    };
    runs_with([2, 3]);
    let wanted = json!({ counts: { "parallelism": { "lowerBound": 1, "upperBound": 500 } } });
    let refused = send(page, "PUT", &at("/resource-requirements"), &wanted);
    assert!(refused.status == 409 && refused.body.contains("maximum parallelism 128"), "{}", refused.body);
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let answer = request(page, "POST", &format!("/web/jobs/{job}/rescale"), &form, b"parallelism=1");
    assert_eq!(answer.status, 303, "{}", answer.body);
    runs_with([1, 3]);
    let shown = || request(page, "GET", &format!("/web/jobs/{job}"), &[], &[]).body;
    until("the outcome on the page", SOON, || shown().contains("Rescaled to parallelism 1").then_some(()));

    // A savepoint while it goes on, then one to stop with.
    for (route, body) in [
        ("/savepoints", json!({ "target-directory": savepoints })),
        ("/stop", json!({ "targetDirectory": savepoints, "drain": false })),
    ] {
        let asked = send(page, "POST", &at(route), &body);
        assert_eq!(asked.status, 202, "{}", asked.body);
        let request = asked.json()["request-id"].as_str().expect("a number").to_string();
        let done = wait(page, &at(&format!("/savepoints/{request}")), |answer| {
            answer["status"]["id"] == "COMPLETED"
        });
        let location = done["operation"]["location"].as_str().unwrap_or_else(|| panic!("{done}")).to_string();
        assert!(location.contains("savepoint-"), "{location}");
    }
    wait(page, &at(""), |job| job["state"] == "FINISHED");
    let last = get(page, &at("/checkpoints"))["latest"]["savepoint"]["external_path"].clone();
    assert!(last.as_str().is_some_and(|path| Path::new(path.trim_start_matches("file:")).exists()), "{last}");
    let refused = send(page, "POST", &at("/stop"), &json!({}));
    assert_eq!(refused.status, 409, "{}", refused.body);

    // It goes on from there; what is known of the first outlives the JobManager.
    let mut from = settings.clone();
    from["savepointPath"] = last;
    let second = run(page, &program, &args, &from);
    wait(page, &format!("/jobs/{second}"), |job| job["status-counts"]["RUNNING"] == 2);
    let restored = get(page, &format!("/jobs/{second}/checkpoints"))["latest"]["restored"].clone();
    assert_eq!(restored["is_savepoint"], true, "{restored}");
    cluster.job_manager.kill();
    cluster.job_manager.start();
    let again = until("the page to be back", SOON, || {
        TcpStream::connect(page).ok()?;
        Some(get(page, &at("/checkpoints")))
    });
    assert!(again["counts"]["completed"].as_u64() > Some(1), "{again}");
    wait(page, &format!("/jobs/{second}"), |job| job["status-counts"]["RUNNING"] == 2);
    assert_eq!(request(page, "PATCH", &format!("/jobs/{second}"), &[], &[]).status, 202);
    wait(page, &format!("/jobs/{second}"), |job| job["state"] == "CANCELED");
}

#[test]
fn why_a_job_has_failed_is_told_by_its_page() {
    let (_cluster, page) = start(&[]);
    let content = std::fs::read(PROGRAM).expect("the program");
    let program = upload(page, "/programs/upload", "names", &content).json()["filename"].clone();
    let program = program.as_str().expect("a name").trim_start_matches('/').to_string();
    let missing = "/nowhere/names.jsonl";
    let body = json!({ "programArgsList": ["names", missing, "/nowhere/out"] });
    let answer = send(page, "POST", &format!("/programs/{program}/run"), &body);
    if answer.status != 200 {
        // A program that finds so itself builds no job, and says why.
        assert!(
            answer.json()["errors"][0].as_str().is_some_and(|why| why.contains(missing)),
            "{}",
            answer.body
        );
        return;
    }
    let job = answer.json()["jobid"].as_str().expect("a job").to_string();
    wait(page, &format!("/jobs/{job}"), |job| job["state"] == "FAILED");
    let why = get(page, &format!("/jobs/{job}/exceptions"));
    let entry = &why["exceptionHistory"]["entries"][0];
    assert!(entry["stacktrace"].as_str().is_some_and(|text| text.contains(missing)), "{why}");
    let shown = request(page, "GET", &format!("/web/jobs/{job}/exceptions"), &[], &[]).body;
    assert!(shown.contains(missing), "{shown}");
}

/// Asks over TLS, trusting one authority.
fn ask_over_tls(page: SocketAddr, authority: &Path, path: &str, token: &str) -> String {
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(authority).expect("an authority");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("a certificate")).expect("an authority");
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("protocols")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::IpAddress(page.ip().into());
    let session = ClientConnection::new(Arc::new(config), name).expect("a session");
    let mut stream = StreamOwned::new(session, TcpStream::connect(page).expect("a connection"));
    let request = format!("GET {path} HTTP/1.0\r\nhost: {page}\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a request");
    let mut answer = Vec::new();
    // The end of the session may be missing.
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn the_page_is_served_over_https_with_certificates_as_hurtig_makes_them() {
    let folder = tempfile::tempdir().expect("a folder");
    let (certificates, token) = (folder.path().join("certificates"), folder.path().join("token"));
    let authority = Authority::ephemeral("page", Validity::days(1)).expect("an authority");
    let name = Name::new(Role::JobManager, "page").expect("a name");
    let identity = authority.issue(&name, Validity::days(1), &["127.0.0.1".to_string()]);
    identity.expect("a certificate").save(&certificates).expect("a folder");
    std::fs::write(&token, "a token that nobody guesses\n").expect("a file");
    let (_cluster, page) = start(&[
        "rest.address=0.0.0.0".into(),
        format!("rest.certificates={}", certificates.display()),
        format!("rest.token={}", token.display()),
    ]);
    let authority = certificates.join("ca.pem");
    let jobs = ask_over_tls(page, &authority, "/jobs", "a token that nobody guesses");
    assert!(jobs.starts_with("HTTP/1.0 200") && jobs.ends_with("{\"jobs\":[]}"), "{jobs}");
    let refused = ask_over_tls(page, &authority, "/jobs", "a guess that is long enough");
    assert!(refused.starts_with("HTTP/1.0 401"), "{refused}");
}

#[test]
fn others_reach_the_page_with_tls_and_a_token_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, look) = (folder.path().join("token"), folder.path().join("look"));
    std::fs::write(&token, "a token that nobody guesses\n").expect("a file");
    std::fs::write(&look, "another that nobody guesses\n").expect("a file");
    let [_, _, other, unused] = addresses();
    let port = other.port();
    let open = |more: &[String]| {
        let mut command = std::process::Command::new(HURTIG);
        command.args(["jobmanager", "-D", "rest.address=0.0.0.0", "-D", &format!("rest.port={port}")]);
        for define in more {
            command.args(["-D", define]);
        }
        command.env("HURTIG_CLUSTER_DIR", folder.path());
        command
    };
    let (cluster, page) = start(&[
        format!("rest.token={}", token.display()),
        format!("rest.read-only-token={}", look.display()),
    ]);
    let mut command = open(&[format!("rest.token={}", token.display())]);
    command.env("HURTIG_CLUSTER_CERTIFICATES", cluster.certificates("jobmanager"));
    command.env("HURTIG_CLUSTER_JOBMANAGER", unused.to_string());
    let said = hurtig_tests::programs::failure(1, &mut command);
    assert!(said.contains("'rest.certificates'"), "{said}");

    assert_eq!(request(page, "GET", "/jobs", &[], &[]).status, 401);
    let bearer = |token: &str| format!("Bearer {token}");
    let (good, read) = (bearer("a token that nobody guesses"), bearer("another that nobody guesses"));
    assert_eq!(request(page, "GET", "/jobs", &[("authorization", &good)], &[]).status, 200);
    assert_eq!(request(page, "GET", "/jobs", &[("authorization", &read)], &[]).status, 200);
    let cancel = format!("/jobs/{:032x}", 1);
    assert_eq!(request(page, "PATCH", &cancel, &[("authorization", &read)], &[]).status, 403);
    assert_eq!(request(page, "PATCH", &cancel, &[("authorization", &good)], &[]).status, 404);
    // A browser shows it once and has a cookie then.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let entered = request(page, "POST", "/web/login", &form, b"token=a+token+that+nobody+guesses");
    assert_eq!(entered.status, 303, "{}", entered.body);
    let cookie = entered.head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    assert!(cookie.contains("httponly") && cookie.contains("samesite=strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap_or_default();
    assert_eq!(request(page, "GET", "/", &[("cookie", cookie)], &[]).status, 200);
}
