//! Programs that misbehave harm no other job.

use super::*;

/// A job that writes to its end, untouched, beside another one.
fn beside(cluster: &Cluster, program: &str, flags: &[&str]) -> String {
    let counts = Counts::new(9_000, 3_000.0);
    let job = counts.submit(cluster, 3, &[]);
    let args = [flags, &["-p1", "-Drestart.strategy=none", "--", program]].concat();
    let other = cluster.submit(PROGRAM, &args);
    let ended = cluster.wait_for(&job, JobState::Finished, SOON);
    assert_eq!(ended.restarts, 0);
    counts.is_whole();
    other
}

#[test]
fn a_program_that_spins_harms_no_other_job_and_can_be_cancelled() {
    let cluster = cluster();
    let other = beside(&cluster, "spin", &[]);
    let spinning = cluster.job(&other).expect("the job");
    assert_eq!(spinning.state, JobState::Running, "{spinning:?}");
    says(&cluster.call(&["cancel", &other]), &["cancelled"]);
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
}

#[test]
fn a_program_that_leaks_ends_at_its_workers_limit_and_harms_no_other_job() {
    let mut options = Options::default();
    options.defines.push("taskmanager.worker-memory=1GiB".into());
    let cluster = Cluster::start(HURTIG, options);
    let other = beside(&cluster, "leak", &[]);
    let ended = until("the end of the job that leaks", SOON, || {
        cluster.job(&other).filter(|job| job.state == JobState::Failed)
    });
    // Its connection ends and its process ends: who is first is told.
    says(ended.failure.as_deref().unwrap_or_default(), &["worker"]);
    let logs = (1..=3).flat_map(|number| {
        let folder = cluster.folder().join(format!("taskmanager-{number}/jobs/{other}"));
        folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path())
    });
    let said: String = logs.filter_map(|log| std::fs::read_to_string(log).ok()).collect();
    says(&said, &["memory allocation of 4194304 bytes failed"]);
}

#[test]
fn the_kernel_is_to_end_processes_of_jobs_before_daemons() {
    let cluster = cluster();
    let counts = Counts::endless();
    counts.submit(&cluster, 2, &[]);
    counts.goes_on();
    let score = |id: u32| -> i32 {
        let text = std::fs::read_to_string(format!("/proc/{id}/oom_score_adj")).expect("a process");
        text.trim().parse().expect("a number")
    };
    let daemon = score(cluster.job_manager.id());
    for process in cluster.masters().iter().chain(&cluster.all_workers()) {
        assert!(score(process.id) > daemon, "{process:?}");
    }
}
