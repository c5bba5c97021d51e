//! What is done to a text's tokens before they are parsed.

use crate::error::{ErrorKind, Position, SqlError};
use sqlparser::tokenizer::{Token, TokenWithSpan, Whitespace};

/// Refuses texts in which parentheses, brackets or CASEs are nested deeper than `most`.
pub(super) fn check_depth(tokens: &[TokenWithSpan], most: usize) -> Result<(), SqlError> {
    let mut depth = 0usize;
    for token in tokens {
        match &token.token {
            Token::LParen | Token::LBracket | Token::LBrace => depth += 1,
            Token::RParen | Token::RBracket | Token::RBrace => depth = depth.saturating_sub(1),
            _ => {}
        }
        if super::is_word(&token.token, "CASE") {
            depth += 1;
        } else if super::is_word(&token.token, "END") {
            depth = depth.saturating_sub(1);
        }
        if depth > most {
            let message = format!("nested deeper than {most} levels");
            let hint = "give the inner part a name with WITH or CREATE VIEW";
            return Err(SqlError::new(ErrorKind::Syntax, message).at(position(token)).with_hint(hint));
        }
    }
    Ok(())
}

/// Refuses statements with more than `most` of what makes their trees deep without nesting: operators, joins, set
/// operations. The planner walks those by recursion.
pub(super) fn check_length(tokens: &[TokenWithSpan], most: usize) -> Result<(), SqlError> {
    let words = ["AND", "OR", "NOT", "UNION", "INTERSECT", "EXCEPT", "JOIN", "LIKE", "IS"];
    let mut count = 0usize;
    for token in tokens {
        let deepens = match &token.token {
            Token::SemiColon => {
                count = 0;
                false
            }
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::Mod | Token::StringConcat => true,
            Token::Eq | Token::Neq | Token::Lt | Token::LtEq | Token::Gt | Token::GtEq => true,
            Token::LBracket | Token::Period | Token::DoubleColon => true,
            word => words.iter().any(|other| super::is_word(word, other)),
        };
        count += usize::from(deepens);
        if count > most {
            let message = format!("a statement of more than {most} operators");
            let hint = "use IN for many alternatives, or give parts names with WITH or CREATE VIEW";
            return Err(SqlError::new(ErrorKind::Syntax, message).at(position(token)).with_hint(hint));
        }
    }
    Ok(())
}

fn position(token: &TokenWithSpan) -> Position {
    Position { line: token.span.start.line, column: token.span.start.column }
}

/// `ROW<…>` becomes `STRUCT<…>`, `TUMBLE_START(…)` of grouped windows `$window_start(TUMBLE(…))`, and the unit of
/// `TIMESTAMPDIFF(unit, …)` a text. Hints that would change results are refused rather than dropped.
pub(super) fn rewrite(tokens: Vec<TokenWithSpan>) -> Result<Vec<TokenWithSpan>, SqlError> {
    for token in &tokens {
        if let Token::Whitespace(Whitespace::MultiLineComment(text)) = &token.token
            && let Some(hint) = text.strip_prefix('+')
            && ["OPTIONS", "STATE_TTL"].iter().any(|name| hint.to_uppercase().contains(name))
        {
            let message = format!("the hint '{}' is not supported", hint.trim());
            let hint = "put the option into the table's WITH, or SET it";
            return Err(SqlError::unsupported(message).at(position(token)).with_hint(hint));
        }
    }
    let mut tokens: Vec<TokenWithSpan> =
        tokens.into_iter().filter(|token| !matches!(token.token, Token::Whitespace(_))).collect();
    let mut at = 0;
    while at + 1 < tokens.len() {
        let next = tokens[at + 1].token.clone();
        if super::is_word(&tokens[at].token, "ROW") && next == Token::Lt {
            tokens[at].token = Token::make_keyword("STRUCT");
        }
        if next == Token::LParen
            && let Token::Word(word) = &tokens[at].token
        {
            let name = word.value.to_uppercase();
            if let Some((window, part)) = name.split_once('_')
                && ["TUMBLE", "HOP", "SESSION"].contains(&window)
                && ["START", "END", "ROWTIME", "PROCTIME"].contains(&part)
            {
                group_window(&mut tokens, at, window, part);
                at += 2;
            } else if ["TIMESTAMPDIFF", "TIMESTAMPADD"].contains(&name.as_str())
                && let Some(Token::Word(unit)) = tokens.get(at + 2).map(|token| token.token.clone())
            {
                tokens[at + 2].token = Token::SingleQuotedString(unit.value);
            }
        }
        at += 1;
    }
    Ok(tokens)
}

/// `SESSION_START(x, i)` becomes `` `$window_start`(SESSION(x, i)) ``, so that the expression of GROUP BY is found in it.
fn group_window(tokens: &mut Vec<TokenWithSpan>, at: usize, window: &str, part: &str) {
    let mut depth = 0usize;
    let close = (at + 1..tokens.len()).find(|place| {
        match tokens[*place].token {
            Token::LParen => depth += 1,
            Token::RParen => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    let Some(close) = close else { return };
    let span = tokens[at].span;
    tokens.insert(close, TokenWithSpan::new(Token::RParen, span));
    tokens[at].token = Token::make_word(window, None);
    let name = Token::make_word(&format!("$window_{}", part.to_lowercase()), Some('`'));
    tokens.splice(at..at, [TokenWithSpan::new(name, span), TokenWithSpan::new(Token::LParen, span)]);
}
