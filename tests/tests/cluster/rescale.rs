//! Jobs whose parallelism is changed while they run.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use super::*;
use std::process::Stdio;

/// The number of subtasks that each vertex of a job has, as the command shows it.
fn subtasks(cluster: &Cluster, job: &str) -> Vec<usize> {
    let text = cluster.call(&["info", job]);
    let count = |line: &str| line.split(" subtasks)").next()?.rsplit('(').next()?.parse().ok();
    text.lines().filter(|line| line.contains(" subtasks)")).filter_map(count).collect()
}

#[test]
fn a_job_changes_its_parallelism_and_loses_nothing() {
    let cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 2, &[]);
    counts.goes_on();
    let (masters, first) = (cluster.masters(), cluster.all_workers());
    let mut before = [2, 2];
    for (flags, expected) in [
        (&["--parallelism", "6"][..], [6, 6]),
        (&["--vertex", "counts=1"], [6, 1]),
        // What was said of a vertex holds until something else is.
        (&["-p", "3"], [3, 1]),
        (&["-p", "1", "--vertex", "counts=5"], [1, 5]),
    ] {
        counts.goes_on();
        let said = cluster.call(&[&["rescale", &job][..], flags].concat());
        assert!(said.starts_with("running after a pause of "), "{said}");
        // Subtasks of the vertex that stays as it is, on workers that stay, go on with the state that they have.
        let stays = expected.iter().zip(&before).any(|(now, before)| now == before);
        assert_eq!(!said.contains("state of 0 of "), stays, "{before:?}, then {expected:?}: {said}");
        before = expected;
        assert_eq!(subtasks(&cluster, &job), expected, "{flags:?}");
        // As few workers as there can be have as many slots as there are.
        let workers = cluster.all_workers();
        assert!(first.iter().all(|worker| workers.contains(worker)), "{first:?}, then {workers:?}");
        assert_eq!(cluster.masters(), masters);
    }
    counts.goes_on();
    let metrics: Value =
        serde_json::from_str(&cluster.call(&["metrics", &job, "--json", "--name", "numRescales"]))
            .expect("JSON");
    assert_eq!(metrics["metrics"]["numRescales"], json!(4.0));
    // The next master has the graph of the last.
    kill(cluster.masters().first().expect("a master").id);
    counts.goes_on();
    cluster.wait_for(&job, JobState::Running, SOON);
    assert_eq!(subtasks(&cluster, &job), [1, 5]);
    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
}

#[test]
fn a_parallelism_that_cannot_be_had_is_told_and_the_job_goes_on_as_it_was() {
    let cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 2, &["-Dparallelism.max=8"]);
    counts.goes_on();
    let refused = |flags: &[&str], words: &[&str]| {
        let said = failure(1, &mut cluster.command(&[&["rescale", &job][..], flags].concat()));
        says(&said, words);
    };
    refused(&["-p", "9"], &["parallelism 9", "maximum parallelism 8"]);
    refused(&["-p", "0"], &["parallelism 0", "at least 1"]);
    refused(&["-p", "8"], &["8 slots", "6 are registered", "start more TaskManagers"]);
    refused(&["--vertex", "cuonts=2"], &["no operator 'cuonts'", "counts"]);
    let said = failure(2, &mut cluster.command(&["rescale", &job, "--vertex", "counts"]));
    says(&said, &["UID=N"]);
    counts.goes_on();
    let row = cluster.job(&job).expect("the job");
    assert_eq!((row.state, row.restarts), (JobState::Running, 0));
    assert!(cluster.call(&["rescale", &job, "-p", "2"]).starts_with("running"));
    assert_eq!(subtasks(&cluster, &job), [2, 2]);
    assert_eq!(cluster.masters().len(), 1);
}

#[test]
fn whoever_dies_while_a_job_is_rescaled_it_has_one_parallelism_or_the_other() {
    let mut cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 2, &[]);
    let mut pause = Duration::from_millis(10);
    for round in 0..8 {
        counts.goes_on();
        cluster.wait_for(&job, JobState::Running, SOON);
        let wanted = if round % 2 == 0 { "5" } else { "2" };
        let mut rescale = cluster.command(&["rescale", &job, "-p", wanted]);
        rescale.stdout(Stdio::null()).stderr(Stdio::null());
        let mut rescale = rescale.spawn().expect("the command starts");
        std::thread::sleep(pause);
        pause *= 2;
        match round % 4 {
            0 | 1 => {
                cluster.job_manager.kill();
                cluster.job_manager.start();
            }
            // Some may have ended meanwhile.
            2 => cluster.masters().iter().for_each(|master| _ = kill(master.id)),
            _ => cluster.all_workers().iter().take(1).for_each(|worker| _ = kill(worker.id)),
        }
        // It may have been told of no success.
        rescale.wait().expect("the command ends");
    }
    counts.goes_on();
    cluster.wait_for(&job, JobState::Running, SOON);
    let now = subtasks(&cluster, &job);
    assert!(now == [2, 2] || now == [5, 5], "{now:?}");
    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 4);
}
