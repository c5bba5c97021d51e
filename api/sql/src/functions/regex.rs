//! Regular expressions. Their syntax is that of Rust's `regex`, which has all of Java's but references back and looks
//! around, and takes a time that grows with the text only.

use super::columns::{Latest, bool_column, number_column, text_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use arrow::array::{ArrayRef, ListBuilder, StringBuilder};
use arrow::datatypes::{DataType, Field, Int32Type};
use datafusion_common::{DataFusionError, Result, plan_datafusion_err};
use regex::{CaptureLocations, NoExpand, Regex};
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Int, Text};
    vec![
        Function::new("regexp", &[Text, Text], returns::bool, is_match),
        Function::new("regexp_extract", &[Text, Text, Int], returns::text, extract).optional(1),
        Function::new("regexp_extract_all", &[Text, Text, Int], texts_type, extract_all).optional(1),
        Function::new("regexp_replace", &[Text, Text, Text], returns::text, replace),
        Function::new("regexp_count", &[Text, Text], returns::int, count),
        Function::new("regexp_instr", &[Text, Text], returns::int, place),
        Function::new("regexp_substr", &[Text, Text], returns::text, first),
    ]
}

pub(super) fn texts_type(_: &[DataType]) -> Result<DataType> {
    Ok(DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))))
}

/// An expression with room for its groups.
struct Compiled {
    regex: Regex,
    groups: CaptureLocations,
}

fn compile(pattern: &str) -> Result<Compiled> {
    let regex = Regex::new(pattern).map_err(|error| -> DataFusionError {
        // The last line says what is wrong, those before it draw where.
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string();
        plan_datafusion_err!("regular expression '{pattern}': {reason}")
    })?;
    Ok(Compiled { groups: regex.capture_locations(), regex })
}

/// Calls `row` with text and expression for each row in which neither is NULL.
fn for_each(call: &Call, mut row: impl FnMut(usize, Option<(&str, &mut Compiled)>)) -> Result<()> {
    let (texts, patterns) = (call.texts(0)?, call.texts(1)?);
    let mut constant = patterns.constant().map(compile).transpose()?;
    let mut latest = Latest::new();
    for i in 0..call.rows {
        let compiled = match (&mut constant, patterns.get(i)) {
            (Some(compiled), _) => Some(compiled),
            (None, Some(pattern)) => Some(latest.of(pattern, compile)?),
            (None, None) => None,
        };
        row(i, texts.get(i).zip(compiled));
    }
    Ok(())
}

/// An empty expression matches nothing in Flink's REGEXP.
fn is_match(call: &Call) -> Result<ArrayRef> {
    let mut results = Vec::with_capacity(call.rows);
    for_each(call, |_, found| {
        results
            .push(found.map(|(text, compiled)| {
                !compiled.regex.as_str().is_empty() && compiled.regex.is_match(text)
            }));
    })?;
    Ok(bool_column(call.rows, |row| results[row]))
}

/// Groups asked for, by row. None: the whole match.
fn group_of(call: &Call, default: i32) -> Result<impl Fn(usize) -> Option<usize>> {
    let groups = if call.len() > 2 { Some(call.numbers::<Int32Type>(2)?) } else { None };
    Ok(move |row| match &groups {
        Some(groups) => usize::try_from(groups.get(row)?).ok(),
        None => usize::try_from(default).ok(),
    })
}

fn extract(call: &Call) -> Result<ArrayRef> {
    let group = group_of(call, 0)?;
    let mut out = StringBuilder::with_capacity(call.rows, call.rows * 8);
    for_each(call, |row, found| {
        let extracted = found.and_then(|(text, compiled)| {
            let group = group(row)?;
            if group == 0 {
                return compiled.regex.find(text).map(|found| found.as_str());
            }
            compiled.regex.captures_read(&mut compiled.groups, text)?;
            compiled.groups.get(group).map(|(from, to)| &text[from..to])
        });
        out.append_option(extracted);
    })?;
    Ok(Arc::new(out.finish()))
}

fn extract_all(call: &Call) -> Result<ArrayRef> {
    let group = group_of(call, 1)?;
    let mut out = ListBuilder::new(StringBuilder::new());
    for_each(call, |row, found| {
        let group = group(row);
        match found.zip(group) {
            Some(((text, compiled), group)) if group < compiled.regex.captures_len() => {
                for captures in compiled.regex.captures_iter(text) {
                    out.values().append_option(captures.get(group).map(|found| found.as_str()));
                }
                out.append(true);
            }
            _ => out.append(false),
        }
    })?;
    Ok(Arc::new(out.finish()))
}

/// The replacement is plain text, as in Flink.
fn replace(call: &Call) -> Result<ArrayRef> {
    let replacements = call.texts(2)?;
    let mut out = StringBuilder::with_capacity(call.rows, call.rows * 16);
    for_each(call, |row, found| {
        let replaced = found.zip(replacements.get(row));
        match replaced {
            Some(((text, compiled), by)) => out.append_value(compiled.regex.replace_all(text, NoExpand(by))),
            None => out.append_null(),
        }
    })?;
    Ok(Arc::new(out.finish()))
}

fn count(call: &Call) -> Result<ArrayRef> {
    let mut results = Vec::with_capacity(call.rows);
    for_each(call, |_, found| {
        results.push(found.map(|(text, compiled)| compiled.regex.find_iter(text).count() as i32));
    })?;
    Ok(number_column::<Int32Type>(call.rows, |row| results[row]))
}

fn place(call: &Call) -> Result<ArrayRef> {
    let mut results = Vec::with_capacity(call.rows);
    for_each(call, |_, found| {
        results.push(found.map(|(text, compiled)| {
            compiled.regex.find(text).map_or(0, |found| super::text::count(&text[..found.start()]) as i32 + 1)
        }));
    })?;
    Ok(number_column::<Int32Type>(call.rows, |row| results[row]))
}

fn first(call: &Call) -> Result<ArrayRef> {
    let mut results = Vec::with_capacity(call.rows);
    for_each(call, |_, found| {
        results
            .push(found.and_then(|(text, compiled)| Some(compiled.regex.find(text)?.as_str().to_string())));
    })?;
    Ok(text_column(call.rows, 0, |row| results[row].as_deref()))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bools, check, refused, text};
    use super::*;
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;

    fn t(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    fn n(value: i32) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn groups_are_extracted() {
        let urls = || {
            text([
                Some("https://www.nexmark.com/a/b/c/item.htm?query=1&channel_id=42"),
                Some("channel_id="),
                Some("https://www.nexmark.com"),
                None,
                Some(""),
            ])
        };
        check(
            "regexp_extract",
            vec![urls().into(), t("(&|^)channel_id=([^&]*)"), n(2)],
            text([Some("42"), Some(""), None, None, None]),
        );
        check("regexp_extract", vec![t("foobarbar"), t("foo(.*?)(bar)")], text([Some("foobar")]));
        for group in [-1, 3] {
            check("regexp_extract", vec![t("foobar"), t("(o)(b)"), n(group)], text([None]));
        }
        check("regexp_extract", vec![t("a"), t("(a)|(b)"), n(2)], text([None]));
        let patterns = text([Some("[0-9]+"), Some("[a-z]+"), None]);
        check("regexp_extract", vec![t("é12ab"), patterns.into()], text([Some("12"), Some("ab"), None]));
        refused("regexp_extract", vec![t("a"), t("(?=a)")], "look-around");
        refused("regexp_extract", vec![t("a"), t("(")], "regular expression '('");
    }

    #[test]
    fn replacements_are_plain_text() {
        check("regexp_replace", vec![t("foobar"), t("oo|ar"), t("$1")], text([Some("f$1b$1")]));
        check("regexp_replace", vec![t("ab"), t("b*$"), ScalarValue::Utf8(None).into()], text([None]));
        check(
            "regexp_replace",
            vec![text([Some("a1"), None]).into(), t("[0-9]"), t("")],
            text([Some("a"), None]),
        );
    }

    #[test]
    fn matches_are_found() {
        check(
            "regexp",
            vec![text([Some("foo"), Some("x"), None]).into(), t("o+")],
            bools([Some(true), Some(false), None]),
        );
        check("regexp", vec![t("foo"), t("")], bools([Some(false)]));
        let ints = |value: i32| -> ArrayRef { Arc::new(arrow::array::Int32Array::from(vec![value])) };
        check("regexp_count", vec![t("a1b22"), t("[0-9]+")], ints(2));
        check("regexp_instr", vec![t("é1"), t("[0-9]")], ints(2));
        check("regexp_instr", vec![t("é"), t("[0-9]")], ints(0));
        check("regexp_substr", vec![t("ab12"), t("[0-9]")], text([Some("1")]));
    }
}
