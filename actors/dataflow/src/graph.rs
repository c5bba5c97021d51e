//! The graph a program builds ([`StreamGraph`]) and the one that is run ([`JobGraph`]), in which operators that need
//! no exchange between them are fused into chains.

use crate::error::Error;
use crate::ids::VertexId;
use crate::operator::DynOperator;
use crate::partition::{Partitioning, Pattern};
use crate::sink::Committer;
use crate::source::SourceFactory;
use crate::wire::BatchCodec;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Index of a node in its stream graph.
pub type NodeId = usize;

/// Makes an operator instance.
pub type OperatorFactory = Arc<dyn Fn() -> Box<dyn DynOperator> + Send + Sync>;

/// Makes a sink's committer.
pub type CommitterFactory = Arc<dyn Fn() -> Option<Box<dyn Committer>> + Send + Sync>;

/// What a node does.
#[derive(Clone)]
pub enum Logic {
    /// Reads a source.
    Source(Arc<dyn SourceFactory>),
    /// Runs an operator.
    Operator(OperatorFactory),
    /// Runs an operator that writes to a sink, with the sink's committer.
    Sink(OperatorFactory, CommitterFactory),
}

/// Whether a node may be fused with its neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Chaining {
    /// With both.
    #[default]
    Always,
    /// With those after it only.
    Head,
    /// With none.
    Never,
}

/// An input of a node.
#[derive(Clone)]
pub struct StreamEdge {
    /// The node read from.
    pub from: NodeId,
    /// Which of its outputs: a side output's name, or the main one.
    pub output: Option<Arc<str>>,
    /// Which input of the reading node.
    pub port: usize,
    /// How records cross.
    pub partitioning: Partitioning,
    /// Whether the user asked for this partitioning, so that chaining must not take it away.
    pub explicit: bool,
    /// Batches as bytes, for channels that leave the process.
    pub codec: Arc<dyn BatchCodec>,
}

/// What a slot is to offer. What is not said is an even share of what its TaskManager has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor core.
    pub cpu_millis: Option<u64>,
    /// Bytes of memory.
    pub memory_bytes: Option<u64>,
}

/// Operations whose subtasks of one index share a slot, and what such a slot is to offer.
///
/// As Flink's [fine-grained resource management](https://nightlies.apache.org/flink/flink-docs-stable/docs/deployment/finegrained_resource/):
/// slots that ask for much are given only by TaskManagers that have it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotSharingGroup {
    /// Its name.
    pub name: String,
    /// What each of its slots is to offer.
    pub resources: Resources,
}

impl SlotSharingGroup {
    /// A group whose slots ask for nothing.
    pub fn new(name: impl Into<String>) -> Self {
        SlotSharingGroup { name: name.into(), resources: Resources::default() }
    }

    /// Each of its slots takes so many processor cores of its TaskManager. They are counted, not enforced.
    ///
    /// # Panics
    /// The number is not above 0.
    #[must_use]
    pub fn with_cpu_cores(mut self, cores: f64) -> Self {
        assert!(cores > 0.0, "a slot with {cores} processor cores");
        self.resources.cpu_millis = Some(((cores * 1_000.0).round() as u64).max(1));
        self
    }

    /// Each of its slots takes so much memory of its TaskManager. A worker of which all slots say this can use no more.
    #[must_use]
    pub fn with_memory_bytes(mut self, bytes: u64) -> Self {
        self.resources.memory_bytes = Some(bytes);
        self
    }
}

impl From<&str> for SlotSharingGroup {
    fn from(name: &str) -> Self {
        SlotSharingGroup::new(name)
    }
}

/// Slots of one kind that a job needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotsWanted {
    /// Their slot sharing group.
    pub group: String,
    /// How many.
    pub count: usize,
    /// What each is to offer.
    pub resources: Resources,
}

/// One operation of a program.
#[derive(Clone)]
pub struct StreamNode {
    /// Name for people.
    pub name: String,
    /// Name for checkpoints: must stay the same for state to be found again.
    pub uid: Option<String>,
    /// Number of subtasks, if not the job's.
    pub parallelism: Option<usize>,
    /// Largest number of subtasks the operation allows.
    pub max_subtasks: Option<usize>,
    /// What it does.
    pub logic: Logic,
    /// Whether it may be fused.
    pub chaining: Chaining,
    /// The slot sharing group, if not that of its first input.
    pub slot_group: Option<SlotSharingGroup>,
    /// What it reads.
    pub inputs: Vec<StreamEdge>,
}

/// The operations of a program as it wrote them.
#[derive(Clone, Default)]
pub struct StreamGraph {
    /// The operations; inputs come before their readers.
    pub nodes: Vec<StreamNode>,
}

/// What the job graph needs to know beside the stream graph.
#[derive(Clone, Debug)]
pub struct GraphDefaults {
    /// Subtasks of operations that set none.
    pub parallelism: usize,
    /// Number of key groups; `None` derives it from the largest parallelism.
    pub max_parallelism: Option<u32>,
    /// Whether operators are fused at all.
    pub chaining: bool,
    /// Subtasks of operations by their uid, whatever the program says.
    pub of_uids: BTreeMap<String, usize>,
}

/// One operator of a vertex.
#[derive(Clone)]
pub struct ChainedOperator {
    /// The node it came from.
    pub node: NodeId,
    /// Name for people.
    pub name: String,
    /// Name for checkpoints.
    pub uid: String,
    /// What it does.
    pub logic: Logic,
    /// What it reads, whether from the chain or over an edge.
    pub inputs: Vec<OperatorInput>,
    /// Where its outputs go.
    pub routes: Vec<Route>,
}

/// An input of an operator.
#[derive(Clone)]
pub struct OperatorInput {
    /// Its number.
    pub port: usize,
    /// How records come to it.
    pub partitioning: Partitioning,
    /// Their batches as bytes.
    pub codec: Arc<dyn BatchCodec>,
}

impl OperatorInput {
    fn of(edge: &StreamEdge) -> Self {
        let (partitioning, codec) = (edge.partitioning.clone(), Arc::clone(&edge.codec));
        OperatorInput { port: edge.port, partitioning, codec }
    }
}

/// Where one output of an operator goes.
#[derive(Clone)]
pub struct Route {
    /// Which output: a side output's name, or the main one.
    pub output: Option<Arc<str>>,
    /// Where to.
    pub target: Target,
}

/// A reader of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An operator of the same chain: its index, and its input.
    Chained(usize, usize),
    /// An outgoing edge of the vertex: its index in [`Vertex::outputs`].
    Edge(usize),
}

/// One vertex: a chain of operators.
#[derive(Clone)]
pub struct Vertex {
    /// Names of the operators, joined by arrows.
    pub name: String,
    /// Subtasks.
    pub parallelism: usize,
    /// Name of the slot sharing group.
    pub slot_group: String,
    /// The operators; inputs come before their readers.
    pub chain: Vec<ChainedOperator>,
    /// Incoming edges, as indices into [`JobGraph::edges`].
    pub inputs: Vec<usize>,
    /// Outgoing edges, as indices into [`JobGraph::edges`].
    pub outputs: Vec<usize>,
}

/// An edge between two vertices.
#[derive(Clone)]
pub struct JobEdge {
    /// Sending vertex.
    pub from: VertexId,
    /// Receiving vertex.
    pub to: VertexId,
    /// Input of the receiving vertex's first operator.
    pub port: usize,
    /// How records cross.
    pub partitioning: Partitioning,
    /// Batches as bytes, for channels that leave the process.
    pub codec: Arc<dyn BatchCodec>,
}

/// What is run: vertices and edges.
#[derive(Clone)]
pub struct JobGraph {
    /// Name for people.
    pub name: String,
    /// The vertices; inputs come before their readers.
    pub vertices: Vec<Vertex>,
    /// The edges.
    pub edges: Vec<JobEdge>,
    /// Number of key groups.
    pub max_parallelism: u32,
    /// What the slots of sharing groups are to offer, where they say so.
    pub resources: BTreeMap<String, Resources>,
}

/// What identifies an operator for a checkpoint, written into it so that a misfit can be named.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorId {
    /// The operator's uid.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its parallelism.
    pub parallelism: usize,
}

/// Smallest power of two of at least one and a half times the parallelism, within 128 and 32,768: Flink's default.
pub fn default_max_parallelism(parallelism: usize) -> u32 {
    let wanted = (parallelism + parallelism / 2).next_power_of_two();
    wanted.clamp(128, 32_768) as u32
}

impl StreamGraph {
    /// Adds an operation and returns its id.
    pub fn add(&mut self, node: StreamNode) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Builds the job graph: settles parallelism and uids, fuses chains.
    ///
    /// # Errors
    /// No operation, a uid given twice, a parallelism of zero or above the number of key groups, one-to-one edges
    /// between operations of different parallelism.
    pub fn job_graph(&self, name: &str, defaults: &GraphDefaults) -> Result<JobGraph, Error> {
        if self.nodes.is_empty() {
            return Err(Error::Graph("the program defines no operation: add a source".into()));
        }
        let uids = self.uids()?;
        let of_uids = &defaults.of_uids;
        let parallelism: Vec<usize> = self
            .nodes
            .iter()
            .zip(&uids)
            .map(|(node, uid)| {
                let wanted = of_uids.get(uid).copied().or(node.parallelism).unwrap_or(defaults.parallelism);
                node.max_subtasks.map_or(wanted, |most| wanted.min(most))
            })
            .collect();
        let largest = parallelism.iter().copied().max().unwrap_or(1);
        let max_parallelism = defaults.max_parallelism.unwrap_or_else(|| default_max_parallelism(largest));
        for (node, &parallelism) in self.nodes.iter().zip(&parallelism) {
            if parallelism == 0 {
                return Err(Error::Graph(format!(
                    "'{}' has parallelism 0: it must be at least 1",
                    node.name
                )));
            }
            if parallelism > max_parallelism as usize {
                return Err(Error::Graph(format!(
                    "'{}' has parallelism {parallelism}, above the maximum parallelism {max_parallelism}: lower it, or raise 'parallelism.max' (state of older checkpoints is then lost)",
                    node.name
                )));
            }
        }
        let groups = self.slot_groups();
        let resources = self.resources()?;
        // Inputs come before readers, so each node's chain is settled when its readers are looked at.
        let mut vertex_of: Vec<VertexId> = Vec::with_capacity(self.nodes.len());
        let mut members: Vec<Vec<NodeId>> = Vec::new();
        for (id, node) in self.nodes.iter().enumerate() {
            let chained = match &node.inputs[..] {
                [edge] if defaults.chaining && self.may_chain(id, edge, &parallelism, &groups) => {
                    Some(vertex_of[edge.from])
                }
                _ => None,
            };
            let vertex = chained.unwrap_or_else(|| {
                members.push(Vec::new());
                members.len() - 1
            });
            members[vertex].push(id);
            vertex_of.push(vertex);
        }
        let mut edges = Vec::new();
        let mut vertices: Vec<Vertex> = members
            .iter()
            .map(|nodes| Vertex {
                name: nodes.iter().map(|id| self.nodes[*id].name.as_str()).collect::<Vec<_>>().join(" -> "),
                parallelism: parallelism[nodes[0]],
                slot_group: groups[nodes[0]].clone(),
                chain: nodes
                    .iter()
                    .map(|id| ChainedOperator {
                        node: *id,
                        name: self.nodes[*id].name.clone(),
                        uid: uids[*id].clone(),
                        logic: self.nodes[*id].logic.clone(),
                        inputs: self.nodes[*id].inputs.iter().map(OperatorInput::of).collect(),
                        routes: Vec::new(),
                    })
                    .collect(),
                inputs: Vec::new(),
                outputs: Vec::new(),
            })
            .collect();
        for (id, node) in self.nodes.iter().enumerate() {
            for input in &node.inputs {
                let (from, to) = (vertex_of[input.from], vertex_of[id]);
                let target = if from == to {
                    let at =
                        members[to].iter().position(|member| *member == id).expect("a member of its vertex");
                    Target::Chained(at, input.port)
                } else {
                    let mut partitioning = input.partitioning.clone();
                    if partitioning.pattern == Pattern::Forward && parallelism[input.from] != parallelism[id]
                    {
                        if input.explicit {
                            return Err(Error::Graph(format!(
                                "'{}' (parallelism {}) forwards to '{}' (parallelism {}): make them equal, or rebalance",
                                self.nodes[input.from].name,
                                parallelism[input.from],
                                node.name,
                                parallelism[id]
                            )));
                        }
                        // Evenly among neighbours' batches would keep channels few, but skews; Flink rebalances too.
                        partitioning.pattern = Pattern::Rebalance;
                    }
                    let edge = edges.len();
                    edges.push(JobEdge {
                        from,
                        to,
                        port: input.port,
                        partitioning,
                        codec: Arc::clone(&input.codec),
                    });
                    vertices[from].outputs.push(edge);
                    vertices[to].inputs.push(edge);
                    Target::Edge(vertices[from].outputs.len() - 1)
                };
                let sender = members[from].iter().position(|member| *member == input.from);
                let sender = sender.expect("a member of its vertex");
                let route = Route { output: input.output.clone(), target };
                vertices[from].chain[sender].routes.push(route);
            }
        }
        Ok(JobGraph { name: name.to_string(), vertices, edges, max_parallelism, resources })
    }

    fn may_chain(&self, id: NodeId, edge: &StreamEdge, parallelism: &[usize], groups: &[String]) -> bool {
        let (node, upstream) = (&self.nodes[id], &self.nodes[edge.from]);
        edge.partitioning.pattern == Pattern::Forward
            && parallelism[edge.from] == parallelism[id]
            && node.chaining == Chaining::Always
            && upstream.chaining != Chaining::Never
            && groups[id] == groups[edge.from]
    }

    fn slot_groups(&self) -> Vec<String> {
        let mut groups: Vec<String> = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let inherited = node.inputs.first().map(|edge| groups[edge.from].clone());
            let own = node.slot_group.as_ref().map(|group| group.name.clone());
            groups.push(own.or(inherited).unwrap_or_else(|| "default".into()));
        }
        groups
    }

    /// What the slots of each group are to offer that says so.
    fn resources(&self) -> Result<BTreeMap<String, Resources>, Error> {
        let mut known: BTreeMap<String, Resources> = BTreeMap::new();
        let groups = self.nodes.iter().filter_map(|node| node.slot_group.as_ref());
        for SlotSharingGroup { name, resources } in
            groups.filter(|group| group.resources != Resources::default())
        {
            match known.insert(name.clone(), *resources) {
                Some(other) if other != *resources => {
                    return Err(Error::Graph(format!(
                        "slot sharing group '{name}' asks for different resources in two places: give it the same in both, or in one"
                    )));
                }
                _ => {}
            }
        }
        Ok(known)
    }

    fn uids(&self) -> Result<Vec<String>, Error> {
        let mut taken: HashMap<String, &str> = HashMap::new();
        let mut uids = Vec::with_capacity(self.nodes.len());
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for node in &self.nodes {
            let uid = node.uid.clone().unwrap_or_else(|| {
                let count = counts.entry(&node.name).or_default();
                *count += 1;
                format!("{}#{count}", node.name)
            });
            if let Some(first) = taken.insert(uid.clone(), &node.name) {
                return Err(Error::DuplicateUid { uid, first: first.into(), second: node.name.clone() });
            }
            uids.push(uid);
        }
        Ok(uids)
    }
}

impl JobGraph {
    /// The operators of a vertex, in chain order.
    pub fn operators_of(&self, vertex: VertexId) -> Vec<OperatorId> {
        let vertex = &self.vertices[vertex];
        let id = |operator: &ChainedOperator| OperatorId {
            uid: operator.uid.clone(),
            name: operator.name.clone(),
            parallelism: vertex.parallelism,
        };
        vertex.chain.iter().map(id).collect()
    }

    /// Number of slots that the job needs.
    pub fn slots(&self) -> usize {
        self.wanted_slots().iter().map(|group| group.count).sum()
    }

    /// Slots the job needs: per sharing group as many as its largest parallelism. The groups are in the order of their
    /// names.
    pub fn wanted_slots(&self) -> Vec<SlotsWanted> {
        let mut groups: BTreeMap<&str, usize> = BTreeMap::new();
        for vertex in &self.vertices {
            let group = groups.entry(&vertex.slot_group).or_default();
            *group = (*group).max(vertex.parallelism);
        }
        let wanted = |(group, count): (&str, usize)| SlotsWanted {
            resources: self.resources.get(group).copied().unwrap_or_default(),
            group: group.to_owned(),
            count,
        };
        groups.into_iter().map(wanted).collect()
    }

    /// Whether all sources end by themselves.
    pub fn is_bounded(&self) -> bool {
        self.vertices.iter().flat_map(|vertex| &vertex.chain).all(|operator| match &operator.logic {
            Logic::Source(source) => source.is_bounded(),
            _ => true,
        })
    }
}

/// Which receiving subtasks one sending subtask has channels to.
pub fn receivers(pattern: Pattern, sender: usize, senders: usize, receivers: usize) -> Vec<usize> {
    match pattern {
        Pattern::Forward => vec![sender],
        Pattern::Rescale if receivers >= senders => {
            (0..receivers).filter(|receiver| receiver * senders / receivers == sender).collect()
        }
        Pattern::Rescale => vec![sender * receivers / senders],
        Pattern::Hash | Pattern::Rebalance | Pattern::Broadcast | Pattern::Custom => (0..receivers).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rescaling_reaches_every_receiver_from_some_sender(senders in 1usize..20, count in 1usize..20) {
            let mut reached = vec![0; count];
            for sender in 0..senders {
                let targets = receivers(Pattern::Rescale, sender, senders, count);
                prop_assert!(!targets.is_empty());
                for target in targets {
                    reached[target] += 1;
                }
            }
            prop_assert!(reached.iter().all(|n| *n > 0));
        }
    }
}
