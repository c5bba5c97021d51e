//! What daemons keep on disk, as the runtime wants it: jobs in a metadata store, programs in a program store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use hurtig::JobState;
use hurtig::daemon::memory::{JobMemory, Programs, RememberedJob, Upload};
use hurtig::dataflow::error::describe;
use hurtig::dataflow::ids::Attempt;
use hurtig::protocol::{Call, GraphSummary, ProgramHash, ProgramSummary};
use hurtig::report::CheckpointReport;
use hurtig_metadata::{
    CheckpointKind, CheckpointRecord, Error, JobChange, JobRecord, MetadataStore, ProgramStore, Retention,
    Seen,
};

/// The largest program that is accepted.
const MAX_PROGRAM_BYTES: u64 = 4 << 30;

/// The JobManager's jobs and programs.
pub(crate) struct Memory {
    store: MetadataStore,
}

/// What of a job the store has no column for.
#[derive(serde::Serialize, serde::Deserialize)]
struct Kept {
    call: Call,
    graph: GraphSummary,
    masters: u32,
    port: u16,
}

fn tell(error: Error) -> String {
    describe(&error)
}

/// What is known of a checkpoint when nobody is there any more who took it.
fn report(record: &CheckpointRecord) -> CheckpointReport {
    CheckpointReport {
        id: record.id,
        location: record.location.clone(),
        bytes: record.size_bytes,
        written_bytes: record.size_bytes,
        triggered_at: record.triggered_at,
        duration_ms: record.completed_at - record.triggered_at,
        alignment_ms: 0,
        synchronous_us: 0,
        savepoint: record.kind == CheckpointKind::Savepoint,
    }
}

impl Memory {
    /// Opens what lies in a folder.
    pub(crate) fn open(folder: &Path) -> Result<Arc<Self>, String> {
        let store = MetadataStore::open(&folder.join("metadata"), Retention::default()).map_err(tell)?;
        Ok(Arc::new(Memory { store }))
    }

    fn recall(&self, record: JobRecord) -> Result<Option<RememberedJob>, String> {
        let Some(text) = self.store.graph(record.id).map_err(tell)? else { return Ok(None) };
        let kept: Kept = serde_json::from_str(&text)
            .map_err(|error| format!("what is kept of job {} cannot be read: {error}", record.id))?;
        let mut status = hurtig::JobStatus::new(record.id, &record.name, record.submitted_at);
        status.state = serde_json::from_value::<JobState>(record.state.clone().into())
            .map_err(|_| format!("job {} has the unknown state '{}'", record.id, record.state))?;
        status.attempt = record.attempt;
        status.failure = record.failure;
        status.ended_at = record.ended_at;
        let checkpoints = self.store.checkpoints(record.id).map_err(tell)?;
        // The newest comes first.
        let last = |kind| checkpoints.iter().find(|checkpoint| checkpoint.kind == kind).map(report);
        status.last_checkpoint = last(CheckpointKind::Checkpoint);
        status.last_savepoint = last(CheckpointKind::Savepoint);
        let completed = checkpoints
            .into_iter()
            .rev()
            .filter(|checkpoint| checkpoint.kind == CheckpointKind::Checkpoint)
            .map(|checkpoint| checkpoint.location)
            .collect();
        let Kept { call, graph, masters, port } = kept;
        Ok(Some(RememberedJob { id: record.id, call, graph, status, masters, port, completed }))
    }

    fn keep_checkpoints(&self, job: &RememberedJob, attempt: Attempt) -> Result<(), Error> {
        let known = self.store.checkpoints(job.id)?;
        let is_known = |report: &&CheckpointReport| {
            known.iter().any(|checkpoint| checkpoint.location == report.location)
        };
        let is_kept = |checkpoint: &&CheckpointRecord| job.completed.contains(&checkpoint.location);
        let subsumed: Vec<_> =
            known.iter().filter(|known| !is_kept(known)).map(|checkpoint| checkpoint.id).collect();
        let last = [&job.status.last_checkpoint, &job.status.last_savepoint];
        for report in last.into_iter().flatten().filter(|report| !is_known(report)) {
            let kind = if report.savepoint { CheckpointKind::Savepoint } else { CheckpointKind::Checkpoint };
            let record = CheckpointRecord {
                id: report.id,
                kind,
                location: report.location.clone(),
                triggered_at: report.triggered_at,
                completed_at: report.triggered_at + report.duration_ms,
                size_bytes: report.bytes,
            };
            match self.store.add_checkpoint(job.id, attempt, &record, &subsumed) {
                // A master that started from an older one has counted on from there.
                Err(Error::CheckpointExists { .. }) => {}
                other => other?,
            }
        }
        Ok(())
    }
}

impl JobMemory for Memory {
    fn jobs(&self) -> Result<Vec<RememberedJob>, String> {
        let records = self.store.jobs().map_err(tell)?;
        records.into_iter().filter_map(|record| self.recall(record).transpose()).collect()
    }

    fn keep(&self, job: &RememberedJob) -> Result<(), String> {
        let kept =
            Kept { call: job.call.clone(), graph: job.graph.clone(), masters: job.masters, port: job.port };
        let text = serde_json::to_string(&kept).map_err(|error| error.to_string())?;
        let state = job.status.state.to_string();
        let Some(before) = self.store.job(job.id).map_err(tell)? else {
            let program = job.call.program.parse().map_err(|error| format!("{error}"))?;
            if let Some(known) = self.store.program(program).map_err(tell)? {
                // Its file came without a name.
                let added = self.store.add_program(program, &job.call.file_name, known.size_bytes, now());
                added.map_err(tell)?;
            }
            let mut record = JobRecord::new(job.id, &job.status.name, &state, job.status.started_at);
            record.program = Some(program);
            record.arguments = job.call.args.clone();
            self.store.add_job(&record).map_err(tell)?;
            return self.store.set_graph(job.id, record.attempt, &text).map_err(tell);
        };
        if before.ended_at.is_some() {
            return Ok(());
        }
        let attempt = before.attempt.max(job.status.attempt);
        // Before the end: an ended job takes nothing more.
        self.store.set_graph(job.id, before.attempt, &text).map_err(tell)?;
        self.keep_checkpoints(job, before.attempt).map_err(tell)?;
        let seen = Seen { state: &before.state, attempt: before.attempt };
        let change =
            JobChange { state, attempt, failure: job.status.failure.clone(), ended_at: job.status.ended_at };
        self.store.change_job(job.id, seen, &change).map(drop).map_err(tell)
    }
}

/// Programs in a folder; the JobManager's are known to its metadata store.
pub(crate) struct ProgramFolder {
    store: ProgramStore,
    memory: Option<Arc<Memory>>,
}

impl ProgramFolder {
    /// Opens what lies in a folder.
    pub(crate) fn open(folder: &Path, memory: Option<Arc<Memory>>) -> Result<Arc<Self>, String> {
        let store = ProgramStore::open(&folder.join("programs"), MAX_PROGRAM_BYTES).map_err(tell)?;
        Ok(Arc::new(ProgramFolder { store, memory }))
    }
}

impl Programs for ProgramFolder {
    fn path(&self, program: &ProgramHash) -> Option<PathBuf> {
        self.store.path(program.parse().ok()?)
    }

    fn list(&self) -> Result<Vec<ProgramSummary>, String> {
        let summary = |hash| {
            let file = self.store.path(hash)?.metadata().ok()?;
            let since = file.modified().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?;
            Some(ProgramSummary {
                program: hash.to_string(),
                size_bytes: file.len(),
                uploaded_at: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            })
        };
        Ok(self.store.list().map_err(tell)?.into_iter().filter_map(summary).collect())
    }

    fn begin(&self, program: &ProgramHash, size_bytes: u64) -> Result<Box<dyn Upload>, String> {
        let hash = program.parse().map_err(|error| format!("'{program}': {error}"))?;
        let upload = self.store.begin(size_bytes, hash).map_err(tell)?;
        Ok(Box::new(Incoming { upload, memory: self.memory.clone() }))
    }
}

struct Incoming {
    upload: hurtig_metadata::Upload,
    memory: Option<Arc<Memory>>,
}

impl Upload for Incoming {
    fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.upload.write(bytes).map_err(tell)
    }

    fn finish(self: Box<Self>) -> Result<(), String> {
        let Incoming { upload, memory } = *self;
        let register = |program: &hurtig_metadata::StoredProgram| match &memory {
            Some(memory) => memory.store.add_program(program.hash, "program", program.size_bytes, now()),
            None => Ok(()),
        };
        upload.finish(register).map(drop).map_err(tell)
    }
}

#[allow(clippy::disallowed_methods, reason = "when a program came is for people to read")]
fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
