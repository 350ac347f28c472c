//! Patience: how long a look may take, and connections that wait for nobody's locks. A tenant who holds a lock, or a node that
//! hangs, must become neither invisible nor a burden to the others.

use std::time::Duration;

use super::pool::Connection;
use super::{Dialect, Error, Mysql, Result};

/// How long one statement about one database, or something as small, may take.
pub(super) const ONE_DATABASE: Duration = Duration::from_secs(10);
/// How long one about the whole server may: 50,000 tables take a tenth of a second to half a minute.
pub(super) const WHOLE_SERVER: Duration = Duration::from_secs(60);

/// Gives up what takes longer. Whatever connection the work holds is closed with it.
///
/// # Errors
/// [`Error::Unavailable`] when the time is up.
pub(super) async fn in_time<T>(what: &str, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_) => Err(Error::Unavailable(format!("{what} took more than {} s", limit.as_secs()))),
    }
}

/// A connection of the pool that does not wait for a tenant's lock: MySQL knows no shorter wait than a second. Goes back by
/// [`give_back`].
pub(super) async fn impatient(mysql: &Mysql, dialect: Dialect) -> Result<Connection> {
    let seconds = u8::from(dialect == Dialect::MySql);
    in_time("a connection", ONE_DATABASE, async {
        let mut connection = mysql.connection().await?;
        super::raw(&mut connection, format!("SET SESSION lock_wait_timeout = {seconds}")).await.map_err(Error::doing("SET"))?;
        Ok(connection)
    })
    .await
}

/// Gives back what [`impatient`] has lent, patient again.
pub(super) async fn give_back(mut connection: Connection) -> Result<()> {
    let set = super::raw(&mut connection, "SET SESSION lock_wait_timeout = DEFAULT".to_owned());
    in_time("SET", ONE_DATABASE, async { set.await.map_err(Error::doing("SET")) }).await?;
    connection.give_back();
    Ok(())
}
