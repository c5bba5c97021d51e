//! Text made of and taken into pieces: CONCAT, REPLACE, SPLIT_INDEX, TRANSLATE, PARSE_URL.

use super::columns::{Texts, text_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use super::regex::texts_type;
use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Int32Type};
use datafusion_common::Result;
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Any, Int, Text};
    vec![
        Function::new("concat", &[Text], returns::text, concat).repeated(),
        Function::new("concat_ws", &[Text, Text], returns::text, concat_with_separator)
            .optional(1)
            .repeated(),
        Function::new("replace", &[Text, Text, Text], returns::text, replace),
        Function::new("translate", &[Text, Text, Text], returns::text, translate),
        Function::new("split_index", &[Text, Any, Int], returns::text, split_index),
        Function::new("split", &[Text, Text], texts_type, split),
        Function::new("elt", &[Int, Text], returns::text, element).repeated(),
        Function::new("parse_url", &[Text, Text, Text], returns::text, parse_url).optional(1),
    ]
}

fn arguments<'a>(call: &Call<'a>, from: usize) -> Result<Vec<Texts<'a>>> {
    (from..call.len()).map(|i| call.texts(i)).collect()
}

/// NULL if any piece is.
fn concat(call: &Call) -> Result<ArrayRef> {
    let pieces = arguments(call, 0)?;
    let bytes = pieces.iter().map(|piece| piece.bytes(call.rows)).sum();
    let mut out = StringBuilder::with_capacity(call.rows, bytes);
    for row in 0..call.rows {
        if pieces.iter().any(|piece| piece.get(row).is_none()) {
            out.append_null();
            continue;
        }
        for piece in pieces.iter().filter_map(|piece| piece.get(row)) {
            // Writing to a builder cannot fail.
            _ = out.write_str(piece);
        }
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}

/// Pieces that are NULL are left out; a separator that is NULL makes all NULL.
fn concat_with_separator(call: &Call) -> Result<ArrayRef> {
    let (separators, pieces) = (call.texts(0)?, arguments(call, 1)?);
    let mut out =
        StringBuilder::with_capacity(call.rows, pieces.iter().map(|piece| piece.bytes(call.rows)).sum());
    for row in 0..call.rows {
        let Some(separator) = separators.get(row) else {
            out.append_null();
            continue;
        };
        for (i, piece) in pieces.iter().filter_map(|piece| piece.get(row)).enumerate() {
            _ = out.write_str(if i > 0 { separator } else { "" });
            _ = out.write_str(piece);
        }
        out.append_value("");
    }
    Ok(Arc::new(out.finish()))
}

fn replace(call: &Call) -> Result<ArrayRef> {
    let (texts, wanted, replacements) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    let mut out = StringBuilder::with_capacity(call.rows, texts.bytes(call.rows));
    for row in 0..call.rows {
        let (Some(text), Some(wanted), Some(by)) = (texts.get(row), wanted.get(row), replacements.get(row))
        else {
            out.append_null();
            continue;
        };
        let mut from = 0;
        for (at, found) in text.match_indices(wanted) {
            _ = out.write_str(&text[from..at]);
            _ = out.write_str(by);
            from = at + found.len();
        }
        out.append_value(&text[from..]);
    }
    Ok(Arc::new(out.finish()))
}

/// Each character of the second text becomes that at the same place of the third, or nothing.
fn translate(call: &Call) -> Result<ArrayRef> {
    let (texts, from, to) = (call.texts(0)?, call.texts(1)?, call.texts(2)?);
    Ok(text_column(call.rows, texts.bytes(call.rows), |row| {
        let (text, from, to) = (texts.get(row)?, from.get(row)?, to.get(row)?);
        let translated = text.chars().filter_map(|c| match from.chars().position(|other| other == c) {
            Some(at) => to.chars().nth(at),
            None => Some(c),
        });
        Some(translated.collect::<String>())
    }))
}

/// A piece by its index from 0. A separator without characters stands for white space; one that is a number, for the
/// character of that code.
fn split_index(call: &Call) -> Result<ArrayRef> {
    let (texts, indices) = (call.texts(0)?, call.numbers::<Int32Type>(2)?);
    let is_code = call.data_type(1)?.is_numeric();
    let codes = if is_code { Some(arrow::compute::cast(&call.array(1)?, &DataType::Int32)?) } else { None };
    let separators = match &codes {
        Some(codes) => {
            let codes = super::columns::Numbers::<Int32Type>::of(&Arc::clone(codes).into())?;
            let character = |row| u8::try_from(codes.get(row)?).ok().filter(|code| *code > 0).map(char::from);
            text_column(call.rows, call.rows, |row| character(row).map(String::from))
        }
        None => Arc::new(arrow::array::new_empty_array(&DataType::Utf8)),
    };
    let separators = datafusion_expr::ColumnarValue::Array(separators);
    let separators = if is_code { Texts::of(&separators)? } else { call.texts(1)? };
    let piece = |row| -> Option<&str> {
        let (text, separator) = (texts.get(row)?, separators.get(row)?);
        let index = usize::try_from(indices.get(row)?).ok()?;
        if text.is_empty() {
            // It has no pieces, not an empty one.
            return None;
        }
        match separator.as_bytes() {
            [] => text.split(char::is_whitespace).nth(index),
            [byte] => nth_piece(text, *byte, index),
            _ => text.split(separator).nth(index),
        }
    };
    Ok(text_column(call.rows, call.rows * 8, piece))
}

/// The same as `split(byte).nth(index)` for a single ASCII character, without the search's set-up for each piece.
#[inline]
fn nth_piece(text: &str, separator: u8, index: usize) -> Option<&str> {
    let bytes = text.as_bytes();
    let mut from = 0;
    for _ in 0..index {
        from += bytes[from..].iter().position(|byte| *byte == separator)? + 1;
    }
    let length = bytes[from..].iter().position(|byte| *byte == separator).unwrap_or(bytes.len() - from);
    // An ASCII character is never within another one.
    text.get(from..from + length)
}

fn split(call: &Call) -> Result<ArrayRef> {
    let (texts, separators) = (call.texts(0)?, call.texts(1)?);
    let mut out = ListBuilder::new(StringBuilder::new());
    for row in 0..call.rows {
        let (Some(text), Some(separator)) = (texts.get(row), separators.get(row)) else {
            out.append(false);
            continue;
        };
        if separator.is_empty() {
            for (byte, c) in text.char_indices() {
                out.values().append_value(&text[byte..byte + c.len_utf8()]);
            }
        } else {
            for piece in text.split(separator) {
                out.values().append_value(piece);
            }
        }
        out.append(true);
    }
    Ok(Arc::new(out.finish()))
}

/// The argument with an index from 1.
fn element(call: &Call) -> Result<ArrayRef> {
    let (indices, elements) = (call.numbers::<Int32Type>(0)?, arguments(call, 1)?);
    Ok(text_column(call.rows, 0, |row| {
        let index = usize::try_from(indices.get(row)?).ok()?.checked_sub(1)?;
        elements.get(index)?.get(row)
    }))
}

fn parse_url(call: &Call) -> Result<ArrayRef> {
    let (urls, parts, keys) = (call.texts(0)?, call.texts(1)?, call.optional_texts(2)?);
    Ok(text_column(call.rows, call.rows * 8, |row| {
        let (url, part) = (urls.get(row)?, parts.get(row)?);
        let key = match &keys {
            Some(keys) => Some(keys.get(row)?),
            None => None,
        };
        part_of(url, part, key)
    }))
}

fn part_of<'a>(url: &'a str, part: &str, key: Option<&str>) -> Option<&'a str> {
    let (protocol, rest) = url.split_once(':')?;
    if protocol.is_empty() || !protocol.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) {
        return None;
    }
    let (rest, reference) =
        rest.split_once('#').map_or((rest, None), |(rest, reference)| (rest, Some(reference)));
    let (rest, query) = rest.split_once('?').map_or((rest, None), |(rest, query)| (rest, Some(query)));
    let (authority, path) = match rest.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        None => ("", rest),
    };
    let (user, address) =
        authority.rsplit_once('@').map_or((None, authority), |(user, host)| (Some(user), host));
    if let Some(key) = key {
        let pairs = query.filter(|_| part == "QUERY")?;
        return pairs.split('&').find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
    }
    match part {
        "PROTOCOL" => Some(protocol),
        // An address of IP version 6 has colons within brackets.
        "HOST" => Some(match address.rfind(':') {
            Some(colon) if !address[colon..].contains(']') => &address[..colon],
            _ => address,
        }),
        "PATH" => Some(path),
        "QUERY" => query,
        "REF" => reference,
        "AUTHORITY" => Some(authority),
        "USERINFO" => user,
        "FILE" => {
            let from = url.len() - url.split_once(':')?.1.len()
                + if rest.starts_with("//") { 2 } else { 0 }
                + authority.len();
            let to = url.len() - reference.map_or(0, |reference| reference.len() + 1);
            url.get(from..to)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, text};
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;

    fn t(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    fn n(value: i32) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn pieces_are_split_off() {
        let urls = || text([Some("https://www.nexmark.com/a/bc/item.htm"), Some("none"), None, Some("")]);
        check("split_index", vec![urls().into(), t("/"), n(3)], text([Some("a"), None, None, None]));
        check("split_index", vec![urls().into(), t("/"), n(1)], text([Some(""), None, None, None]));
        check("split_index", vec![urls().into(), t("/"), n(-1)], text([None; 4]));
        check("split_index", vec![t("a::é::c"), t("::"), n(1)], text([Some("é")]));
        check("split_index", vec![t("a b\tc"), t(""), n(2)], text([Some("c")]));
        check("split_index", vec![t("a/b"), n(47), n(1)], text([Some("b")]));
        check("split_index", vec![t("日/本/"), t("/"), n(2)], text([Some("")]));
        check("split_index", vec![t("a/b"), ScalarValue::Utf8(None).into(), n(1)], text([None]));
    }

    #[test]
    fn pieces_are_put_together() {
        let some = || text([Some("a"), None]);
        check("concat", vec![some().into(), t("-"), some().into()], text([Some("a-a"), None]));
        check("concat", vec![some().into(), n(1)], text([Some("a1"), None]));
        check("concat_ws", vec![t("~"), some().into(), t("b")], text([Some("a~b"), Some("b")]));
        check("concat_ws", vec![ScalarValue::Utf8(None).into(), some().into()], text([None, None]));
        check("elt", vec![n(2), t("a"), t("b")], text([Some("b")]));
        check("elt", vec![n(3), t("a"), t("b")], text([None]));
    }

    #[test]
    fn text_is_replaced() {
        check(
            "replace",
            vec![text([Some("hello"), None]).into(), t("l"), t("LL")],
            text([Some("heLLLLo"), None]),
        );
        check("replace", vec![t("ab"), t(""), t("-")], text([Some("-a-b-")]));
        check("replace", vec![t("日本"), t("本"), t("")], text([Some("日")]));
        check("translate", vec![t("www.a.com"), t("wa."), t("zé")], text([Some("zzzécom")]));
    }

    #[test]
    fn urls_have_parts() {
        let url = "https://user:pw@example.com:80/p/a.html?x=1&yy=2#top";
        for (part, expected) in [
            ("PROTOCOL", "https"),
            ("HOST", "example.com"),
            ("PATH", "/p/a.html"),
            ("QUERY", "x=1&yy=2"),
            ("REF", "top"),
            ("AUTHORITY", "user:pw@example.com:80"),
            ("USERINFO", "user:pw"),
            ("FILE", "/p/a.html?x=1&yy=2"),
        ] {
            check("parse_url", vec![t(url), t(part)], text([Some(expected)]));
        }
        check("parse_url", vec![t(url), t("QUERY"), t("yy")], text([Some("2")]));
        check("parse_url", vec![t(url), t("QUERY"), t("y")], text([None]));
        check("parse_url", vec![t("no url"), t("HOST")], text([None]));
    }
}
