//! hurtig is a stateful stream processor: programs over streams of records, with event time, keyed state and
//! exactly-once results, run by supervised actors. Jobs run in the process of the program that builds them, or on a
//! cluster.
//!
//! This page is a guide: each part has an example that runs. What it leaves out is in the pages it links to.
//!
//! 1. [A first program](#a-first-program)
//! 2. [Trying things out](#trying-things-out)
//! 3. [Streams and keys](#streams-and-keys)
//! 4. [Event time](#event-time)
//! 5. [Windows](#windows)
//! 6. [State and timers](#state-and-timers)
//! 7. [Side outputs](#side-outputs)
//! 8. [Files](#files)
//! 9. [Checkpoints and restore](#checkpoints-and-restore)
//! 10. [Jobs within a larger program](#jobs-within-a-larger-program)
//! 11. [On a cluster](#on-a-cluster)
//! 12. [Seeing what a job does](#seeing-what-a-job-does)
//! 13. [When something fails](#when-something-fails)
//! 14. [Settings](#settings)
//!
//! # A first program
//! A program builds its job in a closure and hands it to [`run`], which reads the flags that every program takes
//! (`--parallelism`, `--checkpoint-dir`, `--checkpoint-interval`, `--from`, `-D key=value`), runs the job in this
//! process and shows its progress. What follows `--` on the command line is the closure's second argument.
//!
//! ```no_run
//! use hurtig::prelude::*;
//!
//! fn main() -> std::process::ExitCode {
//!     hurtig::run("word count", |env, _args| {
//!         env.from_source(FileSource::text("books/*.txt"), WatermarkStrategy::none(), "books")
//!             .flat_map(|line: String, out: &mut Collector<'_, _>| {
//!                 for word in line.split_whitespace() {
//!                     out.emit((word.to_lowercase(), 1u64));
//!                 }
//!             })
//!             .key_by(|(word, _)| word.clone())
//!             .reduce(|(word, a), (_, b)| (word, a + b))
//!             .print();
//!         Ok(())
//!     })
//! }
//! ```
//!
//! # Trying things out
//! [`execute`] runs a job to its end and returns, which suits tests. [`collect`](datastream::DataStream::collect)
//! gathers a stream's records in memory:
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let env = Environment::new();
//! let even = env.from_range(0..10).filter(|n| n % 2 == 0).collect();
//! hurtig::execute("even numbers", &env, &Config::default())?;
//! let mut found = even.take();
//! found.sort(); // two subtasks may have read the range
//! assert_eq!(found, [0, 2, 4, 6, 8]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # Streams and keys
//! An [`Environment`](datastream::Environment) makes streams out of sources; a
//! [`DataStream`](datastream::DataStream) is transformed into others (`map`, `filter`, `flat_map`, `map_async`,
//! `union`, `connect`, …). Nothing runs while the program does that: it only builds the job.
//!
//! A record is any type that is `Clone` and that serde can write and read. `key_by` parts a stream by a key: all
//! records of one key are then seen, in order, by one subtask, and state is kept per key.
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let env = Environment::new();
//! let sales = vec![("tea".to_string(), 3), ("milk".to_string(), 1), ("tea".to_string(), 2)];
//! let totals = env
//!     .from_collection(sales)
//!     .key_by(|(product, _)| product.clone())
//!     .reduce(|(product, a), (_, b)| (product, a + b))
//!     .filter(|(product, _)| product == "tea")
//!     .collect();
//! hurtig::execute("totals", &env, &Config::default())?;
//! // A reduced stream carries each key's total so far.
//! assert_eq!(totals.take(), [("tea".to_string(), 3), ("tea".to_string(), 5)]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! Give what keeps state a `uid`: its state is found again by it when the program has changed.
//!
//! # Event time
//! Event time is the time in the records. A [`WatermarkStrategy`](dataflow::watermark::WatermarkStrategy) says where it
//! is and how far records may be out of order; watermarks then tell the operators that no earlier record follows.
//! Times are milliseconds.
//!
//! ```
//! use hurtig::prelude::*;
//! use std::time::Duration;
//!
//! let event_time = WatermarkStrategy::bounded_out_of_orderness(Duration::from_secs(5))
//!     .with_timestamps(|(at, _): &(i64, f64)| *at)
//!     .with_idleness(Duration::from_secs(30));
//! let env = Environment::new();
//! let readings = vec![(1_000, 20.5), (3_000, 21.0), (2_000, 20.0)];
//! env.from_collection(readings).assign_timestamps_and_watermarks(event_time).discard();
//! # hurtig::execute("event time", &env, &Config::default())?;
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! Sources take the strategy themselves (`from_source`, `generate`): watermarks are then made per split.
//!
//! # Windows
//! `window` gathers a key's records: in tumbling, sliding, session or global windows, in event or processing time. A
//! trigger other than the default, an evictor and an allowed lateness can be set; a window is then reduced,
//! aggregated, or given as a whole to a function. See [`WindowedStream`](datastream::WindowedStream).
//!
//! ```
//! use hurtig::prelude::*;
//! use std::time::Duration;
//!
//! let env = Environment::new();
//! let clicks = vec![("ada", 1_000), ("bob", 2_000), ("ada", 9_000), ("ada", 12_000)];
//! let per_ten_seconds = env
//!     .from_collection(clicks.into_iter().map(|(user, at)| (user.to_string(), at)).collect())
//!     .assign_timestamps_and_watermarks(
//!         WatermarkStrategy::monotonous().with_timestamps(|(_, at): &(String, i64)| *at),
//!     )
//!     .key_by(|(user, _)| user.clone())
//!     .window(TumblingEventTimeWindows::of(Duration::from_secs(10)))
//!     .aggregate_with(Count::new(), |user, window, clicks| (window.start, user.clone(), clicks))
//!     .collect();
//! hurtig::execute("clicks", &env, &Config::default())?;
//! let mut rows = per_ten_seconds.take();
//! rows.sort();
//! assert_eq!(rows, [(0, "ada".into(), 2), (0, "bob".into(), 1), (10_000, "ada".into(), 1)]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # State and timers
//! A [`KeyedProcessFunction`](datastream::KeyedProcessFunction) sees one record at a time, with its key's state and
//! timers. State is declared in `open` (value, list, map, reducing, aggregating; with a time-to-live if wanted) and
//! survives failures without further lines. A timer wakes the function at an event time or a processing time. Watermarks
//! move once per batch, so a record may be seen before the timer of an earlier time has fired: a function whose results
//! are to be the same in every run looks at the times itself.
//!
//! ```
//! use hurtig::prelude::*;
//!
//! /// Tells of devices that have been silent for a minute.
//! #[derive(Clone, Default)]
//! struct Silence {
//!     last_seen: ValueState<i64>,
//! }
//!
//! impl KeyedProcessFunction<u32, (u32, i64)> for Silence {
//!     type Out = (u32, i64);
//!
//!     fn open(&mut self, ctx: &mut KeyedOpenContext<'_, u32>) -> OpResult {
//!         self.last_seen = ctx.value_state("last-seen")?;
//!         Ok(())
//!     }
//!
//!     fn process(
//!         &mut self,
//!         (device, at): (u32, i64),
//!         ctx: &mut KeyedContext<'_, u32, Self::Out>,
//!     ) -> OpResult {
//!         match self.last_seen.get(ctx).copied() {
//!             Some(last) if at - last > 60_000 => ctx.emit((device, last + 60_000)),
//!             _ => {}
//!         }
//!         self.last_seen.set(ctx, at);
//!         ctx.register_event_time_timer(at + 60_000);
//!         Ok(())
//!     }
//!
//!     fn on_timer(&mut self, timer: Timer, ctx: &mut KeyedContext<'_, u32, Self::Out>) -> OpResult {
//!         if self.last_seen.get(ctx) == Some(&(timer.time - 60_000)) {
//!             self.last_seen.clear(ctx);
//!             let device = *ctx.key();
//!             ctx.emit((device, timer.time));
//!         }
//!         Ok(())
//!     }
//! }
//!
//! let env = Environment::new();
//! env.set_parallelism(1); // so that the records stay in order
//! let seen = vec![(7, 0), (7, 50_000), (7, 300_000)];
//! let silent = env
//!     .from_collection(seen)
//!     .assign_timestamps_and_watermarks(
//!         WatermarkStrategy::monotonous().with_timestamps(|(_, at): &(u32, i64)| *at),
//!     )
//!     .key_by(|(device, _)| *device)
//!     .process(Silence::default())
//!     .uid("silence")
//!     .collect();
//! hurtig::execute("silence", &env, &Config::default())?;
//! assert_eq!(silent.take(), [(7, 110_000), (7, 360_000)]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # Side outputs
//! An operation can put records out under a tag; they are a stream of their own, of any type. Late records of a window
//! go the same way (`side_output_late_data`).
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let negative = OutputTag::<i64>::new("negative");
//! let env = Environment::new();
//! env.set_parallelism(1);
//! let tag = negative.clone();
//! let roots = env.from_collection(vec![4, -1, 9]).flat_map(move |n: i64, out: &mut Collector<'_, _>| match n {
//!     0.. => out.emit((n as f64).sqrt()),
//!     _ => out.emit_side(&tag, n),
//! });
//! let (roots, negative) = (roots.collect(), roots.side_output(&negative).collect());
//! hurtig::execute("roots", &env, &Config::default())?;
//! assert_eq!(roots.take(), [2.0, 3.0]);
//! assert_eq!(negative.take(), [-1]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # Files
//! [`FileSource`](files::FileSource) reads text, CSV and JSON lines from files, folders and patterns, compressed or not,
//! once or for as long as the job runs. [`FileSink`](files::FileSink) writes part files that appear exactly once. What
//! happens to a line that does not parse is said with `on_error`: [`Fail`](files::Fail) is the default and names file,
//! line and column, [`Skip`](files::Skip) drops the line, [`SideOutput`](files::SideOutput) makes the stream carry
//! `Result<T, BadLine>`.
//!
//! ```
//! use hurtig::prelude::*;
//! # let folder = std::env::temp_dir().join(format!("hurtig-guide-{}", std::process::id()));
//! # std::fs::create_dir_all(&folder)?;
//! # let (prices, cheap) = (folder.join("prices.csv"), folder.join("cheap"));
//!
//! std::fs::write(&prices, "product,price\ntea,2.5\nmilk,cheap\nsaffron,99\n")?;
//! let env = Environment::new();
//! env.from_source(
//!     FileSource::csv::<(String, f64)>(&prices).on_error(Skip),
//!     WatermarkStrategy::none(),
//!     "prices",
//! )
//! .filter(|(_, price)| *price < 10.0)
//! .sink_to(FileSink::json_lines(&cheap));
//! hurtig::execute("cheap", &env, &Config::default())?;
//!
//! let part = std::fs::read_dir(&cheap)?.next().ok_or("no part file")??;
//! assert_eq!(std::fs::read_to_string(part.path())?, "[\"tea\",2.5]\n");
//! # std::fs::remove_dir_all(&folder)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Checkpoints and restore
//! With `checkpoint.interval` the job takes consistent snapshots of all state and of the sources' positions. After a
//! failure it is restarted from the last one, and sinks that take part (files, `collect`) publish each record exactly
//! once. With `checkpoint.dir` checkpoints outlive the process; `restore.from` starts a job from one.
//!
//! ```
//! use hurtig::prelude::*;
//! use std::sync::atomic::{AtomicBool, Ordering};
//! use std::time::Duration;
//!
//! static HAS_FAILED: AtomicBool = AtomicBool::new(false);
//!
//! let mut config = Config::default();
//! config.checkpoint.interval = Some(Duration::from_millis(10));
//! config.restart.exponential_delay.initial = Duration::from_millis(10);
//!
//! let env = Environment::new();
//! let numbers = GeneratorSource::new(|n| n).with_count(2_000).with_rate(20_000.0);
//! let counted = env
//!     .generate(numbers, WatermarkStrategy::none())
//!     .map(|n| {
//!         if n == 1_500 && !HAS_FAILED.swap(true, Ordering::Relaxed) {
//!             panic!("something breaks, once");
//!         }
//!         n
//!     })
//!     .collect();
//! let status = hurtig::execute("survivor", &env, &config)?;
//! assert_eq!(status.restarts, 1);
//! let mut records = counted.take();
//! records.sort();
//! assert_eq!(records, (0..2_000).collect::<Vec<_>>()); // nothing lost, nothing twice
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! From the command line the same is `--checkpoint-interval 10s --checkpoint-dir checkpoints`, and
//! `--from checkpoints/<job>/chk-<number>` to start from a checkpoint. A savepoint ([`JobClient::savepoint`]) is a
//! checkpoint that hurtig never deletes.
//!
//! # Metrics of one's own
//! What functions record through the [`metrics`](https://docs.rs/metrics) facade is shown and exported beside what hurtig
//! counts itself, for each subtask: `hurtig metrics JOB`, `/metrics`, Flink's REST routes. Take the handle of a metric once,
//! in `open`; futures of asynchronous functions run elsewhere and record nothing.
//!
//! ```
//! use hurtig::prelude::*;
//!
//! #[derive(Clone)]
//! struct Halve {
//!     odd: metrics::Counter,
//! }
//!
//! impl ProcessFunction<u64> for Halve {
//!     type Out = u64;
//!
//!     fn open(&mut self, _: &mut OpenContext<'_>) -> OpResult {
//!         self.odd = metrics::counter!("odd");
//!         Ok(())
//!     }
//!
//!     fn process(&mut self, n: u64, ctx: &mut ProcessContext<'_, u64>) -> OpResult {
//!         self.odd.increment(n % 2);
//!         ctx.emit(n / 2);
//!         Ok(())
//!     }
//! }
//!
//! let env = Environment::new();
//! env.set_parallelism(1);
//! env.from_collection(vec![1, 2, 3]).process(Halve { odd: metrics::Counter::noop() }).collect();
//! let status = hurtig::execute("halves", &env, &Config::default())?;
//! let odd = status.subtasks.values().flat_map(|report| &report.users).find(|read| read.name == "odd");
//! assert_eq!(odd.map(|read| read.value), Some(2.0));
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # Jobs within a larger program
//! A [`Cluster`] runs many jobs in this process; a [`JobClient`] follows, measures, cancels and stops one and takes
//! savepoints.
//! [`actors::ActorSource`] lets actors of the program feed a job, [`actors::to_actor`] delivers a stream to one; both
//! by credit, so that neither side is flooded.
//!
//! ```
//! use hurtig::actors::{ActorSource, Feed};
//! use hurtig::dataflow::Rows;
//! use hurtig::prelude::*;
//! use std::sync::Arc;
//!
//! let runtime = hurtig::runtime()?;
//! let config = Config::default();
//! let squares = runtime.block_on(async {
//!     let (source, inlet) = ActorSource::new(100).await?;
//!     let env = Environment::new();
//!     env.set_parallelism(1);
//!     let squares = env
//!         .from_source(source, WatermarkStrategy::none(), "inlet")
//!         .map(|n: u64| n * n)
//!         .collect();
//!     let cluster = hurtig::Cluster::start(&config).await?;
//!     let job = cluster.submit("squares", &env.graph(), &config).await?;
//!
//!     // Usually an actor does this, and sends no more than it was granted.
//!     inlet.cast(Feed::Connect { feeder: 1, grant: Arc::new(|_records| {}) })?;
//!     let rows = Rows::untimed(vec![1, 2, 3]);
//!     inlet.cast(Feed::Records { feeder: 1, rows })?;
//!     inlet.cast(Feed::End)?;
//!     let status = job.wait().await?;
//!     assert_eq!(status.state, JobState::Finished);
//!     cluster.shutdown().await;
//!     Ok::<_, Box<dyn std::error::Error>>(squares)
//! })?;
//! assert_eq!(squares.take(), [1, 4, 9]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On a cluster
//! A program whose `main` calls [`run`] needs no change: `hurtig run PROGRAM` uploads it, and each process of the job
//! runs its `main`, builds the same graph and takes its part. So the graph may depend on the program's arguments and on
//! nothing else, such as the time, a random number or a file that only one machine has. What `print` writes goes to
//! the log of the worker that runs it; `collect` and the actor API reach within one process only and are for programs
//! that run their job themselves. Checkpoints go to a folder that all machines share.
//!
//! Subtasks of one number share a slot of a TaskManager, one of each operator. Operators that need more than others get
//! slots of their own with [`slot_sharing_group`](datastream::DataStream::slot_sharing_group), which may ask for processor cores and
//! memory: only TaskManagers that have as much left give them.
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let env = Environment::new();
//! let heavy = SlotSharingGroup::new("heavy").with_cpu_cores(2.0).with_memory_bytes(4 << 30);
//! env.from_range(0..10).map(|n| n * n).slot_sharing_group(heavy).discard();
//! ```
//!
//! # Seeing what a job does
//! With the feature `web` of this crate and `-D rest.port=8081` a program serves a web page while its job runs: the job
//! graph with what holds it back, checkpoints, failures. On a cluster the JobManager has the page, whatever the program
//! was built with.
//!
//! # When something fails
//! An error or a panic in a user's function fails the attempt, never the process. Without checkpoints the job has then
//! failed; with them it is tried again, as `restart.strategy` says. The error names vertex and subtask:
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let env = Environment::new();
//! env.from_range(0..10).map(|n| 100 / (n - 5)).name("divide").discard();
//! let error = hurtig::execute("division", &env, &Config::default()).unwrap_err().to_string();
//! assert!(error.contains("divide") && error.contains("panicked at"), "{error}");
//! ```
//!
//! # Settings
//! [`Config`] has every setting; `hurtig config` lists them. They are read from `hurtig.yaml`, environment variables
//! and flags, in the order of rising precedence ([`Config::builder`], [`parse`]).

mod args;
mod program;
mod progress;
mod role;
pub mod savepoint;
mod web;

pub use args::{ArgsError, Ui, parse};
pub use hurtig_dataflow as dataflow;
pub use hurtig_datastream as datastream;
pub use hurtig_files as files;
pub use hurtig_formats as formats;
pub use hurtig_runtime::actors;
pub use hurtig_runtime::fault;
pub use hurtig_runtime::metrics;
pub use hurtig_runtime::{
    Cluster, Config, JobClient, JobError, JobMetrics, JobState, JobStatus, RunError, config,
};
#[doc(hidden)]
pub use hurtig_runtime::{
    clock, cluster, daemon, logs, machine, process, profile, protocol, report, resource, simulation, tasks,
};
#[cfg(feature = "sql")]
pub use hurtig_sql as sql;
pub use program::{LogTo, configured, execute, run, run_and_then, run_with_args, runtime, start_logging};
pub use progress::ProgressLine;
/// The actor library that jobs are made of, for programs that talk to them as actors.
pub use ractor;

/// Programs allocate batches by the million; this allocator is made for that.
#[cfg(not(miri))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What most programs need: streams, functions, windows, state, sources and sinks, error policies.
pub mod prelude {
    pub use hurtig_datastream::prelude::*;
    pub use hurtig_files::{BadLine, Fail, FileSink, FileSource, RollingPolicy, SideOutput, Skip};
    pub use hurtig_runtime::{Config, JobState};
}
