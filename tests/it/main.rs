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

mod asynchronous;
mod audit;
mod battery;
mod bind;
mod catalog;
#[cfg(feature = "failpoints")]
mod chaos;
mod cli;
mod cloud_controller;
mod concurrency;
#[cfg(feature = "failpoints")]
mod crash;
mod definers;
mod doctor;
mod edge;
mod enforcer;
mod galera;
mod giving_back;
mod holes;
mod hostile;
mod lifecycle;
mod limits;
mod load;
mod migrate;
mod network;
mod outage;
mod pool;
mod reconcile;
mod recovery;
mod rotation;
mod secrets;
mod shutdown;
mod support;
mod tls;
mod unseen;
mod update;
