//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("flights", hurtig_examples::flights::build)
}
