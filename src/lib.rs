//! An Open Service Broker that sells MySQL databases on a shared server, and enforces what it sold.
//!
//! Layers, and who may import whom (a test holds it): `commands -> http -> broker -> mysql -> domain`;
//! `commands -> enforcer -> mysql`; `settings -> domain`, and everything above `domain` may read `settings`. One heavy crate,
//! one folder: sqlx in `mysql`, actix in `http`, config in `settings`, clap in `commands`.

pub mod broker;
pub mod commands;
pub mod domain;
pub mod enforcer;
mod failpoint;
pub mod http;
pub mod local_server;
pub mod mysql;
pub mod settings;
pub mod telemetry;
