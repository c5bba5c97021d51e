//! The `hurtig` command: runs programs and the processes of a cluster, lists configuration keys, shows the demo.
//!
//! Each verb is a module with its arguments and one `run` function, and an arm of [`main_with_args`].

mod certs;
mod cluster;
mod config;
mod daemons;
mod demo;
mod failure;
mod jobs;
mod logs;
mod memory;
mod metrics;
mod place;
mod run;
mod shared;
mod sql;
mod standby;
mod state;
mod table;
mod top;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser, Subcommand};

const EXIT_CODES: &str = "\
Exit codes:
  0    success
  1    the job failed
  2    wrong flags or configuration
  126  the program exists but cannot be executed
  127  the program does not exist
  130  the user interrupted the job
A program started by `run` ends with the exit code of its own.";

/// Runs stream processing programs.
#[derive(Debug, Parser)]
#[command(name = "hurtig", version, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Args),
    List(jobs::ListArgs),
    /// Show a job of the cluster and its graph
    Info(jobs::JobArgs),
    /// End a job of the cluster without publishing what is not yet published
    Cancel(jobs::JobArgs),
    /// Take a savepoint of a job, publish all output up to it, and end the job
    Stop(jobs::StopArgs),
    /// Take a savepoint of a job, which goes on
    Savepoint(jobs::SavepointArgs),
    /// Give a job of the cluster another parallelism; it goes on from a checkpoint taken for that
    Rescale(jobs::RescaleArgs),
    Metrics(metrics::Args),
    Logs(logs::Args),
    Top(top::Args),
    /// Look into checkpoints and savepoints
    #[command(subcommand)]
    State(state::Verb),
    Sql(sql::Args),
    Cluster(cluster::Args),
    #[command(name = "jobmanager")]
    JobManager(daemons::JobManagerArgs),
    #[command(name = "taskmanager")]
    TaskManager(daemons::TaskManagerArgs),
    /// Make and show the certificates by which the processes of a cluster know each other
    #[command(subcommand)]
    Certs(certs::Verb),
    Demo(demo::Args),
    Config(config::Args),
    /// Write manual pages, one for each verb, into a folder
    ///
    /// For `man hurtig`: `hurtig man ~/.local/share/man/man1`
    Man {
        /// Folder for the pages; it is made if it is not there
        folder: std::path::PathBuf,
    },
    /// Print the completion script of a shell
    ///
    /// For bash: `hurtig completions bash > ~/.local/share/bash-completion/completions/hurtig`
    Completions {
        /// Shell to complete in
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
}

/// Runs the command line, the name of the command first.
pub fn main_with_args(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let (own, programs) = run::split_program_args(args);
    let cli = match Cli::try_parse_from(own) {
        Ok(cli) => cli,
        Err(usage) => {
            // nobody is left to tell if the terminal is gone
            let _ = usage.print();
            return ExitCode::from(u8::try_from(usage.exit_code()).unwrap_or(2));
        }
    };
    let outcome = match cli.command {
        Verb::Run(args) => run::run(args, programs),
        Verb::List(args) => jobs::list(&args),
        Verb::Info(args) => jobs::info(&args),
        Verb::Cancel(args) => jobs::cancel(&args),
        Verb::Stop(args) => jobs::stop(args),
        Verb::Savepoint(args) => jobs::savepoint(&args, false),
        Verb::Rescale(args) => jobs::rescale(args),
        Verb::Metrics(args) => metrics::run(&args),
        Verb::Logs(args) => logs::run(&args),
        Verb::Top(args) => top::run(&args),
        Verb::State(verb) => state::run(verb),
        Verb::Sql(args) => sql::run(args),
        Verb::Cluster(args) => cluster::run(args),
        Verb::JobManager(args) => daemons::job_manager(args),
        Verb::TaskManager(args) => daemons::task_manager(args),
        Verb::Certs(verb) => certs::run(verb),
        Verb::Demo(args) => demo::run(args, programs),
        Verb::Config(args) => succeeded(config::run(args, &mut std::io::stdout().lock())),
        Verb::Man { folder } => succeeded(manual(&folder)),
        Verb::Completions { shell } => {
            succeeded(std::io::stdout().write_all(&completions(shell)).map_err(Into::into))
        }
    };
    failure::exit_code(outcome)
}

fn succeeded(outcome: anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    outcome.map(|()| ExitCode::SUCCESS)
}

/// Writes the manual pages.
fn manual(folder: &std::path::Path) -> anyhow::Result<()> {
    let unwritten = || format!("manual pages cannot be written into '{}'", folder.display());
    std::fs::create_dir_all(folder).with_context(unwritten)?;
    clap_mangen::generate_to(Cli::command(), folder).with_context(unwritten)
}

/// The script as bytes: the generator panics if it cannot write, as into a closed pipe.
fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hurtig", &mut script);
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_documents_verbs_and_exit_codes() {
        let help = Cli::command().render_long_help().to_string();
        for word in ["run", "demo", "config", "completions", "--version", "126"] {
            assert!(help.contains(word), "{word} is missing in\n{help}");
        }
    }

    #[test]
    fn there_is_a_manual_page_for_every_verb() {
        let folder = tempfile::tempdir().unwrap();
        let pages = folder.path().join("man1");
        manual(&pages).unwrap();
        for verb in Cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let page = std::fs::read_to_string(pages.join(format!("hurtig-{}.1", verb.get_name()))).unwrap();
            assert!(page.contains(".SH SYNOPSIS"), "{page}");
        }
        assert!(std::fs::read_to_string(pages.join("hurtig.1")).unwrap().contains("Exit codes"));
        let error = manual(&pages.join("hurtig.1")).unwrap_err().to_string();
        assert!(error.contains("hurtig.1"), "{error}");
    }

    #[test]
    fn completions_know_the_verbs_in_every_shell() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            assert!(String::from_utf8(completions(*shell)).unwrap().contains("completions"), "{shell}");
        }
    }
}
