//! Snapshots as plain data: what an operator's state looks like once it is bytes, and how it is handed out
//! again when the parallelism changes.

use crate::ids::CheckpointId;
use crate::key::KeyGroupRange;
use crate::time::{MIN_TIMESTAMP, Timestamp};
use serde::{Deserialize, Serialize};

/// How a state is handed out to subtasks on a restore.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StateKind {
    /// By key group.
    Keyed,
    /// Items of all subtasks, dealt out evenly.
    List,
    /// Every subtask gets the items of all.
    Union,
    /// Every subtask holds the same.
    Broadcast,
}

/// What rows of a snapshot do to the state, in the order in which it is done: those of one snapshot all drop, then
/// delete, then put.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RowOp {
    /// Each row names a part of the state, such as a window's pane, of which nothing remains.
    Drop,
    /// Each row is a key that is not there any more.
    Delete,
    /// Each row is a key with its value.
    Put,
}

/// What a row of a table is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RowLayout {
    /// A key and its value; a row that is deleted is its key, one that is dropped stands for all.
    #[default]
    Table,
    /// A window or time, a key and its value; a row that is deleted is the first two, one that is dropped the first.
    Namespaced,
    /// A time and a key; a row that is deleted is both, one that is dropped the first.
    Timers,
    /// One value for the key group.
    PerGroup,
}

/// Stands for a key group where rows are of a state that has none: broadcast state.
pub const UNKEYED: u16 = u16::MAX;

/// Rows of a state of one key group, or, if the rows are dropped parts, of several.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupRows {
    /// What they do.
    pub op: RowOp,
    /// The first key group.
    pub first: u16,
    /// The last key group.
    pub last: u16,
    /// Number of rows.
    pub rows: u32,
    /// The rows, one MessagePack value after the other.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

impl GroupRows {
    /// Rows of one key group.
    pub fn new(op: RowOp, group: u16, rows: u32, bytes: Vec<u8>) -> Self {
        GroupRows { op, first: group, last: group, rows, bytes }
    }

    /// The same for those of their key groups that are in a range.
    pub fn within(mut self, range: KeyGroupRange) -> Option<Self> {
        let end = range.first.saturating_add(range.count);
        self.first = self.first.max(range.first);
        self.last = self.last.min(end.checked_sub(1)?);
        (self.first <= self.last).then_some(self)
    }
}

/// One state of one subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StateSnapshot {
    /// Name the operator declared it under.
    pub name: String,
    /// How it is handed out again.
    pub kind: StateKind,
    /// What its rows are made of, for those who do not know its type.
    #[serde(default)]
    pub layout: RowLayout,
    /// Version of the type of its values, as its migration counts.
    #[serde(default)]
    pub version: u32,
    /// Whether it holds all of the state. A later snapshot takes its place; one that does not is added to it.
    pub is_whole: bool,
    /// Keyed and broadcast state: rows per key group.
    pub groups: Vec<GroupRows>,
    /// Other state: items, each a MessagePack value.
    pub items: Vec<serde_bytes::ByteBuf>,
}

impl StateSnapshot {
    /// An empty snapshot.
    pub fn new(name: &str, kind: StateKind) -> Self {
        let (layout, groups, items) = (RowLayout::default(), Vec::new(), Vec::new());
        StateSnapshot { name: name.to_string(), kind, layout, version: 0, is_whole: true, groups, items }
    }

    /// Adds what a later snapshot of the same state holds.
    pub fn add(&mut self, mut later: StateSnapshot) {
        // A snapshot is written while the state changes, so its rows are in no order.
        later.groups.sort_by_key(|rows| rows.op);
        (self.layout, self.version) = (later.layout, later.version);
        if later.is_whole {
            *self = later;
        } else {
            self.groups.append(&mut later.groups);
        }
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.groups.iter().map(|group| group.bytes.len()).sum::<usize>()
            + self.items.iter().map(|item| item.len()).sum::<usize>()
    }
}

/// All state of one operator in one subtask.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OperatorSnapshot {
    /// The operator's uid.
    pub uid: String,
    /// Watermark when the barrier passed.
    pub watermark: Timestamp,
    /// Whether the operator had seen the end of its input.
    pub ended: bool,
    /// Its states.
    pub states: Vec<StateSnapshot>,
    /// What a two-phase-commit sink asks to have published once the checkpoint is complete.
    pub committables: Vec<serde_bytes::ByteBuf>,
}

impl OperatorSnapshot {
    /// Adds what a later snapshot of the same operator and subtask holds.
    pub fn add(&mut self, later: OperatorSnapshot) {
        let mut former = std::mem::take(&mut self.states);
        *self = OperatorSnapshot { states: Vec::new(), ..later };
        for state in later.states {
            let found =
                former.iter().position(|former| former.name == state.name && former.kind == state.kind);
            let mut sum = match found {
                Some(at) => former.swap_remove(at),
                None => StateSnapshot::new(&state.name, state.kind),
            };
            sum.add(state);
            self.states.push(sum);
        }
    }

    /// Bytes of state held.
    pub fn bytes(&self) -> usize {
        self.states.iter().map(StateSnapshot::bytes).sum()
    }
}

/// Batches that a barrier has overtaken on their way to one subtask.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InFlight {
    /// The uid of the operator they are for.
    pub uid: String,
    /// Its input.
    pub port: usize,
    /// The index of its subtask.
    pub subtask: usize,
    /// Whether the receiver had them: then they come before what its senders still had.
    pub received: bool,
    /// The batches, in order, as their edge's codec writes them.
    pub batches: Vec<serde_bytes::ByteBuf>,
}

/// All state of one subtask: one entry per operator of its chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SubtaskSnapshot {
    /// The checkpoint it belongs to.
    pub checkpoint: CheckpointId,
    /// The operators, in chain order.
    pub operators: Vec<OperatorSnapshot>,
    /// What its barrier has overtaken, at the subtask's inputs and outputs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
}

impl SubtaskSnapshot {
    /// Adds what a later snapshot of the same subtask holds.
    pub fn add(&mut self, later: SubtaskSnapshot) {
        self.checkpoint = later.checkpoint;
        self.in_flight = later.in_flight;
        let mut former = std::mem::take(&mut self.operators);
        for operator in later.operators {
            let found = former.iter().position(|former| former.uid == operator.uid);
            let mut sum = found.map(|at| former.swap_remove(at)).unwrap_or_default();
            sum.add(operator);
            self.operators.push(sum);
        }
    }
}

/// What one subtask of an operator gets back, out of what all its former subtasks left, in their order.
///
/// Keyed state goes by key group, lists are dealt out evenly, unions and broadcasts go to everybody. An operator
/// counts as ended only where all parts it takes over had ended.
pub fn redistribute(
    parts: &[OperatorSnapshot],
    index: usize,
    parallelism: usize,
    max_parallelism: u32,
) -> OperatorSnapshot {
    let same = parts.len() == parallelism;
    let range = KeyGroupRange::of_subtask(index, parallelism, max_parallelism);
    let mut result = OperatorSnapshot {
        uid: parts.first().map(|part| part.uid.clone()).unwrap_or_default(),
        watermark: parts.iter().map(|part| part.watermark).min().unwrap_or(MIN_TIMESTAMP),
        ended: !parts.is_empty() && parts.iter().all(|part| part.ended),
        ..Default::default()
    };
    if same {
        result.watermark = parts[index].watermark;
        result.ended = parts[index].ended;
    }
    let mut names: Vec<(&str, StateKind)> = Vec::new();
    for state in parts.iter().flat_map(|part| &part.states) {
        if !names.iter().any(|(name, _)| *name == state.name) {
            names.push((&state.name, state.kind));
        }
    }
    for (name, kind) in names {
        let old: Vec<Option<&StateSnapshot>> =
            parts.iter().map(|part| part.states.iter().find(|state| state.name == name)).collect();
        let mut state = StateSnapshot::new(name, kind);
        if let Some(former) = old.iter().flatten().next() {
            (state.layout, state.version) = (former.layout, former.version);
        }
        match kind {
            StateKind::Keyed => {
                let groups = old.iter().flatten().flat_map(|state| &state.groups).cloned();
                state.groups.extend(groups.filter_map(|rows| rows.within(range)));
            }
            StateKind::List if same => {
                state.items = old[index].map(|state| state.items.clone()).unwrap_or_default();
            }
            StateKind::List => {
                let items = old.iter().flatten().flat_map(|state| &state.items);
                state.items.extend(items.skip(index).step_by(parallelism).cloned());
            }
            StateKind::Union => {
                state.items.extend(old.iter().flatten().flat_map(|state| &state.items).cloned());
            }
            StateKind::Broadcast => {
                state.groups = old.iter().flatten().next().map(|s| s.groups.clone()).unwrap_or_default();
            }
        }
        result.states.push(state);
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn part(index: usize, parallelism: usize, items: usize) -> OperatorSnapshot {
        let range = KeyGroupRange::of_subtask(index, parallelism, 128);
        let mut keyed = StateSnapshot::new("keyed", StateKind::Keyed);
        for group in range.first..range.first + range.count {
            keyed.groups.push(GroupRows::new(RowOp::Put, group, 1, vec![group as u8]));
        }
        let mut list = StateSnapshot::new("list", StateKind::List);
        list.items = (0..items).map(|i| serde_bytes::ByteBuf::from(vec![index as u8, i as u8])).collect();
        OperatorSnapshot { uid: "op".into(), states: vec![keyed, list], ..Default::default() }
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_doubled_by_a_rescale(old in 1usize..20, new in 1usize..20, items in 0usize..9) {
            let parts: Vec<_> = (0..old).map(|i| part(i, old, items)).collect();
            let restored: Vec<_> = (0..new).map(|i| redistribute(&parts, i, new, 128)).collect();
            let collect = |parts: &[OperatorSnapshot]| {
                let mut groups: Vec<u16> = Vec::new();
                let mut list: Vec<Vec<u8>> = Vec::new();
                for part in parts {
                    groups.extend(part.states[0].groups.iter().map(|g| g.first));
                    list.extend(part.states[1].items.iter().map(|i| i.to_vec()));
                }
                groups.sort();
                list.sort();
                (groups, list)
            };
            prop_assert_eq!(collect(&restored), collect(&parts));
            for (index, part) in restored.iter().enumerate() {
                let range = KeyGroupRange::of_subtask(index, new, 128);
                prop_assert!(part.states[0].groups.iter().all(|g| range.contains(g.first)));
                let (n, total) = (part.states[1].items.len(), old * items);
                prop_assert!(old == new || (total / new..=total / new + 1).contains(&n));
            }
        }
    }
}
