//! Looking for bindings: by id, by instance, by what is to be done about them.

use std::collections::HashMap;

use crate::domain::binding::{Account, Binding, BindingState};
use crate::domain::ids::{BindingId, InstanceId};
use crate::domain::instance::OpId;
use crate::mysql::instances::json_object;
use crate::mysql::{Error, Mysql, Result};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT b.id, b.service_instance_id, b.guid, b.service_guid, b.plan_guid, b.app_guid, b.parameters, b.read_only, b.username, b.host, ",
            "b.secret_id, b.salt, b.state, b.op_id, b.predecessor_guid, b.is_expired OR COALESCE(b.expires_at <= UTC_TIMESTAMP(6), 0) AS is_expired, ",
            "DATE_FORMAT(b.expires_at, '%Y-%m-%dT%H:%i:%s.0Z') AS expires_at, DATE_FORMAT(b.renew_before, '%Y-%m-%dT%H:%i:%s.0Z') AS renew_before, COALESCE(b.lease_until > UTC_TIMESTAMP(6), 0) AS lease_live FROM service_bindings b ",
            $rest
        )
    };
}

#[derive(sqlx::FromRow)]
struct Row {
    id: i64,
    service_instance_id: i32,
    guid: String,
    service_guid: String,
    plan_guid: String,
    app_guid: Option<String>,
    parameters: Option<String>,
    read_only: bool,
    username: String,
    host: String,
    secret_id: String,
    salt: String,
    state: String,
    op_id: Option<String>,
    predecessor_guid: Option<String>,
    is_expired: i64,
    expires_at: Option<String>,
    renew_before: Option<String>,
    lease_live: i64,
}

impl TryFrom<Row> for Binding {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let state = BindingState::parse(&row.state)
            .ok_or_else(|| Error::Data(format!("binding row {} is in a state this version does not know", row.id)))?;
        Ok(Self {
            row: row.id,
            instance_row: row.service_instance_id.into(),
            id: BindingId::from_stored(row.guid),
            service_id: row.service_guid,
            plan_id: row.plan_guid,
            app_guid: row.app_guid,
            parameters: json_object(row.parameters),
            read_only: row.read_only,
            account: Account { user: row.username, host: row.host },
            secret_id: row.secret_id,
            salt: row.salt,
            state,
            op: row.op_id.map(OpId),
            predecessor: row.predecessor_guid.map(BindingId::from_stored),
            is_expired: row.is_expired != 0,
            expires_at: row.expires_at,
            renew_before: row.renew_before,
            lease_live: row.lease_live != 0,
        })
    }
}

/// The binding of this id of this instance, in whatever state.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn find(mysql: &Mysql, instance: &InstanceId, id: &BindingId) -> Result<Option<Binding>> {
    mysql
        .repeat("find a binding", |mut connection| async move {
            sqlx::query_as::<_, Row>(select!("JOIN service_instances i ON i.id = b.service_instance_id WHERE i.guid = ? AND b.guid = ?"))
                .bind(instance.as_str())
                .bind(id.as_str())
                .fetch_optional(&mut *connection)
                .await
                .map_err(Error::doing("a look at a binding"))?
                .map(Binding::try_from)
                .transpose()
        })
        .await
}

/// Every binding of an instance, in whatever state.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn of_instance(mysql: &Mysql, instance_row: i64) -> Result<Vec<Binding>> {
    mysql
        .repeat("list bindings", |mut connection| async move {
            let rows: Vec<Row> = sqlx::query_as(select!("WHERE b.service_instance_id = ? ORDER BY b.id"))
                .bind(instance_row)
                .fetch_all(&mut *connection)
                .await
                .map_err(Error::doing("a list of bindings"))?;
            rows.into_iter().map(Binding::try_from).collect()
        })
        .await
}

/// Bindings whose operation nobody leads any more.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn abandoned(mysql: &Mysql) -> Result<Vec<Binding>> {
    select_all(mysql, "find abandoned bindings", select!("WHERE b.lease_until <= UTC_TIMESTAMP(6) ORDER BY b.id LIMIT 100")).await
}

/// Bindings whose time is over and whose accounts still work.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn due(mysql: &Mysql) -> Result<Vec<Binding>> {
    let query = select!("WHERE b.is_expired = 0 AND b.expires_at <= UTC_TIMESTAMP(6) AND b.state = 'ready' ORDER BY b.id LIMIT 100");
    select_all(mysql, "find expired bindings", query).await
}

async fn select_all(mysql: &Mysql, what: &'static str, query: &'static str) -> Result<Vec<Binding>> {
    mysql
        .repeat(what, |mut connection| async move {
            let rows: Vec<Row> = sqlx::query_as(query).fetch_all(&mut *connection).await.map_err(Error::doing("a look for bindings"))?;
            rows.into_iter().map(Binding::try_from).collect()
        })
        .await
}

/// How many bindings each instance has, by the instance's row.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn counts(mysql: &Mysql) -> Result<HashMap<i64, u64>> {
    mysql
        .repeat("count bindings", |mut connection| async move {
            let rows: Vec<(i32, i64)> =
                sqlx::query_as("SELECT service_instance_id, COUNT(*) FROM service_bindings GROUP BY service_instance_id")
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(Error::doing("a count of bindings"))?;
            Ok(rows.into_iter().map(|(row, count)| (row.into(), u64::try_from(count).unwrap_or(0))).collect())
        })
        .await
}

/// Whether the account of a binding is being made.
///
/// # Errors
/// Whatever keeps the database from answering.
pub async fn is_being_made(mysql: &Mysql, account: &Account) -> Result<bool> {
    mysql
        .repeat("look for a binding that is being made", |mut connection| async move {
            let found: i64 =
                sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM service_bindings WHERE username = ? AND host = ? AND state = 'creating')")
                    .bind(&account.user)
                    .bind(&account.host)
                    .fetch_one(&mut *connection)
                    .await
                    .map_err(Error::doing("a look at a binding"))?;
            Ok(found != 0)
        })
        .await
}
