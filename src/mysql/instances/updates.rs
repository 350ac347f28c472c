//! Changes of an instance that is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};

use super::{find, json_text};
use crate::domain::instance::{Instance, OpId};
use crate::domain::last_operation::Outcome;
use crate::mysql::capacity::{give_back, take};
use crate::mysql::transact::End;
use crate::mysql::{Error, Mysql, Result, last_operations};

/// What changes with an update.
#[derive(Debug, Clone)]
pub struct Change {
    /// The offering, where an adopted instance has none recorded.
    pub service_id: Option<String>,
    /// The plan after the update; none where an adopted instance has none.
    pub plan_id: Option<String>,
    /// Its quota in MB.
    pub max_storage_mb: u64,
    /// What it reserves.
    pub reserved_bytes: u64,
    /// The maintenance version after the update.
    pub maintenance_version: Option<String>,
    /// Names and annotations; none leaves them.
    pub context: Option<Map<String, Value>>,
}

/// How the beginning of an update ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateStart {
    /// The room of the larger plan is taken, the state is `updating`.
    Begun,
    /// The row has changed since it was read, or somebody works on it or on one of its bindings.
    Lost,
    /// The larger plan does not fit; nothing was changed.
    Full,
}

/// Begins an update: state `updating`, and the room of the larger of both plans. A binding that is being made has its limits from the
/// plan before, so it is waited for.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn begin(
    mysql: &Mysql,
    instance: &Instance,
    change: &Change,
    sellable_bytes: u64,
    op: &OpId,
    lease: Duration,
) -> Result<UpdateStart> {
    let more = change.reserved_bytes.saturating_sub(instance.reserved_bytes);
    let start = mysql
        .transact("begin an update", |mut transaction| async move {
            let done = sqlx::query(
                "UPDATE service_instances SET state = 'updating', next_plan_guid = ?, op_id = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, \
                 reserved_bytes = reserved_bytes + ?, updated_at = UTC_TIMESTAMP(6) \
                 WHERE id = ? AND state = 'ready' AND op_id IS NULL AND reserved_bytes = ? AND plan_guid <=> ? \
                 AND NOT EXISTS (SELECT 1 FROM service_bindings WHERE service_instance_id = service_instances.id AND lease_until > UTC_TIMESTAMP(6))",
            )
            .bind(&change.plan_id)
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .bind(more)
            .bind(instance.row)
            .bind(instance.reserved_bytes)
            .bind(&instance.plan_id)
            .execute(&mut *transaction)
            .await
            .map_err(Error::doing("an update"))?;
            if done.rows_affected() != 1 {
                return Ok(End::Rollback(UpdateStart::Lost));
            }
            if more > 0 && !take(&mut transaction, more, sellable_bytes).await? {
                return Ok(End::Rollback(UpdateStart::Full));
            }
            Ok(End::Commit(transaction, UpdateStart::Begun))
        })
        .await?;
    if start == UpdateStart::Lost && find(mysql, &instance.id).await?.is_some_and(|now| now.op.as_ref() == Some(op)) {
        return Ok(UpdateStart::Begun); // the answer to an earlier COMMIT was lost
    }
    Ok(start)
}

/// How an update ended, and so what a poll hears of it.
#[derive(Debug, Clone, Copy)]
pub enum Ended<'a> {
    /// It is done: what an earlier one ended with is forgotten.
    Done,
    /// It could not be done, for this reason, and everything is as before.
    Undone(&'a Outcome),
    /// It was no update, only a repair of what the row says already: nothing new is to be heard.
    Repaired,
}

/// Ends an update: the row says what is in force, the counter gets back what is too much, and what a poll hears is remembered, all at
/// once. What the row reserves only shrinks here: nothing more was taken for it. False: the lease was lost.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn end(mysql: &Mysql, instance: &Instance, op: &OpId, change: &Change, ended: Ended<'_>) -> Result<bool> {
    let row = instance.row;
    let repeated = AtomicBool::new(false);
    let repeated = &repeated;
    mysql
        .transact("end an update", |mut transaction| async move {
            let repeated = repeated.swap(true, Ordering::Relaxed);
            let reserved: Option<u64> =
                sqlx::query_scalar("SELECT reserved_bytes FROM service_instances WHERE id = ? AND op_id = ? FOR UPDATE")
                    .bind(row)
                    .bind(&op.0)
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(Error::doing("the end of an update"))?;
            let Some(reserved) = reserved else {
                // the answer to an earlier COMMIT may have been lost
                let done: i64 = sqlx::query_scalar(
                    "SELECT EXISTS (SELECT 1 FROM service_instances WHERE id = ? AND state = 'ready' AND plan_guid <=> ? AND reserved_bytes <= ?)",
                )
                .bind(row)
                .bind(&change.plan_id)
                .bind(change.reserved_bytes)
                .fetch_one(&mut *transaction)
                .await
                .map_err(Error::doing("the end of an update"))?;
                return Ok(End::Rollback(repeated && done != 0));
            };
            let kept = change.reserved_bytes.min(reserved);
            sqlx::query(
                "UPDATE service_instances SET plan_guid = ?, next_plan_guid = NULL, max_storage_mb = ?, reserved_bytes = ?, maintenance_version = ?, \
                 service_guid = COALESCE(service_guid, ?), context = COALESCE(?, context), state = 'ready', op_id = NULL, lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND op_id = ?",
            )
            .bind(&change.plan_id)
            .bind(change.max_storage_mb)
            .bind(kept)
            .bind(&change.maintenance_version)
            .bind(&change.service_id)
            .bind(change.context.as_ref().and_then(json_text))
            .bind(row)
            .bind(&op.0)
            .execute(&mut *transaction)
            .await
            .map_err(Error::doing("the end of an update"))?;
            match ended {
                Ended::Done => last_operations::forget(&mut transaction, &instance.id).await?,
                Ended::Undone(outcome) => last_operations::note(&mut transaction, &instance.id, None, outcome).await?,
                Ended::Repaired => {}
            }
            give_back(&mut transaction, reserved.saturating_sub(kept)).await?;
            Ok(End::Commit(transaction, true))
        })
        .await
}

/// Records what a platform says of an instance that needs no work: names and annotations, the maintenance version, and the
/// owner of an adopted one.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn record(
    mysql: &Mysql,
    row: i64,
    service_id: &str,
    owner: Option<(&str, &str)>,
    context: Option<&Map<String, Value>>,
    maintenance_version: Option<&str>,
) -> Result<()> {
    mysql
        .repeat("record what a platform says", |mut connection| async move {
            sqlx::query(
                "UPDATE service_instances SET service_guid = COALESCE(service_guid, ?), organization_guid = COALESCE(organization_guid, ?), \
                 space_guid = COALESCE(space_guid, ?), context = COALESCE(?, context), maintenance_version = COALESCE(?, maintenance_version), \
                 updated_at = UTC_TIMESTAMP(6) WHERE id = ?",
            )
            .bind(service_id)
            .bind(owner.map(|owner| owner.0))
            .bind(owner.map(|owner| owner.1))
            .bind(context.and_then(json_text))
            .bind(maintenance_version)
            .bind(row)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("a note on an instance"))?;
            Ok(())
        })
        .await
}
