//! One suite, run against each server: see `support`. Tests that kill processes use real signals; nothing of the database is
//! a mock.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends where something is not as it should be"
)]

mod bind;
mod catalog;
mod cli;
mod concurrency;
#[cfg(feature = "failpoints")]
mod crash;
mod edge;
mod enforcer;
mod galera;
mod hostile;
mod lifecycle;
mod migrate;
mod outage;
mod recovery;
mod secrets;
mod shutdown;
mod support;
mod update;
