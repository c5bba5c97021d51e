//! Runs the example of this name; see its module.

fn main() -> std::process::ExitCode {
    hurtig::run("stock alerts", hurtig_examples::stock_alerts::build)
}
