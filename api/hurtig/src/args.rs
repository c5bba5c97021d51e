//! The flags that every program linked with hurtig takes itself: how parallel, where its checkpoints go, what
//! it starts from. What follows `--` is left to the program.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use hurtig_runtime::config::{Config, ConfigBuilder, ConfigError};
use thiserror::Error as ThisError;

/// How a program talks to the person who started it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ui {
    /// No progress while the job runs: only its results and its errors.
    pub quiet: bool,
}

/// What can be wrong with a program's arguments. Either is for the user to mend.
#[derive(Debug, ThisError)]
#[non_exhaustive]
pub enum ArgsError {
    /// A flag that does not exist or lacks its value; also `--help`, which is no error but ends the program.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// A configuration key or value.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl ArgsError {
    /// Tells the user, on standard output what was asked for (`--help`), else on standard error, and returns
    /// the exit code that the process is to end with: 0 or 2.
    pub fn report(&self) -> u8 {
        match self {
            ArgsError::Usage(error) => {
                // nobody is left to tell if the terminal is gone
                let _ = error.print();
                u8::try_from(error.exit_code()).unwrap_or(2)
            }
            ArgsError::Config(_) => {
                eprintln!("error: {}", self.sentence());
                2
            }
        }
    }

    /// What is wrong, for somebody else to report.
    pub(crate) fn sentence(&self) -> String {
        let text = hurtig_dataflow::error::describe(self);
        text.strip_prefix("error: ").unwrap_or(&text).trim_end().to_owned()
    }
}

/// A hurtig program: builds one job and runs it.
///
/// Flags before `--` are hurtig's; what follows it are the program's own arguments.
#[derive(Debug, Clone, Parser)]
#[command(
    disable_version_flag = true,
    after_help = "Configuration is read from hurtig.yaml, then from variables such as HURTIG_CHECKPOINT_INTERVAL, then from these flags.\n\
                  `hurtig config` lists every key.\n\n\
                  Exit codes: 0 the job finished; 1 it failed; 2 wrong flags or configuration; 130 the user interrupted it."
)]
struct CommonFlags {
    /// Subtasks of each vertex for which the program says nothing else [default: one per core]
    #[arg(short, long, value_name = "N")]
    parallelism: Option<String>,

    /// Folder that holds the job's checkpoints
    #[arg(long, value_name = "DIR")]
    checkpoint_dir: Option<String>,

    /// Time between checkpoints, such as `10s` or `1 min` [default: none are taken]
    #[arg(long, value_name = "DURATION")]
    checkpoint_interval: Option<String>,

    /// Checkpoint or savepoint to start from
    #[arg(long, value_name = "PATH")]
    from: Option<String>,

    /// Leave behind state of --from that no operator of the program claims
    #[arg(long)]
    allow_non_restored: bool,

    /// Set any configuration key; may be repeated, and the flags above override it
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,

    /// Configuration file to read instead of $HURTIG_CONFIG or ./hurtig.yaml
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// The program's own arguments
    #[arg(last = true, value_name = "ARGS")]
    program_args: Vec<String>,
}

impl CommonFlags {
    fn configure(&self, mut builder: ConfigBuilder) -> ConfigBuilder {
        if let Some(path) = &self.config {
            builder = builder.file(path);
        }
        for assignment in &self.define {
            builder = builder.flag(assignment);
        }
        let allow = self.allow_non_restored.then(|| "true".to_owned());
        for (flag, key, value) in [
            ("--parallelism", "parallelism.default", &self.parallelism),
            ("--checkpoint-dir", "checkpoint.dir", &self.checkpoint_dir),
            ("--checkpoint-interval", "checkpoint.interval", &self.checkpoint_interval),
            ("--from", "restore.from", &self.from),
            ("--allow-non-restored", "restore.allow-non-restored", &allow),
        ] {
            if let Some(value) = value {
                builder = builder.named_flag(flag, key, value);
            }
        }
        builder
    }
}

/// Reads a program's arguments, its name first, on top of `hurtig.yaml` and this process's environment
/// variables: the configuration, the program's own arguments, and how to talk to the user.
///
/// ```
/// let line = ["flights", "--parallelism", "2", "--", "--data", "flights.csv"];
/// let (config, args, _ui) = hurtig::parse(line.into_iter().map(Into::into))?;
/// assert_eq!(config.parallelism.default, Some(2));
/// assert_eq!(args, ["--data", "flights.csv"]);
/// # Ok::<(), hurtig::ArgsError>(())
/// ```
pub fn parse(args: impl Iterator<Item = OsString>) -> Result<(Config, Vec<String>, Ui), ArgsError> {
    parse_onto(Config::builder().process(), args)
}

/// [`parse`] on top of given sources instead of this process's.
pub(crate) fn parse_onto(
    sources: ConfigBuilder,
    args: impl Iterator<Item = OsString>,
) -> Result<(Config, Vec<String>, Ui), ArgsError> {
    let flags = CommonFlags::try_parse_from(args)?;
    let config = flags.configure(sources).build()?;
    Ok((config, flags.program_args, Ui { quiet: flags.quiet }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;

    fn parse_line(line: &str) -> Result<(Config, Vec<String>, Ui), ArgsError> {
        let args = std::iter::once("program").chain(line.split_whitespace()).map(OsString::from);
        parse_onto(Config::builder(), args)
    }

    #[test]
    fn the_flags_are_well_formed() {
        use clap::CommandFactory;
        CommonFlags::command().debug_assert();
    }

    #[test]
    fn no_arguments_give_the_defaults() {
        let (config, args, ui) = parse_line("").unwrap();
        assert_eq!(config, Config::default());
        assert!(args.is_empty());
        assert!(!ui.quiet);
    }

    #[test]
    fn whoever_reports_a_wrong_flag_says_once_that_it_is_an_error() {
        let sentence = parse_line("--nonsense").unwrap_err().sentence();
        assert!(sentence.starts_with("unexpected argument '--nonsense'"), "{sentence}");
        let sentence = parse_line("-D parallelism.defualt=2").unwrap_err().sentence();
        assert!(sentence.contains("parallelism.default"), "{sentence}");
    }

    #[test]
    fn common_flags_set_their_keys() {
        let (config, _, ui) = parse_line(
            "-p 3 --checkpoint-dir /c --checkpoint-interval 10s --from /c/7 --allow-non-restored --quiet",
        )
        .unwrap();
        assert_eq!(config.parallelism.default, Some(3));
        assert_eq!(config.checkpoint.dir.as_deref(), Some(Path::new("/c")));
        assert_eq!(config.checkpoint.interval, Some(Duration::from_secs(10)));
        assert_eq!(config.restore.from.as_deref(), Some(Path::new("/c/7")));
        assert!(config.restore.allow_non_restored);
        assert!(ui.quiet);
    }

    #[test]
    fn any_key_can_be_set_and_a_flag_of_its_own_overrides_that() {
        let (config, _, _) =
            parse_line("-D exchange.credits=2 -Dexecution.chaining=false -p 4 -D parallelism.default=2")
                .unwrap();
        assert_eq!(config.exchange.credits, 2);
        assert!(!config.execution.chaining);
        assert_eq!(config.parallelism.default, Some(4));
    }

    #[test]
    fn what_follows_two_dashes_is_the_programs() {
        let (config, args, _) = parse_line("-p 2 -- -p 9 --data x -- y").unwrap();
        assert_eq!(config.parallelism.default, Some(2));
        assert_eq!(args, ["-p", "9", "--data", "x", "--", "y"]);
    }

    #[test]
    fn a_named_configuration_file_is_read() {
        let missing = parse_line("--config no/such.yaml").unwrap_err();
        assert_eq!(missing.to_string(), "configuration file no/such.yaml cannot be read");
    }

    #[test]
    fn wrong_arguments_name_the_flag() {
        let check = |line: &str, expected: &str| {
            let text = parse_line(line).unwrap_err().to_string();
            assert!(text.contains(expected), "{text}");
        };
        check("-p many", "invalid value 'many' for 'parallelism.default' in flag --parallelism");
        check("--checkpoint-interval 10parsecs", "in flag --checkpoint-interval: expected duration");
        check("-D exchange.credit=1", "did you mean 'exchange.credits'?");
        check("-D exchange.credits", "is not of the form key=value");
        check("--checkpoint-intervall 1s", "--checkpoint-interval");
        check("flights.csv", "unexpected argument 'flights.csv'");
    }

    #[test]
    fn asking_for_help_is_no_failure() {
        let help = parse_line("--help").unwrap_err();
        assert!(matches!(&help, ArgsError::Usage(usage) if usage.exit_code() == 0));
        assert!(help.to_string().contains("--checkpoint-interval <DURATION>"));
    }
}
