//! The certificates that `hurtig certs` makes, and how they replace those in use.

use super::*;
use hurtig_transport::Authority;
use std::fs;

#[test]
fn authority_and_certificates_are_replaced_while_a_job_runs() {
    let mut cluster = cluster();
    let counts = Counts::endless();
    let job = counts.submit(&cluster, 4, &[]);
    counts.goes_on();
    let folder = cluster.folder().to_path_buf();
    let (new, former) = (folder.join("authority"), cluster.certificates("former"));
    assert_eq!(cluster.call(&["certs", "init", text(&new)]), text(&new));
    fs::create_dir(&former).expect("a folder");
    for file in ["ca.pem", "node.pem", "node.key"] {
        fs::copy(cluster.certificates("client").join(file), former.join(file)).expect("a file");
    }

    // First everybody trusts both authorities, then everybody gets a certificate of the new one.
    let members =
        [("jobmanager", "jobmanager"), ("client", "client")].map(|(role, id)| (role, id, role.to_string()));
    let members =
        members.into_iter().chain(["1", "2", "3"].map(|id| ("taskmanager", id, format!("taskmanager-{id}"))));
    let members: Vec<_> = members.collect();
    let added = fs::read_to_string(new.join("ca.pem")).expect("a certificate");
    for (_, _, name) in &members {
        let trusted = cluster.certificates(name).join("ca.pem");
        let old = fs::read_to_string(&trusted).expect("a certificate");
        fs::write(&trusted, old + &added).expect("a file");
    }
    for (role, id, name) in &members {
        let place = cluster.certificates(name);
        let own = ["certs", "node", "--ca", text(&new), "--role", role, "--id", id, text(&place)];
        says(&cluster.call(&own), &[role, text(&place)]);
        says(&cluster.call(&["certs", "show", text(&place)]), &[role, "days left    36"]);
    }
    wait_until("an answer to the new certificate", SOON, || cluster.job(&job).is_some());
    let at = cluster.address().to_string();
    wait_until("that the former authority is no longer trusted", SOON, || {
        let Output { status, stderr, .. } =
            cluster.command_to(&at, "former", &["list"]).output().expect("the command starts");
        !status.success() && String::from_utf8_lossy(&stderr).contains("authority")
    });
    counts.goes_on();
    assert_eq!(cluster.job(&job).expect("the job").restarts, 0);

    // Connections that are made anew, and a TaskManager that comes.
    cluster.job_manager.kill();
    cluster.job_manager.start();
    cluster.wait_for(&job, JobState::Running, SOON);
    cluster.authority = Authority::load(&new).expect("an authority");
    cluster.add_task_manager();
    let savepoint = counts.stop(&cluster, &job);
    counts.ends_whole_going_on_from(&savepoint, &cluster, 8);
}
