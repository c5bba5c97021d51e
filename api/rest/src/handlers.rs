//! What answers in JSON, by resource.

pub mod checkpoints;
pub mod cluster;
pub mod jobs;
pub mod metrics;
pub mod programs;
pub mod vertices;
