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

#[test]
fn the_demo_writes_results_and_tells_how_many_rows_each_has() {
    let folder = tempfile::tempdir().unwrap();
    let months = folder.path().join("data/months");
    std::fs::create_dir_all(&months).unwrap();
    let header = "year,month,day,dep_time,sched_dep_time,dep_delay,carrier,flight,origin,dest";
    let flights = "2013,1,1,517,515,2,UA,1545,EWR,IAH\n2013,1,1,NA,600,NA,AA,1,JFK,MIA\n";
    std::fs::write(months.join("2013-01.csv"), format!("{header}\n{flights}")).unwrap();
    let output = hurtig(folder.path(), &["demo", "--data", "data", "--rate", "0", "-p", "1"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    for (result, rows) in [("hourly", "1"), ("cancelled", "1"), ("late", "0")] {
        let line = text.lines().find(|line| line.contains(&format!("flights-out/{result}"))).unwrap();
        assert_eq!(line.split_whitespace().nth(1), Some(rows), "{text}");
    }
    std::fs::write(months.join("2013-02.csv"), format!("{header}\nthis is no flight\n")).unwrap();
    check(folder.path(), &["demo", "--data", "data", "--rate", "0"], 1, "2013-02.csv line 2");
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
        &["run", "--embedded", "program", "-p", "2", "--help", "--", "two words", "--", "-x"],
        7,
        "<-p><2><--help><--><two words><--><-x>",
    );
    check(folder.path(), &["run", "--embedded", "./program"], 7, "<>");
    write("orphan", "#!/no/such/interpreter\n");
    check(folder.path(), &["run", "--embedded", "./orphan"], 126, "interpreter");
}

#[test]
fn statements_are_run_and_their_mistakes_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let sales = "product,price\ntea,3\nmilk,1\ntea,2\n";
    std::fs::write(folder.path().join("sales.csv"), sales).unwrap();
    let table = "CREATE TABLE sales (product STRING, price INT) WITH
        ('connector' = 'filesystem', 'path' = 'sales.csv', 'format' = 'csv', 'csv.header' = 'true');";
    std::fs::write(folder.path().join("tables.sql"), table).unwrap();
    let check = |statements: &str, code, words: &str| {
        check(folder.path(), &["sql", "-f", "tables.sql", "-p1", "-e", statements], code, words);
    };
    let query = "SELECT product, SUM(price) AS total FROM sales GROUP BY product";
    check(&format!("SET 'sql-client.execution.result-mode' = 'table'; {query}"), 0, "| tea     | 5     |");
    check(
        &format!("SET 'execution.runtime-mode' = 'batch'; {query} ORDER BY total"),
        0,
        "|      tea |        5 |\n",
    );
    check(&format!("SET 'sql-client.execution.result-mode' = 'changelog'; {query}"), 0, "+I[milk, 1]\n");
    check("SHOW TABLES; DESCRIBE sales", 0, "| price   | INT    |");
    check("SELECT prize FROM sales", 1, "price");
    check("SELECT product FROM sails", 1, "did you mean 'sales'?");
    check("SELECT product\n  FRM sales", 1, "line 2, column 7");
    check("SET 'checkpoint.intervall' = '1s'", 1, "did you mean 'checkpoint.interval'?");
    check("INSERT INTO sales SELECT 'rice', CAST(price AS BIGINT), 1 FROM sales", 1, "takes 2 columns");
}
