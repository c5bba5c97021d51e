//! Between streams of records and tables: records become rows through serde, and rows records.

use crate::changes::{Changes, kinds};
use crate::connector::{ChangeKind, Connector, Scan, ScanRequest, TableDefinition};
use crate::error::SqlError;
use crate::parse::CreateTable;
use crate::table::Table;
use crate::tables::TableEnvironment;
use arrow::array::{ArrayRef, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef, TimeUnit};
use hurtig_dataflow::error::Fatal;
use hurtig_dataflow::graph::NodeId;
use hurtig_dataflow::operator::{Context, Operator, Progress};
use hurtig_dataflow::{OpResult, Record, Rows};
use hurtig_datastream::DataStream;
use serde_arrow::schema::{SchemaLike, TracingOptions};
use std::marker::PhantomData;
use std::sync::Arc;

/// The columns that records of a type have, as serde shows them. Those of a tuple are called `0`, `1`, and so on.
fn fields_of<T: Record>() -> Result<Vec<FieldRef>, SqlError> {
    let options = TracingOptions::default()
        .allow_null_fields(true)
        .sequence_as_large_list(false)
        .strings_as_large_utf8(false)
        .bytes_as_large_binary(false);
    let traced = Vec::<FieldRef>::from_type::<T>(options);
    let fields = traced.map_err(|error| {
        let name = std::any::type_name::<T>();
        SqlError::statement(format!("records of type {name} have no columns: {error}"))
            .with_hint("a record is a tuple, or a struct with named fields, of numbers, text, and the like")
    })?;
    Ok(fields.into_iter().map(|field| Arc::new((*field).clone().with_nullable(true))).collect())
}

impl TableEnvironment {
    /// Gives a stream a name and names for its columns, by which queries can read it.
    ///
    /// ```
    /// use hurtig_datastream::prelude::*;
    /// use hurtig_sql::TableEnvironment;
    ///
    /// let env = Environment::new();
    /// let measures = env.from_collection(vec![(1i64, 20.5, 3i64), (2, 21.0, 18)]);
    /// let tables = TableEnvironment::new(&env);
    /// tables.register_stream(&measures, "my_stream", &["id", "measure", "count"])?;
    /// let large = tables.sql("SELECT id, measure FROM my_stream WHERE `count` > 17")?;
    /// large.to_append_stream::<(i64, f64)>()?.print();
    /// # Ok::<(), hurtig_sql::SqlError>(())
    /// ```
    ///
    /// # Errors
    /// The name is taken, the records have another number of columns, or none that SQL knows.
    pub fn register_stream<T: Record>(
        &self,
        stream: &DataStream<T>,
        name: &str,
        columns: &[&str],
    ) -> Result<(), SqlError> {
        self.add_stream(stream, name, columns, None)
    }

    /// As [`register_stream`](TableEnvironment::register_stream), with the records' event time as a further column, which
    /// windows can be made by.
    ///
    /// # Errors
    /// As [`register_stream`](TableEnvironment::register_stream).
    pub fn register_stream_with_time<T: Record>(
        &self,
        stream: &DataStream<T>,
        name: &str,
        columns: &[&str],
        time: &str,
    ) -> Result<(), SqlError> {
        self.add_stream(stream, name, columns, Some(time))
    }

    fn add_stream<T: Record>(
        &self,
        stream: &DataStream<T>,
        name: &str,
        columns: &[&str],
        time: Option<&str>,
    ) -> Result<(), SqlError> {
        let own = fields_of::<T>()?;
        if own.len() != columns.len() {
            let message = format!("'{name}' is given {} names for {} columns", columns.len(), own.len());
            return Err(SqlError::statement(message));
        }
        let renamed = own.iter().zip(columns).map(|(field, name)| (**field).clone().with_name(*name));
        let mut fields: Vec<Field> = renamed.collect();
        if let Some(time) = time {
            fields.push(Field::new(time, DataType::Timestamp(TimeUnit::Millisecond, None), true));
        }
        let schema = Arc::new(Schema::new(fields));
        let (to, has_time) = (Arc::clone(&schema), time.is_some());
        let batches: DataStream<Changes> = stream.transform("ToTable", move || ToTable::<T> {
            own: own.clone(),
            schema: Arc::clone(&to),
            has_time,
            record: PhantomData,
        });
        let node = batches.edges(0).next().map(|edge| edge.from);
        let node = node.ok_or_else(|| SqlError::statement("a stream of no operation"))?;
        let statement = CreateTable { name: name.to_string(), ..CreateTable::default() };
        self.add_table(&statement, schema, Arc::new(StreamConnector { node }), time)
    }
}

/// Records to batches.
struct ToTable<T> {
    own: Vec<FieldRef>,
    schema: SchemaRef,
    has_time: bool,
    record: PhantomData<fn() -> T>,
}

impl<T: Record> Operator for ToTable<T> {
    type In = Rows<T>;
    type Out = Rows<Changes>;

    fn process(&mut self, rows: Rows<T>, ctx: &mut Context<'_, '_, Rows<Changes>>) -> OpResult<Progress> {
        let mut columns: Vec<ArrayRef> = serde_arrow::to_arrow(&self.own, &rows.records)
            .map_err(|error| Fatal(format!("a record cannot become a row: {error}").into()))?;
        if self.has_time {
            let times: TimestampMillisecondArray = (0..rows.len()).map(|row| rows.time(row)).collect();
            columns.push(Arc::new(times));
        }
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        ctx.emit(Changes::append_only(batch), None);
        Ok(Progress::Done)
    }
}

/// A table whose rows an operation of the job puts out.
struct StreamConnector {
    node: NodeId,
}

impl Connector for StreamConnector {
    fn name(&self) -> &'static str {
        "stream"
    }

    fn options(&self) -> &'static [&'static str] {
        &[]
    }

    fn scan(&self, _: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        Ok(Scan::of_node(self.node, request.columns))
    }
}

impl Table {
    /// The query's rows as a stream of records: structs by the names of the columns, tuples by their places.
    ///
    /// # Errors
    /// The query cannot be run, its result takes rows back, or the records' fields are not its columns.
    pub fn to_append_stream<T: Record>(&self) -> Result<DataStream<T>, SqlError> {
        let node = self.lower()?;
        if !node.properties.is_append_only {
            return Err(SqlError::statement("the query's result changes rows that it has put out")
                .with_hint("take it with to_changelog_stream, or group by windows"));
        }
        let decode = FromTable::<T>::new(self)?;
        Ok(self.stream_of(&node)?.transform("ToRecords", move || decode.clone()))
    }

    /// The query's changes as a stream of records, each with what happened to it.
    ///
    /// # Errors
    /// The query cannot be run, or the records' fields are not its columns.
    pub fn to_changelog_stream_of<T: Record>(&self) -> Result<DataStream<(ChangeKind, T)>, SqlError> {
        let decode = FromTable::<T>::new(self)?;
        let node = self.lower()?;
        let key = node.properties.keys.first().cloned();
        let make = move || FromChanges { decode: decode.clone(), key: key.clone() };
        Ok(self.stream_of(&node)?.transform("ToRecords", make))
    }
}

/// Batches to records.
struct FromTable<T> {
    /// For each field of the record the column that it is made of.
    places: Vec<usize>,
    schema: SchemaRef,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for FromTable<T> {
    fn clone(&self) -> Self {
        FromTable { places: self.places.clone(), schema: Arc::clone(&self.schema), record: PhantomData }
    }
}

impl<T: Record> FromTable<T> {
    fn new(table: &Table) -> Result<Self, SqlError> {
        let (columns, fields) = (table.columns(), fields_of::<T>()?);
        let is_tuple = fields.iter().enumerate().all(|(at, field)| *field.name() == at.to_string());
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        if is_tuple && fields.len() != columns.len() {
            let message = format!("the query has {} columns ({})", columns.len(), names.join(", "));
            return Err(SqlError::statement(format!("{message}, the record {}", fields.len())));
        }
        let place = |(at, field): (usize, &FieldRef)| match is_tuple {
            true => Ok(at),
            false => names.iter().position(|name| name == field.name()).ok_or_else(|| {
                let message = format!("the query has no column '{}' for the record's field", field.name());
                SqlError::statement(message).with_hint(format!("it has {}", names.join(", ")))
            }),
        };
        let places = fields.iter().enumerate().map(place).collect::<Result<_, _>>()?;
        Ok(FromTable { places, schema: Arc::new(Schema::new(fields)), record: PhantomData })
    }

    fn records(&self, batch: &RecordBatch) -> OpResult<Vec<T>> {
        let columns = self
            .places
            .iter()
            .zip(self.schema.fields())
            .map(|(place, field)| arrow::compute::cast(batch.column(*place), field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), columns)?;
        let wrong =
            |error: serde_arrow::Error| Fatal(format!("a row cannot become a record: {error}").into());
        Ok(serde_arrow::from_record_batch(&batch).map_err(wrong)?)
    }
}

impl<T: Record> Operator for FromTable<T> {
    type In = Rows<Changes>;
    type Out = Rows<T>;

    fn process(&mut self, batches: Rows<Changes>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        for changes in batches.records {
            for (record, weight) in self.records(&changes.batch)?.into_iter().zip(0..) {
                for _ in 1..changes.weight(weight) {
                    ctx.emit(record.clone(), None);
                }
                ctx.emit(record, None);
            }
        }
        Ok(Progress::Done)
    }
}

/// Batches to records with what happened to them.
struct FromChanges<T> {
    decode: FromTable<T>,
    key: Option<Vec<usize>>,
}

impl<T: Record> Operator for FromChanges<T> {
    type In = Rows<Changes>;
    type Out = Rows<(ChangeKind, T)>;

    fn process(
        &mut self,
        batches: Rows<Changes>,
        ctx: &mut Context<'_, '_, Rows<(ChangeKind, T)>>,
    ) -> OpResult<Progress> {
        for changes in batches.records {
            let records = self.decode.records(&changes.batch)?;
            for (kind, row) in kinds(&changes, self.key.as_deref())? {
                ctx.emit((kind, records[row].clone()), None);
            }
        }
        Ok(Progress::Done)
    }
}
