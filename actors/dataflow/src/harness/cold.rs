//! A store for rows outside memory that is in memory, for tests of what is above it.

use crate::error::BoxError;
use crate::state::{ColdCursor, ColdRow, ColdStore, ColdTable, Spill, StateMemory};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Has tables keep no more than so many bytes in memory, as they are counted, and the rest in this store.
pub(crate) fn spill(bytes: usize) -> Arc<Spill> {
    Spill::new(StateMemory::new(bytes), Box::new(ColdMaps))
}

struct ColdMaps;

#[derive(Default)]
struct ColdMap(BTreeMap<(u16, Vec<u8>), ColdRow>);

impl ColdStore for ColdMaps {
    fn table(&self) -> Result<Box<dyn ColdTable>, BoxError> {
        Ok(Box::new(ColdMap::default()))
    }
}

impl ColdTable for ColdMap {
    fn put(&mut self, rows: &[ColdRow]) -> Result<(), BoxError> {
        for row in rows {
            if self.0.insert((row.group, row.key.clone()), row.clone()).is_some() {
                return Err("a row was in two places".into());
            }
        }
        Ok(())
    }

    fn take(&mut self, keys: &[(u16, Vec<u8>)], out: &mut Vec<ColdRow>) -> Result<(), BoxError> {
        out.extend(keys.iter().filter_map(|key| self.0.remove(key)));
        Ok(())
    }

    fn scan(
        &self,
        group: u16,
        after: Option<&ColdCursor>,
        changed: RangeInclusive<u64>,
        by_key: bool,
        most: usize,
        out: &mut Vec<ColdRow>,
    ) -> Result<(), BoxError> {
        let cursor = |row: &ColdRow| ColdCursor {
            changed: if by_key { 0 } else { row.changed },
            key: row.key.clone(),
        };
        let rows = self.0.values().filter(|row| row.group == group && changed.contains(&row.changed));
        let mut rows: Vec<_> = rows.filter(|row| after.is_none_or(|after| cursor(row) > *after)).collect();
        rows.sort_by_key(|row| cursor(row));
        out.extend(rows.into_iter().take(most).cloned());
        Ok(())
    }

    fn forget_changes(&mut self) -> Result<(), BoxError> {
        self.0.values_mut().for_each(|row| row.changed = 0);
        Ok(())
    }

    fn clear(&mut self, groups: RangeInclusive<u16>) -> Result<(), BoxError> {
        self.0.retain(|(group, _), _| !groups.contains(group));
        Ok(())
    }
}
