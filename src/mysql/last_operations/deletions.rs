//! When a DELETE of an id was last answered, so that nothing which was asked for before is made after it (OSB row SY-4). A request
//! notes when it begins, by the database's clock; the transaction that would record its work compares.

use std::time::Instant;

use sqlx::MySqlConnection;

use crate::domain::ids::{BindingId, InstanceId};
use crate::mysql::transact::End;
use crate::mysql::{Error, Mysql, Result, code};

/// Hours after which a request that still has not recorded its work must not any more: deletions are forgotten in time.
const TOO_LATE_HOURS: u32 = 24;

/// When a request began, by the database's clock.
#[derive(Debug, Clone)]
pub struct Began(String);

/// When a request began that has been here since `since`.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn began(mysql: &Mysql, since: Instant) -> Result<Began> {
    mysql
        .repeat("look at the clock", |mut connection| async move {
            sqlx::query_scalar("SELECT DATE_FORMAT(UTC_TIMESTAMP(6) - INTERVAL ? SECOND, '%Y-%m-%d %H:%i:%s.%f')")
                .bind(since.elapsed().as_secs_f64())
                .fetch_one(&mut *connection)
                .await
                .map(Began)
                .map_err(Error::doing("a look at the clock"))
        })
        .await
}

/// Whether a DELETE of the instance, or of the binding, was answered since then. The caller's transaction must have written a row that
/// the transactions of [`of_nothing`] and [`of_no_binding`] write too, and must not have read anything yet before that.
pub(in crate::mysql) async fn is_answered_since(
    connection: &mut MySqlConnection,
    instance: &InstanceId,
    binding: Option<&BindingId>,
    began: &Began,
) -> Result<bool> {
    let found: i64 = sqlx::query_scalar(
        "SELECT ? < UTC_TIMESTAMP(6) - INTERVAL ? HOUR \
         OR EXISTS (SELECT 1 FROM deletions WHERE instance_guid = ? AND binding_guid IN ('', ?) AND answered_at >= ?)",
    )
    .bind(&began.0)
    .bind(TOO_LATE_HOURS)
    .bind(instance.as_str())
    .bind(binding.map_or("", BindingId::as_str))
    .bind(&began.0)
    .fetch_one(connection)
    .await
    .map_err(Error::doing("a look at deletions"))?;
    Ok(found != 0)
}

/// Notes that a DELETE is about to be answered, in the transaction of its last step.
pub(in crate::mysql) async fn note(connection: &mut MySqlConnection, instance: &InstanceId, binding: Option<&BindingId>) -> Result<()> {
    sqlx::query(
        "INSERT INTO deletions (instance_guid, binding_guid, answered_at) VALUES (?, ?, UTC_TIMESTAMP(6)) \
         ON DUPLICATE KEY UPDATE answered_at = GREATEST(answered_at, UTC_TIMESTAMP(6))",
    )
    .bind(instance.as_str())
    .bind(binding.map_or("", BindingId::as_str))
    .execute(connection)
    .await
    .map_err(Error::doing("a note on a deletion"))?;
    Ok(())
}

/// Notes that a DELETE of an instance that is being deleted is about to be answered.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn of_what_is_going(mysql: &Mysql, instance: &InstanceId) -> Result<()> {
    mysql.repeat("note a deletion", |mut connection| async move { note(&mut connection, instance, None).await }).await
}

/// Notes that the DELETE of an instance is about to be answered with "there is none". False: there is one by now.
///
/// A PUT that is about to insert the row must not get by: for a moment the id is taken here too, so that the server makes one of both
/// wait for the other, and a cluster refuses one of both in certification.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn of_nothing(mysql: &Mysql, instance: &InstanceId) -> Result<bool> {
    mysql
        .transact("note a deletion", |mut transaction| async move {
            let doing = Error::doing("a note on a deletion");
            let taken = sqlx::query("INSERT INTO service_instances (guid) VALUES (?)")
                .bind(instance.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(&doing);
            match taken {
                Ok(_) => {}
                Err(error) if error.code() == Some(code::DUPLICATE_KEY) => return Ok(End::Rollback(false)),
                Err(error) => return Err(error),
            }
            sqlx::query("DELETE FROM service_instances WHERE guid = ?")
                .bind(instance.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(&doing)?;
            note(&mut transaction, instance, None).await?;
            Ok(End::Commit(transaction, true))
        })
        .await
}

/// As [`of_nothing`], for a binding. What both write here is the row of the instance.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn of_no_binding(mysql: &Mysql, instance: &InstanceId, binding: &BindingId) -> Result<bool> {
    mysql
        .transact("note the deletion of a binding", |mut transaction| async move {
            let doing = Error::doing("a note on a deletion");
            sqlx::query("UPDATE service_instances SET revision = revision + 1 WHERE guid = ?")
                .bind(instance.as_str())
                .execute(&mut *transaction)
                .await
                .map_err(&doing)?;
            let there: i64 = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM service_bindings b JOIN service_instances i ON i.id = b.service_instance_id \
                 WHERE i.guid = ? AND b.guid = ?)",
            )
            .bind(instance.as_str())
            .bind(binding.as_str())
            .fetch_one(&mut *transaction)
            .await
            .map_err(&doing)?;
            if there != 0 {
                return Ok(End::Rollback(false));
            }
            note(&mut transaction, instance, Some(binding)).await?;
            Ok(End::Commit(transaction, true))
        })
        .await
}

/// Forgets what is older than so many hours.
pub(super) async fn purge(connection: &mut MySqlConnection, hours: u32) -> Result<()> {
    sqlx::query("DELETE FROM deletions WHERE answered_at < UTC_TIMESTAMP(6) - INTERVAL ? HOUR LIMIT 1000")
        .bind(hours)
        .execute(connection)
        .await
        .map_err(Error::doing("the end of old deletions"))?;
    Ok(())
}
