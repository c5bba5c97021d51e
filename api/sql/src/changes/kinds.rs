//! Changes as Flink names them: what of a batch is inserted, updated and deleted.

use super::Changes;
use crate::connector::ChangeKind;
use crate::rows::{RowKey, RowReader, Unsupported};
use arrow::array::RecordBatch;
use std::collections::HashMap;

/// What happened to which row of a batch, in order. Equal rows are summed up first; of what is left, a row that goes and
/// one that comes under the same key are an update. Without a key there are no updates. A row of weight 2 comes twice.
pub(crate) fn kinds(
    changes: &Changes,
    key: Option<&[usize]>,
) -> Result<Vec<(ChangeKind, usize)>, Unsupported> {
    let rows = changes.batch.num_rows();
    let Some(weights) = changes.weights.as_ref().filter(|weights| weights.iter().any(|weight| *weight < 0))
    else {
        let times = |row| std::iter::repeat_n((ChangeKind::Insert, row), times(changes.weight(row)));
        return Ok((0..rows).flat_map(times).collect());
    };
    let sums = sums(&changes.batch, weights)?;
    let mut kinds = Vec::with_capacity(sums.len());
    let Some(key) = key else {
        for (row, weight) in sums {
            let kind = if weight < 0 { ChangeKind::Delete } else { ChangeKind::Insert };
            kinds.extend(std::iter::repeat_n((kind, row), times(weight)));
        }
        return Ok(kinds);
    };
    for group in groups(&changes.batch, key, &sums)? {
        updates(&group, &mut kinds);
    }
    Ok(kinds)
}

fn times(weight: i64) -> usize {
    usize::try_from(weight.unsigned_abs()).unwrap_or(usize::MAX)
}

/// The different rows, in order of their first appearance, with the sums of their weights, unless these are zero.
fn sums(batch: &RecordBatch, weights: &[i64]) -> Result<Vec<(usize, i64)>, Unsupported> {
    let reader = RowReader::of_batch(batch)?;
    let mut places: HashMap<RowKey, usize> = HashMap::with_capacity(weights.len());
    let mut sums: Vec<(usize, i64)> = Vec::with_capacity(weights.len());
    for (row, weight) in weights.iter().enumerate() {
        let place = *places.entry(reader.key(row)).or_insert(sums.len());
        match sums.get_mut(place) {
            Some((_, sum)) => *sum += weight,
            None => sums.push((row, *weight)),
        }
    }
    sums.retain(|(_, sum)| *sum != 0);
    Ok(sums)
}

/// The rows of each key.
fn groups(
    batch: &RecordBatch,
    key: &[usize],
    sums: &[(usize, i64)],
) -> Result<Vec<Vec<(usize, i64)>>, Unsupported> {
    let reader = RowReader::of_columns(batch, key)?;
    let mut places: HashMap<RowKey, usize> = HashMap::with_capacity(sums.len());
    let mut groups: Vec<Vec<(usize, i64)>> = Vec::new();
    for sum in sums {
        let place = *places.entry(reader.key(sum.0)).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.push(*sum),
            None => groups.push(vec![*sum]),
        }
    }
    Ok(groups)
}

/// What happened to one key. What only goes is told first, what only comes last: whoever keeps the last row of each key
/// keeps one that is there.
fn updates(group: &[(usize, i64)], kinds: &mut Vec<(ChangeKind, usize)>) {
    let each = |sign: i64| {
        let signed = group.iter().filter(move |(_, weight)| weight.signum() == sign);
        signed.flat_map(|(row, weight)| std::iter::repeat_n(*row, times(*weight)))
    };
    let (going, coming) = (each(-1).count(), each(1).count());
    let pairs = going.min(coming);
    kinds.extend(each(-1).take(going - pairs).map(|row| (ChangeKind::Delete, row)));
    for (before, after) in each(-1).skip(going - pairs).zip(each(1)) {
        kinds.push((ChangeKind::UpdateBefore, before));
        kinds.push((ChangeKind::UpdateAfter, after));
    }
    kinds.extend(each(1).skip(pairs).map(|row| (ChangeKind::Insert, row)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, Int32Array};
    use arrow::datatypes::Int32Type;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    /// Rows of a key and a value.
    fn changes(rows: &[(i32, i32, i64)]) -> Changes {
        let column = |of: fn(&(i32, i32, i64)) -> i32| {
            Arc::new(Int32Array::from(rows.iter().map(of).collect::<Vec<_>>())) as _
        };
        let batch = RecordBatch::try_from_iter([("k", column(|row| row.0)), ("v", column(|row| row.1))]);
        Changes::weighted(batch.unwrap(), rows.iter().map(|row| row.2).collect()).unwrap()
    }

    fn shown(rows: &[(i32, i32, i64)], key: Option<&[usize]>) -> String {
        let changes = changes(rows);
        let value = |column: usize, row| changes.batch.column(column).as_primitive::<Int32Type>().value(row);
        let kinds = kinds(&changes, key).unwrap();
        let each =
            kinds.iter().map(|(kind, row)| format!("{}{}:{}", kind.symbol(), value(0, *row), value(1, *row)));
        each.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn rows_of_one_key_that_go_and_come_are_updates() {
        let rows = [(1, 10, -1), (2, 20, 1), (1, 11, 1), (3, 30, -1)];
        assert_eq!(shown(&rows, Some(&[0])), "-U1:10 +U1:11 +I2:20 -D3:30");
        assert_eq!(shown(&rows, None), "-D1:10 +I2:20 +I1:11 -D3:30");
    }

    #[test]
    fn what_comes_and_goes_within_a_batch_is_not_told() {
        assert_eq!(shown(&[(1, 10, -1), (1, 11, 1), (1, 11, -1), (1, 12, 1)], Some(&[0])), "-U1:10 +U1:12");
        assert_eq!(shown(&[(1, 10, 1), (1, 10, -1)], Some(&[0])), "");
    }

    #[test]
    fn an_addition_that_comes_before_the_removal_makes_no_difference() {
        assert_eq!(shown(&[(1, 11, 1), (1, 10, -1)], Some(&[0])), "-U1:10 +U1:11");
    }

    #[test]
    fn a_weight_of_two_is_told_twice() {
        assert_eq!(shown(&[(1, 10, 2), (2, 20, 1)], None), "+I1:10 +I1:10 +I2:20");
        assert_eq!(shown(&[(1, 10, -2), (1, 11, 1)], Some(&[0])), "-D1:10 -U1:10 +U1:11");
    }

    proptest! {
        #[test]
        fn kinds_do_to_a_table_what_weights_do(
            rows in prop::collection::vec((0..4i32, 0..4i32, -3..4i64), 0..24), keyed: bool,
        ) {
            let changes = changes(&rows);
            let value = |column: usize, row| {
                changes.batch.column(column).as_primitive::<Int32Type>().value(row)
            };
            let kinds = kinds(&changes, keyed.then_some(&[0usize][..])).unwrap();
            let mut table = BTreeMap::new();
            for (key, value, weight) in &rows {
                *table.entry((*key, *value)).or_insert(0i64) += weight;
            }
            for (kind, row) in &kinds {
                let weight = match kind {
                    ChangeKind::Insert | ChangeKind::UpdateAfter => 1,
                    ChangeKind::Delete | ChangeKind::UpdateBefore => -1,
                };
                *table.entry((value(0, *row), value(1, *row))).or_insert(0) -= weight;
            }
            prop_assert!(table.values().all(|weight| *weight == 0), "{table:?}");
            for (at, (kind, row)) in kinds.iter().enumerate() {
                match kind {
                    ChangeKind::UpdateBefore => {
                        let (next, after) = kinds[at + 1];
                        prop_assert!(keyed && next == ChangeKind::UpdateAfter);
                        prop_assert_eq!(value(0, *row), value(0, after));
                    }
                    ChangeKind::UpdateAfter => prop_assert_eq!(kinds[at - 1].0, ChangeKind::UpdateBefore),
                    _ => {}
                }
            }
        }
    }
}
