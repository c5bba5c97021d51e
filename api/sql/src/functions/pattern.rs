//! Patterns of times, such as `yyyy-MM-dd HH:mm`, in the letters of Java's `DateTimeFormatter`.

use super::calendar::{DAY_S, Date, Moment, fraction_nanos, iso_weekday};
use datafusion_common::{Result, plan_err};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A piece of a pattern. Numbers are least widths.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Literal(String),
    Year(usize),
    /// Last two digits.
    ShortYear,
    Month(usize),
    MonthName {
        is_short: bool,
    },
    Day(usize),
    DayOfYear(usize),
    Weekday {
        is_short: bool,
    },
    Quarter(usize),
    /// 0 to 23
    Hour(usize),
    /// 1 to 12
    HourOfHalf(usize),
    HalfOfDay,
    Minute(usize),
    Second(usize),
    /// Digits behind the second.
    Fraction(usize),
    Nanosecond(usize),
    /// Always UTC, by the letter that asks for it.
    Zone(char),
}

/// A pattern that was read.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    pieces: Vec<Piece>,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It has a letter that means nothing, or nothing that is known here.
    pub(super) fn read(text: &str) -> Result<Pattern> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            if letter == '\'' {
                // Two quotes are one quote, both in and outside of quoted text.
                if rest.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                        None => return plan_err!("quote without an end in the time pattern '{text}'"),
                    }
                }
                continue;
            }
            if !letter.is_ascii_alphabetic() {
                literal.push(letter);
                continue;
            }
            let mut count = 1;
            while rest.next_if_eq(&letter).is_some() {
                count += 1;
            }
            let Some(piece) = piece(letter, count) else {
                return plan_err!(
                    "'{}' means nothing in the time pattern '{text}'",
                    letter.to_string().repeat(count)
                );
            };
            if !literal.is_empty() {
                pieces.push(Piece::Literal(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(literal));
        }
        Ok(Pattern { pieces })
    }

    /// Seconds in which the text of a time does not change, if there are any.
    pub(super) fn constant_s(&self) -> Option<i64> {
        let of = |piece: &Piece| match piece {
            Piece::Fraction(_) | Piece::Nanosecond(_) => None,
            Piece::Second(_) => Some(1),
            Piece::Minute(_) => Some(60),
            Piece::Hour(_) | Piece::HourOfHalf(_) | Piece::HalfOfDay => Some(3_600),
            _ => Some(DAY_S),
        };
        self.pieces.iter().try_fold(DAY_S, |least, piece| of(piece).map(|s| s.min(least)))
    }

    /// Writes a time. `date` is that of its day.
    pub(super) fn write(&self, moment: Moment, date: Date, out: &mut String) {
        let second = moment.nanos / 1_000_000_000;
        let nanos = moment.nanos % 1_000_000_000;
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Year(width) => year(out, date.year, *width),
                Piece::ShortYear => digits(out, date.year.rem_euclid(100), 2),
                Piece::Month(width) => digits(out, i64::from(date.month), *width),
                Piece::MonthName { is_short } => name(out, MONTHS[date.month as usize - 1], *is_short),
                Piece::Day(width) => digits(out, i64::from(date.day), *width),
                Piece::DayOfYear(width) => digits(out, date.day_of_year(), *width),
                Piece::Weekday { is_short } => {
                    name(out, DAYS[iso_weekday(moment.days) as usize - 1], *is_short)
                }
                Piece::Quarter(width) => digits(out, date.quarter(), *width),
                Piece::Hour(width) => digits(out, second / 3_600, *width),
                Piece::HourOfHalf(width) => digits(out, (second / 3_600 + 11) % 12 + 1, *width),
                Piece::HalfOfDay => out.push_str(if second < DAY_S / 2 { "AM" } else { "PM" }),
                Piece::Minute(width) => digits(out, second / 60 % 60, *width),
                Piece::Second(width) => digits(out, second % 60, *width),
                Piece::Fraction(width) => digits(out, nanos / 10_i64.pow(9 - *width as u32), *width),
                Piece::Nanosecond(width) => digits(out, nanos, *width),
                Piece::Zone('X' | 'z' | 'V') => out.push('Z'),
                Piece::Zone(_) => out.push_str("+0000"),
            }
        }
    }

    /// Reads a time, all of the text. What the pattern does not name is that of 1970-01-01 00:00:00.
    pub(super) fn parse(&self, text: &str) -> Option<Moment> {
        let (mut year, mut month, mut day) = (1970, 1, 1);
        let (mut hour, mut half, mut minute, mut second, mut nanos) = (0, None, 0, 0, 0);
        let mut day_of_year = None;
        let mut rest = text;
        for (i, piece) in self.pieces.iter().enumerate() {
            // A number that another one follows at once has just its width.
            let next = self.pieces.get(i + 1);
            let is_tight = next.is_some_and(|next| !matches!(next, Piece::Literal(_)));
            let mut take =
                |width: usize, most: usize| number(&mut rest, width, if is_tight { width } else { most });
            match piece {
                Piece::Literal(text) => rest = rest.strip_prefix(text.as_str())?,
                Piece::Year(width) => year = take(*width, 10)?,
                Piece::ShortYear => year = 2_000 + take(2, 2)?,
                Piece::Month(width) => month = take(*width, 2)?,
                Piece::Day(width) => day = take(*width, 2)?,
                Piece::DayOfYear(width) => day_of_year = Some(take(*width, 3)?),
                Piece::Hour(width) => hour = take(*width, 2)?,
                Piece::HourOfHalf(width) => {
                    hour = take(*width, 2)? % 12;
                    half = half.or(Some(false));
                }
                Piece::Minute(width) => minute = take(*width, 2)?,
                Piece::Second(width) => second = take(*width, 2)?,
                Piece::Fraction(width) => {
                    let (fraction, behind) = rest.split_at_checked(*width)?;
                    nanos = fraction_nanos(fraction)?;
                    rest = behind;
                }
                Piece::Nanosecond(width) => nanos = take(*width, 9)?,
                Piece::MonthName { is_short } => month = one_of(&mut rest, &MONTHS, *is_short)?,
                Piece::Weekday { is_short } => _ = one_of(&mut rest, &DAYS, *is_short)?,
                Piece::Quarter(width) => _ = take(*width, 1)?,
                Piece::HalfOfDay => {
                    let is_afternoon = rest.starts_with("PM");
                    rest = rest.strip_prefix("PM").or_else(|| rest.strip_prefix("AM"))?;
                    half = Some(is_afternoon);
                }
                Piece::Zone(_) => rest = rest.strip_prefix('Z').or_else(|| rest.strip_prefix("+0000"))?,
            }
        }
        if half == Some(true) {
            hour = hour % 12 + 12;
        }
        let date = Date::checked(year, month as u32, day as u32)?;
        let moment = Moment::at(date, hour, minute, second, nanos)?;
        let moment = match day_of_year {
            Some(day) => Moment { days: Date { year, month: 1, day: 1 }.to_days() + day - 1, ..moment },
            None => moment,
        };
        rest.is_empty().then_some(moment)
    }
}

fn piece(letter: char, count: usize) -> Option<Piece> {
    Some(match (letter, count) {
        ('y' | 'u', 2) => Piece::ShortYear,
        ('y' | 'u', 1..=6) => Piece::Year(count),
        ('M' | 'L', 1..=2) => Piece::Month(count),
        ('M' | 'L', 3..=4) => Piece::MonthName { is_short: count == 3 },
        ('d', 1..=2) => Piece::Day(count),
        ('D', 1..=3) => Piece::DayOfYear(count),
        ('E', 1..=4) => Piece::Weekday { is_short: count < 4 },
        ('Q' | 'q', 1..=2) => Piece::Quarter(count),
        ('H', 1..=2) => Piece::Hour(count),
        ('h', 1..=2) => Piece::HourOfHalf(count),
        ('a', 1) => Piece::HalfOfDay,
        ('m', 1..=2) => Piece::Minute(count),
        ('s', 1..=2) => Piece::Second(count),
        ('S', 1..=9) => Piece::Fraction(count),
        ('n', 1..=9) => Piece::Nanosecond(count),
        ('X' | 'x' | 'Z' | 'z' | 'V', _) => Piece::Zone(letter),
        _ => return None,
    })
}

/// Writes a number that is not below 0. `write!` would take several times as long, and is most of the work.
fn digits(out: &mut String, value: i64, width: usize) {
    if width == 2 && value < 100 {
        out.push((b'0' + (value / 10) as u8) as char);
        out.push((b'0' + (value % 10) as u8) as char);
        return;
    }
    let mut buffer = [b'0'; 20];
    let mut rest = value.unsigned_abs();
    let mut at = buffer.len();
    while rest > 0 {
        at -= 1;
        buffer[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let from = at.min(buffer.len() - width.min(buffer.len()));
    out.push_str(std::str::from_utf8(&buffer[from..]).unwrap_or_default());
}

/// Java writes a sign before years of more digits than the pattern has.
fn year(out: &mut String, year: i64, width: usize) {
    if width >= 4 && year >= 10_i64.pow(width as u32) {
        out.push('+');
    }
    if year < 0 {
        out.push('-');
    }
    digits(out, year.abs(), width);
}

fn name(out: &mut String, name: &str, is_short: bool) {
    out.push_str(if is_short { &name[..3] } else { name });
}

fn number(rest: &mut &str, width: usize, most: usize) -> Option<i64> {
    let length = rest.bytes().take(most.max(width)).take_while(u8::is_ascii_digit).count();
    let (digits, behind) = rest.split_at(length);
    if length < width {
        return None;
    }
    *rest = behind;
    digits.parse().ok()
}

fn one_of(rest: &mut &str, names: &[&str], is_short: bool) -> Option<i64> {
    let found = names.iter().enumerate().find_map(|(i, name)| {
        let behind = rest.strip_prefix(if is_short { &name[..3] } else { *name })?;
        Some((i as i64 + 1, behind))
    });
    let (number, behind) = found?;
    *rest = behind;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pattern: &str, ms: i64) -> String {
        let moment = Moment::of(ms, 1_000);
        let mut out = String::new();
        Pattern::read(pattern).unwrap().write(moment, Date::from_days(moment.days), &mut out);
        out
    }

    #[test]
    fn times_are_written_as_java_writes_them() {
        // 2024-02-29 13:05:09.042, a Thursday
        let ms = 1_709_211_909_042;
        for (pattern, expected) in [
            ("yyyy-MM-dd", "2024-02-29"),
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 13:05:09.042"),
            ("HH:mm", "13:05"),
            ("yyyyMMdd", "20240229"),
            ("yy/M/d H:m:s", "24/2/29 13:5:9"),
            ("hh:mm a", "01:05 PM"),
            ("EEE, d MMM yyyy", "Thu, 29 Feb 2024"),
            ("EEEE MMMM", "Thursday February"),
            ("DDD Q", "060 1"),
            ("yyyy-MM-dd'T'HH:mm:ss.SSSSSS''", "2024-02-29T13:05:09.042000'"),
            ("'o''clock' HH", "o'clock 13"),
            ("年yyyy", "年2024"),
            ("S", "0"),
        ] {
            assert_eq!(written(pattern, ms), expected, "{pattern}");
        }
        assert_eq!(written("yyyy-MM-dd HH:mm:ss", -1), "1969-12-31 23:59:59");
        assert_eq!(written("hh a", 0), "12 AM");
    }

    #[test]
    fn times_are_read_as_they_are_written() {
        let parsed = |pattern: &str, text: &str| {
            Pattern::read(pattern).unwrap().parse(text).and_then(|moment| moment.count(1_000))
        };
        for (pattern, text, expected) in [
            ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-29 13:05:09.042", Some(1_709_211_909_042)),
            ("yyyyMMdd", "20240229", Some(1_709_164_800_000)),
            ("yyyyMMdd", "2024022", None),
            ("dd MMM yyyy, hh a", "29 Feb 2024, 12 AM", Some(1_709_164_800_000)),
            ("yyyy-MM-dd", "2023-02-29", None),
            ("yyyy-MM-dd", "2024-02-29 ", None),
            ("yyyy-DDD", "2024-060", Some(1_709_164_800_000)),
            ("HH:mm", "13:05", Some(47_100_000)),
        ] {
            assert_eq!(parsed(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn patterns_that_mean_nothing_are_refused() {
        for pattern in ["yyyy-bb", "'open", "MMMMMMM"] {
            assert!(Pattern::read(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_knows_how_long_its_text_lasts() {
        let of = |pattern: &str| Pattern::read(pattern).unwrap().constant_s();
        assert_eq!(of("yyyy-MM-dd"), Some(86_400));
        assert_eq!(of("HH:mm"), Some(60));
        assert_eq!(of("HH:mm:ss.SSS"), None);
    }
}
