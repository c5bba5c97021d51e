//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("enrichment", hurtig_examples::enrichment::build)
}
