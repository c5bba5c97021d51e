//! Starting a program as part of a cluster, and hearing of its end.
//!
//! What it learns comes over its standard input, never by arguments or environment, which others can read. The pipe
//! stays open: a worker whose pipe ends knows that its TaskManager has died, and ends too. What the program prints goes
//! to files.
//!
//! A job's process that wants more memory than the machine has must be the one that ends, not a daemon or another job:
//! the kernel is told so. Where a TaskManager says how much a worker may use, it gets no more than that.
//!
//! # Decisions
//! * 2026-11: a worker's memory is bounded by the system's limit for data (`RLIMIT_DATA`): it counts what a process may
//!   write to. One for address space would count what allocators, mapped files and stacks only reserve. The limit is
//!   set by a shell that then becomes the program: setting it between fork and exec would need unsafe code.

use crate::config::ByteSize;
use crate::protocol::{Assignment, FINGERPRINT};
use crate::tasks::Tasks;
use ractor::{Actor, ActorProcessingErr, ActorRef, SpawnErr};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, ChildStdin, Command};

/// The environment variable that says that an assignment waits on standard input.
pub const ASSIGNED: &str = "HURTIG_ASSIGNED";

/// The longest assignment, in bytes.
const MAX_ASSIGNMENT_BYTES: u32 = 64 << 20;

/// Of 1,000: so much rather than a process of which nothing was said does the kernel end one of a job.
const OOM_SCORE: &str = "500";

/// A program that runs as part of the cluster.
pub struct Process {
    child: Child,
    /// Held open as long as the parent lives.
    _pipe: ChildStdin,
    log: PathBuf,
}

impl Process {
    /// Starts a program. `log` is the file, without its ending, that takes what it prints: `.out` and `.log`. It may use
    /// so much memory for data, if a limit is given.
    ///
    /// # Errors
    /// The file cannot be written, or the program not be started.
    pub async fn start(
        program: &Path,
        assignment: &Assignment,
        log: &Path,
        memory: Option<ByteSize>,
    ) -> io::Result<Process> {
        if let Some(folder) = log.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let open = |ending: &str| File::options().create(true).append(true).open(log.with_extension(ending));
        let folder = &assignment.call.folder;
        let folder = if folder.is_dir() { folder.as_path() } else { Path::new("/") };
        let mut command = limited(program, memory);
        command
            .args(&assignment.call.args)
            .env(ASSIGNED, "1")
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(open("out")?)
            .stderr(open("log")?)
            .kill_on_drop(true)
            // Not of the daemon's group: a Ctrl-C there is the daemon's to pass on.
            .process_group(0);
        let mut child = spawn(&mut command).await?;
        let mut pipe = child.stdin.take().ok_or_else(|| io::Error::other("no pipe to the program"))?;
        let bytes = rmp_serde::to_vec_named(assignment).map_err(io::Error::other)?;
        let write = async {
            pipe.write_all(&FINGERPRINT.to_le_bytes()).await?;
            pipe.write_all(&(bytes.len() as u32).to_le_bytes()).await?;
            pipe.write_all(&bytes).await?;
            pipe.flush().await
        };
        match write.await {
            // It has ended without reading, and how it ended says more.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
        record(log, child.id());
        prefer_to_end(child.id());
        Ok(Process { child, _pipe: pipe, log: log.to_path_buf() })
    }

    /// Its process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits for its end and tells it as a sentence: the exit code or signal, and the last lines of its log.
    pub async fn ended(&mut self) -> String {
        let status = self.child.wait().await;
        let how = match status {
            Ok(status) => describe(status),
            Err(error) => format!("its end was not seen: {error}"),
        };
        match last_lines(&self.log.with_extension("log")) {
            Some(lines) => format!("{how}; it said: {lines}"),
            None => how,
        }
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        // One that has ended needs no killing.
        let _ = self.child.start_kill();
    }
}

/// A program, with a limit for its data.
fn limited(program: &Path, memory: Option<ByteSize>) -> Command {
    let Some(ByteSize(bytes)) = memory else { return Command::new(program) };
    let mut command = Command::new("sh");
    let limit = format!("ulimit -d {} && exec \"$0\" \"$@\"", bytes.div_ceil(1_024));
    command.args(["-c", &limit]).arg(program);
    command
}

/// Has the kernel end this process rather than another when memory runs out. Elsewhere than on Linux, and where that is
/// forbidden, it decides by itself.
fn prefer_to_end(process: Option<u32>) {
    if let Some(process) = process {
        let _ = std::fs::write(format!("/proc/{process}/oom_score_adj"), OOM_SCORE);
    }
}

/// Starts a program whose file was just written: for a moment the system may think that somebody still writes it.
async fn spawn(command: &mut Command) -> io::Result<Child> {
    for _ in 0..50 {
        match command.spawn() {
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => return other,
        }
    }
    command.spawn()
}

/// Writes down which process it is, for a daemon that is started again. Without it the process ends by its time-out.
fn record(log: &Path, process: Option<u32>) {
    if let Some(process) = process
        && let Some(started) = start_time(process)
    {
        let _ = std::fs::write(log.with_extension("process"), format!("{process} {started}"));
    }
}

/// When a process began, in ticks since the machine did: with its number, unique until the machine begins again.
fn start_time(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name, in brackets, may hold anything.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The process that was written down in a file, if it still runs.
fn recorded(file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(file).ok()?;
    let (process, started) = text.split_once(' ')?;
    let (process, started) = (process.parse().ok()?, started.parse().ok()?);
    (start_time(process) == Some(started)).then_some(process)
}

/// Whether the process still runs that was written down in a file.
pub fn is_running(file: &Path) -> bool {
    recorded(file).is_some()
}

/// Ends the process that was started with a log, if it still runs; for one that an earlier daemon has started.
pub fn kill_recorded(log: &Path) {
    if let Some(process) = recorded(&log.with_extension("process")) {
        let _ = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("its process ended with exit code {code}"),
        (None, Some(signal)) => format!("its process was ended by signal {signal}"),
        (None, None) => "its process ended".into(),
    }
}

/// The end of a file, as one line.
fn last_lines(path: &Path) -> Option<String> {
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(600))).ok()?;
    let mut bytes = Vec::new();
    file.take(600).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines[lines.len().saturating_sub(3)..].join(" | ");
    (!last.is_empty()).then_some(last)
}

/// The assignment that waits on this process's standard input, if it was started as part of a cluster.
///
/// # Errors
/// What is there is no assignment.
pub fn assignment() -> io::Result<Option<Assignment>> {
    if std::env::var_os(ASSIGNED).is_none() {
        return Ok(None);
    }
    read_assignment(&mut io::stdin().lock()).map(Some)
}

fn read_assignment<T: for<'de> Deserialize<'de> + Serialize>(input: &mut impl Read) -> io::Result<T> {
    let mut fingerprint = [0; 8];
    input.read_exact(&mut fingerprint)?;
    if fingerprint != FINGERPRINT.to_le_bytes() {
        let reason = "this program was built with another version of hurtig than its cluster: build both with the same";
        return Err(io::Error::other(reason));
    }
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ASSIGNMENT_BYTES {
        return Err(io::Error::other(format!("an assignment of {length} bytes")));
    }
    // Grows with what arrives.
    let mut bytes = Vec::new();
    input.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    rmp_serde::from_slice(&bytes).map_err(io::Error::other)
}

/// Waits, on a thread of its own, until this process's parent has died, then calls `then`.
pub fn when_parent_dies(then: impl FnOnce() + Send + 'static) -> io::Result<()> {
    #[allow(clippy::disallowed_methods, reason = "a blocking read that ends with the process")]
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let mut byte = [0];
        while matches!(io::stdin().lock().read(&mut byte), Ok(1..)) {}
        then();
    })?;
    Ok(())
}

/// A program that runs as part of the cluster, as an actor: child of the daemon that started it, which sees its end as
/// the actor's, with the reason. When the actor ends the program is killed.
pub struct ChildProcess;

/// What a child is told.
pub enum ChildMessage {
    /// From its own task: the program has ended.
    Ended(String),
}
impl ractor::Message for ChildMessage {}

/// Why a child could not be started, as a sentence.
pub fn start_error(error: SpawnErr) -> String {
    match error {
        SpawnErr::StartupFailed(reason) => reason.to_string(),
        other => other.to_string(),
    }
}

/// What a child is made of: the program, what it learns, its log, and the memory it may use.
pub type ChildArguments = (PathBuf, Box<Assignment>, PathBuf, Option<ByteSize>);

impl Actor for ChildProcess {
    type Msg = ChildMessage;
    type State = Tasks;
    type Arguments = ChildArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<ChildMessage>,
        (program, assignment, log, memory): ChildArguments,
    ) -> Result<Tasks, ActorProcessingErr> {
        let mut process = Process::start(&program, &assignment, &log, memory).await.map_err(|error| {
            format!("'{}' ({}) cannot be started: {error}", assignment.call.file_name, program.display())
        })?;
        let tasks = Tasks::default();
        tasks.spawn(async move {
            let how = process.ended().await;
            let _ = myself.cast(ChildMessage::Ended(how));
        });
        Ok(tasks)
    }

    async fn handle(
        &self,
        myself: ActorRef<ChildMessage>,
        ChildMessage::Ended(how): ChildMessage,
        _: &mut Tasks,
    ) -> Result<(), ActorProcessingErr> {
        myself.stop(Some(how));
        Ok(())
    }
}
