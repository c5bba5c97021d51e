//! Kinds of arguments: what a function casts its arguments to, and how a call that does not fit is refused in the
//! words of Flink's types.

use crate::types::{TIMESTAMP_3, name_of};
use arrow::datatypes::DataType;
use datafusion_common::{Result, plan_err};
use datafusion_expr::type_coercion::binary::type_union_resolution;

/// What an argument is cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Text. Numbers, truth values and times are written as text, as Flink does.
    Text,
    /// Bytes. Text stands for its UTF-8.
    Bytes,
    /// Text or bytes, as they are.
    TextOrBytes,
    Bool,
    /// INT
    Int,
    /// Any whole number as it is, so that a constant stays one.
    Whole,
    /// BIGINT
    Long,
    /// DOUBLE
    Double,
    /// Any number as it is. Text is read as a DOUBLE.
    Number,
    /// Numbers of one type, that of all arguments of this kind.
    SameNumber,
    /// A TIMESTAMP, TIMESTAMP_LTZ, DATE or TIME as it is, or text to be read as a TIMESTAMP(3).
    Time,
    /// Anything, as it is.
    Any,
    /// Anything, of one type: that of all arguments of this kind.
    Same,
}

impl Kind {
    fn words(self) -> &'static str {
        match self {
            Kind::Text => "STRING",
            Kind::Bytes => "BYTES",
            Kind::TextOrBytes => "STRING or BYTES",
            Kind::Bool => "BOOLEAN",
            Kind::Int | Kind::Whole => "INT",
            Kind::Long => "BIGINT",
            Kind::Double => "DOUBLE",
            Kind::Number | Kind::SameNumber => "number",
            Kind::Time => "time",
            Kind::Any | Kind::Same => "any",
        }
    }

    /// The type to cast to, unless such an argument cannot be.
    fn coerce(self, given: &DataType) -> Option<DataType> {
        use DataType::*;
        let is_null = matches!(given, Null);
        let is_text = matches!(given, Utf8 | LargeUtf8 | Utf8View);
        let is_bytes = matches!(given, Binary | LargeBinary | BinaryView | FixedSizeBinary(_));
        let is_number = given.is_numeric();
        let is_time = matches!(given, Timestamp(..) | Date32 | Date64 | Time32(_) | Time64(_));
        match self {
            Kind::Text => (is_text || is_number || is_time || is_null || *given == Boolean).then_some(Utf8),
            Kind::Bytes => (is_bytes || is_text || is_null).then_some(Binary),
            Kind::TextOrBytes if is_bytes => Some(Binary),
            Kind::TextOrBytes => Kind::Text.coerce(given),
            Kind::Bool => (is_null || *given == Boolean).then_some(Boolean),
            Kind::Whole if given.is_integer() => Some(given.clone()),
            Kind::Int | Kind::Whole => (is_number || is_null || is_text).then_some(Int32),
            Kind::Long => (is_number || is_null || is_text).then_some(Int64),
            Kind::Double => (is_number || is_null || is_text).then_some(Float64),
            Kind::Number | Kind::SameNumber if is_number => Some(given.clone()),
            Kind::Number | Kind::SameNumber => (is_text || is_null).then_some(Float64),
            Kind::Time if is_text => Some(Utf8),
            Kind::Time if is_null => Some(TIMESTAMP_3),
            Kind::Time => is_time.then(|| given.clone()),
            Kind::Any | Kind::Same => Some(given.clone()),
        }
    }
}

fn kind_of(kinds: &[Kind], is_repeated: bool, argument: usize) -> Option<Kind> {
    kinds.get(argument).or(if is_repeated { kinds.last() } else { None }).copied()
}

/// The types to which arguments are to be cast, unless they do not fit.
pub(super) fn coerce(
    kinds: &[Kind],
    optional: usize,
    is_repeated: bool,
    given: &[DataType],
) -> Option<Vec<DataType>> {
    if given.len() + optional < kinds.len() {
        return None;
    }
    let kind = |i| kind_of(kinds, is_repeated, i);
    let mut coerced: Vec<DataType> =
        given.iter().enumerate().map(|(i, given)| kind(i)?.coerce(given)).collect::<Option<_>>()?;
    let is_same = |i: &usize| matches!(kind(*i), Some(Kind::Same | Kind::SameNumber));
    let same: Vec<usize> = (0..given.len()).filter(is_same).collect();
    if !same.is_empty() {
        let types: Vec<DataType> = same.iter().map(|i| coerced[*i].clone()).collect();
        let common = common_type(&types)?;
        for i in same {
            coerced[i] = common.clone();
        }
    }
    Some(coerced)
}

/// Says what a function takes.
pub(super) fn refuse<T>(
    name: &str,
    kinds: &[Kind],
    optional: usize,
    is_repeated: bool,
    given: &[DataType],
) -> Result<T> {
    let mut words: Vec<String> = kinds.iter().map(|kind| kind.words().to_string()).collect();
    let required = words.len() - optional;
    for word in &mut words[required..] {
        *word = format!("[{word}]");
    }
    if is_repeated {
        words.push("...".to_string());
    }
    let given: Vec<String> = given.iter().map(name_of).collect();
    plan_err!("{} takes ({}), not ({})", name.to_uppercase(), words.join(", "), given.join(", "))
}

/// The common type of some. Integers and DECIMALs have those of Flink: a BIGINT has 19 digits.
pub(super) fn common_type(types: &[DataType]) -> Option<DataType> {
    let known: Vec<DataType> = types.iter().filter(|t| !t.is_null()).cloned().collect();
    if known.is_empty() {
        return Some(DataType::Null);
    }
    let has_decimal = known.iter().any(|t| matches!(t, DataType::Decimal128(..)));
    let as_decimals: Option<Vec<(u8, i8)>> = known.iter().map(decimal_digits).collect();
    if has_decimal && known.iter().any(DataType::is_floating) {
        return Some(DataType::Float64);
    }
    if let (true, Some(decimals)) = (has_decimal, as_decimals) {
        let scale = decimals.iter().map(|(_, s)| *s).max()?;
        let whole = decimals.iter().map(|(p, s)| *p as i8 - s).max()?;
        return Some(DataType::Decimal128((whole + scale).clamp(1, 38) as u8, scale));
    }
    let times: Option<Vec<_>> = known
        .iter()
        .map(|t| if let DataType::Timestamp(unit, zone) = t { Some((*unit, zone.clone())) } else { None })
        .collect();
    if let Some(times) = times {
        let zone = times.iter().find_map(|(_, zone)| zone.clone());
        return times.iter().map(|(unit, _)| *unit).max().map(|finest| DataType::Timestamp(finest, zone));
    }
    type_union_resolution(&known)
}

/// Digits of an exact number as a DECIMAL.
pub(super) fn decimal_digits(data_type: &DataType) -> Option<(u8, i8)> {
    match data_type {
        DataType::Int8 => Some((3, 0)),
        DataType::Int16 => Some((5, 0)),
        DataType::Int32 => Some((10, 0)),
        DataType::Int64 => Some((19, 0)),
        DataType::UInt64 => Some((20, 0)),
        DataType::Decimal128(precision, scale) => Some((*precision, *scale)),
        _ => None,
    }
}
