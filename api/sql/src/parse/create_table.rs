//! `CREATE TABLE`: columns of three kinds, watermark, primary key, partitions, options.

use super::{accept, accept_all, expect, parse_name, parse_text, peek};
use sqlparser::ast::{DataType, Expr};
use sqlparser::parser::{Parser, ParserError};
use sqlparser::tokenizer::Token;

/// A `CREATE TABLE` statement.
#[derive(Debug, Clone, Default)]
pub(crate) struct CreateTable {
    pub(crate) name: String,
    pub(crate) if_not_exists: bool,
    pub(crate) columns: Vec<TableColumn>,
    /// The column and the expression of `WATERMARK FOR … AS …`.
    pub(crate) watermark: Option<(String, Expr)>,
    pub(crate) primary_key: Vec<String>,
    pub(crate) partitioned_by: Vec<String>,
    pub(crate) options: Vec<(String, String)>,
    /// The table of `LIKE`.
    pub(crate) like: Option<String>,
}

/// A column of a table.
#[derive(Debug, Clone)]
pub(crate) struct TableColumn {
    pub(crate) name: String,
    pub(crate) kind: ColumnKind,
}

/// Where a column's values come from.
#[derive(Debug, Clone)]
pub(crate) enum ColumnKind {
    /// From the table's data.
    Physical { data_type: DataType, nullable: bool },
    /// From other columns.
    Computed(Box<Expr>),
    /// From what the connector knows beside the data, under this key or the column's own name.
    Metadata { data_type: DataType, key: Option<String>, is_virtual: bool },
}

/// What follows `CREATE TABLE`.
pub(super) fn parse(parser: &mut Parser<'_>) -> Result<CreateTable, ParserError> {
    let mut table = CreateTable {
        if_not_exists: accept_all(parser, &["IF", "NOT", "EXISTS"]),
        name: parse_name(parser)?,
        ..CreateTable::default()
    };
    if parser.consume_token(&Token::LParen) {
        loop {
            parse_element(parser, &mut table)?;
            if !parser.consume_token(&Token::Comma) {
                break;
            }
        }
        parser.expect_token(&Token::RParen)?;
    }
    if accept(parser, "COMMENT") {
        parse_text(parser)?;
    }
    if accept_all(parser, &["PARTITIONED", "BY"]) {
        table.partitioned_by = parse_columns(parser)?;
    }
    if accept(parser, "WITH") {
        parser.expect_token(&Token::LParen)?;
        if !parser.consume_token(&Token::RParen) {
            table.options = parser.parse_comma_separated(|parser| {
                let key = parser.parse_literal_string()?;
                parser.expect_token(&Token::Eq)?;
                Ok((key, parser.parse_literal_string()?))
            })?;
            parser.expect_token(&Token::RParen)?;
        }
    }
    if accept(parser, "LIKE") {
        table.like = Some(parse_name(parser)?);
    }
    Ok(table)
}

fn parse_element(parser: &mut Parser<'_>, table: &mut CreateTable) -> Result<(), ParserError> {
    if peek(parser, 0, "WATERMARK") && peek(parser, 1, "FOR") {
        accept_all(parser, &["WATERMARK", "FOR"]);
        let column = parser.parse_identifier()?.value;
        expect(parser, "AS")?;
        table.watermark = Some((column, parser.parse_expr()?));
        return Ok(());
    }
    if peek(parser, 0, "CONSTRAINT") && peek(parser, 2, "PRIMARY") {
        parser.next_token();
        parser.next_token();
    }
    if accept_all(parser, &["PRIMARY", "KEY"]) {
        table.primary_key = parse_columns(parser)?;
        return not_enforced(parser);
    }
    let name = parser.parse_identifier()?.value;
    let kind = if accept(parser, "AS") {
        ColumnKind::Computed(Box::new(parser.parse_expr()?))
    } else {
        let data_type = parser.parse_data_type()?;
        if accept(parser, "METADATA") {
            let key = if accept(parser, "FROM") { Some(parser.parse_literal_string()?) } else { None };
            ColumnKind::Metadata { data_type, key, is_virtual: accept(parser, "VIRTUAL") }
        } else {
            let mut nullable = true;
            loop {
                if accept_all(parser, &["NOT", "NULL"]) {
                    nullable = false;
                } else if accept(parser, "NULL") {
                    nullable = true;
                } else if accept_all(parser, &["PRIMARY", "KEY"]) {
                    table.primary_key = vec![name.clone()];
                    not_enforced(parser)?;
                } else {
                    break;
                }
            }
            ColumnKind::Physical { data_type, nullable }
        }
    };
    if accept(parser, "COMMENT") {
        parse_text(parser)?;
    }
    table.columns.push(TableColumn { name, kind });
    Ok(())
}

/// A key is a promise of the user's: whoever wants it enforced is told that it is not.
fn not_enforced(parser: &mut Parser<'_>) -> Result<(), ParserError> {
    if accept_all(parser, &["NOT", "ENFORCED"]) {
        return Ok(());
    }
    let found = parser.peek_token();
    parser.expected("NOT ENFORCED after PRIMARY KEY", found)
}

/// Names of columns in parentheses.
pub(super) fn parse_columns(parser: &mut Parser<'_>) -> Result<Vec<String>, ParserError> {
    parser.expect_token(&Token::LParen)?;
    let columns = parser.parse_comma_separated(|parser| Ok(parser.parse_identifier()?.value))?;
    parser.expect_token(&Token::RParen)?;
    Ok(columns)
}
