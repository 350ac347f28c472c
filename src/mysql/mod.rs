//! How facts are stored and changed: the only folder that imports sqlx, and all the SQL there is. Public functions take
//! [`Mysql`] and own their transaction.

#![expect(clippy::disallowed_methods, reason = "this is the folder where they are allowed")]

pub mod accounts;
pub mod app_session;
pub mod audit_trail;
pub mod bindings;
pub mod capacity;
pub mod databases;
mod dialect;
pub mod doctor;
mod error;
pub mod instances;
pub mod last_operations;
pub mod leader;
mod nodes;
pub mod operations;
pub mod operator_accounts;
mod patience;
mod pool;
pub mod quota;
mod quote;
pub mod rebuild;
pub mod reconcile;
pub mod retired_accounts;
pub mod revocations;
pub mod schema;
pub mod server;
pub mod sessions;
pub mod tablespaces;
mod transact;
pub mod usage;

pub use dialect::Dialect;
pub use error::{Error, code};
pub use nodes::{Mysql, Node};
pub use server::ServerInfo;

/// The result of everything in this folder.
pub type Result<T> = std::result::Result<T, Error>;

/// Sends a statement as text, without placeholders: for what MySQL refuses to prepare, and so that passwords stay in no
/// statement cache. Names and values must have been quoted by `quote`.
async fn raw(connection: &mut sqlx::MySqlConnection, statement: String) -> sqlx::Result<sqlx::mysql::MySqlQueryResult> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await
}
