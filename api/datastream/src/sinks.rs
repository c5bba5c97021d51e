//! Sinks that need no connector.

pub(crate) mod collect;
pub(crate) mod discard;
pub(crate) mod for_each;
pub(crate) mod print;
