//! What a JobManager that leads keeps for the one that follows it: its jobs and programs, in the folder they share.
//!
//! ```text
//! <high-availability.dir>/leader/…                          who leads
//! <high-availability.dir>/jobs/<job>.<epoch, 20 digits>     a job, as the leader of that epoch knows it
//! <high-availability.dir>/programs/<sha256>                 a program
//! ```
//!
//! Each leader writes files of its own epoch only and believes those of the newest one: what a former leader writes too
//! late changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use bytes::Bytes;
use futures::executor::block_on;
use hurtig::daemon::memory::{JobMemory, Programs, RememberedJob};
use hurtig::dataflow::error::describe;
use hurtig::dataflow::ids::{JobId, LeaderEpoch};
use hurtig::protocol::ProgramHash;
use hurtig_state::{CheckpointStore, SharedFolder};

use crate::memory::ProgramFolder;

/// First line of a job's file.
const FORMAT: &str = "hurtig job 1";

/// Longest file of a job: its graph is part of it.
const LIMIT_BYTES: u64 = 64 << 20;

/// Jobs that have ended of which something is kept.
const ENDED_JOBS: usize = 100;

/// The jobs of a cluster, as its leader knows them. Whoever follows finds the programs of those that have not ended.
pub(crate) struct SharedJobs {
    folder: SharedFolder,
    programs: SharedFolder,
    /// Programs on this machine.
    local: Arc<ProgramFolder>,
    epoch: LeaderEpoch,
    found: Vec<RememberedJob>,
}

impl SharedJobs {
    /// Reads what leaders before have left.
    pub(crate) async fn open(
        store: &CheckpointStore,
        local: Arc<ProgramFolder>,
        epoch: LeaderEpoch,
    ) -> anyhow::Result<Self> {
        let folder = store.folder("jobs");
        let mut newest: BTreeMap<String, LeaderEpoch> = BTreeMap::new();
        for name in folder.names().await? {
            if let Some((job, found)) = parse(&name) {
                let known = newest.entry(job.to_string()).or_insert(found);
                *known = found.max(*known);
            }
        }
        let mut found = Vec::new();
        for (job, of) in newest {
            let name = file_name(&job, of);
            let content = folder.read(&name, LIMIT_BYTES).await?;
            let job = content
                .strip_prefix(format!("{FORMAT}\n").as_bytes())
                .context("it is of another version of hurtig")
                .and_then(|job| Ok(rmp_serde::from_slice::<RememberedJob>(job)?))
                .with_context(|| {
                    format!(
                        "'{}/{name}' cannot be read: move it away to go on without its job",
                        folder.location()
                    )
                })?;
            found.push(job);
        }
        let jobs = SharedJobs { folder, programs: store.folder("programs"), local, epoch, found };
        for job in jobs.found.iter().filter(|job| !job.status.state.is_terminal()) {
            jobs.fetch(&job.call.program).await?;
        }
        jobs.forget_old().await;
        Ok(jobs)
    }

    /// Sees to it that a program lies on this machine.
    async fn fetch(&self, program: &ProgramHash) -> anyhow::Result<()> {
        if self.local.path(program).is_some() {
            return Ok(());
        }
        let (mut upload, mut failed) = (None, None);
        let sink = |size_bytes, part: Bytes| {
            let mut write = || {
                let upload = match &mut upload {
                    Some(upload) => upload,
                    None => upload.insert(self.local.begin(program, size_bytes)?),
                };
                upload.write(&part)
            };
            failed = write().err();
            failed.is_none()
        };
        let downloaded = self.programs.download(program, sink).await;
        let name = format!("program {program} in {}", self.programs.location());
        downloaded.with_context(|| format!("{name} cannot be read"))?;
        match (failed, upload) {
            (None, Some(upload)) => upload.finish().map_err(anyhow::Error::msg).context(name),
            (reason, _) => anyhow::bail!("{name}: {}", reason.unwrap_or_else(|| "it is empty".into())),
        }
    }

    /// Of jobs that ended long ago nothing is kept. What cannot be deleted is forgotten by the next leader.
    async fn forget_old(&self) {
        let mut ended: Vec<_> = self.found.iter().filter(|job| job.status.state.is_terminal()).collect();
        ended.sort_by_key(|job| std::cmp::Reverse(job.status.ended_at));
        for job in ended.into_iter().skip(ENDED_JOBS) {
            self.delete(job.id, |_| true).await;
        }
    }

    async fn delete(&self, job: JobId, which: impl Fn(LeaderEpoch) -> bool) {
        for name in self.folder.names().await.unwrap_or_default() {
            if parse(&name).is_some_and(|(of, epoch)| of == job.to_string() && which(epoch)) {
                // What stays does no harm.
                let _ = self.folder.delete(&name).await;
            }
        }
    }
}

fn file_name(job: &str, epoch: LeaderEpoch) -> String {
    format!("{job}.{:020}", epoch.0)
}

fn parse(name: &str) -> Option<(&str, LeaderEpoch)> {
    let (job, epoch) = name.split_once('.')?;
    Some((job, LeaderEpoch(epoch.parse().ok().filter(|_| epoch.len() == 20)?)))
}

impl JobMemory for SharedJobs {
    fn jobs(&self) -> Result<Vec<RememberedJob>, String> {
        Ok(self.found.clone())
    }

    fn keep(&self, job: &RememberedJob) -> Result<(), String> {
        let mut content = format!("{FORMAT}\n").into_bytes();
        rmp_serde::encode::write_named(&mut content, job).map_err(|error| error.to_string())?;
        let content = Bytes::from(content);
        let name = file_name(&job.id.to_string(), self.epoch);
        // Not the runtime's `block_on`. Whoever starts a JobManager is within one on this thread, and what wakes that one
        // would wake this one only: the lease was never renewed when the time to do so came meanwhile.
        block_on(async {
            if job.masters == 0 {
                let path = self.local.path(&job.call.program).ok_or("the program is not there any more")?;
                let uploaded = self.programs.upload(&job.call.program, &path).await;
                uploaded.map_err(|error| describe(&error))?;
            }
            self.folder.write(&name, content).await.map_err(|error| describe(&error))?;
            if job.status.state.is_terminal() {
                self.delete(job.id, |epoch| epoch < self.epoch).await;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Memory;
    use hurtig::dataflow::ids::SubtaskId;
    use hurtig::protocol::{Call, GraphSummary};
    use hurtig::{JobState, JobStatus};

    fn job(program: &str, state: JobState) -> RememberedJob {
        let id = JobId(u128::MAX / 3);
        let mut status = JobStatus::new(id, "counts", 1_700_000_000_000);
        status.state = state;
        status.subtasks.insert(SubtaskId { vertex: 1, index: 2 }, Default::default());
        let call = Call {
            program: program.into(),
            file_name: "counts".into(),
            args: vec!["--".into()],
            defines: Vec::new(),
            folder: "/".into(),
            rescaled: None,
        };
        let graph = GraphSummary {
            name: "counts".into(),
            max_parallelism: 128,
            slots: 2,
            wanted: Vec::new(),
            vertices: Vec::new(),
            edges: vec![(0, 1, "hash".into())],
        };
        RememberedJob { id, call, graph, status, masters: 0, port: 7, completed: vec!["chk-1".into()] }
    }

    /// Programs of one machine.
    fn programs(folder: &std::path::Path) -> Arc<ProgramFolder> {
        let memory = Memory::open(folder).unwrap();
        ProgramFolder::open(folder, Some(memory)).unwrap()
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "what is looked for is a thread that waits for ever")]
    fn what_happens_while_a_job_is_kept_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().to_path_buf();
        let (seen, sees) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let store = CheckpointStore::open(at.join("shared").to_str().unwrap()).unwrap();
                let jobs = SharedJobs::open(&store, programs(&at.join("own")), LeaderEpoch(1)).await.unwrap();
                let kept = RememberedJob { masters: 1, ..job("none", JobState::Running) };
                let (tell, told) = tokio::sync::oneshot::channel();
                let waiting = async { seen.send(told.await).unwrap() };
                let keeping = async {
                    tell.send(()).unwrap();
                    tokio::task::block_in_place(|| jobs.keep(&kept)).unwrap();
                    std::future::pending::<()>().await;
                };
                tokio::join!(waiting, keeping);
            });
        });
        assert_eq!(sees.recv_timeout(std::time::Duration::from_secs(60)), Ok(Ok(())));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_follows_finds_the_jobs_and_programs_and_is_not_disturbed_by_who_went_before() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let store = CheckpointStore::open(at("shared").to_str().unwrap()).unwrap();
        let (content, program) = (b"#!/bin/true\n", hurtig_metadata::ProgramHash::of(b"#!/bin/true\n"));
        let first = programs(&at("first"));
        let mut upload = first.begin(&program.to_string(), content.len() as u64).unwrap();
        upload.write(content).unwrap();
        upload.finish().unwrap();

        let former = SharedJobs::open(&store, first, LeaderEpoch(1)).await.unwrap();
        assert!(former.jobs().unwrap().is_empty());
        let mut kept = job(&program.to_string(), JobState::Running);
        let keep = |jobs: &SharedJobs, job: &RememberedJob| tokio::task::block_in_place(|| jobs.keep(job));
        keep(&former, &kept).unwrap();

        let second = programs(&at("second"));
        let next = SharedJobs::open(&store, Arc::clone(&second), LeaderEpoch(2)).await.unwrap();
        let found = next.jobs().unwrap();
        assert_eq!(format!("{found:?}"), format!("{:?}", [&kept]));
        assert_eq!(std::fs::read(second.path(&program.to_string()).unwrap()).unwrap(), content);

        kept.masters = 1;
        kept.status.state = JobState::Finished;
        keep(&next, &kept).unwrap();
        keep(&former, &found[0]).unwrap();
        drop(next);
        let last = SharedJobs::open(&store, second, LeaderEpoch(3)).await.unwrap();
        assert_eq!(last.jobs().unwrap()[0].status.state, JobState::Finished);
    }
}
