//! The table `service_bindings`: how a binding comes and goes, step by step.

pub mod adopted;
mod lookups;
mod read_only_users;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::MySqlConnection;

pub use self::lookups::{abandoned, counts, due, find, is_being_made, of_instance};
use super::instances::json_text;
use super::last_operations;
use super::last_operations::deletions::{self, Began};
use super::transact::End;
use super::{Error, Mysql, Result, code};
use crate::domain::binding::{Account, BindRequest, Binding};
use crate::domain::catalog::BindingLifetime;
use crate::domain::ids::BindingId;
use crate::domain::instance::{Instance, OpId};
use crate::domain::last_operation::{Kind, Outcome, Removal};

/// Notes that the account of an expired binding is locked and its sessions are ended.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn mark_expired(mysql: &Mysql, row: i64) -> Result<()> {
    mysql
        .repeat("mark a binding expired", |mut connection| async move {
            sqlx::query("UPDATE service_bindings SET is_expired = 1, updated_at = UTC_TIMESTAMP(6) WHERE id = ?")
                .bind(row)
                .execute(&mut *connection)
                .await
                .map_err(Error::doing("a note on an expired binding"))?;
            Ok(())
        })
        .await
}

/// What a binding's account is called, how its password comes about, and since when it is wanted.
#[derive(Debug, Clone)]
pub struct NewAccount {
    /// Its name.
    pub account: Account,
    /// Which secret.
    pub secret_id: String,
    /// The random value.
    pub salt: String,
    /// When the request began.
    pub began: Began,
}

/// How the beginning of a bind ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BindStart {
    /// The row is there, in state `creating`.
    Begun(i64),
    /// The id has a row already: read it.
    Exists,
    /// The instance is not ready (any more), or has another plan, with other limits, than when it was read.
    NoInstance,
    /// A DELETE of this id, or of the instance, has been answered since the request began.
    Deleted,
}

/// Step B1: inserts the row, and writes the instance's row, so that on Galera a bind and a deprovision that begin on two
/// nodes at once meet in certification.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn begin(
    mysql: &Mysql,
    instance: &Instance,
    request: &BindRequest,
    new: &NewAccount,
    lifetime: Option<BindingLifetime>,
    op: &OpId,
    lease: Duration,
) -> Result<BindStart> {
    mysql
        .transact("begin a bind", |mut transaction| async move {
            let inserted = sqlx::query(
                "INSERT INTO service_bindings (service_instance_id, guid, service_guid, plan_guid, app_guid, parameters, read_only, username, host, \
                 secret_id, salt, predecessor_guid, expires_at, renew_before, state, op_id, lease_until, created_at, updated_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, UTC_TIMESTAMP() + INTERVAL ? SECOND, UTC_TIMESTAMP() + INTERVAL ? SECOND, 'creating', ?, \
                 UTC_TIMESTAMP(6) + INTERVAL ? SECOND, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
            )
            .bind(instance.row)
            .bind(request.id.as_str())
            .bind(&request.service_id)
            .bind(&request.plan_id)
            .bind(&request.app_guid)
            .bind(json_text(&request.parameters))
            .bind(request.read_only())
            .bind(&new.account.user)
            .bind(&new.account.host)
            .bind(&new.secret_id)
            .bind(&new.salt)
            .bind(request.predecessor.as_ref().map(BindingId::as_str))
            .bind(lifetime.map(|lifetime| lifetime.expires_after))
            .bind(lifetime.map(|lifetime| lifetime.expires_after.saturating_sub(lifetime.renew_before)))
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .execute(&mut *transaction)
            .await
            .map_err(Error::doing("a binding row"));
            let row = match inserted {
                Ok(done) => i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX),
                Err(error) if error.code() == Some(code::DUPLICATE_KEY) => {
                    // ours, when the answer to an earlier COMMIT was lost
                    let mine: Option<i64> = sqlx::query_scalar("SELECT id FROM service_bindings WHERE op_id = ? AND username = ?")
                        .bind(&op.0)
                        .bind(&new.account.user)
                        .fetch_optional(&mut *transaction)
                        .await
                        .map_err(Error::doing("a look at a binding"))?;
                    return Ok(End::Rollback(mine.map_or(BindStart::Exists, BindStart::Begun)));
                }
                Err(error) => return Err(error),
            };
            if request.read_only() {
                read_only_users::remember(&mut transaction, &new.account).await?;
            }
            let noted = sqlx::query("UPDATE service_instances SET revision = revision + 1 WHERE id = ? AND state = 'ready' AND plan_guid <=> ?")
                .bind(instance.row)
                .bind(&instance.plan_id)
                .execute(&mut *transaction)
                .await
                .map_err(Error::doing("a note on an instance"))?;
            if noted.rows_affected() != 1 {
                return Ok(End::Rollback(BindStart::NoInstance));
            }
            if deletions::is_answered_since(&mut transaction, &instance.id, Some(&request.id), &new.began).await? {
                return Ok(End::Rollback(BindStart::Deleted));
            }
            Ok(End::Commit(transaction, BindStart::Begun(row)))
        })
        .await
}

/// Step B4: the binding is ready. False: the lease was lost.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn mark_ready(mysql: &Mysql, row: i64, op: &OpId) -> Result<bool> {
    mysql
        .repeat("mark a binding ready", |mut connection| async move {
            let done = sqlx::query(
                "UPDATE service_bindings SET state = 'ready', op_id = NULL, lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND op_id = ?",
            )
            .bind(row)
            .bind(&op.0)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("the last step of a bind"))?;
            if done.rows_affected() == 1 {
                return Ok(true);
            }
            // the answer of an earlier attempt may have been lost: nobody but the holder of `op` makes this row ready
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_bindings WHERE id = ? AND state = 'ready')")
                .bind(row)
                .fetch_one(&mut *connection)
                .await
                .map(|found: i64| found != 0)
                .map_err(Error::doing("the last step of a bind"))
        })
        .await
}

/// Step U1: begins (or takes over) the end of a binding that nobody works on. False: it has changed since it was read.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn claim_for_deletion(mysql: &Mysql, binding: &Binding, op: &OpId, lease: Duration) -> Result<bool> {
    mysql
        .repeat("claim a binding", |mut connection| async move {
            let done = sqlx::query(
                "UPDATE service_bindings SET state = 'deleting', op_id = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, \
                 updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND state = ? AND op_id <=> ? AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6))",
            )
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .bind(binding.row)
            .bind(binding.state.as_str())
            .bind(binding.op.as_ref().map(|op| &op.0))
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("a claim on a binding"))?;
            if done.rows_affected() == 1 {
                return Ok(true);
            }
            // the answer of an earlier attempt may have been lost
            let mine: Option<i64> = sqlx::query_scalar("SELECT id FROM service_bindings WHERE id = ? AND op_id = ?")
                .bind(binding.row)
                .bind(&op.0)
                .fetch_optional(&mut *connection)
                .await
                .map_err(Error::doing("a look at a binding"))?;
            Ok(mine.is_some())
        })
        .await
}

/// Step U3: the row goes, and what was noted of its account with it. False: the lease was lost.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn delete(mysql: &Mysql, binding: &Binding, instance: &Instance, op: &OpId, removal: &Removal) -> Result<bool> {
    let repeated = AtomicBool::new(false);
    let repeated = &repeated;
    mysql
        .transact("delete a binding", |mut transaction| async move {
            let repeated = repeated.swap(true, Ordering::Relaxed);
            let done = sqlx::query("DELETE FROM service_bindings WHERE id = ? AND op_id = ?")
                .bind(binding.row)
                .bind(&op.0)
                .execute(&mut *transaction)
                .await
                .map_err(Error::doing("the last step of an unbind"))?;
            if done.rows_affected() != 1 {
                let there: i64 = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_bindings WHERE id = ?)")
                    .bind(binding.row)
                    .fetch_one(&mut *transaction)
                    .await
                    .map_err(Error::doing("the last step of an unbind"))?;
                // gone in a repeat: the answer to the COMMIT before it was lost
                return Ok(End::Rollback(repeated && there == 0));
            }
            if binding.read_only {
                read_only_users::forget(&mut transaction, &binding.account).await?;
            }
            forget(&mut transaction, instance, &binding.id, &binding.account).await?;
            if *removal == Removal::Asked {
                deletions::note(&mut transaction, &instance.id, Some(&binding.id)).await?;
            }
            Ok(End::Commit(transaction, true))
        })
        .await
}

/// What the enforcer noted of the account of a binding goes, and how the binding ended is remembered.
async fn forget(connection: &mut MySqlConnection, instance: &Instance, id: &BindingId, account: &Account) -> Result<()> {
    for forget in super::revocations::FORGET_ACCOUNT {
        sqlx::query(*forget)
            .bind(&instance.database)
            .bind(&account.user)
            .bind(&account.host)
            .bind(&account.user)
            .bind(&account.host)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("the last step of an unbind"))?;
    }
    last_operations::note(connection, &instance.id, Some(id), &Outcome::deleted(Kind::Unbind, "binding")).await
}
