//! Example programs. Each module builds one job and is run by the binary of its name:
//! `cargo run --release -p hurtig-examples --bin word_count -- -- books/*.txt`.
//!
//! | program | shows |
//! |---|---|
//! | [`flights`] | the main job: files in, event time, windows, sessions, side outputs, files out exactly once |
//! | [`word_count`] | reading text, keyed counting |
//! | [`session_windows`] | sessions of clicks |
//! | [`stock_alerts`] | a keyed process function with state and timers |
//! | [`actor_api`] | a job fed by an actor that delivers to an actor |
//! | [`enrichment`] | asynchronous look-ups |
//! | [`late_data`] | side outputs and late records |

pub mod actor_api;
pub mod enrichment;
pub mod flights;
pub mod late_data;
pub mod session_windows;
pub mod stock_alerts;
pub mod word_count;

use clap::Parser;
use hurtig::prelude::BoxError;

/// Parses the arguments that follow `--`.
pub(crate) fn parse<A: Parser>(program: &str, args: &[String]) -> Result<A, BoxError> {
    let all = std::iter::once(program).chain(args.iter().map(String::as_str));
    match A::try_parse_from(all) {
        Ok(parsed) => Ok(parsed),
        // Asked for, not wrong: clap prints it and ends the program.
        Err(help) if !help.use_stderr() => help.exit(),
        Err(error) => Err(error.render().to_string().trim_start_matches("error: ").trim_end().into()),
    }
}
