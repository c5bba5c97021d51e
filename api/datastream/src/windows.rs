//! Windows: how records are assigned to them, when they fire, what is done with their records.

pub(crate) mod assigner;
pub(crate) mod evictor;
pub(crate) mod function;
pub(crate) mod stream;
pub(crate) mod trigger;
