//! Gives jobs that want it the parallelism they need, as a client that watches them and rescales would. Child of the
//! JobManager's daemon; it keeps nothing durable, and the daemon goes on without it if it fails.

mod demand;

use super::DaemonMessage;
use crate::clock::Clock;
use crate::config::{AutoscalerMode, Config};
use crate::daemon::client::ClusterClient;
use crate::protocol::{Advice, Call, GraphSummary, Observed, VertexAdvice};
use crate::report::SubtaskReport;
use crate::status::JobState;
use crate::tasks::Tasks;
use demand::{Aim, Need, needs};
use hurtig_dataflow::Timestamp;
use hurtig_dataflow::ids::{Attempt, JobId, SubtaskId};
use hurtig_dataflow::time::millis;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often it looks at the jobs.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the autoscaler is told.
pub(super) enum AutoscalerMessage {
    /// From itself: look at the jobs.
    Look,
    /// From its own task: a job was rescaled, or why not.
    Rescaled(JobId, Advice),
}

impl ractor::Message for AutoscalerMessage {}

/// The actor. Its argument is the daemon whose jobs it watches.
pub(super) struct Autoscaler;

/// State of the autoscaler.
pub(super) struct State {
    daemon: ActorRef<DaemonMessage>,
    client: Arc<ClusterClient>,
    clock: Clock,
    tasks: Tasks,
    /// None for jobs that do not want it.
    watches: BTreeMap<JobId, Option<Watch>>,
}

/// What is known of a job since it was looked at first, or since it has begun anew.
struct Watch {
    /// The attempt, and how often the job was rescaled before.
    life: (Attempt, u32),
    /// Whether a rescale is under way.
    is_busy: bool,
    /// When it had settled, and from when on numbers are gathered.
    from: Timestamp,
    reports: BTreeMap<SubtaskId, SubtaskReport>,
}

impl Actor for Autoscaler {
    type Msg = AutoscalerMessage;
    type State = State;
    type Arguments = ActorRef<DaemonMessage>;

    async fn pre_start(
        &self,
        myself: ActorRef<AutoscalerMessage>,
        daemon: ActorRef<DaemonMessage>,
    ) -> Result<State, ActorProcessingErr> {
        let asked = daemon.clone();
        let client = ClusterClient::here(Arc::new(move |request, reply| {
            let _ = asked.cast(DaemonMessage::Asked(Box::new(request), reply));
        }));
        drop(myself.send_interval(LOOK_EVERY, || AutoscalerMessage::Look));
        Ok(State {
            daemon,
            client: Arc::new(client),
            clock: Clock::new(),
            tasks: Tasks::default(),
            watches: BTreeMap::new(),
        })
    }

    async fn handle(
        &self,
        myself: ActorRef<AutoscalerMessage>,
        message: AutoscalerMessage,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            AutoscalerMessage::Look => state.look(&myself).await,
            AutoscalerMessage::Rescaled(job, advice) => {
                if let Some(Some(watch)) = state.watches.get_mut(&job) {
                    watch.is_busy = false;
                }
                let _ = state.daemon.cast(DaemonMessage::Advised(job, advice));
            }
        }
        Ok(())
    }
}

impl State {
    async fn look(&mut self, myself: &ActorRef<AutoscalerMessage>) {
        // A daemon that does not answer is about to end.
        let Ok(jobs) = self.client.list().await else { return };
        let running: Vec<JobId> =
            jobs.iter().filter(|job| job.state == JobState::Running).map(|job| job.id).collect();
        self.watches.retain(|job, _| running.contains(job));
        for job in running {
            if let Some(None) = self.watches.get(&job) {
                continue;
            }
            let Ok(observed) = self.client.observe(job, None).await else { continue };
            self.look_at(myself, job, &observed);
        }
    }

    fn look_at(&mut self, myself: &ActorRef<AutoscalerMessage>, job: JobId, observed: &Observed) {
        if observed.seen.entered.is_empty() {
            // Its master has not answered.
            return;
        }
        let settings = observed.seen.settings.iter();
        let flags = settings.map(|(key, value)| format!("{key}={value}"));
        let Ok(config) = flags.fold(Config::builder(), |builder, flag| builder.flag(flag)).build() else {
            return;
        };
        let mode = config.autoscaler.mode;
        if mode == AutoscalerMode::Off {
            self.watches.insert(job, None);
            return;
        }
        let now = self.clock.now();
        let life = (observed.status.attempt, observed.call.as_ref().map_or(0, Call::rescales));
        let reports = || -> BTreeMap<SubtaskId, SubtaskReport> {
            let subtasks = observed.seen.subtasks.iter();
            subtasks.map(|(id, subtask)| (*id, subtask.report.clone())).collect()
        };
        let pause = millis(config.autoscaler.pause);
        let begin = || Watch { life, is_busy: false, from: now + pause, reports: BTreeMap::new() };
        let watch = self.watches.entry(job).or_default().get_or_insert_with(begin);
        if watch.life != life {
            *watch = begin();
        }
        if watch.is_busy || now < watch.from {
            return;
        }
        if watch.reports.is_empty() {
            (watch.from, watch.reports) = (now, reports());
            return;
        }
        if now - watch.from < millis(config.autoscaler.window) {
            return;
        }
        let found = needs(&observed.graph, &watch.reports, &reports(), aim(&config, observed));
        (watch.from, watch.reports) = (now, reports());
        let advice = advice(observed, &found, now);
        if !advice.is_change() {
            let _ = self.daemon.cast(DaemonMessage::Advised(job, advice));
            return;
        }
        if mode == AutoscalerMode::Advise {
            let advice = Advice { outcome: "not done: 'autoscaler.mode' is 'advise'".into(), ..advice };
            let _ = self.daemon.cast(DaemonMessage::Advised(job, advice));
            return;
        }
        watch.is_busy = true;
        self.rescale(myself.clone(), job, advice, observed.graph.clone());
    }

    fn rescale(
        &self,
        myself: ActorRef<AutoscalerMessage>,
        job: JobId,
        mut advice: Advice,
        graph: GraphSummary,
    ) {
        tracing::info!(%job, "rescaled by its load: {advice}");
        let changed = advice.vertices.iter().filter(|vertex| vertex.parallelism != vertex.wanted);
        let vertices = changed.map(|vertex| (vertex.uid.clone(), vertex.wanted)).collect();
        let client = Arc::clone(&self.client);
        self.tasks.spawn(async move {
            advice.outcome = match client.rescale(job, None, vertices).await {
                Ok(submitted) if submitted.graph == graph => {
                    "not rescaled: the program allows no more".into()
                }
                Ok(_) => "rescaled".into(),
                Err(error) => format!("not rescaled: {error}"),
            };
            let _ = myself.cast(AutoscalerMessage::Rescaled(job, advice));
        });
    }
}

fn aim(config: &Config, observed: &Observed) -> Aim {
    let autoscaler = &config.autoscaler;
    let possible = observed.graph.max_parallelism as usize;
    let most = autoscaler.max_parallelism.unwrap_or(possible).min(possible);
    Aim {
        utilization: autoscaler.utilization_target,
        boundary: autoscaler.utilization_boundary,
        bounds: (autoscaler.min_parallelism.min(most), most),
    }
}

fn advice(observed: &Observed, needs: &[Need], at: Timestamp) -> Advice {
    let of_vertex = |(vertex, need): (&crate::protocol::VertexSummary, &Need)| VertexAdvice {
        uid: vertex.operators.first().cloned().unwrap_or_default(),
        name: vertex.name.clone(),
        parallelism: vertex.parallelism,
        wanted: need.parallelism,
        utilization: need.utilization,
        demand: need.demand,
    };
    let vertices = observed.graph.vertices.iter().zip(needs).map(of_vertex).collect();
    Advice { at, vertices, outcome: "as it should be".into() }
}
