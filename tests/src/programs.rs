//! Programs as a shell sees them.

use std::process::{Command, Output};

/// Runs a program that must fail with the exit code, and returns what it said.
///
/// # Panics
/// It does not start, or ends with another code.
pub fn failure(code: i32, command: &mut Command) -> String {
    let Output { status, stderr, .. } =
        command.output().unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert_eq!(status.code(), Some(code), "{status}: {said}");
    said
}

/// Runs a program whose job must fail, and returns what it said: one sentence.
///
/// # Panics
/// It does not start, ends with another code, or says more or less.
pub fn sentence(command: &mut Command) -> String {
    let said = failure(1, command);
    assert!(said.starts_with("error: ") && said.lines().count() == 1, "not one sentence: {said}");
    said
}

/// Checks that all words are in what a program said.
///
/// # Panics
/// Some are not.
pub fn says(said: &str, words: &[&str]) {
    for words in words {
        assert!(said.contains(words), "no '{words}' in: {said}");
    }
}
