//! What answers in JSON, by resource.

pub mod checkpoints;
pub mod cluster;
pub mod jobs;
pub mod logs;
pub mod metrics;
pub mod profile;
pub mod programs;
pub mod vertices;
