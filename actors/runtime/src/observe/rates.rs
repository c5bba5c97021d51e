//! Rates: what changes per second, of subtasks now and of vertices in the last minutes.

use super::subtasks::SubtaskObservation;
use crate::report::SubtaskReport;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::SubtaskId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Two reports less apart than this give no rate: it would jump about.
const APART_NS: u64 = 900_000_000;

/// A running subtask that was silent for longer is in a piece of work that is long.
pub(super) const SILENCE_MS: i64 = 2_500;

/// Time between two samples of a vertex's rates, and how many are kept.
const SAMPLE_EVERY_MS: i64 = 1_000;
const SAMPLES: usize = 300;

/// What a subtask does per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// Share of the time at work, from 0 to 1.
    pub busy: f64,
    /// Share of the time without credit.
    pub backpressured: f64,
    /// Share of the time without input.
    pub idle: f64,
    /// Records read.
    pub records_in: f64,
    /// Records that a source reads from outside.
    pub records_read: f64,
    /// Records written to other subtasks.
    pub records_out: f64,
    /// Bytes that came over links.
    pub bytes_in: f64,
    /// Bytes that went over links.
    pub bytes_out: f64,
}

impl Rates {
    pub(super) fn of_one_at_work() -> Self {
        Rates { busy: 1.0, ..Rates::default() }
    }

    fn are_apart(from: &SubtaskReport, to: &SubtaskReport) -> bool {
        to.elapsed_ns.saturating_sub(from.elapsed_ns) >= APART_NS
    }

    /// What has changed from one report to another, unless they are too close.
    pub(super) fn between(from: &SubtaskReport, to: &SubtaskReport) -> Option<Self> {
        if !Self::are_apart(from, to) {
            return None;
        }
        let elapsed = (to.elapsed_ns - from.elapsed_ns) as f64;
        let share = |from: u64, to: u64| (to.saturating_sub(from) as f64 / elapsed).min(1.0);
        let rate = |from: u64, to: u64| to.saturating_sub(from) as f64 / elapsed * 1e9;
        let busy = share(from.busy_ns, to.busy_ns);
        let backpressured = share(from.backpressured_ns, to.backpressured_ns).min(1.0 - busy);
        Some(Rates {
            busy,
            backpressured,
            idle: (1.0 - busy - backpressured).max(0.0),
            records_in: rate(from.records_in(), to.records_in()),
            records_read: rate(from.records_read(), to.records_read()),
            records_out: rate(from.records_out, to.records_out),
            bytes_in: rate(from.bytes_in, to.bytes_in),
            bytes_out: rate(from.bytes_out, to.bytes_out),
        })
    }
}

/// The rates of a vertex at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VertexRates {
    /// Records that its subtasks take in per second, from others or from outside.
    pub records_in: f32,
    /// Records written per second.
    pub records_out: f32,
    /// The largest share of a subtask's time at work.
    pub busy: f32,
    /// The largest share without credit.
    pub backpressured: f32,
}

/// The rates of all vertices at a moment, in the order of the graph.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub at: Timestamp,
    /// The vertices.
    pub vertices: Vec<VertexRates>,
}

/// Samples of the last minutes.
#[derive(Default)]
pub(super) struct Samples {
    taken: VecDeque<Sample>,
    due: Timestamp,
}

impl Samples {
    pub(super) fn all(&self) -> &VecDeque<Sample> {
        &self.taken
    }

    pub(super) fn begin_attempt(&mut self) {
        self.due = 0;
    }

    pub(super) fn take_if_due(&mut self, subtasks: &BTreeMap<SubtaskId, SubtaskObservation>, now: Timestamp) {
        if now < self.due {
            return;
        }
        self.due = now + SAMPLE_EVERY_MS;
        let mut vertices: Vec<VertexRates> = Vec::new();
        for (id, subtask) in subtasks {
            let rates = subtask.rates_at(now);
            vertices.resize(vertices.len().max(id.vertex + 1), VertexRates::default());
            let vertex = &mut vertices[id.vertex];
            vertex.records_in += (rates.records_in + rates.records_read) as f32;
            vertex.records_out += rates.records_out as f32;
            vertex.busy = vertex.busy.max(rates.busy as f32);
            vertex.backpressured = vertex.backpressured.max(rates.backpressured as f32);
        }
        self.taken.push_back(Sample { at: now, vertices });
        if self.taken.len() > SAMPLES {
            self.taken.pop_front();
        }
    }
}
