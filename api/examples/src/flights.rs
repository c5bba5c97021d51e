//! The main job: the departures of the three New York airports in 2013, in event time of the actual departure.
//!
//! The files hold a day's flights in order of the clock time at which they left; one that left after midnight with a
//! long delay comes before the others of its scheduled day. So records are out of order by up to a day and more: those
//! behind the watermark when their hour is already closed go to a side output.
//!
//! | output folder | content |
//! |---|---|
//! | `hourly` | per origin and hour: departures, mean and 95th percentile delay, share delayed more than 15 minutes |
//! | `rushes` | per destination: five or more departures, none more than ten minutes after the one before |
//! | `worst` | the five carriers with the largest mean delay so far, whenever event time has moved on |
//! | `cancelled` | flights without a departure |
//! | `late` | flights that came after their hour was closed |

mod delays;
mod live;
mod records;
mod throttle;
mod worst;

pub use delays::{HourlyDelays, percentile_95};
pub use live::LiveTable;
pub use records::{Departure, Flight, HourlyRow, Rush, WorstRow};

use clap::Parser;
use hurtig::prelude::*;
use std::cell::OnceCell;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use throttle::Throttle;
use worst::WorstCarriers;

/// How far a flight may be behind the latest one seen and still count as on time.
pub const OUT_OF_ORDER_MS: i64 = 20 * 3_600_000;

/// A departure later than this has a delay worth counting, in minutes.
pub const DELAYED_MINUTES: i32 = 15;

/// Longest time between departures of one rush.
pub const RUSH_GAP: Duration = Duration::from_secs(600);

/// Departures that make a rush.
pub const RUSH_FLIGHTS: u64 = 5;

/// Delays of the flights that left New York in 2013
#[derive(Parser, Debug, Clone)]
#[command(name = "flights", disable_version_flag = true, args_override_self = true)]
pub struct Options {
    /// Folder with the flights of each month; scripts/fetch-flights makes it
    #[arg(long, value_name = "DIR", default_value = ".cache/nycflights13/months")]
    pub data: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "flights-out")]
    pub out: PathBuf,
    /// Flights read per second; 0 reads as fast as it goes
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub rate: u64,
    /// Show a live table while the job runs
    #[arg(long)]
    pub live: bool,
}

/// Runs the example with the given arguments, the first of which is its name.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let table = OnceCell::new();
    let build = |env: &Environment, own: &[String]| {
        let options: Options = crate::parse("flights", own)?;
        table.get_or_init(|| job(env, &options));
        Ok(())
    };
    hurtig::run_and_then("flights", args, build, || table.get().into_iter().for_each(LiveTable::finish))
}

/// Builds the job from the program's arguments.
///
/// # Errors
/// Wrong arguments.
pub fn build(env: &Environment, args: &[String]) -> Result<(), BoxError> {
    let options: Options = crate::parse("flights", args)?;
    job(env, &options);
    Ok(())
}

/// Builds the job; what it shows is in the table returned.
pub fn job(env: &Environment, options: &Options) -> LiveTable {
    let cancelled = OutputTag::<Flight>::new("cancelled");
    let late = OutputTag::<Departure>::new("late");
    let event_time =
        WatermarkStrategy::bounded_out_of_orderness(Duration::from_millis(OUT_OF_ORDER_MS as u64))
            .with_timestamps(Flight::event_time);
    // One reader keeps the order of the files, so that which flights are late does not depend on the parallelism.
    let flights = env
        .from_source(FileSource::csv::<Flight>(options.data.join("*.csv")), event_time, "flights")
        .uid("flights")
        .set_parallelism(1);
    let flights = match options.rate {
        0 => flights,
        rate => flights.transform("throttle", move || Throttle::new(rate)).uid("throttle").set_parallelism(1),
    };
    let departures = flights
        .process(SplitCancelled { cancelled: cancelled.clone() })
        .uid("split-cancelled")
        .name("departures")
        .set_parallelism(1);
    let hourly = departures
        .key_by(|departure| departure.origin.clone())
        .window(TumblingEventTimeWindows::of(Duration::from_secs(3600)))
        .side_output_late_data(&late)
        .aggregate_with(HourlyDelays, |origin, window, delays| HourlyRow::new(origin, window.start, delays))
        .uid("hourly")
        .name("hourly delays");
    let rushes = departures
        .key_by(|departure| departure.dest.clone())
        .window(EventTimeSessionWindows::with_gap(RUSH_GAP))
        .aggregate_with(Count::new(), |dest, window, flights| Rush {
            dest: dest.clone(),
            from: window.start,
            // The session ends a gap after its last departure.
            to: window.end - RUSH_GAP.as_millis() as i64,
            flights,
        })
        .uid("rushes")
        .name("rushes")
        .filter(|rush| rush.flights >= RUSH_FLIGHTS)
        .uid("rushes-large");
    let worst =
        departures.key_by(|_| ()).process(WorstCarriers::default()).uid("worst").name("worst carriers");
    let worst = worst.set_parallelism(1);

    let table = LiveTable::new(options.live);
    let late_flights = hourly.side_output(&late);
    let cancelled_flights = departures.side_output(&cancelled);
    if options.live {
        table.follow(&hourly, &rushes, &worst, &late_flights, &cancelled_flights);
    }
    write(&hourly, &options.out, "hourly");
    write(&rushes, &options.out, "rushes");
    write(&worst, &options.out, "worst");
    write(&late_flights, &options.out, "late");
    write(&cancelled_flights, &options.out, "cancelled");
    table
}

fn write<T: hurtig::dataflow::Record>(stream: &DataStream<T>, out: &Path, name: &str) {
    stream
        .sink_to(FileSink::csv(out.join(name)).with_header())
        .uid(&format!("{name}-files"))
        .name(&format!("{name} files"));
}

/// Parts the flights that left from those that did not.
#[derive(Clone)]
struct SplitCancelled {
    cancelled: OutputTag<Flight>,
}

impl ProcessFunction<Flight> for SplitCancelled {
    type Out = Departure;

    fn process(&mut self, flight: Flight, ctx: &mut ProcessContext<'_, Departure>) -> OpResult {
        match flight.departure() {
            Some(departure) => ctx.emit(departure),
            None => ctx.emit_side(&self.cancelled, flight),
        }
        Ok(())
    }
}
