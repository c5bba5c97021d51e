//! Checkpoints and savepoints in S3 and in HDFS, to which all processes of a cluster speak.

use super::*;
use hurtig_tests::services::{Hdfs, S3};

/// A job that keeps its checkpoints in a store goes on whatever dies, is rescaled, stopped and run on.
fn lives_on(cluster: &Cluster, store: &str) {
    let counts = Counts { store: Some(store.into()), ..Counts::endless() };
    let job = counts.submit(cluster, 4, &[]);
    counts.goes_on();
    for worker in cluster.all_workers() {
        kill(worker.id);
    }
    wait_until("a restart", SOON, || cluster.job(&job).is_some_and(|job| job.restarts > 0));
    counts.goes_on();
    kill(cluster.masters().first().expect("a master").id);
    counts.goes_on();
    cluster.wait_for(&job, JobState::Running, SOON);
    assert!(cluster.call(&["rescale", &job, "-p", "3"]).starts_with("running"));
    counts.goes_on();
    let savepoint = counts.stop(cluster, &job);
    assert!(savepoint.starts_with(&format!("{store}/savepoints/savepoint-")), "{savepoint}");
    says(&cluster.call(&["state", "ls", &savepoint]), &["counts", "accumulators", "keyed"]);
    // Nothing that the job has kept lies anywhere else.
    assert!(!counts.folder.path().join("checkpoints").exists());
    counts.ends_whole_going_on_from(&savepoint, cluster, 5);
}

#[test]
fn a_job_lives_on_checkpoints_in_s3() {
    let s3 = S3::start("checkpoints");
    let options = Options { variables: s3.variables(), ..Options::default() };
    lives_on(&Cluster::start(HURTIG, options), "s3://checkpoints/of the job");
}

#[test]
fn a_job_lives_on_checkpoints_in_hdfs() {
    let hdfs = Hdfs::start();
    let cluster = cluster();
    lives_on(&cluster, &hdfs.url("hurtig/checkpoints"));
    // Checkpoints that are deleted leave no folder behind.
    let jobs: Value = serde_json::from_str(&cluster.call(&["list", "--json"])).expect("JSON");
    let jobs = jobs.as_array().expect("jobs").iter();
    let taken: u64 = jobs.filter_map(|job| job["checkpoints"].as_u64()).sum();
    assert!(hdfs.files() < 30 + taken / 4, "{} files and folders after {taken} checkpoints", hdfs.files());
}

#[test]
fn a_store_that_cannot_be_used_is_told_when_a_job_is_submitted() {
    let s3 = S3::start("checkpoints");
    let options = Options { variables: s3.variables(), ..Options::default() };
    let cluster = Cluster::start(HURTIG, options);
    let mut counts = Counts::endless();
    for (store, words) in [
        ("s3://nobodys/x", &["s3://nobodys/x", "no such folder or bucket"][..]),
        ("s3:///x", &["names no bucket"]),
        ("ftp://host/x", &["'ftp' is not supported"]),
    ] {
        counts.store = Some(store.into());
        let args = counts.args(2, &[]);
        let mut command = cluster.command(&["run", "-q", PROGRAM]);
        says(&failure(1, command.args(&args)), words);
    }
}
