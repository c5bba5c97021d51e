//! The REST interface answers as Flink does: recorded answers of a real one are compared with ours field by field; and
//! what it tells is true.

use hurtig::prelude::*;
use hurtig_rest::{Options, Server};
use hurtig_tests::events::{Event, events};
use hurtig_tests::http::{get, request, send};
use hurtig_tests::jobs::{self, Job};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Waits, on the test's own thread, until something holds of an answer.
fn until(server: SocketAddr, path: &str, holds: impl Fn(&Value) -> bool) -> Value {
    for _ in 0..600 {
        let answer = get(server, path);
        if holds(&answer) {
            return answer;
        }
        #[allow(clippy::disallowed_methods, reason = "a test looks from outside, in real time")]
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("{path} never was as expected: {}", get(server, path));
}

async fn serve(job: &Job) -> Server {
    let mut config = Config::default();
    config.rest.port = Some(usize::from(hurtig_tests::cluster::free_address().port()));
    let options = Options { client: job.cluster.client(), config, is_embedded: true, web_dir: None };
    Server::start(options).await.expect("a server").expect("a port")
}

/// Runs a test against a server of a job.
fn with_server(env: &Environment, config: &Config, test: impl FnOnce(SocketAddr, String) + Send + 'static) {
    jobs::run(async {
        let job = jobs::start(env, config, None).await.expect("the job starts");
        let server = serve(&job).await;
        let (address, id) = (server.address(), job.client.id().to_string());
        let tested = tokio::task::spawn_blocking(move || test(address, id)).await;
        job.cluster.shutdown().await;
        if let Err(failed) = tested {
            std::panic::resume_unwind(failed.into_panic());
        }
    });
}

fn is_id(key: &str) -> bool {
    key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "integer",
        // What Flink writes for a number that is none.
        Value::String(text) if text == "NaN" => "float",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// What of a recorded answer is not in ours, or of another type there.
fn differences(recorded: &Value, ours: &Value, at: &str, found: &mut Vec<String>) {
    match (recorded, ours) {
        // Unknown in the recorded situation or in ours.
        (Value::Null, _) => {}
        (Value::Object(recorded), Value::Object(ours)) if recorded.keys().all(|key| is_id(key)) => {
            for (one, other) in recorded.values().zip(ours.values()) {
                differences(one, other, &format!("{at}.*"), found);
            }
        }
        (Value::Object(recorded), Value::Object(ours)) => {
            for (key, value) in recorded {
                match ours.get(key) {
                    Some(other) => differences(value, other, &format!("{at}.{key}"), found),
                    None => found.push(format!("{at}.{key} is missing")),
                }
            }
        }
        (Value::Array(recorded), Value::Array(ours)) => {
            let Some(one) = recorded.first() else { return };
            // Some fields are of some rows only: the row that is the most alike counts.
            let alike = ours.iter().map(|other| {
                let mut found = Vec::new();
                differences(one, other, &format!("{at}[]"), &mut found);
                found
            });
            let fewest = alike.min_by_key(Vec::len);
            found.extend(fewest.unwrap_or_else(|| vec![format!("{at} is empty")]));
        }
        (recorded, ours) if kind(recorded) != kind(ours) => {
            found.push(format!("{at} is {} and was {}", kind(ours), kind(recorded)));
        }
        _ => {}
    }
}

#[test]
fn each_answer_has_the_fields_and_types_of_flinks() {
    let env = Environment::new();
    events(&env, "events", u64::MAX, 20_000.0)
        .key_by(|event: &Event| event.key)
        .count()
        .uid("counts")
        .for_each(|_| {})
        .uid("end");
    let config = jobs::config(2, Some(Duration::from_millis(100)));
    with_server(&env, &config, |server, job| {
        let details = until(server, &format!("/jobs/{job}"), |job| job["status-counts"]["RUNNING"] == 2);
        let of = |at: usize| details["vertices"][at]["id"].as_str().expect("an id").to_string();
        let vertex = of(1);
        let checkpoints = until(server, &format!("/jobs/{job}/checkpoints"), |all| {
            all["counts"]["completed"].as_u64() > Some(2)
        });
        let checkpoint = checkpoints["latest"]["completed"]["id"].clone();
        until(server, &format!("/jobs/{job}/vertices/{vertex}/watermarks"), |all| all[1]["id"].is_string());
        let manager =
            get(server, "/taskmanagers")["taskmanagers"][0]["id"].as_str().expect("an id").to_string();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recorded/flink-rest");
        let mut compared = 0;
        let mut found = Vec::new();
        for path in folder.read_dir().expect("recorded answers").flatten().map(|entry| entry.path()) {
            let text = std::fs::read_to_string(&path).expect("a recorded answer");
            let recorded: Value = serde_json::from_str(&text).expect("JSON");
            let asked = recorded["request"].as_str().expect("a request").trim_start_matches("GET ");
            let asked = asked
                .replace(":jobid", &job)
                .replace(":vertexid", &vertex)
                .replace(":taskmanagerid", &manager)
                .replace("/details/11", &format!("/details/{checkpoint}"));
            let ours = request(server, "GET", &asked, &[], &[]);
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            if recorded["status"] != ours.status {
                found.push(format!("{name}: {} and was {}: {}", ours.status, recorded["status"], ours.body));
                continue;
            }
            // Metrics are compared by name below.
            if !name.ends_with("-metrics") || name.starts_with("vertex-subtasks") {
                differences(&recorded["response"], &ours.json(), &name, &mut found);
            }
            compared += 1;
        }
        assert!(compared > 25, "{compared}");
        assert!(found.is_empty(), "{}", found.join("\n"));

        let names = get(server, &format!("/jobs/{job}/vertices/{vertex}/metrics"));
        let names: Vec<&str> =
            names.as_array().expect("names").iter().filter_map(|row| row["id"].as_str()).collect();
        for name in
            ["busyTimeMsPerSecond", "backPressuredTimeMsPerSecond", "numRecordsInPerSecond", "numRecordsOut"]
        {
            assert!(names.contains(&format!("1.{name}").as_str()), "{name} is missing");
        }
        let values = get(server, &format!("/jobs/{job}/metrics?get=numberOfCompletedCheckpoints,uptime"));
        assert_eq!(values.as_array().map(Vec::len), Some(2));
        assert!(
            values[0]["value"]
                .as_str()
                .is_some_and(|value| value.parse::<f64>().is_ok_and(|value| value > 0.0))
        );
    });
}

/// Work of some microseconds.
fn toil(n: u64) -> u64 {
    let mut mixed = n;
    for step in 0..10_000 {
        mixed = std::hint::black_box(mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ step);
    }
    mixed
}

#[test]
fn a_slow_vertex_is_shown_busy_and_those_before_it_backpressured() {
    let env = Environment::new();
    env.from_range(0..1_000_000_000)
        .set_parallelism(1)
        .uid("numbers")
        .rebalance()
        .map(|n| n)
        .set_parallelism(1)
        .uid("hop")
        .rebalance()
        .map(toil)
        .set_parallelism(1)
        .uid("slow")
        .rebalance()
        .for_each(|_| {})
        .set_parallelism(1)
        .uid("end");
    let mut config = jobs::config(1, None);
    config.exchange.credits = 2;
    config.execution.batch_size = 64;
    with_server(&env, &config, |server, job| {
        let details = until(server, &format!("/jobs/{job}"), |job| job["status-counts"]["RUNNING"] == 4);
        let share = |at: usize, what: &str| {
            let vertex = details["vertices"][at]["id"].as_str().expect("an id");
            let path = format!("/jobs/{job}/vertices/{vertex}/backpressure");
            get(server, &path)["subtasks"][0][what].as_f64().expect("a share")
        };
        let slow = details["vertices"][2]["id"].as_str().expect("an id").to_string();
        let is_busy = |answer: &Value| answer["subtasks"][0]["busyRatio"].as_f64() > Some(0.8);
        until(server, &format!("/jobs/{job}/vertices/{slow}/backpressure"), is_busy);
        for at in [0, 1] {
            let vertex = details["vertices"][at]["id"].as_str().expect("an id").to_string();
            let is_held = |answer: &Value| answer["backpressureLevel"] == "high";
            until(server, &format!("/jobs/{job}/vertices/{vertex}/backpressure"), is_held);
        }
        assert!(share(2, "ratio") < 0.1, "the slow one itself waits for nobody");
        let last = details["vertices"][3]["id"].as_str().expect("an id").to_string();
        let is_idle = |answer: &Value| answer["subtasks"][0]["idleRatio"].as_f64() > Some(0.8);
        until(server, &format!("/jobs/{job}/vertices/{last}/backpressure"), is_idle);
        // The same, as the page's graph shows it.
        let page = request(server, "GET", &format!("/web/jobs/{job}"), &[], &[]).body;
        assert!(page.contains("busy-high") && page.contains("pressed-high"), "{page}");
    });
}

#[test]
fn errors_are_sentences_in_json_and_nothing_is_changed_from_elsewhere() {
    let env = Environment::new();
    events(&env, "events", u64::MAX, 1_000.0).for_each(|_| {}).uid("end");
    with_server(&env, &jobs::config(1, None), |server, job| {
        let check = |method: &str, path: &str, headers: &[(&str, &str)], status: u16, words: &str| {
            let answer = request(server, method, path, headers, b"{\"");
            let sentence = answer.json()["errors"][0].as_str().unwrap_or_default().to_string();
            assert_eq!(answer.status, status, "{method} {path}: {sentence}");
            assert!(sentence.contains(words), "{method} {path}: {sentence}");
        };
        check("GET", "/jobs/1", &[], 400, "no job id");
        check("GET", &format!("/jobs/{:032x}", 1), &[], 404, "there is no job");
        check("GET", &format!("/jobs/{job}/vertices/x"), &[], 404, "no vertex");
        check("GET", &format!("/jobs/{job}/checkpoints/details/77"), &[], 404, "77");
        check("GET", "/nowhere", &[], 404, "nothing");
        check("DELETE", "/jobs", &[], 405, "DELETE");
        check("POST", &format!("/jobs/{job}/savepoints"), &[], 400, "cannot be read");
        check("PATCH", &format!("/jobs/{job}?mode=burn"), &[], 400, "burn");
        check("PATCH", &format!("/jobs/{job}"), &[("origin", "http://evil.example")], 403, "another site");
        check("GET", "/jobs", &[("host", "evil.example")], 403, "this machine");
        assert_eq!(get(server, &format!("/jobs/{job}/status"))["status"], "RUNNING");

        assert_eq!(send(server, "PATCH", &format!("/jobs/{job}?mode=cancel"), &json!({})).status, 202);
        until(server, &format!("/jobs/{job}"), |job| job["state"] == "CANCELED");
        let ended = get(server, "/jobs/overview");
        assert_eq!(ended["jobs"][0]["tasks"]["canceled"], ended["jobs"][0]["tasks"]["total"]);
    });
}

#[test]
fn prometheus_reads_what_flinks_dashboards_ask_for() {
    let env = Environment::new();
    events(&env, "events", u64::MAX, 1_000.0)
        .key_by(|event: &Event| event.key)
        .count()
        .for_each(|_| {})
        .uid("end");
    with_server(&env, &jobs::config(2, None), |server, job| {
        until(server, &format!("/jobs/{job}"), |job| {
            job["vertices"][1]["metrics"]["read-records"].as_u64() > Some(100)
        });
        let text = request(server, "GET", "/metrics", &[], &[]).body;
        let read: f64 = text
            .lines()
            .filter(|line| {
                line.starts_with("flink_taskmanager_job_task_numRecordsIn{") && line.contains(&job)
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum();
        assert!(read > 100.0, "{text}");
        for label in ["job_name=\"test\"", "subtask_index=\"1\"", "task_name=\"", "tm_id=\"", "host=\""] {
            assert!(text.contains(label), "{label} is missing");
        }
        assert!(text.contains("# TYPE flink_jobmanager_numRunningJobs gauge\nflink_jobmanager_numRunningJobs{host=\"jobmanager\"} 1"), "{text}");
    });
}
