//! The table that the demo shows while it runs. It only watches: what it shows is not part of the results.

use super::records::{Departure, Flight, HourlyRow, Rush, WorstRow};
use compact_str::CompactString;
use hurtig::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

/// Rows of results between two drawings.
const REDRAW_EVERY: u64 = 48;

/// Where the year of the flights begins, and how long it is.
const YEAR_BEGINS: Timestamp = 1_356_998_400_000;
const YEAR_MS: i64 = 365 * 86_400_000;

/// Characters of the bar that shows how much of it has passed.
const BAR: usize = 50;

#[derive(Default)]
struct Shown {
    hours: BTreeMap<CompactString, HourlyRow>,
    rush: Option<Rush>,
    rushes: u64,
    worst: Vec<WorstRow>,
    late: u64,
    cancelled: u64,
    rows: u64,
    lines: usize,
}

/// A table on the terminal. Clones show the same.
#[derive(Clone)]
pub struct LiveTable {
    shown: Arc<Mutex<Shown>>,
    is_terminal: bool,
}

impl LiveTable {
    pub(super) fn new(live: bool) -> Self {
        LiveTable { shown: Arc::default(), is_terminal: live && std::io::stdout().is_terminal() }
    }

    /// Draws the table once more; call it when the job has ended, so that its last state remains on the screen.
    pub fn finish(&self) {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.rows > 0 {
            draw(&mut shown, self.is_terminal);
        }
    }

    pub(super) fn follow(
        &self,
        hourly: &DataStream<HourlyRow>,
        rushes: &DataStream<Rush>,
        worst: &DataStream<WorstRow>,
        late: &DataStream<Departure>,
        cancelled: &DataStream<Flight>,
    ) {
        self.watch(hourly, "hourly", |shown, row| {
            shown.rows += 1;
            // Airports reach an hour in any order, and a row of an earlier one would make the clock jump back.
            if shown.hours.get(&row.origin).is_none_or(|last| last.hour <= row.hour) {
                shown.hours.insert(row.origin.clone(), row);
            }
        });
        self.watch(rushes, "rushes", |shown, rush| {
            shown.rushes += 1;
            shown.rush = Some(rush);
        });
        self.watch(worst, "worst", |shown, row| {
            shown.worst.truncate(row.rank as usize - 1);
            shown.worst.push(row);
        });
        self.watch(late, "late", |shown, _| shown.late += 1);
        self.watch(cancelled, "cancelled", |shown, _| shown.cancelled += 1);
    }

    fn watch<T: hurtig::dataflow::Record>(
        &self,
        stream: &DataStream<T>,
        name: &str,
        update: impl Fn(&mut Shown, T) + Send + Sync + 'static,
    ) {
        let table = self.clone();
        let sink = stream.for_each(move |record| {
            let mut shown = table.shown.lock().unwrap_or_else(PoisonError::into_inner);
            let before = shown.rows;
            update(&mut shown, record);
            if table.is_terminal && shown.rows != before && shown.rows.is_multiple_of(REDRAW_EVERY) {
                draw(&mut shown, true);
            }
        });
        sink.name(&format!("{name} on screen")).uid(&format!("{name}-live")).set_parallelism(1);
    }
}

fn draw(shown: &mut Shown, is_terminal: bool) {
    let body = body(shown);
    let mut text = String::new();
    if is_terminal {
        if shown.lines > 0 {
            // Back to the first line of the former drawing.
            let _ = write!(text, "\x1b[{}A", shown.lines);
        }
        // What a narrow terminal cannot show is cut off: a line that wraps would be two to go back over.
        let _ = write!(text, "\r\x1b[J\x1b[?7l{body}\x1b[?7h");
        shown.lines = body.lines().count();
    } else {
        text.push_str(&body);
    }
    let mut out = std::io::stdout().lock();
    // Nobody is left to see it if the terminal is gone.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn body(shown: &Shown) -> String {
    let mut text = String::new();
    if let Some(hour) = shown.hours.values().map(|row| row.hour).max() {
        let _ = writeln!(text, "  {}\n", year_so_far(hour));
    }
    let _ = writeln!(text, "  airport  hour                departures  mean delay  95th perc.  over 15 min");
    for row in shown.hours.values() {
        let share = row.share_delayed * 100.0;
        let bar = "#".repeat((share / 5.0).round() as usize);
        let _ = writeln!(
            text,
            "  {:<7}  {}  {:>10}  {:>6.1} min  {:>6} min  {share:>3.0} % {bar}",
            row.origin,
            clock(row.hour),
            row.departures,
            row.mean_delay,
            row.p95_delay
        );
    }
    let worst: Vec<_> =
        shown.worst.iter().map(|row| format!("{} {:.1} min", row.carrier, row.mean_delay)).collect();
    let _ = writeln!(text, "\n  worst so far: {}", worst.join(", "));
    if let Some(rush) = &shown.rush {
        let _ = writeln!(
            text,
            "  rushes: {}, the last to {}: {} flights from {} to{}",
            shown.rushes,
            rush.dest,
            rush.flights,
            clock(rush.from),
            &clock(rush.to)[11..]
        );
    }
    let _ = writeln!(text, "  cancelled: {}, too late for their hour: {}", shown.cancelled, shown.late);
    text
}

/// How much of its year has passed at a time.
fn year_so_far(time: Timestamp) -> String {
    let share = ((time - YEAR_BEGINS) as f64 / YEAR_MS as f64).clamp(0.0, 1.0);
    let done = (share * BAR as f64).round() as usize;
    format!("2013  [{:-<BAR$}]  {:>3.0} %  {}", "=".repeat(done), share * 100.0, &clock(time)[..10])
}

/// A time as date and clock.
fn clock(time: Timestamp) -> String {
    let (days, minutes) = (time.div_euclid(86_400_000), time.rem_euclid(86_400_000) / 60_000);
    let (mut year, mut left) = (1970, days);
    let length = |year: i64| if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) { 366 } else { 365 };
    while left >= length(year) {
        left -= length(year);
        year += 1;
    }
    let february = length(year) - 337;
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}  {:02}:{:02}", left + 1, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_date_and_clock() {
        assert_eq!(clock(0), "1970-01-01  00:00");
        assert_eq!(clock(1_388_534_340_000), "2013-12-31  23:59");
        assert_eq!(clock(1_330_473_600_000), "2012-02-29  00:00");
    }

    #[test]
    fn the_bar_shows_how_much_of_the_year_has_passed() {
        let half = format!("2013  [{}{}]   50 %  2013-07-02", "=".repeat(25), "-".repeat(25));
        assert_eq!(year_so_far(YEAR_BEGINS + YEAR_MS / 2), half);
        assert!(year_so_far(YEAR_BEGINS + 2 * YEAR_MS).contains("100 %"));
    }
}
