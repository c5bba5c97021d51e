//! Holds a stream to a number of records per second, so that a person can follow it. Keeps no state.

use hurtig::dataflow::batch::{Record, Rows, RowsIter};
use hurtig::dataflow::operator::{Context, OpenContext, Operator, Progress};
use hurtig::prelude::*;
use std::time::Duration;

/// How often more records are let through.
const BEAT: Duration = Duration::from_millis(20);

/// The operator.
pub(super) struct Throttle<T> {
    rate: u64,
    began: Option<Timestamp>,
    passed: u64,
    rest: RowsIter<T>,
}

impl<T> Throttle<T> {
    pub(super) fn new(rate: u64) -> Self {
        Throttle { rate, began: None, passed: 0, rest: RowsIter::default() }
    }
}

impl<T: Record> Operator for Throttle<T> {
    type In = Rows<T>;
    type Out = Rows<T>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let waker = ctx.place.waker.clone();
        (ctx.place.spawner)(Box::pin(async move {
            loop {
                tokio::time::sleep(BEAT).await;
                waker();
            }
        }));
        Ok(())
    }

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        self.rest = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<T>>) -> OpResult<Progress> {
        let now = ctx.processing_time();
        let began = *self.began.get_or_insert(now);
        let allowed = (now - began) as u64 * self.rate / 1000;
        while self.passed < allowed {
            let Some((record, time)) = self.rest.next() else { return Ok(Progress::Done) };
            ctx.emit(record, time);
            self.passed += 1;
        }
        Ok(if self.rest.size_hint().0 == 0 { Progress::Done } else { Progress::Blocked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_completed_while_a_stream_is_held_back() {
        let mut config = Config::default();
        config.checkpoint.interval = Some(Duration::from_millis(20));
        let env = Environment::new();
        env.from_range(0..8_000)
            .set_parallelism(1)
            .transform("throttle", || Throttle::new(8_000))
            .set_parallelism(1)
            .discard();
        let status = hurtig::execute("throttled", &env, &config).unwrap();
        assert!(status.checkpoints_completed >= 4, "only {}", status.checkpoints_completed);
    }
}
