//! What clients ask the JobManager.

use super::State;
use crate::node::{Peer, PeerId, Reply, decode};
use crate::observe::JobObservation;
use crate::profile::{self, PROFILE_TIMEOUT};
use crate::protocol::{
    Answer, CHUNK_BYTES, Changed, ClientRequest, GraphSummary, LogAnswer, LogQuestion, Observed, Overview,
    Profile, ProgramPart, TaskManagerSummary, ToMaster, ToTaskManager,
};
use crate::report::JobStatus;
use crate::resource::ResourceManagerMessage;
use crate::status::JobState;
use crate::tasks::{Tasks, blocking};
use crate::worker::links::WorkerId;
use hurtig_dataflow::ids::{CheckpointId, JobId};
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest that a question about a job's next change is held back.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a master may take to say what it has seen.
const OBSERVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a savepoint may take.
const SAVEPOINT_TIMEOUT: Duration = Duration::from_secs(3_600);

impl State {
    pub(super) async fn on_client(&mut self, from: &Peer, message: &[u8], reply: Option<Reply>) {
        let Some(reply) = reply else { return from.close("a client asks, and does not tell") };
        let request = match decode::<ClientRequest>(message) {
            Ok(request) => request,
            Err(error) => return from.close(&format!("its message cannot be read: {error}")),
        };
        self.on_request(from.id(), request, reply).await;
    }

    /// A question of a client, or of this process.
    pub(super) async fn on_request(&mut self, from: PeerId, request: ClientRequest, reply: Reply) {
        match request {
            ClientRequest::HasProgram(program) => reply.send(&self.programs.path(&program).is_some()),
            ClientRequest::BeginUpload { program, size_bytes } => {
                let begun = blocking(|| self.programs.begin(&program, size_bytes)).map(|upload| {
                    self.last_upload += 1;
                    self.uploads.insert((from, self.last_upload), upload);
                    self.last_upload
                });
                reply.send(&begun);
            }
            ClientRequest::Chunk { upload, bytes } => {
                let written: Answer<()> = match self.uploads.get_mut(&(from, upload)) {
                    Some(upload) => blocking(|| upload.write(&bytes)),
                    None => Err("no such upload".into()),
                };
                reply.send(&written);
            }
            ClientRequest::FinishUpload(upload) => {
                let finished: Answer<()> = match self.uploads.remove(&(from, upload)) {
                    Some(upload) => blocking(|| upload.finish()),
                    None => Err("no such upload".into()),
                };
                reply.send(&finished);
            }
            ClientRequest::Submit(call) => self.submit(from, call, Some(reply)).await,
            ClientRequest::List => {
                let jobs: Vec<&JobStatus> = self.jobs.values().map(|job| job.status()).collect();
                reply.send(&jobs);
            }
            ClientRequest::Info(prefix) => reply.send(&self.info(&prefix)),
            ClientRequest::Follow { job, seen } => self.follow(job, seen, reply),
            ClientRequest::Cancel(job) => reply.send(&self.cancel(job)),
            ClientRequest::Savepoint { job, target, stop } => self.savepoint(job, target, stop, reply),
            ClientRequest::Rescale { job, parallelism, vertices } => {
                self.rescale(from, job, parallelism, vertices, reply).await;
            }
            ClientRequest::Overview => self.overview(reply),
            ClientRequest::Observe { job, checkpoint } => self.observe(job, checkpoint, reply),
            ClientRequest::Config => reply.send(&self.config.settings()),
            ClientRequest::Programs => reply.send(&blocking(|| self.programs.list())),
            ClientRequest::Profile { job, worker, duration } => self.profile(job, worker, duration, reply),
            ClientRequest::Logs { of, question } => self.logs(of.as_deref(), question, reply),
        }
    }

    fn observe(&self, id: JobId, checkpoint: Option<CheckpointId>, reply: Reply) {
        let Some(job) = self.jobs.get(&id) else {
            return reply.send(&Answer::<Observed>::Err(format!("there is no job {id}")));
        };
        let mut observed = Observed {
            status: job.status().clone(),
            graph: job.remember().graph.clone(),
            seen: JobObservation::default(),
            call: Some(job.remember().call.clone()),
            placed: job.placed().clone(),
            advice: job.advice(),
        };
        let (peer, kept) = (job.peer().cloned().filter(|_| !job.has_ended()), self.observation_file(id));
        self.tasks.spawn(async move {
            let seen = match peer {
                Some(peer) => {
                    let question = ToMaster::Observe { checkpoint };
                    peer.ask::<_, JobObservation>(&question, OBSERVE_TIMEOUT).await.ok()
                }
                None => read_observation(kept).await,
            };
            observed.seen = seen.unwrap_or_default();
            reply.send(&Answer::Ok(observed));
        });
    }

    /// The master of a job that runs.
    fn master_of(&self, job: JobId) -> Answer<Peer> {
        self.running(job)?.peer().cloned().ok_or_else(|| "the job's master is away".into())
    }

    fn profile(&self, job: JobId, worker: WorkerId, duration: Duration, reply: Reply) {
        let peer = match self.master_of(job) {
            Ok(peer) => peer,
            Err(reason) => return reply.send(&Answer::<Profile>::Err(reason)),
        };
        let duration = duration.min(profile::LONGEST);
        self.tasks.spawn(async move {
            let (message, limit) = (ToMaster::Profile { worker, duration }, duration + PROFILE_TIMEOUT * 2);
            let asked = peer.ask::<_, Answer<Profile>>(&message, limit).await;
            reply.send(&asked.unwrap_or_else(|error| Err(error.to_string())));
        });
    }

    fn logs(&self, of: Option<&str>, question: LogQuestion, reply: Reply) {
        let Some(of) = of else {
            return crate::daemon::answer_about_logs(&self.tasks, &self.folder, question, reply);
        };
        let named = |task_manager: &&super::TaskManager| task_manager.peer.name().dns_name() == of;
        let Some(peer) = self.task_managers.values().find(named).map(|found| found.peer.clone()) else {
            return reply.send(&Answer::<LogAnswer>::Err(format!("there is no TaskManager '{of}'")));
        };
        self.tasks.spawn(async move {
            let answer =
                peer.ask::<_, Answer<LogAnswer>>(&ToTaskManager::Logs(question), OBSERVE_TIMEOUT).await;
            reply.send(&answer.unwrap_or_else(|error| Err(error.to_string())));
        });
    }

    fn observation_file(&self, job: JobId) -> PathBuf {
        self.job_folder(job).join("observed")
    }

    /// Keeps what was seen of a job that ends. It is for people: should it be lost, the job is not.
    pub(super) fn keep_observation(&self, job: JobId, seen: &JobObservation) {
        let path = self.observation_file(job);
        let write = || -> Result<(), String> {
            let bytes = rmp_serde::to_vec_named(seen).map_err(|error| error.to_string())?;
            let unfinished = path.with_extension("unfinished");
            std::fs::write(&unfinished, bytes).map_err(|error| error.to_string())?;
            std::fs::rename(&unfinished, &path).map_err(|error| error.to_string())
        };
        if let Err(error) = blocking(write) {
            tracing::warn!(%job, "what was seen of the job is not kept: {error}");
        }
    }

    fn info(&self, prefix: &str) -> Answer<(JobStatus, GraphSummary)> {
        let mut found = self.jobs.values().filter(|job| job.id().to_string().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some(job), None) => Ok((job.status().clone(), job.remember().graph.clone())),
            (None, _) => Err(format!("there is no job '{prefix}': `hurtig list` shows those there are")),
            (Some(_), Some(_)) => Err(format!("several jobs begin with '{prefix}': give more of the id")),
        }
    }

    pub(super) fn running(&self, id: JobId) -> Answer<&super::Job> {
        let job = self.jobs.get(&id).ok_or_else(|| format!("there is no job {id}"))?;
        if job.has_ended() {
            return Err(format!("job {id} is {} already", job.status().state));
        }
        if !job.is_connected() {
            return Err(format!("the master of job {id} is being started or is away: try again"));
        }
        Ok(job)
    }

    /// A job whose master is away ends here.
    fn cancel(&mut self, id: JobId) -> Answer<()> {
        let job = self.jobs.get_mut(&id).ok_or_else(|| format!("there is no job {id}"))?;
        if job.has_ended() {
            return Err(format!("job {id} is {} already", job.status().state));
        }
        if job.is_connected() {
            job.tell_master(&ToMaster::Cancel);
        } else {
            self.end_job(id, JobState::Cancelled, None);
        }
        Ok(())
    }

    fn follow(&self, job: JobId, seen: u64, reply: Reply) {
        let Some(job) = self.jobs.get(&job) else {
            return reply.send(&Answer::<Changed>::Err(format!("there is no job {job}")));
        };
        let mut changes = job.subscribe();
        self.tasks.spawn(async move {
            let newer = changes.wait_for(|changed| changed.version > seen);
            let _ = tokio::time::timeout(FOLLOW_TIMEOUT, newer).await;
            let changed = changes.borrow().clone();
            reply.send(&Answer::Ok(changed));
        });
    }

    fn savepoint(&self, job: JobId, target: Option<String>, stop: bool, reply: Reply) {
        let peer = match self.master_of(job) {
            Ok(peer) => peer,
            Err(reason) => return reply.send(&Answer::<String>::Err(reason)),
        };
        self.tasks.spawn(async move {
            let message = ToMaster::Savepoint { target, stop };
            let asked = peer.ask::<_, Answer<String>>(&message, SAVEPOINT_TIMEOUT).await;
            reply.send(&asked.unwrap_or_else(|error| Err(error.to_string())));
        });
    }

    fn overview(&self, reply: Reply) {
        let (answer, rows) = oneshot::channel();
        let running = self.jobs.values().filter(|job| !job.has_ended());
        let placed: Vec<_> = running
            .flat_map(|job| job.placed().iter().map(|(worker, on)| (on.clone(), (job.id(), *worker))))
            .collect();
        let summary = |task_manager: &super::TaskManager| {
            let name = task_manager.peer.name().dns_name();
            let workers = placed.iter().filter(|(on, _)| *on == name).map(|(_, worker)| *worker).collect();
            let summary = TaskManagerSummary {
                address: task_manager.peer.address().to_string(),
                slots: 0,
                used: 0,
                hardware: task_manager.hardware,
                workers,
                name,
            };
            (task_manager.stub.get_id(), summary)
        };
        let mut known: std::collections::HashMap<_, _> = self.task_managers.values().map(summary).collect();
        let _ = self.resource_manager.cast(ResourceManagerMessage::Overview { reply: answer });
        self.tasks.spawn(async move {
            let rows = rows.await.unwrap_or_default();
            let row = |(id, slots, used)| {
                known.remove(&id).map(|known| TaskManagerSummary { slots, used, ..known })
            };
            reply.send(&Overview { task_managers: rows.into_iter().filter_map(row).collect() });
        });
    }
}

async fn read_observation(path: PathBuf) -> Option<JobObservation> {
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    rmp_serde::from_slice(&read.ok()?.ok()?).ok()
}

/// Answers with part of a program.
pub(super) fn send_chunk(tasks: &Tasks, path: Option<PathBuf>, offset: u64, reply: Reply) {
    tasks.spawn(async move {
        let read = tokio::task::spawn_blocking(move || -> std::io::Result<ProgramPart> {
            let mut file = std::fs::File::open(path.ok_or(std::io::ErrorKind::NotFound)?)?;
            let size_bytes = file.metadata()?.len();
            file.seek(SeekFrom::Start(offset))?;
            let mut bytes = Vec::with_capacity(CHUNK_BYTES);
            file.take(CHUNK_BYTES as u64).read_to_end(&mut bytes)?;
            Ok(ProgramPart { size_bytes, bytes: bytes.into() })
        });
        let chunk: Answer<ProgramPart> = match read.await {
            Ok(Ok(part)) => Ok(part),
            Ok(Err(error)) => Err(format!("the program cannot be read: {error}")),
            Err(error) => Err(error.to_string()),
        };
        reply.send(&chunk);
    });
}
