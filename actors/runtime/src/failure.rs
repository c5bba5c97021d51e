//! What went wrong in a subtask, told so that a user finds the place.

use hurtig_dataflow::error::{describe, is_fatal};
use hurtig_dataflow::ids::SubtaskId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A failed subtask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failure {
    /// The subtask, if it is one that failed.
    pub subtask: Option<SubtaskId>,
    /// Where: vertex, subtask and operator in words.
    pub place: String,
    /// What.
    pub message: String,
    /// Whether trying again is pointless: the program or its input is at fault in a way that stays.
    pub fatal: bool,
}

impl Failure {
    /// A failure outside any subtask.
    pub fn of(place: &str, message: impl Into<String>) -> Self {
        Failure { subtask: None, place: place.to_string(), message: message.into(), fatal: false }
    }

    /// An error outside any subtask.
    pub fn of_error(place: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        Failure { fatal: is_fatal(error), ..Self::of(place, describe(error)) }
    }

    /// The same, not to be tried again.
    pub fn fatal(mut self) -> Self {
        self.fatal = true;
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

impl std::error::Error for Failure {}
