//! The five carriers with the largest mean delay so far. Keeps two numbers per carrier, for ever.

use super::records::{Departure, WorstRow};
use compact_str::CompactString;
use hurtig::prelude::*;

/// Carriers in the ranking.
const PLACES: usize = 5;

/// Departures a carrier needs to be ranked.
pub(super) const LEAST_DEPARTURES: u64 = 100;

const HOUR_MS: i64 = 3_600_000;

/// Ranks carriers whenever event time has passed an hour with departures and the ranking has changed.
#[derive(Clone, Default)]
pub(super) struct WorstCarriers {
    carriers: MapState<CompactString, (u64, i64)>,
    changed: ValueState<bool>,
}

impl KeyedProcessFunction<(), Departure> for WorstCarriers {
    type Out = WorstRow;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, ()>) -> OpResult {
        self.carriers = ctx.map_state("carriers")?;
        self.changed = ctx.value_state("changed")?;
        Ok(())
    }

    fn process(&mut self, departure: Departure, ctx: &mut KeyedContext<'_, (), WorstRow>) -> OpResult {
        let (departures, minutes) = self.carriers.get(ctx, &departure.carrier).copied().unwrap_or_default();
        let updated = (departures + 1, minutes + i64::from(departure.delay));
        self.carriers.insert(ctx, departure.carrier, updated);
        self.changed.set(ctx, true);
        ctx.register_event_time_timer(departure.at.div_euclid(HOUR_MS) * HOUR_MS + HOUR_MS);
        Ok(())
    }

    fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, (), WorstRow>) -> OpResult {
        if self.changed.take(ctx) != Some(true) {
            return Ok(());
        }
        let ranked = self.carriers.iter(ctx).filter(|(_, (departures, _))| *departures >= LEAST_DEPARTURES);
        let mut ranked: Vec<_> = ranked
            .map(|(carrier, (departures, minutes))| {
                (carrier.clone(), *departures, *minutes as f64 / *departures as f64)
            })
            .collect();
        ranked.sort_by(|a, b| b.2.total_cmp(&a.2).then_with(|| a.0.cmp(&b.0)));
        for (place, (carrier, departures, mean_delay)) in ranked.into_iter().take(PLACES).enumerate() {
            ctx.emit(WorstRow { as_of: timer.time, rank: place as u32 + 1, carrier, departures, mean_delay });
        }
        Ok(())
    }
}
