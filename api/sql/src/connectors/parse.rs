//! Values out of text, as CSV, JSON and options have them. Nothing here allocates or panics.

use super::text::per_second;
use arrow::datatypes::TimeUnit;

/// A whole number.
#[inline]
pub(super) fn integer(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    if digits.is_empty() {
        return None;
    }
    if digits.len() <= 18 {
        // No overflow is possible.
        let mut number = 0i64;
        for byte in digits {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                return None;
            }
            number = number * 10 + i64::from(digit);
        }
        return Some(if is_negative { -number } else { number });
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A floating-point number.
pub(super) fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// `true` or `false`.
pub(super) fn boolean(text: &[u8]) -> Option<bool> {
    if text.eq_ignore_ascii_case(b"true") {
        Some(true)
    } else if text.eq_ignore_ascii_case(b"false") {
        Some(false)
    } else {
        None
    }
}

/// A decimal number, as so many units of its last place. Places beyond the scale are rounded, half away from zero.
pub(super) fn decimal(text: &[u8], precision: u8, scale: i8) -> Option<i128> {
    let (is_negative, mut rest) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    };
    // Where the last digit taken stands behind the point.
    let mut places = 0i32;
    let mut exponent = 0i32;
    if let Some(at) = rest.iter().position(|byte| matches!(byte, b'e' | b'E')) {
        exponent = i32::try_from(integer(&rest[at + 1..])?).ok()?;
        rest = &rest[..at];
    }
    let (mut number, mut digits, mut has_point) = (0i128, 0, false);
    let mut round_up = None;
    for byte in rest {
        match byte {
            b'.' if !has_point => has_point = true,
            b'0'..=b'9' => {
                digits += 1;
                if has_point && places.saturating_add(1).saturating_sub(exponent) > i32::from(scale) {
                    round_up.get_or_insert(*byte >= b'5');
                    continue;
                }
                places += i32::from(has_point);
                number = number.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
            }
            _ => return None,
        }
    }
    if digits == 0 {
        return None;
    }
    let shift = i32::from(scale).saturating_add(exponent).saturating_sub(places);
    if shift >= 0 {
        if number != 0 {
            number = number.checked_mul(10i128.checked_pow(u32::try_from(shift).ok()?)?)?;
        }
        number += i128::from(round_up == Some(true));
    } else {
        // Digits before the point that the scale, or an exponent, leaves out.
        let unit = 10i128.checked_pow(shift.unsigned_abs()).unwrap_or(i128::MAX);
        number = number / unit + i128::from(number % unit >= unit / 2 + unit % 2);
    }
    let fits = 10i128.checked_pow(u32::from(precision)).is_none_or(|limit| number < limit);
    fits.then_some(if is_negative { -number } else { number })
}

/// A point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    seconds: i64,
    nanos: u32,
}

impl Moment {
    pub(super) fn millis(self) -> i64 {
        self.seconds * 1_000 + i64::from(self.nanos / 1_000_000)
    }

    /// In units of its type; what is smaller is cut off.
    #[inline]
    pub(super) fn in_unit(self, unit: TimeUnit) -> Option<i64> {
        let ticks = per_second(unit);
        self.seconds.checked_mul(ticks)?.checked_add(i64::from(self.nanos) / (1_000_000_000 / ticks))
    }
}

/// A number of exactly these digits.
#[inline]
fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0i64, |number, byte| {
        let digit = byte.wrapping_sub(b'0');
        (digit <= 9).then(|| number * 10 + i64::from(digit))
    })
}

/// `2024-01-31`, as days since 1970.
#[inline]
pub(super) fn date(text: &[u8]) -> Option<i32> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2] = text else { return None };
    let year = digits(&[*y1, *y2, *y3, *y4])?;
    let (month, day) = (digits(&[*m1, *m2])?, digits(&[*d1, *d2])?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=length).contains(&day) {
        return None;
    }
    // Howard Hinnant's algorithm: years begin in March, so that the leap day is their last.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    i32::try_from(days).ok()
}

/// `10:15`, `10:15:30` or `10:15:30.123456789`, as seconds and nanoseconds.
#[inline]
fn clock(text: &[u8]) -> Option<(i64, u32)> {
    let (minutes, rest) = text.split_first_chunk::<5>()?;
    let [h1, h2, b':', m1, m2] = minutes else { return None };
    let (hour, minute) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
    let (second, fraction) = match rest {
        [] => (0, &[] as &[u8]),
        [b':', s1, s2] => (digits(&[*s1, *s2])?, &[] as &[u8]),
        [b':', s1, s2, b'.', fraction @ ..] if (1..=9).contains(&fraction.len()) => {
            (digits(&[*s1, *s2])?, fraction)
        }
        _ => return None,
    };
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let nanos = digits(fraction)? * 10i64.pow(9 - fraction.len() as u32);
    Some((hour * 3_600 + minute * 60 + second, nanos as u32))
}

/// A time of day.
pub(super) fn time(text: &[u8]) -> Option<Moment> {
    let (seconds, nanos) = clock(text)?;
    Some(Moment { seconds, nanos })
}

/// A date, a blank or `T`, and a time of day; or a date alone. With a zone (`Z`, `+02:00`) it is taken to UTC.
#[inline]
pub(super) fn timestamp(text: &[u8]) -> Option<Moment> {
    let (day, rest) = text.split_at_checked(10)?;
    let midnight = i64::from(date(day)?) * 86_400;
    let rest = match rest {
        [] => return Some(Moment { seconds: midnight, nanos: 0 }),
        [b' ' | b'T' | b't', rest @ ..] => rest,
        _ => return None,
    };
    let (time, offset) = match rest {
        [time @ .., b'Z' | b'z'] => (time, 0),
        [time @ .., sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let (hours, minutes) = (digits(&[*h1, *h2])?, digits(&[*m1, *m2])?);
            let offset = hours * 3_600 + minutes * 60;
            (time, if *sign == b'-' { -offset } else { offset })
        }
        time => (time, 0),
    };
    let (seconds, nanos) = clock(time)?;
    Some(Moment { seconds: midnight + seconds - offset, nanos })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_are_rounded_to_their_scale_and_must_fit_their_precision() {
        let all = [
            ("1.005", Some(1_005)),
            ("-1.0005", Some(-1_001)),
            ("1.0004", Some(1_000)),
            (".5", Some(500)),
            ("5.", Some(5_000)),
            ("1e2", Some(100_000)),
            ("12e-4", Some(1)),
            ("15e-4", Some(2)),
            ("99999.999", Some(99_999_999)),
            ("99999.9999", None),
            ("123456", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("1e", None),
            ("0e99999", Some(0)),
            ("1e99999999999", None),
            ("1e-99999", Some(0)),
        ];
        for (text, expected) in all {
            assert_eq!(decimal(text.as_bytes(), 8, 3), expected, "{text}");
        }
    }

    #[test]
    fn times_have_many_forms() {
        let base = 1_704_153_550_123i64;
        for text in [
            "2024-01-01 23:59:10.123",
            "2024-01-01T23:59:10.123",
            "2024-01-01T23:59:10.123Z",
            "2024-01-02T01:59:10.123456+02:00",
            "2024-01-01T20:29:10.123-03:30",
        ] {
            assert_eq!(timestamp(text.as_bytes()).map(Moment::millis), Some(base), "{text}");
        }
        assert_eq!(timestamp(b"2024-01-01 23:59").map(Moment::millis), Some(1_704_153_540_000));
        assert_eq!(timestamp(b"2024-02-29").map(Moment::millis), Some(1_709_164_800_000));
        for text in [
            "2023-02-29",
            "2024-13-01",
            "2024-01-01 24:00:00",
            "2024-01-01 1:00:00",
            "2024-01-01x",
            "soon",
            "",
        ] {
            assert_eq!(timestamp(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn integers_are_those_of_the_standard_library(text in "[-+]?[0-9]{0,21}x?") {
            prop_assert_eq!(integer(text.as_bytes()), text.parse().ok());
        }

        #[test]
        fn nothing_panics(text in "[-+0-9.:eTZ ]{0,32}") {
            let text = text.as_bytes();
            let _ = (integer(text), float(text), boolean(text), date(text), time(text));
            for scale in [-40, -2, 0, 3, 38] {
                let _ = decimal(text, 38, scale);
            }
            let _ = timestamp(text).map(|moment| moment.in_unit(TimeUnit::Nanosecond));
        }

        #[test]
        fn days_are_those_of_chrono(days in -719_528i32..2_932_897) {
            let epoch = chrono::NaiveDate::from_ymd_opt(1970, 1, 1).unwrap();
            let day = epoch + chrono::Duration::days(i64::from(days));
            prop_assert_eq!(date(day.to_string().as_bytes()), Some(days));
        }
    }
}
