//! Price alerts: a keyed process function keeps the last price of each stock and an average that follows it, and raises
//! an alert when a trade is far off. It forgets a stock that has not been traded for an hour.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};

/// How far a price may be from the average, as a share of it.
pub const TOLERANCE: f64 = 0.05;

/// How long a stock is remembered without a trade.
pub const FORGET_AFTER_MS: i64 = 3_600_000;

/// A trade.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trade {
    /// The stock.
    pub symbol: String,
    /// When, in milliseconds.
    pub at: i64,
    /// Price paid.
    pub price: f64,
}

/// A trade far from the average.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// The stock.
    pub symbol: String,
    /// When.
    pub at: i64,
    /// Price paid.
    pub price: f64,
    /// The average before it.
    pub average: f64,
}

/// Builds the job on made-up trades.
///
/// # Errors
/// None.
pub fn build(env: &Environment, _: &[String]) -> Result<(), BoxError> {
    alerts(&trades(env, 20_000)).print();
    Ok(())
}

/// Trades of five stocks whose prices wander, with a jump now and then.
pub fn trades(env: &Environment, count: u64) -> DataStream<Trade> {
    let source = GeneratorSource::new(|index| {
        let stock = index % 5;
        let wander = (index as f64 / 900.0 + stock as f64).sin();
        let jump = if index % 1_009 == 0 { 1.12 } else { 1.0 };
        Trade {
            symbol: ["AAA", "BBB", "CCC", "DDD", "EEE"][stock as usize].to_string(),
            at: index as i64 * 250,
            price: (100.0 + 20.0 * wander) * jump,
        }
    })
    .with_count(count);
    let event_time = WatermarkStrategy::monotonous().with_timestamps(|trade: &Trade| trade.at);
    // The average follows the order of trades, which one subtask keeps.
    env.generate(source, event_time).uid("trades").set_parallelism(1)
}

/// Alerts for the trades.
pub fn alerts(trades: &DataStream<Trade>) -> DataStream<Alert> {
    trades
        .key_by(|trade| trade.symbol.clone())
        .process(PriceAlerts::default())
        .uid("alerts")
        .name("price alerts")
}

/// Follows the price of each stock.
#[derive(Clone, Default)]
pub struct PriceAlerts {
    average: ValueState<f64>,
    forget_at: ValueState<i64>,
}

impl KeyedProcessFunction<String, Trade> for PriceAlerts {
    type Out = Alert;

    fn open(&mut self, ctx: &mut KeyedOpenContext<'_, String>) -> OpResult {
        self.average = ctx.value_state("average")?;
        self.forget_at = ctx.value_state("forget-at")?;
        Ok(())
    }

    fn process(&mut self, trade: Trade, ctx: &mut KeyedContext<'_, String, Alert>) -> OpResult {
        let average = self.average.get(ctx).copied().unwrap_or(trade.price);
        self.average.set(ctx, average * 0.95 + trade.price * 0.05);
        if let Some(before) = self.forget_at.get(ctx).copied() {
            ctx.delete_event_time_timer(before);
        }
        self.forget_at.set(ctx, trade.at + FORGET_AFTER_MS);
        ctx.register_event_time_timer(trade.at + FORGET_AFTER_MS);
        if (trade.price / average - 1.0).abs() > TOLERANCE {
            let Trade { symbol, at, price } = trade;
            ctx.emit(Alert { symbol, at, price, average });
        }
        Ok(())
    }

    fn on_timer(&mut self, _: Timer, ctx: &mut KeyedContext<'_, String, Alert>) -> OpResult {
        self.average.clear(ctx);
        self.forget_at.clear(ctx);
        Ok(())
    }
}
