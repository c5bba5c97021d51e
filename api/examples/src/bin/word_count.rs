//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("word count", hurtig_examples::word_count::build)
}
