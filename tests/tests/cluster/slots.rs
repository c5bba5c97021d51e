//! Which slots jobs get, and by which address their workers are reached.

use super::*;

/// Waits until all slots are registered: a job has had them.
fn all_registered(cluster: &Cluster, slots: usize) {
    let first = Counts::new(1_200, 1e6);
    let job = first.submit(cluster, slots, &[]);
    cluster.wait_for(&job, JobState::Finished, SOON);
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
}

fn placed_with(defines: &[&str], parallelism: usize) -> Vec<usize> {
    let mut options = Options::default();
    options.defines.extend(defines.iter().map(ToString::to_string));
    let cluster = Cluster::start(HURTIG, options);
    all_registered(&cluster, 6);
    let counts = Counts::endless();
    counts.submit(&cluster, parallelism, &[]);
    counts.goes_on();
    let mut workers: Vec<usize> = (0..3).map(|number| cluster.workers(number).len()).collect();
    workers.sort_unstable();
    workers
}

#[test]
fn slots_are_packed_on_few_task_managers() {
    assert_eq!(placed_with(&[], 2), [0, 0, 1]);
}

#[test]
fn slots_are_spread_over_all_task_managers_if_that_is_wanted() {
    assert_eq!(placed_with(&["cluster.slot-placement=spread"], 3), [1, 1, 1]);
}

#[test]
fn slot_sharing_groups_need_slots_of_their_own() {
    let mut options = Options { task_managers: 2, slots: 3, ..Options::default() };
    options.defines.push("cluster.slot-timeout=2s".into());
    let cluster = Cluster::start(HURTIG, options);
    all_registered(&cluster, 6);
    let out = folder();
    let run = |parallelism: &str| {
        let mut command = cluster.command(&["run", "-q", PROGRAM, parallelism, "--", "groups"]);
        command.args([text(out.path()), "1200", "1e6"]);
        command
    };
    says(&failure(1, &mut run("-p4")), &["needs 8 slots", "6 are registered"]);
    let output = run("-p3").output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sorted_lines(out.path()).len(), 1_200);
}

#[test]
fn slots_that_ask_for_resources_are_those_of_task_managers_that_have_them_left() {
    let mut options = Options { task_managers: 2, slots: 4, ..Options::default() };
    let defines = ["cluster.slot-timeout=2s", "taskmanager.cpu-cores=4", "taskmanager.memory=4g"];
    options.defines.extend(defines.map(String::from));
    let cluster = Cluster::start(HURTIG, options);
    all_registered(&cluster, 8);
    let out = folder();
    let run = |cores: &str, memory: &str| {
        let mut command = cluster.command(&["run", "-q", PROGRAM, "-p2", "--", "resources"]);
        command.args([text(out.path()), "1200", "1e6", cores, memory]);
        command
    };
    let missing = failure(1, &mut run("4.5", "1000000000"));
    says(&missing, &["needs 4 slots", "2 of them, for 'counting', need 4.5 cores and 953 MiB each"]);
    says(&missing, &["have left: 4 cores and 4 GiB, 4 cores and 4 GiB", "taskmanager.cpu-cores"]);
    says(&failure(1, &mut run("0.5", "5000000000")), &["need 0.5 cores and 4768 MiB each"]);
    let output = run("2.5", "1000000000").output().expect("the command starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(sorted_lines(out.path()).len(), 1_200);
    // Each TaskManager has room for one slot of 2.5 cores and one of an even share.
    let counts = Counts::endless();
    counts.submit(&cluster, 8, &[]);
    counts.goes_on();
    says(&failure(1, &mut run("0.1", "1")), &["8 are registered and 0 of them are free"]);
}

#[test]
fn a_worker_whose_slots_ask_for_memory_can_use_no_more() {
    let mut options = Options { task_managers: 1, slots: 2, ..Options::default() };
    options.defines.push("taskmanager.memory=4g".into());
    let cluster = Cluster::start(HURTIG, options);
    let limit = |memory: &[&str]| {
        let out = folder();
        let job = cluster.submit(PROGRAM, &[&["-p1", "--", "in-memory", text(out.path())], memory].concat());
        cluster.wait_for(&job, JobState::Running, SOON);
        let worker = cluster.all_workers()[0].id;
        let limits = std::fs::read_to_string(format!("/proc/{worker}/limits")).expect("it runs");
        cluster.call(&["cancel", &job]);
        until_equal("workers left", SOON, 0, || cluster.all_workers().len());
        let line = limits.lines().find(|line| line.starts_with("Max data size")).map(str::to_owned);
        line.expect("a limit").split_whitespace().nth(3).map(str::to_owned).expect("a number")
    };
    assert_eq!(limit(&["1073741824"]), "1073741824");
    assert_eq!(limit(&[]), "unlimited");
}

#[test]
fn workers_are_reached_by_the_host_that_their_task_manager_is_configured_with() {
    let mut options = Options::default();
    options.defines.push("cluster.host=127.0.0.2".into());
    let cluster = Cluster::start(HURTIG, options);
    let counts = Counts::endless();
    counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    for worker in cluster.all_workers() {
        let addresses = listening(worker.id);
        assert!(addresses.iter().any(|address| address.ip().to_string() == "127.0.0.2"), "{addresses:?}");
    }
}
