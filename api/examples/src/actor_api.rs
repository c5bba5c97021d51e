//! A job within a larger program: an actor feeds it trades and gets price alerts back as messages.

use crate::stock_alerts::{Alert, Trade, alerts};
use hurtig::actors::{ActorSource, Delivery, Feed, to_actor};
use hurtig::dataflow::Rows;
use hurtig::prelude::*;
use hurtig::ractor::{Actor, ActorProcessingErr, ActorRef, Message};
use hurtig::{Cluster, RunError};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::oneshot;

/// Records that the desk may have on the way.
const WINDOW: usize = 64;

/// What the trading desk is told.
pub enum DeskMessage {
    /// From the job's inlet: it may send so many more trades.
    Credit(usize),
    /// From the job: alerts.
    Alerts(Delivery<Alert>),
    /// From the program: the job has ended; answer with all alerts.
    Report(oneshot::Sender<Vec<Alert>>),
}

impl Message for DeskMessage {}

/// An actor of the user's own: sends trades as credit allows, and takes alerts.
pub struct Desk;

/// State of the desk.
pub struct DeskState {
    trades: std::vec::IntoIter<Trade>,
    inlet: ActorRef<Feed<Trade>>,
    alerts: Vec<Alert>,
}

impl Actor for Desk {
    type Msg = DeskMessage;
    type State = DeskState;
    type Arguments = (ActorRef<Feed<Trade>>, Vec<Trade>);

    async fn pre_start(
        &self,
        myself: ActorRef<DeskMessage>,
        (inlet, trades): Self::Arguments,
    ) -> Result<DeskState, ActorProcessingErr> {
        let grant = Arc::new(move |count| drop(myself.cast(DeskMessage::Credit(count))));
        inlet.cast(Feed::Connect { feeder: 1, grant })?;
        Ok(DeskState { trades: trades.into_iter(), inlet, alerts: Vec::new() })
    }

    async fn handle(
        &self,
        _: ActorRef<DeskMessage>,
        message: DeskMessage,
        state: &mut DeskState,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            DeskMessage::Credit(count) => {
                let trades: Vec<_> = state.trades.by_ref().take(count).collect();
                let next = match trades.is_empty() {
                    true => Feed::End,
                    false => Feed::Records {
                        feeder: 1,
                        rows: Rows::timed(trades.into_iter().map(|trade| {
                            let at = trade.at;
                            (trade, at)
                        })),
                    },
                };
                state.inlet.cast(next)?;
            }
            DeskMessage::Alerts(delivery) => state.alerts.extend(delivery.rows.records.iter().cloned()),
            DeskMessage::Report(reply) => drop(reply.send(state.alerts.clone())),
        }
        Ok(())
    }
}

fn failed(error: impl std::fmt::Display) -> RunError {
    RunError::Cluster(error.to_string())
}

/// A desk that has the given trades, and a job between its two ends.
///
/// # Errors
/// An actor cannot be started.
pub async fn desk_and_job(trades: Vec<Trade>) -> Result<(ActorRef<DeskMessage>, Environment), RunError> {
    let (source, inlet) = ActorSource::new(WINDOW).await.map_err(failed)?;
    let (desk, _) = Actor::spawn(None, Desk, (inlet, trades)).await.map_err(failed)?;

    let env = Environment::new();
    let trades = env.from_source(source, WatermarkStrategy::none(), "desk").uid("desk").set_parallelism(1);
    alerts(&trades).transform("to the desk", to_actor(desk.clone(), 8, DeskMessage::Alerts));
    Ok((desk, env))
}

/// The alerts that the desk got. It ends with that.
///
/// # Errors
/// It has ended before.
pub async fn report(desk: &ActorRef<DeskMessage>) -> Result<Vec<Alert>, RunError> {
    let (reply, answer) = oneshot::channel();
    desk.cast(DeskMessage::Report(reply)).map_err(failed)?;
    let alerts = answer.await.map_err(failed)?;
    desk.stop(None);
    Ok(alerts)
}

/// Runs the job on the given trades and returns the alerts that the desk got.
///
/// # Errors
/// The cluster cannot be started, or the job failed.
pub async fn alerts_for(trades: Vec<Trade>, config: &Config) -> Result<Vec<Alert>, RunError> {
    let (desk, env) = desk_and_job(trades).await?;
    let cluster = Cluster::start(config).await?;
    let job = cluster.submit("alerts by actors", &env.graph(), config).await?;
    let ended = job.wait().await;
    cluster.shutdown().await;
    ended?;
    report(&desk).await
}

/// Made-up trades: a steady price with a jump now and then.
pub fn made_up_trades(count: u64) -> Vec<Trade> {
    let trade = |index: u64| Trade {
        symbol: ["AAA", "BBB"][(index % 2) as usize].to_string(),
        at: index as i64 * 1_000,
        price: if index % 251 == 250 { 120.0 } else { 100.0 + (index % 10) as f64 / 10.0 },
    };
    (0..count).map(trade).collect()
}

/// Runs the example.
pub fn main() -> ExitCode {
    let result = hurtig::runtime()
        .map_err(|error| RunError::Cluster(error.to_string()))
        .and_then(|runtime| runtime.block_on(alerts_for(made_up_trades(2_000), &Config::default())));
    match result {
        Ok(alerts) => {
            for alert in alerts {
                println!("{alert:?}");
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {}", hurtig::dataflow::error::describe(&error));
            ExitCode::FAILURE
        }
    }
}
