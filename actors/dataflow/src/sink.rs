//! Sinks: where records go.
//!
//! A sink that publishes in two phases returns *committables* when a snapshot is taken. They are part of the
//! checkpoint; once it is complete the sink's committer publishes them, again after a restore, so publishing the
//! same committable twice must do no harm.

use crate::batch::{Batch, Rows};
use crate::error::OpResult;
use crate::operator::{Context, OpenContext, Operator, Place, Progress};
use crate::state::StateStore;
use crate::time::Timestamp;

/// Where records go.
pub trait Sink: Send + Sync + 'static {
    /// Records written.
    type In: crate::Record;

    /// Makes a subtask's writer.
    ///
    /// # Errors
    /// The target cannot be written to.
    fn writer(&self, place: &Place) -> OpResult<Box<dyn SinkWriter<Self::In>>>;

    /// Makes the committer, for sinks that publish in two phases.
    fn committer(&self) -> Option<Box<dyn Committer>> {
        None
    }
}

/// Writes one subtask's records.
pub trait SinkWriter<T>: Send {
    /// Declares state. Called once before anything else.
    ///
    /// # Errors
    /// The restored state does not fit, or the target cannot be written to.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Writes a batch.
    ///
    /// # Errors
    /// The target cannot be written to.
    fn write(&mut self, batch: Rows<T>, ctx: &mut SinkContext<'_>) -> OpResult;

    /// A snapshot is about to be taken: makes what was written durable, brings declared state up to date and returns
    /// what is to be published once the checkpoint is complete.
    ///
    /// # Errors
    /// The target cannot be written to.
    fn prepare_commit(&mut self, ctx: &mut SinkContext<'_>) -> OpResult<Vec<Vec<u8>>> {
        let _ = ctx;
        Ok(Vec::new())
    }

    /// The input has ended. What remains goes out with the next [`prepare_commit`](SinkWriter::prepare_commit).
    ///
    /// # Errors
    /// The target cannot be written to.
    fn end(&mut self, ctx: &mut SinkContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// When the writer next wants [`on_processing_time`](SinkWriter::on_processing_time).
    fn next_processing_time(&self) -> Option<Timestamp> {
        None
    }

    /// Processing time has come.
    ///
    /// # Errors
    /// The target cannot be written to.
    fn on_processing_time(&mut self, ctx: &mut SinkContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }
}

/// What a writer sees during a call.
pub struct SinkContext<'a> {
    /// The writer's states.
    pub states: &'a mut StateStore,
    /// Processing time at the start of the call.
    pub now: Timestamp,
    /// The watermark.
    pub watermark: Timestamp,
}

/// Publishes what writers prepared. Runs beside the job's master, may block.
pub trait Committer: Send {
    /// Publishes committables; those that were published before are skipped.
    ///
    /// # Errors
    /// The target cannot be written to; it is tried again.
    fn commit(&mut self, committables: Vec<Vec<u8>>) -> OpResult;
}

/// The operator that runs a sink's writer.
pub struct SinkOperator<S: Sink> {
    sink: std::sync::Arc<S>,
    writer: Option<Box<dyn SinkWriter<S::In>>>,
}

/// What sinks put out: nothing.
#[derive(Default, Clone)]
pub struct Nothing;

impl Batch for Nothing {
    fn len(&self) -> usize {
        0
    }
    fn duplicate(&self) -> crate::AnyBatch {
        Box::new(Nothing)
    }
    fn split_off(&mut self, _: usize) -> crate::AnyBatch {
        Box::new(Nothing)
    }
    fn type_name(&self) -> &'static str {
        "Nothing"
    }
}

impl<S: Sink> SinkOperator<S> {
    /// An operator for one subtask of the sink.
    pub fn new(sink: std::sync::Arc<S>) -> Self {
        SinkOperator { sink, writer: None }
    }

    fn call<R>(
        &mut self,
        ctx: &mut Context<'_, '_, Nothing>,
        call: impl FnOnce(&mut dyn SinkWriter<S::In>, &mut SinkContext<'_>) -> OpResult<R>,
    ) -> OpResult<R> {
        let writer = self.writer.as_mut().ok_or("the sink was not opened")?;
        let (now, watermark) = (ctx.processing_time(), ctx.watermark());
        call(&mut **writer, &mut SinkContext { states: ctx.states(), now, watermark })
    }
}

impl<S: Sink> Operator for SinkOperator<S> {
    type In = Rows<S::In>;
    type Out = Nothing;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let mut writer = self.sink.writer(ctx.place)?;
        writer.open(ctx)?;
        self.writer = Some(writer);
        Ok(())
    }

    fn process(&mut self, batch: Self::In, ctx: &mut Context<'_, '_, Nothing>) -> OpResult<Progress> {
        self.call(ctx, |writer, ctx| writer.write(batch, ctx))?;
        Ok(Progress::Done)
    }

    fn next_processing_time(&self, _: &StateStore) -> Option<Timestamp> {
        self.writer.as_ref().and_then(|writer| writer.next_processing_time())
    }

    fn on_processing_time(&mut self, ctx: &mut Context<'_, '_, Nothing>) -> OpResult<Progress> {
        self.call(ctx, |writer, ctx| writer.on_processing_time(ctx))?;
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_, '_, Nothing>) -> OpResult<Progress> {
        self.call(ctx, |writer, ctx| writer.end(ctx))?;
        Ok(Progress::Done)
    }

    fn before_snapshot(&mut self, ctx: &mut Context<'_, '_, Nothing>) -> OpResult<Vec<Vec<u8>>> {
        self.call(ctx, |writer, ctx| writer.prepare_commit(ctx))
    }
}
