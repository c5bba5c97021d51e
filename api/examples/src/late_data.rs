//! Side outputs and late records: temperatures per minute and sensor; readings that cannot be true go to one side
//! output, readings that come too late to another, and those a little late correct the minute they belong to.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// The sensor.
    pub sensor: u32,
    /// When, in milliseconds.
    pub at: i64,
    /// Degrees Celsius.
    pub degrees: f64,
}

/// Mean temperature of a minute; a later row for the same minute corrects an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MinuteMean {
    /// The sensor.
    pub sensor: u32,
    /// Start of the minute.
    pub minute: i64,
    /// Readings it is made of.
    pub readings: u64,
    /// Their mean.
    pub mean: f64,
}

/// The streams that the job makes.
pub struct Outputs {
    /// Means per minute.
    pub means: DataStream<MinuteMean>,
    /// Readings that cannot be true.
    pub broken: DataStream<Reading>,
    /// Readings that came too late.
    pub late: DataStream<Reading>,
}

/// Builds the job on made-up readings.
///
/// # Errors
/// None.
pub fn build(env: &Environment, _: &[String]) -> Result<(), BoxError> {
    let outputs = minute_means(&readings(env, 5_000));
    outputs.means.map(|mean| format!("mean    {mean:?}")).print();
    outputs.broken.map(|reading| format!("broken  {reading:?}")).print();
    outputs.late.map(|reading| format!("late    {reading:?}")).print();
    Ok(())
}

/// Readings of three sensors, most of them in order, some minutes late, some impossible.
pub fn readings(env: &Environment, count: u64) -> DataStream<Reading> {
    let source = GeneratorSource::new(|index| {
        let delay = match index % 97 {
            13 => 90_000,
            71 => 600_000,
            _ => (index as i64 * 37) % 1_000,
        };
        let degrees = if index % 211 == 0 { -400.0 } else { 20.0 + (index % 50) as f64 / 10.0 };
        Reading { sensor: (index % 3) as u32, at: 1_000_000 + index as i64 * 200 - delay, degrees }
    })
    .with_count(count);
    let event_time = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(1))
        .with_timestamps(|reading: &Reading| reading.at);
    env.generate(source, event_time).uid("readings").set_parallelism(1)
}

/// Means per minute, and what does not go into them.
pub fn minute_means(readings: &DataStream<Reading>) -> Outputs {
    let broken = OutputTag::new("broken");
    let late = OutputTag::new("late");
    let plausible =
        readings.process(Plausible { broken: broken.clone() }).uid("plausible").set_parallelism(1);
    let means =
        plausible
            .key_by(|reading| reading.sensor)
            .window(TumblingEventTimeWindows::of(Duration::from_secs(60)))
            .allowed_lateness(Duration::from_secs(120))
            .side_output_late_data(&late)
            .aggregate_with(Fold::new(|| (0, 0.0), add, merge), |sensor, window, (readings, sum)| {
                MinuteMean { sensor: *sensor, minute: window.start, readings, mean: sum / readings as f64 }
            })
            .uid("means");
    Outputs { broken: plausible.side_output(&broken), late: means.side_output(&late), means }
}

fn add((readings, sum): &mut (u64, f64), reading: &Reading) {
    *readings += 1;
    *sum += reading.degrees;
}

fn merge((readings, sum): &mut (u64, f64), other: &(u64, f64)) {
    *readings += other.0;
    *sum += other.1;
}

/// Parts readings that can be true from those that cannot.
#[derive(Clone)]
struct Plausible {
    broken: OutputTag<Reading>,
}

impl ProcessFunction<Reading> for Plausible {
    type Out = Reading;

    fn process(&mut self, reading: Reading, ctx: &mut ProcessContext<'_, Reading>) -> OpResult {
        match reading.degrees {
            -90.0..=60.0 => ctx.emit(reading),
            _ => ctx.emit_side(&self.broken, reading),
        }
        Ok(())
    }
}
