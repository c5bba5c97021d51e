//! The REST interface of hurtig and its web page: routes and JSON shapes are those of Flink where it has a counterpart, so
//! that its dashboard, its command line and other tools find what they look for.
//!
//! A [`Server`] asks the JobManager what the command line asks too ([`ClusterClient`]); it knows nothing else of jobs.
//! Handlers answer in JSON ([`handlers`]) or as pages ([`page`]), both from a [`view::View`]. Pages are rendered here and
//! kept up to date by server-sent events ([`live`]); they work without a script as well.
//!
//! # Invariants
//! * No request changes anything that a browser was led to send by another site ([`guard`]).
//! * Nobody but this machine reaches the server without TLS and a token, unless the user has said so.
//! * What comes in a request is bounded before it is kept.
//!
//! [`ClusterClient`]: hurtig_runtime::daemon::client::ClusterClient

pub mod app;
pub mod error;
pub mod guard;
pub mod handlers;
mod https;
pub mod live;
pub mod operations;
pub mod page;
pub mod reporters;
pub mod routes;
pub mod server;
pub mod static_files;
pub mod view;

pub use reporters::Reporters;
pub use server::{Options, Server, StartError};
