//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("session windows", hurtig_examples::session_windows::build)
}
