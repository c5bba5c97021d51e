//! Futures that run beside an actor and end with it.

use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::task::JoinSet;

/// A set of tasks that are aborted when the last handle to the set is dropped.
#[derive(Clone, Default)]
pub struct Tasks {
    set: Arc<Mutex<JoinSet<()>>>,
}

impl Tasks {
    /// Runs a future; it is aborted with the set.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let mut set = self.set.lock();
        while set.try_join_next().is_some() {}
        set.spawn(future);
    }
}
