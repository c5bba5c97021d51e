//! What can go wrong on the way to bytes and back.

use crate::error::BoxError;
use std::fmt;
use thiserror::Error as ThisError;

/// A batch that cannot be sent.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum EncodeError {
    /// The type's own `Serialize` refused a value.
    #[error("a record of type {type_name} cannot be serialised")]
    Serialize {
        /// The record's Rust type.
        type_name: &'static str,
        /// What it said.
        #[source]
        source: BoxError,
    },
    /// The type's `Deserialize` does not read what its `Serialize` writes.
    #[error(
        "a record of type {type_name} cannot be read back from what it was written as: make its Serialize and Deserialize fit each other"
    )]
    Unreadable {
        /// The record's Rust type.
        type_name: &'static str,
        /// What reading said.
        #[source]
        source: DecodeError,
    },
    /// A value nested deeper than the other end accepts.
    #[error(
        "a record of type {type_name} is nested deeper than {limit} levels: make it flat, for instance a list with indices"
    )]
    TooDeep {
        /// The record's Rust type.
        type_name: &'static str,
        /// The most the other end accepts.
        limit: usize,
    },
    /// More rows than the other end accepts.
    #[error("a batch of {rows} records is above the limit of {limit}: split it")]
    TooManyRows {
        /// Records of the batch.
        rows: usize,
        /// The most the other end accepts.
        limit: usize,
    },
    /// A batch some of whose records have an event time.
    #[error("a batch of {rows} records carries {times} event times: give a time to all or to none")]
    Times {
        /// Records of the batch.
        rows: usize,
        /// Event times of the batch.
        times: usize,
    },
    /// A batch of another type than the edge carries: a defect of the graph's builder.
    #[error("expected a batch of {expected}, found {found}")]
    BatchType {
        /// The type of the edge.
        expected: &'static str,
        /// The type that came.
        found: &'static str,
    },
}

/// Why bytes are refused.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
#[non_exhaustive]
pub enum Reason {
    /// Written by another version.
    #[error("version {0} is unknown: run the same program on both ends")]
    Version(u8),
    /// A tag or flag that does not exist.
    #[error("unknown {what} {value}")]
    Tag {
        /// What the tag is of.
        what: &'static str,
        /// Its value.
        value: u32,
    },
    /// The bytes end early.
    #[error("the bytes end early")]
    Truncated,
    /// Bytes follow the end.
    #[error("{0} bytes are left over")]
    Trailing(usize),
    /// More rows than accepted.
    #[error("{rows} rows are above the limit of {limit}")]
    TooManyRows {
        /// Rows announced.
        rows: usize,
        /// The limit.
        limit: usize,
    },
    /// More elements announced than bytes are left for.
    #[error("{0} elements are announced, more than the bytes can hold")]
    TooLong(usize),
    /// A shape of more positions than accepted.
    #[error("more than {0} columns")]
    TooManyColumns(usize),
    /// A shape that is nested deeper than accepted.
    #[error("nested deeper than {0} levels")]
    TooDeep(usize),
    /// A string that is not UTF-8.
    #[error("a string is not UTF-8")]
    NotUtf8,
    /// A number that is no character.
    #[error("{0:#x} is no character")]
    NotChar(u32),
    /// An event time out of range.
    #[error("an event time is out of range")]
    Time,
    /// The record's type does not fit what was written.
    #[error("{0}")]
    Type(String),
}

/// Bytes that cannot be read, and where.
#[derive(Debug)]
pub struct DecodeError(Box<Place>);

#[derive(Debug)]
struct Place {
    reason: Reason,
    offset: Option<usize>,
    path: String,
    row: Option<usize>,
}

impl DecodeError {
    /// An error at a byte of the frame.
    #[cold]
    pub fn at(reason: Reason, offset: usize) -> Self {
        DecodeError(Box::new(Place { reason, offset: Some(offset), path: String::new(), row: None }))
    }

    /// Whether the place is known.
    pub(crate) fn is_placed(&self) -> bool {
        self.0.offset.is_some()
    }

    /// Gives an error that has none its place.
    pub(crate) fn place(&mut self, offset: usize, path: String) {
        self.0.offset = Some(offset);
        self.0.path = path;
    }

    /// Says in which row, counted from 0.
    pub(crate) fn in_row(mut self, row: usize) -> Self {
        self.0.row = Some(row);
        self
    }

    /// Why.
    pub fn reason(&self) -> &Reason {
        &self.0.reason
    }

    /// Byte of the frame at which reading stopped.
    pub fn offset(&self) -> usize {
        self.0.offset.unwrap_or_default()
    }

    /// Row that was read, counted from 0, if it came to that.
    pub fn row(&self) -> Option<usize> {
        self.0.row
    }

    /// Column that was read, as `row.field[].field`; empty outside columns.
    pub fn path(&self) -> &str {
        &self.0.path
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = &self.0;
        write!(f, "{}", place.reason)?;
        if !place.path.is_empty() {
            write!(f, " in {}", place.path)?;
        }
        if let Some(row) = place.row {
            write!(f, " (row {row})")?;
        }
        match place.offset {
            Some(offset) => write!(f, " at byte {offset}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

impl serde::de::Error for DecodeError {
    #[cold]
    fn custom<T: fmt::Display>(message: T) -> Self {
        DecodeError(Box::new(Place {
            reason: Reason::Type(message.to_string()),
            offset: None,
            path: String::new(),
            row: None,
        }))
    }
}
