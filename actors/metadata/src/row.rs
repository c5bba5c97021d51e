//! Between Rust's types and those of rows, with the bounds of what is kept.

use crate::error::Error;
use hurtig_dataflow::ids::{Attempt, JobId};
use rusqlite::Row;
use rusqlite::types::{FromSqlError, Type};
use std::error::Error as StdError;

/// Most bytes of a name, a state, a holder.
pub(crate) const NAME_BYTES: usize = 4 * 1024;
/// Most bytes of a failure; what is longer is cut, since a failure must be told.
pub(crate) const FAILURE_BYTES: usize = 64 * 1024;
/// Most bytes of a job's arguments, and of its configuration.
pub(crate) const SETTINGS_BYTES: usize = 1024 * 1024;
/// Most bytes of a job graph.
pub(crate) const GRAPH_BYTES: usize = 16 * 1024 * 1024;

/// Refuses text that is longer than what is kept.
pub(crate) fn bounded<'a>(what: &'static str, text: &'a str, limit: usize) -> Result<&'a str, Error> {
    match text.len() {
        size if size > limit => Err(Error::TooLarge { what, size: size as u64, limit: limit as u64 }),
        _ => Ok(text),
    }
}

/// Cuts text to what is kept.
pub(crate) fn cut(text: &str, limit: usize) -> &str {
    &text[..text.floor_char_boundary(limit)]
}

/// A number as SQLite has them.
pub(crate) fn signed(what: &'static str, number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::TooLarge { what, size: number, limit: i64::MAX as u64 })
}

/// A column that holds a number of ours.
pub(crate) fn unsigned(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    u64::try_from(number).map_err(|_| damaged(column, FromSqlError::OutOfRange(number)))
}

/// A column that holds an attempt.
pub(crate) fn attempt(row: &Row<'_>, column: &str) -> rusqlite::Result<Attempt> {
    row.get(column).map(Attempt)
}

/// A column that holds a job's id.
pub(crate) fn job_id(row: &Row<'_>, column: &str) -> rusqlite::Result<JobId> {
    let text: String = row.get(column)?;
    let id = u128::from_str_radix(&text, 16).map(JobId).map_err(|error| damaged(column, error))?;
    // Every id has one spelling.
    if id.to_string() == text { Ok(id) } else { Err(damaged(column, FromSqlError::InvalidType)) }
}

/// A column that holds another type as text.
pub(crate) fn parsed<T, E>(
    row: &Row<'_>,
    column: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> rusqlite::Result<T>
where
    E: StdError + Send + Sync + 'static,
{
    let text: String = row.get(column)?;
    parse(&text).map_err(|error| damaged(column, error))
}

fn damaged(column: &str, error: impl StdError + Send + Sync + 'static) -> rusqlite::Error {
    let error = format!("column {column}: {error}").into();
    rusqlite::Error::FromSqlConversionFailure(0, Type::Text, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters() {
        assert_eq!(cut("grün", 3), "gr");
        assert_eq!(cut("grün", 4), "grü");
        assert_eq!(cut("grün", 99), "grün");
    }
}
