//! What the files hold and what the job makes of it. Times are the airports' local clock, as milliseconds since 1970.

use compact_str::CompactString;
use hurtig::prelude::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

/// A line of the input: the columns that the job reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Flight {
    /// Year of the scheduled departure.
    pub year: i32,
    /// Month of the scheduled departure, from 1.
    pub month: u32,
    /// Day of the scheduled departure, from 1.
    pub day: u32,
    /// Clock time of the actual departure as hours times 100 plus minutes; none for a cancelled flight.
    #[serde(deserialize_with = "number_or_na")]
    pub dep_time: Option<i32>,
    /// Clock time of the scheduled departure.
    pub sched_dep_time: i32,
    /// Minutes from the scheduled to the actual departure.
    #[serde(deserialize_with = "number_or_na")]
    pub dep_delay: Option<i32>,
    /// Two letters of the carrier.
    pub carrier: CompactString,
    /// Flight number.
    pub flight: u32,
    /// Airport of departure.
    pub origin: CompactString,
    /// Airport of arrival.
    pub dest: CompactString,
}

/// A flight that left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Departure {
    /// When.
    pub at: Timestamp,
    /// From where.
    pub origin: CompactString,
    /// To where.
    pub dest: CompactString,
    /// Two letters of the carrier.
    pub carrier: CompactString,
    /// Flight number.
    pub flight: u32,
    /// Minutes behind the schedule; negative if ahead.
    pub delay: i32,
}

/// Delays of one hour at one airport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HourlyRow {
    /// The airport.
    pub origin: CompactString,
    /// Start of the hour.
    pub hour: Timestamp,
    /// Departures within it.
    pub departures: u64,
    /// Their mean delay in minutes.
    pub mean_delay: f64,
    /// The delay that 95 of 100 do not exceed, in minutes.
    pub p95_delay: i32,
    /// Share of them delayed by more than 15 minutes.
    pub share_delayed: f64,
}

impl HourlyRow {
    /// A row of a window's result.
    pub fn new(origin: &CompactString, hour: Timestamp, delays: super::delays::HourlyResult) -> Self {
        HourlyRow {
            origin: origin.clone(),
            hour,
            departures: delays.departures,
            mean_delay: delays.mean,
            p95_delay: delays.p95,
            share_delayed: delays.share_delayed,
        }
    }
}

/// Departures to one destination that follow closely on each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rush {
    /// The destination.
    pub dest: CompactString,
    /// First departure.
    pub from: Timestamp,
    /// Last departure.
    pub to: Timestamp,
    /// Number of departures.
    pub flights: u64,
}

/// One place in the ranking of carriers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstRow {
    /// The event time up to which all flights are counted, if on time.
    pub as_of: Timestamp,
    /// Place, from 1.
    pub rank: u32,
    /// The carrier.
    pub carrier: CompactString,
    /// Its departures so far.
    pub departures: u64,
    /// Their mean delay in minutes.
    pub mean_delay: f64,
}

impl Flight {
    /// Scheduled departure.
    pub fn scheduled(&self) -> Timestamp {
        let minutes = i64::from(self.sched_dep_time / 100 * 60 + self.sched_dep_time % 100);
        days_from_civil(self.year, self.month, self.day) * 86_400_000 + minutes * 60_000
    }

    /// Actual departure, or the scheduled one of a flight that never left.
    pub fn event_time(&self) -> Timestamp {
        self.scheduled() + i64::from(self.dep_delay.unwrap_or(0)) * 60_000
    }

    /// The departure, if there was one.
    pub fn departure(&self) -> Option<Departure> {
        self.dep_time?;
        Some(Departure {
            at: self.event_time(),
            origin: self.origin.clone(),
            dest: self.dest.clone(),
            carrier: self.carrier.clone(),
            flight: self.flight,
            delay: self.dep_delay?,
        })
    }
}

/// Days since 1970-01-01 of a date in the Gregorian calendar: whole years and months of a year that begins in March,
/// so that the leap day comes last.
fn days_from_civil(year: i32, month: u32, day: u32) -> i64 {
    let year = i64::from(year) - i64::from(month <= 2);
    let month = i64::from((month + 9) % 12);
    let day_of_year = (153 * month + 2) / 5 + i64::from(day) - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + day_of_year - 719_468
}

/// A number, or `NA` or nothing where there is none.
fn number_or_na<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Field<'a> {
        Number(i32),
        Float(f64),
        #[serde(borrow)]
        Text(std::borrow::Cow<'a, str>),
        Absent(()),
    }
    if !deserializer.is_human_readable() {
        return Option::deserialize(deserializer);
    }
    match Field::deserialize(deserializer)? {
        Field::Number(number) => Ok(Some(number)),
        Field::Float(number) => Ok(Some(number as i32)),
        Field::Text(text) if text.is_empty() || text == "NA" => Ok(None),
        Field::Text(text) => Err(serde::de::Error::custom(format!("'{text}' is neither a number nor NA"))),
        Field::Absent(()) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_count_from_1970() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2000, 2, 29), 11_016);
        assert_eq!(days_from_civil(2013, 12, 31), 16_070);
    }
}
