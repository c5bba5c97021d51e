//! The life of a job.

use serde::{Deserialize, Serialize};
use std::fmt;

/// State of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobState {
    /// Accepted; its subtasks are being deployed.
    Created,
    /// All subtasks run.
    Running,
    /// A subtask has failed; the others are being stopped.
    Failing,
    /// Waiting to be tried again, or being deployed again.
    Restarting,
    /// The user has asked for the end; subtasks are being stopped.
    Cancelling,
    /// Ended at the user's request.
    Cancelled,
    /// Without a master that tells of it: it goes on when its master is back, or another has taken it up.
    Suspended,
    /// All input was read, all output is published.
    Finished,
    /// Given up after a failure.
    Failed,
}

impl JobState {
    /// Whether the job has ended for good.
    pub fn is_terminal(self) -> bool {
        matches!(self, JobState::Cancelled | JobState::Finished | JobState::Failed)
    }

    /// Whether the job may go from this state to `next`.
    pub fn may_become(self, next: JobState) -> bool {
        use JobState::*;
        match self {
            Created => matches!(next, Running | Failing | Cancelling | Suspended | Failed),
            // Restarting without having failed: with another parallelism.
            Running => matches!(next, Failing | Restarting | Cancelling | Suspended | Finished),
            Failing => matches!(next, Restarting | Failed | Cancelling | Suspended),
            Restarting => matches!(next, Running | Failing | Cancelling | Suspended | Failed),
            Cancelling => matches!(next, Cancelled | Failed | Suspended),
            // As its master finds it, which may have gone on meanwhile.
            Suspended => next != Suspended,
            Cancelled | Finished | Failed => false,
        }
    }
}

impl fmt::Display for JobState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JobState::Created => "created",
            JobState::Running => "running",
            JobState::Failing => "failing",
            JobState::Restarting => "restarting",
            JobState::Cancelling => "cancelling",
            JobState::Cancelled => "cancelled",
            JobState::Suspended => "suspended",
            JobState::Finished => "finished",
            JobState::Failed => "failed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::JobState::*;

    #[test]
    fn an_ended_job_stays_ended() {
        let all = [Created, Running, Failing, Restarting, Cancelling, Cancelled, Suspended, Finished, Failed];
        for state in all {
            let leaves = all.iter().any(|next| state.may_become(*next));
            assert_eq!(leaves, !state.is_terminal(), "{state}");
        }
    }

    #[test]
    fn a_failure_is_cleaned_up_before_the_job_is_tried_again() {
        assert!(!Created.may_become(Restarting));
        assert!(Running.may_become(Failing) && Failing.may_become(Restarting));
        assert!(!Failing.may_become(Running));
    }
}
