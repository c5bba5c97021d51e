//! What was asked for over REST and takes long: whoever asks for a savepoint gets a number and comes again, and a page
//! shows what has become of it.

use hurtig_dataflow::ids::JobId;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;

/// Operations that are remembered.
const REMEMBERED: usize = 1_000;

/// How an operation ended: a location, or a sentence.
pub type Outcome = std::result::Result<String, String>;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A savepoint; its outcome is its location.
    Savepoint,
    /// Another parallelism; its outcome says which.
    Rescale,
}

/// One operation.
#[derive(Clone, Debug)]
pub struct Operation {
    /// What is to be done.
    pub kind: Kind,
    /// Its number.
    pub id: String,
    /// The job.
    pub job: JobId,
    /// How it ended, once it has.
    pub outcome: Option<Outcome>,
}

/// All that are remembered, the newest last.
#[derive(Clone, Default)]
pub struct Operations(Arc<Mutex<VecDeque<Operation>>>);

impl Operations {
    /// Begins one under a number of the asker's choice, or else of ours. Returns the number, and whether it is new: one
    /// that is asked for twice is done once.
    pub fn begin(&self, kind: Kind, job: JobId, wanted: Option<String>) -> (String, bool) {
        #[allow(clippy::disallowed_methods, reason = "it must differ from those of all other processes")]
        let id = wanted.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>()));
        let mut all = self.0.lock();
        if all.iter().any(|operation| operation.id == id && operation.job == job) {
            return (id, false);
        }
        all.push_back(Operation { kind, id: id.clone(), job, outcome: None });
        if all.len() > REMEMBERED {
            all.pop_front();
        }
        (id, true)
    }

    /// It has ended.
    pub fn end(&self, job: JobId, id: &str, outcome: Outcome) {
        let mut all = self.0.lock();
        if let Some(operation) = all.iter_mut().find(|operation| operation.id == id && operation.job == job) {
            operation.outcome = Some(outcome);
        }
    }

    /// How it stands.
    pub fn find(&self, job: JobId, id: &str) -> Option<Operation> {
        self.0.lock().iter().find(|operation| operation.id == id && operation.job == job).cloned()
    }

    /// The last ones of a job, the newest first.
    pub fn of(&self, job: JobId) -> Vec<Operation> {
        self.0.lock().iter().rev().filter(|operation| operation.job == job).take(5).cloned().collect()
    }
}
