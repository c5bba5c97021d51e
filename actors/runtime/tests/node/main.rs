//! A node against other processes, over real connections. The other process is this test program again, started as
//! the test `the_other_process`; it is steered by messages of the node under test, and ends with its standard input.
// The allowance for tests in the lint's settings does not reach helpers outside `#[test]` functions.
#![allow(clippy::unwrap_used)]

mod failure;
mod messages;
mod other;
mod refusal;
mod support;
