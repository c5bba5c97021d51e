//! Numbers for people: short, with their units.

/// A number of things, shortened.
pub fn count(value: f64) -> String {
    let steps = [(1e9, "G"), (1e6, "M"), (1e3, "k")];
    match steps.into_iter().find(|(size, _)| value.abs() >= *size) {
        Some((size, unit)) => format!("{} {unit}", short(value / size)),
        None => format!("{value:.0}"),
    }
}

/// A rate of things, which may be less than one.
pub fn rate(value: f64) -> String {
    if value > 0.0 && value < 10.0 { format!("{value:.1}") } else { count(value) }
}

/// Three digits.
fn short(value: f64) -> String {
    match value.abs() {
        small if small < 10.0 => format!("{value:.2}"),
        middle if middle < 100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Bytes.
pub fn bytes(value: u64) -> String {
    let steps = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match steps.into_iter().find(|(shift, _)| value >> shift > 0) {
        Some((shift, unit)) => format!("{} {unit}", short(value as f64 / (1u64 << shift) as f64)),
        None => format!("{value} B"),
    }
}

/// A span of time.
pub fn duration(ms: i64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, _) if ms < 1_000 => format!("{ms} ms"),
        (0, 0, 0, s) if s < 10 => format!("{:.1} s", ms as f64 / 1_000.0),
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// A share of a whole.
pub fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// The name of a vertex.
pub fn name(name: &str) -> String {
    name.replace(" -> ", " → ")
}

/// A moment, in UTC.
pub fn time(ms: i64) -> String {
    let (days, of_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000) / 1_000);
    // Days since the first of March of the year 0, in eras of 400 years: Howard Hinnant's civil_from_days.
    let shifted = days + 719_468;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
}

/// A watermark.
pub fn watermark(time_ms: i64) -> String {
    match time_ms {
        hurtig_dataflow::time::MIN_TIMESTAMP => "none yet".into(),
        hurtig_dataflow::time::MAX_TIMESTAMP => "end".into(),
        // Times of years that no data has are numbers that mean something else.
        far if !(0..253_402_300_800_000).contains(&far) => far.to_string(),
        other => time(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_right() {
        let check = |found: String, expected: &str| assert_eq!(found, expected);
        check(count(0.0), "0");
        check(count(999.0), "999");
        check(count(12_345.0), "12.3 k");
        check(count(2_000_000.0), "2.00 M");
        check(rate(0.25), "0.2");
        check(bytes(512), "512 B");
        check(bytes(1 << 20), "1.00 MiB");
        check(duration(450), "450 ms");
        check(duration(4_200), "4.2 s");
        check(duration(3_700_000), "1 h 1 min");
        check(time(0), "1970-01-01 00:00:00");
        check(time(951_782_400_000), "2000-02-29 00:00:00");
        check(time(1_795_446_663_763), "2026-11-23 15:11:03");
        check(watermark(i64::MAX), "end");
    }
}
