//! Metrics: one list of all there are ([`names`]), what they are taken from ([`sight`]), and how they are recorded.
//!
//! Subtasks count for themselves and report some times a second ([`observe`](crate::observe)); nothing is recorded per
//! record or batch. What users' functions record through the `metrics` facade is kept by a registry of their subtask and goes
//! along with its reports. Whoever exports metrics has the last reports [recorded](record) when it is asked, through the
//! `metrics` facade, into any of its recorders.

pub mod names;
pub mod record;
pub mod registry;
pub mod sight;
