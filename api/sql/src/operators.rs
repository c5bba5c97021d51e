//! The operators of SQL: synchronous, over batches of changes, with all they keep in declared state.

mod aggregate;
mod calc;
mod groups;
mod join;
mod lookup;
mod over;
mod pack;
mod rank;
mod session;
mod sort;
mod sort_key;
mod temporal_join;
mod window;

pub(crate) use aggregate::Aggregate;
pub(crate) use calc::Calc;
pub(crate) use join::JoinOperator;
pub(crate) use lookup::LookupJoin;
pub(crate) use over::{Over, OverTime};
pub(crate) use pack::{Pack, Unpack};
pub(crate) use rank::Rank;
pub(crate) use session::Session;
pub(crate) use sort::{Sort, TimeSort};
pub(crate) use temporal_join::TemporalJoin;
pub(crate) use window::WindowAssigner;

use crate::changes::Changes;
use arrow::error::ArrowError;
use hurtig_dataflow::operator::Context;

type Output<'c, 'a> = Context<'c, 'a, Changes>;

/// Puts changes out.
fn emit(ctx: &mut Output<'_, '_>, changes: Changes) -> Result<(), ArrowError> {
    ctx.out().append(changes)
}
