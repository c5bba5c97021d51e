//! A job as it is shown: what was observed of it, with questions that both JSON and pages ask.

use hurtig_dataflow::ids::SubtaskId;
use hurtig_runtime::JobState;
pub use hurtig_runtime::observe::rates::Rates;
use hurtig_runtime::observe::subtasks::{SubtaskObservation, SubtaskState};
use hurtig_runtime::protocol::{Observed, VertexSummary};
use std::collections::BTreeMap;

/// A job at a moment.
pub struct View {
    /// What was observed.
    pub job: Observed,
    /// The moment, in milliseconds since 1970.
    pub now: i64,
}

/// A subtask as it is shown.
#[derive(Clone, Copy)]
pub struct SubtaskView<'a> {
    /// Its index.
    pub index: usize,
    /// Its state.
    pub state: SubtaskState,
    /// What was observed, if it has been deployed.
    pub seen: Option<&'a SubtaskObservation>,
    /// Its rates.
    pub rates: Rates,
}

/// How a vertex or subtask spends its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Little of it is spent waiting for credit.
    Ok,
    /// A tenth or more.
    Low,
    /// Half or more.
    High,
}

impl Level {
    /// Of the share of time without credit; the bounds are those that Flink uses.
    pub fn of(backpressured: f64) -> Self {
        match backpressured {
            share if share <= 0.10 => Level::Ok,
            share if share <= 0.5 => Level::Low,
            _ => Level::High,
        }
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Low => "low",
            Level::High => "high",
        }
    }
}

impl View {
    /// The id of a vertex: it stays while the program does.
    pub fn vertex_id(&self, vertex: usize) -> String {
        let uids = self.job.graph.vertices.get(vertex).map(|vertex| vertex.operators.join("\u{0}"));
        format!("{:032x}", hash128(uids.unwrap_or_default().as_bytes(), vertex))
    }

    /// The vertex with an id.
    pub fn vertex(&self, id: &str) -> Option<usize> {
        (0..self.job.graph.vertices.len()).find(|vertex| self.vertex_id(*vertex) == id)
    }

    /// A vertex of the graph.
    pub fn summary(&self, vertex: usize) -> &VertexSummary {
        &self.job.graph.vertices[vertex]
    }

    /// The subtasks of a vertex.
    pub fn subtasks(&self, vertex: usize) -> impl Iterator<Item = SubtaskView<'_>> {
        (0..self.summary(vertex).parallelism).map(move |index| {
            let seen = self.job.seen.subtasks.get(&SubtaskId { vertex, index });
            let rates = seen.map(|seen| seen.rates_at(self.now)).unwrap_or_default();
            SubtaskView { index, state: seen.map_or(self.unseen(), SubtaskObservation::state), seen, rates }
        })
    }

    /// The state of subtasks of which nothing was seen.
    fn unseen(&self) -> SubtaskState {
        match self.job.status.state {
            JobState::Finished => SubtaskState::Finished,
            JobState::Cancelled => SubtaskState::Cancelled,
            JobState::Failed => SubtaskState::Failed,
            _ => SubtaskState::Created,
        }
    }

    /// How many subtasks of a vertex, or of all, are in each state.
    pub fn counts(&self, vertex: Option<usize>) -> BTreeMap<SubtaskState, usize> {
        let vertices = vertex.map_or(0..self.job.graph.vertices.len(), |vertex| vertex..vertex + 1);
        let mut counts: BTreeMap<_, _> = SubtaskState::ALL.into_iter().map(|state| (state, 0)).collect();
        for subtask in vertices.flat_map(|vertex| self.subtasks(vertex)) {
            *counts.entry(subtask.state).or_default() += 1;
        }
        counts
    }

    /// The state of a vertex, of those of its subtasks: the worst of them, or the one that is farthest behind.
    pub fn state(&self, vertex: usize) -> SubtaskState {
        let counts = self.counts(Some(vertex));
        let has = |state: &SubtaskState| counts.get(state).is_some_and(|count| *count > 0);
        let worst = [SubtaskState::Failed, SubtaskState::Cancelling, SubtaskState::Cancelled];
        worst.into_iter().chain(SubtaskState::ALL).find(has).unwrap_or(SubtaskState::Created)
    }

    /// Shares of the subtask of a vertex that is the busiest and of the one that waits the most, and the sums of records.
    pub fn rates(&self, vertex: usize) -> Rates {
        self.subtasks(vertex).map(|subtask| subtask.rates).fold(Rates::default(), |all, one| Rates {
            busy: all.busy.max(one.busy),
            backpressured: all.backpressured.max(one.backpressured),
            idle: all.idle.max(one.idle),
            records_in: all.records_in + one.records_in,
            records_read: all.records_read + one.records_read,
            records_out: all.records_out + one.records_out,
            bytes_in: all.bytes_in + one.bytes_in,
            bytes_out: all.bytes_out + one.bytes_out,
        })
    }

    /// When a vertex began.
    pub fn started_at(&self, vertex: usize) -> i64 {
        let began = self.subtasks(vertex).filter_map(|subtask| subtask.seen.map(|seen| seen.started_at()));
        began.min().unwrap_or(-1)
    }

    /// When a vertex ended, if all of its subtasks have.
    pub fn ended_at(&self, vertex: usize) -> Option<i64> {
        let ends: Option<Vec<i64>> =
            self.subtasks(vertex).map(|subtask| subtask.seen.and_then(|seen| seen.ended_at())).collect();
        ends.and_then(|ends| ends.into_iter().max())
    }

    /// For how long the job has run or had.
    pub fn duration_ms(&self) -> i64 {
        let status = &self.job.status;
        status.ended_at.unwrap_or(self.now) - status.started_at
    }

    /// Where a subtask is: the address of its worker, and its TaskManager.
    pub fn place(&self, subtask: &SubtaskObservation) -> (String, String) {
        let worker = &subtask.worker;
        let address = self.job.seen.workers.get(worker).cloned().unwrap_or_else(|| "embedded".into());
        let manager = self.job.placed.get(worker).cloned().unwrap_or_else(|| "embedded-1".into());
        (address, manager)
    }
}

/// FNV-1a of 128 bits.
fn hash128(bytes: &[u8], salt: usize) -> u128 {
    let salt = (salt as u64).to_le_bytes();
    let mix = |hash: u128, byte: &u8| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    };
    bytes.iter().chain(&salt).fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, mix)
}

/// A job's state in Flink's words.
pub fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Created => "CREATED",
        JobState::Running => "RUNNING",
        JobState::Failing => "FAILING",
        JobState::Restarting => "RESTARTING",
        JobState::Cancelling => "CANCELLING",
        JobState::Cancelled => "CANCELED",
        JobState::Suspended => "SUSPENDED",
        JobState::Finished => "FINISHED",
        JobState::Failed => "FAILED",
    }
}

/// A subtask's state in Flink's words.
pub fn subtask_state(state: SubtaskState) -> &'static str {
    match state {
        SubtaskState::Created => "CREATED",
        SubtaskState::Scheduled => "SCHEDULED",
        SubtaskState::Deploying => "DEPLOYING",
        SubtaskState::Initialising => "INITIALIZING",
        SubtaskState::Running => "RUNNING",
        SubtaskState::Finished => "FINISHED",
        SubtaskState::Cancelling => "CANCELING",
        SubtaskState::Cancelled => "CANCELED",
        SubtaskState::Failed => "FAILED",
    }
}
