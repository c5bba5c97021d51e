//! The rows of a batch by their keys.

use crate::changes::Changes;
use crate::rows::{RowKey, RowReader, Unsupported};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use hurtig_dataflow::key::hash_key;

/// The distinct keys of a batch, in the order of their first rows, with the rows of each.
pub(super) struct Groups {
    pub(super) keys: Vec<RowKey>,
    pub(super) hashes: Vec<u64>,
    /// Rows in the order of their groups, and where each group's rows begin.
    rows: Vec<u32>,
    starts: Vec<u32>,
}

impl Groups {
    /// The rows of a batch by some columns, of those that `wanted` lets through.
    pub(super) fn of(
        changes: &Changes,
        columns: &[usize],
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Self, Unsupported> {
        let reader = RowReader::of_columns(&changes.batch, columns)?;
        let count = changes.batch.num_rows();
        let (mut keys, mut hashes): (Vec<RowKey>, Vec<u64>) = (Vec::new(), Vec::new());
        let mut table: HashTable<u32> = HashTable::with_capacity(count.min(1 << 12));
        let mut group_of: Vec<u32> = Vec::with_capacity(count);
        for row in 0..count {
            if !wanted(row) {
                group_of.push(u32::MAX);
                continue;
            }
            let key = reader.key(row);
            let hash = hash_key(&key);
            let same = |at: &u32| hashes[*at as usize] == hash && keys[*at as usize] == key;
            let group = match table.entry(hash, same, |at| hashes[*at as usize]) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    let group = keys.len() as u32;
                    entry.insert(group);
                    keys.push(key);
                    hashes.push(hash);
                    group
                }
            };
            group_of.push(group);
        }
        let mut starts = vec![0u32; keys.len() + 1];
        for group in group_of.iter().filter(|group| **group != u32::MAX) {
            starts[*group as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut rows = vec![0u32; starts[keys.len()] as usize];
        for (row, group) in group_of.iter().enumerate().filter(|(_, group)| **group != u32::MAX) {
            let place = &mut next[*group as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        Ok(Groups { keys, hashes, rows, starts })
    }

    /// Number of distinct keys.
    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The rows of a group, in order.
    pub(super) fn rows(&self, group: usize) -> &[u32] {
        &self.rows[self.starts[group] as usize..self.starts[group + 1] as usize]
    }
}
