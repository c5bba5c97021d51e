//! hurtig is a distributed stateful stream processor: programs over streams of records, with event time, keyed state
//! and exactly-once results, run by supervised actors.
//!
//! # A first program
//! A program builds its job in a closure and hands it to [`run`], which reads the flags that every program takes
//! (`--parallelism`, `--checkpoint-dir`, `--checkpoint-interval`, `--from`, `-D key=value`), runs the job in this
//! process and shows its progress.
//!
//! ```no_run
//! use hurtig::prelude::*;
//!
//! fn main() -> std::process::ExitCode {
//!     hurtig::run("word count", |env, _args| {
//!         env.from_source(FileSource::text("books/*.txt"), WatermarkStrategy::none(), "books")
//!             .flat_map(|line: String, out: &mut Collector<'_, '_, _>| {
//!                 for word in line.split_whitespace() {
//!                     out.collect((word.to_lowercase(), 1u64));
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
//! [`execute`] runs a job to its end and returns, which suits tests and notebooks:
//!
//! ```
//! use hurtig::prelude::*;
//!
//! let env = Environment::new();
//! let doubled = env.from_collection(vec![1, 2, 3]).map(|n| n * 2).collect();
//! hurtig::execute("doubling", &env, &Config::default())?;
//! let mut found = doubled.take();
//! found.sort();
//! assert_eq!(found, [2, 4, 6]);
//! # Ok::<(), hurtig::RunError>(())
//! ```
//!
//! # Where to read on
//! * Streams and what can be done with them: [`DataStream`](datastream::DataStream),
//!   [`KeyedStream`](datastream::KeyedStream), [`Environment`](datastream::Environment).
//! * Event time: [`WatermarkStrategy`](dataflow::watermark::WatermarkStrategy).
//! * State and timers: [`KeyedProcessFunction`](datastream::KeyedProcessFunction).
//! * Files and formats: [`files`], [`formats`].
//! * A job within a larger program, fed by actors and delivering to actors: [`Cluster`], [`JobClient`], [`actors`].
//! * Every setting: [`Config`].

mod args;
mod program;
mod progress;

pub use args::{ArgsError, Ui, parse};
pub use hurtig_dataflow as dataflow;
pub use hurtig_datastream as datastream;
pub use hurtig_files as files;
pub use hurtig_formats as formats;
pub use hurtig_runtime::actors;
pub use hurtig_runtime::fault;
pub use hurtig_runtime::{Cluster, Config, JobClient, JobError, JobState, JobStatus, RunError, config};
pub use program::{configured, execute, run, run_with_args, runtime};
/// The actor library that jobs are made of, for programs that talk to them as actors.
pub use ractor;

/// Programs allocate batches by the million; this allocator is made for that.
#[cfg(not(miri))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// What most programs need.
pub mod prelude {
    pub use hurtig_datastream::prelude::*;
    pub use hurtig_files::{FileSink, FileSource};
    pub use hurtig_runtime::{Config, JobState};
}
