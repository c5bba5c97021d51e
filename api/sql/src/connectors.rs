//! The connectors that come with SQL.

mod batches;
mod blackhole;
mod collect;
mod datagen;
mod filesystem;
mod formats;
mod nexmark;
mod parse;
mod print;
mod random;
mod text;

#[cfg(test)]
pub(crate) mod testing;

pub(crate) use batches::{BatchesConnector, BatchesSource};
pub use collect::{BatchOfKinds, TableCollector, TextRow};
#[cfg(test)]
pub(crate) use print::row_text;

use crate::connector::Connector;
use std::sync::Arc;

/// All of them.
pub(crate) fn all() -> Vec<Arc<dyn Connector>> {
    vec![
        Arc::new(blackhole::Blackhole),
        Arc::new(datagen::Datagen),
        Arc::new(filesystem::Filesystem),
        Arc::new(nexmark::Nexmark),
        Arc::new(print::Print),
    ]
}
