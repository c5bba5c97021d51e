//! Operators: what happens to the records of a stream.
//!
//! An operator is synchronous and owns no clock, thread or file. It is called with one batch at a time and never
//! waits: where it has more output than fits a batch it returns [`Progress::Yield`] and is called again once the
//! output has gone on; where it waits for something outside it returns [`Progress::Blocked`] and is called again
//! when its [`Waker`] is used.

use crate::batch::{AnyBatch, Batch, Record, Rows, downcast};
use crate::element::Element;
use crate::error::{Error, OpResult};
use crate::ids::{Attempt, JobId};
use crate::state::{StateStore, StateValue};
use crate::time::Timestamp;
use std::any::Any;
use std::collections::VecDeque;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All done.
    Done,
    /// Send my output on, then call me again.
    Yield,
    /// Call me again when my waker was used.
    Blocked,
}

/// Wakes the subtask an operator or source belongs to: it is called again soon. Cheap to clone and to call.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// Runs a future beside the subtask; it is dropped when the attempt ends.
pub type Spawner = Arc<dyn Fn(Pin<Box<dyn Future<Output = ()> + Send>>) + Send + Sync>;

/// Where and what an operator instance is.
#[derive(Clone)]
pub struct Place {
    /// The job.
    pub job: JobId,
    /// The job's name.
    pub job_name: Arc<str>,
    /// The operator's name.
    pub operator: Arc<str>,
    /// The operator's uid.
    pub uid: Arc<str>,
    /// Index of this instance.
    pub subtask: usize,
    /// Number of instances.
    pub parallelism: usize,
    /// Which try at the job this is.
    pub attempt: Attempt,
    /// Whether checkpoints are taken, so that a two-phase-commit sink must wait for them.
    pub checkpointing: bool,
    /// Records a batch should hold under load.
    pub batch_size: usize,
    /// Wakes this subtask.
    pub waker: Waker,
    /// Runs futures for this subtask.
    pub spawner: Spawner,
}

/// What an operator sees when it opens: its place, and the store to declare its state in.
pub struct OpenContext<'a> {
    /// Where the operator is.
    pub place: &'a Place,
    /// Where it declares its state. What the checkpoint holds is there as soon as it is declared.
    pub states: &'a mut StateStore,
    /// Whether the operator starts from a checkpoint.
    pub restored: bool,
}

/// Names a side output and the type of its records.
pub struct OutputTag<T> {
    name: Arc<str>,
    record: PhantomData<fn() -> T>,
}

impl<T> Clone for OutputTag<T> {
    fn clone(&self) -> Self {
        OutputTag { name: Arc::clone(&self.name), record: PhantomData }
    }
}

impl<T: Record> OutputTag<T> {
    /// A tag; operators and readers agree on it by its name.
    pub fn new(name: &str) -> Self {
        OutputTag { name: name.into(), record: PhantomData }
    }

    /// The tag's name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }
}

/// What one call of an operator has put out, in order, and what it may look at.
pub struct Call<'a> {
    /// The operator's states.
    pub states: &'a mut StateStore,
    /// The operator's watermark.
    pub watermark: Timestamp,
    /// Processing time at the start of the call.
    pub now: Timestamp,
    /// Records a batch should hold under load.
    pub batch_size: usize,
    /// Elements for the main output.
    pub main: &'a mut VecDeque<Element>,
    /// Batches for side outputs.
    pub side: &'a mut Vec<(Arc<str>, AnyBatch)>,
    /// Late records the operator has dropped, in all calls.
    pub late_dropped: &'a mut u64,
}

/// What an operator sees during a call.
pub struct Context<'c, 'a, Out> {
    call: &'c mut Call<'a>,
    out: &'c mut Out,
}

impl<'c, 'a, Out: Batch + Default> Context<'c, 'a, Out> {
    /// A context over a call; `out` is where the operator gathers its output.
    pub fn new(call: &'c mut Call<'a>, out: &'c mut Out) -> Self {
        Context { call, out }
    }

    /// The operator's states.
    #[inline]
    pub fn states(&mut self) -> &mut StateStore {
        self.call.states
    }

    /// The batch being gathered for the main output, with the states.
    #[inline]
    pub fn out_and_states(&mut self) -> (&mut Out, &mut StateStore) {
        (self.out, self.call.states)
    }

    /// The batch being gathered for the main output.
    #[inline]
    pub fn out(&mut self) -> &mut Out {
        self.out
    }

    /// The watermark: no record at or below it is on time.
    #[inline]
    pub fn watermark(&self) -> Timestamp {
        self.call.watermark
    }

    /// Processing time, taken when the call began.
    #[inline]
    pub fn processing_time(&self) -> Timestamp {
        self.call.now
    }

    /// Whether the output is as large as a batch should be: time to return [`Progress::Yield`].
    #[inline]
    pub fn is_full(&self) -> bool {
        self.out.len() >= self.call.batch_size
    }

    /// Records a batch should hold under load.
    pub fn batch_size(&self) -> usize {
        self.call.batch_size
    }

    /// Puts a watermark into the output after what has been put out so far. Only for operators that do not
    /// [forward watermarks](Operator::forwards_watermarks).
    pub fn emit_watermark(&mut self, watermark: Timestamp) {
        if !self.out.is_empty() {
            self.call.main.push_back(Element::Batch(Box::new(std::mem::take(self.out))));
        }
        self.call.main.push_back(Element::Watermark(watermark));
    }

    /// Says, after what has been put out so far, that the output has no records for now, or has some again.
    pub fn emit_status(&mut self, idle: bool) {
        if !self.out.is_empty() {
            self.call.main.push_back(Element::Batch(Box::new(std::mem::take(self.out))));
        }
        self.call.main.push_back(if idle { Element::Idle } else { Element::Active });
    }

    /// Adds a record to a side output.
    pub fn emit_side<T: Record>(&mut self, tag: &OutputTag<T>, record: T, time: Option<Timestamp>) {
        Sides(self.call.side).emit(tag, record, time);
    }

    /// Counts late records that the operator drops.
    pub fn count_late_dropped(&mut self, records: u64) {
        *self.call.late_dropped += records;
    }

    /// Everything at once, borrowed apart: for contexts that are built on this one.
    #[inline]
    pub fn parts(&mut self) -> Parts<'_, Out> {
        Parts {
            states: self.call.states,
            out: self.out,
            sides: Sides(self.call.side),
            watermark: self.call.watermark,
            now: self.call.now,
            batch_size: self.call.batch_size,
            late_dropped: self.call.late_dropped,
        }
    }
}

/// A [`Context`] taken apart; see [`Context::parts`].
pub struct Parts<'p, Out> {
    /// The operator's states.
    pub states: &'p mut StateStore,
    /// The batch being gathered for the main output.
    pub out: &'p mut Out,
    /// The side outputs.
    pub sides: Sides<'p>,
    /// The watermark.
    pub watermark: Timestamp,
    /// Processing time at the start of the call.
    pub now: Timestamp,
    /// Records a batch should hold under load.
    pub batch_size: usize,
    /// Late records the operator has dropped, to be counted up.
    pub late_dropped: &'p mut u64,
}

/// The side outputs of a call.
pub struct Sides<'p>(&'p mut Vec<(Arc<str>, AnyBatch)>);

impl Sides<'_> {
    /// Adds a record to a side output.
    pub fn emit<T: Record>(&mut self, tag: &OutputTag<T>, record: T, time: Option<Timestamp>) {
        let at = self.0.iter().position(|(name, _)| *name == tag.name).unwrap_or_else(|| {
            self.0.push((Arc::clone(&tag.name), Box::new(Rows::<T>::default())));
            self.0.len() - 1
        });
        let any: &mut dyn Any = &mut *self.0[at].1;
        // A tag of the same name but another type is refused when the graph is built.
        if let Some(rows) = any.downcast_mut::<Rows<T>>() {
            rows.push(record, time);
        }
    }
}

impl<T: Record> Context<'_, '_, Rows<T>> {
    /// Adds a record to the main output.
    #[inline]
    pub fn emit(&mut self, record: T, time: Option<Timestamp>) {
        self.out.push(record, time);
    }
}

/// An operator with one input.
///
/// ```
/// use hurtig_dataflow::harness::Harness;
/// use hurtig_dataflow::operator::{Context, Operator, Progress};
/// use hurtig_dataflow::{OpResult, Rows};
///
/// struct Double;
/// impl Operator for Double {
///     type In = Rows<i64>;
///     type Out = Rows<i64>;
///     fn process(&mut self, batch: Rows<i64>, ctx: &mut Context<'_, '_, Rows<i64>>) -> OpResult<Progress> {
///         for (record, time) in batch.into_iter_timed() {
///             ctx.emit(record * 2, time);
///         }
///         Ok(Progress::Done)
///     }
/// }
///
/// let mut harness = Harness::new(|| Double);
/// harness.push([(1i64, 10), (2, 20)]);
/// assert_eq!(harness.output(), [2, 4]);
/// ```
pub trait Operator: Send + 'static {
    /// Batches read.
    type In: Batch;
    /// Batches written.
    type Out: Batch + Default;

    /// Declares state. Called once before anything else.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Takes a batch.
    fn process(&mut self, batch: Self::In, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress>;

    /// Goes on with the batch of the last [`process`](Operator::process) that was not done.
    fn resume(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// The watermark has advanced to `ctx.watermark()`. Called again with the same until done.
    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// When the operator next wants [`on_processing_time`](Operator::on_processing_time).
    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        let _ = states;
        None
    }

    /// Processing time has reached what [`next_processing_time`](Operator::next_processing_time) asked for.
    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// The waker was used.
    fn on_wake(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// The input has ended. Called again until done.
    fn on_end(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// A snapshot is about to be taken: last chance to bring declared state up to date. Returns what a
    /// two-phase-commit sink wants published once the checkpoint is complete.
    fn before_snapshot(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Vec<Vec<u8>>> {
        let _ = ctx;
        Ok(Vec::new())
    }

    /// Whether the runtime passes watermarks on after [`on_watermark`](Operator::on_watermark). An operator that
    /// holds records back says no and emits watermarks itself.
    fn forwards_watermarks(&self) -> bool {
        true
    }
}

/// An operator with two inputs of different types.
pub trait TwoInputOperator: Send + 'static {
    /// Batches of the first input.
    type In1: Batch;
    /// Batches of the second input.
    type In2: Batch;
    /// Batches written.
    type Out: Batch + Default;

    /// Declares state. Called once before anything else.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Takes a batch of the first input.
    fn process1(&mut self, batch: Self::In1, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress>;

    /// Takes a batch of the second input.
    fn process2(&mut self, batch: Self::In2, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress>;

    /// Goes on with the batch that was not done.
    fn resume(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// The watermark, the smaller of both inputs', has advanced. Called again with the same until done.
    fn on_watermark(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// When the operator next wants [`on_processing_time`](TwoInputOperator::on_processing_time).
    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        let _ = states;
        None
    }

    /// Processing time has come.
    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }

    /// Both inputs have ended. Called again until done.
    fn on_end(&mut self, ctx: &mut Context<'_, '_, Self::Out>) -> OpResult<Progress> {
        let _ = ctx;
        Ok(Progress::Done)
    }
}

/// Combines records into an accumulator and makes a result of it.
///
/// ```
/// use hurtig_dataflow::operator::AggregateFunction;
/// struct Mean;
/// impl AggregateFunction for Mean {
///     type In = f64;
///     type Accumulator = (f64, u64);
///     type Out = f64;
///     fn create(&self) -> (f64, u64) { (0.0, 0) }
///     fn add(&self, (sum, n): &mut (f64, u64), x: &f64) { *sum += x; *n += 1; }
///     fn merge(&self, (sum, n): &mut (f64, u64), other: &(f64, u64)) { *sum += other.0; *n += other.1; }
///     fn result(&self, (sum, n): &(f64, u64)) -> f64 { sum / *n as f64 }
/// }
/// let mean = Mean;
/// let mut accumulator = mean.create();
/// mean.add(&mut accumulator, &1.0);
/// mean.add(&mut accumulator, &2.0);
/// assert_eq!(mean.result(&accumulator), 1.5);
/// ```
pub trait AggregateFunction: Send + Sync + 'static {
    /// Records read.
    type In;
    /// What is kept meanwhile.
    type Accumulator: StateValue + Clone;
    /// The result.
    type Out;

    /// An accumulator of nothing.
    fn create(&self) -> Self::Accumulator;
    /// Takes a record in.
    fn add(&self, accumulator: &mut Self::Accumulator, input: &Self::In);
    /// Takes another accumulator in.
    fn merge(&self, accumulator: &mut Self::Accumulator, other: &Self::Accumulator);
    /// The result so far.
    fn result(&self, accumulator: &Self::Accumulator) -> Self::Out;
}

/// An operator seen without its types: what a chain is made of. Methods are those of [`Operator`], with the input's
/// number as `port`.
#[allow(missing_docs)]
pub trait DynOperator: Send {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult;
    fn process(&mut self, port: usize, batch: AnyBatch, call: &mut Call<'_>) -> OpResult<Progress>;
    fn resume(&mut self, call: &mut Call<'_>) -> OpResult<Progress>;
    fn on_watermark(&mut self, call: &mut Call<'_>) -> OpResult<Progress>;
    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp>;
    fn on_processing_time(&mut self, call: &mut Call<'_>) -> OpResult<Progress>;
    fn on_wake(&mut self, call: &mut Call<'_>) -> OpResult<Progress>;
    fn on_end(&mut self, call: &mut Call<'_>) -> OpResult<Progress>;
    fn before_snapshot(&mut self, call: &mut Call<'_>) -> OpResult<Vec<Vec<u8>>>;
    fn forwards_watermarks(&self) -> bool;
}

/// Takes the types off an operator with one input.
pub fn erase<O: Operator>(operator: O) -> Box<dyn DynOperator> {
    Box::new(Erased { operator, out: O::Out::default() })
}

/// Takes the types off an operator with two inputs.
pub fn erase_two<O: TwoInputOperator>(operator: O) -> Box<dyn DynOperator> {
    Box::new(ErasedTwo { operator, out: O::Out::default() })
}

struct Erased<O: Operator> {
    operator: O,
    out: O::Out,
}

struct ErasedTwo<O: TwoInputOperator> {
    operator: O,
    out: O::Out,
}

macro_rules! call {
    ($self:ident, $call:ident, |$ctx:ident| $body:expr) => {{
        let mut context = Context::new($call, &mut $self.out);
        let $ctx = &mut context;
        let result = $body;
        if !$self.out.is_empty() {
            $call.main.push_back(Element::Batch(Box::new(std::mem::take(&mut $self.out))));
        }
        result
    }};
}

impl<O: Operator> DynOperator for Erased<O> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.operator.open(ctx)
    }
    fn process(&mut self, _port: usize, batch: AnyBatch, call: &mut Call<'_>) -> OpResult<Progress> {
        let batch = downcast::<O::In>(batch)?;
        call!(self, call, |ctx| self.operator.process(batch, ctx))
    }
    fn resume(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.resume(ctx))
    }
    fn on_watermark(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_watermark(ctx))
    }
    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        self.operator.next_processing_time(states)
    }
    fn on_processing_time(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_processing_time(ctx))
    }
    fn on_wake(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_wake(ctx))
    }
    fn on_end(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_end(ctx))
    }
    fn before_snapshot(&mut self, call: &mut Call<'_>) -> OpResult<Vec<Vec<u8>>> {
        call!(self, call, |ctx| self.operator.before_snapshot(ctx))
    }
    fn forwards_watermarks(&self) -> bool {
        self.operator.forwards_watermarks()
    }
}

impl<O: TwoInputOperator> DynOperator for ErasedTwo<O> {
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.operator.open(ctx)
    }
    fn process(&mut self, port: usize, batch: AnyBatch, call: &mut Call<'_>) -> OpResult<Progress> {
        match port {
            0 => {
                let batch = downcast::<O::In1>(batch)?;
                call!(self, call, |ctx| self.operator.process1(batch, ctx))
            }
            1 => {
                let batch = downcast::<O::In2>(batch)?;
                call!(self, call, |ctx| self.operator.process2(batch, ctx))
            }
            _ => Err(Error::Graph(format!("an operator with two inputs has no input {port}")).into()),
        }
    }
    fn resume(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.resume(ctx))
    }
    fn on_watermark(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_watermark(ctx))
    }
    fn next_processing_time(&self, states: &StateStore) -> Option<Timestamp> {
        self.operator.next_processing_time(states)
    }
    fn on_processing_time(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_processing_time(ctx))
    }
    fn on_wake(&mut self, _call: &mut Call<'_>) -> OpResult<Progress> {
        Ok(Progress::Done)
    }
    fn on_end(&mut self, call: &mut Call<'_>) -> OpResult<Progress> {
        call!(self, call, |ctx| self.operator.on_end(ctx))
    }
    fn before_snapshot(&mut self, _call: &mut Call<'_>) -> OpResult<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
    fn forwards_watermarks(&self) -> bool {
        true
    }
}
