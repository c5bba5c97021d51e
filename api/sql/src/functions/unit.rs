//! Units of time: what a time has of them, where one begins, and how many lie between two times.

use super::calendar::{DAY_S, Date, Moment, iso_weekday};
use crate::error::nearest;
use datafusion_common::{Result, plan_err};

/// A unit of time in a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfYear,
    /// Sunday 1 to Saturday 7
    DayOfWeek,
    /// Monday 1 to Sunday 7
    IsoDayOfWeek,
    Hour,
    Minute,
    Second,
    Millisecond,
    Microsecond,
    Nanosecond,
    Epoch,
}

impl Unit {
    /// Reads the name of a unit, also one in the plural and those of ODBC.
    pub(super) fn read(text: &str) -> Result<Unit> {
        const KNOWN: [(&str, Unit); 19] = [
            ("MILLENNIUM", Unit::Millennium),
            ("CENTURY", Unit::Century),
            ("DECADE", Unit::Decade),
            ("YEAR", Unit::Year),
            ("ISOYEAR", Unit::IsoYear),
            ("QUARTER", Unit::Quarter),
            ("MONTH", Unit::Month),
            ("WEEK", Unit::Week),
            ("DAY", Unit::Day),
            ("DOY", Unit::DayOfYear),
            ("DOW", Unit::DayOfWeek),
            ("ISODOW", Unit::IsoDayOfWeek),
            ("HOUR", Unit::Hour),
            ("MINUTE", Unit::Minute),
            ("SECOND", Unit::Second),
            ("MILLISECOND", Unit::Millisecond),
            ("MICROSECOND", Unit::Microsecond),
            ("NANOSECOND", Unit::Nanosecond),
            ("EPOCH", Unit::Epoch),
        ];
        let name = text.trim().to_uppercase();
        let name = name.strip_prefix("SQL_TSI_").unwrap_or(&name);
        let name = if name == "FRAC_SECOND" { "NANOSECOND" } else { name };
        let singular = name.strip_suffix('S').unwrap_or(name);
        match KNOWN.iter().find(|(known, _)| *known == name || *known == singular) {
            Some((_, unit)) => Ok(*unit),
            None => match nearest(name, KNOWN.iter().map(|(known, _)| *known)) {
                Some(other) => plan_err!("unknown unit of time {text}; did you mean {other}?"),
                None => plan_err!("unknown unit of time {text}"),
            },
        }
    }

    /// Seconds of units that are always as long.
    pub(super) fn seconds(self) -> Option<i64> {
        match self {
            Unit::Week => Some(7 * DAY_S),
            Unit::Day => Some(DAY_S),
            Unit::Hour => Some(3_600),
            Unit::Minute => Some(60),
            Unit::Second => Some(1),
            _ => None,
        }
    }

    /// How many of the unit a second has, for those that are shorter.
    pub(super) fn per_second(self) -> Option<i64> {
        match self {
            Unit::Millisecond => Some(1_000),
            Unit::Microsecond => Some(1_000_000),
            Unit::Nanosecond => Some(1_000_000_000),
            _ => None,
        }
    }

    /// Months of units that are whole months.
    fn months(self) -> Option<i64> {
        match self {
            Unit::Millennium => Some(12_000),
            Unit::Century => Some(1_200),
            Unit::Decade => Some(120),
            Unit::Year => Some(12),
            Unit::Quarter => Some(3),
            Unit::Month => Some(1),
            _ => None,
        }
    }

    pub(super) fn of(self, moment: Moment) -> i64 {
        let date = || Date::from_days(moment.days);
        let second = moment.nanos / 1_000_000_000;
        let nanos = moment.nanos % 1_000_000_000;
        match self {
            // The first of each of them began with the year 1.
            Unit::Millennium => (date().year + 999).div_euclid(1_000),
            Unit::Century => (date().year + 99).div_euclid(100),
            Unit::Decade => date().year.div_euclid(10),
            Unit::Year => date().year,
            Unit::IsoYear => date().iso_week().0,
            Unit::Quarter => date().quarter(),
            Unit::Month => i64::from(date().month),
            Unit::Week => date().iso_week().1,
            Unit::Day => i64::from(date().day),
            Unit::DayOfYear => date().day_of_year(),
            Unit::DayOfWeek => iso_weekday(moment.days) % 7 + 1,
            Unit::IsoDayOfWeek => iso_weekday(moment.days),
            Unit::Hour => second / 3_600,
            Unit::Minute => second / 60 % 60,
            Unit::Second => second % 60,
            Unit::Millisecond => second % 60 * 1_000 + nanos / 1_000_000,
            Unit::Microsecond => second % 60 * 1_000_000 + nanos / 1_000,
            Unit::Nanosecond => second % 60 * 1_000_000_000 + nanos,
            Unit::Epoch => moment.days.wrapping_mul(DAY_S).wrapping_add(second),
        }
    }

    /// The latest start of a unit that is not behind the moment.
    pub(super) fn floor(self, moment: Moment) -> Option<Moment> {
        if let Some(months) = self.months() {
            let date = Date::from_days(moment.days);
            let since_zero = date.year * 12 + i64::from(date.month) - 1;
            // Centuries and millennia begin with a year that ends in 1.
            let shift = if months >= 1_200 { 12 } else { 0 };
            let start = (since_zero - shift).div_euclid(months) * months + shift;
            let start = Date { year: start.div_euclid(12), month: start.rem_euclid(12) as u32 + 1, day: 1 };
            return Some(Moment { days: start.to_days(), nanos: 0 });
        }
        let nanos = match self {
            // Flink's weeks begin on Sunday here, as in Calcite.
            Unit::Week => {
                return Some(Moment { days: moment.days - iso_weekday(moment.days) % 7, nanos: 0 });
            }
            Unit::Day => return Some(Moment { nanos: 0, ..moment }),
            other => match (other.seconds(), other.per_second()) {
                (Some(seconds), _) => seconds * 1_000_000_000,
                (_, Some(per_second)) => 1_000_000_000 / per_second,
                _ => return None,
            },
        };
        Some(Moment { nanos: moment.nanos - moment.nanos % nanos, ..moment })
    }

    /// The earliest start of a unit that is not before the moment.
    pub(super) fn ceil(self, moment: Moment) -> Option<Moment> {
        let floor = self.floor(moment)?;
        if floor == moment { Some(floor) } else { self.add(floor, 1) }
    }

    /// So many units later.
    pub(super) fn add(self, moment: Moment, count: i64) -> Option<Moment> {
        if let Some(months) = self.months() {
            let days = Date::from_days(moment.days).plus_months(count.checked_mul(months)?).to_days();
            return Some(Moment { days, ..moment });
        }
        let nanos = match (self.seconds(), self.per_second()) {
            (Some(seconds), _) => i128::from(seconds) * 1_000_000_000,
            (_, Some(per_second)) => i128::from(1_000_000_000 / per_second),
            _ => return None,
        };
        let day = i128::from(DAY_S) * 1_000_000_000;
        let nanos = i128::from(moment.nanos) + nanos * i128::from(count);
        let days = i64::try_from(i128::from(moment.days) + nanos.div_euclid(day)).ok()?;
        Some(Moment { days, nanos: nanos.rem_euclid(day) as i64 })
    }

    /// Whole units from one moment to another.
    pub(super) fn between(self, from: Moment, to: Moment) -> Option<i64> {
        if let Some(months) = self.months() {
            let (a, b) = (Date::from_days(from.days), Date::from_days(to.days));
            let mut between = (b.year - a.year) * 12 + i64::from(b.month) - i64::from(a.month);
            let (within_a, within_b) = ((a.day, from.nanos), (b.day, to.nanos));
            // A month that is not over does not count, in either direction.
            if between > 0 && within_b < within_a {
                between -= 1;
            } else if between < 0 && within_b > within_a {
                between += 1;
            }
            return Some(between / months);
        }
        let day = i128::from(DAY_S) * 1_000_000_000;
        let nanos = i128::from(to.days - from.days) * day + i128::from(to.nanos - from.nanos);
        let units = match (self.seconds(), self.per_second()) {
            (Some(seconds), _) => nanos / (i128::from(seconds) * 1_000_000_000),
            (_, Some(per_second)) => nanos / i128::from(1_000_000_000 / per_second),
            _ => return None,
        };
        i64::try_from(units).ok()
    }
}
