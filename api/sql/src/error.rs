//! What can go wrong with a statement.

use datafusion_common::DataFusionError;
use std::fmt;
use thiserror::Error;

/// Whose fault an error is, which is what a caller acts on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The statement does not parse.
    Syntax,
    /// The statement names what does not exist, or mixes types that do not fit.
    Statement,
    /// The statement is legal SQL that hurtig cannot run.
    Unsupported,
    /// A table's options are wrong, or its data cannot be reached.
    Connector,
}

/// A place in a statement's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// A statement that cannot be run, and why.
#[derive(Debug, Error)]
pub struct SqlError {
    kind: ErrorKind,
    message: String,
    position: Option<Position>,
    /// The line that the position is in.
    line: Option<String>,
    hint: Option<String>,
}

impl SqlError {
    /// An error without a place.
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        SqlError { kind, message: message.into(), position: None, line: None, hint: None }
    }

    pub(crate) fn statement(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Statement, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn connector(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Connector, message)
    }

    /// Says what to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint.get_or_insert(hint.into());
        self
    }

    /// Says where it is.
    pub(crate) fn at(mut self, position: Position) -> Self {
        self.position.get_or_insert(position);
        self
    }

    /// Shows the line that it is in.
    pub(crate) fn in_text(mut self, sql: &str) -> Self {
        if let Some(position) = self.position
            && self.line.is_none()
        {
            self.line = sql.lines().nth(position.line.saturating_sub(1) as usize).map(str::to_string);
        }
        self
    }

    /// Whose fault it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// Where in the text it is, if that is known.
    pub fn position(&self) -> Option<Position> {
        self.position
    }
}

/// `error at line 2, column 8: …`, the line with a mark below it, and a hint.
impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Position { line, column }) = self.position {
            write!(f, "line {line}, column {column}: ")?;
        }
        f.write_str(&self.message)?;
        if let (Some(Position { column, .. }), Some(line)) = (self.position, &self.line) {
            // Long lines are shown around the place.
            let place = (column.saturating_sub(1) as usize).min(line.chars().count());
            let from = place.saturating_sub(60);
            let shown: String = line.chars().skip(from).take(120).collect();
            let shown = shown.replace('\t', " ");
            write!(f, "\n  {shown}\n  {}^", " ".repeat(place - from))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n{hint}")?;
        }
        Ok(())
    }
}

impl From<DataFusionError> for SqlError {
    fn from(error: DataFusionError) -> Self {
        let kind = match error.find_root() {
            DataFusionError::NotImplemented(_) => ErrorKind::Unsupported,
            DataFusionError::SQL(..) => ErrorKind::Syntax,
            _ => ErrorKind::Statement,
        };
        let position = error
            .diagnostic()
            .and_then(|diagnostic| diagnostic.span)
            .map(|span| Position { line: span.start.line, column: span.start.column });
        let text = error.strip_backtrace();
        let text = ["Error during planning: ", "This feature is not implemented: ", "Schema error: "]
            .iter()
            .fold(text.as_str(), |text, prefix| text.strip_prefix(prefix).unwrap_or(text));
        let error = SqlError::new(kind, text);
        match position.filter(|position| position.line > 0) {
            Some(position) => error.at(position),
            None => error,
        }
    }
}

impl From<arrow::error::ArrowError> for SqlError {
    fn from(error: arrow::error::ArrowError) -> Self {
        SqlError::statement(error.to_string())
    }
}

/// The name among `known` that is most like `name`, if one is.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |other: &&str| strsim::jaro_winkler(&name.to_lowercase(), &other.to_lowercase());
    let scored = known.into_iter().map(|other| (likeness(&other), other));
    scored.filter(|(score, _)| *score > 0.8).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}
