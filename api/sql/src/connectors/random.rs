//! What sources share that make their rows up: random values, times as columns, and the pace.
//!
//! Random values depend on nothing but a seed, a row's number and a field, so that fields nobody asked for need not be
//! drawn. Numbers are those of SplitMix64 (Steele, Lea, Flood, 2014).

use crate::changes::Changes;
use crate::connector::TableOptions;
use crate::error::SqlError;
use arrow::array::{ArrayRef, Int64Array, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use hurtig_datastream::GeneratorSource;
use std::sync::Arc;

const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// Keeps the numbers of one field apart from those of another.
const FIELD: u64 = 0xd1b5_4a32_d192_ed03;

#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What the random values of one row come from.
#[derive(Clone, Copy)]
pub(super) struct Origin(u64);

impl Origin {
    #[inline(always)]
    pub(super) fn of(seed: u64, row: u64) -> Self {
        Origin(mix(mix(seed).wrapping_add(row.wrapping_mul(GAMMA))))
    }

    /// The values of one field.
    #[inline(always)]
    pub(super) fn field(self, field: usize) -> Draws {
        Draws(self.0.wrapping_add((field as u64 + 1).wrapping_mul(FIELD)))
    }
}

/// Random values, one after the other.
pub(super) struct Draws(u64);

impl Draws {
    #[inline(always)]
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GAMMA);
        mix(self.0)
    }

    /// A number below `bound`, which is not zero.
    #[inline(always)]
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.number()) * u128::from(bound)) >> 64) as u64
    }
}

/// Numbers, or times in milliseconds, as what they are declared to be.
pub(super) fn longs(values: Vec<i64>, nulls: Option<NullBuffer>, data_type: &DataType) -> ArrayRef {
    macro_rules! times {
        ($arrow:ident, $zone:expr, $scale:expr) => {{
            let values: Vec<i64> = values.into_iter().map($scale).collect();
            Arc::new(PrimitiveArray::<$arrow>::new(values.into(), nulls).with_timezone_opt($zone.clone()))
        }};
    }
    match data_type {
        DataType::Timestamp(TimeUnit::Second, zone) => {
            times!(TimestampSecondType, zone, |at: i64| at.div_euclid(1_000))
        }
        DataType::Timestamp(TimeUnit::Millisecond, zone) => {
            let times = PrimitiveArray::<TimestampMillisecondType>::new(values.into(), nulls);
            Arc::new(times.with_timezone_opt(zone.clone()))
        }
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            times!(TimestampMicrosecondType, zone, |at: i64| at.saturating_mul(1_000))
        }
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => {
            times!(TimestampNanosecondType, zone, |at: i64| at.saturating_mul(1_000_000))
        }
        _ => Arc::new(Int64Array::new(values.into(), nulls)),
    }
}

/// Gives a generator its end and its pace.
pub(super) fn paced(
    mut source: GeneratorSource<Changes>,
    rows: Option<u64>,
    options: &TableOptions,
    default_rate: u64,
) -> Result<GeneratorSource<Changes>, SqlError> {
    if let Some(rows) = rows {
        source = source.with_count(rows);
    }
    match options.parse::<u64>("rows-per-second")?.unwrap_or(default_rate) {
        0 => Ok(source),
        rate => Ok(source.with_rate(rate as f64)),
    }
}
