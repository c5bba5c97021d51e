//! Up to where windows have fired, per key group: subtasks that are joined by a rescale need not have come equally far.

use hurtig_dataflow::Timestamp;
use hurtig_dataflow::error::Error;
use hurtig_dataflow::key::KeyGroupRange;
use hurtig_dataflow::snapshot::{GroupRows, RowLayout, RowOp, StateKind, StateSnapshot};
use hurtig_dataflow::state::State;
use hurtig_dataflow::time::MIN_TIMESTAMP;

/// All windows whose last millisecond is not after these times have fired.
pub(crate) struct Fired {
    range: KeyGroupRange,
    /// For all groups.
    until: Timestamp,
    /// For each group, while a restore leaves them apart; else empty.
    groups: Vec<Timestamp>,
}

impl Fired {
    pub(crate) fn new(range: KeyGroupRange) -> Self {
        Fired { range, until: MIN_TIMESTAMP, groups: Vec::new() }
    }

    pub(crate) fn until(&self) -> Timestamp {
        self.until
    }

    pub(crate) fn advance(&mut self, until: Timestamp) {
        self.until = self.until.max(until);
        if self.groups.iter().all(|group| *group <= self.until) {
            self.groups.clear();
        }
    }

    /// If windows up to `time` have fired for some groups only: a test for the hashes of those.
    pub(crate) fn ahead_of(&self, time: Timestamp) -> Option<impl Fn(u64) -> bool + Send + use<>> {
        let (range, groups) = (self.range, self.groups.clone());
        (!groups.is_empty())
            .then_some(move |hash| range.index_of(hash).is_some_and(|index| groups[index] >= time))
    }
}

impl State for Fired {
    fn kind(&self) -> StateKind {
        StateKind::Keyed
    }

    fn layout(&self) -> RowLayout {
        RowLayout::PerGroup
    }

    fn snapshot(&self, out: &mut StateSnapshot) -> Result<(), Error> {
        for index in 0..self.range.count {
            let group = self.groups.get(index as usize).copied().unwrap_or(MIN_TIMESTAMP);
            let until = group.max(self.until);
            if until > MIN_TIMESTAMP {
                let bytes = rmp_serde::to_vec(&until)
                    .map_err(|source| Error::Encode { state: out.name.clone(), source: source.into() })?;
                out.groups.push(GroupRows::new(RowOp::Put, self.range.first + index, 1, bytes));
            }
        }
        Ok(())
    }

    fn restore(&mut self, from: &StateSnapshot) -> Result<(), Error> {
        self.groups = vec![MIN_TIMESTAMP; self.range.count as usize];
        for group in from.groups.iter().filter(|group| self.range.contains(group.first)) {
            let until = rmp_serde::from_slice(&group.bytes).map_err(|source| Error::Decode {
                state: from.name.clone(),
                expected: "i64",
                source: source.into(),
            })?;
            self.groups[(group.first - self.range.first) as usize] = until;
        }
        let lowest = self.groups.iter().copied().min().unwrap_or(MIN_TIMESTAMP);
        self.advance(lowest);
        Ok(())
    }
}
