//! Patience: how long a look may take, and connections that wait for nobody's locks. A tenant who holds a lock, or a node that
//! hangs, must become neither invisible nor a burden to the others.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{MySql, MySqlConnection};

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

/// A connection of the pool for looks that may be given up half-way: closed unless it is given back, because an answer may be on
/// its way.
pub(super) struct Lent {
    connection: PoolConnection<MySql>,
    is_whole: bool,
}

impl Lent {
    /// Takes one of the pool.
    pub(super) async fn of(mysql: &Mysql) -> Result<Self> {
        Ok(Self { connection: mysql.connection().await?, is_whole: false })
    }

    /// As [`Lent::of`], but one that does not wait for a tenant's lock: MySQL knows no shorter wait than a second.
    pub(super) async fn impatient(mysql: &Mysql, dialect: Dialect) -> Result<Self> {
        let seconds = u8::from(dialect == Dialect::MySql);
        in_time("a connection", ONE_DATABASE, async {
            let mut lent = Self::of(mysql).await?;
            super::raw(&mut lent, format!("SET SESSION lock_wait_timeout = {seconds}")).await.map_err(Error::doing("SET"))?;
            Ok(lent)
        })
        .await
    }

    /// Every answer has come: it may be used again.
    pub(super) fn finish(mut self) {
        self.is_whole = true;
    }

    /// As [`Lent::finish`], for one of [`Lent::impatient`], which is patient again.
    pub(super) async fn finish_patiently(mut self) -> Result<()> {
        let set = super::raw(&mut self.connection, "SET SESSION lock_wait_timeout = DEFAULT".to_owned());
        in_time("SET", ONE_DATABASE, async { set.await.map_err(Error::doing("SET")) }).await?;
        self.finish();
        Ok(())
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if !self.is_whole {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for Lent {
    type Target = MySqlConnection;

    fn deref(&self) -> &MySqlConnection {
        &self.connection
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut MySqlConnection {
        &mut self.connection
    }
}
