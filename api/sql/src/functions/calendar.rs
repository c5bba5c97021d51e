//! The proleptic Gregorian calendar, without limits of years and without allocation: days since 1970 to and from dates.

/// Seconds of a day.
pub(super) const DAY_S: i64 = 86_400;
const DAY_NS: i64 = DAY_S * 1_000_000_000;

/// A date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// From 1.
    pub(super) month: u32,
    /// From 1.
    pub(super) day: u32,
}

impl Date {
    /// The date that lies so many days behind 1970-01-01.
    pub(super) fn from_days(days: i64) -> Date {
        // Years begin in March here, so that the leap day is the last of its year.
        let days = days.saturating_add(719_468);
        let era = days.div_euclid(146_097);
        let of_era = days.rem_euclid(146_097);
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * of_year + 2) / 153;
        let day = (of_year - (153 * month + 2) / 5 + 1) as u32;
        let month = if month < 10 { month + 3 } else { month - 9 } as u32;
        Date { year: year_of_era + era * 400 + i64::from(month <= 2), month, day }
    }

    /// Days since 1970-01-01.
    pub(super) fn to_days(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month = i64::from(if self.month > 2 { self.month - 3 } else { self.month + 9 });
        let of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        era * 146_097 + of_era - 719_468
    }

    /// The date, if there is one.
    pub(super) fn checked(year: i64, month: u32, day: u32) -> Option<Date> {
        let is_date = (1..=12).contains(&month)
            && (1..=days_of_month(year, month)).contains(&day)
            && (-999_999..=999_999).contains(&year);
        is_date.then_some(Date { year, month, day })
    }

    /// Day of the year, from 1.
    pub(super) fn day_of_year(self) -> i64 {
        self.to_days() - Date { year: self.year, month: 1, day: 1 }.to_days() + 1
    }

    /// Quarter, from 1.
    pub(super) fn quarter(self) -> i64 {
        i64::from(self.month.div_ceil(3))
    }

    /// Week and its year as ISO 8601 counts them.
    pub(super) fn iso_week(self) -> (i64, i64) {
        // The week belongs to the year that has its Thursday.
        let days = self.to_days();
        let thursday = days - iso_weekday(days) + 4;
        let of = Date::from_days(thursday);
        (of.year, (of.day_of_year() - 1) / 7 + 1)
    }

    /// The date so many months later. The day is that of the month's end if the month is too short.
    pub(super) fn plus_months(self, months: i64) -> Date {
        let months =
            self.year.saturating_mul(12).saturating_add(i64::from(self.month) - 1).saturating_add(months);
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12) as u32 + 1);
        Date { year, month, day: self.day.min(days_of_month(year, month)) }
    }
}

/// Day of the week as ISO 8601 counts, Monday 1 to Sunday 7, of a day since 1970-01-01.
pub(super) fn iso_weekday(days: i64) -> i64 {
    (days + 3).rem_euclid(7) + 1
}

fn days_of_month(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.rem_euclid(4) == 0 && (year.rem_euclid(100) != 0 || year.rem_euclid(400) == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// A moment as days since 1970-01-01 and nanoseconds of that day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    pub(super) days: i64,
    pub(super) nanos: i64,
}

impl Moment {
    /// From a count of units since 1970, of which a second has so many.
    #[inline]
    pub(super) fn of(value: i64, per_second: i64) -> Moment {
        let per_day = per_second * DAY_S;
        Moment {
            days: value.div_euclid(per_day),
            nanos: value.rem_euclid(per_day) * (1_000_000_000 / per_second),
        }
    }

    /// The count of units since 1970, unless it is out of range.
    pub(super) fn count(self, per_second: i64) -> Option<i64> {
        self.days.checked_mul(per_second * DAY_S)?.checked_add(self.nanos / (1_000_000_000 / per_second))
    }

    pub(super) fn at(date: Date, hour: i64, minute: i64, second: i64, nanos: i64) -> Option<Moment> {
        let is_time = (0..24).contains(&hour) && (0..60).contains(&minute) && (0..60).contains(&second);
        let nanos = ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + nanos;
        (is_time && (0..DAY_NS).contains(&nanos)).then_some(Moment { days: date.to_days(), nanos })
    }

    /// Reads `yyyy-MM-dd[ HH:mm[:ss[.fraction]]]`, where numbers may have fewer digits, a `T` may stand for the space
    /// and a `Z` at the end.
    pub(super) fn parse(text: &str) -> Option<Moment> {
        let text = text.trim();
        let text = text.strip_suffix('Z').unwrap_or(text);
        let (date, time) = match text.split_once([' ', 'T']) {
            Some((date, time)) => (date, Some(time)),
            None => (text, None),
        };
        let (is_before_christ, date) = date.strip_prefix('-').map_or((false, date), |rest| (true, rest));
        let mut parts = date.split('-');
        let year = number(parts.next()?)?;
        let (month, day) = (number(parts.next()?)?, number(parts.next()?)?);
        if parts.next().is_some() {
            return None;
        }
        let date = Date::checked(if is_before_christ { -year } else { year }, month as u32, day as u32)?;
        let Some(time) = time else { return Some(Moment { days: date.to_days(), nanos: 0 }) };
        let (time, nanos) = match time.split_once('.') {
            Some((time, fraction)) => (time, fraction_nanos(fraction)?),
            None => (time, 0),
        };
        let mut parts = time.split(':');
        let hour = number(parts.next()?)?;
        let minute = parts.next().map_or(Some(0), number)?;
        let second = parts.next().map_or(Some(0), number)?;
        if parts.next().is_some() {
            return None;
        }
        Moment::at(date, hour, minute, second, nanos)
    }
}

fn number(text: &str) -> Option<i64> {
    (!text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

/// Nanoseconds of the digits behind a point. Those behind the ninth do not count.
pub(super) fn fraction_nanos(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |n, b| n * 10 + i64::from(b - b'0')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_dates_are_each_others_inverse() {
        for days in (-1_000_000..1_000_000).step_by(37) {
            assert_eq!(Date::from_days(days).to_days(), days);
        }
        assert_eq!(Date::from_days(0), Date { year: 1970, month: 1, day: 1 });
        assert_eq!(Date::from_days(-1), Date { year: 1969, month: 12, day: 31 });
        assert_eq!(Date::from_days(11_016), Date { year: 2000, month: 2, day: 29 });
        assert_eq!(Date::checked(1900, 2, 29), None);
    }

    #[test]
    fn weeks_belong_to_the_year_of_their_thursday() {
        let week = |year, month, day| Date { year, month, day }.iso_week();
        assert_eq!(week(2021, 1, 3), (2020, 53));
        assert_eq!(week(2021, 1, 4), (2021, 1));
        assert_eq!(week(2024, 12, 30), (2025, 1));
        assert_eq!(iso_weekday(0), 4);
        assert_eq!(iso_weekday(-4), 7);
    }

    #[test]
    fn months_end_where_they_end() {
        let date = Date { year: 2024, month: 1, day: 31 };
        assert_eq!(date.plus_months(1), Date { year: 2024, month: 2, day: 29 });
        assert_eq!(date.plus_months(-2), Date { year: 2023, month: 11, day: 30 });
    }

    #[test]
    fn moments_are_read_from_text() {
        let ms = |text: &str| Moment::parse(text).and_then(|moment| moment.count(1_000));
        for (text, expected) in [
            ("1970-01-01", Some(0)),
            ("1970-01-01 00:00:01.5", Some(1_500)),
            ("1969-12-31T23:59:59.999Z", Some(-1)),
            ("1999-9-1 5:02", Some(936_162_120_000)),
            ("2023-02-29", None),
            ("2023-01-01 24:00:00", None),
            ("", None),
            ("hello", None),
            ("2023-01-01 1:2:3:4", None),
            ("２０２３-01-01", None),
        ] {
            assert_eq!(ms(text), expected, "{text}");
        }
    }
}
