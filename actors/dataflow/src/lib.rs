//! The vocabulary of hurtig: batches of records, stream elements, operators, sources, sinks, state handles
//! and the job graph. Nothing here knows of actors, threads, clocks or files, so an operator written against
//! this crate runs the same in a cluster, in one process, and in a test.
//!
//! Entry points: [`Operator`](operator::Operator), [`Source`](source::Source), [`Sink`](sink::Sink),
//! [`StreamGraph`](graph::StreamGraph), and [`harness`] to test an operator across a restore.
//!
//! # Invariants
//! * Nothing in this crate reads a clock, spawns, or does I/O.
//! * Operators are called from one thread at a time and never wait.
//! * All state is registered in a [`StateStore`](state::StateStore), so that the runtime can snapshot it
//!   without the operator's help.
//!
//! # Decisions
//! * 2026-11: typed state tables live here, not beside the snapshot files: they are generic over the user's
//!   types and so are compiled where operators are; files and stores see bytes per key group only.
//! * 2026-11: which rows have changed is known by a bit per place of the table, put aside at a barrier, rather than by an
//!   epoch in each row and a list of those that are dirty: a quarter of a byte a row instead of eight to twelve, and
//!   nothing to put aside row by row at a barrier. Tables grow by our own hand, so that the bits move along.
//! * 2026-11: keys that are removed are noted as bytes, not as keys: forgetting a million of them takes no time.
//! * 2026-11: rows that memory has no room for go to a [`ColdStore`](state::ColdStore) that the runtime hands in, and a row is
//!   in memory or there, never in both: what it costs to delete it there when it comes back is less than to tell copies
//!   apart. It is read while the operator waits: the store's own cache, and the system's, make that some microseconds.
//! * 2026-11: a failing store does not make each access to state fallible: what was read after it failed is thrown away
//!   with the operator's output, by a look at the store between two calls.
//! * 2026-11: a key is hashed by walking it with serde into a frozen hash function instead of by
//!   [`std::hash::Hash`], whose output the standard library may change: a savepoint outlives a compiler.
//! * 2026-11: bytes of a key are hashed in three cases by length, and a loop apart: 5.8 instead of 7.6 ns for a word. Refused:
//!   one case for all lengths by a load of 16 bytes under a mask: 6.0, but 19 where the key was copied just before, for a
//!   processor cannot hand on in one load what was stored in several. Strings of 16 bytes that are compared as one number,
//!   made with such a load, took 44 ns a counted word instead of 38 with strings of 24.
//! * 2026-11: rows travel as columns gathered through serde, with names, not as MessagePack: 1.4 to 1.8 times the rows
//!   a second written, 1.3 to 2.1 times read. Columns being written are a tree of boxed slices: indices into one list
//!   cost up to two thirds more time. Variants are read by name, not number: the two traits may count them differently.

pub mod batch;
pub mod chain;
pub mod element;
pub mod error;
pub mod graph;
pub mod harness;
pub mod ids;
pub mod key;
pub mod operator;
pub mod panics;
pub mod partition;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod time;
pub mod watermark;
pub mod wire;

pub use batch::{AnyBatch, Batch, Record, Rows};
pub use element::{Barrier, Element};
pub use error::{BoxError, Error, OpResult};
pub use key::{Key, KeyGroupRange};
pub use time::Timestamp;
