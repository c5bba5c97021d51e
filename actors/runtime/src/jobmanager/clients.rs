//! What clients ask the JobManager of an embedded cluster, in the words of those of processes.

use super::{Job, State};
use crate::master::JobMasterMessage;
use crate::node::Reply;
use crate::process::hardware;
use crate::profile;
use crate::protocol::{
    Answer, Changed, ClientRequest, GraphSummary, LogAnswer, Observed, Overview, ProgramSummary, Submitted,
    TaskManagerSummary,
};
use crate::report::JobStatus;
use crate::resource::ResourceManagerMessage;
use crate::worker::links::WorkerId;
use hurtig_dataflow::ids::JobId;
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::oneshot;

/// What a cluster that is a program's own says to whoever brings another program.
const NO_PROGRAMS: &str = "this is a program that runs its own job and takes no others: start a cluster for that, with `hurtig cluster`";

impl State {
    pub(super) fn on_request(&mut self, request: ClientRequest, reply: Reply) {
        match request {
            ClientRequest::List => {
                let jobs: Vec<JobStatus> =
                    self.jobs.values().map(|job| job.status.borrow().clone()).collect();
                reply.send(&jobs);
            }
            ClientRequest::Info(prefix) => reply.send(&self.info(&prefix)),
            ClientRequest::Follow { job, .. } => {
                let changed = |job: &Job| Changed { version: 1, status: job.status.borrow().clone() };
                reply.send(&self.job(job).map(changed));
            }
            ClientRequest::Cancel(job) => {
                let cancelled: Answer<()> =
                    self.running(job).map(|job| drop(job.master.cast(JobMasterMessage::Cancel)));
                reply.send(&cancelled);
            }
            ClientRequest::Savepoint { job, target, stop } => self.savepoint(job, target, stop, reply),
            ClientRequest::Rescale { .. } => reply.send(&Answer::<Submitted>::Err(NO_PROGRAMS.into())),
            ClientRequest::Overview => self.overview(reply),
            ClientRequest::Observe { job, checkpoint } => {
                let observed = |job: &Job| Observed {
                    status: job.status.borrow().clone(),
                    graph: job.graph.clone(),
                    seen: job.observer.observation(checkpoint),
                    call: None,
                    placed: BTreeMap::new(),
                    advice: Vec::new(),
                };
                reply.send(&self.job(job).map(observed));
            }
            ClientRequest::Config => reply.send(&self.config.settings()),
            ClientRequest::Programs => reply.send(&Answer::<Vec<ProgramSummary>>::Ok(Vec::new())),
            ClientRequest::HasProgram(_) => reply.send(&false),
            ClientRequest::BeginUpload { .. } => reply.send(&Answer::<u64>::Err(NO_PROGRAMS.into())),
            ClientRequest::Chunk { .. } | ClientRequest::FinishUpload(_) => {
                reply.send(&Answer::<()>::Err(NO_PROGRAMS.into()));
            }
            // All run in this process.
            ClientRequest::Profile { duration, .. } => {
                self.tasks.spawn(async move { reply.send(&profile::sample(duration).await) });
            }
            ClientRequest::Logs { .. } => {
                let why = "a program that runs its own job logs to its standard error";
                reply.send(&Answer::<LogAnswer>::Err(why.into()));
            }
            ClientRequest::Submit(_) => reply.send(&Answer::<Submitted>::Err(NO_PROGRAMS.into())),
        }
    }

    fn job(&self, id: JobId) -> Answer<&Job> {
        self.jobs.get(&id).ok_or_else(|| format!("there is no job {id}"))
    }

    fn running(&self, id: JobId) -> Answer<&Job> {
        let job = self.job(id)?;
        let state = job.status.borrow().state;
        if state.is_terminal() { Err(format!("job {id} is {state} already")) } else { Ok(job) }
    }

    fn info(&self, prefix: &str) -> Answer<(JobStatus, GraphSummary)> {
        let mut found = self.jobs.iter().filter(|(id, _)| id.to_string().starts_with(prefix));
        match (found.next(), found.next()) {
            (Some((_, job)), None) => Ok((job.status.borrow().clone(), job.graph.clone())),
            (None, _) => Err(format!("there is no job '{prefix}'")),
            (Some(_), Some(_)) => Err(format!("several jobs begin with '{prefix}': give more of the id")),
        }
    }

    fn savepoint(&self, job: JobId, target: Option<String>, stop: bool, reply: Reply) {
        let master = match self.running(job) {
            Ok(job) => job.master.clone(),
            Err(reason) => return reply.send(&Answer::<String>::Err(reason)),
        };
        let (answer, taken) = oneshot::channel();
        let _ = master.cast(JobMasterMessage::Savepoint { target, stop, reply: answer });
        self.tasks.spawn(async move {
            let result: Answer<String> =
                taken.await.unwrap_or_else(|_| Err("the job has ended meanwhile".into()));
            reply.send(&result);
        });
    }

    fn overview(&self, reply: Reply) {
        let mut workers: Vec<(JobId, WorkerId)> = Vec::new();
        for (id, job) in self.jobs.iter().filter(|(_, job)| !job.status.borrow().state.is_terminal()) {
            let seen = job.observer.observation(None);
            let of_job: BTreeSet<WorkerId> = seen.subtasks.values().map(|subtask| subtask.worker).collect();
            workers.extend(of_job.into_iter().map(|worker| (*id, worker)));
        }
        let (answer, rows) = oneshot::channel();
        let _ = self.resource_manager.cast(ResourceManagerMessage::Overview { reply: answer });
        self.tasks.spawn(async move {
            let rows = rows.await.unwrap_or_default();
            let count = rows.len();
            let row = |(number, (_, slots, used)): (usize, (_, usize, usize))| TaskManagerSummary {
                name: format!("embedded-{}", number + 1),
                address: String::new(),
                slots,
                used,
                hardware: hardware(),
                // Which of several it is nobody needs to know: all are this process.
                workers: if count == 1 || number == 0 { workers.clone() } else { Vec::new() },
            };
            reply.send(&Overview { task_managers: rows.into_iter().enumerate().map(row).collect() });
        });
    }
}
