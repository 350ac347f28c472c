//! Sessions of accounts. A session keeps the privileges it began with, on every node it runs on: DROP USER and REVOKE replicate
//! and end none, so sessions are ended node by node.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::MySqlConnection;

use super::patience::in_time;
use super::pool::Connection;
use super::{Error, Mysql, Node, Result, code};

/// The highest connection id of each node, by the node's address.
pub type Watermarks = BTreeMap<String, u64>;

fn address(node: &Node) -> String {
    format!("{}:{}", node.endpoint.host, node.endpoint.port)
}

/// How long a node may take to apply what the node in use has done, before its watermark is left to a later look.
const LAG: Duration = Duration::from_secs(3);
/// How long a look at the sessions of a node may take.
const LOOK: Duration = Duration::from_secs(10);

/// Reads the highest connection id on every node of which none is `known`, once the node has applied everything that was done
/// before: a session with a higher one begins with the rights there are now. Nodes that lag, or do not answer, are left out.
///
/// # Errors
/// When the node in use does not answer.
pub async fn watermarks(mysql: &Mysql, known: &Watermarks) -> Result<Watermarks> {
    let mut found = Watermarks::new();
    for (node, mut connection) in connections(mysql, |node| !known.contains_key(&address(node))).await? {
        // every session waits for what any node has committed before it reads (`wsrep_sync_wait`, see `nodes`)
        let look = async {
            sqlx::query_scalar("SELECT CAST(MAX(ID) AS UNSIGNED) FROM information_schema.PROCESSLIST")
                .fetch_one(&mut *connection)
                .await
                .map_err(Error::doing("a look at the process list"))
        };
        match in_time("a look at the process list", LAG, look).await {
            Ok(highest) => {
                found.insert(address(node), highest);
                connection.finish();
            }
            Err(error) if std::ptr::eq(node, mysql.current()) => return Err(error),
            Err(error) => tracing::warn!(host = %node.endpoint.host, %error, "a node lags: all sessions on it that are meant are ended"),
        }
    }
    Ok(found)
}

/// Whose sessions to end: all of a user's, or those not younger than a watermark.
pub type Targets = BTreeMap<String, Option<Watermarks>>;

/// Ends sessions on every node that answers. Returns how many.
///
/// # Errors
/// When the node in use does not answer.
pub async fn kill(mysql: &Mysql, targets: &Targets) -> Result<usize> {
    if targets.is_empty() {
        return Ok(0);
    }
    let mut killed = 0;
    let mut failure = None;
    for (node, mut connection) in connections(mysql, |_| true).await? {
        let work = async {
            connection.wait_for_nobody().await;
            kill_on(&mut connection, &address(node), targets).await
        };
        match in_time("the end of sessions", LOOK, work).await {
            Ok(number) => {
                killed += number;
                connection.finish();
            }
            // those on the other nodes must not wait for it
            Err(error) => failure = Some(error),
        }
    }
    failure.map_or(Ok(killed), Err)
}

async fn kill_on(connection: &mut MySqlConnection, address: &str, targets: &Targets) -> Result<usize> {
    let mut killed = 0;
    let sessions: Vec<(u64, String)> = sqlx::query_as("SELECT CAST(ID AS UNSIGNED), USER FROM information_schema.PROCESSLIST")
        .fetch_all(&mut *connection)
        .await
        .map_err(Error::doing("a look at the process list"))?;
    // a node that was started anew counts from one, and nobody on it is older than a watermark beyond that
    let last = if targets.values().any(Option::is_some) { last_session(connection).await? } else { u64::MAX };
    for (id, user) in sessions {
        let is_meant = match targets.get(&user) {
            None => false,
            Some(None) => true,
            // a node without a watermark did not answer, or lagged, when it was taken: every session there may be older
            Some(Some(watermarks)) => watermarks.get(address).is_none_or(|watermark| *watermark <= last && id <= *watermark),
        };
        if !is_meant {
            continue;
        }
        match super::raw(connection, format!("KILL CONNECTION {id}")).await.map_err(Error::doing("KILL")) {
            Ok(_) => killed += 1,
            Err(error) if error.code() == Some(code::NO_SUCH_THREAD) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(killed)
}

/// The number of the last session that began.
async fn last_session(connection: &mut MySqlConnection) -> Result<u64> {
    let (_, last): (String, String) = sqlx::query_as("SHOW GLOBAL STATUS LIKE 'Connections'")
        .fetch_one(connection)
        .await
        .map_err(Error::doing("a look at the number of sessions"))?;
    Ok(last.parse().unwrap_or(u64::MAX))
}

/// A connection to every node that answers and is `wanted`. The only node of a single server lends one of its pool.
async fn connections(mysql: &Mysql, wanted: impl Fn(&Node) -> bool) -> Result<Vec<(&Node, Session)>> {
    if let [node] = mysql.nodes() {
        return Ok(if wanted(node) { vec![(node, Session::Pooled(mysql.connection().await?))] } else { Vec::new() });
    }
    let mut found = Vec::new();
    for node in mysql.nodes().iter().filter(|node| wanted(node)) {
        match node.connect_in_time().await {
            Ok(connection) => found.push((node, Session::Own(connection))),
            Err(error) if std::ptr::eq(node, mysql.current()) => return Err(error),
            Err(error) => tracing::warn!(host = %node.endpoint.host, %error, "sessions on this node were not looked at"),
        }
    }
    Ok(found)
}

enum Session {
    Pooled(Connection),
    Own(MySqlConnection),
}

impl Session {
    /// On a node of a cluster that lags, reads would wait until it has caught up (`wsrep_sync_wait`, see `nodes`).
    async fn wait_for_nobody(&mut self) {
        if let Self::Own(connection) = self {
            // no such variable where there is no cluster
            let _ = super::raw(connection, "SET SESSION wsrep_sync_wait = 0".to_owned()).await;
        }
    }

    /// Every answer has come.
    fn finish(self) {
        if let Self::Pooled(connection) = self {
            connection.give_back();
        }
    }
}

impl Deref for Session {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}

impl DerefMut for Session {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        match self {
            Self::Pooled(connection) => connection,
            Self::Own(connection) => connection,
        }
    }
}
