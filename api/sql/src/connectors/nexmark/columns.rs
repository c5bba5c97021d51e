//! Columns of a kind of event, of which most rows of a batch have none: gaps are filled when the next value comes.

use crate::connectors::random::longs;
use arrow::array::{ArrayRef, StringArray, StructArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields};
use arrow::error::ArrowError;
use std::sync::Arc;

/// The fields of one kind of event, those that nobody asked for left out.
pub(super) struct Columns {
    slots: Vec<Slot>,
    /// Where text goes that only its length is wanted of.
    scratch: Vec<u8>,
}

enum Slot {
    Absent,
    Long(Vec<i64>),
    Text { offsets: Vec<i32>, bytes: Vec<u8> },
}

/// What a field of the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FieldKind {
    Long,
    Time,
    /// Text of so many bytes on average.
    Text(usize),
}

impl Columns {
    /// Columns for the fields of the model that are among `wanted`. `rows` have room, `values` of them have values.
    pub(super) fn new(model: &[(&str, FieldKind)], wanted: &[usize], rows: usize, values: usize) -> Self {
        let slot = |(field, (_, kind)): (usize, &(&str, FieldKind))| {
            if !wanted.contains(&field) {
                return Slot::Absent;
            }
            match kind {
                FieldKind::Long | FieldKind::Time => Slot::Long(Vec::with_capacity(rows)),
                FieldKind::Text(average) => {
                    let mut offsets = Vec::with_capacity(rows + 1);
                    offsets.push(0);
                    Slot::Text { offsets, bytes: Vec::with_capacity(values * average + 64) }
                }
            }
        };
        Columns { slots: model.iter().enumerate().map(slot).collect(), scratch: Vec::new() }
    }

    #[inline]
    pub(super) fn has(&self, field: usize) -> bool {
        !matches!(self.slots[field], Slot::Absent)
    }

    /// Puts a number into a row behind all that have one.
    #[inline]
    pub(super) fn long(&mut self, field: usize, row: usize, value: impl FnOnce() -> i64) {
        if let Slot::Long(values) = &mut self.slots[field] {
            values.resize(row, 0);
            values.push(value());
        }
    }

    /// Puts a text into a row behind all that have one.
    #[inline]
    pub(super) fn text(&mut self, field: usize, row: usize, write: impl FnOnce(&mut Vec<u8>)) {
        if let Slot::Text { offsets, bytes } = &mut self.slots[field] {
            offsets.resize(row + 1, bytes.len() as i32);
            write(bytes);
            offsets.push(bytes.len() as i32);
        }
    }

    /// As [`text`](Self::text), and says how long the text is.
    pub(super) fn measured(&mut self, field: usize, row: usize, write: impl FnOnce(&mut Vec<u8>)) -> u64 {
        match &mut self.slots[field] {
            Slot::Text { offsets, bytes } => {
                let start = bytes.len();
                offsets.resize(row + 1, start as i32);
                write(bytes);
                offsets.push(bytes.len() as i32);
                (bytes.len() - start) as u64
            }
            _ => {
                self.scratch.clear();
                write(&mut self.scratch);
                self.scratch.len() as u64
            }
        }
    }

    /// The columns as one of rows. `order` says which field of the model each declared one is.
    pub(super) fn finish(
        mut self,
        declared: &Fields,
        order: &[usize],
        rows: usize,
        present: NullBuffer,
    ) -> Result<ArrayRef, ArrowError> {
        let arrays = declared.iter().zip(order).map(|(field, slot)| {
            let slot = std::mem::replace(&mut self.slots[*slot], Slot::Absent);
            slot.finish(field.data_type(), rows)
        });
        let arrays: Vec<ArrayRef> = arrays.collect::<Result<_, _>>()?;
        Ok(Arc::new(StructArray::try_new_with_length(declared.clone(), arrays, Some(present), rows)?))
    }
}

impl Slot {
    fn finish(self, data_type: &DataType, rows: usize) -> Result<ArrayRef, ArrowError> {
        match self {
            Slot::Long(mut values) => {
                values.resize(rows, 0);
                Ok(longs(values, None, data_type))
            }
            Slot::Text { mut offsets, bytes } => {
                offsets.resize(rows + 1, bytes.len() as i32);
                Ok(Arc::new(StringArray::try_new(OffsetBuffer::new(offsets.into()), bytes.into(), None)?))
            }
            Slot::Absent => Err(ArrowError::SchemaError("a field is declared twice".into())),
        }
    }
}
