//! Checkpoints in a real directory and in memory: written, moved, damaged, listed, deleted, restored.

// The allowance for tests in the lint's settings does not reach helpers outside `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod copies;
mod damage;
mod faults;
mod restore;
mod samples;
mod store;
