//! SQL over tables that end and streams that do not, and the Table API beside it.
//!
//! A stream and a table are the same thing seen twice: a table is what a stream of changes adds up to. A
//! [`TableEnvironment`] holds a catalog and takes statements; queries and INSERTs become operations of an
//! [`Environment`](hurtig_datastream::Environment), as DataStream programs do, and share checkpoints, state and
//! rescaling with them.
//!
//! ```
//! use hurtig_datastream::Environment;
//! use hurtig_sql::{Outcome, TableEnvironment};
//!
//! let env = Environment::new();
//! let tables = TableEnvironment::new(&env);
//! let outcomes = tables.execute_script(
//!     "CREATE TABLE clicks (user_id BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at - INTERVAL '5' SECOND)
//!      WITH ('connector' = 'datagen', 'number-of-rows' = '100');
//!      SELECT user_id, window_start, COUNT(*) AS clicks
//!      FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE))
//!      GROUP BY user_id, window_start, window_end",
//! )?;
//! let Some(Outcome::Query(query)) = outcomes.into_iter().next_back() else { panic!("a query") };
//! let results = query.collect()?;
//! // … once the job of `env` has run, `results.take_table()` has the rows.
//! # drop(results);
//! # Ok::<(), hurtig_sql::SqlError>(())
//! ```
//!
//! The way of a statement: [`parse`] makes statements of text, [`catalog`] knows the names, [`plan`] makes a tree of our
//! operators of a query, [`graph`] adds it to the job, [`operators`] run. Tables are read and written by [`connector`]s.
//!
//! # Invariants
//! * DataFusion plans and computes expressions; it is named in this crate alone, and nothing of it goes over the wire, into
//!   savepoints, or into what users call.
//! * Every operator takes rows with weights, of which those below zero take rows away, in any order, but for what only
//!   ever gets rows added by its plan.
//! * All state is declared; rows in it have a form of our own ([`rows`]), which outlives versions of Arrow.
//! * No operator reads a clock: what expressions take for the time of the machine is the context's.
//!
//! # Decisions
//! * 2026-11: weights are `i64` beside the batch, not a column of it: joins multiply them, and expressions must not see them.
//! * 2026-11: batches travel through sources and sinks as records of streams, one batch a record, so that splits, positions,
//!   watermarks per split and two-phase commits are those of all sources and sinks.
//! * 2026-11: watermarks are made in the source, of each split, by the expression of WATERMARK FOR over the columns that it
//!   reads; the plan only marks the column. Filters may so be computed before event time is, without changing it.
//! * 2026-11: rows and keys in state are written by our own code, not by Arrow's row format, which may change with each
//!   version, and savepoints may not.
//! * 2026-11: a batch's rows are brought together by key before state is looked up, so that a key costs one look-up and at
//!   most two rows of output per batch.

mod bridge;
mod catalog;
pub mod changes;
pub mod connector;
mod connectors;
mod error;
mod expression;
mod functions;
mod graph;
mod operators;
mod parse;
mod plan;
mod rows;
mod table;
mod tables;
mod types;
mod value;

pub use arrow;
pub use changes::Changes;
pub use connectors::{BatchOfKinds, TableCollector, TextRow};
pub use error::{ErrorKind, Position, SqlError};
pub use expression::{Expression, col, lit};
pub use parse::split_statements;
pub use table::{GroupedTable, Table};
pub use tables::{Outcome, TableEnvironment};
