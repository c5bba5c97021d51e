//! Columns made of rows that were written as bytes.

use super::write::{Unsupported, width_of};
use arrow::array::{
    Array, ArrayData, ArrayRef, BooleanBuilder, ListArray, MapArray, NullBufferBuilder, RecordBatch,
    RecordBatchOptions, StructArray, make_array,
};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, FieldRef, Fields, SchemaRef};
use arrow::error::ArrowError;
use std::sync::Arc;

/// A column being made.
enum Column {
    Fixed { data_type: DataType, width: usize, bytes: Vec<u8>, nulls: NullBufferBuilder },
    Float { data_type: DataType, bytes: Vec<u8>, nulls: NullBufferBuilder },
    Bool(BooleanBuilder),
    Bytes { data_type: DataType, offsets: Vec<i32>, bytes: Vec<u8>, nulls: NullBufferBuilder },
    Struct { fields: Fields, columns: Vec<Column>, nulls: NullBufferBuilder },
    List { item: FieldRef, is_map: bool, offsets: Vec<i32>, items: Box<Column>, nulls: NullBufferBuilder },
    Null(usize),
}

/// Makes a batch of rows that were written as bytes.
pub(crate) struct RowWriter {
    columns: Vec<Column>,
    rows: usize,
}

fn cut() -> ArrowError {
    ArrowError::ParseError("a row in state ends too early: the state was written by another program".into())
}

impl RowWriter {
    /// Rows with columns of these types.
    pub(crate) fn new<'a>(types: impl IntoIterator<Item = &'a DataType>) -> Result<Self, Unsupported> {
        let columns = types.into_iter().map(Column::of).collect::<Result<_, _>>()?;
        Ok(RowWriter { columns, rows: 0 })
    }

    /// Rows with the columns of a schema.
    pub(crate) fn of_schema(schema: &SchemaRef) -> Result<Self, Unsupported> {
        Self::new(schema.fields().iter().map(|field| field.data_type()))
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) -> Result<(), ArrowError> {
        self.rows += 1;
        self.columns.iter_mut().try_for_each(|column| column.read(&mut bytes))
    }

    /// Adds a row of nulls.
    pub(crate) fn push_nulls(&mut self) {
        self.rows += 1;
        self.columns.iter_mut().for_each(Column::push_null);
    }

    /// Number of rows.
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    /// The columns.
    pub(crate) fn into_arrays(self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns.into_iter().map(Column::finish).collect()
    }

    /// The rows as a batch.
    pub(crate) fn into_batch(self, schema: SchemaRef) -> Result<RecordBatch, ArrowError> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        RecordBatch::try_new_with_options(schema, self.into_arrays()?, &options)
    }
}

impl Column {
    fn of(data_type: &DataType) -> Result<Self, Unsupported> {
        let nulls = NullBufferBuilder::new(0);
        Ok(match data_type {
            DataType::Null => Column::Null(0),
            DataType::Boolean => Column::Bool(BooleanBuilder::new()),
            DataType::Float32 | DataType::Float64 => {
                Column::Float { data_type: data_type.clone(), bytes: Vec::new(), nulls }
            }
            DataType::Utf8 | DataType::Binary => {
                Column::Bytes { data_type: data_type.clone(), offsets: vec![0], bytes: Vec::new(), nulls }
            }
            DataType::Struct(fields) => {
                let columns = fields.iter().map(|field| Column::of(field.data_type()));
                Column::Struct { fields: fields.clone(), columns: columns.collect::<Result<_, _>>()?, nulls }
            }
            DataType::List(item) | DataType::Map(item, _) => Column::List {
                item: Arc::clone(item),
                is_map: matches!(data_type, DataType::Map(..)),
                offsets: vec![0],
                items: Box::new(Column::of(item.data_type())?),
                nulls,
            },
            other => {
                let width = width_of(other).ok_or_else(|| Unsupported(other.clone()))?;
                Column::Fixed { data_type: other.clone(), width, bytes: Vec::new(), nulls }
            }
        })
    }

    fn push_null(&mut self) {
        match self {
            Column::Fixed { width, bytes, nulls, .. } => {
                bytes.resize(bytes.len() + *width, 0);
                nulls.append_null();
            }
            Column::Float { bytes, nulls, .. } => {
                bytes.extend_from_slice(&[0; 8]);
                nulls.append_null();
            }
            Column::Bool(values) => values.append_null(),
            Column::Bytes { offsets, bytes, nulls, .. } => {
                offsets.push(bytes.len() as i32);
                nulls.append_null();
            }
            Column::Struct { columns, nulls, .. } => {
                columns.iter_mut().for_each(Column::push_null);
                nulls.append_null();
            }
            Column::List { offsets, nulls, .. } => {
                offsets.push(offsets.last().copied().unwrap_or(0));
                nulls.append_null();
            }
            Column::Null(rows) => *rows += 1,
        }
    }

    fn read(&mut self, from: &mut &[u8]) -> Result<(), ArrowError> {
        let (present, rest) = from.split_first().ok_or_else(cut)?;
        *from = rest;
        if *present == 0 {
            self.push_null();
            return Ok(());
        }
        match self {
            Column::Fixed { width, bytes, nulls, .. } => {
                let (value, rest) = from.split_at_checked(*width).ok_or_else(cut)?;
                bytes.extend_from_slice(value);
                nulls.append_non_null();
                *from = rest;
            }
            Column::Float { bytes, nulls, .. } => {
                let (value, rest) = from.split_first_chunk::<8>().ok_or_else(cut)?;
                bytes.extend_from_slice(value);
                nulls.append_non_null();
                *from = rest;
            }
            Column::Bool(values) => {
                let (value, rest) = from.split_first().ok_or_else(cut)?;
                values.append_value(*value != 0);
                *from = rest;
            }
            Column::Bytes { offsets, bytes, nulls, .. } => {
                let length = read_length(from)?;
                let (value, rest) = from.split_at_checked(length).ok_or_else(cut)?;
                bytes.extend_from_slice(value);
                offsets.push(i32::try_from(bytes.len()).map_err(|_| too_long())?);
                nulls.append_non_null();
                *from = rest;
            }
            Column::Struct { columns, nulls, .. } => {
                columns.iter_mut().try_for_each(|column| column.read(from))?;
                nulls.append_non_null();
            }
            Column::List { offsets, items, nulls, .. } => {
                let length = read_length(from)?;
                (0..length).try_for_each(|_| items.read(from))?;
                let end = offsets.last().copied().unwrap_or(0) as usize + length;
                offsets.push(i32::try_from(end).map_err(|_| too_long())?);
                nulls.append_non_null();
            }
            Column::Null(rows) => *rows += 1,
        }
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef, ArrowError> {
        let fixed = |data_type: DataType, length, bytes: Vec<u8>, mut nulls: NullBufferBuilder| {
            let data = ArrayData::builder(data_type)
                .len(length)
                .add_buffer(Buffer::from_vec(bytes))
                .nulls(nulls.finish())
                .align_buffers(true)
                .build()?;
            Ok(make_array(data))
        };
        match self {
            Column::Fixed { data_type, width, bytes, nulls } => {
                let length = bytes.len() / width;
                fixed(data_type, length, bytes, nulls)
            }
            Column::Float { data_type, bytes, nulls } => {
                let length = bytes.len() / 8;
                let array = fixed(DataType::Float64, length, bytes, nulls)?;
                arrow::compute::cast(&array, &data_type)
            }
            Column::Bool(mut values) => Ok(Arc::new(values.finish())),
            Column::Bytes { data_type, offsets, bytes, mut nulls } => {
                let data = ArrayData::builder(data_type)
                    .len(offsets.len() - 1)
                    .add_buffer(Buffer::from_vec(offsets))
                    .add_buffer(Buffer::from_vec(bytes))
                    .nulls(nulls.finish())
                    .build()?;
                Ok(make_array(data))
            }
            Column::Struct { fields, columns, mut nulls } => {
                let length = nulls.len();
                let arrays = columns.into_iter().map(Column::finish).collect::<Result<_, _>>()?;
                Ok(Arc::new(StructArray::try_new_with_length(fields, arrays, nulls.finish(), length)?))
            }
            Column::List { item, is_map, offsets, items, mut nulls } => {
                let offsets = OffsetBuffer::new(offsets.into());
                let items = items.finish()?;
                if is_map {
                    let entries = items
                        .as_any()
                        .downcast_ref::<StructArray>()
                        .ok_or_else(|| ArrowError::SchemaError("a map's entries are no struct".into()))?;
                    let map = MapArray::try_new(item, offsets, entries.clone(), nulls.finish(), false)?;
                    return Ok(Arc::new(map));
                }
                Ok(Arc::new(ListArray::try_new(item, offsets, items, nulls.finish())?))
            }
            Column::Null(rows) => Ok(Arc::new(arrow::array::NullArray::new(rows))),
        }
    }
}

fn too_long() -> ArrowError {
    ArrowError::ComputeError(
        "more than 2 GiB of text in one batch: make 'execution.batch-size' smaller".into(),
    )
}

fn read_length(from: &mut &[u8]) -> Result<usize, ArrowError> {
    let (length, rest) = from.split_first_chunk::<4>().ok_or_else(cut)?;
    *from = rest;
    Ok(u32::from_le_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use super::super::RowReader;
    use super::*;
    use arrow::array::{
        Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, StringArray,
        TimestampMillisecondArray,
    };
    use arrow::datatypes::{Field, Int64Type};

    fn sample() -> RecordBatch {
        let list = ListArray::from_iter_primitive::<Int64Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        let inner = StructArray::from(vec![
            (
                Arc::new(Field::new("a", DataType::Int32, true)),
                Arc::new(Int32Array::from(vec![1, 2, 3])) as ArrayRef,
            ),
            (
                Arc::new(Field::new("b", DataType::Utf8, true)),
                Arc::new(StringArray::from(vec![Some("x"), None, Some("")])) as ArrayRef,
            ),
        ]);
        let decimals = Decimal128Array::from(vec![Some(12345), None, Some(-1)]);
        RecordBatch::try_from_iter_with_nullable([
            ("id", Arc::new(Int64Array::from(vec![Some(1), None, Some(-3)])) as ArrayRef, true),
            ("name", Arc::new(StringArray::from(vec![Some("ä"), Some(""), None])) as ArrayRef, true),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3])) as ArrayRef, true),
            ("price", Arc::new(decimals.with_precision_and_scale(20, 3).unwrap()) as ArrayRef, true),
            ("x", Arc::new(Float64Array::from(vec![0.5, f64::NAN, -0.0])) as ArrayRef, true),
            ("y", Arc::new(Float32Array::from(vec![0.1, f32::INFINITY, 2.0])) as ArrayRef, true),
            (
                "flag",
                Arc::new(arrow::array::BooleanArray::from(vec![Some(true), None, Some(false)])) as ArrayRef,
                true,
            ),
            ("list", Arc::new(list) as ArrayRef, true),
            ("inner", Arc::new(inner) as ArrayRef, true),
        ])
        .unwrap()
    }

    #[test]
    fn rows_of_every_type_are_read_as_they_were_written() {
        let batch = sample();
        let reader = RowReader::of_batch(&batch).unwrap();
        let mut writer = RowWriter::of_schema(&batch.schema()).unwrap();
        let rows: Vec<_> = (0..3).map(|row| reader.row(row)).collect();
        for row in &rows {
            writer.push(row).unwrap();
        }
        writer.push_nulls();
        let back = writer.into_batch(batch.schema()).unwrap();
        let again = RowReader::of_batch(&back).unwrap();
        assert_eq!((0..3).map(|row| again.row(row)).collect::<Vec<_>>(), rows);
        assert_eq!(
            back.column(1),
            &arrow::compute::concat(&[batch.column(1), &arrow::array::new_null_array(&DataType::Utf8, 1)])
                .unwrap()
        );
        assert!((0..batch.num_columns()).all(|column| back.column(column).is_null(3)));
        assert!(
            back.slice(0, 3).column(7) == batch.column(7) && back.slice(0, 3).column(8) == batch.column(8)
        );
    }

    #[test]
    fn slices_are_written_as_what_they_show() {
        let batch = sample();
        let (whole, slice) = (RowReader::of_batch(&batch).unwrap().row(2), batch.slice(2, 1));
        assert_eq!(RowReader::of_batch(&slice).unwrap().row(0), whole);
    }

    #[test]
    fn rows_that_are_cut_off_are_refused() {
        let batch = sample();
        let row = RowReader::of_batch(&batch).unwrap().row(0);
        for length in 0..row.len() {
            let mut writer = RowWriter::of_schema(&batch.schema()).unwrap();
            assert!(writer.push(&row[..length]).is_err(), "{length}");
        }
    }
}
