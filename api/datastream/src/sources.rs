//! Sources that need no connector.

pub(crate) mod collection;
pub(crate) mod generator;
pub(crate) mod iterator;
pub(crate) mod range;
pub(crate) mod socket;
mod strided;
