//! What a JobManager keeps: jobs with their checkpoints and savepoints, and what it says of a file that it cannot read.

use super::*;

/// A metadata store that a JobManager has left behind.
fn stopped() -> (Cluster, std::path::PathBuf) {
    let mut cluster = Cluster::start(HURTIG, Options { task_managers: 0, ..Options::default() });
    assert!(cluster.job_manager.terminate().success());
    let file = cluster.folder().join("jobmanager/metadata/metadata.db");
    assert!(file.is_file(), "{}", file.display());
    (cluster, file)
}

fn refuses_to_start(cluster: &Cluster, words: &[&str]) {
    let said =
        failure(1, &mut cluster.command_to(&cluster.address().to_string(), "jobmanager", &["jobmanager"]));
    says(&said, words);
    assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
}

#[test]
fn a_job_manager_refuses_metadata_that_was_cut() {
    let (cluster, file) = stopped();
    let content = std::fs::read(&file).expect("the file");
    std::fs::write(&file, &content[..content.len() / 2 + 100]).expect("the file");
    refuses_to_start(&cluster, &["metadata.db", "is damaged", "move it away"]);
}

#[test]
fn a_job_manager_refuses_metadata_of_a_newer_version() {
    let (cluster, file) = stopped();
    let connection = rusqlite::Connection::open(&file).expect("the file");
    connection.pragma_update(None, "user_version", 99).expect("a change");
    connection.close().expect("an end");
    refuses_to_start(&cluster, &["metadata.db", "version 99", "use a newer release"]);
}

#[test]
fn checkpoints_and_savepoints_are_known_after_a_restart() {
    let mut cluster = cluster();
    let counts = Counts::endless();
    let program = counts.folder.path().join("counter");
    std::fs::copy(PROGRAM, &program).expect("a copy");
    let args = counts.args(2, &[]);
    let job = cluster.submit(text(&program), &args.iter().map(String::as_str).collect::<Vec<_>>());
    counts.goes_on();
    let target = counts.folder.path().join("savepoints");
    let savepoint = cluster.call(&["savepoint", &job, text(&target)]);
    wait_until("the savepoint's mention", SOON, || cluster.call(&["info", &job]).contains(&savepoint));
    let stopped = cluster.call(&["stop", &job, "--savepoint", text(&target)]);
    assert!(stopped.starts_with(text(&target)) || stopped.contains("savepoints"), "{stopped}");
    let before = cluster.call(&["info", &job]);
    says(&before, &["finished", "checkpoint  ", &format!("savepoint   {stopped}")]);
    cluster.job_manager.kill();
    cluster.job_manager.start();
    let after = until("an answer", SOON, || {
        let output = cluster.command(&["info", &job]).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    });
    let line = |info: &str, which: &str| {
        info.lines().find(|line| line.starts_with(which)).map(str::to_string).expect("a line")
    };
    for which in ["checkpoint", "savepoint"] {
        assert_eq!(line(&before, which), line(&after, which));
    }

    assert!(cluster.job_manager.terminate().success());
    let file = cluster.folder().join("jobmanager/metadata/metadata.db");
    let store = rusqlite::Connection::open(file).expect("the file");
    let sql = "SELECT count(*) FROM checkpoint JOIN job ON job.id = checkpoint.job
        WHERE kind = 'savepoint' AND triggered_ms > submitted_ms AND completed_ms >= triggered_ms";
    assert_eq!(store.query_row(sql, [], |row| row.get::<_, i64>(0)), Ok(2));
    assert_eq!(
        store.query_row("SELECT name FROM program", [], |row| row.get::<_, String>(0)),
        Ok("counter".into())
    );
}

#[test]
fn a_job_stops_with_a_savepoint_given_as_a_flag() {
    let cluster = cluster();
    let counts = Counts::endless();
    let target = counts.folder.path().join("savepoints");
    let set = format!("-Dsavepoint.dir={}", counts.folder.path().join("usual").display());
    let job = counts.submit(&cluster, 2, &[&set]);
    counts.goes_on();
    let said = failure(2, &mut cluster.command(&["stop", &job, "here", "--savepoint", "there"]));
    says(&said, &["cannot be used with"]);
    let location = cluster.call(&["stop", &job, "--savepoint", text(&target)]);
    says(&location, &[text(&target)]);

    let other = Counts::endless();
    let set = format!("-Dsavepoint.dir={}", other.folder.path().join("usual").display());
    let job = other.submit(&cluster, 2, &[&set]);
    other.goes_on();
    says(&cluster.call(&["stop", &job, "--savepoint"]), &["usual"]);
}
