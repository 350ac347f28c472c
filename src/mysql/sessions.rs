//! Sessions of accounts. A session keeps the privileges it began with, on every node it runs on: DROP USER and REVOKE replicate
//! and end none, so sessions are ended node by node.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::{MySqlConnection, Row as _};

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
/// before: a session with a higher one begins with the rights there are now. Nodes that lag, or do not answer, are left out and added to
/// `silent`; who is in it is not asked.
///
/// # Errors
/// When the node in use does not answer.
pub async fn watermarks(mysql: &Mysql, known: &Watermarks, silent: &mut BTreeSet<String>) -> Result<Watermarks> {
    let mut found = Watermarks::new();
    let wanted: BTreeSet<_> =
        mysql.nodes().iter().map(address).filter(|node| !known.contains_key(node) && !silent.contains(node)).collect();
    for (node, mut connection) in connections(mysql, |node| wanted.contains(&address(node))).await? {
        let look = async {
            // every session waits for what any node has committed before it reads (`wsrep_sync_wait`, see `nodes`); a SHOW does not
            super::raw(&mut connection, "SELECT CONNECTION_ID()".to_owned()).await.map_err(Error::doing("a look at a node"))?;
            sessions(&mut connection).await
        };
        match in_time("a look at the process list", LAG, look).await {
            Ok(sessions) => {
                found.insert(address(node), sessions.iter().map(|(id, _)| *id).max().unwrap_or(0));
                connection.finish();
            }
            Err(error) if std::ptr::eq(node, mysql.current()) => return Err(error),
            Err(error) => tracing::warn!(host = %node.endpoint.host, %error, "a node lags: all sessions on it that are meant are ended"),
        }
    }
    silent.extend(wanted.into_iter().filter(|node| !found.contains_key(node)));
    Ok(found)
}

/// Whose sessions to end: all of a user's, or those not younger than a watermark.
pub type Targets = BTreeMap<String, Option<Watermarks>>;

/// Adds to the sessions to end. Of a user who is meant twice, because of two databases, every session that is meant either time.
pub fn aim(targets: &mut Targets, user: &str, watermarks: Option<&Watermarks>) {
    let known = targets.entry(user.to_owned()).or_insert_with(|| watermarks.cloned());
    *known = match (known.take(), watermarks) {
        // a node without a watermark means all sessions on it
        (Some(known), Some(new)) => {
            Some(known.into_iter().filter_map(|(node, mark)| new.get(&node).map(|new| (node, mark.max(*new)))).collect())
        }
        _ => None,
    };
}

/// Ends the sessions of an account that was dropped or locked a moment ago, on every node that answers: again when the nodes have applied
/// that, because one that lags has let the app in once more.
///
/// # Errors
/// When the node in use does not answer, or a session cannot be ended.
pub async fn end(mysql: &Mysql, user: &str) -> Result<()> {
    let targets = Targets::from([(user.to_owned(), None)]);
    kill(mysql, &targets).await?;
    if mysql.nodes().len() > 1 {
        watermarks(mysql, &Watermarks::new(), &mut BTreeSet::new()).await?;
        kill(mysql, &targets).await?;
    }
    Ok(())
}

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
    let (mut killed, mut failure) = (0, None);
    let sessions = sessions(connection).await?;
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
            // Galera refuses to end a session in the middle of DDL, MySQL one with more rights: those after it must not wait for it
            Err(error) if error.code().is_some() => failure = Some(error),
            Err(error) => return Err(error),
        }
    }
    failure.map_or(Ok(killed), Err)
}

/// Every session, with its user. Not by information_schema.PROCESSLIST, which MySQL refuses to show as long as anybody runs a statement with
/// a letter in it that utf8mb3 has not (error 3854): a tenant could keep all sessions alive with one.
async fn sessions(connection: &mut MySqlConnection) -> Result<Vec<(u64, String)>> {
    let rows = sqlx::raw_sql("SHOW PROCESSLIST").fetch_all(connection).await.map_err(Error::doing("a look at the process list"))?;
    let session = |row: &sqlx::mysql::MySqlRow| Ok((row.try_get_unchecked("Id")?, row.try_get_unchecked("User")?));
    rows.iter().map(session).collect::<sqlx::Result<_>>().map_err(Error::doing("a look at the process list"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_meant_twice_loses_every_session_that_is_meant_either_time() {
        let marks = |marks: &[(&str, u64)]| marks.iter().map(|(node, mark)| ((*node).to_owned(), *mark)).collect::<Watermarks>();
        let mut targets = Targets::new();
        aim(&mut targets, "u", Some(&marks(&[("a", 1000), ("b", 5)])));
        assert_eq!(targets["u"], Some(marks(&[("a", 1000), ("b", 5)])));
        aim(&mut targets, "u", Some(&marks(&[("a", 500), ("c", 7)])));
        assert_eq!(targets["u"], Some(marks(&[("a", 1000)])), "all sessions on the others");
        aim(&mut targets, "u", None);
        assert_eq!(targets["u"], None);
        aim(&mut targets, "u", Some(&marks(&[("a", 500)])));
        assert_eq!(targets["u"], None);
    }
}
