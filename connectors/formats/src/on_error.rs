//! What happens to input that does not parse.

use crate::error::Error;
use hurtig_dataflow::error::Fatal;
use hurtig_dataflow::{OpResult, Record};
use serde::{Deserialize, Serialize};
use std::fmt;

/// A line of the input that does not parse.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadLine {
    /// The file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: u64,
    /// Column from 1: of fields where the format has fields, else of bytes. 0 where there is none.
    pub column: u64,
    /// The field's name, if it has one.
    pub field: Option<String>,
    /// The line, with U+FFFD for what is not UTF-8.
    pub text: String,
    /// What is wrong with it.
    pub reason: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file, self.line)?;
        if self.column > 0 {
            write!(f, " column {}", self.column)?;
        }
        if let Some(field) = &self.field {
            write!(f, " ({field})")?;
        }
        write!(f, ": {}", self.reason)
    }
}

/// What happens to input that does not parse: [`Fail`], [`Skip`] or [`SideOutput`].
pub trait OnError: Clone + Send + Sync + 'static {
    /// What the stream carries where the format makes `T`.
    type Out<T: Record>: Record;

    /// Moves records that parsed to the end of `out`.
    fn good<T: Record>(records: &mut Vec<T>, out: &mut Vec<Self::Out<T>>);

    /// What to put out for a line that did not parse, if anything.
    ///
    /// # Errors
    /// The job is to fail.
    fn bad<T: Record>(bad: impl FnOnce() -> OpResult<BadLine>) -> OpResult<Option<Self::Out<T>>>;
}

/// The job fails, with file, line and column. The default.
#[derive(Debug, Clone, Copy, Default)]
pub struct Fail;

/// The line is dropped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Skip;

/// The stream carries `Result<T, BadLine>`, from which bad lines can be taken into a stream of their own.
#[derive(Debug, Clone, Copy, Default)]
pub struct SideOutput;

impl OnError for Fail {
    type Out<T: Record> = T;

    fn good<T: Record>(records: &mut Vec<T>, out: &mut Vec<T>) {
        append(records, out);
    }

    fn bad<T: Record>(bad: impl FnOnce() -> OpResult<BadLine>) -> OpResult<Option<T>> {
        Err(Fatal(Error::BadLine(bad()?).into()).into())
    }
}

impl OnError for Skip {
    type Out<T: Record> = T;

    fn good<T: Record>(records: &mut Vec<T>, out: &mut Vec<T>) {
        append(records, out);
    }

    fn bad<T: Record>(_: impl FnOnce() -> OpResult<BadLine>) -> OpResult<Option<T>> {
        Ok(None)
    }
}

impl OnError for SideOutput {
    type Out<T: Record> = Result<T, BadLine>;

    fn good<T: Record>(records: &mut Vec<T>, out: &mut Vec<Self::Out<T>>) {
        out.extend(records.drain(..).map(Ok));
    }

    fn bad<T: Record>(bad: impl FnOnce() -> OpResult<BadLine>) -> OpResult<Option<Self::Out<T>>> {
        Ok(Some(Err(bad()?)))
    }
}

fn append<T>(records: &mut Vec<T>, out: &mut Vec<T>) {
    if out.is_empty() {
        std::mem::swap(records, out);
    } else {
        out.append(records);
    }
}
