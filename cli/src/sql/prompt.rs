//! The prompt: lines until a semicolon, with a history, completion of words and names, and Ctrl-C to give up a statement.

use super::Session;
use hurtig::sql::TableEnvironment;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::FileHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Context, Editor, Helper};
use std::path::PathBuf;

/// Words that are completed.
const WORDS: [&str; 40] = [
    "SELECT",
    "FROM",
    "WHERE",
    "GROUP BY",
    "HAVING",
    "ORDER BY",
    "LIMIT",
    "INSERT INTO",
    "CREATE TABLE",
    "CREATE VIEW",
    "DROP TABLE",
    "DROP VIEW",
    "DESCRIBE",
    "EXPLAIN",
    "SHOW TABLES",
    "SHOW VIEWS",
    "SHOW FUNCTIONS",
    "SET",
    "RESET",
    "JOIN",
    "LEFT JOIN",
    "FULL JOIN",
    "UNION ALL",
    "DISTINCT",
    "COUNT",
    "SUM",
    "AVG",
    "MIN",
    "MAX",
    "TUMBLE",
    "HOP",
    "CUMULATE",
    "SESSION",
    "DESCRIPTOR",
    "INTERVAL",
    "WATERMARK FOR",
    "PARTITION BY",
    "OVER",
    "ROW_NUMBER",
    "VALUES",
];

struct SqlHelper {
    tables: TableEnvironment,
}

impl Helper for SqlHelper {}
impl Highlighter for SqlHelper {}
impl Hinter for SqlHelper {
    type Hint = String;
}

impl Validator for SqlHelper {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let text = context.input().trim();
        let is_whole = text.is_empty() || text.ends_with(';') || text.starts_with('\\') || is_exit(text);
        Ok(if is_whole { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

impl Completer for SqlHelper {
    type Candidate = String;

    fn complete(&self, line: &str, place: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let start = line[..place].rfind(|c| !is_part(c)).map_or(0, |at| at + 1);
        let begun = &line[start..place];
        if begun.is_empty() {
            return Ok((place, Vec::new()));
        }
        let begins = |word: &str| word.to_lowercase().starts_with(&begun.to_lowercase());
        let words = WORDS.iter().map(|word| (*word).to_string());
        Ok((start, self.tables.table_names().into_iter().chain(words).filter(|word| begins(word)).collect()))
    }
}

fn is_exit(text: &str) -> bool {
    ["quit", "exit", "quit;", "exit;"].iter().any(|word| text.eq_ignore_ascii_case(word))
}

fn history_file() -> Option<PathBuf> {
    let home = std::env::var_os("HOME")?;
    Some(PathBuf::from(home).join(".hurtig").join("sql_history"))
}

/// Reads statements and runs them until the user ends.
pub(super) fn run(session: &mut Session) -> anyhow::Result<()> {
    let mut editor: Editor<SqlHelper, FileHistory> = Editor::new()?;
    editor.set_helper(Some(SqlHelper { tables: session.tables.clone() }));
    let history = history_file();
    if let Some(path) = &history {
        if let Some(folder) = path.parent() {
            let _ = std::fs::create_dir_all(folder);
        }
        // There is none the first time.
        let _ = editor.load_history(path);
    }
    println!("Statements end with a semicolon; \\q ends, \\? helps.");
    loop {
        match editor.readline("hurtig> ") {
            Ok(text) => {
                let text = text.trim();
                if text.is_empty() {
                    continue;
                }
                let _ = editor.add_history_entry(text);
                if text == "\\q" || is_exit(text) {
                    break;
                }
                if text == "\\?" {
                    println!("{}", WORDS.join(", "));
                    continue;
                }
                if let Err(error) = session.run_all(text) {
                    eprintln!("error: {error:#}");
                }
            }
            // A statement is given up; the session is not.
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(error.into()),
        }
    }
    if let Some(path) = &history {
        let _ = editor.save_history(path);
    }
    Ok(())
}
