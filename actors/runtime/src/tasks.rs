//! Work beside that of actors: futures that end with one, and what waits for a disk.

use parking_lot::Mutex;
use std::future::Future;
use std::sync::Arc;
use tokio::runtime::{Handle, RuntimeFlavor};
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

/// Does what waits for a disk. The other actors of this thread go on meanwhile: a heartbeat must not wait until a
/// program is written.
pub fn blocking<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}
