//! The BOSH release, as far as it can be seen without a director: lint, templates rendered as a director renders them, the
//! rendered jobs at work with real processes, a real server and a real load balancer. What cannot run here (bpm, monit,
//! route_registrar, the cf CLI with its Cloud Controller) has a stand-in that says so where it stands.
//!
//! Needs `scripts/install-bosh-test-tools`.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a test ends where something is not as it should be"
)]

mod accounts;
mod cf_push;
mod deployment;
mod errands;
mod lint;
mod operations;
mod packaging;
mod render;
mod routing;
mod story;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the other suite's; here only a part of it is used")]
mod support;
