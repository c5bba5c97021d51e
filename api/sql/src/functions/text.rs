//! Text by characters: SUBSTRING, POSITION, TRIM, LPAD and their like. Characters are counted as Unicode's, from 1.

use super::columns::{Numbers, Texts, bool_column, number_column, text_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::Int32Type;
use datafusion_common::{Result, plan_err};
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Int, Long, Text, TextOrBytes};
    vec![
        Function::new("char_length", &[Text], returns::int, char_length),
        Function::new("character_length", &[Text], returns::int, char_length),
        Function::new("substring", &[Text, Int, Int], returns::text, substring).optional(1),
        Function::new("substr", &[Text, Int, Int], returns::text, substring).optional(1),
        Function::new("left", &[Text, Int], returns::text, |call| ends(call, left)),
        Function::new("right", &[Text, Int], returns::text, |call| ends(call, right)),
        Function::new("position", &[Text, Text], returns::int, |call| position(call, 1, 0)),
        Function::new("instr", &[Text, Text, Int, Int], returns::int, |call| position(call, 0, 1))
            .optional(2),
        Function::new("locate", &[Text, Text, Int], returns::int, |call| position(call, 1, 0)).optional(1),
        Function::new("overlay", &[Text, Text, Int, Int], returns::text, overlay).optional(1),
        Function::new("trim", &[Text, Text], returns::text, |call| trim(call, true, true)).optional(1),
        Function::new("btrim", &[Text, Text], returns::text, |call| trim(call, true, true)).optional(1),
        Function::new("ltrim", &[Text, Text], returns::text, |call| trim(call, true, false)).optional(1),
        Function::new("rtrim", &[Text, Text], returns::text, |call| trim(call, false, true)).optional(1),
        Function::new("lpad", &[Text, Int, Text], returns::text, |call| pad(call, true)),
        Function::new("rpad", &[Text, Int, Text], returns::text, |call| pad(call, false)),
        Function::new("repeat", &[Text, Int], returns::text, repeat),
        Function::new("reverse", &[Text], returns::text, reverse),
        Function::new("ascii", &[Text], returns::int, ascii),
        Function::new("chr", &[Long], returns::text, chr),
        Function::new("startswith", &[TextOrBytes, Text], returns::bool, |call| {
            test(call, |a, b| a.starts_with(b))
        }),
        Function::new("endswith", &[TextOrBytes, Text], returns::bool, |call| {
            test(call, |a, b| a.ends_with(b))
        }),
        Function::new("is_alpha", &[Text], returns::bool, |call| is_made_of(call, is_alpha)),
        Function::new("is_digit", &[Text], returns::bool, |call| is_made_of(call, is_digit)),
        Function::new("is_decimal", &[Text], returns::bool, |call| is_made_of(call, is_decimal)),
    ]
}

/// The byte at which the character with an index from 0 begins, or the end of the text.
#[inline]
fn byte_of(text: &str, index: usize) -> usize {
    if text.is_ascii() {
        return index.min(text.len());
    }
    text.char_indices().nth(index).map_or(text.len(), |(byte, _)| byte)
}

#[inline]
pub(super) fn count(text: &str) -> usize {
    if text.is_ascii() { text.len() } else { text.chars().count() }
}

fn char_length(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    Ok(number_column::<Int32Type>(call.rows, |row| texts.get(row).map(|text| count(text) as i32)))
}

/// An argument that may be left out. Inner none: NULL.
fn optional_int(call: &Call, argument: usize) -> Result<Option<Numbers<Int32Type>>> {
    if argument < call.len() { call.numbers(argument).map(Some) } else { Ok(None) }
}

/// A start below 0 counts from the end; 0 is as good as 1. A length below 0 makes NULL.
fn substring(call: &Call) -> Result<ArrayRef> {
    let (texts, starts, lengths) = (call.texts(0)?, call.numbers::<Int32Type>(1)?, optional_int(call, 2)?);
    let part = |row| -> Option<&str> {
        let (text, start) = (texts.get(row)?, starts.get(row)?);
        let length = match &lengths {
            Some(lengths) => usize::try_from(lengths.get(row)?).ok()?,
            None => usize::MAX,
        };
        let start = match usize::try_from(start) {
            Ok(start) => start.saturating_sub(1),
            Err(_) => match count(text).checked_sub(start.unsigned_abs() as usize) {
                Some(start) => start,
                None => return Some(""),
            },
        };
        let rest = &text[byte_of(text, start)..];
        Some(&rest[..byte_of(rest, length)])
    };
    Ok(text_column(call.rows, texts.bytes(call.rows), part))
}

fn ends(call: &Call, end: fn(&str, usize) -> &str) -> Result<ArrayRef> {
    let (texts, lengths) = (call.texts(0)?, call.numbers::<Int32Type>(1)?);
    Ok(text_column(call.rows, texts.bytes(call.rows), |row| {
        Some(end(texts.get(row)?, usize::try_from(lengths.get(row)?).unwrap_or(0)))
    }))
}

fn left(text: &str, length: usize) -> &str {
    &text[..byte_of(text, length)]
}

fn right(text: &str, length: usize) -> &str {
    &text[byte_of(text, count(text).saturating_sub(length))..]
}

/// Where the wanted text begins, from 1; 0 if nowhere. A third argument says where to begin, from the end if it is
/// below 0, and a fourth which one to find.
fn position(call: &Call, text: usize, wanted: usize) -> Result<ArrayRef> {
    let (texts, wanted) = (call.texts(text)?, call.texts(wanted)?);
    let (starts, times) = (optional_int(call, 2)?, optional_int(call, 3)?);
    let mut places = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let or_one = |numbers: &Option<Numbers<Int32Type>>| numbers.as_ref().map_or(Some(1), |n| n.get(row));
        let (Some(text), Some(wanted), Some(start), Some(times)) =
            (texts.get(row), wanted.get(row), or_one(&starts), or_one(&times))
        else {
            places.push(None);
            continue;
        };
        let Some(times) = usize::try_from(times).ok().filter(|times| *times > 0) else {
            return plan_err!("INSTR counts from 1, not from {times}");
        };
        places.push(Some(place(text, wanted, start, times)));
    }
    Ok(number_column::<Int32Type>(call.rows, |row| places[row]))
}

fn place(text: &str, wanted: &str, start: i32, times: usize) -> i32 {
    if start < 0 {
        let (text_back, wanted_back): (String, String) =
            (text.chars().rev().collect(), wanted.chars().rev().collect());
        return match place(&text_back, &wanted_back, start.saturating_neg(), times) {
            0 => 0,
            back => count(text) as i32 + 2 - back - count(wanted) as i32,
        };
    }
    let Some(mut from) = (start as usize).checked_sub(1).map(|start| byte_of(text, start)) else { return 0 };
    for found in 1..=times {
        match text[from..].find(wanted) {
            Some(byte) if found == times => return count(&text[..from + byte]) as i32 + 1,
            // The next one may overlap with this one.
            Some(byte) => from = next_char(text, from + byte),
            None => return 0,
        }
    }
    0
}

fn next_char(text: &str, byte: usize) -> usize {
    text[byte..].chars().next().map_or(text.len(), |c| byte + c.len_utf8())
}

/// Text with other text from a place on. A place outside of the text leaves it as it is.
fn overlay(call: &Call) -> Result<ArrayRef> {
    let (texts, inserts, starts) = (call.texts(0)?, call.texts(1)?, call.numbers::<Int32Type>(2)?);
    let lengths = optional_int(call, 3)?;
    Ok(text_column(call.rows, texts.bytes(call.rows), |row| {
        let (text, insert, start) = (texts.get(row)?, inserts.get(row)?, starts.get(row)?);
        let length = match &lengths {
            Some(lengths) => lengths.get(row)?,
            None => count(insert) as i32,
        };
        let characters = count(text) as i32;
        if start <= 0 || start > characters {
            return Some(text.to_string());
        }
        let mut out = String::with_capacity(text.len() + insert.len());
        out.push_str(left(text, start as usize - 1));
        out.push_str(insert);
        if length > 0 && start.saturating_add(length) <= characters {
            out.push_str(&text[byte_of(text, (start - 1 + length) as usize)..]);
        }
        Some(out)
    }))
}

/// Takes characters of a set, or spaces, from the ends.
fn trim(call: &Call, at_start: bool, at_end: bool) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let sets = call.optional_texts(1)?.unwrap_or(Texts::Constant(Some(" ")));
    Ok(text_column(call.rows, texts.bytes(call.rows), |row| {
        let (mut text, set) = (texts.get(row)?, sets.get(row)?);
        let is_in_set = |c: char| set.contains(c);
        if at_start {
            text = text.trim_start_matches(is_in_set);
        }
        if at_end {
            text = text.trim_end_matches(is_in_set);
        }
        Some(text)
    }))
}

/// Longest text that a function makes of short arguments, so that a typing error does not take all memory.
const MOST_BYTES: usize = 64 << 20;

fn pad(call: &Call, at_start: bool) -> Result<ArrayRef> {
    let (texts, lengths, pads) = (call.texts(0)?, call.numbers::<Int32Type>(1)?, call.texts(2)?);
    let mut padded = String::new();
    let mut out = StringBuilder::new();
    for row in 0..call.rows {
        let (Some(text), Some(length), Some(pad)) = (texts.get(row), lengths.get(row), pads.get(row)) else {
            out.append_null();
            continue;
        };
        let length = match usize::try_from(length) {
            Ok(length) if !pad.is_empty() && length * 4 <= MOST_BYTES => length,
            _ => {
                out.append_null();
                continue;
            }
        };
        let missing = length.saturating_sub(count(text));
        if missing == 0 {
            out.append_value(left(text, length));
            continue;
        }
        padded.clear();
        padded.extend(pad.chars().cycle().take(missing));
        // Writing to a builder cannot fail.
        _ = if at_start { out.write_str(&padded) } else { out.write_str(text) };
        out.append_value(if at_start { text } else { &padded });
    }
    Ok(Arc::new(out.finish()))
}

fn repeat(call: &Call) -> Result<ArrayRef> {
    let (texts, times) = (call.texts(0)?, call.numbers::<Int32Type>(1)?);
    Ok(text_column(call.rows, 0, |row| {
        let (text, times) = (texts.get(row)?, usize::try_from(times.get(row)?).unwrap_or(0));
        (text.len().saturating_mul(times) <= MOST_BYTES).then(|| text.repeat(times))
    }))
}

fn reverse(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let reversed = |row| Some(texts.get(row)?.chars().rev().collect::<String>());
    Ok(text_column(call.rows, texts.bytes(call.rows), reversed))
}

fn ascii(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let first = |text: &str| text.chars().next().map_or(0, |c| c as i32);
    Ok(number_column::<Int32Type>(call.rows, |row| texts.get(row).map(first)))
}

/// The character of the last eight bits, as in Flink. Negative numbers have none.
fn chr(call: &Call) -> Result<ArrayRef> {
    let codes = call.numbers::<arrow::datatypes::Int64Type>(0)?;
    Ok(text_column(call.rows, call.rows, |row| {
        let code = codes.get(row)?;
        Some(if code < 0 { String::new() } else { char::from((code & 0xff) as u8).to_string() })
    }))
}

fn test(call: &Call, test: fn(&str, &str) -> bool) -> Result<ArrayRef> {
    let (texts, others) = (call.texts(0)?, call.texts(1)?);
    Ok(bool_column(call.rows, |row| Some(test(texts.get(row)?, others.get(row)?))))
}

/// Flink's tests are never NULL: NULL is made of nothing.
fn is_made_of(call: &Call, test: fn(&str) -> bool) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    Ok(bool_column(call.rows, |row| Some(texts.get(row).is_some_and(test))))
}

fn is_alpha(text: &str) -> bool {
    !text.is_empty() && text.chars().all(char::is_alphabetic)
}

fn is_digit(text: &str) -> bool {
    !text.is_empty() && text.chars().all(char::is_numeric)
}

/// What Java reads as a DOUBLE.
fn is_decimal(text: &str) -> bool {
    let text = text.trim();
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    matches!(digits, "NaN" | "Infinity")
        || (digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') && digits.parse::<f64>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{bools, check, refused, text};
    use super::*;
    use arrow::array::Int32Array;
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;

    fn t(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    fn n(value: i32) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    fn ints<const N: usize>(values: [Option<i32>; N]) -> ArrayRef {
        Arc::new(Int32Array::from(values.to_vec()))
    }

    #[test]
    fn characters_are_counted_not_bytes() {
        let texts = text([Some("héllo"), None, Some(""), Some("日本")]);
        check("char_length", vec![texts.into()], ints([Some(5), None, Some(0), Some(2)]));
        check("substring", vec![t("日本語テスト"), n(2), n(3)], text([Some("本語テ")]));
        check("position", vec![t("語"), t("日本語")], ints([Some(3)]));
        check("right", vec![t("日本語"), n(2)], text([Some("本語")]));
        check("reverse", vec![t("añb")], text([Some("bña")]));
    }

    #[test]
    fn substrings_begin_anywhere() {
        for (start, length, expected) in [
            (1, 3, "abc"),
            (0, 2, "ab"),
            (-2, 5, "ef"),
            (-9, 2, ""),
            (7, 1, ""),
            (3, 0, ""),
            (2, i32::MAX, "bcdef"),
        ] {
            check("substring", vec![t("abcdef"), n(start), n(length)], text([Some(expected)]));
        }
        check("substring", vec![t("abc"), n(1), n(-1)], text([None]));
        check("substring", vec![text([Some("abc"), None]).into(), n(2)], text([Some("bc"), None]));
        check("substring", vec![t("abc"), ScalarValue::Int32(None).into()], text([None]));
    }

    #[test]
    fn places_are_found() {
        check("instr", vec![t("Corporate Floor"), t("or"), n(3), n(2)], ints([Some(14)]));
        check("instr", vec![t("aaa"), t("aa"), n(1), n(2)], ints([Some(2)]));
        check("instr", vec![t("abc"), t("x")], ints([Some(0)]));
        check("instr", vec![t("Corporate Floor"), t("or"), n(-3), n(2)], ints([Some(2)]));
        check("instr", vec![t("añañ"), t("añ"), n(-1)], ints([Some(3)]));
        refused("instr", vec![t("abc"), t("a"), n(1), n(0)], "counts from 1");
        check("locate", vec![t("b"), t("abcb"), n(3)], ints([Some(4)]));
        check("locate", vec![t("b"), t("abcb"), n(0)], ints([Some(0)]));
        check("position", vec![t(""), t("abc")], ints([Some(1)]));
    }

    #[test]
    fn ends_are_trimmed_and_padded() {
        check("trim", vec![t("  a b ")], text([Some("a b")]));
        check("trim", vec![t("\ta ")], text([Some("\ta")]));
        check("ltrim", vec![t("xxyaxx"), t("xy")], text([Some("axx")]));
        check("rtrim", vec![t("xxyaxx"), t("xy")], text([Some("xxya")]));
        check("lpad", vec![t("hi"), n(5), t("ab")], text([Some("abahi")]));
        check("rpad", vec![t("hi"), n(5), t("é")], text([Some("hiééé")]));
        check("lpad", vec![t("hello"), n(2), t("?")], text([Some("he")]));
        check("lpad", vec![t("hi"), n(-1), t("?")], text([None]));
        check("lpad", vec![t("hi"), n(3), t("")], text([None]));
        check("lpad", vec![t("hi"), n(0), t("?")], text([Some("")]));
    }

    #[test]
    fn text_is_laid_over() {
        check("overlay", vec![t("xxxxxtest"), t("xxxx"), n(6)], text([Some("xxxxxxxxx")]));
        check("overlay", vec![t("xxxxxtest"), t("xxxx"), n(6), n(2)], text([Some("xxxxxxxxxst")]));
        check("overlay", vec![t("abc"), t("X"), n(9)], text([Some("abc")]));
    }

    #[test]
    fn single_characters() {
        check("ascii", vec![text([Some("abc"), Some(""), None]).into()], ints([Some(97), Some(0), None]));
        check("chr", vec![n(353)], text([Some("a")]));
        check("chr", vec![n(-1)], text([Some("")]));
        check("repeat", vec![t("ab"), n(3)], text([Some("ababab")]));
        check("repeat", vec![t("ab"), n(-3)], text([Some("")]));
    }

    #[test]
    fn text_is_tested() {
        check(
            "is_digit",
            vec![text([Some("12"), Some("1a"), Some(""), None]).into()],
            bools([Some(true), Some(false), Some(false), Some(false)]),
        );
        check(
            "is_decimal",
            vec![text([Some("-1.5e3"), Some("NaN"), Some("inf"), Some("x"), Some("")]).into()],
            bools([Some(true), Some(true), Some(false), Some(false), Some(false)]),
        );
        check("is_alpha", vec![text([Some("äß"), Some("a1")]).into()], bools([Some(true), Some(false)]));
        check("startswith", vec![t("abc"), t("ab")], bools([Some(true)]));
        check("endswith", vec![t("abc"), ScalarValue::Utf8(None).into()], bools([None]));
    }
}
