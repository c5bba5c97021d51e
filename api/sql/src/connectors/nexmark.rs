//! Connector `nexmark`: the events of the Nexmark auction model. Every event is a function of its number, so that runs
//! are equal whatever their parallelism, and a restored one goes on where it was.
//!
//! | option | meaning | default |
//! |---|---|---|
//! | `events.num` | number of events; 0 for no end | 0 |
//! | `first-event.rate`, `next-event.rate` | events in a second of event time; equal if both are given | 10000 |
//! | `rows-per-second` | most events in a second of processing time; 0 for as many as can be | 0 |
//! | `base-time` | event time of the first event | `2024-01-01 00:00:00` |
//! | `seed` | what randomness comes from | 0 |
//! | `person.proportion`, `auction.proportion`, `bid.proportion` | shares of the kinds | 1, 3, 46 |
//! | `person.avg-size`, `auction.avg-size`, `bid.avg-size` | bytes of a record of each kind | 200, 500, 100 |
//! | `bid.hot-ratio.auctions`, `bid.hot-ratio.bidders`, `auction.hot-ratio.sellers` | all but one in so many are hot ones | 2, 4, 4 |
//! | `person.active`, `auction.in-flight` | persons and auctions that events refer to | 1000, 100 |
//! | `out-of-order-group-size` | events that are mixed up | 1 |

mod batch;
mod columns;
mod model;
mod values;

#[cfg(test)]
mod tests;

use super::parse;
use super::random::paced;
use crate::changes::Changes;
use crate::connector::{Connector, Scan, ScanRequest, TableDefinition, TableOptions};
use crate::error::SqlError;
use arrow::datatypes::Schema;
use batch::Layout;
use hurtig_datastream::GeneratorSource;
use model::{Model, Settings};
use std::sync::Arc;

/// The connector.
pub(super) struct Nexmark;

impl Connector for Nexmark {
    fn name(&self) -> &'static str {
        "nexmark"
    }

    fn options(&self) -> &'static [&'static str] {
        &[
            "events.num",
            "first-event.rate",
            "next-event.rate",
            "rows-per-second",
            "base-time",
            "seed",
            "person.proportion",
            "auction.proportion",
            "bid.proportion",
            "person.avg-size",
            "auction.avg-size",
            "bid.avg-size",
            "bid.hot-ratio.auctions",
            "bid.hot-ratio.bidders",
            "auction.hot-ratio.sellers",
            "person.active",
            "auction.in-flight",
            "out-of-order-group-size",
        ]
    }

    fn scan(&self, table: &TableDefinition, request: ScanRequest) -> Result<Scan, SqlError> {
        Ok(Scan::of(source(table, &request)?, request))
    }
}

fn source(table: &TableDefinition, request: &ScanRequest) -> Result<GeneratorSource<Changes>, SqlError> {
    let options = &table.options;
    let model = Model::new(settings(options)?);
    let schema: Schema = table.schema.project(&request.columns)?;
    let layout = Layout::of(Arc::new(schema))?;
    let source = GeneratorSource::in_batches(move |numbers| layout.make(&model, numbers));
    let events = options.parse::<u64>("events.num")?.unwrap_or(0);
    if events == 0 && table.is_bounded {
        return Err(SqlError::connector(format!("table '{}' has no end, but the job is to end", table.name))
            .with_hint("set 'events.num'"));
    }
    paced(source, Some(events).filter(|events| *events > 0), options, 0)
}

fn settings(options: &TableOptions) -> Result<Settings, SqlError> {
    let defaults = Settings::default();
    let number = |name: &str, default: u64, least: u64| match options.parse::<u64>(name)?.unwrap_or(default) {
        number if number < least => {
            Err(SqlError::connector(format!("option '{name}' cannot be less than {least}")))
        }
        number => Ok(number),
    };
    let (first, next) = (options.parse::<u64>("first-event.rate")?, options.parse::<u64>("next-event.rate")?);
    if let (Some(first), Some(next)) = (first, next)
        && first != next
    {
        return Err(SqlError::connector("rates that change are not supported")
            .with_hint("give 'first-event.rate' and 'next-event.rate' the same value"));
    }
    let rate = first.or(next).unwrap_or(defaults.rate);
    if rate == 0 {
        return Err(SqlError::connector("option 'next-event.rate' cannot be 0"));
    }
    let base_ms = match options.get("base-time") {
        None => defaults.base_ms,
        Some(text) => {
            parse::timestamp(text.trim().as_bytes()).map(parse::Moment::millis).ok_or_else(|| {
                SqlError::connector(format!("option 'base-time' cannot be '{text}'"))
                    .with_hint("it takes a time such as 2024-01-01 00:00:00")
            })?
        }
    };
    let group = number("out-of-order-group-size", defaults.out_of_order_group, 1)?;
    if group.is_multiple_of(model::STEP) {
        let message = format!("option 'out-of-order-group-size' cannot be a multiple of {}", model::STEP);
        return Err(SqlError::connector(message));
    }
    let settings = Settings {
        seed: options.parse("seed")?.unwrap_or(defaults.seed),
        base_ms,
        rate,
        out_of_order_group: group,
        persons: number("person.proportion", defaults.persons, 0)?,
        auctions: number("auction.proportion", defaults.auctions, 0)?,
        bids: number("bid.proportion", defaults.bids, 0)?,
        person_bytes: number("person.avg-size", defaults.person_bytes, 0)?,
        auction_bytes: number("auction.avg-size", defaults.auction_bytes, 0)?,
        bid_bytes: number("bid.avg-size", defaults.bid_bytes, 0)?,
        hot_auctions: number("bid.hot-ratio.auctions", defaults.hot_auctions, 1)?,
        hot_bidders: number("bid.hot-ratio.bidders", defaults.hot_bidders, 1)?,
        hot_sellers: number("auction.hot-ratio.sellers", defaults.hot_sellers, 1)?,
        active_persons: number("person.active", defaults.active_persons, 1)?,
        auctions_in_flight: number("auction.in-flight", defaults.auctions_in_flight, 1)?,
    };
    let proportions = [settings.persons, settings.auctions, settings.bids];
    if proportions.iter().any(|proportion| *proportion > 1_000_000) || proportions.iter().sum::<u64>() == 0 {
        return Err(SqlError::connector("proportions cannot be larger than 1000000, nor all be 0"));
    }
    Ok(settings)
}
