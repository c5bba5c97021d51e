//! Text to statements: Flink's dialect on top of sqlparser. What its parser has no place for, such as watermarks and
//! `WITH ('k' = 'v')`, is parsed here through its public methods; what it would refuse, such as `ROW<…>`, is turned into
//! what it takes before it parses ([`tokens`]).

mod create_table;
mod dialect;
mod tokens;

pub(crate) use create_table::{ColumnKind, CreateTable};
pub(crate) use dialect::{FlinkDialect, TABLE_ARGUMENT};

use crate::error::{ErrorKind, Position, SqlError};
use sqlparser::ast;
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

/// Statements nested deeper are refused: the parser and what follows it walk them by recursion.
const MAX_DEPTH: usize = 60;

/// Statements of more operators are refused, for the same reason.
const MAX_OPERATORS: usize = 500;

/// Longer texts are refused.
const MAX_BYTES: usize = 4 << 20;

/// One statement.
#[derive(Debug, Clone)]
pub(crate) enum Statement {
    CreateTable(Box<CreateTable>),
    CreateView(Box<CreateView>),
    /// Table, view or function, and its name.
    Drop {
        what: Object,
        name: String,
        if_exists: bool,
    },
    Insert(Box<Insert>),
    /// Inserts that run as one job.
    Inserts(Vec<Insert>),
    Query(Box<ast::Query>),
    Explain {
        details: Vec<String>,
        statement: Box<Statement>,
    },
    Describe(String),
    Show(Shown),
    /// A configuration key, or nothing to list them all.
    Set(Option<(String, String)>),
    Reset(Option<String>),
}

/// What can be dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Object {
    Table,
    View,
}

/// What `SHOW` lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shown {
    Tables,
    Views,
    Functions,
    CreateTable(String),
}

/// `CREATE VIEW`.
#[derive(Debug, Clone)]
pub(crate) struct CreateView {
    pub(crate) name: String,
    pub(crate) columns: Vec<String>,
    pub(crate) query: ast::Query,
    pub(crate) or_replace: bool,
    pub(crate) if_not_exists: bool,
}

/// `INSERT INTO`.
#[derive(Debug, Clone)]
pub(crate) struct Insert {
    pub(crate) table: String,
    pub(crate) columns: Vec<String>,
    pub(crate) query: ast::Query,
}

/// The statements of a text, which semicolons part.
pub(crate) fn parse(sql: &str) -> Result<Vec<Statement>, SqlError> {
    parse_tokens(sql).map_err(|error| error.in_text(sql))
}

/// The texts of the statements of a text: a shell runs them one by one.
///
/// # Errors
/// The text cannot be cut, for a quote that does not end, say.
pub fn split_statements(sql: &str) -> Result<Vec<String>, SqlError> {
    let tokens = Tokenizer::new(&FlinkDialect, sql)
        .tokenize_with_location()
        .map_err(|error| syntax_error(&error.to_string()).in_text(sql))?;
    let starts: Vec<usize> =
        std::iter::once(0).chain(sql.match_indices('\n').map(|(at, _)| at + 1)).collect();
    let offset = |line: u64, column: u64| {
        let start = starts.get(line.saturating_sub(1) as usize).copied().unwrap_or(sql.len());
        let chars = sql[start..].char_indices().nth(column.saturating_sub(1) as usize);
        chars.map_or(sql.len(), |(at, _)| start + at)
    };
    let mut statements: Vec<String> = Vec::new();
    let mut start = 0;
    let mut is_set = false;
    let mut last = Token::EOF;
    for TokenWithSpan { token, span } in tokens {
        // A statement set ends at its END.
        is_set |= is_word(&token, "SET") && is_word(&last, "STATEMENT");
        if token == Token::SemiColon && (!is_set || is_word(&last, "END")) {
            let end = offset(span.start.line, span.start.column);
            statements.push(sql[start..end].to_string());
            (start, is_set) = (end + 1, false);
        }
        if !matches!(token, Token::Whitespace(_)) {
            last = token;
        }
    }
    statements.push(sql[start..].to_string());
    statements.retain(|statement| !statement.trim().is_empty());
    Ok(statements)
}

fn parse_tokens(sql: &str) -> Result<Vec<Statement>, SqlError> {
    if sql.len() > MAX_BYTES {
        return Err(SqlError::new(ErrorKind::Syntax, format!("the text has more than {MAX_BYTES} bytes")));
    }
    let tokens = Tokenizer::new(&FlinkDialect, sql)
        .tokenize_with_location()
        .map_err(|error| syntax_error(&error.to_string()))?;
    tokens::check_depth(&tokens, MAX_DEPTH)?;
    tokens::check_length(&tokens, MAX_OPERATORS)?;
    let tokens = tokens::rewrite(tokens)?;
    let mut parser =
        Parser::new(&FlinkDialect).with_recursion_limit(4 * MAX_DEPTH).with_tokens_with_locations(tokens);
    let mut statements = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if parser.peek_token_ref().token == Token::EOF {
            return Ok(statements);
        }
        let statement = parse_statement(&mut parser).map_err(|error| syntax_error(&error.to_string()))?;
        statements.push(statement);
        let next = parser.peek_token_ref();
        if !matches!(next.token, Token::SemiColon | Token::EOF) {
            let start = next.span.start;
            let found = Position { line: start.line, column: start.column };
            let message = format!("expected ';' or the end of the text, found {}", next.token);
            return Err(SqlError::new(ErrorKind::Syntax, message).at(found));
        }
    }
}

/// An error of the parser, whose place is in its text.
fn syntax_error(text: &str) -> SqlError {
    let text = text.strip_prefix("sql parser error: ").unwrap_or(text);
    let number = |text: &str| -> Option<u64> {
        let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    };
    let place = text.rfind(" at Line: ").and_then(|at| {
        let (line, column) = text[at + " at Line: ".len()..].split_once(", Column: ")?;
        Some((at, Position { line: number(line)?, column: number(column)? }))
    });
    match place {
        Some((at, position)) => SqlError::new(ErrorKind::Syntax, decapitalised(&text[..at])).at(position),
        None => SqlError::new(ErrorKind::Syntax, decapitalised(text)),
    }
}

fn decapitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn is_word(token: &Token, word: &str) -> bool {
    matches!(token, Token::Word(Word { value, quote_style: None, .. }) if value.eq_ignore_ascii_case(word))
}

fn peek(parser: &Parser<'_>, place: usize, word: &str) -> bool {
    is_word(&parser.peek_nth_token_ref(place).token, word)
}

fn accept(parser: &mut Parser<'_>, word: &str) -> bool {
    let is_next = peek(parser, 0, word);
    if is_next {
        parser.next_token();
    }
    is_next
}

fn accept_all(parser: &mut Parser<'_>, words: &[&str]) -> bool {
    let are_next = words.iter().enumerate().all(|(place, word)| peek(parser, place, word));
    if are_next {
        words.iter().for_each(|_| {
            parser.next_token();
        });
    }
    are_next
}

fn expect(parser: &mut Parser<'_>, word: &str) -> Result<(), ParserError> {
    if accept(parser, word) {
        return Ok(());
    }
    let found = parser.peek_token();
    parser.expected(word, found)
}

/// The last part of a name: there is one catalog and one database.
fn parse_name(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let name = parser.parse_object_name(false)?;
    let last = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.clone());
    last.ok_or_else(|| ParserError::ParserError(format!("'{name}' is no name")))
}

/// Text in quotes, or one word or number.
fn parse_text(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let token: TokenWithSpan = parser.next_token();
    match token.token {
        Token::SingleQuotedString(text) => Ok(text),
        Token::Word(word) => Ok(word.value),
        Token::Number(number, _) => Ok(number),
        _ => parser.expected("a text in quotes", token),
    }
}

fn parse_statement(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    if peek(parser, 0, "CREATE") {
        return parse_create(parser);
    }
    if accept(parser, "DROP") {
        accept(parser, "TEMPORARY");
        let what = if accept(parser, "VIEW") {
            Object::View
        } else {
            expect(parser, "TABLE")?;
            Object::Table
        };
        let if_exists = accept_all(parser, &["IF", "EXISTS"]);
        return Ok(Statement::Drop { what, name: parse_name(parser)?, if_exists });
    }
    if accept_all(parser, &["EXECUTE", "STATEMENT", "SET"])
        || accept_all(parser, &["BEGIN", "STATEMENT", "SET"])
    {
        return parse_statement_set(parser);
    }
    if peek(parser, 0, "EXECUTE") && peek(parser, 1, "INSERT") {
        parser.next_token();
    }
    if peek(parser, 0, "INSERT") {
        return Ok(Statement::Insert(Box::new(parse_insert(parser)?)));
    }
    if accept(parser, "EXPLAIN") {
        return parse_explain(parser);
    }
    if accept(parser, "DESCRIBE") || accept(parser, "DESC") {
        return Ok(Statement::Describe(parse_name(parser)?));
    }
    if accept(parser, "SHOW") {
        return parse_show(parser);
    }
    if accept(parser, "SET") {
        if matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF) {
            return Ok(Statement::Set(None));
        }
        let key = parse_key(parser)?;
        parser.expect_token(&Token::Eq)?;
        return Ok(Statement::Set(Some((key, parse_key(parser)?))));
    }
    if accept(parser, "RESET") {
        let is_end = matches!(parser.peek_token_ref().token, Token::SemiColon | Token::EOF);
        return Ok(Statement::Reset(if is_end { None } else { Some(parse_key(parser)?) }));
    }
    let words = ["SELECT", "WITH", "VALUES"];
    if words.iter().any(|word| peek(parser, 0, word)) || parser.peek_token_ref().token == Token::LParen {
        return Ok(Statement::Query(parser.parse_query()?));
    }
    let found = parser.peek_token();
    parser.expected("a statement, such as SELECT, INSERT INTO or CREATE TABLE,", found)
}

/// A configuration key or value: in quotes, or words and dots.
fn parse_key(parser: &mut Parser<'_>) -> Result<String, ParserError> {
    let mut key = parse_text(parser)?;
    loop {
        match parser.peek_token_ref().token {
            Token::Period => key.push('.'),
            Token::Minus => key.push('-'),
            _ => return Ok(key),
        }
        parser.next_token();
        key.push_str(&parse_text(parser)?);
    }
}

fn parse_create(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    expect(parser, "CREATE")?;
    let or_replace = accept_all(parser, &["OR", "REPLACE"]);
    accept(parser, "TEMPORARY");
    if accept(parser, "TABLE") {
        return Ok(Statement::CreateTable(Box::new(create_table::parse(parser)?)));
    }
    if accept(parser, "VIEW") {
        let if_not_exists = accept_all(parser, &["IF", "NOT", "EXISTS"]);
        let name = parse_name(parser)?;
        let columns = match parser.peek_token_ref().token {
            Token::LParen => create_table::parse_columns(parser)?,
            _ => Vec::new(),
        };
        if accept(parser, "COMMENT") {
            parse_text(parser)?;
        }
        expect(parser, "AS")?;
        let query = *parser.parse_query()?;
        let view = CreateView { name, columns, query, or_replace, if_not_exists };
        return Ok(Statement::CreateView(Box::new(view)));
    }
    let found = parser.peek_token();
    parser.expected("TABLE or VIEW (functions are registered in the program that runs the statement)", found)
}

fn parse_insert(parser: &mut Parser<'_>) -> Result<Insert, ParserError> {
    expect(parser, "INSERT")?;
    if peek(parser, 0, "OVERWRITE") {
        let found = parser.peek_token();
        return parser.expected("INTO (nothing that is there is overwritten)", found);
    }
    expect(parser, "INTO")?;
    accept(parser, "TABLE");
    let table = parse_name(parser)?;
    let has_columns = parser.peek_token_ref().token == Token::LParen
        && !["SELECT", "WITH", "VALUES"].iter().any(|word| peek(parser, 1, word));
    let columns = if has_columns { create_table::parse_columns(parser)? } else { Vec::new() };
    Ok(Insert { table, columns, query: *parser.parse_query()? })
}

fn parse_statement_set(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    if !accept(parser, "BEGIN") {
        // `BEGIN STATEMENT SET;` has its semicolon before the first insert.
        let _ = parser.consume_token(&Token::SemiColon);
    }
    let mut inserts = Vec::new();
    loop {
        while parser.consume_token(&Token::SemiColon) {}
        if accept(parser, "END") {
            return Ok(Statement::Inserts(inserts));
        }
        inserts.push(parse_insert(parser)?);
    }
}

fn parse_explain(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    let mut details = Vec::new();
    if accept_all(parser, &["PLAN", "FOR"]) {
    } else {
        let known = ["ESTIMATED_COST", "CHANGELOG_MODE", "PLAN_ADVICE", "JSON_EXECUTION_PLAN"];
        while let Some(detail) = known.iter().find(|detail| peek(parser, 0, detail)) {
            parser.next_token();
            details.push((*detail).to_string());
            let _ = parser.consume_token(&Token::Comma);
        }
    }
    Ok(Statement::Explain { details, statement: Box::new(parse_statement(parser)?) })
}

fn parse_show(parser: &mut Parser<'_>) -> Result<Statement, ParserError> {
    if accept_all(parser, &["CREATE", "TABLE"]) {
        return Ok(Statement::Show(Shown::CreateTable(parse_name(parser)?)));
    }
    let shown = [("TABLES", Shown::Tables), ("VIEWS", Shown::Views), ("FUNCTIONS", Shown::Functions)];
    for (word, shown) in shown {
        if accept(parser, word) {
            return Ok(Statement::Show(shown));
        }
    }
    let found = parser.peek_token();
    parser.expected("TABLES, VIEWS, FUNCTIONS or CREATE TABLE", found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(sql: &str) -> String {
        parse(sql).unwrap_err().to_string()
    }

    #[test]
    fn statements_of_every_kind_parse() {
        let sql = "
            CREATE TABLE t (
                id BIGINT NOT NULL, r ROW<a INT, b ARRAY<STRING>>, key STRING COMMENT 'a name that is a keyword',
                ts AS TO_TIMESTAMP(`r`.b), m STRING METADATA FROM 'topic' VIRTUAL,
                WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (id) NOT ENFORCED
            ) PARTITIONED BY (key) WITH ('connector' = 'datagen', 'rows-per-second' = '5');
            CREATE TEMPORARY VIEW v (a) AS SELECT id FROM t;
            INSERT INTO t (id) SELECT 1;
            EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT * FROM t; INSERT INTO t VALUES (1); END;
            EXPLAIN CHANGELOG_MODE, PLAN_ADVICE SELECT * FROM t;
            SELECT * FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND));
            DESCRIBE t; SHOW TABLES; SET 'a.b' = 'c'; SET a.b-c = 5; RESET 'a.b'; DROP VIEW IF EXISTS v";
        let statements = parse(sql).unwrap();
        assert_eq!(statements.len(), 12);
        let Statement::CreateTable(table) = &statements[0] else { panic!("{:?}", statements[0]) };
        assert_eq!(table.columns.len(), 5);
        assert_eq!(
            (table.primary_key.clone(), table.partitioned_by.clone()),
            (vec!["id".to_string()], vec!["key".to_string()])
        );
        let Statement::Inserts(inserts) = &statements[3] else { panic!("{:?}", statements[3]) };
        assert_eq!(inserts.len(), 2);
        let Statement::Set(Some(pair)) = &statements[9] else { panic!("{:?}", statements[9]) };
        assert_eq!(pair, &("a.b-c".to_string(), "5".to_string()));
    }

    #[test]
    fn a_text_is_cut_into_statements() {
        let parts = split_statements(
            "SELECT 'a;''b'; -- c; d\nSELECT `x;y`;\n ;EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; END; SELECT 2",
        );
        let parts: Vec<String> = parts.unwrap().iter().map(|part| part.trim().to_string()).collect();
        let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO t SELECT 1; END";
        assert_eq!(parts, ["SELECT 'a;''b'", "-- c; d\nSELECT `x;y`", set, "SELECT 2"]);
        assert!(split_statements("SELECT 'a").is_err());
    }

    #[test]
    fn errors_show_the_place() {
        let shown = error("SELECT a\nFROM t WHERE\n  = b");
        assert!(shown.starts_with("line 3, column 3: expected"), "{shown}");
        assert!(shown.ends_with("\n    = b\n    ^"), "{shown}");
        assert!(error("SELECT 1 garbage after it").contains("expected ';'"));
        assert!(error("INSERT OVERWRITE t SELECT 1").contains("INTO"));
        assert!(error("FLY TO t").contains("a statement"));
    }

    #[test]
    fn deep_and_long_texts_are_refused() {
        let deep = format!("SELECT {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(error(&deep).contains("nested"));
        let deep = format!("SELECT {}1", "- ".repeat(100_000));
        assert!(parse(&deep).is_err());
        let deep = format!("SELECT {}", "CASE WHEN ".repeat(100_000));
        assert!(parse(&deep).is_err());
        assert!(error(&" ".repeat(5 << 20)).contains("bytes"));
    }
}
