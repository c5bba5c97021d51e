//! `hurtig demo`: the flights example on the real data, with a live table, and files that appear while it runs.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use hurtig_examples::flights;

use crate::failure::Failure;
use crate::table::{Column, Table};

/// Where `scripts/fetch-flights` puts the data.
const DATA_FOLDER: &str = ".cache/nycflights13";

/// Result folders of the example and what a row of each is.
const RESULTS: [(&str, &str); 5] = [
    ("hourly", "delays per airport and hour"),
    ("rushes", "5 or more departures close on each other"),
    ("worst", "carriers with the largest mean delay"),
    ("cancelled", "flights that never left"),
    ("late", "flights too late for their hour"),
];

/// Show a live table of the 336,776 flights of 2013 from New York, and write the results to files
///
/// The job takes a checkpoint each second; with each, the files of the results so far appear.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hurtig demo [--data DIR] [--out DIR] [--rate N] [FLAGS] [-- ARGS]",
    args_override_self = true,
    after_help = "FLAGS are those every program takes, such as --parallelism 2; ARGS are the flights example's own."
)]
pub(crate) struct Args {
    /// Folder that scripts/fetch-flights has made
    #[arg(long, value_name = "DIR", default_value = DATA_FOLDER)]
    data: PathBuf,

    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "flights-out")]
    out: PathBuf,

    /// Flights read per second; 0 reads as fast as it goes
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    rate: u64,

    /// Flags that every program takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

pub(crate) fn run(args: Args, program_args: Option<Vec<OsString>>) -> anyhow::Result<ExitCode> {
    let is_help = args.flags.iter().any(|flag| flag == "--help" || flag == "-h");
    let line = command_line(&args, program_args.unwrap_or_default());
    let own = line.iter().skip_while(|arg| *arg != "--").skip(1);
    // What is wrong with the example's own arguments it says itself, when it runs.
    let options = flights::Options::try_parse_from(std::iter::once(&"flights".into()).chain(own)).ok();
    let Some(options) = options.filter(|_| !is_help) else { return Ok(flights::run(line)) };

    check_data(&options.data)?;
    let before = part_files(&options.out)?;
    let pace = match options.rate {
        0 => "flights".to_owned(),
        rate => format!("{rate} flights a second"),
    };
    println!("Reading {pace} from {}; Ctrl-C ends it.\n", options.data.display());
    let code = flights::run(line);
    print!("{}", results(&options.out, &before)?);
    Ok(code)
}

/// What the example is run with: what the demo wants first, so that what the user wants overrides it.
fn command_line(args: &Args, program_args: Vec<OsString>) -> Vec<OsString> {
    let is_quiet = args.flags.iter().any(|flag| flag == "--quiet" || flag == "-q");
    let mut line: Vec<OsString> = vec!["flights".into(), "-Dcheckpoint.interval=1s".into()];
    // Who watches wants to be told of a failure that stays, not to wait for restart after restart.
    line.push("-Drestart.strategy=fixed-delay".into());
    if !is_quiet {
        // The table shows how far the job is.
        line.push("--quiet".into());
    }
    line.extend(args.flags.iter().cloned());
    line.push("--".into());
    line.extend(["--data".into(), args.data.join("months").into()]);
    line.extend(["--out".into(), args.out.clone().into(), format!("--rate={}", args.rate).into()]);
    if !is_quiet {
        line.push("--live".into());
    }
    line.extend(program_args);
    line
}

fn check_data(folder: &Path) -> Result<(), Failure> {
    let files = std::fs::read_dir(folder).into_iter().flatten().flatten();
    if files.into_iter().any(|file| has_ending(&file.path(), "csv")) {
        return Ok(());
    }
    let message = format!(
        "{} with a file of each month does not exist: fetch it with scripts/fetch-flights",
        folder.display()
    );
    Err(Failure { code: 1, message })
}

fn has_ending(path: &Path, ending: &str) -> bool {
    path.extension().is_some_and(|extension| extension == ending)
}

/// Published part files of all results. What is not published has a name that begins with a dot.
fn part_files(out: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut files = BTreeSet::new();
    for (folder, _) in RESULTS {
        let listing = match std::fs::read_dir(out.join(folder)) {
            Ok(listing) => listing,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for file in listing {
            let path = file?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("part-") && name.ends_with(".csv") {
                files.insert(path);
            }
        }
    }
    Ok(files)
}

/// Where the results of this run are and how many rows each has; `before` are the files of earlier runs.
fn results(out: &Path, before: &BTreeSet<PathBuf>) -> io::Result<String> {
    let files: Vec<PathBuf> = part_files(out)?.difference(before).cloned().collect();
    if files.is_empty() {
        return Ok(format!("\nNo results were published in {}.\n", out.display()));
    }
    let mut table = Table::new(vec![
        Column::fixed("FOLDER"),
        Column::fixed("ROWS"),
        Column::fixed("FILES"),
        Column::fixed("A ROW IS"),
    ]);
    for (folder, meaning) in RESULTS {
        let folder = out.join(folder);
        let own: Vec<&PathBuf> = files.iter().filter(|file| file.starts_with(&folder)).collect();
        let mut rows = 0;
        for file in &own {
            rows += rows_of(file)?;
        }
        let (rows, count) = (format!("{rows:>6}"), format!("{:>5}", own.len()));
        table.row([folder.display().to_string().as_str(), &rows, &count, meaning]);
    }
    let mut text = format!("\nResults, each row written once:\n{}", table.render(usize::MAX));
    if !before.is_empty() {
        text.push_str(&format!("Files of earlier runs lie beside them: {} in all.\n", before.len()));
    }
    Ok(text)
}

/// Lines but for the header.
fn rows_of(file: &Path) -> io::Result<usize> {
    let mut lines = BufReader::new(std::fs::File::open(file)?).lines();
    lines.try_fold(0_usize, |count, line| line.map(|_| count + 1)).map(|count| count.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(flags: &[&str]) -> Args {
        let flags = flags.iter().map(Into::into).collect();
        Args { data: "data".into(), out: "out".into(), rate: 5, flags }
    }

    #[test]
    fn missing_data_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let months = folder.path().join("months");
        let failure = check_data(&months).unwrap_err();
        assert!(
            failure.message.ends_with("does not exist: fetch it with scripts/fetch-flights"),
            "{failure}"
        );
        std::fs::create_dir(&months).unwrap();
        check_data(&months).unwrap_err();
        std::fs::write(months.join("2013-01.csv"), "").unwrap();
        check_data(&months).unwrap();
    }

    #[test]
    fn what_the_user_says_comes_after_what_the_demo_says() {
        let line = command_line(&args(&["-p", "2"]), vec!["--rate=0".into()]);
        let months = Path::new("data").join("months");
        assert_eq!(line[..2], ["flights", "-Dcheckpoint.interval=1s"]);
        assert_eq!(line[3..8], ["--quiet", "-p", "2", "--", "--data"]);
        assert_eq!(line[8], months.as_os_str());
        assert_eq!(line[9..], ["--out", "out", "--rate=5", "--live", "--rate=0"]);
    }

    #[test]
    fn a_quiet_demo_shows_no_table() {
        let line = command_line(&args(&["--quiet"]), vec![]);
        assert_eq!(line.iter().filter(|arg| *arg == "--quiet").count(), 1);
        assert!(!line.iter().any(|arg| arg == "--live"));
    }

    #[test]
    fn rows_are_counted_in_the_published_files_of_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        assert!(results(out, &BTreeSet::new()).unwrap().contains("No results"));
        let hourly = out.join("hourly");
        std::fs::create_dir(&hourly).unwrap();
        std::fs::write(hourly.join("part-a-0-0.csv"), "origin,hour\nEWR,1\n").unwrap();
        let before = part_files(out).unwrap();
        std::fs::write(hourly.join("part-b-0-0.csv"), "origin,hour\nEWR,1\nJFK,1\n").unwrap();
        std::fs::write(hourly.join(".part-b-0-1.csv.inprogress.0.1"), "origin,hour\nEWR,2\n").unwrap();
        let text = results(out, &before).unwrap();
        let line = text.lines().find(|line| line.contains("hourly")).unwrap();
        assert_eq!(line.split_whitespace().skip(1).take(2).collect::<Vec<_>>(), ["2", "1"], "{text}");
        assert!(text.contains("1 in all"), "{text}");
    }
}
