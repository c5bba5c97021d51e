//! The execution graph: the job graph unrolled by parallelism, as plain data.

use hurtig_dataflow::graph::{JobGraph, SlotsWanted, receivers};
use hurtig_dataflow::ids::SubtaskId;
use std::collections::BTreeMap;

/// A channel as its receiver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputChannel {
    /// Who sends.
    pub from: SubtaskId,
    /// Which of the sender's output channels this is.
    pub output: usize,
    /// The edge of the job graph.
    pub edge: usize,
    /// Input of the receiver's first operator.
    pub port: usize,
}

/// A channel as its sender sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutputChannel {
    /// Who receives.
    pub to: SubtaskId,
    /// Which of the receiver's input channels this is.
    pub channel: usize,
    /// The edge of the job graph.
    pub edge: usize,
}

/// Channels of one subtask.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wiring {
    /// Input channels.
    pub inputs: Vec<InputChannel>,
    /// Output channels, edge by edge in the order of the vertex's outputs.
    pub outputs: Vec<OutputChannel>,
    /// Number of output channels of each edge.
    pub edges: Vec<usize>,
}

/// All subtasks of a job and their channels.
pub struct ExecutionGraph {
    /// The subtasks, vertex by vertex.
    pub wiring: BTreeMap<SubtaskId, Wiring>,
}

impl ExecutionGraph {
    /// Unrolls a job graph.
    pub fn new(graph: &JobGraph) -> Self {
        let mut wiring: BTreeMap<SubtaskId, Wiring> = BTreeMap::new();
        for (vertex, description) in graph.vertices.iter().enumerate() {
            for index in 0..description.parallelism {
                wiring.insert(SubtaskId { vertex, index }, Wiring::default());
            }
        }
        for (vertex, description) in graph.vertices.iter().enumerate() {
            for (at, edge) in description.outputs.iter().map(|edge| (*edge, &graph.edges[*edge])) {
                let count = graph.vertices[edge.to].parallelism;
                for index in 0..description.parallelism {
                    let from = SubtaskId { vertex, index };
                    let targets = receivers(edge.partitioning.pattern, index, description.parallelism, count);
                    let channels = targets.len();
                    for target in targets {
                        let to = SubtaskId { vertex: edge.to, index: target };
                        let output = wiring.get(&from).map_or(0, |wiring| wiring.outputs.len());
                        let receiver = wiring.entry(to).or_default();
                        receiver.inputs.push(InputChannel { from, output, edge: at, port: edge.port });
                        let channel = receiver.inputs.len() - 1;
                        wiring.entry(from).or_default().outputs.push(OutputChannel { to, channel, edge: at });
                    }
                    wiring.entry(from).or_default().edges.push(channels);
                }
            }
        }
        ExecutionGraph { wiring }
    }

    /// The number, unique within the job, of each subtask's first input channel; the others follow. Every process of
    /// the job counts alike.
    pub fn first_channels(&self) -> BTreeMap<SubtaskId, u32> {
        let mut next = 0;
        let first = |(id, wiring): (&SubtaskId, &Wiring)| {
            let first = next;
            next += wiring.inputs.len() as u32;
            (*id, first)
        };
        self.wiring.iter().map(first).collect()
    }

    /// All subtasks.
    pub fn subtasks(&self) -> impl Iterator<Item = SubtaskId> + '_ {
        self.wiring.keys().copied()
    }
}

/// Which slot each subtask runs in: subtasks of one sharing group and one index share a slot.
pub fn assign_slots(graph: &JobGraph) -> BTreeMap<SubtaskId, usize> {
    let mut first_slot: BTreeMap<String, usize> = BTreeMap::new();
    let mut next = 0;
    for SlotsWanted { group, count, .. } in graph.wanted_slots() {
        first_slot.insert(group, next);
        next += count;
    }
    let mut slots = BTreeMap::new();
    for (vertex, description) in graph.vertices.iter().enumerate() {
        for index in 0..description.parallelism {
            slots.insert(SubtaskId { vertex, index }, first_slot[description.slot_group.as_str()] + index);
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::graph::Vertex;

    #[test]
    fn subtasks_of_one_group_and_one_index_share_a_slot() {
        let vertex = |(group, parallelism): &(&str, usize)| Vertex {
            name: String::new(),
            parallelism: *parallelism,
            slot_group: group.to_string(),
            chain: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        };
        let vertices = [("default", 2), ("heavy", 1), ("default", 1), ("heavy", 3)];
        let vertices = vertices.iter().map(vertex).collect();
        let graph = JobGraph {
            name: "test".into(),
            vertices,
            edges: Vec::new(),
            max_parallelism: 128,
            resources: BTreeMap::new(),
        };
        let slots = assign_slots(&graph);
        let of_vertex = |vertex: usize| -> Vec<usize> {
            slots.iter().filter(|(id, _)| id.vertex == vertex).map(|(_, slot)| *slot).collect()
        };
        assert_eq!([0, 1, 2, 3].map(of_vertex), [vec![0, 1], vec![2], vec![0], vec![2, 3, 4]]);
        assert_eq!(graph.slots(), 5);
    }
}
