//! Columns to sort by as bytes that compare as the rows do: a byte for null, then the value with its most significant byte
//! first, its sign turned; text with its zero bytes marked and an end mark; all turned where the order is descending.

use crate::plan::stream::SortKey;
use crate::value::{Value, Values};
use arrow::array::RecordBatch;
use arrow::error::ArrowError;

/// Writes the sort keys of a batch's rows.
pub(super) struct SortKeys {
    columns: Vec<(SortKey, Values)>,
}

impl SortKeys {
    pub(super) fn of(batch: &RecordBatch, order: &[SortKey]) -> Result<Self, ArrowError> {
        let columns = order.iter().map(|key| Ok((*key, Values::of(batch.column(key.column))?)));
        Ok(SortKeys { columns: columns.collect::<Result<_, ArrowError>>()? })
    }

    /// The key of a row.
    pub(super) fn key(&self, row: usize) -> Box<[u8]> {
        let mut out = Vec::with_capacity(self.columns.len() * 9);
        for (key, values) in &self.columns {
            let value = values.get(row);
            // Nulls first or last, whatever the direction.
            out.push(match (value.is_some(), key.options.nulls_first) {
                (true, _) => 1,
                (false, true) => 0,
                (false, false) => 2,
            });
            let start = out.len();
            if let Some(value) = value {
                write(&value, &mut out);
            }
            if key.options.descending {
                out[start..].iter_mut().for_each(|byte| *byte = !*byte);
            }
        }
        out.into_boxed_slice()
    }
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => out.push(u8::from(*value)),
        Value::Int(value) => out.extend_from_slice(&(*value as u64 ^ 1 << 63).to_be_bytes()),
        Value::Decimal(value) => out.extend_from_slice(&(*value as u128 ^ 1 << 127).to_be_bytes()),
        Value::Float(value) => {
            // IEEE 754 totalOrder: of negative numbers all bits are turned, of others the sign.
            let bits = value.to_bits();
            let turned = if bits >> 63 == 1 { !bits } else { bits ^ 1 << 63 };
            out.extend_from_slice(&turned.to_be_bytes());
        }
        Value::Text(value) => write_bytes(value.as_bytes(), out),
        Value::Bytes(value) => write_bytes(value, out),
        Value::Row(value) => write_bytes(value, out),
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(255);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
    use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices};
    use proptest::prelude::*;
    use std::sync::Arc;

    proptest! {
        #[test]
        fn keys_compare_as_rows_sort(
            rows in proptest::collection::vec((any::<Option<i64>>(), any::<Option<u8>>(), -2i8..2), 0..40),
            descending in any::<(bool, bool, bool)>(),
            nulls_first in any::<bool>(),
        ) {
            let ints: Int64Array = rows.iter().map(|row| row.0.map(|n| n % 3)).collect();
            let texts = ["", "a", "a\0", "a\0b", "ab", "ä"];
            let texts: StringArray = rows.iter().map(|row| row.1.map(|n| texts[n as usize % 6])).collect();
            let floats: Float64Array = rows.iter().map(|row| Some(f64::from(row.2) * 1.5)).collect();
            let columns: [ArrayRef; 3] = [Arc::new(ints), Arc::new(texts), Arc::new(floats)];
            let options = [descending.0, descending.1, descending.2]
                .map(|descending| SortOptions { descending, nulls_first });
            let batch = RecordBatch::try_from_iter_with_nullable([
                ("a", columns[0].clone(), true), ("b", columns[1].clone(), true), ("c", columns[2].clone(), true),
            ]).unwrap();
            let order: Vec<SortKey> =
                options.iter().enumerate().map(|(column, options)| SortKey { column, options: *options }).collect();
            let keys = SortKeys::of(&batch, &order).unwrap();
            let sorted = lexsort_to_indices(
                &columns.iter().zip(options).map(|(values, options)| SortColumn {
                    values: values.clone(), options: Some(options),
                }).collect::<Vec<_>>(),
                None,
            ).unwrap();
            let in_order: Vec<Box<[u8]>> =
                sorted.values().iter().map(|row| keys.key(*row as usize)).collect();
            prop_assert!(in_order.is_sorted());
            prop_assert_eq!(sorted.len(), rows.len());
        }
    }
}
