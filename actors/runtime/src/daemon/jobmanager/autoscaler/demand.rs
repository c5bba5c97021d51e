//! How many subtasks each vertex of a job needs for what comes in: plain data.
//!
//! The model is DS2 (Kalavri et al., "Three steps is all you need", OSDI 2018). A subtask's true rate is what it would
//! process if it did nothing else: records by the time it was at work. What a vertex has to process is what its inputs
//! would send if nothing held them back, starting at the sources, whose own rate is what they have read in the time they
//! were not held back. One look gives the parallelism of all vertices at once, whatever the present one.

use crate::protocol::GraphSummary;
use crate::report::SubtaskReport;
use hurtig_dataflow::ids::SubtaskId;
use std::collections::BTreeMap;

/// A source that is held back for more of its time than this says too little of its own rate.
const MOST_BACKPRESSURED: f64 = 0.95;

/// Whoever is at work for more of its time than this cannot keep up for sure.
const MOST_BUSY: f64 = 0.95;

/// Of a time in which less than this share was work, rates are mostly chance.
const LEAST_BUSY: f64 = 0.001;

/// What is wanted of vertices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Aim {
    /// The share of its time that a subtask should be at work.
    pub(super) utilization: f64,
    /// How far from that it may be before anything is changed.
    pub(super) boundary: f64,
    /// Fewest and most subtasks of a vertex.
    pub(super) bounds: (usize, usize),
}

/// What a vertex needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Need {
    /// Subtasks that it should have.
    pub(super) parallelism: usize,
    /// The share of their time that its present subtasks would be at work if nothing held anything back; above 1 they
    /// cannot keep up.
    pub(super) utilization: f64,
    /// Records per second that it has to process.
    pub(super) demand: f64,
}

/// What the subtasks of a vertex have done between two reports, in all.
#[derive(Clone, Debug, Default)]
struct Work {
    records: f64,
    busy_s: f64,
    backpressured_s: f64,
    elapsed_s: f64,
    /// Records per second that they would have read if nothing had held them back.
    own_rate: f64,
    /// Records written, by outgoing edge.
    edges: Vec<f64>,
}

impl Work {
    fn add(&mut self, from: &SubtaskReport, to: &SubtaskReport) {
        let seconds = |from: u64, to: u64| to.saturating_sub(from) as f64 / 1e9;
        let of_report = |report: &SubtaskReport| (report.records_in() + report.records_read()) as f64;
        let records = (of_report(to) - of_report(from)).max(0.0);
        let backpressured_s = seconds(from.backpressured_ns, to.backpressured_ns);
        let elapsed_s = seconds(from.elapsed_ns, to.elapsed_ns);
        if elapsed_s > 0.0 {
            let free = 1.0 - (backpressured_s / elapsed_s).min(MOST_BACKPRESSURED);
            self.own_rate += records / elapsed_s / free;
        }
        self.records += records;
        self.busy_s += seconds(from.busy_ns, to.busy_ns);
        self.backpressured_s += backpressured_s;
        self.elapsed_s += elapsed_s;
        self.edges.resize(self.edges.len().max(to.edges.len()), 0.0);
        for (at, (sum, written)) in self.edges.iter_mut().zip(&to.edges).enumerate() {
            *sum += written.saturating_sub(from.edges.get(at).copied().unwrap_or_default()) as f64;
        }
    }
}

/// What each vertex needs, by what its subtasks did between two moments of one attempt.
pub(super) fn needs(
    graph: &GraphSummary,
    from: &BTreeMap<SubtaskId, SubtaskReport>,
    to: &BTreeMap<SubtaskId, SubtaskReport>,
    aim: Aim,
) -> Vec<Need> {
    let mut works = vec![Work::default(); graph.vertices.len()];
    for (id, to) in to {
        if let (Some(work), Some(from)) = (works.get_mut(id.vertex), from.get(id)) {
            work.add(from, to);
        }
    }
    // Inputs come before their readers.
    let mut demands: Vec<f64> = Vec::with_capacity(works.len());
    for (vertex, work) in works.iter().enumerate() {
        let is_source = !graph.edges.iter().any(|(_, to, _)| *to == vertex);
        let inputs = graph.edges.iter().enumerate().filter(|(_, (_, to, _))| *to == vertex);
        let sent = inputs.map(|(edge, (from, _, way))| {
            let sender = &works[*from];
            let output = graph.edges[..edge].iter().filter(|(other, ..)| other == from).count();
            let written = sender.edges.get(output).copied().unwrap_or_default();
            // What is broadcast is written once, and comes to all.
            let copies = if way == "broadcast" { graph.vertices[vertex].parallelism as f64 } else { 1.0 };
            if sender.records > 0.0 { demands[*from] * copies * written / sender.records } else { 0.0 }
        });
        demands.push(if is_source { work.own_rate } else { sent.sum() });
    }
    let mut needs: Vec<Need> = works
        .iter()
        .zip(&demands)
        .zip(&graph.vertices)
        .map(|((work, demand), vertex)| need(work, *demand, vertex.parallelism, aim))
        .collect();
    // Where records go one to one, both sides have the same parallelism.
    for _ in 0..graph.vertices.len() {
        for (from, to, _) in graph.edges.iter().filter(|(_, _, way)| way == "forward") {
            let most = needs[*from].parallelism.max(needs[*to].parallelism);
            (needs[*from].parallelism, needs[*to].parallelism) = (most, most);
        }
    }
    needs
}

fn need(work: &Work, demand: f64, present: usize, aim: Aim) -> Need {
    if work.records == 0.0 || work.busy_s < LEAST_BUSY * work.elapsed_s {
        let utilization = if work.elapsed_s > 0.0 { work.busy_s / work.elapsed_s } else { 0.0 };
        // Nothing to speak of has come: how much it could take is not known, but fewer can take it, unless they are in the
        // middle of something or held back.
        let is_idle =
            work.elapsed_s > 0.0 && work.busy_s + work.backpressured_s < (1.0 - MOST_BUSY) * work.elapsed_s;
        let parallelism = if is_idle { aim.bounds.0 } else { present };
        return Need { parallelism, utilization, demand };
    }
    let of_one = work.records / work.busy_s;
    let utilization = demand / (of_one * present as f64);
    let is_fine = (utilization - aim.utilization).abs() <= aim.boundary && utilization <= MOST_BUSY;
    let wanted = (demand / (of_one * aim.utilization)).ceil().max(1.0) as usize;
    let parallelism = if is_fine { present } else { wanted };
    Need { parallelism: parallelism.clamp(aim.bounds.0, aim.bounds.1.max(aim.bounds.0)), utilization, demand }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::VertexSummary;
    use hurtig_dataflow::chain::OperatorCounts;

    const AIM: Aim = Aim { utilization: 0.7, boundary: 0.2, bounds: (1, 100) };

    fn graph(parallelisms: &[usize], edges: &[(usize, usize, &str)]) -> GraphSummary {
        let vertex = |parallelism: &usize| VertexSummary {
            name: String::new(),
            parallelism: *parallelism,
            operators: Vec::new(),
        };
        GraphSummary {
            vertices: parallelisms.iter().map(vertex).collect(),
            edges: edges.iter().map(|(from, to, way)| (*from, *to, way.to_string())).collect(),
            ..GraphSummary::default()
        }
    }

    /// What one subtask has done in ten seconds: records per second, shares of time, records out by edge.
    fn report(is_source: bool, rate: u64, busy: f64, backpressured: f64, edges: &[u64]) -> SubtaskReport {
        let records = rate * 10;
        let counts = match is_source {
            true => OperatorCounts { records_out: records, ..OperatorCounts::default() },
            false => OperatorCounts { records_in: records, ..OperatorCounts::default() },
        };
        SubtaskReport {
            operators: vec![counts],
            busy_ns: (busy * 1e10) as u64,
            backpressured_ns: (backpressured * 1e10) as u64,
            elapsed_ns: 10_000_000_000,
            edges: edges.iter().map(|rate| rate * 10).collect(),
            ..SubtaskReport::default()
        }
    }

    fn parallelisms(graph: &GraphSummary, reports: Vec<Vec<SubtaskReport>>) -> Vec<usize> {
        let subtasks = reports.into_iter().enumerate().flat_map(|(vertex, reports)| {
            reports.into_iter().enumerate().map(move |(index, report)| (SubtaskId { vertex, index }, report))
        });
        let to: BTreeMap<_, _> = subtasks.collect();
        let from = to.keys().map(|id| (*id, SubtaskReport::default())).collect();
        needs(graph, &from, &to, AIM).iter().map(|need| need.parallelism).collect()
    }

    #[test]
    fn what_holds_a_source_back_is_made_fast_enough_for_what_the_source_could_read() {
        let graph = graph(&[1, 1, 2], &[(0, 1, "hash"), (1, 2, "rebalance")]);
        // The source could read twice as much; the next vertex is always at work, with 500 records a second.
        let source = report(true, 500, 0.1, 0.5, &[500]);
        let slow = report(false, 500, 1.0, 0.0, &[100]);
        let last = report(false, 50, 0.05, 0.0, &[]);
        // 1,000 records a second by subtasks of 350; then 200 by ones that could do 1,000 each.
        assert_eq!(parallelisms(&graph, vec![vec![source], vec![slow], vec![last.clone(), last]]), [1, 3, 1]);
    }

    #[test]
    fn each_edge_carries_what_was_written_to_it() {
        let graph = graph(&[1, 1, 1], &[(0, 1, "hash"), (0, 2, "hash")]);
        let source = report(true, 1_000, 0.6, 0.0, &[900, 10]);
        let (much, little) = (report(false, 900, 0.95, 0.0, &[]), report(false, 10, 0.6, 0.0, &[]));
        assert_eq!(parallelisms(&graph, vec![vec![source], vec![much], vec![little]]), [1, 2, 1]);
    }

    #[test]
    fn near_the_aim_nothing_is_changed_and_without_work_as_few_as_may_be_are_kept() {
        let graph = graph(&[1, 3], &[(0, 1, "hash")]);
        let source = report(true, 900, 0.5, 0.0, &[900]);
        let fine = report(false, 300, 0.85, 0.0, &[]);
        assert_eq!(parallelisms(&graph, vec![vec![source.clone()], vec![fine; 3]]), [1, 3]);
        let idle = report(false, 0, 0.0, 0.0, &[]);
        assert_eq!(parallelisms(&graph, vec![vec![report(true, 0, 0.0, 0.0, &[0])], vec![idle; 3]]), [1, 1]);
    }

    #[test]
    fn a_source_that_is_always_at_work_gets_subtasks_whatever_the_boundary() {
        let graph = graph(&[2], &[]);
        let wide = Aim { boundary: 0.3, ..AIM };
        let subtask = |index| (SubtaskId { vertex: 0, index }, report(true, 500, 0.99, 0.0, &[]));
        let to: BTreeMap<_, _> = [0, 1].map(subtask).into();
        let from = to.keys().map(|id| (*id, SubtaskReport::default())).collect();
        assert_eq!(needs(&graph, &from, &to, wide)[0].parallelism, 3);
    }

    #[test]
    fn what_is_in_the_middle_of_something_or_held_back_keeps_its_subtasks() {
        let graph = graph(&[1, 3], &[(0, 1, "hash")]);
        let source = report(true, 0, 0.0, 0.0, &[0]);
        for (busy, held_back) in [(1.0, 0.0), (0.0, 1.0)] {
            let reader = report(false, 0, busy, held_back, &[]);
            assert_eq!(parallelisms(&graph, vec![vec![source.clone()], vec![reader; 3]]), [1, 3]);
        }
    }

    #[test]
    fn vertices_with_one_to_one_edges_between_them_stay_alike() {
        let graph = graph(&[2, 2], &[(0, 1, "forward")]);
        let (source, reader) = (report(true, 900, 0.2, 0.0, &[900]), report(false, 900, 0.99, 0.0, &[]));
        let found = parallelisms(&graph, vec![vec![source.clone(), source], vec![reader.clone(), reader]]);
        assert_eq!(found, [3, 3]);
    }
}
