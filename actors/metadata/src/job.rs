//! Jobs: submitted, changed by the attempt that is the current one, ended, forgotten.

use crate::error::Error;
use crate::hash::ProgramHash;
use crate::row::{self, FAILURE_BYTES, GRAPH_BYTES, NAME_BYTES, SETTINGS_BYTES, bounded, cut};
use crate::store::{Failure, MetadataStore};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::{Attempt, JobId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use std::collections::BTreeMap;

/// What is remembered of a job, but for its graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobRecord {
    /// Its id.
    pub id: JobId,
    /// Its name, for people.
    pub name: String,
    /// The program that builds it; `None` if it was not uploaded.
    pub program: Option<ProgramHash>,
    /// The program's own arguments.
    pub arguments: Vec<String>,
    /// Configuration keys given with the job.
    pub configuration: BTreeMap<String, String>,
    /// Its state.
    pub state: String,
    /// The current attempt: others may not write.
    pub attempt: Attempt,
    /// When it was submitted.
    pub submitted_at: Timestamp,
    /// When it ended; `None` while it has not.
    pub ended_at: Option<Timestamp>,
    /// The last failure.
    pub failure: Option<String>,
}

impl JobRecord {
    /// A job at its first attempt, without program, arguments and configuration.
    pub fn new(id: JobId, name: &str, state: &str, submitted_at: Timestamp) -> Self {
        JobRecord {
            id,
            name: name.to_string(),
            program: None,
            arguments: Vec::new(),
            configuration: BTreeMap::new(),
            state: state.to_string(),
            attempt: Attempt(1),
            submitted_at,
            ended_at: None,
            failure: None,
        }
    }
}

/// A job as its writer last saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    /// Its state.
    pub state: &'a str,
    /// Its attempt, which is the writer's own.
    pub attempt: Attempt,
}

/// What becomes of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobChange {
    /// Its next state.
    pub state: String,
    /// Its next attempt, which is the current one from then on. Never less than the former.
    pub attempt: Attempt,
    /// What failed; `None` leaves the last failure in place. Cut at 64 KiB.
    pub failure: Option<String>,
    /// The time if this is the job's end.
    pub ended_at: Option<Timestamp>,
}

impl JobChange {
    /// Another state in an attempt.
    pub fn to(state: &str, attempt: Attempt) -> Self {
        JobChange { state: state.to_string(), attempt, failure: None, ended_at: None }
    }
}

const COLUMNS: &str =
    "id, name, program, arguments, configuration, state, attempt, submitted_ms, ended_ms, failure";

impl MetadataStore {
    /// Remembers a job. Its program, if it has one, counts as used.
    ///
    /// # Errors
    /// The job is there already, its program is not, something is too large; the disk failed.
    pub fn add_job(&self, job: &JobRecord) -> Result<(), Error> {
        bounded("a job's name", &job.name, NAME_BYTES)?;
        bounded("a job's state", &job.state, NAME_BYTES)?;
        let arguments = serde_json::Value::from(job.arguments.clone()).to_string();
        bounded("the arguments", &arguments, SETTINGS_BYTES)?;
        let configuration: serde_json::Map<_, _> =
            job.configuration.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let configuration = serde_json::Value::from(configuration).to_string();
        bounded("the configuration", &configuration, SETTINGS_BYTES)?;
        self.write("add a job to", |transaction| {
            if find(transaction, job.id)?.is_some() {
                return Err(Error::JobExists(job.id).into());
            }
            if let Some(program) = job.program {
                let sql = "UPDATE program SET last_used_ms = max(last_used_ms, ?2) WHERE hash = ?1";
                let mut update = transaction.prepare_cached(sql)?;
                let known = update.execute(params![program.to_string(), job.submitted_at])?;
                if known == 0 {
                    return Err(Error::UnknownProgram(program).into());
                }
            }
            let sql = format!("INSERT INTO job ({COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)");
            transaction.prepare_cached(&sql)?.execute(params![
                job.id.to_string(),
                job.name,
                job.program.map(|program| program.to_string()),
                arguments,
                configuration,
                job.state,
                job.attempt.0,
                job.submitted_at,
                job.ended_at,
                job.failure.as_deref().map(|text| cut(text, FAILURE_BYTES)),
            ])?;
            Ok(())
        })
    }

    /// Changes a job if it still is as its writer saw it. Returns the jobs that are forgotten because this one ended,
    /// so that what belongs to them can go too.
    ///
    /// # Errors
    /// The job has changed, has ended or is not there, or the attempt is not the current one
    /// ([`ErrorKind::Stale`](crate::ErrorKind::Stale)); the next attempt is an older one; the disk failed.
    pub fn change_job(&self, id: JobId, seen: Seen<'_>, change: &JobChange) -> Result<Vec<JobId>, Error> {
        bounded("a job's state", &change.state, NAME_BYTES)?;
        self.write("change a job in", |transaction| {
            let job = writable(transaction, id, seen.attempt)?;
            if job.state != seen.state {
                let expected = seen.state.to_string();
                return Err(Error::StateChanged { job: id, expected, found: job.state }.into());
            }
            if change.attempt < job.attempt {
                return Err(Error::Fenced { job: id, given: change.attempt, current: job.attempt }.into());
            }
            let sql =
                "UPDATE job SET state = ?2, attempt = ?3, ended_ms = ?4, failure = coalesce(?5, failure)
                WHERE id = ?1";
            transaction.prepare_cached(sql)?.execute(params![
                id.to_string(),
                change.state,
                change.attempt.0,
                change.ended_at,
                change.failure.as_deref().map(|text| cut(text, FAILURE_BYTES)),
            ])?;
            match change.ended_at {
                Some(_) => self.prune(transaction, Some(id)),
                None => Ok(Vec::new()),
            }
        })
    }

    /// Remembers a job's graph, in whatever words the caller has for it.
    ///
    /// # Errors
    /// The job has ended or is not there, the attempt is not the current one; the graph is too large; the disk
    /// failed.
    pub fn set_graph(&self, id: JobId, attempt: Attempt, graph: &str) -> Result<(), Error> {
        bounded("a job graph", graph, GRAPH_BYTES)?;
        self.write("change a job in", |transaction| {
            writable(transaction, id, attempt)?;
            let mut update = transaction.prepare_cached("UPDATE job SET graph = ?2 WHERE id = ?1")?;
            update.execute(params![id.to_string(), graph])?;
            Ok(())
        })
    }

    /// A job's graph, if it was set.
    ///
    /// # Errors
    /// The job is not there; the disk failed.
    pub fn graph(&self, id: JobId) -> Result<Option<String>, Error> {
        let found = self.read("read a job in", |connection| {
            let mut query = connection.prepare_cached("SELECT graph FROM job WHERE id = ?1")?;
            query.query_row([id.to_string()], |row| row.get(0)).optional()
        })?;
        found.ok_or(Error::UnknownJob(id))
    }

    /// A job; `None` if it is not there.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn job(&self, id: JobId) -> Result<Option<JobRecord>, Error> {
        self.read("read a job in", |connection| find(connection, id))
    }

    /// All jobs: those that have not ended, and the retained ones that have. By the time of submission, then by id.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn jobs(&self) -> Result<Vec<JobRecord>, Error> {
        self.list("true")
    }

    /// The jobs that have not ended, in the order of [`jobs`](Self::jobs): those that a JobManager that starts has
    /// to look after.
    ///
    /// # Errors
    /// The disk failed, or the file is damaged.
    pub fn running_jobs(&self) -> Result<Vec<JobRecord>, Error> {
        self.list("ended_ms IS NULL")
    }

    fn list(&self, condition: &str) -> Result<Vec<JobRecord>, Error> {
        self.read("list jobs in", |connection| {
            let sql = format!("SELECT {COLUMNS} FROM job WHERE {condition} ORDER BY submitted_ms, id");
            let mut query = connection.prepare_cached(&sql)?;
            query.query_map([], record)?.collect()
        })
    }
}

/// The job, if an attempt may write about it.
pub(crate) fn writable(connection: &Connection, id: JobId, attempt: Attempt) -> Result<JobRecord, Failure> {
    let job = find(connection, id)?.ok_or(Error::UnknownJob(id))?;
    if job.attempt != attempt {
        return Err(Error::Fenced { job: id, given: attempt, current: job.attempt }.into());
    }
    if job.ended_at.is_some() {
        return Err(Error::JobEnded { job: id, state: job.state }.into());
    }
    Ok(job)
}

/// Forgets all ended jobs but some.
pub(crate) fn prune(
    connection: &Connection,
    keep: u32,
    just_ended: Option<JobId>,
) -> Result<Vec<JobId>, Failure> {
    let last = just_ended.map(|id| id.to_string());
    let sql = "DELETE FROM job WHERE id IN (
            SELECT id FROM job WHERE ended_ms IS NOT NULL
            ORDER BY id IS ?1 DESC, ended_ms DESC, id DESC LIMIT -1 OFFSET ?2
        ) RETURNING id";
    let mut delete = connection.prepare_cached(sql)?;
    let gone = delete.query_map(params![last, keep], |row| row::job_id(row, "id"))?;
    let mut gone: Vec<JobId> = gone.collect::<rusqlite::Result<_>>()?;
    gone.sort_unstable();
    Ok(gone)
}

fn find(connection: &Connection, id: JobId) -> rusqlite::Result<Option<JobRecord>> {
    let mut query = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM job WHERE id = ?1"))?;
    query.query_row([id.to_string()], record).optional()
}

fn record(row: &Row<'_>) -> rusqlite::Result<JobRecord> {
    let program: Option<String> = row.get("program")?;
    Ok(JobRecord {
        id: row::job_id(row, "id")?,
        name: row.get("name")?,
        program: program.map(|_| row::parsed(row, "program", str::parse)).transpose()?,
        arguments: row::parsed(row, "arguments", |text| serde_json::from_str(text))?,
        configuration: row::parsed(row, "configuration", |text| serde_json::from_str(text))?,
        state: row.get("state")?,
        attempt: row::attempt(row, "attempt")?,
        submitted_at: row.get("submitted_ms")?,
        ended_at: row.get("ended_ms")?,
        failure: row.get("failure")?,
    })
}
