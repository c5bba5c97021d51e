//! The daemons of a cluster: the JobManager's process ([`jobmanager`]) and the TaskManagers' ([`taskmanager`]). They run
//! no code of any user: a job's is in processes of its own.

pub mod client;
pub mod jobmanager;
mod leader;
pub mod memory;
pub mod taskmanager;

use crate::logs;
use crate::node::{Node, Reply};
use crate::protocol::{Answer, LogAnswer, LogQuestion};
use crate::tasks::Tasks;
use ractor::{ActorRef, Message};
use std::path::Path;
use tokio::sync::oneshot;

/// Answers a question about the log files in a daemon's folder, beside its actor.
fn answer_about_logs(tasks: &Tasks, folder: &Path, question: LogQuestion, reply: Reply) {
    let folder = folder.to_path_buf();
    tasks.spawn(async move {
        let looked = tokio::task::spawn_blocking(move || logs::answer(&folder, &question)).await;
        let answer: Answer<LogAnswer> = looked.unwrap_or_else(|error| Err(error.to_string()));
        reply.send(&answer);
    });
}

/// Ends a daemon: lets it finish what is waited for, which it answers with its node, says goodbye to its peers, and then
/// ends its children and itself.
async fn end<M: Message>(daemon: ActorRef<M>, leave: impl FnOnce(oneshot::Sender<Node>) -> M) {
    let (done, node) = oneshot::channel();
    if daemon.cast(leave(done)).is_ok()
        && let Ok(node) = node.await
    {
        node.shutdown().await;
    }
    daemon.get_cell().stop_children_and_wait(None, None).await;
    let _ = daemon.stop_and_wait(None, None).await;
}
