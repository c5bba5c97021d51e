//! `hurtig run`: submits a program to the cluster; with `--embedded`, becomes the program, which takes the common
//! flags itself either way.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::failure::Failure;
use crate::jobs;

/// Run a program as a job of the cluster, and follow the job to its end
///
/// FLAGS are those every program takes: `PROGRAM --help` lists them.
#[derive(Debug, clap::Args)]
#[command(
    override_usage = "hurtig run [--detached] [--embedded] PROGRAM [FLAGS] [-- ARGS]",
    after_help = "Example: hurtig run target/release/flights --parallelism 2 --checkpoint-interval 10s -- --data flights.csv"
)]
pub(crate) struct Args {
    /// Do not wait for the job's end: print its id
    #[arg(long, conflicts_with = "embedded")]
    detached: bool,

    /// Run the program here, with its job inside it, as if it were started by hand
    #[arg(long)]
    embedded: bool,

    /// Show no progress
    #[arg(short, long)]
    quiet: bool,

    /// Binary linked with hurtig: a path, or a name found in PATH
    program: PathBuf,

    /// The program's flags, such as --parallelism; its own arguments follow `--`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FLAGS")]
    flags: Vec<OsString>,
}

/// Parts a command line at its first `--`: what follows belongs to the program, and no parser of ours is to
/// look at it.
pub(crate) fn split_program_args(
    args: impl IntoIterator<Item = OsString>,
) -> (Vec<OsString>, Option<Vec<OsString>>) {
    let mut own: Vec<OsString> = args.into_iter().collect();
    let programs = own.iter().position(|arg| arg == "--").map(|dashes| {
        let rest = own.split_off(dashes);
        rest.into_iter().skip(1).collect()
    });
    (own, programs)
}

pub(crate) fn run(args: Args, program_args: Option<Vec<OsString>>) -> anyhow::Result<ExitCode> {
    let search_path = std::env::var_os("PATH").unwrap_or_default();
    let program = find(&args.program, &search_path)?;
    if !args.embedded {
        let mut all = args.flags;
        if let Some(own) = program_args {
            all.push("--".into());
            all.extend(own);
        }
        return jobs::submit(&program, all, args.detached, args.quiet);
    }
    let mut command = Command::new(&program);
    command.args(&args.flags);
    if let Some(own) = program_args {
        command.arg("--").args(own);
    }
    replace_process(&mut command).map_err(|error| cannot_start(&program, &error))?;
    Ok(ExitCode::SUCCESS)
}

/// Becomes the command; with exit code, signals and terminal it is then as if it had been started by hand.
#[cfg(unix)]
fn replace_process(command: &mut Command) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    Err(command.exec())
}

/// Where a process cannot be replaced: runs the command and ends with its exit code.
#[cfg(not(unix))]
fn replace_process(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    std::process::exit(status.code().unwrap_or(1))
}

/// The file to execute: the path given, or for a bare name that is no file here, the first of this name in
/// the search path.
fn find(program: &Path, search_path: &OsStr) -> Result<PathBuf, Failure> {
    let is_bare_name = program.components().count() == 1 && program.is_relative();
    let found = if program.is_file() {
        // a bare name must not be looked up in PATH once it is found here
        Some(if is_bare_name { Path::new(".").join(program) } else { program.to_owned() })
    } else if is_bare_name && !program.is_dir() {
        std::env::split_paths(search_path).map(|folder| folder.join(program)).find(|path| path.is_file())
    } else {
        None
    };
    match found {
        Some(path) => executable(path),
        None if program.is_dir() => Err(not_executable(program, "is a folder: name the binary in it")),
        None => Err(Failure {
            code: 127,
            message: format!(
                "program '{}' does not exist: build it first (cargo build --release), then give the path of the binary",
                program.display()
            ),
        }),
    }
}

#[cfg(unix)]
fn executable(path: PathBuf) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::PermissionsExt;
    // what cannot be looked at is left for the start itself to complain about
    let is_executable = path.metadata().map_or(true, |metadata| metadata.permissions().mode() & 0o111 != 0);
    if is_executable {
        Ok(path)
    } else {
        Err(not_executable(&path, "is not executable: name the compiled binary, or allow it with chmod +x"))
    }
}

#[cfg(not(unix))]
fn executable(path: PathBuf) -> Result<PathBuf, Failure> {
    Ok(path)
}

fn cannot_start(program: &Path, error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::NotFound => {
            not_executable(program, "cannot be started: the interpreter or loader it names does not exist")
        }
        io::ErrorKind::PermissionDenied => not_executable(program, "cannot be started: permission denied"),
        _ => not_executable(program, &format!("cannot be started: {error}")),
    }
}

fn not_executable(program: &Path, why: &str) -> Failure {
    Failure { code: 126, message: format!("program '{}' {why}", program.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &str) -> Vec<OsString> {
        words.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn the_first_two_dashes_part_our_arguments_from_the_programs() {
        assert_eq!(split_program_args(os("hurtig run p -p 2")), (os("hurtig run p -p 2"), None));
        assert_eq!(
            split_program_args(os("hurtig run p -p 2 -- a -- b")),
            (os("hurtig run p -p 2"), Some(os("a -- b")))
        );
        assert_eq!(split_program_args(os("hurtig run p --")), (os("hurtig run p"), Some(vec![])));
    }

    #[cfg(unix)]
    #[test]
    fn a_program_is_found_by_path_or_in_the_search_path() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = folder.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let (good, bad) = (make("good", 0o755), make("bad", 0o644));
        let search_path = folder.path().as_os_str();

        assert_eq!(find(&good, OsStr::new("")).unwrap(), good);
        assert_eq!(find(Path::new("good"), search_path).unwrap(), good);

        let check = |program: &Path, code: u8, words: &str| {
            let failure = find(program, search_path).unwrap_err();
            assert_eq!(failure.code, code);
            assert!(failure.message.contains(words), "{failure}");
        };
        check(&bad, 126, "is not executable");
        check(folder.path(), 126, "is a folder");
        check(&folder.path().join("missing"), 127, "does not exist");
        check(Path::new("missing"), 127, "does not exist");
    }
}
