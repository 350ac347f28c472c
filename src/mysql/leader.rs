//! The lease of the one quota enforcer that leads. A row and the database's clock: GET_LOCK has two holders on Galera.

use std::time::{Duration, Instant};

use super::{Error, Mysql, Result};

/// How long a lease lasts that is not renewed.
pub const TTL: Duration = Duration::from_secs(3);
/// How much earlier its holder stops to trust it.
const MARGIN: Duration = Duration::from_millis(300);

/// Takes the lease, or renews it; the instant until which it may be trusted, or none: somebody else leads. Each change of
/// hands raises the epoch.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn acquire(mysql: &Mysql, holder: &str) -> Result<Option<Instant>> {
    // trusted from before it was sent: however long the answer takes, the row runs out later than the trust
    let trusted_until = Instant::now() + TTL - MARGIN;
    let rows = mysql
        .repeat("take the lead", |mut connection| async move {
            let done = sqlx::query(
                "UPDATE leader SET epoch = epoch + IF(holder = ?, 0, 1), holder = ?, until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND \
                 WHERE id = 1 AND (holder = ? OR until < UTC_TIMESTAMP(6))",
            )
            .bind(holder)
            .bind(holder)
            .bind(TTL.as_secs())
            .bind(holder)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("the enforcer's lease"))?;
            Ok(done.rows_affected())
        })
        .await?;
    Ok((rows == 1).then_some(trusted_until))
}

/// Gives the lease back.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn release(mysql: &Mysql, holder: &str) -> Result<()> {
    mysql
        .repeat("give the lead back", |mut connection| async move {
            sqlx::query("UPDATE leader SET until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE id = 1 AND holder = ?")
                .bind(holder)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("the enforcer's lease"))?;
            Ok(())
        })
        .await
}

/// Who leads at present, if anybody does.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn holder(mysql: &Mysql) -> Result<Option<String>> {
    mysql
        .repeat("look who leads", |mut connection| async move {
            sqlx::query_scalar("SELECT holder FROM leader WHERE id = 1 AND until > UTC_TIMESTAMP(6)")
                .fetch_optional(&mut *connection)
                .await
                .map_err(Error::doing("a look at the enforcer's lease"))
        })
        .await
}
