//! Sessions of accounts. A session keeps the privileges it began with, on every node it runs on: DROP USER and REVOKE replicate
//! and end none, so sessions are ended node by node.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};

use sqlx::MySqlConnection;

use super::pool::Connection;
use super::{Error, Mysql, Node, Result, code};

/// The highest connection id of each node, by the node's address.
pub type Watermarks = BTreeMap<String, u64>;

fn address(node: &Node) -> String {
    format!("{}:{}", node.endpoint.host, node.endpoint.port)
}

/// Reads the highest connection id on every node that answers. A session with a higher one began later.
///
/// # Errors
/// When the node in use does not answer; a node that is down has no sessions.
pub async fn watermarks(mysql: &Mysql) -> Result<Watermarks> {
    let mut found = Watermarks::new();
    for (address, mut connection) in connections(mysql).await? {
        let highest: u64 = sqlx::query_scalar("SELECT CAST(MAX(ID) AS UNSIGNED) FROM information_schema.PROCESSLIST")
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::doing("a look at the process list"))?;
        connection.end();
        found.insert(address, highest);
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
    for (address, mut connection) in connections(mysql).await? {
        let sessions: Vec<(u64, String)> = sqlx::query_as("SELECT CAST(ID AS UNSIGNED), USER FROM information_schema.PROCESSLIST")
            .fetch_all(&mut *connection)
            .await
            .map_err(Error::doing("a look at the process list"))?;
        for (id, user) in sessions {
            let is_meant = match targets.get(&user) {
                None => false,
                Some(None) => true,
                // a node that did not answer when the watermark was taken: every session there may be older
                Some(Some(watermarks)) => watermarks.get(&address).is_none_or(|watermark| id <= *watermark),
            };
            if !is_meant {
                continue;
            }
            match super::raw(&mut connection, format!("KILL CONNECTION {id}")).await.map_err(Error::doing("KILL")) {
                Ok(_) => killed += 1,
                Err(error) if error.code() == Some(code::NO_SUCH_THREAD) => {}
                Err(error) => return Err(error),
            }
        }
        connection.end();
    }
    Ok(killed)
}

/// A connection to every node that answers, by the node's address. The only node of a single server lends one of its pool.
async fn connections(mysql: &Mysql) -> Result<Vec<(String, Session)>> {
    if let [node] = mysql.nodes() {
        return Ok(vec![(address(node), Session::Pooled(mysql.connection().await?))]);
    }
    let mut found = Vec::new();
    for node in mysql.nodes() {
        match node.connect_in_time().await {
            Ok(connection) => found.push((address(node), Session::Own(connection))),
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
    fn end(self) {
        match self {
            Self::Pooled(connection) => connection.give_back(),
            Self::Own(connection) => drop(connection),
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
