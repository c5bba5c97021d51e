//! Times as text and text as times: DATE_FORMAT, TO_TIMESTAMP, TO_DATE, FROM_UNIXTIME, UNIX_TIMESTAMP, CONVERT_TZ.

use super::calendar::{Date, Moment};
use super::clock;
use super::columns::{Latest, Texts, Times, number_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use super::pattern::Pattern;
use arrow::array::{ArrayRef, StringBuilder};
use arrow::datatypes::{Date32Type, Int64Type, TimestampMillisecondType};
use datafusion_common::{Result, exec_err};
use std::ops::Range;
use std::sync::Arc;

/// Flink's pattern where a call gives none.
const DEFAULT: &str = "yyyy-MM-dd HH:mm:ss";

pub(super) fn all() -> Vec<Function> {
    use Kind::{Int, Long, Text, Time};
    vec![
        Function::new("date_format", &[Time, Text], returns::text, date_format),
        Function::new("to_timestamp", &[Text, Text], returns::timestamp, to_timestamp).optional(1),
        Function::new("to_timestamp_ltz", &[Long, Int], returns::timestamp_ltz, to_timestamp_ltz).optional(1),
        Function::new("to_date", &[Text, Text], returns::date, to_date).optional(1),
        Function::new("from_unixtime", &[Long, Text], returns::text, from_unixtime).optional(1),
        Function::new("unix_timestamp", &[Text, Text], returns::long, unix_timestamp).optional(2).volatile(),
    ]
}

/// Writes times in a pattern. Most columns stay in one day or minute for long, so the last text is kept as long as
/// the pattern gives the same.
struct Writer {
    pattern: Pattern,
    /// How many units of the column the text lasts.
    lasts: Option<i64>,
    /// The times that the text is for.
    span: Range<i64>,
    day: Option<(i64, Date)>,
    text: String,
}

impl Writer {
    fn new(pattern: &str, per_second: i64) -> Result<Self> {
        let pattern = Pattern::read(pattern)?;
        let lasts = pattern.constant_s().map(|s| s * per_second);
        Ok(Writer { pattern, lasts, span: 0..0, day: None, text: String::new() })
    }

    #[inline]
    fn write(&mut self, value: i64, per_second: i64) -> &str {
        if self.span.contains(&value) {
            return &self.text;
        }
        if let Some(lasts) = self.lasts {
            let start = value.saturating_sub(value.rem_euclid(lasts));
            self.span = start..start.saturating_add(lasts);
        }
        let moment = Moment::of(value, per_second);
        let date = match self.day {
            Some((days, date)) if days == moment.days => date,
            _ => Date::from_days(moment.days),
        };
        self.day = Some((moment.days, date));
        self.text.clear();
        self.pattern.write(moment, date, &mut self.text);
        &self.text
    }
}

fn write_all(rows: usize, times: &Times, patterns: &Texts) -> Result<ArrayRef> {
    let width = patterns.constant().map_or(DEFAULT.len(), str::len);
    let mut out = StringBuilder::with_capacity(rows, rows * width);
    // A constant pattern is read once and not even looked at again.
    let mut constant =
        patterns.constant().map(|pattern| Writer::new(pattern, times.per_second)).transpose()?;
    let mut latest = Latest::new();
    for row in 0..rows {
        match (times.get(row), &mut constant) {
            (Some(time), Some(writer)) => out.append_value(writer.write(time, times.per_second)),
            (Some(time), None) => match patterns.get(row) {
                Some(pattern) => {
                    let writer = latest.of(pattern, |pattern| Writer::new(pattern, times.per_second))?;
                    out.append_value(writer.write(time, times.per_second));
                }
                None => out.append_null(),
            },
            (None, _) => out.append_null(),
        }
    }
    Ok(Arc::new(out.finish()))
}

fn date_format(call: &Call) -> Result<ArrayRef> {
    write_all(call.rows, &call.times(0)?, &call.texts(1)?)
}

fn from_unixtime(call: &Call) -> Result<ArrayRef> {
    let times = Times::seconds(call.value(0)?)?;
    write_all(call.rows, &times, &call.optional_texts(1)?.unwrap_or(Texts::Constant(Some(DEFAULT))))
}

/// Reads text by the pattern of the same row. Text that does not fit is read as a plain time, as in Flink, or is NULL.
struct Reader<'a> {
    texts: Texts<'a>,
    patterns: Option<Texts<'a>>,
    latest: Latest<Pattern>,
}

impl<'a> Reader<'a> {
    fn new(call: &Call<'a>) -> Result<Self> {
        Ok(Reader { texts: call.texts(0)?, patterns: call.optional_texts(1)?, latest: Latest::new() })
    }

    fn read(&mut self, row: usize) -> Result<Option<Moment>> {
        let Some(text) = self.texts.get(row) else { return Ok(None) };
        let Some(patterns) = &self.patterns else { return Ok(Moment::parse(text)) };
        let Some(pattern) = patterns.get(row) else { return Ok(None) };
        let pattern = self.latest.of(pattern, Pattern::read)?;
        Ok(pattern.parse(text).or_else(|| Moment::parse(text)))
    }

    fn read_all<V>(&mut self, rows: usize, make: impl Fn(Moment) -> Option<V>) -> Result<Vec<Option<V>>> {
        (0..rows).map(|row| Ok(self.read(row)?.and_then(&make))).collect()
    }
}

fn to_timestamp(call: &Call) -> Result<ArrayRef> {
    let values = Reader::new(call)?.read_all(call.rows, |moment| moment.count(1_000))?;
    Ok(number_column::<TimestampMillisecondType>(call.rows, |row| values[row]))
}

fn to_date(call: &Call) -> Result<ArrayRef> {
    let values = Reader::new(call)?.read_all(call.rows, |moment| i32::try_from(moment.days).ok())?;
    Ok(number_column::<Date32Type>(call.rows, |row| values[row]))
}

fn to_timestamp_ltz(call: &Call) -> Result<ArrayRef> {
    let values = call.numbers::<Int64Type>(0)?;
    let digits = if call.len() > 1 { Some(call.numbers::<arrow::datatypes::Int32Type>(1)?) } else { None };
    let mut result = Vec::with_capacity(call.rows);
    for row in 0..call.rows {
        let factor = match digits.as_ref().map_or(Some(3), |digits| digits.get(row)) {
            Some(0) => 1_000,
            Some(3) => 1,
            Some(other) => return exec_err!("TO_TIMESTAMP_LTZ takes precision 0 or 3, not {other}"),
            None => {
                result.push(None);
                continue;
            }
        };
        result.push(values.get(row).and_then(|value| value.checked_mul(factor)));
    }
    let column = result.into_iter().collect::<arrow::array::TimestampMillisecondArray>().with_timezone("UTC");
    Ok(Arc::new(column))
}

fn unix_timestamp(call: &Call) -> Result<ArrayRef> {
    if call.len() == 0 {
        let now_s = clock::now_ms()?.div_euclid(1_000);
        return Ok(number_column::<Int64Type>(call.rows, |_| Some(now_s)));
    }
    // Flink's answer to text that is no time is the least number.
    let is_null = |row: usize, texts: &Texts| texts.get(row).is_none();
    let texts = call.texts(0)?;
    let values = Reader::new(call)?.read_all(call.rows, |moment| moment.count(1))?;
    Ok(number_column::<Int64Type>(call.rows, |row| {
        if is_null(row, &texts) { None } else { Some(values[row].unwrap_or(i64::MIN)) }
    }))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, column, longs, refused, text, times_ms};
    use super::*;
    use arrow::array::{Date32Array, Int64Array, TimestampMicrosecondArray, TimestampMillisecondArray};
    use datafusion_common::ScalarValue;

    #[test]
    fn times_are_formatted() {
        let day = || ScalarValue::from("yyyy-MM-dd");
        check(
            "date_format",
            vec![
                times_ms([Some(0), None, Some(-1), Some(86_399_999), Some(86_400_000), Some(1)]).into(),
                day().into(),
            ],
            text([
                Some("1970-01-01"),
                None,
                Some("1969-12-31"),
                Some("1970-01-01"),
                Some("1970-01-02"),
                Some("1970-01-01"),
            ]),
        );
        check(
            "date_format",
            vec![times_ms([Some(59_999), Some(60_000)]).into(), ScalarValue::from("HH:mm").into()],
            text([Some("00:00"), Some("00:01")]),
        );
        let micros = TimestampMicrosecondArray::from(vec![1_234_567]);
        check(
            "date_format",
            vec![column(micros), ScalarValue::from("ss.SSSSSS").into()],
            text([Some("01.234567")]),
        );
        check(
            "date_format",
            vec![
                text([Some("2024-02-29 10:00:00"), Some("nonsense")]).into(),
                ScalarValue::from("dd.MM. HH").into(),
            ],
            text([Some("29.02. 10"), None]),
        );
        let patterns = text([Some("HH"), Some("mm"), None]);
        check(
            "date_format",
            vec![times_ms([Some(60_000); 3]).into(), patterns.into()],
            text([Some("00"), Some("01"), None]),
        );
        check("date_format", vec![times_ms([]).into(), day().into()], text([]));
        check("date_format", vec![times_ms([Some(1)]).into(), ScalarValue::Utf8(None).into()], text([None]));
        refused(
            "date_format",
            vec![column(Int64Array::from(vec![1])), day().into()],
            "DATE_FORMAT takes (time, STRING), not (BIGINT, STRING)",
        );
    }

    #[test]
    fn text_is_read_as_times() {
        let texts = || text([Some("2024-02-29 00:00:01.5"), Some("x"), None]);
        check(
            "to_timestamp",
            vec![texts().into()],
            Arc::new(TimestampMillisecondArray::from(vec![Some(1_709_164_801_500), None, None])),
        );
        check(
            "to_timestamp",
            vec![
                text([Some("29/02/2024"), Some("2024-2-29")]).into(),
                ScalarValue::from("dd/MM/yyyy").into(),
            ],
            times_ms([Some(1_709_164_800_000), Some(1_709_164_800_000)]),
        );
        check("to_date", vec![texts().into()], Arc::new(Date32Array::from(vec![Some(19_782), None, None])));
        check(
            "unix_timestamp",
            vec![texts().into()],
            Arc::new(Int64Array::from(vec![Some(1_709_164_801), Some(i64::MIN), None])),
        );
        let seconds = Int64Array::from(vec![Some(44), None, Some(-1)]);
        check(
            "from_unixtime",
            vec![column(seconds)],
            text([Some("1970-01-01 00:00:44"), None, Some("1969-12-31 23:59:59")]),
        );
    }

    #[test]
    fn numbers_are_moments() {
        let values = || longs([Some(1_500), None, Some(i64::MAX)]);
        let expected =
            |values: Vec<Option<i64>>| Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC"));
        check(
            "to_timestamp_ltz",
            vec![values().into(), ScalarValue::from(3).into()],
            expected(vec![Some(1_500), None, Some(i64::MAX)]),
        );
        check(
            "to_timestamp_ltz",
            vec![values().into(), ScalarValue::from(0).into()],
            expected(vec![Some(1_500_000), None, None]),
        );
    }
}
