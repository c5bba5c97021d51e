//! The JobManager's memory on a real disk: fenced, pruned, killed, damaged, refused, compared with a model.

// The allowance for tests in the lint's settings does not reach helpers outside `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod damage;
mod jobs;
mod model;
mod programs;
