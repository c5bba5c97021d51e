//! End-to-end tests and benchmarks of hurtig: what the tests share.

pub mod benchmarks;
pub mod cluster;
pub mod events;
pub mod faults;
pub mod folders;
pub mod http;
pub mod jobs;
pub mod network;
pub mod processes;
pub mod programs;
pub mod proxy;
pub mod services;
