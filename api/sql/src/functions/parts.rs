//! Parts of times: YEAR to SECOND, EXTRACT, FLOOR and CEIL to a unit, TIMESTAMPDIFF and TIMESTAMPADD.

use super::calendar::Moment;
use super::columns::{Times, number_column};
use super::definition::{Call, Function, returns};
use super::kinds::Kind;
use super::unit::Unit;
use arrow::array::{ArrayRef, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int32Type, TimeUnit};
use datafusion_common::{Result, plan_datafusion_err, plan_err};

pub(super) fn all() -> Vec<Function> {
    use Kind::{Int, Text, Time};
    macro_rules! parts {
        ($($name:literal $unit:ident),*) => {
            vec![$(Function::new($name, &[Time], returns::long, |call| part(call, 0, Unit::$unit))),*]
        };
    }
    let mut all = parts!(
        "year" Year, "quarter" Quarter, "month" Month, "week" Week, "dayofyear" DayOfYear, "dayofmonth" Day,
        "dayofweek" DayOfWeek, "hour" Hour, "minute" Minute, "second" Second
    );
    all.push(Function::new("extract", &[Text, Time], returns::long, |call| part(call, 1, unit(call, 0)?)));
    all.push(Function::new("floor_to", &[Time, Text], rounded_type, |call| round(call, Unit::floor)));
    all.push(Function::new("ceil_to", &[Time, Text], rounded_type, |call| round(call, Unit::ceil)));
    all.push(Function::new("timestampdiff", &[Text, Time, Time], returns::int, timestamp_diff));
    all.push(Function::new("timestampadd", &[Text, Int, Time], added_type, timestamp_add));
    all
}

/// The unit that an argument names. It is the same for all rows.
fn unit(call: &Call, argument: usize) -> Result<Unit> {
    let texts = call.texts(argument)?;
    let name = texts.constant().ok_or_else(|| plan_datafusion_err!("a unit of time is a plain word"))?;
    Unit::read(name)
}

fn part(call: &Call, argument: usize, unit: Unit) -> Result<ArrayRef> {
    let times = call.times(argument)?;
    if let (Some(unit_s), Unit::Hour | Unit::Minute | Unit::Second) = (unit.seconds(), unit) {
        // Without a look at the date.
        let (length, most) = (unit_s * times.per_second, if unit == Unit::Hour { 24 } else { 60 });
        return Ok(times.longs(call.rows, |time| time.div_euclid(length).rem_euclid(most)));
    }
    // Rows that follow each other are mostly of the same day.
    let is_of_day = unit.per_second().is_none() && unit != Unit::Epoch;
    let mut last = None;
    Ok(times.longs(call.rows, |time| {
        let moment = Moment::of(time, times.per_second);
        match last {
            Some((days, value)) if is_of_day && days == moment.days => value,
            _ => {
                let value = unit.of(moment);
                last = Some((moment.days, value));
                value
            }
        }
    }))
}

/// A column of times of the type that the call returns.
fn time_column(call: &Call, row: impl Fn(usize) -> Option<Moment>) -> Result<ArrayRef> {
    Ok(match call.returns {
        DataType::Timestamp(unit, _) => {
            let per_second = per_second(*unit);
            let counts: Int64Array = (0..call.rows).map(|i| row(i)?.count(per_second)).collect();
            cast(&counts, call.returns)?
        }
        DataType::Date32 => {
            let days: Int64Array = (0..call.rows).map(|i| row(i).map(|moment| moment.days)).collect();
            cast(&cast(&days, &DataType::Int32)?, &DataType::Date32)?
        }
        _ => {
            let counts: Int64Array =
                (0..call.rows).map(|i| row(i).map(|moment| moment.nanos / 1_000)).collect();
            cast(&cast(&counts, &DataType::Time64(TimeUnit::Microsecond))?, call.returns)?
        }
    })
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Text is rounded as a TIMESTAMP(3).
fn rounded_type(arguments: &[DataType]) -> Result<DataType> {
    match returns::first(arguments)? {
        DataType::Utf8 => returns::timestamp(arguments),
        other => Ok(other),
    }
}

fn round(call: &Call, round: fn(Unit, Moment) -> Option<Moment>) -> Result<ArrayRef> {
    let (times, unit) = (call.times(0)?, unit(call, 1)?);
    if unit.floor(Moment { days: 0, nanos: 0 }).is_none() {
        return plan_err!("times cannot be rounded to {unit:?}");
    }
    time_column(call, |row| round(unit, times.moment(row)?))
}

fn timestamp_diff(call: &Call) -> Result<ArrayRef> {
    let (unit, from, to) = (unit(call, 0)?, call.times(1)?, call.times(2)?);
    if unit.between(Moment { days: 0, nanos: 0 }, Moment { days: 0, nanos: 0 }).is_none() {
        return plan_err!("TIMESTAMPDIFF cannot count in {unit:?}");
    }
    let between = |row| unit.between(from.moment(row)?, to.moment(row)?);
    // Flink's INT wraps too.
    Ok(number_column::<Int32Type>(call.rows, |row| between(row).map(|count| count as i32)))
}

/// A DATE stays one unless the unit is shorter than a day.
fn added_type(arguments: &[DataType]) -> Result<DataType> {
    Ok(match arguments.get(2) {
        Some(DataType::Date32) => DataType::Date32,
        Some(DataType::Utf8) | None => crate::types::TIMESTAMP_3,
        Some(other) => other.clone(),
    })
}

fn timestamp_add(call: &Call) -> Result<ArrayRef> {
    let (unit, counts, times): (_, _, Times) =
        (unit(call, 0)?, call.numbers::<Int32Type>(1)?, call.times(2)?);
    if unit.add(Moment { days: 0, nanos: 0 }, 0).is_none() {
        return plan_err!("TIMESTAMPADD cannot count in {unit:?}");
    }
    time_column(call, |row| unit.add(times.moment(row)?, i64::from(counts.get(row)?)))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{check, column, longs, refused, times_ms};
    use super::*;
    use arrow::array::{Date32Array, Int32Array, TimestampMicrosecondArray};
    use datafusion_common::ScalarValue;
    use std::sync::Arc;

    /// 2024-02-29 13:05:09.042, a Thursday
    const LEAP_DAY_MS: i64 = 1_709_211_909_042;

    #[test]
    fn parts_are_numbers() {
        for (name, leap_day, before_1970) in [
            ("year", 2024, 1969),
            ("quarter", 1, 4),
            ("month", 2, 12),
            ("week", 9, 1),
            ("dayofyear", 60, 365),
            ("dayofmonth", 29, 31),
            ("dayofweek", 5, 4),
            ("hour", 13, 23),
            ("minute", 5, 59),
            ("second", 9, 59),
        ] {
            let times = times_ms([Some(LEAP_DAY_MS), None, Some(-1), Some(LEAP_DAY_MS)]);
            check(name, vec![times.into()], longs([Some(leap_day), None, Some(before_1970), Some(leap_day)]));
        }
        let dates = Date32Array::from(vec![Some(19_782), None]);
        check("year", vec![column(dates)], longs([Some(2024), None]));
        check("hour", vec![times_ms([]).into()], longs([]));
    }

    #[test]
    fn extract_knows_all_units() {
        for (unit, expected) in [
            ("MILLENNIUM", 3),
            ("century", 21),
            ("DECADE", 202),
            ("ISOYEAR", 2024),
            ("DOW", 5),
            ("ISODOW", 4),
            ("MILLISECOND", 9_042),
            ("EPOCH", 1_709_211_909),
            ("DAY", 29),
        ] {
            let args = vec![ScalarValue::from(unit).into(), times_ms([Some(LEAP_DAY_MS)]).into()];
            check("extract", args, longs([Some(expected)]));
        }
        refused(
            "extract",
            vec![ScalarValue::from("MINUT").into(), times_ms([Some(1)]).into()],
            "did you mean MINUTE?",
        );
    }

    #[test]
    fn times_are_rounded_to_units() {
        let ms = |text: &str| Moment::parse(text).unwrap().count(1_000);
        for (unit, floor, ceil) in [
            ("YEAR", "2024-01-01", "2025-01-01"),
            ("QUARTER", "2024-01-01", "2024-04-01"),
            ("MONTH", "2024-02-01", "2024-03-01"),
            ("WEEK", "2024-02-25", "2024-03-03"),
            ("DAY", "2024-02-29", "2024-03-01"),
            ("HOUR", "2024-02-29 13:00:00", "2024-02-29 14:00:00"),
            ("MINUTE", "2024-02-29 13:05:00", "2024-02-29 13:06:00"),
            ("SECOND", "2024-02-29 13:05:09", "2024-02-29 13:05:10"),
            ("CENTURY", "2001-01-01", "2101-01-01"),
        ] {
            let args = || vec![times_ms([Some(LEAP_DAY_MS), None]).into(), ScalarValue::from(unit).into()];
            check("floor_to", args(), times_ms([ms(floor), None]));
            check("ceil_to", args(), times_ms([ms(ceil), None]));
        }
        let at_start = times_ms([ms("2024-02-01")]);
        check("ceil_to", vec![Arc::clone(&at_start).into(), ScalarValue::from("MONTH").into()], at_start);
        refused(
            "floor_to",
            vec![times_ms([Some(1)]).into(), ScalarValue::from("DOW").into()],
            "cannot be rounded",
        );
    }

    #[test]
    fn differences_count_whole_units() {
        for (unit, from, to, expected) in [
            ("SECOND", "2003-01-02 10:00:00", "2003-01-03 10:00:00", 86_400),
            ("MONTH", "2024-01-31", "2024-02-29", 0),
            ("MONTH", "2024-02-29", "2024-01-29", -1),
            ("MONTH", "2024-02-28", "2024-01-29", 0),
            ("YEAR", "2020-02-29", "2024-02-28", 3),
            ("QUARTER", "2024-01-01", "2024-12-31", 3),
            ("DAY", "2024-01-02", "2024-01-01 00:00:01", 0),
            ("WEEK", "2024-01-15", "2024-01-01", -2),
            ("SQL_TSI_MINUTE", "2024-01-01", "2024-01-01 00:01:59", 1),
        ] {
            let at = |text: &str| times_ms([Moment::parse(text).unwrap().count(1_000), None]);
            let args = vec![ScalarValue::from(unit).into(), at(from).into(), at(to).into()];
            check("timestampdiff", args, Arc::new(Int32Array::from(vec![Some(expected), None])));
        }
    }

    #[test]
    fn units_are_added() {
        let at = |text: &str| Moment::parse(text).unwrap().count(1_000);
        let args = |unit: &str, count: i32, text: &str| {
            vec![
                ScalarValue::from(unit).into(),
                ScalarValue::from(count).into(),
                times_ms([at(text), None]).into(),
            ]
        };
        check(
            "timestampadd",
            args("MONTH", 1, "2024-01-31 12:00:00"),
            times_ms([at("2024-02-29 12:00:00"), None]),
        );
        check("timestampadd", args("WEEK", -1, "2024-01-01"), times_ms([at("2023-12-25"), None]));
        check("timestampadd", args("MILLISECOND", -1, "1970-01-01"), times_ms([Some(-1), None]));
        let micros = TimestampMicrosecondArray::from(vec![1]);
        let args = vec![ScalarValue::from("DAY").into(), ScalarValue::from(1).into(), column(micros)];
        check("timestampadd", args, Arc::new(TimestampMicrosecondArray::from(vec![86_400_000_001])));
        let dates = Date32Array::from(vec![19_782]);
        let args = vec![ScalarValue::from("YEAR").into(), ScalarValue::from(1).into(), column(dates)];
        check("timestampadd", args, Arc::new(Date32Array::from(vec![20_147])));
    }
}
