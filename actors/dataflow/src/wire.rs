//! Batches and the other elements of a channel as bytes, for channels that leave the process.
//!
//! Entry points: [`RowsCodec`], which an edge of the job graph carries as its [`BatchCodec`], and [`element`] for
//! whole elements. A frame of a batch is `version, format, number of rows, event times, rows`; which channel it is for
//! and how long it is are the transport's to say.
//!
//! Rows travel as columns where serde shows their shape, else as MessagePack with named fields. The sender decides:
//! a position of the type that changes its shape from row to row (a field left out by `skip_serializing_if`, a
//! flattened struct, an untagged enum of several kinds, a deep tree) makes it take MessagePack from then on, and so
//! does a batch that shows a new position and cannot be read back. Each frame says what it holds.
//!
//! # Invariants
//! * Reading never panics, whatever the bytes, and allocates no more than the bytes can hold times the size of the
//!   type. A frame is read to its last byte or refused.
//! * Depth is bounded by the shape in columns, and checked on the bytes in MessagePack, before a type sees them.
//! * What an encoder of this module writes, a decoder with the same limits reads.

pub mod batch;
pub mod columns;
pub mod element;
mod error;
mod opaque;
mod rows;
mod times;

pub use batch::{BatchCodec, BatchEncoder, RowsCodec};
pub use error::{DecodeError, EncodeError, Reason};
pub use rows::{RowsEncoder, RowsFormat};

/// What a decoder accepts at most. Both ends of a channel must use the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a batch.
    pub rows: usize,
}

impl Default for Limits {
    /// A million rows.
    fn default() -> Self {
        Limits { rows: 1 << 20 }
    }
}
