//! How a verb's error ends the process: one line to the user, and an exit code that scripts can tell apart.

use std::fmt;
use std::io;
use std::process::ExitCode;

use hurtig::config::ConfigError;

/// An error that asks for an exit code of its own; put into an [`anyhow::Error`] as its context or root.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// Tells the user what went wrong, if anything, and gives the exit code documented in `--help`.
pub(crate) fn exit_code(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    let error = match outcome {
        Ok(code) => return code,
        Err(error) => error,
    };
    if is_closed_pipe(&error) {
        // `hurtig config | head` is no failure
        return ExitCode::SUCCESS;
    }
    eprintln!("error: {error:#}");
    ExitCode::from(code_of(&error))
}

fn code_of(error: &anyhow::Error) -> u8 {
    match error.downcast_ref::<Failure>() {
        Some(failure) => failure.code,
        None if error.is::<ConfigError>() => 2,
        None => 1,
    }
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_apart_by_exit_code() {
        let configuration = ConfigError::NotAnAssignment { text: "x".into() };
        assert_eq!(code_of(&configuration.into()), 2);
        assert_eq!(code_of(&Failure { code: 127, message: String::new() }.into()), 127);
        assert_eq!(code_of(&anyhow::anyhow!("the job failed")), 1);
        assert!(is_closed_pipe(&io::Error::from(io::ErrorKind::BrokenPipe).into()));
    }
}
