//! `hurtig demo`: the flights example on the real data.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Where `scripts/fetch-flights` puts the data.
const DATA_FOLDER: &str = ".cache/nycflights13";

/// Show a live table of the 336,776 flights that left New York in 2013
#[derive(Debug, clap::Args)]
#[command(override_usage = "hurtig demo [--data DIR] [FLAGS] [-- ARGS]")]
pub(crate) struct Args {
    /// Folder with flights.csv and the tables beside it
    #[arg(long, value_name = "DIR", default_value = DATA_FOLDER)]
    data: PathBuf,

    /// Flags that every program takes, such as --parallelism
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

pub(crate) fn run(args: Args, program_args: Option<Vec<OsString>>) -> anyhow::Result<()> {
    check_data(&args.data)?;
    flights(&args.data, args.flags, program_args.unwrap_or_default())
}

fn check_data(folder: &Path) -> Result<(), Failure> {
    let file = folder.join("flights.csv");
    if file.is_file() {
        return Ok(());
    }
    let message = format!("{} does not exist: fetch it with scripts/fetch-flights", file.display());
    Err(Failure { code: 1, message })
}

/// Runs the example: `flags` are the common ones, `program_args` the example's own.
fn flights(data: &Path, flags: Vec<OsString>, program_args: Vec<OsString>) -> anyhow::Result<()> {
    anyhow::bail!(
        "this build has no flights example to run on {} with {} arguments",
        data.display(),
        flags.len() + program_args.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_data_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let failure = check_data(folder.path()).unwrap_err();
        assert!(failure.message.ends_with("flights.csv does not exist: fetch it with scripts/fetch-flights"));
        std::fs::write(folder.path().join("flights.csv"), "").unwrap();
        check_data(folder.path()).unwrap();
    }
}
