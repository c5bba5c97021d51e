//! Gives a job another parallelism: its program plans the graph anew, the job takes a checkpoint, and its master goes on
//! from there with the new graph and the workers it has. If it cannot, another master does, with other workers.
//!
//! Until the new graph is written down the job is as it was; from then on it is the job's, and a master that does not
//! take it is replaced: whatever ends in between, the job has one of the two parallelisms and goes on from its last
//! checkpoint.

use super::{DaemonMessage, Job, MAX_SLOTS, Planned, Planning, State, keep, too_many};
use crate::node::{PeerId, Reply};
use crate::protocol::{Answer, Call, GraphSummary, NotRescaled, Submitted, ToMaster};
use crate::report::RescaleReport;
use crate::resource::ResourceManagerMessage;
use hurtig_dataflow::ids::JobId;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the checkpoint may take.
const CHECKPOINT_TIMEOUT: Duration = Duration::from_secs(3_600);

/// How long the job may take to run again with the workers it has.
const IN_PLACE_TIMEOUT: Duration = Duration::from_secs(600);

/// A new parallelism on its way.
pub struct Rescale {
    job: JobId,
    /// The master that has taken the checkpoint.
    masters: u32,
    call: Call,
    graph: GraphSummary,
    reply: Reply,
}

impl State {
    pub(super) async fn rescale(
        &mut self,
        client: PeerId,
        id: JobId,
        parallelism: Option<usize>,
        vertices: Vec<(String, usize)>,
        reply: Reply,
    ) {
        let call = self.running(id).and_then(|job| rescaled(job, parallelism, &vertices));
        let call = match call {
            Ok(_) if self.planning.values().any(|planning| planning.job == id) => {
                Err("the job is being rescaled already: try again when that is done".into())
            }
            other => other,
        };
        match call {
            Ok(call) => self.plan(Planned::Rescaled, client, id, call, Some(reply)).await,
            Err(reason) => reply.send(&Answer::<Submitted>::Err(reason)),
        }
    }

    /// The program has built the new graph: there must be slots, then a checkpoint is taken.
    pub(super) fn on_rescale_planned(&self, planning: Planning, graph: GraphSummary) {
        let Planning { job: id, call, reply: Some(reply), .. } = planning else { return };
        let job = match self.running(id) {
            Ok(job) => job,
            Err(reason) => return reply.send(&Answer::<Submitted>::Err(reason)),
        };
        let masters = job.masters();
        if job.remember().graph == graph {
            return reply.send(&Answer::Ok(Submitted { job: id, graph, rescaled: None }));
        }
        if too_many(&graph.wanted) {
            return reply
                .send(&Answer::<Submitted>::Err(format!("the job would need more than {MAX_SLOTS} slots")));
        }
        let Some(master) = job.peer().cloned() else { return };
        let (answer, there_are) = oneshot::channel();
        let could_have =
            ResourceManagerMessage::CouldHave { job: id, slots: graph.wanted.clone(), reply: answer };
        let _ = self.resource_manager.cast(could_have);
        let myself = self.myself.clone();
        self.tasks.spawn(async move {
            let taken = match there_are.await.unwrap_or_else(|_| Err("the JobManager ends".into())) {
                Ok(()) => {
                    let asked = master.ask::<_, Answer<String>>(&ToMaster::Checkpoint, CHECKPOINT_TIMEOUT);
                    asked.await.unwrap_or_else(|error| Err(error.to_string()))
                }
                Err(missing) => Err(missing),
            };
            match taken {
                Ok(checkpoint) => {
                    tracing::info!(job = %id, "rescaled from checkpoint {checkpoint} on");
                    let rescale = Box::new(Rescale { job: id, masters, call, graph, reply });
                    let _ = myself.cast(DaemonMessage::Rescale(rescale));
                }
                Err(reason) => reply.send(&Answer::<Submitted>::Err(reason)),
            }
        });
    }

    /// The checkpoint is complete: the master is to go on with the new graph.
    pub(super) fn on_rescale(&mut self, rescale: Rescale) {
        let (id, masters) = (rescale.job, rescale.masters);
        let running = self.running(id).and_then(|job| match (job.masters() == masters, job.peer()) {
            (true, Some(_)) if job.remember().call.rescales() + 1 != rescale.call.rescales() => {
                Err("the job was rescaled meanwhile: try again".into())
            }
            (true, Some(peer)) => Ok(peer.clone()),
            _ => Err(format!("the master of job {id} was replaced meanwhile: try again")),
        });
        let master = match running {
            Ok(master) => master,
            Err(reason) => return rescale.reply.send(&Answer::<Submitted>::Err(reason)),
        };
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.rescale(rescale.call.clone(), rescale.graph.clone());
        // Written before anything ends: whoever comes later finds the job with its new graph.
        keep(&*self.memory, job.remember());
        let rescaled = rescale.call.rescaled.clone().unwrap_or_default();
        let message = ToMaster::Rescale { rescaled, graph: rescale.graph.clone() };
        let myself = self.myself.clone();
        self.tasks.spawn(async move {
            let asked = master.ask::<_, Result<RescaleReport, NotRescaled>>(&message, IN_PLACE_TIMEOUT).await;
            let result = asked.unwrap_or_else(|error| Err(NotRescaled::Refused(error.to_string())));
            let _ = myself.cast(DaemonMessage::RescaledInPlace(Box::new(rescale), result));
        });
    }

    /// Another master begins with the job's graph; whatever the last one does from now on, it has no part in the job.
    pub(super) async fn depose_master(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.depose_master();
        keep(&*self.memory, job.remember());
        self.replace_master(id).await;
    }

    /// A master that could not take the new graph is replaced by one that begins with it.
    pub(super) async fn on_rescaled_in_place(
        &mut self,
        rescale: Rescale,
        result: Result<RescaleReport, NotRescaled>,
    ) {
        let Rescale { job: id, masters, graph, reply, .. } = rescale;
        if let (Err(NotRescaled::Refused(reason)), Some(job)) = (&result, self.jobs.get(&id))
            && job.masters() == masters
            && !job.has_ended()
        {
            tracing::info!(job = %id, "another master begins with the new graph: {reason}");
            self.depose_master(id).await;
        }
        reply.send(&match result {
            Err(NotRescaled::Ending) => Answer::Err(format!("job {id} is about to end")),
            result => Answer::Ok(Submitted { job: id, graph, rescaled: result.ok() }),
        });
    }
}

/// How the program is called to have another parallelism.
fn rescaled(job: &Job, parallelism: Option<usize>, vertices: &[(String, usize)]) -> Answer<Call> {
    let (graph, mut call) = (&job.remember().graph, job.remember().call.clone());
    let mut rescaled = call.rescaled.take().unwrap_or_default();
    rescaled.max_parallelism = graph.max_parallelism;
    rescaled.times += 1;
    rescaled.parallelism = parallelism.or(rescaled.parallelism);
    for (uid, subtasks) in vertices {
        let vertex = graph.vertices.iter().find(|vertex| vertex.operators.contains(uid));
        let Some(vertex) = vertex else {
            let known: Vec<&str> =
                graph.vertices.iter().flat_map(|vertex| &vertex.operators).map(String::as_str).collect();
            return Err(format!("the job has no operator '{uid}', but {}", known.join(", ")));
        };
        rescaled.of_uids.extend(vertex.operators.iter().map(|operator| (operator.clone(), *subtasks)));
    }
    call.rescaled = Some(rescaled);
    Ok(call)
}
