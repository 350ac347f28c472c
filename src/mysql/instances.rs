//! The table `service_instances`: how an instance comes and goes. Each change of `reserved_bytes` and the same change of the
//! counter are one transaction, with the counter last: its lock is the busiest and so held shortest.

pub mod updates;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use sqlx::MySqlConnection;

use super::capacity::{give_back, take};
use super::last_operations;
use super::last_operations::deletions::{self, Began};
use super::transact::End;
use super::{Error, Mysql, Result, code};
use crate::domain::ids::InstanceId;
use crate::domain::instance::{Instance, InstanceState, OpId, ProvisionRequest};
use crate::domain::last_operation::{Kind, Outcome, Removal};
use crate::failpoint::failpoint;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, guid, service_guid, plan_guid, next_plan_guid, db_name, max_storage_mb, organization_guid, space_guid, parameters, context, ",
            "maintenance_version, state, op_id, COALESCE(lease_until > UTC_TIMESTAMP(6), 0) AS lease_live, reserved_bytes, ",
            "DATE_FORMAT(created_at, '%Y-%m-%dT%H:%i:%sZ') AS created_at FROM service_instances ",
            $rest
        )
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i32,
    guid: Option<String>,
    service_guid: Option<String>,
    plan_guid: Option<String>,
    next_plan_guid: Option<String>,
    db_name: Option<String>,
    max_storage_mb: i32,
    organization_guid: Option<String>,
    space_guid: Option<String>,
    parameters: Option<String>,
    context: Option<String>,
    maintenance_version: Option<String>,
    state: String,
    op_id: Option<String>,
    lease_live: i64,
    reserved_bytes: u64,
    created_at: Option<String>,
}

impl TryFrom<Row> for Instance {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let state = InstanceState::parse(&row.state)
            .ok_or_else(|| Error::Data(format!("instance row {} is in a state this version does not know", row.id)))?;
        Ok(Self {
            row: row.id.into(),
            id: InstanceId::from_stored(row.guid.unwrap_or_default()),
            service_id: row.service_guid,
            plan_id: row.plan_guid,
            next_plan_id: row.next_plan_guid,
            database: row.db_name.unwrap_or_default(),
            max_storage_mb: u64::try_from(row.max_storage_mb).unwrap_or(0),
            organization_guid: row.organization_guid,
            space_guid: row.space_guid,
            parameters: json_object(row.parameters),
            context: json_object(row.context),
            maintenance_version: row.maintenance_version,
            state,
            op: row.op_id.map(OpId),
            lease_live: row.lease_live != 0,
            reserved_bytes: row.reserved_bytes,
            created_at: row.created_at,
        })
    }
}

/// An object kept as text; nothing, and what is no object, is empty.
pub(super) fn json_object(text: Option<String>) -> Map<String, Value> {
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

/// An object as text; empty is NULL.
pub(super) fn json_text(object: &Map<String, Value>) -> Option<String> {
    (!object.is_empty()).then(|| Value::Object(object.clone()).to_string())
}

async fn find_in(connection: &mut MySqlConnection, id: &InstanceId) -> Result<Option<Instance>> {
    sqlx::query_as::<_, Row>(select!("WHERE guid = ?"))
        .bind(id.as_str())
        .fetch_optional(connection)
        .await
        .map_err(Error::doing("a look at an instance"))?
        .map(Instance::try_from)
        .transpose()
}

/// The instance of this id, in whatever state.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn find(mysql: &Mysql, id: &InstanceId) -> Result<Option<Instance>> {
    mysql.repeat("find an instance", |mut connection| async move { find_in(&mut connection, id).await }).await
}

/// The instance of this row, in whatever state.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn find_row(mysql: &Mysql, row: i64) -> Result<Option<Instance>> {
    mysql
        .repeat("find an instance", |mut connection| async move {
            let found: Option<Row> = sqlx::query_as(select!("WHERE id = ?"))
                .bind(row)
                .fetch_optional(&mut *connection)
                .await
                .map_err(Error::doing("a look at an instance"))?;
            found.map(Instance::try_from).transpose()
        })
        .await
}

/// Every instance, oldest first.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn list(mysql: &Mysql) -> Result<Vec<Instance>> {
    mysql
        .repeat("list instances", |mut connection| async move {
            let rows: Vec<Row> =
                sqlx::query_as(select!("ORDER BY id")).fetch_all(&mut *connection).await.map_err(Error::doing("a list of instances"))?;
            rows.into_iter().map(Instance::try_from).collect()
        })
        .await
}

/// Instances whose operation nobody leads any more.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn abandoned(mysql: &Mysql) -> Result<Vec<Instance>> {
    mysql
        .repeat("find abandoned instances", |mut connection| async move {
            let rows: Vec<Row> = sqlx::query_as(select!("WHERE lease_until <= UTC_TIMESTAMP(6) ORDER BY id LIMIT 100"))
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a look for abandoned instances"))?;
            rows.into_iter().map(Instance::try_from).collect()
        })
        .await
}

/// How an attempt to reserve ended.
#[derive(Debug)]
pub enum Reservation {
    /// The row is there, in state `creating`, and its room is taken. The row's key.
    Reserved(i64),
    /// The id has a row already.
    Exists,
    /// It does not fit; nothing was kept.
    Full,
    /// A DELETE of this id has been answered since the request began; nothing was kept.
    Deleted,
}

/// What a row is made of.
#[derive(Debug, Clone, Copy)]
pub struct NewInstance<'a> {
    /// What the platform asks for.
    pub request: &'a ProvisionRequest,
    /// The name of this attempt's database.
    pub database: &'a str,
    /// The plan's quota in MB.
    pub max_storage_mb: u64,
    /// What it takes of the counter.
    pub reserved_bytes: u64,
    /// When the request began.
    pub began: &'a Began,
}

/// Step P1: inserts the row and takes its room, or neither. The counter may grow up to `sellable_bytes`.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn reserve(mysql: &Mysql, new: &NewInstance<'_>, sellable_bytes: u64, op: &OpId, lease: Duration) -> Result<Reservation> {
    let NewInstance { request, database, max_storage_mb, reserved_bytes, began } = *new;
    let reserved = mysql
        .transact("reserve", |mut transaction| async move {
            let inserted = sqlx::query(
                "INSERT INTO service_instances (guid, service_guid, plan_guid, max_storage_mb, db_name, organization_guid, space_guid, parameters, \
                 context, maintenance_version, state, op_id, lease_until, reserved_bytes, created_at, updated_at) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'creating', ?, UTC_TIMESTAMP(6) + INTERVAL ? SECOND, ?, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6))",
            )
            .bind(request.id.as_str())
            .bind(&request.service_id)
            .bind(&request.plan_id)
            .bind(max_storage_mb)
            .bind(database)
            .bind(&request.organization_guid)
            .bind(&request.space_guid)
            .bind(json_text(&request.parameters))
            .bind(json_text(&request.context))
            .bind(&request.maintenance_version)
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .bind(reserved_bytes)
            .execute(&mut *transaction)
            .await
            .map_err(Error::doing("an instance row"));
            let row = match inserted {
                Ok(done) => i64::try_from(done.last_insert_id()).unwrap_or(i64::MAX),
                Err(error) if error.code() == Some(code::DUPLICATE_KEY) => return Ok(End::Rollback(Reservation::Exists)),
                Err(error) => return Err(error),
            };
            if deletions::is_answered_since(&mut transaction, &request.id, None, began).await? {
                return Ok(End::Rollback(Reservation::Deleted));
            }
            failpoint!("P1.inside");
            match take(&mut transaction, reserved_bytes, sellable_bytes).await? {
                true => Ok(End::Commit(transaction, Reservation::Reserved(row))),
                false => Ok(End::Rollback(Reservation::Full)),
            }
        })
        .await?;
    if matches!(reserved, Reservation::Reserved(_) | Reservation::Deleted) {
        return Ok(reserved);
    }
    // full, or a duplicate: a repeated request must get its answer and never a 507; after a lost COMMIT the row is ours
    Ok(match find(mysql, &request.id).await? {
        Some(found) if found.op.as_ref() == Some(op) => Reservation::Reserved(found.row),
        Some(_) => Reservation::Exists,
        None => Reservation::Full,
    })
}

/// Begins (or takes over) an operation on a row that nobody works on: state `to`, a new `op_id`, a new lease. False: the row
/// has changed since it was read, or somebody works on it or on one of its bindings.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn claim(mysql: &Mysql, instance: &Instance, to: InstanceState, op: &OpId, lease: Duration) -> Result<bool> {
    mysql
        .repeat("claim an instance", |mut connection| async move {
            let done = sqlx::query(
                "UPDATE service_instances SET state = ?, op_id = ?, lease_until = UTC_TIMESTAMP(6) + INTERVAL ? SECOND, updated_at = UTC_TIMESTAMP(6) \
                 WHERE id = ? AND state = ? AND op_id <=> ? AND (lease_until IS NULL OR lease_until <= UTC_TIMESTAMP(6)) \
                 AND NOT EXISTS (SELECT 1 FROM service_bindings WHERE service_instance_id = service_instances.id AND lease_until > UTC_TIMESTAMP(6))",
            )
            .bind(to.as_str())
            .bind(&op.0)
            .bind(lease.as_secs_f64())
            .bind(instance.row)
            .bind(instance.state.as_str())
            .bind(instance.op.as_ref().map(|op| &op.0))
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("a claim on an instance"))?;
            if done.rows_affected() == 1 {
                return Ok(true);
            }
            // the answer of an earlier attempt may have been lost
            Ok(find_in(&mut connection, &instance.id).await?.is_some_and(|now| now.op.as_ref() == Some(op)))
        })
        .await
}

/// Step P3: the instance is ready. False: the lease was lost and somebody else has the row.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn mark_ready(mysql: &Mysql, row: i64, op: &OpId) -> Result<bool> {
    mysql
        .repeat("mark an instance ready", |mut connection| async move {
            let done = sqlx::query(
                "UPDATE service_instances SET state = 'ready', op_id = NULL, lease_until = NULL, updated_at = UTC_TIMESTAMP(6) WHERE id = ? AND op_id = ?",
            )
            .bind(row)
            .bind(&op.0)
            .execute(&mut *connection)
            .await
            .map_err(Error::doing("the last step of an operation"))?;
            if done.rows_affected() == 1 {
                return Ok(true);
            }
            // the answer of an earlier attempt may have been lost: nobody but the holder of `op` makes this row ready, and no other
            // attempt ever has its key
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_instances WHERE id = ? AND state IN ('ready', 'updating'))")
                .bind(row)
                .fetch_one(&mut *connection)
                .await
                .map(|found: i64| found != 0)
                .map_err(Error::doing("the last step of an operation"))
        })
        .await
}

/// Step D3: the row goes, with it what the enforcer noted of its database; its room is free again, and the outcome is remembered. False:
/// the lease was lost and somebody else has the row.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn release(mysql: &Mysql, instance: &Instance, op: &OpId, removal: &Removal) -> Result<bool> {
    let outcome = &match removal {
        Removal::Asked | Removal::Resumed => Outcome::deleted(Kind::Deprovision, "instance"),
        Removal::Undone(outcome) => outcome.clone(),
    };
    let repeated = AtomicBool::new(false);
    let repeated = &repeated;
    mysql
        .transact("release", |mut transaction| async move {
            let repeated = repeated.swap(true, Ordering::Relaxed);
            let reserved: Option<u64> =
                sqlx::query_scalar("SELECT reserved_bytes FROM service_instances WHERE id = ? AND op_id = ? FOR UPDATE")
                    .bind(instance.row)
                    .bind(&op.0)
                    .fetch_optional(&mut *transaction)
                    .await
                    .map_err(Error::doing("a release"))?;
            // gone in a repeat: the answer to the COMMIT before it was lost
            let Some(reserved) = reserved else {
                return Ok(End::Rollback(
                    repeated && find_in(&mut transaction, &instance.id).await?.is_none_or(|now| now.row != instance.row),
                ));
            };
            sqlx::query("DELETE FROM service_instances WHERE id = ? AND op_id = ?")
                .bind(instance.row)
                .bind(&op.0)
                .execute(&mut *transaction)
                .await
                .map_err(Error::doing("a release"))?;
            for forget in super::quota::FORGET_DATABASE {
                sqlx::query(*forget).bind(&instance.database).execute(&mut *transaction).await.map_err(Error::doing("a release"))?;
            }
            last_operations::note(&mut transaction, &instance.id, None, outcome).await?;
            if *removal == Removal::Asked {
                deletions::note(&mut transaction, &instance.id, None).await?;
            }
            failpoint!("D3.inside");
            give_back(&mut transaction, reserved).await?;
            Ok(End::Commit(transaction, true))
        })
        .await
}
