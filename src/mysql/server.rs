//! What the server says of itself.

use std::path::PathBuf;

use sqlx::MySqlConnection;

use super::dialect::Dialect;
use super::{Error, Mysql, Result};
use crate::domain::capacity::ServerFigures;

/// What a server is; it does not change while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerInfo {
    /// MariaDB or MySQL.
    pub dialect: Dialect,
    /// `@@version`.
    pub version: String,
    /// MySQL's `partial_revokes`: grant patterns are taken literally.
    pub partial_revokes: bool,
    /// `@@hostname`.
    pub hostname: String,
    /// `@@datadir`.
    pub data_directory: PathBuf,
}

pub(super) async fn info(connection: &mut MySqlConnection) -> Result<ServerInfo> {
    let doing = Error::doing("a look at the server's variables");
    let (version, hostname, datadir): (String, String, String) =
        sqlx::query_as("SELECT @@version, @@hostname, @@datadir").fetch_one(&mut *connection).await.map_err(&doing)?;
    let dialect = Dialect::of_version(&version);
    let partial_revokes = match dialect {
        Dialect::MariaDb => false,
        Dialect::MySql => sqlx::query_scalar::<_, i64>("SELECT @@partial_revokes").fetch_one(connection).await.map_err(&doing)? != 0,
    };
    Ok(ServerInfo { dialect, version, partial_revokes, hostname, data_directory: PathBuf::from(datadir) })
}

/// Whether a node would take writes: reachable, part of a working cluster, not read-only.
pub(super) async fn check_writable(connection: &mut MySqlConnection) -> Result<()> {
    let doing = Error::doing("a health check");
    // a node that has lost its cluster accepts connections and SET, and would wait for the cluster on anything else
    let _ = super::raw(connection, "SET SESSION wsrep_sync_wait = 0".to_owned()).await;
    let read_only: i64 = sqlx::query_scalar("SELECT @@read_only").fetch_one(&mut *connection).await.map_err(&doing)?;
    if read_only != 0 {
        return Err(Error::Unavailable("the server is read-only".to_owned()));
    }
    let ready: Option<(String, String)> =
        sqlx::query_as("SHOW STATUS LIKE 'wsrep_ready'").fetch_optional(&mut *connection).await.map_err(&doing)?;
    let provider: Option<(String, String)> =
        sqlx::query_as("SHOW VARIABLES LIKE 'wsrep_on'").fetch_optional(&mut *connection).await.map_err(&doing)?;
    match (provider, ready) {
        (Some((_, on)), Some((_, ready))) if on == "ON" && ready != "ON" => {
            Err(Error::Unavailable("the node is not part of a working cluster (wsrep_ready is not ON)".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The figures that the overhead depends on; read anew each time, because an operator may change them.
///
/// # Errors
/// Whatever keeps the server from answering.
pub async fn figures(mysql: &Mysql) -> Result<ServerFigures> {
    let dialect = mysql.info().await?.dialect;
    mysql
        .repeat("a look at the server's sizes", |mut connection| async move {
            let doing = Error::doing("a look at the server's sizes");
            let redo_bytes: u64 = sqlx::query_scalar(dialect.redo_query()).fetch_one(&mut *connection).await.map_err(&doing)?;
            let log_bin: i64 = sqlx::query_scalar("SELECT @@log_bin").fetch_one(&mut *connection).await.map_err(&doing)?;
            Ok(ServerFigures { mariadb: dialect == Dialect::MariaDb, redo_bytes, log_bin: log_bin != 0 })
        })
        .await
}
