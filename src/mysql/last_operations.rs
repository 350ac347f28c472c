//! How operations ended whose rows cannot say so: what was deleted, and what failed. Any broker answers a poll from here.

pub mod deletions;

use sqlx::MySqlConnection;

use super::{Error, Mysql, Result};
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::last_operation::{Kind, Outcome};

/// Hours for which an outcome is remembered; platforms poll far less long.
const REMEMBERED_HOURS: u32 = 48;

/// The remembered outcome of an instance (`binding`: none) or of a binding. An outcome that is older than the row of a new
/// instance under the same id is not that instance's.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn find(mysql: &Mysql, instance: &InstanceId, binding: Option<&BindingId>) -> Result<Option<Outcome>> {
    mysql
        .repeat("find an outcome", |mut connection| async move {
            let row: Option<(String, bool, String, bool)> = sqlx::query_as(
                "SELECT kind, succeeded, description, update_repeatable FROM last_operations o WHERE instance_guid = ? AND binding_guid = ? \
                 AND NOT EXISTS (SELECT 1 FROM service_instances i WHERE i.guid = o.instance_guid AND i.created_at > o.ended_at)",
            )
            .bind(instance.as_str())
            .bind(binding.map_or("", BindingId::as_str))
            .fetch_optional(&mut *connection)
            .await
            .map_err(Error::doing("a look at an outcome"))?;
            Ok(row.and_then(|(kind, succeeded, description, update_repeatable)| {
                Some(Outcome { kind: Kind::parse(&kind)?, succeeded, description, update_repeatable })
            }))
        })
        .await
}

/// Remembers an outcome, in the transaction of the last step.
pub(super) async fn note(
    connection: &mut MySqlConnection,
    instance: &InstanceId,
    binding: Option<&BindingId>,
    outcome: &Outcome,
) -> Result<()> {
    sqlx::query(
        "REPLACE INTO last_operations (instance_guid, binding_guid, kind, succeeded, description, update_repeatable, ended_at) \
         VALUES (?, ?, ?, ?, ?, ?, UTC_TIMESTAMP(6))",
    )
    .bind(instance.as_str())
    .bind(binding.map_or("", BindingId::as_str))
    .bind(outcome.kind.as_str())
    .bind(outcome.succeeded)
    .bind(outcome.description.chars().take(1000).collect::<String>())
    .bind(outcome.update_repeatable)
    .execute(connection)
    .await
    .map_err(Error::doing("a note on an outcome"))?;
    Ok(())
}

/// Forgets the outcome of an earlier update, in the transaction that ends a new one.
pub(super) async fn forget(connection: &mut MySqlConnection, instance: &InstanceId) -> Result<()> {
    sqlx::query("DELETE FROM last_operations WHERE binding_guid = '' AND instance_guid = ?")
        .bind(instance.as_str())
        .execute(connection)
        .await
        .map_err(Error::doing("a note on an outcome"))?;
    Ok(())
}

/// Forgets what is old.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn purge(mysql: &Mysql) -> Result<()> {
    mysql
        .repeat("forget old outcomes", |mut connection| async move {
            sqlx::query("DELETE FROM last_operations WHERE ended_at < UTC_TIMESTAMP(6) - INTERVAL ? HOUR LIMIT 1000")
                .bind(REMEMBERED_HOURS)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("the end of old outcomes"))?;
            deletions::purge(&mut connection, REMEMBERED_HOURS).await
        })
        .await
}
