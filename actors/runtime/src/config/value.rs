//! The types a configuration value can have: how each is read, shown and described.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// Bounds of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Limits {
    /// Whatever the type can hold.
    None,
    /// Of an integer, or of a duration in milliseconds.
    Integer(RangeInclusive<u64>),
    /// Of a number.
    Number(RangeInclusive<f64>),
}

impl From<RangeInclusive<u64>> for Limits {
    fn from(range: RangeInclusive<u64>) -> Self {
        Limits::Integer(range)
    }
}

impl From<RangeInclusive<f64>> for Limits {
    fn from(range: RangeInclusive<f64>) -> Self {
        Limits::Number(range)
    }
}

impl Limits {
    fn allow_integer(&self, value: u64) -> bool {
        match self {
            Limits::Integer(range) => range.contains(&value),
            Limits::None | Limits::Number(_) => true,
        }
    }

    fn allow_number(&self, value: f64) -> bool {
        match self {
            Limits::Number(range) => range.contains(&value),
            Limits::None | Limits::Integer(_) => value.is_finite(),
        }
    }

    /// `name`, with the bounds that a reader needs to know.
    fn describe(&self, name: &str, unit: &str) -> String {
        match self {
            Limits::None => name.to_owned(),
            Limits::Integer(range) if *range.end() == u64::MAX => {
                format!("{name} of at least {}{unit}", range.start())
            }
            Limits::Integer(range) => format!("{name} from {} to {}{unit}", range.start(), range.end()),
            Limits::Number(range) => format!("{name} from {} to {}{unit}", range.start(), range.end()),
        }
    }
}

/// The text is not of the type, or out of bounds: the caller knows key, text and type and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// A value in place: a field of a configuration struct.
pub(super) trait Setting {
    /// Replaces the value by what the text says; leaves it alone if that is nothing this type can be.
    fn assign(&mut self, text: &str, limits: &Limits) -> Result<(), Unreadable>;
    /// The value as [`assign`](Self::assign) would read it back; `None` if it is unset.
    fn show(&self) -> Option<String>;
    /// What the type is called, bounds included.
    fn type_name(&self, limits: &Limits) -> String;
}

/// A type of value, from which [`Setting`] follows for itself and for its `Option`.
pub(super) trait Value: Sized {
    fn read(text: &str, limits: &Limits) -> Option<Self>;
    fn write(&self) -> String;
    fn describe(limits: &Limits) -> String;
    /// Whether 0 of an optional value stands for unset, as in "0: no checkpoints".
    fn means_unset(_text: &str) -> bool {
        false
    }
}

impl<T: Value> Setting for T {
    fn assign(&mut self, text: &str, limits: &Limits) -> Result<(), Unreadable> {
        *self = T::read(text.trim(), limits).ok_or(Unreadable)?;
        Ok(())
    }
    fn show(&self) -> Option<String> {
        Some(self.write())
    }
    fn type_name(&self, limits: &Limits) -> String {
        T::describe(limits)
    }
}

impl<T: Value> Setting for Option<T> {
    fn assign(&mut self, text: &str, limits: &Limits) -> Result<(), Unreadable> {
        let text = text.trim();
        *self = if text.is_empty() || T::means_unset(text) {
            None
        } else {
            Some(T::read(text, limits).ok_or(Unreadable)?)
        };
        Ok(())
    }
    fn show(&self) -> Option<String> {
        self.as_ref().map(T::write)
    }
    fn type_name(&self, limits: &Limits) -> String {
        T::describe(limits)
    }
}

macro_rules! integers {
    ($($type:ty),+) => {$(
        impl Value for $type {
            fn read(text: &str, limits: &Limits) -> Option<Self> {
                let value: u64 = text.replace('_', "").parse().ok()?;
                if limits.allow_integer(value) { value.try_into().ok() } else { None }
            }
            fn write(&self) -> String {
                self.to_string()
            }
            fn describe(limits: &Limits) -> String {
                limits.describe("integer", "")
            }
        }
    )+};
}

integers!(u32, u64, usize);

impl Value for f64 {
    fn read(text: &str, limits: &Limits) -> Option<Self> {
        text.parse().ok().filter(|value| limits.allow_number(*value))
    }
    fn write(&self) -> String {
        self.to_string()
    }
    fn describe(limits: &Limits) -> String {
        limits.describe("number", "")
    }
}

impl Value for bool {
    fn read(text: &str, _: &Limits) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        }
    }
    fn write(&self) -> String {
        self.to_string()
    }
    fn describe(_: &Limits) -> String {
        "true|false".to_owned()
    }
}

impl Value for String {
    fn read(text: &str, _: &Limits) -> Option<Self> {
        Some(text.to_owned())
    }
    fn write(&self) -> String {
        self.clone()
    }
    fn describe(_: &Limits) -> String {
        "string".to_owned()
    }
}

impl Value for PathBuf {
    fn read(text: &str, _: &Limits) -> Option<Self> {
        Some(text.into())
    }
    fn write(&self) -> String {
        self.display().to_string()
    }
    fn describe(_: &Limits) -> String {
        "path".to_owned()
    }
}

/// Units of time, the names by which each is known, largest first; the first name is the one shown.
const TIME_UNITS: [(&[&str], u64); 7] = [
    (&["d", "day", "days"], 86_400_000_000_000),
    (&["h", "hour", "hours"], 3_600_000_000_000),
    (&["min", "m", "minute", "minutes"], 60_000_000_000),
    (&["s", "sec", "secs", "second", "seconds"], 1_000_000_000),
    (&["ms", "milli", "millis", "millisecond", "milliseconds", ""], 1_000_000),
    (&["us", "µs", "micro", "micros", "microsecond", "microseconds"], 1_000),
    (&["ns", "nano", "nanos", "nanosecond", "nanoseconds"], 1),
];

impl Value for Duration {
    fn read(text: &str, limits: &Limits) -> Option<Self> {
        let duration = Duration::from_nanos(scaled(text, &TIME_UNITS)?);
        let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        limits.allow_integer(millis).then_some(duration)
    }
    fn write(&self) -> String {
        let nanos = self.as_nanos();
        let fitting = TIME_UNITS.iter().find(|(_, size)| nanos.is_multiple_of(u128::from(*size)));
        match fitting {
            Some((names, size)) if nanos > 0 => format!("{} {}", nanos / u128::from(*size), names[0]),
            Some(_) | None => "0 ms".to_owned(),
        }
    }
    fn describe(limits: &Limits) -> String {
        limits.describe("duration", " ms")
    }
    fn means_unset(text: &str) -> bool {
        scaled(text, &TIME_UNITS) == Some(0)
    }
}

/// A number of bytes. Units are powers of 1024 whether written `MiB`, `MB` or `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(pub u64);

/// Units of memory, as [`TIME_UNITS`].
const BYTE_UNITS: [(&[&str], u64); 5] = [
    (&["TiB", "tib", "tb", "t"], 1 << 40),
    (&["GiB", "gib", "gb", "g"], 1 << 30),
    (&["MiB", "mib", "mb", "m"], 1 << 20),
    (&["KiB", "kib", "kb", "k"], 1 << 10),
    (&["B", "b", "byte", "bytes", ""], 1),
];

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.write())
    }
}

impl Value for ByteSize {
    fn read(text: &str, limits: &Limits) -> Option<Self> {
        scaled(text, &BYTE_UNITS).filter(|bytes| limits.allow_integer(*bytes)).map(ByteSize)
    }
    fn write(&self) -> String {
        let fitting = BYTE_UNITS.iter().find(|(_, size)| self.0.is_multiple_of(*size));
        match fitting {
            Some((names, size)) if self.0 > 0 => format!("{} {}", self.0 / size, names[0]),
            Some(_) | None => "0 B".to_owned(),
        }
    }
    fn describe(limits: &Limits) -> String {
        limits.describe("size", " B")
    }
}

/// Reads a number and its unit: whole numbers exactly, fractions to the nearest smallest unit.
fn scaled(text: &str, units: &[(&[&str], u64)]) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_').unwrap_or(text.len());
    let (number, unit) = (text[..end].replace('_', ""), text[end..].trim().to_lowercase());
    let (_, size) = units.iter().find(|(names, _)| names.contains(&unit.as_str()))?;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(*size);
    }
    let scaled = (number.parse::<f64>().ok()? * *size as f64).round();
    // the cast saturates, so what does not fit is refused before it
    (scaled < u64::MAX as f64).then_some(scaled as u64)
}

/// An enum whose variants a configuration names.
macro_rules! choices {
    ($(#[doc = $doc:literal])+ $name:ident { $( $(#[doc = $variant_doc:literal])+ $variant:ident = $text:literal, )+ }) => {
        $(#[doc = $doc])+
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $( $(#[doc = $variant_doc])+ $variant, )+ }

        impl value::Value for $name {
            fn read(text: &str, _: &Limits) -> Option<Self> {
                match text.to_ascii_lowercase().replace('_', "-").as_str() {
                    $( $text => Some(Self::$variant), )+
                    _ => None,
                }
            }
            fn write(&self) -> String {
                match self { $( Self::$variant => $text.to_owned(), )+ }
            }
            fn describe(_: &Limits) -> String {
                [$($text),+].join("|")
            }
        }
    };
}
pub(super) use choices;

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Value>(text: &str) -> Option<T> {
        T::read(text, &Limits::None)
    }

    #[test]
    fn durations_are_read_with_and_without_unit() {
        let check = |text: &str, expected: Option<Duration>| {
            assert_eq!(read::<Duration>(text), expected, "{text}");
        };
        check("5 ms", Some(Duration::from_millis(5)));
        check("10s", Some(Duration::from_secs(10)));
        check("1 min", Some(Duration::from_secs(60)));
        check("2h", Some(Duration::from_secs(7200)));
        check("1 Day", Some(Duration::from_secs(86_400)));
        check("250", Some(Duration::from_millis(250)));
        check("1.5 s", Some(Duration::from_millis(1500)));
        check("100 µs", Some(Duration::from_micros(100)));
        check("0", Some(Duration::ZERO));
        for wrong in ["", "s", "-1s", "10 parsecs", "1 s 5", "1.2.3s", "99999999999 d", "1e3", "."] {
            check(wrong, None);
        }
    }

    #[test]
    fn sizes_are_powers_of_1024() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(read::<ByteSize>(text), expected.map(ByteSize), "{text}");
        };
        check("64 MiB", Some(64 << 20));
        check("1gb", Some(1 << 30));
        check("0.5 k", Some(512));
        check("17", Some(17));
        check("16777216 TiB", None);
        check("1 bit", None);
    }

    #[test]
    fn what_is_shown_reads_back() {
        for nanos in [0, 1, 1_500, 5_000_000, 90_000_000_000, 7_200_000_000_000, 86_400_000_000_000] {
            let duration = Duration::from_nanos(nanos);
            assert_eq!(read(&duration.write()), Some(duration));
        }
        for bytes in [0, 1, 1023, 1 << 20, (1 << 30) + 1] {
            assert_eq!(read(&ByteSize(bytes).write()), Some(ByteSize(bytes)));
        }
        assert_eq!(Duration::from_secs(90).write(), "90 s");
        assert_eq!(ByteSize(64 << 20).write(), "64 MiB");
    }

    #[test]
    fn numbers_keep_to_their_bounds() {
        let limits = Limits::from(1..=10u64);
        assert_eq!(usize::read("10", &limits), Some(10));
        assert_eq!(usize::read("11", &limits), None);
        assert_eq!(u32::read("4294967296", &Limits::None), None);
        assert_eq!(u64::read("1_000", &Limits::None), Some(1000));
        assert_eq!(f64::read("1.01", &Limits::from(0.0..=1.0)), None);
        assert_eq!(f64::read("NaN", &Limits::None), None);
        assert_eq!(Duration::read("0 s", &Limits::from(1..=u64::MAX)), None);
        assert_eq!(Duration::describe(&Limits::from(1..=u64::MAX)), "duration of at least 1 ms");
    }

    #[test]
    fn an_optional_value_is_unset_by_nothing_and_a_duration_by_zero() {
        let mut value = Some(3usize);
        assert_eq!(value.assign("0", &Limits::from(1..=10u64)), Err(Unreadable));
        value.assign("", &Limits::from(1..=10u64)).unwrap();
        assert_eq!(value, None);
        let mut value = Some(Duration::from_secs(1));
        value.assign("0", &Limits::None).unwrap();
        assert_eq!(value, None);
        let mut value = Some("x".to_owned());
        value.assign("0", &Limits::None).unwrap();
        assert_eq!(value.as_deref(), Some("0"));
    }
}
