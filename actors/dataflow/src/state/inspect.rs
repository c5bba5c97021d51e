//! Rows of a snapshot as bytes, for those who look at state without the program that it belongs to.

use crate::error::Error;
use crate::snapshot::{GroupRows, RowLayout, RowOp, StateSnapshot, UNKEYED};
use serde::Deserialize;
use serde::de::{Error as _, IgnoredAny};
use std::collections::BTreeMap;

/// A row of state. What it holds are MessagePack values, which describe themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRow {
    /// Its key group; `None` for state that has none.
    pub group: Option<u16>,
    /// The window or time it belongs to, in state that has such.
    pub time: Option<i64>,
    /// Its key; `None` for an item of a list, or a value of the whole key group.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` for a timer.
    pub value: Option<Vec<u8>>,
}

/// Key group, window or time, and key.
type Place = (u16, Option<i64>, Vec<u8>);

/// The rows that are left of a state when all is done that its snapshot says, by key group, time and key.
///
/// # Errors
/// The snapshot holds something that no state writes.
pub fn stored_rows(state: &StateSnapshot) -> Result<Vec<StoredRow>, Error> {
    let fail = |source: rmp_serde::decode::Error| Error::Decode {
        state: state.name.clone(),
        expected: "rows of state",
        source: source.into(),
    };
    let mut rows: BTreeMap<Place, Option<Vec<u8>>> = BTreeMap::new();
    for GroupRows { op, first, last, rows: count, bytes } in &state.groups {
        let mut rest = &bytes[..];
        for _ in 0..*count {
            match (op, state.layout) {
                (RowOp::Drop, RowLayout::Table) => {
                    value(&mut rest).map_err(fail)?;
                    rows.retain(|(group, ..), _| group < first || group > last);
                }
                (RowOp::Drop, _) => {
                    let dropped = i64::deserialize(&mut reader(&mut rest)).map_err(fail)?;
                    rows.retain(|(group, time, _), _| {
                        group < first || group > last || *time != Some(dropped)
                    });
                }
                (RowOp::Delete, RowLayout::Table) => {
                    let key = value(&mut rest).map_err(fail)?.to_vec();
                    rows.remove(&(*first, None, key));
                }
                (RowOp::Delete, _) => {
                    array(&mut rest).map_err(fail)?;
                    let time = i64::deserialize(&mut reader(&mut rest)).map_err(fail)?;
                    let key = value(&mut rest).map_err(fail)?.to_vec();
                    rows.remove(&(*first, Some(time), key));
                }
                (RowOp::Put, RowLayout::PerGroup) => {
                    let value = value(&mut rest).map_err(fail)?.to_vec();
                    rows.insert((*first, None, Vec::new()), Some(value));
                }
                (RowOp::Put, layout) => {
                    array(&mut rest).map_err(fail)?;
                    let time = match layout {
                        RowLayout::Table => None,
                        _ => Some(i64::deserialize(&mut reader(&mut rest)).map_err(fail)?),
                    };
                    let key = value(&mut rest).map_err(fail)?.to_vec();
                    let value = match layout {
                        RowLayout::Timers => None,
                        _ => Some(value(&mut rest).map_err(fail)?.to_vec()),
                    };
                    rows.insert((*first, time, key), value);
                }
            }
        }
    }
    let row = |((group, time, key), value): (Place, _)| StoredRow {
        group: (group != UNKEYED).then_some(group),
        time,
        key: Some(key).filter(|key| !key.is_empty()),
        value,
    };
    let item = |item: &serde_bytes::ByteBuf| StoredRow {
        group: None,
        time: None,
        key: None,
        value: Some(item.to_vec()),
    };
    Ok(rows.into_iter().map(row).chain(state.items.iter().map(item)).collect())
}

fn reader<'a, 'b>(
    rest: &'a mut &'b [u8],
) -> rmp_serde::Deserializer<rmp_serde::decode::ReadReader<&'a mut &'b [u8]>> {
    rmp_serde::Deserializer::new(rest)
}

/// The next value, which is passed over.
fn value<'b>(rest: &mut &'b [u8]) -> Result<&'b [u8], rmp_serde::decode::Error> {
    let all = *rest;
    IgnoredAny::deserialize(&mut reader(rest))?;
    Ok(&all[..all.len() - rest.len()])
}

/// The head of a row: that of an array.
fn array(rest: &mut &[u8]) -> Result<(), rmp_serde::decode::Error> {
    let length = match rest.first() {
        Some(0x90..=0x9f) => 1,
        Some(0xdc) => 3,
        Some(0xdd) => 5,
        _ => usize::MAX,
    };
    *rest = rest.get(length..).ok_or_else(|| rmp_serde::decode::Error::custom("a row is no array"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KeyGroupRange, hash_key};
    use crate::state::{Budget, Extent, Handle, KeyedTable, NamespacedTable, StateStore, Timers};

    fn bytes<T: serde::Serialize>(value: &T) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    fn snapshot(store: &mut StateStore, checkpoint: u64, extent: Extent) -> Vec<StateSnapshot> {
        let mut heads = store.open_epoch(checkpoint, extent).unwrap();
        let mut out = Vec::new();
        assert!(store.drain(&mut Budget::unlimited(), &mut out).unwrap());
        out.into_iter().for_each(|(state, rows)| heads[state].groups.push(rows));
        heads
    }

    #[test]
    fn what_is_left_after_a_base_and_a_delta_is_what_the_state_holds() {
        let mut store = StateStore::new(KeyGroupRange::all(128), Vec::new()).noting_changes(0);
        let table: Handle<KeyedTable<(String, u8), u64>> = store.keyed("table").unwrap();
        let panes: Handle<NamespacedTable<u64, String>> = store.namespaced("panes").unwrap();
        let timers: Handle<Timers<u64>> = store.timers("timers").unwrap();
        let key = |n: u8| (format!("key {n}"), n);
        let put = |store: &mut StateStore, n: u8, value| {
            store.get_mut(table).insert(hash_key(&key(n)), key(n), value);
        };
        (0..10).for_each(|n| put(&mut store, n, 1));
        for n in 0..10u64 {
            store.get_mut(panes).namespace(n as i64 % 2).insert(hash_key(&n), n, n.to_string());
            store.get_mut(timers).register(5, n);
        }
        let mut sum = snapshot(&mut store, 1, Extent::Base);
        put(&mut store, 3, 2);
        store.get_mut(table).remove(hash_key(&key(4)), &key(4));
        assert!(store.get_mut(panes).take(1).is_some());
        store.get_mut(timers).delete(5, &7);
        store.get_mut(timers).register(6, 7);
        for (sum, later) in sum.iter_mut().zip(snapshot(&mut store, 2, Extent::Since(1))) {
            sum.add(later);
        }
        let rows: Vec<Vec<StoredRow>> = sum.iter().map(|state| stored_rows(state).unwrap()).collect();
        let [tables, panes, timers] = &rows[..] else { panic!("{rows:?}") };

        let mut found: Vec<_> = tables.iter().map(|row| (row.key.clone(), row.value.clone())).collect();
        let mut wanted: Vec<_> = (0..10)
            .filter(|n| *n != 4)
            .map(|n| (Some(bytes(&key(n))), Some(bytes(&if n == 3 { 2u64 } else { 1 }))))
            .collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);

        let mut found: Vec<_> =
            panes.iter().map(|row| (row.time, row.key.clone(), row.value.clone())).collect();
        let mut wanted: Vec<_> = (0..10u64)
            .filter(|n| n % 2 == 0)
            .map(|n| (Some(0), Some(bytes(&n)), Some(bytes(&n.to_string()))))
            .collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);

        let mut found: Vec<_> = timers.iter().map(|row| (row.time, row.key.clone())).collect();
        let mut wanted: Vec<_> =
            (0..10u64).map(|n| (Some(if n == 7 { 6 } else { 5 }), Some(bytes(&n)))).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted);
        assert!(timers.iter().all(|row| row.value.is_none() && row.group.is_some()));
    }

    #[test]
    fn bytes_that_are_no_rows_are_refused() {
        use crate::snapshot::StateKind;
        for bytes in [vec![], vec![0x92, 1], vec![0xc1], vec![0xdd, 0, 0]] {
            let mut state = StateSnapshot::new("state", StateKind::Keyed);
            state.groups.push(GroupRows::new(RowOp::Put, 3, 1, bytes));
            let error = stored_rows(&state).unwrap_err().to_string();
            assert!(error.contains("'state'"), "{error}");
        }
    }
}
