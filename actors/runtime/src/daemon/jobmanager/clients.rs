//! What clients ask the JobManager.

use super::State;
use crate::node::{Peer, Reply, decode};
use crate::protocol::{
    Answer, CHUNK_BYTES, Changed, ClientRequest, GraphSummary, Overview, ProgramPart, TaskManagerSummary,
    ToMaster,
};
use crate::report::JobStatus;
use crate::resource::ResourceManagerMessage;
use crate::status::JobState;
use crate::tasks::{Tasks, blocking};
use hurtig_dataflow::ids::JobId;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::oneshot;

/// The longest that a question about a job's next change is held back.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a savepoint may take.
const SAVEPOINT_TIMEOUT: Duration = Duration::from_secs(3_600);

impl State {
    pub(super) async fn on_client(&mut self, from: &Peer, message: &[u8], reply: Option<Reply>) {
        let Some(reply) = reply else { return from.close("a client asks, and does not tell") };
        let request = match decode::<ClientRequest>(message) {
            Ok(request) => request,
            Err(error) => return from.close(&format!("its message cannot be read: {error}")),
        };
        match request {
            ClientRequest::HasProgram(program) => reply.send(&self.programs.path(&program).is_some()),
            ClientRequest::BeginUpload { program, size_bytes } => {
                let begun = blocking(|| self.programs.begin(&program, size_bytes)).map(|upload| {
                    self.last_upload += 1;
                    self.uploads.insert((from.id(), self.last_upload), upload);
                    self.last_upload
                });
                reply.send(&begun);
            }
            ClientRequest::Chunk { upload, bytes } => {
                let written: Answer<()> = match self.uploads.get_mut(&(from.id(), upload)) {
                    Some(upload) => blocking(|| upload.write(&bytes)),
                    None => Err("no such upload".into()),
                };
                reply.send(&written);
            }
            ClientRequest::FinishUpload(upload) => {
                let finished: Answer<()> = match self.uploads.remove(&(from.id(), upload)) {
                    Some(upload) => blocking(|| upload.finish()),
                    None => Err("no such upload".into()),
                };
                reply.send(&finished);
            }
            ClientRequest::Submit(call) => self.plan(from.id(), call, Some(reply)).await,
            ClientRequest::List => {
                let jobs: Vec<&JobStatus> = self.jobs.values().map(|job| job.status()).collect();
                reply.send(&jobs);
            }
            ClientRequest::Info(prefix) => reply.send(&self.info(&prefix)),
            ClientRequest::Follow { job, seen } => self.follow(job, seen, reply),
            ClientRequest::Cancel(job) => reply.send(&self.cancel(job)),
            ClientRequest::Savepoint { job, target, stop } => self.savepoint(job, target, stop, reply),
            ClientRequest::Overview => self.overview(reply),
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

    fn running(&self, id: JobId) -> Answer<&super::Job> {
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
        let peer = self.running(job).map(|job| job.peer().cloned());
        let peer = match peer {
            Ok(Some(peer)) => peer,
            Ok(None) => return reply.send(&Answer::<String>::Err("the job's master is away".into())),
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
        let names: Vec<_> = self
            .task_managers
            .values()
            .map(|task_manager| (task_manager.stub.get_id(), task_manager.peer.to_string()))
            .collect();
        let _ = self.resource_manager.cast(ResourceManagerMessage::Overview { reply: answer });
        self.tasks.spawn(async move {
            let rows = rows.await.unwrap_or_default();
            let summary = |(id, slots, used)| {
                let name = names.iter().find(|(named, _)| *named == id).map(|(_, name)| name.clone());
                TaskManagerSummary { name: name.unwrap_or_default(), slots, used }
            };
            reply.send(&Overview { task_managers: rows.into_iter().map(summary).collect() });
        });
    }
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
