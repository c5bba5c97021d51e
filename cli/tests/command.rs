//! The `hurtig` binary as a shell sees it: output and exit codes.

use std::path::Path;
use std::process::{Command, Output};

/// Runs `hurtig` in a folder of its own, with no configuration but what the test gives.
fn hurtig(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hurtig"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HURTIG_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).args(args).output().expect("the binary starts")
}

fn check(folder: &Path, args: &[&str], code: i32, words: &str) {
    let output = hurtig(folder, args);
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(words), "{args:?}: {text}");
}

#[test]
fn exit_codes_are_those_that_help_documents() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), "a,b").unwrap();
    let check = |args: &[&str], code, words: &str| check(folder.path(), args, code, words);
    check(&["--version"], 0, "hurtig ");
    check(&["--help"], 0, "Exit codes:");
    check(&["completions", "zsh"], 0, "#compdef hurtig");
    check(&["config"], 0, "checkpoint.interval");
    check(&[], 2, "Usage:");
    check(&["rum"], 2, "'run'");
    check(
        &["config", "--current", "-D", "checkpoint.intervall=1s"],
        2,
        "did you mean 'checkpoint.interval'?",
    );
    check(&["demo"], 1, "fetch it with scripts/fetch-flights");
    check(&["run", "./data.csv"], 126, "is not executable");
    check(&["run", "."], 126, "is a folder");
    check(&["run", "./missing"], 127, "does not exist");
}

#[test]
fn a_file_in_the_working_folder_is_found_and_its_mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hurtig.yaml");
    std::fs::write(&file, "checkpoint:\n  interval: 7s\n").unwrap();
    check(folder.path(), &["config", "--current"], 0, "in file hurtig.yaml");
    std::fs::write(&file, "checkpoint:\n  interval: soon\n").unwrap();
    check(
        folder.path(),
        &["config", "--current"],
        2,
        "invalid value 'soon' for 'checkpoint.interval' in file hurtig.yaml: expected duration",
    );
    std::fs::write(&file, "checkpoint: interval: soon\n").unwrap();
    check(folder.path(), &["config", "--current"], 2, "hurtig.yaml is not valid YAML: ");
}

#[cfg(unix)]
#[test]
fn run_hands_flags_and_arguments_on_and_ends_as_the_program_does() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let program = folder.path().join(name);
        std::fs::write(&program, text).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    };
    write("program", "#!/bin/sh\nprintf '<%s>' \"$@\"\nexit 7\n");
    check(
        folder.path(),
        &["run", "program", "-p", "2", "--help", "--", "two words", "--", "-x"],
        7,
        "<-p><2><--help><--><two words><--><-x>",
    );
    check(folder.path(), &["run", "./program"], 7, "<>");
    write("orphan", "#!/no/such/interpreter\n");
    check(folder.path(), &["run", "./orphan"], 126, "interpreter");
}
