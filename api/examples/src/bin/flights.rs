//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig_examples::flights::run(std::env::args_os())
}
