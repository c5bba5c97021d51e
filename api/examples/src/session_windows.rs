//! Sessions of clicks: a user's clicks belong to one session until none has come for a while.

use hurtig::prelude::*;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// How long a user may do nothing within a session.
pub const GAP: Duration = Duration::from_secs(30);

/// A click.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Click {
    /// Who.
    pub user: String,
    /// When, in milliseconds.
    pub at: i64,
}

/// A session that has ended.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Session {
    /// Whose.
    pub user: String,
    /// First click.
    pub from: i64,
    /// Last click.
    pub to: i64,
    /// Number of clicks.
    pub clicks: u64,
}

/// Builds the job on made-up clicks.
///
/// # Errors
/// None.
pub fn build(env: &Environment, _: &[String]) -> Result<(), BoxError> {
    sessions(&clicks(env, 2_000)).print();
    Ok(())
}

/// Clicks of seven users, each with pauses of its own, up to ten seconds out of order.
pub fn clicks(env: &Environment, count: u64) -> DataStream<Click> {
    let source = GeneratorSource::new(|index| {
        let user = index % 7;
        let pause = if (index / 7) % (10 + user) == 0 { 60_000 } else { 0 };
        let at = index as i64 * 700 + pause - (index as i64 * 7_919) % 10_000;
        Click { user: format!("user{user}"), at }
    })
    .with_count(count);
    let event_time = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(80))
        .with_timestamps(|click: &Click| click.at);
    env.generate(source, event_time).uid("clicks")
}

/// The users' sessions.
pub fn sessions(clicks: &DataStream<Click>) -> DataStream<Session> {
    clicks
        .key_by(|click| click.user.clone())
        .window(EventTimeSessionWindows::with_gap(GAP))
        .aggregate_with(Count::new(), |user, window, clicks| Session {
            user: user.clone(),
            from: window.start,
            to: window.end - GAP.as_millis() as i64,
            clicks,
        })
        .uid("sessions")
}
