//! What others see of a cluster of real processes: a real Prometheus fetches its metrics, a real Graphite is sent them; logs
//! and flame graphs come from the processes that have them.

use hurtig_tests::cluster::{Cluster, Options, SOON, free_addresses};
use hurtig_tests::http::{Answer, get, request};
use hurtig_tests::processes::{until, wait_until};
use hurtig_tests::services::{Graphite, Prometheus};
use serde_json::Value;
use std::net::SocketAddr;

const HURTIG: &str = env!("CARGO_BIN_EXE_command");
const PROGRAM: &str = env!("CARGO_BIN_EXE_program");

/// Events per second of the job that is watched.
const RATE: f64 = 4_000.0;

/// A cluster with its page at a known address, and a job on it.
fn start(defines: &[String]) -> (Cluster, SocketAddr, String) {
    let mut addresses = free_addresses();
    let [job_manager, page] = std::array::from_fn(|_| addresses.next().expect("a free port"));
    let mut options = Options { task_managers: 2, ..Options::default() };
    options.defines.push(format!("rest.port={}", page.port()));
    options.defines.extend_from_slice(defines);
    let cluster = Cluster::start_at(HURTIG, job_manager, options);
    let out = cluster.folder().join("out").display().to_string();
    let rate = RATE.to_string();
    let job = cluster.submit(PROGRAM, &["-p", "2", "--", "events", &out, "1000000000", &rate]);
    until("the job to run", SOON, || {
        let jobs = get(page, "/jobs");
        (jobs["jobs"][0]["status"] == "RUNNING").then_some(())
    });
    (cluster, page, job)
}

fn text(page: SocketAddr, path: &str) -> Answer {
    request(page, "GET", path, &[], &[])
}

#[test]
fn prometheus_and_graphite_see_the_rate_at_which_records_come() {
    let graphite = Graphite::start();
    let defines = [format!("metrics.graphite={}", graphite.address), "metrics.interval=1s".into()];
    let (_cluster, page, _) = start(&defines);
    let prometheus = Prometheus::start(page);
    let rate = "sum(rate(flink_taskmanager_job_task_numRecordsOut{task_name=\"Generator\"}[10s]))";
    wait_until("the right rate in Prometheus", SOON, || {
        let found = prometheus.query(rate);
        matches!(found[..], [found] if (found / RATE - 1.0).abs() < 0.1)
    });
    assert_eq!(prometheus.query("up{job=\"hurtig\"}"), [1.0]);
    assert_eq!(prometheus.query("flink_jobmanager_numRunningJobs"), [1.0]);
    assert_eq!(
        prometheus.query("sum(flink_jobmanager_taskSlotsTotal - flink_jobmanager_taskSlotsAvailable)"),
        [2.0]
    );
    until("a value in Graphite", SOON, || {
        graphite.last("flink.jobmanager.numRunningJobs").filter(|jobs| *jobs == 1.0)
    });
}

#[test]
fn logs_of_daemons_and_jobs_are_shown_and_nothing_else_is() {
    let (cluster, page, job) = start(&[]);
    let managers = get(page, "/taskmanagers")["taskmanagers"].clone();
    let id = managers[0]["id"].as_str().expect("an id").to_string();
    let names = |files: &Value| -> Vec<String> {
        let rows = files["logs"].as_array().cloned().unwrap_or_default();
        rows.iter().filter_map(|row| Some(row["name"].as_str()?.to_string())).collect()
    };
    let of_jobmanager = names(&get(page, "/jobmanager/logs"));
    assert!(of_jobmanager.contains(&format!("jobs/{job}/master.log")), "{of_jobmanager:?}");
    let of_taskmanager = names(&get(page, &format!("/taskmanagers/{id}/logs")));
    let worker = of_taskmanager.iter().find(|name| name.starts_with(&format!("jobs/{job}/worker-")));
    assert!(worker.is_some(), "{of_taskmanager:?}");
    let own = text(page, "/jobmanager/log");
    assert!(own.status == 200 && own.body.contains("offers 2 slots"), "{}", own.body);
    let part = text(page, "/jobmanager/logs/jobmanager.log?from=5");
    assert!(part.status == 206 && part.head.contains("content-range: bytes 5-"), "{}", part.head);
    for outside in
        ["..%2f..%2fcerts%2fca.key", "%2fetc%2fpasswd", &format!("jobs/{job}/../../../x.log"), "jobs"]
    {
        let refused = text(page, &format!("/jobmanager/logs/{outside}"));
        assert_eq!(refused.status, 404, "{outside}: {}", refused.body);
    }
    assert_eq!(text(page, "/taskmanagers/nobody/logs").status, 404);

    let said = cluster.call(&["logs", "--of", "jobmanager", "--name", "jobmanager.log", "-n", "2"]);
    assert!(said.starts_with("==> jobmanager.log on jobmanager <==") && said.lines().count() == 3, "{said}");
    let of_job = cluster.call(&["logs", &job, "--list"]);
    assert!(of_job.contains("master.log") && of_job.contains("worker-"), "{of_job}");
    let all: Value = serde_json::from_str(&cluster.call(&["logs", "--list", "--json"])).expect("JSON");
    let on: std::collections::BTreeSet<_> =
        all.as_array().into_iter().flatten().filter_map(|row| row["on"].as_str()).collect();
    assert_eq!(on.len(), 3, "{on:?}");
    let page_of_job = text(page, &format!("/web/jobs/{job}/logs")).body;
    assert!(page_of_job.contains("master.log") && page_of_job.contains("worker-"), "{page_of_job}");
    let page_of_file = text(page, "/web/logs/jobmanager/jobmanager.log").body;
    assert!(page_of_file.contains("<pre class=\"log\""), "{page_of_file}");
}

#[test]
fn a_flame_graph_shows_what_a_worker_does() {
    let (_cluster, page, job) = start(&[]);
    let vertices = get(page, &format!("/jobs/{job}"))["vertices"].clone();
    let vertex = vertices[0]["id"].as_str().expect("an id").to_string();
    let found = get(page, &format!("/jobs/{job}/vertices/{vertex}/flamegraph"));
    assert!(found["endTimestamp"].as_i64() > Some(0), "{found}");
    assert!(found["data"]["value"].as_u64() > Some(0), "{found}");
    assert!(found.to_string().contains("hurtig"), "{found}");
    let shown = text(page, &format!("/web/jobs/{job}/profile")).body;
    let link = shown.split("href=\"").find(|part| part.contains("profile?worker=")).expect("a link");
    let graph = text(page, link.split('"').next().expect("a link"));
    assert!(graph.status == 200 && graph.body.contains("class=\"flames\""), "{}", graph.body);
    assert_eq!(text(page, &format!("/web/jobs/{job}/profile?worker=77")).status, 404);
}
