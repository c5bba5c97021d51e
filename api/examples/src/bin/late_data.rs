//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("late data", hurtig_examples::late_data::build)
}
