//! Text and bytes in other forms: digests, Base64, hexadecimal and binary digits, and texts drawn at random.

use super::clock;
use super::columns::{array_of, number_column, text_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use arrow::array::{Array, ArrayRef, AsArray, BinaryBuilder};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datafusion_common::{Result, plan_err};
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::cell::Cell;
use std::fmt::Write;
use std::sync::Arc;

pub(super) fn all() -> Vec<Function> {
    use Kind::{Any, Int, Long, Text, TextOrBytes};
    vec![
        Function::new("md5", &[TextOrBytes], returns::text, digest::<Md5>),
        Function::new("sha1", &[TextOrBytes], returns::text, digest::<Sha1>),
        Function::new("sha224", &[TextOrBytes], returns::text, digest::<Sha224>),
        Function::new("sha256", &[TextOrBytes], returns::text, digest::<Sha256>),
        Function::new("sha384", &[TextOrBytes], returns::text, digest::<Sha384>),
        Function::new("sha512", &[TextOrBytes], returns::text, digest::<Sha512>),
        Function::new("sha2", &[TextOrBytes, Int], returns::text, sha2),
        Function::new("to_base64", &[TextOrBytes], returns::text, to_base64),
        Function::new("from_base64", &[TextOrBytes], returns::text, from_base64),
        Function::new("encode", &[Text, Text], returns::bytes, encode),
        Function::new("decode", &[Kind::Bytes, Text], returns::text, decode),
        Function::new("bin", &[Long], returns::text, binary),
        Function::new("hex", &[Any], returns::text, hexadecimal),
        Function::new("unhex", &[Text], returns::bytes, from_hexadecimal),
        Function::new("uuid", &[], returns::text, uuid).volatile(),
        Function::new("rand", &[Int], returns::double, random).optional(1).volatile(),
        Function::new("rand_integer", &[Int, Int], returns::int, random_integer).optional(1).volatile(),
    ]
}

/// An argument as bytes: those of text in UTF-8.
fn for_each_bytes(call: &Call, i: usize, mut row: impl FnMut(Option<&[u8]>)) -> Result<()> {
    let (array, is_constant) = array_of(call.value(i)?)?;
    let array = if array.data_type() == &DataType::Binary {
        array
    } else {
        arrow::compute::cast(&array, &DataType::Binary)?
    };
    let bytes = array.as_binary::<i32>();
    for i in 0..call.rows {
        let i = if is_constant { 0 } else { i };
        row(bytes.is_valid(i).then(|| bytes.value(i)));
    }
    Ok(())
}

fn texts_of_bytes(call: &Call, make: impl Fn(&[u8]) -> Option<String>) -> Result<ArrayRef> {
    let mut texts = Vec::with_capacity(call.rows);
    for_each_bytes(call, 0, |bytes| texts.push(bytes.and_then(&make)))?;
    Ok(text_column(call.rows, 0, |row| texts[row].as_deref()))
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to text cannot fail.
        _ = write!(text, "{byte:02x}");
    }
    text
}

fn digest<D: Digest>(call: &Call) -> Result<ArrayRef> {
    texts_of_bytes(call, |bytes| Some(hex(&D::digest(bytes))))
}

fn sha2(call: &Call) -> Result<ArrayRef> {
    let lengths = call.numbers::<Int32Type>(1)?;
    let mut texts = Vec::with_capacity(call.rows);
    for_each_bytes(call, 0, |bytes| {
        let text = lengths.get(texts.len()).zip(bytes).map(|(length, bytes)| match length {
            224 => Ok(hex(&Sha224::digest(bytes))),
            256 => Ok(hex(&Sha256::digest(bytes))),
            384 => Ok(hex(&Sha384::digest(bytes))),
            512 => Ok(hex(&Sha512::digest(bytes))),
            other => plan_err!("SHA2 takes a length of 224, 256, 384 or 512, not {other}"),
        });
        texts.push(text);
    })?;
    let texts: Vec<Option<String>> = texts.into_iter().map(Option::transpose).collect::<Result<_>>()?;
    Ok(text_column(call.rows, 0, |row| texts[row].as_deref()))
}

fn to_base64(call: &Call) -> Result<ArrayRef> {
    texts_of_bytes(call, |bytes| Some(STANDARD.encode(bytes)))
}

/// NULL if the argument is no Base64.
fn from_base64(call: &Call) -> Result<ArrayRef> {
    texts_of_bytes(call, |bytes| Some(String::from_utf8_lossy(&STANDARD.decode(bytes).ok()?).into_owned()))
}

/// The character sets of Java that need no tables.
fn encode(call: &Call) -> Result<ArrayRef> {
    let (texts, sets) = (call.texts(0)?, call.texts(1)?);
    let mut out = BinaryBuilder::new();
    for row in 0..call.rows {
        let (Some(text), Some(set)) = (texts.get(row), sets.get(row)) else {
            out.append_null();
            continue;
        };
        let narrow =
            |most: u32| text.chars().map(move |c| if c as u32 <= most { c as u32 as u8 } else { b'?' });
        match set.to_ascii_uppercase().as_str() {
            "UTF-8" => out.append_value(text),
            "US-ASCII" => out.append_value(narrow(0x7f).collect::<Vec<u8>>()),
            "ISO-8859-1" => out.append_value(narrow(0xff).collect::<Vec<u8>>()),
            "UTF-16BE" => {
                out.append_value(text.encode_utf16().flat_map(u16::to_be_bytes).collect::<Vec<u8>>())
            }
            "UTF-16LE" => {
                out.append_value(text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>())
            }
            _ => return unknown_set(set),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn decode(call: &Call) -> Result<ArrayRef> {
    let sets = call.texts(1)?;
    let mut texts: Vec<Result<Option<String>>> = Vec::with_capacity(call.rows);
    for_each_bytes(call, 0, |bytes| {
        let Some((bytes, set)) = bytes.zip(sets.get(texts.len())) else {
            texts.push(Ok(None));
            return;
        };
        let wide = |of: fn([u8; 2]) -> u16| {
            let units: Vec<u16> = bytes.chunks_exact(2).map(|pair| of([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        };
        texts.push(match set.to_ascii_uppercase().as_str() {
            "UTF-8" | "US-ASCII" => Ok(Some(String::from_utf8_lossy(bytes).into_owned())),
            "ISO-8859-1" => Ok(Some(bytes.iter().map(|byte| char::from(*byte)).collect())),
            "UTF-16BE" => Ok(Some(wide(u16::from_be_bytes))),
            "UTF-16LE" => Ok(Some(wide(u16::from_le_bytes))),
            _ => unknown_set(set),
        });
    })?;
    let texts: Vec<Option<String>> = texts.into_iter().collect::<Result<_>>()?;
    Ok(text_column(call.rows, 0, |row| texts[row].as_deref()))
}

fn unknown_set<T>(set: &str) -> Result<T> {
    plan_err!("unknown character set {set}; there are UTF-8, US-ASCII, ISO-8859-1, UTF-16BE and UTF-16LE")
}

fn binary(call: &Call) -> Result<ArrayRef> {
    let numbers = call.numbers::<Int64Type>(0)?;
    Ok(text_column(call.rows, 0, |row| numbers.get(row).map(|number| format!("{number:b}"))))
}

/// Digits of a whole number, or of the bytes of text.
fn hexadecimal(call: &Call) -> Result<ArrayRef> {
    if call.data_type(0)?.is_integer() {
        let numbers = arrow::compute::cast(&call.array(0)?, &DataType::Int64)?;
        let numbers = numbers.as_primitive::<Int64Type>();
        return Ok(text_column(call.rows, 0, |row| {
            numbers.is_valid(row).then(|| format!("{:X}", numbers.value(row)))
        }));
    }
    texts_of_bytes(call, |bytes| Some(hex(bytes).to_uppercase()))
}

/// NULL if the argument is no hexadecimal number.
fn from_hexadecimal(call: &Call) -> Result<ArrayRef> {
    let texts = call.texts(0)?;
    let mut out = BinaryBuilder::new();
    for row in 0..call.rows {
        let bytes = texts.get(row).and_then(|text| {
            let digits: Vec<u8> = text.chars().map(|c| Some(c.to_digit(16)? as u8)).collect::<Option<_>>()?;
            // An odd number of digits begins with half a byte.
            let (first, rest) = digits.split_at(digits.len() % 2);
            Some(
                first
                    .iter()
                    .copied()
                    .chain(rest.chunks(2).map(|pair| pair[0] << 4 | pair[1]))
                    .collect::<Vec<u8>>(),
            )
        });
        out.append_option(bytes);
    }
    Ok(Arc::new(out.finish()))
}

thread_local! {
    static RANDOM: Cell<u64> = const { Cell::new(0) };
}

/// A number from a sequence that the operator's time begins, so that a simulation draws the same ones again.
fn draw(seed: u64) -> Result<u64> {
    let mut state = RANDOM.get();
    if state == 0 {
        state = clock::now_ms()? as u64;
    }
    state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    RANDOM.set(state);
    // SplitMix64
    let mut mixed = state ^ seed;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    Ok(mixed ^ (mixed >> 31))
}

fn uuid(call: &Call) -> Result<ArrayRef> {
    let mut texts = Vec::with_capacity(call.rows);
    for _ in 0..call.rows {
        let (high, low) = (draw(0)?, draw(0)?);
        // Version 4, variant 1.
        let high = high & !0xf000 | 0x4000;
        let low = low & !(0b11 << 62) | 0b10 << 62;
        texts.push(format!(
            "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
            high >> 32,
            high >> 16 & 0xffff,
            high & 0xffff,
            low >> 48,
            low & 0xffff_ffff_ffff
        ));
    }
    Ok(text_column(call.rows, call.rows * 36, |row| Some(&texts[row])))
}

fn random(call: &Call) -> Result<ArrayRef> {
    let seeds = if call.len() > 0 { Some(call.numbers::<Int32Type>(0)?) } else { None };
    let mut numbers = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let seed = seeds.as_ref().map_or(Some(0), |seeds| seeds.get(row));
        // 53 bits are what a DOUBLE holds.
        numbers.push(match seed {
            Some(seed) => Some((draw(seed as u64)? >> 11) as f64 / (1_u64 << 53) as f64),
            None => None,
        });
    }
    Ok(number_column::<Float64Type>(call.rows, |row| numbers[row]))
}

/// The last argument is the bound, which no number reaches; one before it is a seed.
fn random_integer(call: &Call) -> Result<ArrayRef> {
    let bounds = call.numbers::<Int32Type>(call.len() - 1)?;
    let mut numbers = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        numbers.push(match bounds.get(row) {
            Some(bound) if bound > 0 => Some(((u128::from(draw(0)?) * bound as u128) >> 64) as i32),
            _ => None,
        });
    }
    Ok(number_column::<Int32Type>(call.rows, |row| numbers[row]))
}

#[cfg(test)]
mod tests {
    use super::super::clock::at_time;
    use super::super::testing::{call, check, longs, refused, text};
    use super::*;
    use arrow::array::BinaryArray;
    use datafusion_common::ScalarValue;
    use datafusion_expr::ColumnarValue;

    fn t(value: &str) -> ColumnarValue {
        ScalarValue::from(value).into()
    }

    #[test]
    fn digests_are_hexadecimal() {
        let of = |name: &str, expected: &str| {
            check(name, vec![text([Some("abc"), None]).into()], text([Some(expected), None]))
        };
        of("md5", "900150983cd24fb0d6963f7d28e17f72");
        of("sha1", "a9993e364706816aba3e25717850c26c9cd0d89d");
        of("sha256", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let sha224 = "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7";
        check("sha2", vec![t("abc"), ScalarValue::from(224).into()], text([Some(sha224)]));
        refused("sha2", vec![t("abc"), ScalarValue::from(1).into()], "224, 256, 384 or 512");
    }

    #[test]
    fn text_has_other_forms() {
        check(
            "to_base64",
            vec![text([Some("hello"), Some(""), None]).into()],
            text([Some("aGVsbG8="), Some(""), None]),
        );
        check(
            "from_base64",
            vec![text([Some("aGVsbG8="), Some("?"), None]).into()],
            text([Some("hello"), None, None]),
        );
        check("hex", vec![t("é")], text([Some("C3A9")]));
        check("hex", vec![longs([Some(255), None]).into()], text([Some("FF"), None]));
        check("bin", vec![longs([Some(5)]).into()], text([Some("101")]));
        check(
            "unhex",
            vec![text([Some("c3A"), Some("g")]).into()],
            Arc::new(BinaryArray::from(vec![Some(&[0xc, 0x3a][..]), None])),
        );
        let bytes: ArrayRef = Arc::new(BinaryArray::from(vec![&[0, 0x61][..]]));
        check("encode", vec![t("a"), t("utf-16be")], Arc::clone(&bytes));
        check("decode", vec![bytes.into(), t("UTF-16BE")], text([Some("a")]));
        refused("encode", vec![t("a"), t("EBCDIC")], "unknown character set EBCDIC");
    }

    #[test]
    fn random_values_are_in_range_and_differ() {
        let drawn = |name: &str, args| at_time(1, || call(name, args, 100)).unwrap();
        let numbers = drawn("rand", vec![]);
        let numbers = numbers.as_primitive::<Float64Type>().values().to_vec();
        assert!(numbers.iter().all(|x| (0.0..1.0).contains(x)) && numbers[0] != numbers[1]);
        let dice = drawn("rand_integer", vec![ScalarValue::from(6).into()]);
        let dice = dice.as_primitive::<Int32Type>().values().to_vec();
        assert!((0..6).all(|side| dice.contains(&side)) && dice.iter().all(|x| (0..6).contains(x)));
        let ids = drawn("uuid", vec![]);
        let ids = ids.as_string::<i32>();
        assert!(ids.value(0).len() == 36 && &ids.value(0)[14..15] == "4" && ids.value(0) != ids.value(1));
    }
}
