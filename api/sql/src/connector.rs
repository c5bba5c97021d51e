//! How tables join: a [`Connector`] makes sources and sinks of what `CREATE TABLE … WITH ('connector' = '…')` says.

use crate::changes::Changes;
use crate::error::{SqlError, nearest};
use arrow::datatypes::SchemaRef;
use hurtig_dataflow::OpResult;
use hurtig_dataflow::graph::{CommitterFactory, NodeId, OperatorFactory};
use hurtig_dataflow::operator::{Place, erase};
use hurtig_dataflow::sink::{Sink, SinkOperator};
use hurtig_dataflow::source::{Assignment, Polled, Source, SourceFactory, erase_source};
use hurtig_dataflow::watermark::WatermarkStrategy;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

/// A table as `CREATE TABLE` describes it.
#[derive(Clone, Debug)]
pub struct TableDefinition {
    /// Its name.
    pub name: String,
    /// Columns that the connector reads and writes; computed ones are not among them.
    pub schema: SchemaRef,
    /// What `WITH` says, beside `connector`.
    pub options: TableOptions,
    /// Columns of `PRIMARY KEY … NOT ENFORCED`.
    pub primary_key: Vec<String>,
    /// Columns of `PARTITIONED BY`.
    pub partitioned_by: Vec<String>,
    /// Whether the job is to end: a source that could go on for ever ends at what is there now, if it can.
    pub is_bounded: bool,
}

/// Reads a connector's tables and writes them. One instance serves all of its tables.
pub trait Connector: Send + Sync {
    /// The name in `'connector' = '…'`.
    fn name(&self) -> &'static str;

    /// The options that its tables take.
    fn options(&self) -> &'static [&'static str];

    /// Whether the table's source only ever adds rows.
    fn is_append_only(&self, table: &TableDefinition) -> bool {
        let _ = table;
        true
    }

    /// Makes a source of a table.
    ///
    /// # Errors
    /// Options that are missing or wrong, or a table that can only be written.
    fn scan(&self, table: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        let _ = request;
        Err(SqlError::connector(format!("table '{}' can only be written to", table.name))
            .with_hint(format!("tables of connector '{}' have no source", self.name())))
    }

    /// Makes a sink of a table.
    ///
    /// # Errors
    /// Options that are missing or wrong, or a table that can only be read.
    fn sink(&self, table: &TableDefinition, input: SinkInput) -> Result<TableSink, SqlError> {
        let _ = input;
        Err(SqlError::connector(format!("table '{}' can only be read", table.name))
            .with_hint(format!("tables of connector '{}' have no sink", self.name())))
    }
}

/// What of a table a query wants.
pub struct ScanRequest {
    /// Columns, as indices into the table's schema, in the order in which batches are to have them.
    pub columns: Vec<usize>,
    /// Event time. Hand it to [`Scan::of`].
    pub watermarks: WatermarkStrategy<Changes>,
}

/// Reads all that there is of a table, for one subtask.
pub type ReadAll = Arc<dyn Fn(&Place) -> OpResult<Vec<Changes>> + Send + Sync>;

/// How a table is read.
pub struct Scan {
    /// Where batches come from.
    pub(crate) input: ScanInput,
    /// Largest number of subtasks that may read it.
    pub max_subtasks: Option<usize>,
    /// Reads the whole table at once, where it ends.
    pub read_all: Option<ReadAll>,
}

impl Scan {
    /// A table that is read by a source of batches.
    pub fn of<S: Source<Out = Changes> + Clone>(source: S, request: ScanRequest) -> Self {
        let all = source.clone();
        let read_all: Option<ReadAll> =
            source.is_bounded().then(|| Arc::new(move |place: &Place| read_all(&all, place)) as ReadAll);
        let input = ScanInput::Source(erase_source(source, request.watermarks));
        Scan { input, max_subtasks: None, read_all }
    }

    /// A table whose batches an operation of the job puts out, as records, with all of the table's columns.
    pub(crate) fn of_node(node: NodeId, columns: Vec<usize>) -> Self {
        Scan { input: ScanInput::Node { node, columns }, max_subtasks: None, read_all: None }
    }

    /// Says how many subtasks may read at most.
    pub fn with_max_subtasks(mut self, most: usize) -> Self {
        self.max_subtasks = Some(most);
        self
    }
}

/// Where a table's batches come from.
#[derive(Clone)]
pub(crate) enum ScanInput {
    /// A source.
    Source(Arc<dyn SourceFactory>),
    /// An operation of the job; of its columns these are wanted.
    Node { node: NodeId, columns: Vec<usize> },
}

/// Batches read at most at a time by [`read_all`].
const ROWS: usize = 8192;

fn read_all<S: Source<Out = Changes>>(source: &S, place: &Place) -> OpResult<Vec<Changes>> {
    let mut enumerator = source.enumerator(None)?;
    let mut all = Vec::new();
    while let Assignment::Splits(splits) = enumerator.next(0, 1)? {
        for split in splits {
            let mut reader = source.open(split, place)?;
            while let Polled::Rows(rows) = reader.poll(ROWS, 0)? {
                all.extend(rows.records);
            }
        }
    }
    Ok(all)
}

/// What comes to a sink.
#[derive(Clone, Debug)]
pub struct SinkInput {
    /// Whether rows are only ever added.
    pub is_append_only: bool,
    /// Columns that tell rows apart, if some do: no two rows that are there at one time have equal values in them.
    pub key: Option<Vec<usize>>,
}

/// How a table is written.
#[derive(Clone)]
pub struct TableSink {
    /// Makes the operator that writes.
    pub operator: OperatorFactory,
    /// Makes what publishes in two phases.
    pub committer: CommitterFactory,
    /// Largest number of subtasks that may write it.
    pub max_subtasks: Option<usize>,
}

impl TableSink {
    /// A table that is written by a sink of batches.
    pub fn of<S: Sink<In = Changes>>(sink: S) -> Self {
        let sink = Arc::new(sink);
        let committers = Arc::clone(&sink);
        TableSink {
            operator: Arc::new(move || erase(SinkOperator::new(Arc::clone(&sink)))),
            committer: Arc::new(move || committers.committer()),
            max_subtasks: None,
        }
    }

    /// Says how many subtasks may write at most.
    pub fn with_max_subtasks(mut self, most: usize) -> Self {
        self.max_subtasks = Some(most);
        self
    }
}

/// The options of a table, by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableOptions(BTreeMap<String, String>);

impl TableOptions {
    /// Options by name.
    pub fn new(options: impl IntoIterator<Item = (String, String)>) -> Self {
        TableOptions(options.into_iter().collect())
    }

    /// The text of an option.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// All of them, in order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The text of an option that must be there.
    ///
    /// # Errors
    /// It is not.
    pub fn required(&self, name: &str) -> Result<&str, SqlError> {
        self.get(name).ok_or_else(|| {
            SqlError::connector(format!("option '{name}' is missing"))
                .with_hint(format!("add '{name}' = '…'"))
        })
    }

    /// An option as a number or a truth value.
    ///
    /// # Errors
    /// The text is none.
    pub fn parse<T: FromStr>(&self, name: &str) -> Result<Option<T>, SqlError> {
        let parsed = |text: &str| {
            text.trim().parse().map_err(|_| {
                SqlError::connector(format!("option '{name}' cannot be '{text}'"))
                    .with_hint(format!("it takes a value of type {}", type_in_words::<T>()))
            })
        };
        self.get(name).map(parsed).transpose()
    }

    /// An option as a length of time, such as `5 s`, `100ms` or `1 min`.
    ///
    /// # Errors
    /// The text is none.
    pub fn duration(&self, name: &str) -> Result<Option<Duration>, SqlError> {
        let Some(text) = self.get(name) else { return Ok(None) };
        let wrong = || {
            SqlError::connector(format!("option '{name}' cannot be '{text}'"))
                .with_hint("it takes a number and a unit: ms, s, min, h, d")
        };
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
        let unit = match text[digits..].trim() {
            "ms" | "milli" | "millis" => 1,
            "" | "s" | "sec" | "second" | "seconds" => 1_000,
            "min" | "m" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            _ => return Err(wrong()),
        };
        Ok(Some(Duration::from_millis(number.checked_mul(unit).ok_or_else(wrong)?)))
    }

    /// Refuses options that are not among the given ones. A name that ends in `*` stands for all that begin so.
    pub(crate) fn check_known(&self, connector: &str, known: &[&'static str]) -> Result<(), SqlError> {
        for (name, _) in self.iter() {
            let is_known = known.iter().any(|known| match known.strip_suffix('*') {
                Some(prefix) => name.starts_with(prefix),
                None => name == *known,
            });
            if !is_known {
                let hint = match nearest(name, known.iter().copied()) {
                    Some(other) => format!("did you mean '{other}'?"),
                    None => format!("it takes: {}", known.join(", ")),
                };
                let message = format!("connector '{connector}' has no option '{name}'");
                return Err(SqlError::connector(message).with_hint(hint));
            }
        }
        Ok(())
    }
}

fn type_in_words<T>() -> &'static str {
    match std::any::type_name::<T>() {
        "bool" => "true or false",
        "f64" | "f32" => "number",
        "char" => "single character",
        _ => "whole number",
    }
}

/// What happened to a row, as Flink names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeKind {
    /// `+I`
    Insert,
    /// `-U`
    UpdateBefore,
    /// `+U`
    UpdateAfter,
    /// `-D`
    Delete,
}

impl ChangeKind {
    /// `+I`, `-U`, `+U` or `-D`.
    pub fn symbol(self) -> &'static str {
        match self {
            ChangeKind::Insert => "+I",
            ChangeKind::UpdateBefore => "-U",
            ChangeKind::UpdateAfter => "+U",
            ChangeKind::Delete => "-D",
        }
    }
}
