//! `hurtig sql`: runs SQL statements of the command line, of a file, or typed at a prompt. Each query and each INSERT is a job
//! within this process.

mod job;
mod prompt;
mod show;

use anyhow::Context;
use hurtig::datastream::Environment;
use hurtig::sql::{Outcome, TableEnvironment};
use hurtig::{Config, LogTo};
use show::{Mode, Shower};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;

/// The key that says how results are shown.
const RESULT_MODE: &str = "sql-client.execution.result-mode";

/// Keys of SQL alone; all others are those of `hurtig config`.
const OWN_KEYS: [&str; 4] =
    [RESULT_MODE, "execution.runtime-mode", "table.exec.source.idle-timeout", "pipeline.name"];

/// Run SQL statements, or type them at a prompt
///
/// Queries show their results as they come. Without -e and -f, statements are read from the terminal; each ends with a
/// semicolon, \q ends.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Statements to run, parted by semicolons
    #[arg(short, long, value_name = "STATEMENTS")]
    execute: Vec<String>,

    /// File of statements to run, before those of -e
    #[arg(short, long, value_name = "FILE")]
    file: Vec<PathBuf>,

    /// How results are shown: tableau, changelog, or table (once, at the end)
    #[arg(long, value_enum)]
    mode: Option<Mode>,

    /// Subtasks of each operator
    #[arg(short, long, value_name = "N")]
    parallelism: Option<usize>,

    /// Any configuration key
    #[arg(short = 'D', value_name = "KEY=VALUE")]
    define: Vec<String>,
}

pub(crate) fn run(args: Args) -> anyhow::Result<ExitCode> {
    let parallelism = args.parallelism.map(|subtasks| format!("--parallelism={subtasks}"));
    let defined = args.define.iter().map(|assignment| format!("-D{assignment}"));
    let flags = parallelism.into_iter().chain(defined).map(OsString::from).collect();
    let mut session = Session { tables: TableEnvironment::new(&Environment::new()), flags };
    hurtig::start_logging(&session.config()?.log, LogTo::Terminal).map_err(anyhow::Error::from_boxed)?;
    if let Some(mode) = args.mode {
        session.tables.set(RESULT_MODE, mode.name())?;
    }
    let mut is_prompt = true;
    for path in &args.file {
        is_prompt = false;
        let text =
            std::fs::read_to_string(path).with_context(|| format!("cannot read '{}'", path.display()))?;
        session.run_all(&text).with_context(|| format!("in '{}'", path.display()))?;
    }
    for text in &args.execute {
        is_prompt = false;
        session.run_all(text)?;
    }
    if is_prompt {
        if std::io::stdin().is_terminal() {
            prompt::run(&mut session)?;
        } else {
            let text = std::io::read_to_string(std::io::stdin()).context("cannot read standard input")?;
            session.run_all(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A catalog, settings, and the flags of the command line.
struct Session {
    tables: TableEnvironment,
    flags: Vec<OsString>,
}

impl Session {
    /// The configuration of the next job: files, variables, flags, and what was SET.
    fn config(&self) -> anyhow::Result<Config> {
        let mut line: Vec<OsString> = vec!["hurtig sql".into()];
        line.extend(self.flags.iter().cloned());
        for (key, value) in self.tables.settings() {
            if !OWN_KEYS.contains(&key.as_str()) {
                line.push(format!("-D{key}={value}").into());
            }
        }
        let (config, _, _) = hurtig::parse(line.into_iter())?;
        Ok(config)
    }

    fn mode(&self) -> Mode {
        let settings = self.tables.settings();
        settings.get(RESULT_MODE).and_then(|name| Mode::of(name)).unwrap_or_default()
    }

    /// Runs the statements of a text, one after the other.
    fn run_all(&mut self, text: &str) -> anyhow::Result<()> {
        for statement in hurtig::sql::split_statements(text)? {
            self.run(&statement)?;
        }
        Ok(())
    }

    /// Runs one statement.
    fn run(&mut self, statement: &str) -> anyhow::Result<()> {
        let env = Environment::new();
        let tables = self.tables.with_program(&env);
        match tables.execute_sql(statement)? {
            Outcome::Done => self.check_settings(),
            Outcome::Text(text) => {
                println!("{}", text.trim_end());
                Ok(())
            }
            Outcome::Rows { columns, rows } => {
                print!("{}", show::grid(&columns, &rows));
                Ok(())
            }
            Outcome::Query(table) => {
                let columns = table.columns();
                let collector = table.collect()?;
                let config = self.config()?;
                let mut shower = Shower::new(self.mode(), tables.is_batch(), columns, collector);
                let ended = job::run(&self.job_name("query"), &env, &config, || shower.show());
                shower.show()?;
                ended?;
                shower.finish()
            }
            Outcome::Inserted(_) => {
                let config = self.config()?;
                job::run(&self.job_name("insert"), &env, &config, || Ok(()))
            }
        }
    }

    fn job_name(&self, default: &str) -> String {
        self.tables.settings().get("pipeline.name").cloned().unwrap_or_else(|| default.to_string())
    }

    /// Refuses settings that no job could be run with, and forgets them.
    fn check_settings(&mut self) -> anyhow::Result<()> {
        if let Some(mode) = self.tables.settings().get(RESULT_MODE)
            && Mode::of(mode).is_none()
        {
            self.tables.execute_sql(&format!("RESET '{RESULT_MODE}'"))?;
            anyhow::bail!("'{RESULT_MODE}' cannot be '{mode}': it is table, changelog or tableau");
        }
        let Err(error) = self.config() else { return Ok(()) };
        for key in self.tables.settings().keys().filter(|key| !OWN_KEYS.contains(&key.as_str())) {
            self.tables.execute_sql(&format!("RESET '{key}'"))?;
            if self.config().is_ok() {
                break;
            }
        }
        Err(error)
    }
}
