//! Runs a user's function over a stream without keys. Keeps what the function declares.

use crate::context::ProcessContext;
use crate::stream::DataStream;
use hurtig_dataflow::batch::RowsIter;
use hurtig_dataflow::operator::{Context, OpenContext, Operator, Progress};
use hurtig_dataflow::{OpResult, Record, Rows};
use parking_lot::Mutex;

/// A function over the records of a stream, with side outputs and operator state. Each subtask works with its own clone.
///
/// ```
/// use hurtig_datastream::prelude::*;
///
/// #[derive(Clone)]
/// struct Split {
///     odd: OutputTag<u64>,
/// }
///
/// impl ProcessFunction<u64> for Split {
///     type Out = u64;
///
///     fn process(&mut self, n: u64, ctx: &mut ProcessContext<'_, u64>) -> OpResult {
///         match n % 2 {
///             0 => ctx.emit(n),
///             _ => ctx.emit_side(&self.odd, n),
///         }
///         Ok(())
///     }
/// }
///
/// let env = Environment::new();
/// let odd = OutputTag::new("odd");
/// let even = env.from_range(0..10).process(Split { odd: odd.clone() });
/// even.print();
/// even.side_output(&odd).discard();
/// ```
pub trait ProcessFunction<T: Record>: Send + 'static {
    /// Records put out.
    type Out: Record;

    /// Declares state. Called once per subtask before anything else.
    ///
    /// # Errors
    /// Fails the attempt.
    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        let _ = ctx;
        Ok(())
    }

    /// Takes a record.
    ///
    /// # Errors
    /// Fails the attempt.
    fn process(&mut self, record: T, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult;

    /// The input has ended.
    ///
    /// # Errors
    /// Fails the attempt.
    fn on_end(&mut self, ctx: &mut ProcessContext<'_, Self::Out>) -> OpResult {
        let _ = ctx;
        Ok(())
    }
}

impl<T: Record> DataStream<T> {
    /// Runs a function over the stream; see [`ProcessFunction`].
    pub fn process<F: ProcessFunction<T> + Clone>(&self, function: F) -> DataStream<F::Out> {
        let prototype = Mutex::new(function);
        self.transform("Process", move || Process {
            function: prototype.lock().clone(),
            rest: RowsIter::default(),
        })
    }
}

struct Process<T, F> {
    function: F,
    rest: RowsIter<T>,
}

impl<T: Record, F: ProcessFunction<T>> Operator for Process<T, F> {
    type In = Rows<T>;
    type Out = Rows<F::Out>;

    fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
        self.function.open(ctx)
    }

    fn process(&mut self, batch: Rows<T>, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.rest = batch.into_iter_timed();
        self.resume(ctx)
    }

    fn resume(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        for (record, time) in self.rest.by_ref() {
            self.function.process(record, &mut ProcessContext { parts: ctx.parts(), time })?;
            if ctx.is_full() {
                return Ok(Progress::Yield);
            }
        }
        Ok(Progress::Done)
    }

    fn on_end(&mut self, ctx: &mut Context<'_, '_, Rows<F::Out>>) -> OpResult<Progress> {
        self.function.on_end(&mut ProcessContext { parts: ctx.parts(), time: None })?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hurtig_dataflow::harness::Harness;
    use hurtig_dataflow::operator::OutputTag;
    use hurtig_dataflow::state::{Handle, ItemList};

    #[derive(Clone)]
    struct HoldBack {
        tag: OutputTag<u64>,
        held: Handle<ItemList<u64>>,
    }

    impl ProcessFunction<u64> for HoldBack {
        type Out = u64;

        fn open(&mut self, ctx: &mut OpenContext<'_>) -> OpResult {
            self.held = ctx.states.list("held")?;
            Ok(())
        }

        fn process(&mut self, n: u64, ctx: &mut ProcessContext<'_, u64>) -> OpResult {
            ctx.emit_side(&self.tag, n);
            let held = self.held;
            ctx.states().get_mut(held).items.push(n);
            Ok(())
        }

        fn on_end(&mut self, ctx: &mut ProcessContext<'_, u64>) -> OpResult {
            let held = self.held;
            for n in std::mem::take(&mut ctx.states().get_mut(held).items) {
                ctx.emit(n);
            }
            Ok(())
        }
    }

    #[test]
    fn operator_state_survives_a_restart_and_is_there_at_the_end() {
        let tag = OutputTag::new("copies");
        let function = HoldBack { tag: tag.clone(), held: Handle::default() };
        let mut harness =
            Harness::new(move || Process { function: function.clone(), rest: RowsIter::default() })
                .with_side(&tag);
        harness.push([(1u64, 0), (2, 0)]);
        harness.restart_through(2);
        harness.push([(3u64, 0)]);
        assert!(harness.output().is_empty());
        harness.end();
        let mut output = harness.output();
        output.sort_unstable();
        assert_eq!(output, [1, 2, 3]);
        assert_eq!(harness.side_output(&tag), [1, 2, 3]);
    }
}
