//! The `hurtig` binary: see the library of this crate.

use std::process::ExitCode;

fn main() -> ExitCode {
    hurtig_cli::main_with_args(std::env::args_os())
}
