//! How daemons and the processes of jobs end: when they are asked, when they are killed, and when those they depend on
//! are gone for good.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use super::*;
use hurtig_tests::cluster::idle_daemon;
use hurtig_tests::processes::{children, is_running};
use std::net::TcpListener;
use std::process::Stdio;

#[test]
fn a_task_manager_that_is_asked_to_end_lets_a_slow_checkpoint_complete() {
    let mut options = Options { task_managers: 2, slots: 1, ..Options::default() };
    // Nobody would wait until its silence tells that the TaskManager is gone.
    let defines = ["heartbeat.timeout=1h", "taskmanager.leave-timeout=1min", "rest.port=0"];
    options.defines = defines.map(String::from).to_vec();
    let mut cluster = Cluster::start(HURTIG, options);
    let folder = folder();
    let (out, notes) = (folder.path().join("out"), folder.path().join("notes"));
    let checkpoints = format!("--checkpoint-dir={}", folder.path().join("checkpoints").display());
    let flags = ["-p1", "--checkpoint-interval=1s", &checkpoints, "-Drestart.strategy=fixed-delay"];
    let own = ["--", "slow", text(&out), "9000000000", "1000", "2000", text(&notes)];
    let job = cluster.submit(PROGRAM, &[&flags[..], &own].concat());
    let begun = |attempt: u64| -> usize {
        let names = notes.read_dir().into_iter().flatten().flatten().map(|entry| entry.file_name());
        names.filter(|name| name.to_string_lossy().starts_with(&format!("{attempt}."))).count()
    };
    let completed = || cluster.job(&job).expect("the job").checkpoints;
    wait_until("a complete checkpoint", SOON, || completed() > 0);
    let so_far = begun(1);
    wait_until("another checkpoint", SOON, || begun(1) > so_far);
    let before = completed();

    let victim = (0..2).find(|number| !cluster.workers(*number).is_empty()).expect("a worker");
    let mut leaving = std::mem::replace(&mut cluster.task_managers[victim], idle_daemon());
    assert!(leaving.terminate().success());
    until("the checkpoint under way", SOON, || {
        let found = cluster.job(&job)?.checkpoints;
        assert!(found > before || begun(2) == 0, "the next attempt has taken it");
        (found > before).then_some(())
    });
    wait_until("a restart", SOON, || cluster.job(&job).is_some_and(|job| job.restarts == 1));
    cluster.wait_for(&job, JobState::Running, SOON);
    assert_eq!(cluster.workers(1 - victim).len(), 1);
    says(&log(&cluster, "jobmanager"), &["is about to end"]);
}

fn log(cluster: &Cluster, name: &str) -> String {
    std::fs::read_to_string(cluster.folder().join("logs").join(name).with_extension("log")).expect("a log")
}

#[test]
fn a_killed_local_cluster_leaves_no_process_behind() {
    let (folder, address) = (folder(), free_address().to_string());
    let hurtig = |args: &[&str]| local(&folder, &address, args);
    let mut command = hurtig(&["cluster", "--taskmanagers", "2", "--slots", "1", "-Drest.port=0"]);
    let mut cluster = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a cluster");
    wait_until("the cluster", SOON, || {
        hurtig(&["list"]).output().is_ok_and(|output| output.status.success())
    });
    let counts = Counts::endless();
    let args = counts.args(2, &[]);
    let mut run = hurtig(&["run", "--detached", "-q", PROGRAM]);
    let submitted = run.args(&args).output().expect("the command starts");
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    counts.goes_on();
    let daemons = children(cluster.id());
    assert_eq!((daemons.len(), running_from(folder.path()).len()), (3, 3), "daemons, master and workers");
    cluster.kill().expect("a signal");
    cluster.wait().expect("an end");
    until_equal("processes of jobs", SOON, 0, || running_from(folder.path()).len());
    until_equal("daemons", SOON, 0, || daemons.iter().filter(|daemon| is_running(**daemon)).count());
}

#[test]
fn the_processes_of_a_job_end_when_no_job_manager_comes_back() {
    let mut options = Options::default();
    options.defines.push("cluster.orphan-timeout=2s".into());
    let mut cluster = Cluster::start(HURTIG, options);
    let counts = Counts::endless();
    counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    cluster.job_manager.kill();
    until_equal("masters left", SOON, 0, || cluster.masters().len());
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
    // They could run others.
    assert!(cluster.task_managers.iter().all(|daemon| is_running(daemon.id())));
}

#[test]
fn a_job_that_ends_while_no_job_manager_is_there_is_told_when_one_is() {
    let mut cluster = cluster();
    let counts = Counts::new(6_000, 2_000.0);
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();
    let masters = cluster.masters();
    let addresses = listening(cluster.job_manager.id());
    cluster.job_manager.kill();
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
    // Where the JobManager listened the master finds somebody who hangs up, and comes again all the same.
    let listen = |address| (TcpListener::bind(address).expect("its port"), 0);
    let mut dialled: Vec<_> = addresses.iter().map(listen).collect();
    dialled.iter().for_each(|(listener, _)| listener.set_nonblocking(true).expect("a listener"));
    let master = |(listener, times): &mut (TcpListener, u32)| {
        let is_master = listener.local_addr().expect("an address") != cluster.address();
        *times += u32::from(is_master && listener.accept().is_ok());
        *times >= 3
    };
    wait_until("the master, again and again", SOON, || {
        dialled.iter_mut().map(master).fold(false, |found, is_there| found | is_there)
    });
    drop(dialled);
    assert_eq!(cluster.masters(), masters);
    cluster.job_manager.start();
    cluster.wait_for(&job, JobState::Finished, SOON);
    counts.is_whole();
    until_equal("masters left", SOON, 0, || cluster.masters().len());
}

#[test]
fn a_worker_that_sleeps_while_its_task_manager_dies_ends_when_it_wakes() {
    let mut cluster = cluster();
    let counts = Counts::endless();
    counts.submit(&cluster, 6, &[]);
    counts.goes_on();
    let worker = cluster.workers(1).first().cloned().expect("a worker");
    signal(worker.id, "STOP");
    cluster.task_managers[1].kill();
    // What sleeps can do nothing; the system may have woken it or ended it already, since nobody is left to do so.
    signal(worker.id, "CONT");
    until_equal("workers left", SOON, 0, || cluster.workers(1).len());
}

#[test]
fn a_job_is_found_again_when_its_job_manager_and_master_die_together() {
    let mut cluster = cluster();
    let counts = Counts::new(12_000, 2_000.0);
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();
    let masters = cluster.masters();
    assert_eq!(masters.len(), 1);
    cluster.job_manager.kill();
    kill(masters[0].id);
    until_equal("masters left", SOON, 0, || cluster.masters().len());
    cluster.job_manager.start();
    cluster.wait_for(&job, JobState::Finished, SOON);
    counts.is_whole();
    until_equal("workers left", SOON, 0, || cluster.all_workers().len());
}
