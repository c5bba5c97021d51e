//! What a job does next: its state, its attempts, its restarts. Plain data; the JobMaster beside it acts.

use crate::failure::Failure;
use crate::master::restart::{Decision, RestartStrategy};
use crate::status::JobState;
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::Attempt;
use std::time::Duration;

/// What to do once all subtasks of an attempt have stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Start another attempt after this time.
    Restart(Duration),
    /// The job has ended; its state tells how.
    End,
}

/// The lifecycle of one job.
#[derive(Debug)]
pub struct Lifecycle {
    state: JobState,
    attempt: Attempt,
    strategy: RestartStrategy,
    failure: Option<Failure>,
    restarts: u32,
    finishing: bool,
}

impl Lifecycle {
    /// A job that was accepted.
    pub fn new(strategy: RestartStrategy, first: Attempt) -> Self {
        Lifecycle {
            state: JobState::Created,
            attempt: first,
            strategy,
            failure: None,
            restarts: 0,
            finishing: false,
        }
    }

    /// The job's state.
    pub fn state(&self) -> JobState {
        self.state
    }

    /// The present attempt.
    pub fn attempt(&self) -> Attempt {
        self.attempt
    }

    /// The last failure.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Number of restarts.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    fn go(&mut self, next: JobState) -> bool {
        let allowed = self.state.may_become(next);
        if allowed {
            self.state = next;
        }
        allowed
    }

    /// All subtasks run.
    pub fn on_running(&mut self) {
        self.go(JobState::Running);
    }

    /// Something of the attempt failed. Returns whether its subtasks are to be stopped now.
    pub fn on_failure(&mut self, failure: Failure) -> bool {
        let stops = self.go(JobState::Failing);
        // What fails while others are being stopped is a consequence of the first.
        if stops {
            self.failure = Some(failure);
        }
        stops
    }

    /// Whether the job can go on with another graph: only while all subtasks run.
    pub fn may_rescale(&self) -> bool {
        !self.finishing && self.state == JobState::Running
    }

    /// The job is to go on with another graph. Returns whether subtasks are to be stopped now.
    pub fn on_rescale(&mut self) -> bool {
        self.may_rescale() && self.go(JobState::Restarting)
    }

    /// Whether the job ends, or has, whatever comes.
    pub fn is_ending(&self) -> bool {
        self.finishing || self.state == JobState::Cancelling || self.state.is_terminal()
    }

    /// All input is read and all output published. Returns whether subtasks are to be stopped now.
    pub fn on_done(&mut self) -> bool {
        self.finishing = self.state == JobState::Running;
        self.finishing
    }

    /// The user wants the end. Returns whether subtasks are to be stopped now; in all other cases they are being
    /// stopped already, or there is nothing to stop.
    pub fn on_cancel(&mut self) -> bool {
        let is_stopping = self.state == JobState::Failing;
        !self.finishing && self.go(JobState::Cancelling) && !is_stopping
    }

    /// All subtasks have stopped.
    pub fn on_stopped(&mut self, now: Timestamp) -> Next {
        match self.state {
            JobState::Failing => {
                let fatal = self.failure.as_ref().is_some_and(|failure| failure.fatal);
                let decision = if fatal { Decision::GiveUp } else { self.strategy.on_failure(now) };
                match decision {
                    Decision::RestartAfter(delay) => {
                        self.go(JobState::Restarting);
                        self.attempt.0 += 1;
                        self.restarts += 1;
                        Next::Restart(delay)
                    }
                    Decision::GiveUp => {
                        self.go(JobState::Failed);
                        Next::End
                    }
                }
            }
            JobState::Cancelling => {
                self.go(JobState::Cancelled);
                Next::End
            }
            JobState::Restarting => {
                self.attempt.0 += 1;
                Next::Restart(Duration::ZERO)
            }
            _ => {
                self.go(if self.finishing { JobState::Finished } else { JobState::Failing });
                if self.state == JobState::Failing {
                    self.go(JobState::Failed);
                }
                Next::End
            }
        }
    }

    /// Whether an attempt that has found another master is to make way for it. Once the job has ended there is none: its
    /// claim is deleted then, and a checkpoint that comes too late misses it.
    pub fn is_deposed(&self) -> bool {
        !self.state.is_terminal()
    }

    /// Whether the delay before the next attempt is over and that attempt is still wanted.
    pub fn may_start(&self, attempt: Attempt) -> bool {
        attempt == self.attempt && matches!(self.state, JobState::Created | JobState::Restarting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn lifecycle() -> Lifecycle {
        let builder =
            Config::builder().flag("restart.strategy=fixed-delay").flag("restart.fixed-delay.attempts=1");
        Lifecycle::new(RestartStrategy::new(&builder.build().unwrap(), 1), Attempt(1))
    }

    #[test]
    fn a_job_is_tried_again_as_often_as_its_strategy_says_and_then_fails_with_the_first_cause() {
        let mut job = lifecycle();
        job.on_running();
        assert!(job.on_failure(Failure::of("a", "first")));
        assert!(!job.on_failure(Failure::of("b", "consequence")));
        assert!(matches!(job.on_stopped(0), Next::Restart(_)));
        assert!(job.may_start(Attempt(2)) && !job.may_start(Attempt(1)));
        job.on_running();
        assert!(job.on_failure(Failure::of("a", "second")));
        assert_eq!((job.on_stopped(0), job.state()), (Next::End, JobState::Failed));
        assert_eq!(job.failure().map(|failure| failure.message.as_str()), Some("second"));
    }

    #[test]
    fn cancelling_wins_over_a_restart_but_not_over_the_end() {
        let mut job = lifecycle();
        job.on_running();
        job.on_failure(Failure::of("a", "first"));
        assert!(matches!(job.on_stopped(0), Next::Restart(_)));
        assert!(job.on_cancel());
        assert!(!job.may_start(Attempt(2)));
        assert_eq!((job.on_stopped(0), job.state()), (Next::End, JobState::Cancelled));
        let mut job = lifecycle();
        job.on_running();
        assert!(job.on_done());
        assert!(!job.on_cancel());
        assert_eq!((job.on_stopped(0), job.state()), (Next::End, JobState::Finished));
    }

    #[test]
    fn a_job_cancelled_while_its_attempt_fails_is_not_tried_again() {
        let mut job = lifecycle();
        job.on_running();
        job.on_failure(Failure::of("a", "first"));
        assert!(!job.on_cancel(), "its subtasks are being stopped already");
        assert_eq!((job.on_stopped(0), job.state()), (Next::End, JobState::Cancelled));
    }

    #[test]
    fn a_rescaled_job_is_neither_tried_again_nor_has_it_failed() {
        let mut job = lifecycle();
        assert!(!job.on_rescale(), "it does not run yet");
        job.on_running();
        assert!(job.on_rescale() && !job.on_rescale());
        assert_eq!(job.on_stopped(0), Next::Restart(Duration::ZERO));
        assert!(job.may_start(Attempt(2)));
        assert!(job.restarts() == 0 && job.failure().is_none());
        job.on_running();
        // What fails while it is being stopped is tried again as ever.
        assert!(job.on_rescale() && job.on_failure(Failure::of("a", "meanwhile")));
        assert!(matches!(job.on_stopped(0), Next::Restart(_)));
        assert_eq!((job.restarts(), job.state()), (1, JobState::Restarting));
        assert!(job.may_start(Attempt(3)));
    }

    #[test]
    fn a_job_that_has_ended_is_not_taken_over() {
        let mut job = lifecycle();
        job.on_running();
        assert!(job.is_deposed());
        assert!(job.on_cancel() && job.is_deposed());
        assert_eq!(job.on_stopped(0), Next::End);
        assert!(
            !job.is_deposed(),
            "a checkpoint that misses the deleted claim does not hide how the job ended"
        );
    }

    #[test]
    fn a_fatal_failure_is_not_tried_again() {
        let mut job = lifecycle();
        job.on_failure(Failure::of("restore", "does not fit").fatal());
        assert_eq!((job.on_stopped(0), job.state()), (Next::End, JobState::Failed));
    }
}
