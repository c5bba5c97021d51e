//! The `hurtig` command, for tests that start clusters.

use std::process::ExitCode;

fn main() -> ExitCode {
    hurtig_cli::main_with_args(std::env::args_os())
}
