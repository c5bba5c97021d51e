//! One subtask of an attempt: its states with their times, its last numbers, its rates.

use super::rates::Rates;
use crate::report::SubtaskReport;
use crate::worker::links::WorkerId;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::Attempt;
use serde::{Deserialize, Serialize};

/// The life of a subtask, as its master sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SubtaskState {
    /// Its job was accepted.
    Created,
    /// A slot was found for it.
    Scheduled,
    /// Its worker is making it.
    Deploying,
    /// It is there and waits for its neighbours.
    Initialising,
    /// At work.
    Running,
    /// Has read all its input.
    Finished,
    /// Told to stop.
    Cancelling,
    /// Stopped before its end.
    Cancelled,
    /// Has failed.
    Failed,
}

impl SubtaskState {
    /// All of them, in the order of a life.
    pub const ALL: [SubtaskState; 9] = [
        SubtaskState::Created,
        SubtaskState::Scheduled,
        SubtaskState::Deploying,
        SubtaskState::Initialising,
        SubtaskState::Running,
        SubtaskState::Finished,
        SubtaskState::Cancelling,
        SubtaskState::Cancelled,
        SubtaskState::Failed,
    ];

    /// Whether nothing comes after it.
    pub fn is_end(self) -> bool {
        matches!(self, SubtaskState::Finished | SubtaskState::Cancelled | SubtaskState::Failed)
    }
}

/// What is observed of a subtask.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubtaskObservation {
    /// Its attempt.
    pub attempt: Attempt,
    /// The worker it runs on.
    pub worker: WorkerId,
    /// Its states, in order, with the time each was entered. Never empty.
    pub states: Vec<(SubtaskState, Timestamp)>,
    /// Its last numbers.
    pub report: SubtaskReport,
    /// The numbers from which on rates are measured.
    since: SubtaskReport,
    /// When its last numbers came.
    pub reported_at: Option<Timestamp>,
    /// What changed between its last two reports, per second.
    pub rates: Rates,
}

impl SubtaskObservation {
    pub(super) fn new(attempt: Attempt, worker: WorkerId, created: Timestamp, now: Timestamp) -> Self {
        let states = vec![
            (SubtaskState::Created, created),
            (SubtaskState::Scheduled, now),
            (SubtaskState::Deploying, now),
        ];
        let (report, since) = (SubtaskReport::default(), SubtaskReport::default());
        SubtaskObservation {
            attempt,
            worker,
            states,
            report,
            since,
            reported_at: None,
            rates: Rates::default(),
        }
    }

    /// Its state.
    pub fn state(&self) -> SubtaskState {
        self.states.last().map_or(SubtaskState::Created, |(state, _)| *state)
    }

    /// When it entered a state, if it has.
    pub fn entered(&self, state: SubtaskState) -> Option<Timestamp> {
        self.states.iter().find(|(entered, _)| *entered == state).map(|(_, at)| *at)
    }

    /// When it was deployed.
    pub fn started_at(&self) -> Timestamp {
        self.entered(SubtaskState::Deploying).unwrap_or_default()
    }

    /// When it ended, if it has.
    pub fn ended_at(&self) -> Option<Timestamp> {
        self.states.last().filter(|(state, _)| state.is_end()).map(|(_, at)| *at)
    }

    /// How long it was in each state it has entered, in milliseconds.
    pub fn durations_ms(&self, now: Timestamp) -> impl Iterator<Item = (SubtaskState, i64)> + '_ {
        self.states.iter().enumerate().map(move |(at, (state, entered))| {
            let until = match self.states.get(at + 1) {
                Some((_, next)) => *next,
                None if state.is_end() => *entered,
                None => now,
            };
            (*state, (until - entered).max(0))
        })
    }

    pub(super) fn enter(&mut self, state: SubtaskState, now: Timestamp) {
        if !self.state().is_end() && self.state() != state {
            self.states.push((state, now));
        }
    }

    pub(super) fn on_report(&mut self, report: &SubtaskReport, now: Timestamp) {
        let rates = Rates::between(&self.since, report);
        // Reports that come close upon each other are of one moment: rates are measured from the older.
        if rates.is_some() || self.reported_at.is_none() {
            self.since = report.clone();
        }
        self.rates = rates.unwrap_or(self.rates);
        self.report = report.clone();
        self.reported_at = Some(now);
    }

    /// Its rates at a moment. A subtask answers whenever its handler has returned, so that one which has been silent for
    /// long is in a piece of work that is long.
    pub fn rates_at(&self, now: Timestamp) -> Rates {
        let silent_ms = self.reported_at.map_or(0, |at| now - at);
        match self.state() {
            SubtaskState::Running if silent_ms > super::rates::SILENCE_MS => Rates::of_one_at_work(),
            SubtaskState::Running => self.rates,
            _ => Rates::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subtask() -> SubtaskObservation {
        SubtaskObservation::new(Attempt(1), WorkerId(7), 90, 100)
    }

    fn report(elapsed_ms: u64, busy_ms: u64, backpressured_ms: u64, records: u64) -> SubtaskReport {
        SubtaskReport {
            elapsed_ns: elapsed_ms * 1_000_000,
            busy_ns: busy_ms * 1_000_000,
            backpressured_ns: backpressured_ms * 1_000_000,
            records_out: records,
            ..SubtaskReport::default()
        }
    }

    #[test]
    fn an_end_is_an_end_and_durations_add_up_to_the_life() {
        let mut subtask = subtask();
        subtask.enter(SubtaskState::Initialising, 110);
        subtask.enter(SubtaskState::Running, 120);
        subtask.enter(SubtaskState::Failed, 150);
        subtask.enter(SubtaskState::Cancelled, 160);
        assert_eq!((subtask.state(), subtask.ended_at()), (SubtaskState::Failed, Some(150)));
        let lived: i64 = subtask.durations_ms(1_000).map(|(_, ms)| ms).sum();
        assert_eq!(lived, 150 - 90);
    }

    #[test]
    fn rates_are_what_changed_between_two_reports_that_are_apart() {
        let mut subtask = subtask();
        subtask.enter(SubtaskState::Running, 120);
        subtask.on_report(&report(1_000, 1_000, 0, 10), 1_000);
        subtask.on_report(&report(2_000, 1_250, 500, 110), 2_000);
        let rates = subtask.rates_at(2_500);
        assert_eq!((rates.busy, rates.backpressured, rates.idle), (0.25, 0.5, 0.25));
        assert_eq!(rates.records_out, 100.0);
        // One millisecond later another comes.
        subtask.on_report(&report(2_001, 1_251, 500, 120), 2_001);
        assert_eq!((subtask.rates_at(2_500).records_out, subtask.report.records_out), (100.0, 120));
        subtask.on_report(&report(3_000, 2_250, 500, 310), 3_000);
        assert_eq!(subtask.rates_at(3_000).records_out, 200.0);
    }

    #[test]
    fn one_that_does_not_answer_is_at_work() {
        let mut subtask = subtask();
        subtask.enter(SubtaskState::Running, 120);
        subtask.on_report(&report(1_000, 0, 0, 0), 1_000);
        assert_eq!(subtask.rates_at(1_500).busy, 0.0);
        assert_eq!(subtask.rates_at(10_000).busy, 1.0);
        subtask.enter(SubtaskState::Finished, 10_000);
        assert_eq!(subtask.rates_at(20_000).busy, 0.0);
    }
}
