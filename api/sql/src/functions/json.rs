//! JSON in text: JSON_VALUE, JSON_QUERY, JSON_EXISTS and their like. A path leads to a piece of the text, which is
//! returned as it was written: members keep their order and numbers their digits.

use super::columns::{Latest, Texts, bool_column, text_column};
use super::definition::{Call, Function, returns};
use super::json_path::{Path, is_valid, text_of};
use super::kinds::Kind;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::Result;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Any, Text};
    vec![
        Function::new("json_value", &[Text, Text], returns::text, |call| find_all(call, scalar)),
        Function::new("json_query", &[Text, Text], returns::text, |call| find_all(call, composite)),
        Function::new("json_exists", &[Text, Text], returns::bool, exists),
        Function::new("json_quote", &[Text], returns::text, quote),
        Function::new("json_unquote", &[Text], returns::text, unquote),
        Function::new("json_string", &[Any], returns::text, string),
        Function::new("is_json", &[Text, Text], returns::bool, is_json).optional(1),
    ]
}

/// Calls `row` with what a path finds, for each row in which neither text nor path is NULL.
fn find_each<'a>(call: &Call<'a>, mut row: impl FnMut(Option<Option<&'a str>>)) -> Result<()> {
    let (texts, paths) = (call.texts(0)?, call.texts(1)?);
    let mut latest = Latest::new();
    for i in 0..call.rows {
        let (Some(text), Some(path)) = (texts.get(i), paths.get(i)) else {
            row(None);
            continue;
        };
        let path = latest.of(path, Path::read)?;
        row(Some(if is_valid(text) { path.find(text) } else { None }));
    }
    Ok(())
}

fn find_all(call: &Call, make: fn(&str) -> Option<String>) -> Result<ArrayRef> {
    let mut found = Vec::with_capacity(call.rows);
    find_each(call, |piece| found.push(piece.flatten().and_then(make)))?;
    Ok(text_column(call.rows, 0, |row| found[row].as_deref()))
}

/// A string without its quotes, a number or a truth value.
fn scalar(json: &str) -> Option<String> {
    match json.as_bytes().first()? {
        b'"' => text_of(json),
        b'{' | b'[' | b'n' => None,
        _ => Some(json.to_string()),
    }
}

/// An object or an array, without white space, as Flink writes it.
fn composite(json: &str) -> Option<String> {
    if !json.starts_with(['{', '[']) {
        return None;
    }
    let mut out = String::with_capacity(json.len());
    let mut is_in_string = false;
    let mut is_escaped = false;
    for c in json.chars() {
        if is_in_string || !c.is_ascii_whitespace() {
            out.push(c);
        }
        if c == '"' && !is_escaped {
            is_in_string = !is_in_string;
        }
        is_escaped = is_in_string && c == '\\' && !is_escaped;
    }
    Some(out)
}

fn exists(call: &Call) -> Result<ArrayRef> {
    let mut found = Vec::with_capacity(call.rows);
    find_each(call, |piece| found.push(piece.map(|piece| piece.is_some())))?;
    Ok(bool_column(call.rows, |row| found[row]))
}

/// The second argument is VALUE, SCALAR, ARRAY or OBJECT. NULL is no JSON.
fn is_json(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let kinds = call.optional_texts(1)?.unwrap_or(Texts::Constant(Some("VALUE")));
    Ok(bool_column(call.rows, |row| {
        Some(texts.get(row).is_some_and(|text| {
            let first = text.trim_start().chars().next();
            let is_kind = match kinds.get(row) {
                Some("OBJECT") => first == Some('{'),
                Some("ARRAY") => first == Some('['),
                Some("SCALAR") => !matches!(first, Some('{' | '[')),
                _ => true,
            };
            is_kind && is_valid(text)
        }))
    }))
}

fn quoted(text: &str) -> Option<String> {
    serde_json::to_string(text).ok()
}

fn quote(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    Ok(text_column(call.rows, 0, |row| quoted(texts.get(row)?)))
}

/// Text that is no string of JSON stays as it is.
fn unquote(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    Ok(text_column(call.rows, 0, |row| {
        let text = texts.get(row)?;
        Some(if text.starts_with('"') {
            text_of(text).unwrap_or_else(|| text.to_string())
        } else {
            text.to_string()
        })
    }))
}

/// A value as JSON.
fn string(call: &Call) -> Result<ArrayRef> {
    let array = call.array(0)?;
    let mut values = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        values.push(if array.is_null(row) { None } else { Some(value_as_json(&array, row)?) });
    }
    Ok(text_column(call.rows, 0, |row| values[row].as_deref()))
}

fn value_as_json(array: &ArrayRef, row: usize) -> Result<String> {
    if array.is_null(row) {
        return Ok("null".to_string());
    }
    let shown = |row| -> Result<String> {
        Ok(ArrayFormatter::try_new(array, &FormatOptions::default())?.value(row).to_string())
    };
    Ok(match array.data_type() {
        DataType::Null => "null".to_string(),
        DataType::Boolean | DataType::Decimal128(..) => shown(row)?,
        number if number.is_numeric() => shown(row)?,
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            let items = (0..items.len()).map(|i| value_as_json(&items, i)).collect::<Result<Vec<_>>>()?;
            format!("[{}]", items.join(","))
        }
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let members = fields.iter().zip(columns).map(|(field, column)| {
                Ok(format!("{}:{}", quoted(field.name()).unwrap_or_default(), value_as_json(column, row)?))
            });
            format!("{{{}}}", members.collect::<Result<Vec<_>>>()?.join(","))
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (names, values) = (entries.column(0), entries.column(1));
            let members = (0..entries.len()).map(|i| {
                let name = value_as_json(names, i)?;
                let name = if name.starts_with('"') { name } else { quoted(&name).unwrap_or_default() };
                Ok(format!("{name}:{}", value_as_json(values, i)?))
            });
            format!("{{{}}}", members.collect::<Result<Vec<_>>>()?.join(","))
        }
        _ => quoted(&shown(row)?).unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bools, check, longs, refused, text};
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;

    const JSON: &str =
        r#"{"b": {"x y": [1, 2.50, {"é": "q\"u"}]}, "a": "t", "n": null, "yes": true, "e\u0041": 5}"#;

    fn t(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn paths_lead_to_values() {
        for (path, value, query, exists) in [
            ("$.a", Some("t"), None, true),
            ("$.b['x y'][1]", Some("2.50"), None, true),
            ("lax $.b.x y[2].é", Some("q\"u"), None, true),
            ("$.b", None, Some(r#"{"x y":[1,2.50,{"é":"q\"u"}]}"#), true),
            ("$.b['x y'][3]", None, None, false),
            ("$.n", None, None, true),
            ("$.yes", Some("true"), None, true),
            ("$.eA", Some("5"), None, true),
            ("$.a.b", None, None, false),
            ("$[0]", None, None, false),
        ] {
            check("json_value", vec![t(JSON), t(path)], text([value]));
            check("json_query", vec![t(JSON), t(path)], text([query]));
            check("json_exists", vec![t(JSON), t(path)], bools([Some(exists)]));
        }
        let texts = || text([Some("[10, 20]"), Some("[10"), Some(""), None]).into();
        check("json_value", vec![texts(), t("$[1]")], text([Some("20"), None, None, None]));
        check("json_exists", vec![texts(), t("$[1]")], bools([Some(true), Some(false), Some(false), None]));
        check("json_value", vec![t("7"), t("$")], text([Some("7")]));
    }

    #[test]
    fn paths_that_are_none_are_refused() {
        for path in ["a", "$.", "$.*", "$[", "$[*]", "$x"] {
            refused("json_value", vec![t("{}"), t(path)], "JSON path");
        }
    }

    #[test]
    fn text_is_or_is_not_json() {
        let texts = || text([Some("{}"), Some("[1]"), Some("\"a\""), Some("x"), None]).into();
        check(
            "is_json",
            vec![texts()],
            bools([Some(true), Some(true), Some(true), Some(false), Some(false)]),
        );
        check(
            "is_json",
            vec![texts(), t("SCALAR")],
            bools([Some(false), Some(false), Some(true), Some(false), Some(false)]),
        );
        check(
            "is_json",
            vec![texts(), t("ARRAY")],
            bools([Some(false), Some(true), Some(false), Some(false), Some(false)]),
        );
    }

    #[test]
    fn values_are_written() {
        check("json_string", vec![longs([Some(1), None]).into()], text([Some("1"), None]));
        check("json_string", vec![t("a\"b")], text([Some(r#""a\"b""#)]));
        check("json_quote", vec![t("a\n")], text([Some(r#""a\n""#)]));
        check(
            "json_unquote",
            vec![text([Some(r#""a\n""#), Some("b")]).into()],
            text([Some("a\n"), Some("b")]),
        );
    }
}
