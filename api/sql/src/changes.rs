//! What flows between SQL operators: rows of a table in columns, each with the number of times it is added or, below
//! zero, taken away (a Z-set; Budiu et al., "DBSP", VLDB 2023). Deltas commute: an operator may see a removal before the
//! addition that it takes back, and still be right once both have come.

mod codec;
mod kinds;
mod partition;

pub(crate) use codec::ChangesCodec;
pub(crate) use kinds::kinds;
pub(crate) use partition::{by_key, forward};

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use hurtig_dataflow::{AnyBatch, Batch};
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::sync::Arc;

/// A batch of rows with their weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Changes {
    /// The rows.
    pub batch: RecordBatch,
    /// How often each row is added, or below zero taken away; nothing where each is added once.
    pub weights: Option<Vec<i64>>,
}

impl Default for Changes {
    fn default() -> Self {
        Changes { batch: RecordBatch::new_empty(Arc::new(Schema::empty())), weights: None }
    }
}

impl Changes {
    /// Rows that are each added once.
    pub fn append_only(batch: RecordBatch) -> Self {
        Changes { batch, weights: None }
    }

    /// Rows with their weights; weights that are all one are dropped, and so are rows of weight zero.
    ///
    /// # Errors
    /// The rows cannot be filtered.
    pub fn weighted(batch: RecordBatch, weights: Vec<i64>) -> Result<Self, ArrowError> {
        debug_assert_eq!(batch.num_rows(), weights.len());
        if weights.iter().all(|weight| *weight == 1) {
            return Ok(Changes::append_only(batch));
        }
        if weights.contains(&0) {
            let keep: BooleanArray = weights.iter().map(|weight| Some(*weight != 0)).collect();
            let batch = filter_record_batch(&batch, &keep)?;
            let weights = weights.into_iter().filter(|weight| *weight != 0).collect();
            return Ok(Changes { batch, weights: Some(weights) });
        }
        Ok(Changes { batch, weights: Some(weights) })
    }

    /// Weight of a row.
    #[inline]
    pub fn weight(&self, row: usize) -> i64 {
        self.weights.as_ref().map_or(1, |weights| weights[row])
    }

    /// Columns of the rows.
    pub fn schema(&self) -> SchemaRef {
        self.batch.schema()
    }

    /// The rows that a mask lets through.
    ///
    /// # Errors
    /// The mask is of another length.
    pub fn filter(&self, mask: &BooleanArray) -> Result<Self, ArrowError> {
        let batch = filter_record_batch(&self.batch, mask)?;
        let kept = |weights: &Vec<i64>| {
            let pairs = weights.iter().enumerate();
            pairs
                .filter(|(row, _)| mask.is_valid(*row) && mask.value(*row))
                .map(|(_, weight)| *weight)
                .collect()
        };
        Ok(Changes { batch, weights: self.weights.as_ref().map(kept) })
    }

    /// The rows at the given places, in that order.
    ///
    /// # Errors
    /// A place that does not exist.
    pub fn take(&self, rows: &UInt32Array) -> Result<Self, ArrowError> {
        let batch = take_record_batch(&self.batch, rows)?;
        let taken = |weights: &Vec<i64>| rows.values().iter().map(|row| weights[*row as usize]).collect();
        Ok(Changes { batch, weights: self.weights.as_ref().map(taken) })
    }

    /// One batch of many with the same columns.
    ///
    /// # Errors
    /// Batches of different columns.
    pub fn concat(mut parts: Vec<Changes>) -> Result<Self, ArrowError> {
        match parts.len() {
            0 => return Ok(Changes::default()),
            1 => return Ok(parts.remove(0)),
            _ => {}
        }
        let schema = parts[0].schema();
        let batch = concat_batches(&schema, parts.iter().map(|part| &part.batch))?;
        let weights = parts.iter().any(|part| part.weights.is_some()).then(|| {
            let each = parts.iter().flat_map(|part| (0..part.batch.num_rows()).map(|row| part.weight(row)));
            each.collect()
        });
        Ok(Changes { batch, weights })
    }

    /// Puts more rows behind these.
    ///
    /// # Errors
    /// Rows of other columns.
    pub fn append(&mut self, more: Changes) -> Result<(), ArrowError> {
        if more.batch.num_rows() == 0 {
            return Ok(());
        }
        if self.batch.num_rows() == 0 {
            *self = more;
            return Ok(());
        }
        *self = Changes::concat(vec![std::mem::take(self), more])?;
        Ok(())
    }
}

impl Batch for Changes {
    fn len(&self) -> usize {
        self.batch.num_rows()
    }

    fn duplicate(&self) -> AnyBatch {
        Box::new(self.clone())
    }

    fn split_off(&mut self, at: usize) -> AnyBatch {
        let rest = self.batch.slice(at, self.batch.num_rows() - at);
        self.batch = self.batch.slice(0, at);
        let weights = self.weights.as_mut().map(|weights| weights.split_off(at));
        Box::new(Changes { batch: rest, weights })
    }

    fn type_name(&self) -> &'static str {
        "Changes"
    }
}

/// A batch as one record: what sources read and sinks write.
impl Serialize for Changes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        codec::write_with_schema(self, &mut bytes).map_err(S::Error::custom)?;
        serializer.serialize_bytes(&bytes)
    }
}

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        codec::read_with_schema(&bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::Int64Array;

    pub(super) fn numbers(values: &[i64]) -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(values.to_vec())) as _)]).unwrap()
    }

    #[test]
    fn weights_that_say_nothing_are_dropped_and_rows_that_are_not_there_too() {
        let plain = Changes::weighted(numbers(&[1, 2]), vec![1, 1]).unwrap();
        assert_eq!(plain, Changes::append_only(numbers(&[1, 2])));
        let some = Changes::weighted(numbers(&[1, 2, 3]), vec![1, 0, -1]).unwrap();
        assert_eq!((some.batch, some.weights), (numbers(&[1, 3]), Some(vec![1, -1])));
    }

    #[test]
    fn batches_with_and_without_weights_are_put_together() {
        let mut all = Changes::append_only(numbers(&[1]));
        all.append(Changes::weighted(numbers(&[2]), vec![-1]).unwrap()).unwrap();
        assert_eq!(all.weights, Some(vec![1, -1]));
        let rest = all.split_off(1);
        assert_eq!((all.len(), rest.len(), all.weights), (1, 1, Some(vec![1])));
    }

    #[test]
    fn a_batch_survives_serde() {
        let changes = Changes::weighted(numbers(&[4, 5]), vec![2, -1]).unwrap();
        let bytes = rmp_serde::to_vec_named(&changes).unwrap();
        assert_eq!(rmp_serde::from_slice::<Changes>(&bytes).unwrap(), changes);
        for cut in 0..bytes.len() {
            assert!(rmp_serde::from_slice::<Changes>(&bytes[..cut]).is_err());
        }
    }
}
