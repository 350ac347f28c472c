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

/// The oldest version of a server that knows every statement this program sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Minimum {
    /// The version.
    pub version: [u32; 3],
    /// What older ones lack, and what for.
    pub because: &'static str,
}

impl std::fmt::Display for Minimum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [major, minor, patch] = self.version;
        write!(f, "at least {major}.{minor}.{patch}: {}", self.because)
    }
}

impl ServerInfo {
    /// What the version should be at least, if it is older.
    pub fn too_old(&self) -> Option<Minimum> {
        let minimum = match self.dialect {
            Dialect::MariaDb => {
                Minimum { version: [10, 5, 2], because: "older ones have no CONNECTION ADMIN, the right to end other accounts' sessions" }
            }
            Dialect::MySql => Minimum {
                version: [8, 0, 30],
                because: "older ones have no REVOKE IF EXISTS, with which quotas are enforced, and no Innodb_redo_log_capacity_resized, \
                          which is read to know what can be sold",
            },
        };
        let mut numbers = self.version.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
        let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
        (version < minimum.version).then_some(minimum)
    }
}

pub(super) async fn info(connection: &mut MySqlConnection) -> Result<ServerInfo> {
    let doing = Error::doing("a look at the server's variables");
    let (version, hostname, datadir): (String, String, String) =
        sqlx::query_as("SELECT @@version, @@hostname, @@datadir").fetch_one(&mut *connection).await.map_err(&doing)?;
    let dialect = Dialect::of_version(&version);
    // MariaDB has no such variable, nor have versions of MySQL that are too old: whoever asks hears of those by their version
    let partial_revokes: Option<(String, String)> =
        sqlx::query_as("SHOW VARIABLES LIKE 'partial_revokes'").fetch_optional(connection).await.map_err(&doing)?;
    let partial_revokes = partial_revokes.is_some_and(|(_, value)| value == "ON");
    Ok(ServerInfo { dialect, version, partial_revokes, hostname, data_directory: PathBuf::from(datadir) })
}

/// Whether a node would take writes: reachable, part of a working cluster, not read-only.
pub(super) async fn check_writable(connection: &mut MySqlConnection) -> Result<()> {
    let doing = Error::doing("a health check");
    // a node that has lost its cluster accepts connections and SET, and would wait for the cluster on anything else
    let _ = super::raw(connection, "SET SESSION wsrep_sync_wait = 0".to_owned()).await;
    // a number, or from MariaDB 12 on a word, of which there are several that forbid writes
    let read_only: String = sqlx::query_scalar("SELECT CAST(@@read_only AS CHAR)").fetch_one(&mut *connection).await.map_err(&doing)?;
    if !accepts_writes(&read_only) {
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

/// What `@@read_only` says, as text.
fn accepts_writes(read_only: &str) -> bool {
    matches!(read_only, "0" | "OFF")
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
            let (name, redo): (String, String) = sqlx::query_as(dialect.redo_query()).fetch_one(&mut *connection).await.map_err(&doing)?;
            let redo_bytes = redo.parse().map_err(|_| Error::Data(format!("{name} is '{redo}', which is no number")))?;
            let log_bin: i64 = sqlx::query_scalar("SELECT @@log_bin").fetch_one(&mut *connection).await.map_err(&doing)?;
            Ok(ServerFigures { mariadb: dialect == Dialect::MariaDb, redo_bytes, log_bin: log_bin != 0 })
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_off_is_read_only() {
        assert!(["0", "OFF"].into_iter().all(accepts_writes));
        assert!(!["1", "ON", "NO_LOCK", "NO_LOCK_NO_ADMIN", "anything else"].into_iter().any(accepts_writes));
    }

    #[test]
    fn versions_that_are_too_old() {
        let minimum = |version: &str| {
            let (dialect, version) = (Dialect::of_version(version), version.to_owned());
            let info = ServerInfo { dialect, version, partial_revokes: false, hostname: String::new(), data_directory: PathBuf::new() };
            info.too_old().map(|minimum| minimum.version)
        };
        for enough in ["10.5.2-MariaDB", "10.11.14-MariaDB-0+deb12u2", "11.0.1-MariaDB", "8.0.30", "8.0.36-28.1", "8.4.0", "9.7.4-2"] {
            assert_eq!(minimum(enough), None, "{enough}");
        }
        for old in ["10.1.48-MariaDB", "10.5.1-MariaDB"] {
            assert_eq!(minimum(old), Some([10, 5, 2]), "{old}");
        }
        for old in ["5.7.44-48", "8.0.29", "8.0", "nothing"] {
            assert_eq!(minimum(old), Some([8, 0, 30]), "{old}");
        }
    }
}
