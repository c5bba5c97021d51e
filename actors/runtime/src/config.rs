//! Configuration: every key with its type, default and meaning. The structs, their defaults, the parsing of
//! files, variables and flags, the documentation and `hurtig config` are all made from the one list below.
//!
//! A new key is one entry in that list: its meaning as the doc comment, its name, its field and type, its
//! default, and bounds where it has some.
//!
//! ```
//! use hurtig_runtime::config::Config;
//! use std::time::Duration;
//!
//! let config = Config::builder().flag("checkpoint.interval=10s").build()?;
//! assert_eq!(config.checkpoint.interval, Some(Duration::from_secs(10)));
//! assert_eq!(config.execution.flush_timeout, Duration::from_millis(5));
//! # Ok::<(), hurtig_runtime::config::ConfigError>(())
//! ```

mod error;
mod load;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use error::ConfigError;
pub use load::{ConfigBuilder, Origin, parse_assignment};
pub use value::{ByteSize, Limits};

use value::{Setting, choices};

/// One key: what `hurtig config` and the documentation say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, such as `checkpoint.interval`.
    pub name: &'static str,
    /// What it takes, such as `duration` or `integer from 1 to 1000000`.
    pub value_type: String,
    /// Its value when nothing sets it; `None` where that is to be unset.
    pub default: Option<String>,
    /// What it does, in a sentence or two.
    pub meaning: String,
}

impl Entry {
    /// The environment variable that sets this key, such as `HURTIG_CHECKPOINT_INTERVAL`.
    pub fn variable(&self) -> String {
        load::variable_of(self.name)
    }
}

/// One key with its value in a particular configuration, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Described {
    /// The key.
    pub entry: Entry,
    /// Its value; `None` where it is unset.
    pub value: Option<String>,
    /// Who set it.
    pub origin: Origin,
}

/// What [`Config`] tells a visitor about one key.
struct KeyInfo {
    name: &'static str,
    meaning: &'static str,
    limits: Limits,
}

type Visitor<'a> = dyn FnMut(&KeyInfo, &mut dyn Setting) + 'a;

macro_rules! keys {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident {
            $( $(#[doc = $doc:literal])+ $key:literal => $field:ident: $type:ty = $default:expr $(, $limits:expr)?; )*
        }
        $(with { $( $(#[doc = $sub_doc:literal])+ $sub:ident: $sub_type:ty; )+ })?
    )+) => {$(
        $(#[doc = $group_doc])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $group {
            $( $(#[doc = $doc])+ pub $field: $type, )*
            $($( $(#[doc = $sub_doc])+ pub $sub: $sub_type, )+)?
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $( $field: $default, )* $($( $sub: <$sub_type>::default(), )+)? }
            }
        }

        impl $group {
            fn visit(&mut self, visitor: &mut Visitor<'_>) {
                $( visitor(
                    &KeyInfo {
                        name: $key,
                        meaning: concat!($($doc),+),
                        limits: keys!(@limits $($limits)?),
                    },
                    &mut self.$field,
                ); )*
                $($( self.$sub.visit(visitor); )+)?
            }
        }
    )+};
    (@limits) => { Limits::None };
    (@limits $limits:expr) => { Limits::from($limits) };
}

choices! {
    /// Which TaskManagers a job gets slots of.
    SlotPlacement {
        /// As few as can be: little goes over the net.
        Pack = "pack",
        /// As many as can be: the load is even.
        Spread = "spread",
    }
}

choices! {
    /// What the autoscaler does for a job.
    AutoscalerMode {
        /// Nothing.
        Off = "off",
        /// It says what it would do.
        Advise = "advise",
        /// It rescales the job.
        On = "on",
    }
}

choices! {
    /// What lines of logs look like.
    LogFormat {
        /// Text for people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

choices! {
    /// What a checkpoint guarantees about the effect of each record on state.
    CheckpointMode {
        /// Each record counts once: inputs are aligned at the barrier.
        ExactlyOnce = "exactly-once",
        /// Each record counts once or more: no input waits for another.
        AtLeastOnce = "at-least-once",
    }
}

choices! {
    /// Which restart strategy a job has.
    RestartStrategyConfig {
        /// `ExponentialDelay` if the job takes checkpoints, else `None`: see [`Config::restart_strategy`].
        Auto = "auto",
        /// The first failure ends the job.
        None = "none",
        /// A number of restarts, the same time apart.
        FixedDelay = "fixed-delay",
        /// Restarts until failures come too fast.
        FailureRate = "failure-rate",
        /// Restarts whose delay grows while failures go on.
        ExponentialDelay = "exponential-delay",
    }
}

keys! {
    /// `parallelism.*`: how many subtasks a vertex has.
    ParallelismConfig {
        /// Subtasks of a vertex for which the program says nothing else; unset: one per core.
        "parallelism.default" => default: Option<usize> = None, 1..=32_768;
        /// Number of key groups, fixed for a job's life: the highest parallelism it can ever be rescaled to.
        /// Unset: derived from the parallelism, 128 at least.
        "parallelism.max" => max: Option<usize> = None, 1..=32_768;
    }

    /// `execution.*`: how records travel within a job.
    ExecutionConfig {
        /// Records a batch holds at most.
        "execution.batch-size" => batch_size: usize = 1024, 1..=1_000_000;
        /// Time after which a batch that is not full travels on; 0: at once.
        "execution.flush-timeout" => flush_timeout: Duration = Duration::from_millis(5);
        /// Whether operators that can share a subtask do.
        "execution.chaining" => chaining: bool = true;
    }

    /// `exchange.*`: what channels between subtasks may hold.
    ExchangeConfig {
        /// Batches a receiver allows on each channel before it has taken one.
        "exchange.credits" => credits: usize = 8, 1..=65_536;
        /// Whether batches that go from process to process are compressed (LZ4).
        "exchange.compression" => compression: bool = false;
    }

    /// `checkpoint.*`: when checkpoints are taken, where they lie, and when they count as failed.
    CheckpointConfig {
        /// Time between the starts of two checkpoints; unset: none are taken.
        "checkpoint.interval" => interval: Option<Duration> = None;
        /// Folder that holds checkpoints; unset: the memory of the process, and lost with it.
        "checkpoint.dir" => dir: Option<PathBuf> = None;
        /// What a checkpoint guarantees about the effect of each record on state.
        "checkpoint.mode" => mode: CheckpointMode = CheckpointMode::ExactlyOnce;
        /// Time after which a barrier overtakes the records before it, which then are part of the checkpoint: backpressure
        /// delays checkpoints no longer, which get larger; 0: at once; unset: barriers never overtake. Savepoints never hold
        /// records.
        "checkpoint.alignment-timeout" => alignment_timeout: Option<Duration> = None;
        /// Time after which a checkpoint that is not complete is given up.
        "checkpoint.timeout" => timeout: Duration = Duration::from_secs(600), 1..=u64::MAX;
        /// Shortest time between the end of a checkpoint and the start of the next.
        "checkpoint.min-pause" => min_pause: Duration = Duration::ZERO;
        /// Checkpoints that may be under way at once.
        "checkpoint.max-concurrent" => max_concurrent: usize = 1, 1..=1_000;
        /// Checkpoints that may fail one after the other before the job does.
        "checkpoint.tolerable-failures" => tolerable_failures: u32 = 0;
        /// Complete checkpoints that are kept; older ones are deleted.
        "checkpoint.retained" => retained: usize = 1, 1..=1_000;
    }

    /// `state.*`: where keyed state lies.
    StateConfig {
        /// Memory for the keyed state of all subtasks of a worker; what is more lies on disk. Unset: all of it is in memory,
        /// however much there is. Memory that rows have of their own, such as that of strings, is estimated.
        "state.memory" => memory: Option<ByteSize> = None;
        /// Folder for state that memory has no room for, on a disk that is fast. What lies there is of use to the running
        /// attempt only. Unset: the system's folder for temporary files.
        "state.spill-dir" => spill_dir: Option<PathBuf> = None;
        /// Whether workers keep copies of what they write to checkpoints, in the same folder, and start anew from those.
        /// Of use where 'checkpoint.dir' is far away.
        "state.local-recovery" => local_recovery: bool = false;
    }

    /// `savepoint.*`: where savepoints go.
    SavepointConfig {
        /// Folder for savepoints requested without one; unset: each request must name its folder.
        "savepoint.dir" => dir: Option<PathBuf> = None;
    }

    /// `restart.fixed-delay.*`: a number of restarts, the same time apart.
    FixedDelayConfig {
        /// Restarts before the job fails.
        "restart.fixed-delay.attempts" => attempts: u32 = 1;
        /// Time between a failure and the restart.
        "restart.fixed-delay.delay" => delay: Duration = Duration::from_secs(1);
    }

    /// `restart.failure-rate.*`: restarts until failures come too fast.
    FailureRateConfig {
        /// Failures within the interval that are answered by a restart; one more fails the job.
        "restart.failure-rate.max-failures" => max_failures: u32 = 1;
        /// Time over which failures are counted.
        "restart.failure-rate.interval" => interval: Duration = Duration::from_secs(60), 1..=u64::MAX;
        /// Time between a failure and the restart.
        "restart.failure-rate.delay" => delay: Duration = Duration::from_secs(1);
    }

    /// `restart.exponential-delay.*`: restarts whose delay grows while failures go on.
    ExponentialDelayConfig {
        /// Time between the first failure and its restart.
        "restart.exponential-delay.initial" => initial: Duration = Duration::from_secs(1);
        /// Longest time between a failure and its restart.
        "restart.exponential-delay.max" => max: Duration = Duration::from_secs(60);
        /// Factor by which the delay grows with each failure.
        "restart.exponential-delay.multiplier" => multiplier: f64 = 1.5, 1.0..=1_000.0;
        /// Time without a failure after which the delay starts small again.
        "restart.exponential-delay.reset-after" => reset_after: Duration = Duration::from_secs(3600);
        /// Share of the delay that is added or taken away at random, so that jobs do not restart in step.
        "restart.exponential-delay.jitter" => jitter: f64 = 0.1, 0.0..=1.0;
        /// Restarts before the job fails, counted anew when the delay starts small again; unset: no limit.
        "restart.exponential-delay.attempts" => attempts: Option<u32> = None;
    }

    /// `restart.*`: whether and when a failed job is tried again.
    RestartConfig {
        /// Which restart strategy to use; `auto` is `exponential-delay` if the job takes checkpoints, else `none`.
        "restart.strategy" => strategy: RestartStrategyConfig = RestartStrategyConfig::Auto;
    } with {
        /// Of the strategy `fixed-delay`.
        fixed_delay: FixedDelayConfig;
        /// Of the strategy `failure-rate`.
        failure_rate: FailureRateConfig;
        /// Of the strategy `exponential-delay`.
        exponential_delay: ExponentialDelayConfig;
    }

    /// `taskmanager.*`: TaskManagers and what they offer.
    TaskManagerConfig {
        /// TaskManagers of an embedded cluster.
        "taskmanager.count" => count: usize = 1, 1..=10_000;
        /// Slots each TaskManager offers; unset: as many as the job needs.
        "taskmanager.slots" => slots: Option<usize> = None, 1..=32_768;
        /// Processor cores that a TaskManager's slots share, as far as they ask for any; unset: those of the machine.
        "taskmanager.cpu-cores" => cpu_cores: Option<f64> = None, 0.001..=1_000_000.0;
        /// Memory that a TaskManager's slots share, as far as they ask for any; unset: that of the machine.
        "taskmanager.memory" => memory: Option<ByteSize> = None;
        /// Memory that a worker's process may use for data; unset: what its slots have asked for, or as much as there is.
        "taskmanager.worker-memory" => worker_memory: Option<ByteSize> = None;
        /// How long a daemon that is asked to end waits for the checkpoints that are under way.
        "taskmanager.leave-timeout" => leave_timeout: Duration = Duration::from_secs(8);
    }

    /// `cluster.*`: where a cluster of processes is, and what it keeps.
    ClusterConfig {
        /// Where the JobManager is reached, as `host:port`; where there are several of which one leads, all of them,
        /// separated by commas.
        "cluster.jobmanager" => jobmanager: String = "127.0.0.1:6123".to_string();
        /// Name or address by which the processes of other machines reach this one.
        "cluster.host" => host: String = "127.0.0.1".to_string();
        /// Folder with the certificates of this process: `ca.pem`, `node.pem`, `node.key`; unset: that of the local
        /// cluster, as `hurtig cluster` makes it.
        "cluster.certificates" => certificates: Option<PathBuf> = None;
        /// Folder in which a daemon keeps metadata, programs and logs; unset: `.hurtig` in the user's home folder.
        "cluster.dir" => dir: Option<PathBuf> = None;
        /// How long the processes of a job go on without a JobManager before they end.
        "cluster.orphan-timeout" => orphan_timeout: Duration = Duration::from_secs(300), 1..=u64::MAX;
        /// Whether a job's slots lie on as few TaskManagers as can be, or on as many.
        "cluster.slot-placement" => slot_placement: SlotPlacement = SlotPlacement::Pack;
        /// How long a job waits for slots.
        "cluster.slot-timeout" => slot_timeout: Duration = Duration::from_secs(300), 1..=u64::MAX;
    }

    /// `high-availability.*`: several JobManagers, of which one leads and the others stand by.
    HighAvailabilityConfig {
        /// Folder that all of them share: there they elect the one that leads, which keeps its jobs and programs there;
        /// unset: there is one JobManager.
        "high-availability.dir" => dir: Option<PathBuf> = None;
        /// How long the one that leads may be silent before another one does. All must have the same.
        "high-availability.lease" => lease: Duration = Duration::from_secs(10), 1_000..=u64::MAX;
    }

    /// `rest.*`: where the REST interface and the web page are.
    RestConfig {
        /// Address on which they are served. One that other machines reach needs 'rest.certificates' and 'rest.token'.
        "rest.address" => address: String = "127.0.0.1".to_string();
        /// Port on which they are served; unset: 8081 or the next that is free for a JobManager, none for a program that
        /// runs its job itself; 0: none.
        "rest.port" => port: Option<usize> = None, 0..=65_535;
        /// Folder with 'node.pem' and 'node.key', for HTTPS: as `hurtig certs node` makes them, or one's own.
        "rest.certificates" => certificates: Option<PathBuf> = None;
        /// File that holds the token that whoever asks must show.
        "rest.token" => token: Option<PathBuf> = None;
        /// File that holds a token with which one may look, and change nothing.
        "rest.read-only-token" => read_only_token: Option<PathBuf> = None;
        /// Whether others may reach it without TLS or token: whoever does can run programs as this user.
        "rest.insecure" => insecure: bool = false;
        /// The largest program that is accepted.
        "rest.max-upload" => max_upload: ByteSize = ByteSize(1 << 30);
    }

    /// `metrics.*`: where metrics are sent. Prometheus fetches them at `/metrics` of the REST interface.
    MetricsConfig {
        /// Time between two reports to those who are sent them.
        "metrics.interval" => interval: Duration = Duration::from_secs(10), 1..=u64::MAX;
        /// Address of a StatsD to report to, by UDP, as `host:port`.
        "metrics.statsd" => statsd: Option<String> = None;
        /// Address of a Graphite to report to, by its text protocol over TCP, as `host:port`.
        "metrics.graphite" => graphite: Option<String> = None;
        /// Address of an OpenTelemetry collector to report to, by OTLP over HTTP, as 'http://host:4318'.
        "metrics.otlp" => otlp: Option<String> = None;
        /// Whether metrics are written to the JobManager's log.
        "metrics.log" => log: bool = false;
    }

    /// `log.*`: what is logged, and how much of it is kept.
    LogConfig {
        /// What is logged: 'error', 'warn', 'info', 'debug', 'trace', or such for parts, as 'info,hurtig_state=debug'. Unset:
        /// 'info' for the processes of a cluster, whose logs are files, 'warn' for others.
        "log.filter" => filter: Option<String> = None;
        /// What lines of logs look like.
        "log.format" => format: LogFormat = LogFormat::Text;
        /// Size at which a log file of a cluster is copied and goes on empty.
        "log.max-size" => max_size: ByteSize = ByteSize(16 << 20);
        /// Copies of each log file that are kept.
        "log.files" => files: usize = 3, 0..=1_000;
        /// How long a TaskManager keeps the logs of a job that has ended.
        "log.keep" => keep: Duration = Duration::from_secs(7 * 24 * 3_600);
    }

    /// `autoscaler.*`: whether a job's parallelism follows its load, on a cluster.
    AutoscalerConfig {
        /// Whether the autoscaler rescales the job, or says what it would do.
        "autoscaler.mode" => mode: AutoscalerMode = AutoscalerMode::Off;
        /// Share of their time that subtasks should be at work.
        "autoscaler.utilization-target" => utilization_target: f64 = 0.7, 0.05..=1.0;
        /// How far from that share a vertex may be before its parallelism is changed.
        "autoscaler.utilization-boundary" => utilization_boundary: f64 = 0.3, 0.0..=1.0;
        /// Time over which the load is measured.
        "autoscaler.window" => window: Duration = Duration::from_secs(60), 1_000..=u64::MAX;
        /// Time that a job has to settle before the load is measured, after it has begun and after each change.
        "autoscaler.pause" => pause: Duration = Duration::from_secs(60);
        /// Fewest subtasks that the autoscaler gives a vertex.
        "autoscaler.min-parallelism" => min_parallelism: usize = 1, 1..=32_768;
        /// Most subtasks that the autoscaler gives a vertex; unset: as many as there are key groups.
        "autoscaler.max-parallelism" => max_parallelism: Option<usize> = None, 1..=32_768;
    }

    /// `heartbeat.*`: how the processes of a cluster find that another is gone. All should have the same.
    HeartbeatConfig {
        /// Time between two heartbeats.
        "heartbeat.interval" => interval: Duration = Duration::from_secs(1), 1..=u64::MAX;
        /// A process that has been silent for so long counts as lost.
        "heartbeat.timeout" => timeout: Duration = Duration::from_secs(5), 1..=u64::MAX;
    }

    /// `restore.*`: what a job starts from.
    RestoreConfig {
        /// Checkpoint or savepoint to start from; unset: empty state.
        "restore.from" => from: Option<PathBuf> = None;
        /// Whether state that no operator of the program claims is left behind instead of being an error.
        "restore.allow-non-restored" => allow_non_restored: bool = false;
    }

    /// All keys, grouped as their names are.
    Keys {} with {
        /// How many subtasks a vertex has.
        parallelism: ParallelismConfig;
        /// How records travel within a job.
        execution: ExecutionConfig;
        /// What channels between subtasks may hold.
        exchange: ExchangeConfig;
        /// When checkpoints are taken, where they lie, and when they count as failed.
        checkpoint: CheckpointConfig;
        /// Where keyed state lies.
        state: StateConfig;
        /// Where savepoints go.
        savepoint: SavepointConfig;
        /// Whether and when a failed job is tried again.
        restart: RestartConfig;
        /// TaskManagers and what they offer.
        taskmanager: TaskManagerConfig;
        /// Where a cluster of processes is, and what it keeps.
        cluster: ClusterConfig;
        /// Several JobManagers, of which one leads and the others stand by.
        high_availability: HighAvailabilityConfig;
        /// Where the REST interface and the web page are.
        rest: RestConfig;
        /// Where metrics are sent.
        metrics: MetricsConfig;
        /// What is logged, and how much of it is kept.
        log: LogConfig;
        /// Whether a job's parallelism follows its load, on a cluster.
        autoscaler: AutoscalerConfig;
        /// How the processes of a cluster find that another is gone.
        heartbeat: HeartbeatConfig;
        /// What a job starts from.
        restore: RestoreConfig;
    }
}

/// The configuration of a job and of the embedded cluster that runs it: [`Keys`] by `Deref`, so that a value
/// is read and set as `config.checkpoint.interval`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    keys: Keys,
    /// Who set a key, and to what: a field that a program changes later is told apart by its value.
    set_by: BTreeMap<&'static str, (Origin, Option<String>)>,
}

impl std::ops::Deref for Config {
    type Target = Keys;
    fn deref(&self) -> &Keys {
        &self.keys
    }
}

impl std::ops::DerefMut for Config {
    fn deref_mut(&mut self) -> &mut Keys {
        &mut self.keys
    }
}

impl ClusterConfig {
    /// The addresses in `cluster.jobmanager`.
    pub fn job_managers(&self) -> Vec<String> {
        self.jobmanager.split(',').map(|address| address.trim().to_string()).collect()
    }
}

impl Config {
    /// Starts a configuration that is read from a file, variables and flags.
    pub fn builder() -> ConfigBuilder {
        ConfigBuilder::default()
    }

    /// Every key with its type, default and meaning, in the order of the documentation.
    pub fn entries() -> Vec<Entry> {
        let mut entries = Vec::new();
        Keys::default().visit(&mut |key, setting| {
            let meaning = key.meaning.trim().to_owned();
            entries.push(Entry {
                name: key.name,
                value_type: setting.type_name(&key.limits),
                default: setting.show(),
                meaning,
            });
        });
        entries
    }

    /// Every key with its value here, and where that came from.
    pub fn describe(&self) -> Vec<Described> {
        let mut values = Vec::new();
        self.keys.clone().visit(&mut |_, setting| values.push(setting.show()));
        Self::entries()
            .into_iter()
            .zip(values)
            .map(|(entry, value)| {
                let origin = match self.set_by.get(entry.name) {
                    Some((origin, set)) if *set == value => origin.clone(),
                    None if entry.default == value => Origin::Default,
                    Some(_) | None => Origin::Program,
                };
                Described { entry, value, origin }
            })
            .collect()
    }

    /// The keys that are not as by default, with their values.
    pub fn settings(&self) -> Vec<(String, String)> {
        let set = self.describe().into_iter().filter(|key| key.origin != Origin::Default);
        set.filter_map(|key| Some((key.entry.name.to_string(), key.value?))).collect()
    }

    /// The restart strategy to use, with `auto` decided: never [`RestartStrategyConfig::Auto`].
    pub fn restart_strategy(&self) -> RestartStrategyConfig {
        match self.restart.strategy {
            RestartStrategyConfig::Auto if self.checkpoint.interval.is_some() => {
                RestartStrategyConfig::ExponentialDelay
            }
            RestartStrategyConfig::Auto => RestartStrategyConfig::None,
            chosen => chosen,
        }
    }

    /// Subtasks of a vertex for which the program says nothing else: `parallelism.default`, or one per core,
    /// but never more than `parallelism.max`.
    pub fn default_parallelism(&self) -> usize {
        self.parallelism.default.unwrap_or_else(|| {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            cores.min(self.parallelism.max.unwrap_or(usize::MAX))
        })
    }

    /// Sets one key from text, as a file or flag would, and remembers who did.
    pub fn set(&mut self, key: &str, value: &str, origin: Origin) -> Result<(), ConfigError> {
        let mut outcome = None;
        self.keys.visit(&mut |info, setting| {
            if info.name == key {
                outcome = Some(match setting.assign(value, &info.limits) {
                    Ok(()) => Ok((info.name, setting.show())),
                    Err(value::Unreadable) => Err(setting.type_name(&info.limits)),
                });
            }
        });
        match outcome {
            None => Err(load::unknown_key(key, origin)),
            Some(Err(expected)) => Err(ConfigError::InvalidValue {
                key: key.to_owned(),
                value: value.to_owned(),
                expected,
                origin,
            }),
            Some(Ok((name, shown))) => {
                self.set_by.insert(name, (origin, shown));
                Ok(())
            }
        }
    }

    /// Checks what no key can say alone. Reading a configuration does it; call it after changing fields.
    pub fn check(&self) -> Result<(), ConfigError> {
        let conflict = |first: &'static str, second: &'static str, remedy: &'static str| {
            Err(ConfigError::Conflict { first, second, remedy })
        };
        if let (Some(default), Some(max)) = (self.parallelism.default, self.parallelism.max)
            && default > max
        {
            return conflict("parallelism.default", "parallelism.max", "lower the first or raise the second");
        }
        let exponential = &self.restart.exponential_delay;
        if exponential.initial > exponential.max {
            return conflict(
                "restart.exponential-delay.initial",
                "restart.exponential-delay.max",
                "lower the first or raise the second",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_variables_are_unique_and_every_key_is_explained() {
        let entries = Config::entries();
        let names: std::collections::BTreeSet<_> = entries.iter().map(|e| e.name).collect();
        let variables: std::collections::BTreeSet<_> = entries.iter().map(Entry::variable).collect();
        assert_eq!((names.len(), variables.len()), (entries.len(), entries.len()));
        for entry in entries {
            assert!(entry.meaning.ends_with('.'), "{entry:?}");
            assert!(!entry.meaning.contains("  "), "{entry:?}");
        }
    }

    #[test]
    fn every_default_reads_back() {
        let mut config = Config::default();
        for entry in Config::entries() {
            let text = entry.default.clone().unwrap_or_default();
            config.set(entry.name, &text, Origin::Default).unwrap();
        }
        assert_eq!(config.keys, Keys::default());
    }

    #[test]
    fn defaults_are_those_of_the_table() {
        let entry = |name| Config::entries().into_iter().find(|e| e.name == name).unwrap();
        let batch = entry("execution.batch-size");
        assert_eq!(batch.value_type, "integer from 1 to 1000000");
        assert_eq!(batch.default.as_deref(), Some("1024"));
        assert_eq!(batch.meaning, "Records a batch holds at most.");
        assert_eq!(entry("checkpoint.timeout").default.as_deref(), Some("10 min"));
        assert_eq!(entry("checkpoint.mode").value_type, "exactly-once|at-least-once");
        assert_eq!(entry("checkpoint.interval").default, None);
        assert_eq!(entry("checkpoint.interval").variable(), "HURTIG_CHECKPOINT_INTERVAL");
    }

    #[test]
    fn describe_names_who_set_a_value() {
        let mut config =
            Config::builder().flag("checkpoint.interval=1s").flag("exchange.credits=2").build().unwrap();
        config.exchange.credits = 3;
        config.execution.chaining = false;
        let described = config.describe();
        let of = |name| {
            let found = described.iter().find(|d| d.entry.name == name).unwrap();
            (found.value.clone().unwrap_or_default(), found.origin.clone())
        };
        assert_eq!(of("checkpoint.interval"), ("1 s".into(), Origin::Flag("-D".into())));
        assert_eq!(of("exchange.credits"), ("3".into(), Origin::Program));
        assert_eq!(of("execution.chaining"), ("false".into(), Origin::Program));
        assert_eq!(of("checkpoint.retained"), ("1".into(), Origin::Default));
    }

    #[test]
    fn the_automatic_restart_strategy_depends_on_checkpoints() {
        let mut config = Config::default();
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::None);
        config.checkpoint.interval = Some(Duration::from_secs(1));
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::ExponentialDelay);
        config.restart.strategy = RestartStrategyConfig::FixedDelay;
        assert_eq!(config.restart_strategy(), RestartStrategyConfig::FixedDelay);
    }

    #[test]
    fn values_that_contradict_each_other_are_refused() {
        let check = |flags: [&str; 2], expected: &str| {
            let error = Config::builder().flag(flags[0]).flag(flags[1]).build().unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check(
            ["parallelism.default=8", "parallelism.max=4"],
            "parallelism.default is greater than parallelism.max: lower the first or raise the second",
        );
        check(
            ["restart.exponential-delay.initial=2min", "restart.exponential-delay.jitter=0"],
            "restart.exponential-delay.initial is greater than restart.exponential-delay.max: lower the first or raise the second",
        );
    }
}
