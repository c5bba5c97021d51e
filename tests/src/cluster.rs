//! A cluster of real processes in a folder of its own: a JobManager and TaskManagers, each of which a test may kill,
//! stop, resume and start again. Nothing of it outlives the test, and when a test fails it prints all logs.

#![allow(clippy::disallowed_methods, reason = "tests of processes look at them from outside, in real time")]

use crate::processes::{self, Process, kill, running_from, signal, until};
use hurtig::JobState;
use hurtig_transport::{Authority, Name, Role, Validity};
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// How long anything may take that is not to take long, on a machine that others use too.
pub const SOON: Duration = Duration::from_secs(60);

/// The names of the certificates' folders are those of the daemons.
const JOB_MANAGER: &str = "jobmanager";

/// Bytes of a log that are printed.
const PRINTED_LOG_BYTES: usize = 6_000;

/// What a cluster consists of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Number of TaskManagers.
    pub task_managers: usize,
    /// Slots of each.
    pub slots: usize,
    /// Number of JobManagers that stand by.
    pub standbys: usize,
    /// Configuration of all daemons, as `key=value`.
    pub defines: Vec<String>,
    /// Where TaskManagers find the JobManager, if something lies between.
    pub through: Option<SocketAddr>,
    /// The addresses of the JobManagers' machine and of each TaskManager's, if they are not all the same.
    pub hosts: Vec<Ipv4Addr>,
    /// Environment variables of all processes.
    pub variables: Vec<(String, String)>,
}

impl Options {
    /// Processes that are silent for a second are taken for dead.
    pub fn impatient() -> Self {
        let mut options = Options::default();
        options.defines.extend(["heartbeat.interval=200ms", "heartbeat.timeout=1s"].map(String::from));
        options
    }
}

impl Default for Options {
    fn default() -> Self {
        // Who is silent for long because the machine is busy is not to be taken for dead; a test that wants the page says
        // where.
        let defines =
            ["heartbeat.interval=500ms", "heartbeat.timeout=5s", "rest.port=0"].map(String::from).to_vec();
        Options {
            task_managers: 3,
            slots: 2,
            standbys: 0,
            defines,
            through: None,
            hosts: Vec::new(),
            variables: Vec::new(),
        }
    }
}

/// A JobManager's or TaskManager's process, or the place for one.
pub struct Daemon {
    name: String,
    command: Command,
    child: Option<Child>,
}

impl Daemon {
    /// Starts it, if it does not run.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self) {
        if self.child.is_none() {
            self.child = Some(self.command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.name)));
        }
    }

    /// Its process id.
    ///
    /// # Panics
    /// It does not run.
    pub fn id(&self) -> u32 {
        self.child.as_ref().map_or_else(|| panic!("{} does not run", self.name), Child::id)
    }

    /// Kills it without a chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // One that has ended is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Holds it.
    pub fn pause(&self) {
        signal(self.id(), "STOP");
    }

    /// Lets it go on.
    pub fn resume(&self) {
        signal(self.id(), "CONT");
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Panics
    /// It does not run, or does not end.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.id(), "TERM");
        let child = self.child.as_mut().unwrap_or_else(|| panic!("{} does not run", self.name));
        let status = until("the daemon's end", SOON, || child.try_wait().ok().flatten());
        self.child = None;
        status
    }
}

/// What the command tells of a job.
#[derive(Clone, Debug, PartialEq, serde::Deserialize)]
pub struct JobRow {
    /// The job.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: JobState,
    /// Number of restarts, of the present master.
    pub restarts: u32,
    /// Checkpoints completed, of the present master.
    pub checkpoints: u64,
    /// The last failure.
    pub failure: Option<String>,
}

/// A cluster that runs.
pub struct Cluster {
    folder: TempDir,
    hurtig: PathBuf,
    options: Options,
    address: SocketAddr,
    /// Signs the certificates of this cluster.
    pub authority: Authority,
    /// The JobManager.
    pub job_manager: Daemon,
    /// JobManagers that stood by in the beginning.
    pub standbys: Vec<Daemon>,
    /// The TaskManagers.
    pub task_managers: Vec<Daemon>,
    /// Where all JobManagers are, as they are configured.
    job_managers: String,
}

impl Cluster {
    /// Starts a cluster of processes of the command `hurtig`, and waits for its JobManager.
    ///
    /// # Panics
    /// It does not start.
    pub fn start(hurtig: &str, options: Options) -> Self {
        Self::start_at(hurtig, free_address(), options)
    }

    /// As [`Cluster::start`], with the JobManager at an address.
    ///
    /// # Panics
    /// As [`Cluster::start`].
    pub fn start_at(hurtig: &str, address: SocketAddr, options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["logs", "certs"] {
            std::fs::create_dir(folder.path().join(name)).expect("a folder");
        }
        let validity = Validity::days(1);
        let authority = Authority::ephemeral("test", validity).expect("an authority");
        let mut cluster = Cluster {
            job_manager: idle_daemon(),
            standbys: Vec::new(),
            task_managers: Vec::new(),
            job_managers: address.to_string(),
            hurtig: hurtig.into(),
            folder,
            options,
            address,
            authority,
        };
        cluster.certify(Role::Client, "client");
        cluster.certify(Role::JobManager, JOB_MANAGER);
        let others = free_addresses().filter(|other| *other != address);
        let standbys: Vec<_> = others.take(cluster.options.standbys).collect();
        standbys.iter().for_each(|standby| cluster.job_managers += &format!(",{standby}"));
        cluster.job_manager = cluster.job_manager_at(JOB_MANAGER, address);
        cluster.job_manager.start();
        processes::wait_until("a JobManager that answers", SOON, || {
            cluster.command(&["list", "--json"]).output().is_ok_and(|output| output.status.success())
        });
        for (number, standby) in standbys.into_iter().enumerate() {
            let name = format!("standby-{}", number + 1);
            cluster.certify(Role::JobManager, &name);
            let mut standby = cluster.job_manager_at(&name, standby);
            standby.start();
            cluster.standbys.push(standby);
        }
        for _ in 0..cluster.options.task_managers {
            cluster.add_task_manager();
        }
        cluster
    }

    /// The folder in which everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where the JobManager listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Adds a TaskManager.
    ///
    /// # Panics
    /// It does not start.
    pub fn add_task_manager(&mut self) {
        let name = format!("taskmanager-{}", self.task_managers.len() + 1);
        self.certify(Role::TaskManager, &name);
        let slots = self.options.slots.to_string();
        let through = self.options.through.map(|through| through.to_string());
        let at = through.as_ref().unwrap_or(&self.job_managers);
        let host = self.host(self.task_managers.len() + 1);
        let more: Vec<&str> = ["--slots", &slots].into_iter().chain(host.as_deref()).collect();
        let mut daemon = self.daemon("taskmanager", &name, at, &more);
        daemon.start();
        self.task_managers.push(daemon);
    }

    /// What a daemon on a machine is told of the machine's address.
    fn host(&self, number: usize) -> Option<String> {
        self.options.hosts.get(number).map(|host| format!("-Dcluster.host={host}"))
    }

    /// Where the certificates of a name lie.
    pub fn certificates(&self, name: &str) -> PathBuf {
        self.folder().join("certs").join(name)
    }

    fn certify(&self, role: Role, name: &str) {
        // The folder `taskmanager-1` is for the TaskManager `1`.
        let id = name.rsplit('-').next().unwrap_or(name);
        let identity = self.authority.issue(&Name::new(role, id).expect("a name"), Validity::days(1), &[]);
        identity.expect("a certificate").save(&self.certificates(name)).expect("a folder");
    }

    /// A JobManager, with a folder of its own where there are several.
    fn job_manager_at(&self, name: &str, address: SocketAddr) -> Daemon {
        let (folder, shared) = (self.folder().join(name), self.folder().join("shared"));
        let defines = [
            format!("-Dcluster.dir={}", folder.display()),
            format!("-Dhigh-availability.dir={}", shared.display()),
            "-Dhigh-availability.lease=1s".into(),
            format!("--listen={address}"),
        ];
        let several = if self.options.standbys > 0 { &defines[..] } else { &[] };
        let more: Vec<String> = several.iter().cloned().chain(self.host(0)).collect();
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        self.daemon(JOB_MANAGER, name, &self.job_managers, &more)
    }

    fn daemon(&self, verb: &str, name: &str, job_manager: &str, more: &[&str]) -> Daemon {
        let log = self.folder().join("logs").join(name).with_extension("log");
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = self.plain_command(name, job_manager);
        command.arg(verb).args(more);
        for define in &self.options.defines {
            command.args(["-D", define]);
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Daemon { name: name.into(), command, child: None }
    }

    /// The command with what it must know of this cluster, and the certificate of a name.
    fn plain_command(&self, certificates: &str, job_manager: &str) -> Command {
        let mut command = Command::new(&self.hurtig);
        command
            .current_dir(self.folder())
            .envs(self.options.variables.iter().cloned())
            .env("HURTIG_CLUSTER_DIR", self.folder())
            .env("HURTIG_CLUSTER_JOBMANAGER", job_manager)
            .env("HURTIG_CLUSTER_CERTIFICATES", self.certificates(certificates))
            .env("HURTIG_LOG_FILTER", std::env::var("HURTIG_LOG_FILTER").unwrap_or_else(|_| "info".into()));
        command
    }

    /// The `hurtig` command as a user of this cluster calls it.
    pub fn command(&self, args: &[&str]) -> Command {
        self.command_to(&self.job_managers, "client", args)
    }

    /// The `hurtig` command with the JobManager at an address, and the certificates of a name.
    pub fn command_to(&self, job_manager: &str, certificates: &str, args: &[&str]) -> Command {
        let mut command = self.plain_command(certificates, job_manager);
        command.args(args);
        command
    }

    /// Calls the command, which must succeed, and returns what it prints.
    ///
    /// # Panics
    /// It fails.
    pub fn call(&self, args: &[&str]) -> String {
        let Output { status, stdout, stderr } = self.command(args).output().expect("the command starts");
        let said = String::from_utf8_lossy(&stderr);
        assert!(status.success(), "hurtig {args:?}: {status}: {said}");
        String::from_utf8_lossy(&stdout).trim().to_string()
    }

    /// Submits a program: flags, then `--` and its own arguments. Returns the job.
    ///
    /// # Panics
    /// It is refused.
    pub fn submit(&self, program: &str, args: &[&str]) -> String {
        let mut all = vec!["run", "--detached", "--quiet", program];
        all.extend(args);
        self.call(&all)
    }

    /// A job, if the JobManager answers and knows it.
    pub fn job(&self, id: &str) -> Option<JobRow> {
        let Output { status, stdout, .. } = self.command(&["list", "--json"]).output().ok()?;
        let rows: Vec<JobRow> = status.success().then(|| serde_json::from_slice(&stdout).ok())??;
        rows.into_iter().find(|row| row.id == id)
    }

    /// Waits for a job to be in a state.
    ///
    /// # Panics
    /// It ends otherwise, or takes too long.
    pub fn wait_for(&self, id: &str, wanted: JobState, limit: Duration) -> JobRow {
        until(&format!("job {id} to be {wanted}"), limit, || {
            let job = self.job(id)?;
            assert!(job.state == wanted || !job.state.is_terminal(), "{job:?}");
            (job.state == wanted).then_some(job)
        })
    }

    /// The masters that run.
    pub fn masters(&self) -> Vec<Process> {
        let folder = self.folder();
        let alone = running_from(&folder.join(JOB_MANAGER));
        let standbys = (0..self.standbys.len()).map(|number| folder.join(format!("standby-{}", number + 1)));
        alone.into_iter().chain(standbys.flat_map(|standby| running_from(&standby))).collect()
    }

    /// The workers that run on a TaskManager.
    pub fn workers(&self, task_manager: usize) -> Vec<Process> {
        running_from(&self.folder().join(format!("taskmanager-{}", task_manager + 1)))
    }

    /// The workers of all TaskManagers.
    pub fn all_workers(&self) -> Vec<Process> {
        (0..self.task_managers.len()).flat_map(|number| self.workers(number)).collect()
    }

    fn print_logs(&self) {
        let mut folders = vec![self.folder().to_path_buf()];
        while let Some(folder) = folders.pop() {
            for path in folder.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|ending| ending == "log") {
                    let text =
                        String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()).into_owned();
                    let from = text.ceil_char_boundary(text.len().saturating_sub(PRINTED_LOG_BYTES));
                    println!("--- {}\n{}", path.display(), &text[from..]);
                }
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.job_manager.kill();
        self.standbys.iter_mut().for_each(Daemon::kill);
        self.task_managers.iter_mut().for_each(Daemon::kill);
        // One may be started while others are killed.
        for _ in 0..100 {
            let left = running_from(self.folder());
            if left.is_empty() {
                break;
            }
            for process in left {
                kill(process.id);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if std::thread::panicking() {
            self.print_logs();
        }
    }
}

/// The place for a daemon, that none is started for.
pub fn idle_daemon() -> Daemon {
    Daemon { name: "nobody".into(), command: Command::new("false"), child: None }
}

/// An address that nobody listens at, and that no outgoing connection gets by chance.
///
/// # Panics
/// There is none.
pub fn free_address() -> SocketAddr {
    free_addresses().next().expect("a free port")
}

/// Different addresses, each as [`free_address`].
pub fn free_addresses() -> impl Iterator<Item = SocketAddr> {
    let first = 10_000 + (std::process::id() as u16).wrapping_mul(37) % 20_000;
    let addresses = (first..).map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    addresses.take(1_000).filter(|address| TcpListener::bind(address).is_ok())
}
