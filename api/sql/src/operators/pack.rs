//! Between sources and sinks, which carry batches as records, and operators, which are called with batches.

use super::emit;
use crate::changes::Changes;
use hurtig_dataflow::operator::{Context, Operator, Progress};
use hurtig_dataflow::{OpResult, Rows};

/// The batches of a source, or some columns of them.
pub(crate) struct Unpack {
    pub(crate) columns: Option<Vec<usize>>,
}

impl Operator for Unpack {
    type In = Rows<Changes>;
    type Out = Changes;

    fn process(&mut self, batch: Rows<Changes>, ctx: &mut Context<'_, '_, Changes>) -> OpResult<Progress> {
        for mut changes in batch.records {
            if let Some(columns) = &self.columns {
                changes.batch = changes.batch.project(columns)?;
            }
            emit(ctx, changes)?;
        }
        Ok(Progress::Done)
    }
}

/// Batches for a sink.
pub(crate) struct Pack;

impl Operator for Pack {
    type In = Changes;
    type Out = Rows<Changes>;

    fn process(&mut self, changes: Changes, ctx: &mut Context<'_, '_, Rows<Changes>>) -> OpResult<Progress> {
        ctx.emit(changes, None);
        Ok(Progress::Done)
    }
}
